//! The command line of `milepost client`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use milepost_statement::{Address, Digest};

#[derive(Subcommand)]
pub(crate) enum ClientCommand {
    /// Hosts in the registry that serve a model for a payment token: price, address, whether they answer. Cheapest first.
    Hosts(HostsArgs),
    /// Fund a session with a host, on its signed quote, and open it. Without --host the cheapest one that answers.
    Open(Box<OpenArgs>),
    /// Send a prompt in an open session and print the answer as it streams.
    Chat(ChatArgs),
    /// End the session: ask the host to claim, or request the close on chain if it does not answer.
    Close(CloseArgs),
    /// Get back what is yours: finalize where the host vanished, withdraw what could not be pushed. Exit code: 0 all of it is back, 3 wait
    /// for the time it names, 1 it could not.
    Refund(RefundArgs),
    /// Hold the tokens kept here against the host's proof bundles and the chain: which were acknowledged, claimed, proven. Exit code: 0 all
    /// that was claimed was received and proven, 1 more or other tokens were claimed than received, 2 a proof is missing or does not hold,
    /// 3 not everything is claimed yet; 69 could not look.
    Verify(VerifySessionArgs),
}

/// Where the chain is.
#[derive(Args)]
pub(crate) struct MarketArgs {
    /// JSON-RPC endpoint of the chain.
    #[arg(long, env = "RPC_URL", hide_env_values = true)]
    pub(crate) rpc_url: String,
    /// The marketplace's address.
    #[arg(long, env = "CONTRACT_JOB_MARKETPLACE")]
    pub(crate) marketplace: Address,
    /// Payment token's address; zero for the chain's coin.
    #[arg(long)]
    pub(crate) token: Address,
    /// SHA-256 of the model file.
    #[arg(long)]
    pub(crate) model_digest: Digest,
}

#[derive(Args)]
pub(crate) struct HostsArgs {
    #[command(flatten)]
    pub(crate) market: MarketArgs,
    /// Do not ask the hosts themselves.
    #[arg(long)]
    pub(crate) no_look: bool,
}

#[derive(Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) market: MarketArgs,
    /// The host's address; by default the cheapest one that answers and serves the model.
    #[arg(long)]
    pub(crate) host: Option<Address>,
    /// The host's URL; by default what the registry says.
    #[arg(long, requires = "host")]
    pub(crate) url: Option<String>,
    /// Deposit in the token's smallest unit.
    #[arg(long)]
    pub(crate) deposit: u128,
    /// Spend at most this much of it, in the token's smallest unit: nothing beyond is kept or countersigned.
    #[arg(long)]
    pub(crate) ceiling: Option<u128>,
    /// Most to pay for one token, in the token's smallest unit. A host that asks more is refused.
    #[arg(long)]
    pub(crate) max_price: Option<u128>,
    /// Price of one token to write into the session; by default the quote's.
    #[arg(long, conflicts_with = "max_price")]
    pub(crate) price: Option<u128>,
    /// Tokens that the host may claim beyond the last voucher: the most that it can take without having delivered it.
    #[arg(long, default_value_t = 64)]
    pub(crate) allowance: u64,
    /// Countersign nothing: the host may claim up to the deposit without your word.
    #[arg(long, conflicts_with = "allowance")]
    pub(crate) no_vouchers: bool,
    /// Fund on the registry's price, without asking for a quote: for hosts that have no such door.
    #[arg(long)]
    pub(crate) no_quote: bool,
    /// File with the depositor's private key in hexadecimal.
    #[arg(long)]
    pub(crate) key_file: PathBuf,
    /// Where to keep the session.
    #[arg(long, default_value = "milepost-session.json")]
    pub(crate) session: PathBuf,
}

/// A session that is kept in a file.
#[derive(Args)]
pub(crate) struct SessionArgs {
    /// Session file written by `open`.
    #[arg(long, default_value = "milepost-session.json")]
    pub(crate) session: PathBuf,
    /// File with the depositor's private key in hexadecimal.
    #[arg(long)]
    pub(crate) key_file: PathBuf,
}

#[derive(Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) of: SessionArgs,
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
    #[command(flatten)]
    pub(crate) of: SessionArgs,
    /// Wait this many seconds for the payout, and check it.
    #[arg(long)]
    pub(crate) wait: Option<u64>,
}

#[derive(Args)]
pub(crate) struct RefundArgs {
    #[command(flatten)]
    pub(crate) of: SessionArgs,
    /// Close the session if it is still open.
    #[arg(long)]
    pub(crate) close: bool,
}

#[derive(Args)]
pub(crate) struct VerifySessionArgs {
    #[command(flatten)]
    pub(crate) of: SessionArgs,
    /// Folder with bundles of this job (`CLAIM.bundle`), instead of asking the host for them.
    #[arg(long)]
    pub(crate) bundles: Option<PathBuf>,
    /// Accept mock proofs for chain 31337, which prove nothing: for tours and tests.
    #[arg(long)]
    pub(crate) accept_mock: bool,
}
