//! What can go wrong for a client.

use std::path::PathBuf;

use alloy::primitives::B256;
use milepost_statement::{Address, Digest, JobId};

use crate::{Amount, JobRefError, file, transcript};

/// Why a session could not be opened, continued or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key is zero or not below the curve's order.
    #[error("these 32 bytes are no secp256k1 key")]
    Key,
    /// The mnemonic or index gives no key.
    #[error("no key from this mnemonic: {0}")]
    Mnemonic(String),
    /// The session belongs to another wallet.
    #[error("the session's depositor is {depositor}, this wallet is {wallet}")]
    WrongWallet {
        /// Who funded it.
        depositor: Address,
        /// Who is here.
        wallet: Address,
    },
    /// An address that is no URL.
    #[error("{url:?} is no URL: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A job reference that names none.
    #[error(transparent)]
    JobRef(#[from] JobRefError),

    /// The RPC endpoint does not answer, or answers nonsense.
    #[error("the chain endpoint: {0}")]
    Rpc(String),
    /// Not the chain that was meant.
    #[error("the endpoint serves chain {got}, not {expected}")]
    WrongChain {
        /// The chain meant.
        expected: u64,
        /// The chain served.
        got: u64,
    },
    /// No code at the marketplace's address.
    #[error("there is no contract at {0}")]
    NoContract(Address),
    /// The contract refused; the name of its error and its values.
    #[error("the contract refuses {what}: {reason}")]
    Reverted {
        /// What was asked of it.
        what: &'static str,
        /// Its error.
        reason: String,
    },
    /// A transaction was sent and its fate is not known: it may still be mined. Neither success nor failure.
    #[error("transaction {hash} for {what} was sent and is not mined after {seconds} s: its fate is unknown, load the session later")]
    Unknown {
        /// What it does.
        what: &'static str,
        /// Its hash.
        hash: B256,
        /// How long was waited.
        seconds: u64,
    },
    /// No such job on this marketplace.
    #[error("job {0} does not exist on this marketplace")]
    NoJob(JobId),
    /// The host is not registered or does not accept sessions.
    #[error("host {0} accepts no sessions: it is not active in the registry")]
    HostNotActive(Address),
    /// The host does not offer the model for the token.
    #[error("host {host} offers no price for model {model} in token {token}")]
    NotOffered {
        /// The host.
        host: Address,
        /// The model.
        model: Digest,
        /// The payment token.
        token: Address,
    },
    /// The host asks more than the client wants to pay.
    #[error("the host asks {asked} per token, more than {offered}")]
    Price {
        /// The registry's price.
        asked: Amount,
        /// The client's.
        offered: Amount,
    },
    /// A host's quote that is not what was asked for, or not what it published.
    #[error("the host's quote does not fit: its {what} is {reason}")]
    Quote {
        /// Which part.
        what: &'static str,
        /// What it is, and what it should be.
        reason: String,
    },
    /// The client's own ceiling is reached.
    #[error("the ceiling of {ceiling} is reached: {spent} are spent, and another token costs {price}")]
    Ceiling {
        /// The client's ceiling.
        ceiling: Amount,
        /// What the tokens held cost.
        spent: Amount,
        /// Price of a token.
        price: Amount,
    },
    /// The wallet holds too little.
    #[error("the wallet {wallet} holds {has} of token {token}, the deposit is {needs}")]
    Funds {
        /// The wallet.
        wallet: Address,
        /// The payment token; zero for the chain's coin.
        token: Address,
        /// What it holds.
        has: Amount,
        /// What is needed.
        needs: Amount,
    },
    /// The contract derived another first head than the client.
    #[error("the contract's first head is {chain}, the terms give {computed}")]
    Genesis {
        /// The contract's.
        chain: Digest,
        /// Ours.
        computed: Digest,
    },
    /// The session on chain does not have the terms that were asked for.
    #[error("the session's {what} on chain is not what was asked for")]
    Terms {
        /// Which.
        what: &'static str,
    },

    /// The host cannot be reached.
    #[error("the host at {url} cannot be reached: {reason}")]
    HostUnreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The host refused.
    #[error("the host refuses ({status}): {code}: {message}")]
    Host {
        /// HTTP status, or 0 over WebSocket.
        status: u16,
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// The host sent something that is not of the protocol.
    #[error("the host's {what} is not of the protocol: {reason}")]
    Protocol {
        /// Which message.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The host is silent for longer than its clients wait.
    #[error("the host was silent for {seconds} s")]
    Silent {
        /// How long.
        seconds: u64,
    },
    /// The stream was cut and could not be taken up again in time. [`crate::Session::resume`] continues later.
    #[error("the stream was cut and {attempts} attempts to take it up again failed, the last with: {last}")]
    Cut {
        /// Attempts made.
        attempts: u32,
        /// The last failure.
        last: String,
    },
    /// What the host said does not fit the tokens received: the session is stopped.
    #[error("the session is stopped: {0}")]
    Transcript(#[from] transcript::Error),
    /// An earlier check failed; the session does not go on.
    #[error("this session was stopped earlier: {reason}")]
    Stopped {
        /// What was found.
        reason: String,
    },
    /// A turn is open: resume it first.
    #[error("request {request_id} is not finished: resume it first")]
    TurnOpen {
        /// Its id.
        request_id: String,
    },
    /// No token: authenticate first.
    #[error("the session has no token: authenticate first")]
    NotAuthenticated,
    /// The transaction that funds the session is not known to be mined.
    #[error("the session's funding is not confirmed yet")]
    NotFunded,

    /// The payout did not come in time.
    #[error("job {job} is not paid after {seconds} s; it is {status}")]
    NotPaid {
        /// The job.
        job: JobId,
        /// How long was waited.
        seconds: u64,
        /// Its status on chain.
        status: String,
    },
    /// The contract's split is not the one the terms give.
    #[error("the payout's {what} is {chain}, the terms give {computed}")]
    Payout {
        /// Which part.
        what: &'static str,
        /// The contract's.
        chain: Amount,
        /// Ours.
        computed: Amount,
    },

    /// The session file.
    #[error("session file {path}: {error}")]
    File {
        /// Where.
        path: PathBuf,
        /// What.
        #[source]
        error: file::Error,
    },
}
