//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::build_info::version_line;

/// A host node for paid, provable LLM inference.
#[derive(Parser)]
#[command(name = "milepost", version = version_line(), propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Args)]
pub(crate) struct Common {
    /// Configuration file (TOML).
    #[arg(long, short, global = true, env = "MILEPOST_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A setting over file and environment: section.key=value. May be repeated.
    #[arg(long = "set", global = true, value_parser = pair, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<(String, String)>,
    /// One JSON object a line instead of text: logs on standard error, results on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve a model: settling with a chain configured, in log mode without one.
    Serve,
    /// Bring up a dev chain, a host and a funded session on this machine, and play it through until it is paid.
    Dev(DevArgs),
    /// The paying client.
    #[command(subcommand)]
    Client(Box<ClientCommand>),
    /// Why money does or does not move for a job, question by question.
    Why {
        /// The job's number.
        job: u64,
    },
    /// Explain every position of every job. Exit code: 0 clean, 1 drift, 2 explained loss, 3 pending.
    Reconcile,
    /// Recompute a demo's report from the client's capture, the chain and the receipts.
    #[command(hide = true)]
    CheckDemo {
        /// `report.json` of the demo.
        report: PathBuf,
    },
}

#[derive(Args)]
pub(crate) struct DevArgs {
    /// Scripted engine, mock proofs, in-memory store: minutes instead of the real parts, clearly labelled.
    #[arg(long)]
    pub(crate) tour: bool,
    /// Folder for the report, the capture and the receipts.
    #[arg(long, default_value = "target/demo")]
    pub(crate) out: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// Fund a session with a host and open it.
    Open(OpenArgs),
    /// Send a prompt in an open session and print the answer as it streams.
    Chat(ChatArgs),
    /// End the session: ask the host to claim, or request the close on chain if it does not answer.
    Close(CloseArgs),
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    /// Session file written by `open`.
    #[arg(long, default_value = "milepost-session.json")]
    pub(crate) session: PathBuf,
    /// File with the depositor's private key in hexadecimal.
    #[arg(long)]
    pub(crate) key_file: PathBuf,
    /// The model's name at the host.
    #[arg(long)]
    pub(crate) model: String,
    /// Most tokens of the answer.
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: u32,
    /// The prompt.
    pub(crate) prompt: String,
}

#[derive(Args)]
pub(crate) struct CloseArgs {
    /// Session file written by `open`.
    #[arg(long, default_value = "milepost-session.json")]
    pub(crate) session: PathBuf,
    /// File with the depositor's private key in hexadecimal.
    #[arg(long)]
    pub(crate) key_file: PathBuf,
    /// Wait this many seconds for the payout, and check it.
    #[arg(long)]
    pub(crate) wait: Option<u64>,
}

#[derive(Args)]
pub(crate) struct OpenArgs {
    /// JSON-RPC endpoint of the chain.
    #[arg(long, env = "RPC_URL")]
    pub(crate) rpc_url: String,
    /// The marketplace's address.
    #[arg(long, env = "CONTRACT_JOB_MARKETPLACE")]
    pub(crate) marketplace: String,
    /// The host's URL; by default what the registry says.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The host's address.
    #[arg(long)]
    pub(crate) host: String,
    /// Payment token's address; zero for the chain's coin.
    #[arg(long)]
    pub(crate) token: String,
    /// Deposit in the token's smallest unit.
    #[arg(long)]
    pub(crate) deposit: u128,
    /// Price of one token in the token's smallest unit; by default the registry's. A host that asks more is refused.
    #[arg(long)]
    pub(crate) price: Option<u128>,
    /// SHA-256 of the model file.
    #[arg(long)]
    pub(crate) model_digest: String,
    /// File with the depositor's private key in hexadecimal.
    #[arg(long)]
    pub(crate) key_file: PathBuf,
    /// Where to keep the session.
    #[arg(long, default_value = "milepost-session.json")]
    pub(crate) session: PathBuf,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected section.key=value")?;
    if !key.contains('.') {
        return Err(format!("{key} is no key: expected section.key=value"));
    }
    Ok((key.to_owned(), value.to_owned()))
}
