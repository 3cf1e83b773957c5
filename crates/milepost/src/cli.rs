//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
#[cfg(feature = "host")]
use milepost_statement::{Address, Digest};

use crate::build_info::version_line;
#[cfg(feature = "host")]
use crate::client::args::ClientCommand;
#[cfg(feature = "validator")]
use crate::validator::args::{DbArgs, EvidenceCommand, ValidatorArgs, ValidatorKeysCommand};

/// A host node for paid, provable LLM inference, and a validator of checkpoint finality.
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
    // Taken apart in `pairs`: the reader of the command line would quote a value that is wrong, and it may hold an access key.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// One JSON object a line instead of text: logs on standard error, results on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tables on standard output even where it is no terminal (JSON is the default there).
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) table: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve a model: settling with a chain configured, in log mode without one.
    #[cfg(feature = "host")]
    Serve,
    /// Bring up a dev chain, a host and a funded session on this machine, and play it through until it is paid.
    #[cfg(feature = "host")]
    Dev(DevArgs),
    /// The paying client.
    #[cfg(feature = "host")]
    #[command(subcommand)]
    Client(Box<ClientCommand>),
    /// Why money does or does not move for a job, question by question. Exit code: 0 nothing stands in its way, 1 something does;
    /// 69 could not look.
    #[cfg(feature = "host")]
    Why {
        /// The job's number.
        job: u64,
    },
    /// Explain every position of every job. Exit code: 0 clean, 1 drift, 2 explained loss, 3 pending; 69 could not look.
    #[cfg(feature = "host")]
    Reconcile,
    /// Whether this host can earn, and what to mend. Exit code: 0 nothing, 1 something to mend, 3 something to look at.
    #[cfg(feature = "host")]
    Doctor(DoctorArgs),
    /// Jobs: where their tokens stand, what is at risk and for how long, what is left after gas and proving.
    #[cfg(feature = "host")]
    #[command(args_conflicts_with_subcommands = true)]
    Jobs {
        #[command(subcommand)]
        command: Option<JobsCommand>,
        /// Paid ones too.
        #[arg(long)]
        all: bool,
    },
    /// Claims and the transactions that carry them, of all jobs that are not paid.
    #[cfg(feature = "host")]
    #[command(args_conflicts_with_subcommands = true)]
    Claims {
        #[command(subcommand)]
        command: Option<ClaimsCommand>,
        /// Of this job only.
        #[arg(long)]
        job: Option<u64>,
        /// Of paid jobs too.
        #[arg(long)]
        all: bool,
    },
    /// What the host earned and can withdraw.
    #[cfg(feature = "host")]
    Earnings {
        #[command(subcommand)]
        command: Option<EarningsCommand>,
    },
    /// Keys: encrypted keystores, and which keys may claim for the host.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Whether a proof bundle holds, without model, chain or host. Exit code: 0 it holds, 1 the proof is false, 2 the statement differs,
    /// 3 the chain differs, 4 unreadable, 5 fake or mock, 6 running it again gave other tokens; 69 could not look.
    #[cfg(feature = "host")]
    Verify(Box<VerifyArgs>),
    /// Recompute a demo's report from the client's capture, the chain and the receipts.
    #[cfg(feature = "host")]
    #[command(hide = true)]
    CheckDemo {
        /// `report.json` of the demo.
        report: PathBuf,
    },
    /// Run a validator of checkpoints, or look after one.
    #[cfg(feature = "validator")]
    Validator(ValidatorArgs),
    /// Evidence against validators. Exit code of `verify`: 0 it holds, 1 it does not; 69 could not look.
    #[cfg(feature = "validator")]
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Databases: figures, checks, copies, and a key's history. Exit code: 0 done, 1 failed, 2 damaged or in doubt, 75 a process holds it.
    #[cfg(feature = "validator")]
    Db(DbArgs),
}

impl Command {
    /// Whether its log is what one reads of it.
    pub(crate) fn is_service(&self) -> bool {
        match self {
            #[cfg(feature = "host")]
            Self::Serve | Self::Dev(_) | Self::Client(_) => true,
            #[cfg(feature = "validator")]
            Self::Validator(args) => args.command.is_none(),
            _ => false,
        }
    }
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The bundle, as `GET /v1/proofs/{claim}` serves it.
    pub(crate) file: PathBuf,
    /// Hold it against the chain, too: JSON-RPC endpoint.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Option<String>,
    /// The program whose proofs are believed; by default the guest that this program was built with.
    #[arg(long)]
    pub(crate) image_id: Option<Digest>,
    /// Accept a mock proof for chain 31337, which proves nothing: for tours and tests.
    #[arg(long)]
    pub(crate) accept_mock: bool,
    /// Refuse a claim about another chain id.
    #[arg(long, value_name = "ID")]
    pub(crate) expect_chain: Option<u64>,
    /// Refuse a claim about another marketplace.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) expect_marketplace: Option<Address>,
    /// Refuse a claim about another job.
    #[arg(long, value_name = "JOB")]
    pub(crate) expect_job: Option<u64>,
    /// Refuse a claim about another host.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) expect_host: Option<Address>,
    /// Refuse a claim about another model file (SHA-256).
    #[arg(long, value_name = "DIGEST")]
    pub(crate) expect_model: Option<Digest>,
    /// File with the job's salt: 64 hexadecimal digits, or the client's session file or capture.
    #[arg(long, value_name = "FILE")]
    pub(crate) salt_file: Option<PathBuf>,
    /// Check the enclosed finality certificate by this set file of the validators.
    #[arg(long = "set-file", visible_alias = "validators", value_name = "FILE")]
    pub(crate) set_file: Option<PathBuf>,
    /// Run the turns again: JSON list of `{request_id, messages | text | ids}` with the prompts as they were sent.
    #[arg(long, value_name = "PROMPTS", requires = "model")]
    pub(crate) replay: Option<PathBuf>,
    /// The model file for --replay; `scripted` for the scripted engine of tours.
    #[arg(long, value_name = "FILE", requires = "replay")]
    pub(crate) model: Option<PathBuf>,
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct DevArgs {
    /// Scripted engine, mock proofs, in-memory store: minutes instead of the real parts, clearly labelled.
    #[arg(long)]
    pub(crate) tour: bool,
    /// Folder for the report, the capture and the receipts.
    #[arg(long, default_value = "target/demo")]
    pub(crate) out: PathBuf,
    /// Bring up so many validators too; the host then takes nothing as final but what they certify.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=16))]
    pub(crate) validators: u32,
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// The commit that should run: this program's, and that of a node that runs here. A prefix of at least seven digits will do.
    #[arg(long)]
    pub(crate) expect_commit: Option<String>,
    /// Ask the prover for its greeting only; a proof takes about half a minute.
    #[arg(long)]
    pub(crate) no_proof: bool,
}

#[cfg(feature = "host")]
#[derive(Subcommand)]
pub(crate) enum EarningsCommand {
    /// Withdraw to the payout address in the registry, by the host's own key.
    Withdraw(WithdrawArgs),
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct WithdrawArgs {
    /// Payment token's address; zero for the chain's coin. By default every token that the host has something of.
    #[arg(long)]
    pub(crate) token: Option<Address>,
    /// Amount in the token's smallest unit; by default all.
    #[arg(long)]
    pub(crate) amount: Option<u128>,
    #[command(flatten)]
    pub(crate) host: HostKeyArgs,
}

#[cfg(feature = "host")]
#[derive(Subcommand)]
pub(crate) enum JobsCommand {
    /// Let a job that waits for an operator go on. Wants the node stopped. Exit code: 0 done, 1 refused, 3 shown only (no --yes).
    Resume(ResumeArgs),
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct ResumeArgs {
    /// The job's number.
    pub(crate) job: u64,
    /// Do it; without, its reason is shown.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[cfg(feature = "host")]
#[derive(Subcommand)]
pub(crate) enum ClaimsCommand {
    /// Have a transaction that waits replaced by a transfer of nothing at the same nonce. Wants the node stopped. Exit code: 0 recorded,
    /// 1 refused, 3 shown only (no --yes).
    Cancel(CancelArgs),
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct CancelArgs {
    /// The transaction's nonce, as `milepost claims` shows it.
    pub(crate) nonce: u64,
    /// The key that signed it; by default the configured one.
    #[arg(long)]
    pub(crate) key: Option<Address>,
    /// Do it; without, the transaction is shown.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct AcceptArgs {
    /// The key's address.
    pub(crate) key: Address,
    /// Everything below this nonce is explained: the count that was shown.
    #[arg(long, value_name = "NONCE")]
    pub(crate) below: Option<u64>,
    /// Do it; without, what it would accept is shown.
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key in an encrypted keystore.
    #[cfg(feature = "host")]
    New(NewKeyArgs),
    /// Put an existing key into an encrypted keystore: from --key-file, else from HOST_PRIVATE_KEY, else from the terminal.
    #[cfg(feature = "host")]
    Import(ImportArgs),
    /// Address and protection of a keystore, or of the configured key. Never the key.
    #[cfg(feature = "host")]
    Show(ShowKeyArgs),
    /// Say that what a key did beside this ledger is explained (MP-S-030). Wants the node stopped. Exit code: 0 accepted, or nothing to
    /// accept; 1 refused; 3 shown only (no --yes).
    #[cfg(feature = "host")]
    AcceptNonces(AcceptArgs),
    /// Which keys may claim for the host, as the registry on chain has it. Changing it takes the host's own key.
    #[cfg(feature = "host")]
    #[command(subcommand)]
    Submitter(SubmitterCommand),
    /// A validator's keys: the one that votes, and the one that it shows on the network.
    #[cfg(feature = "validator")]
    #[command(subcommand)]
    Validator(ValidatorKeysCommand),
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct NewKeyArgs {
    /// The keystore to write; it must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// File with the passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The keystore to write; it must not exist.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// File with the private key in hexadecimal (mode 600).
    #[arg(long)]
    pub(crate) key_file: Option<PathBuf>,
    /// File with the passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct ShowKeyArgs {
    /// A keystore; by default the configured key.
    pub(crate) keystore: Option<PathBuf>,
    /// Open it, and make sure that it holds the key of the address that it names.
    #[arg(long)]
    pub(crate) unlock: bool,
    /// File with the passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[cfg(feature = "host")]
#[derive(Subcommand)]
pub(crate) enum SubmitterCommand {
    /// Let a key claim, close and finalize for the host. It can never withdraw.
    Add {
        /// The key's address.
        key: Address,
        #[command(flatten)]
        host: HostKeyArgs,
    },
    /// Take that right back at once.
    Remove {
        /// The key's address.
        key: Address,
        /// Even if this box still needs the key.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        host: HostKeyArgs,
    },
    /// The host's submitter keys.
    List,
}

/// The host's own key, opened for one command. Without any of these the configured key is taken for it.
#[cfg(feature = "host")]
#[derive(Args)]
pub(crate) struct HostKeyArgs {
    /// The host's encrypted keystore.
    #[arg(long)]
    pub(crate) keystore: Option<PathBuf>,
    /// File with its passphrase (mode 600); else MILEPOST_PASSPHRASE, else the terminal.
    #[arg(long, requires = "keystore")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// File with the host's private key in hexadecimal (mode 600); a keystore is safer.
    #[arg(long, conflicts_with = "keystore")]
    pub(crate) key_file: Option<PathBuf>,
}

/// The settings of the command line. The error names no value: it may hold an access key.
pub(crate) fn pairs(set: &[String]) -> Result<Vec<(String, String)>, String> {
    let pair = |(at, text): (usize, &String)| match text.split_once('=') {
        Some((key, value)) if key.contains('.') && !key.contains("://") => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("--set number {} is no setting: expected section.key=value", at + 1)),
    };
    set.iter().enumerate().map(pair).collect()
}
