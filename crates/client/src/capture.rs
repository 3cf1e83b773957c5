//! What the client caught, as a file for auditors: `milepost check-demo` recomputes a session from it.

use milepost_statement::{Address, ChainId, Digest, JobId, Salt, TokenCount, TokenId, TokenSeq};
use serde::{Deserialize, Serialize};

use crate::transcript::{Checkpoint, JobIdentity, SignedReceipt};
use crate::wire::salt_hex;

/// A turn as it was received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedTurn {
    /// The request's id.
    pub request_id: String,
    /// Ids of the prompt, where the host listed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ids: Option<Vec<TokenId>>,
    /// Position of its first token.
    pub start: TokenSeq,
    /// Tokens received.
    pub count: TokenCount,
    /// Why it ended, as the host said.
    pub finish_reason: String,
    /// Its receipt; absent where the turn was interrupted before one was signed.
    pub receipt: Option<SignedReceipt>,
}

/// Everything that a client holds of a job. Holds the salt and the completions: it is a secret of the client's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The job.
    pub job_id: JobId,
    /// The salt drawn for it.
    #[serde(with = "salt_hex")]
    pub salt: Salt,
    /// Its chain.
    pub chain_id: ChainId,
    /// Its marketplace.
    pub marketplace: Address,
    /// Its host.
    pub host: Address,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Every token id, by position.
    pub ids: Vec<TokenId>,
    /// The turns.
    pub turns: Vec<CapturedTurn>,
    /// Checkpoints as announced, each recomputed when it was.
    pub checkpoints: Vec<Checkpoint>,
    /// The last receipt.
    pub last_receipt: Option<SignedReceipt>,
}

impl Capture {
    /// Which job it is.
    pub fn identity(&self) -> JobIdentity {
        JobIdentity {
            chain_id: self.chain_id,
            marketplace: self.marketplace,
            job_id: self.job_id,
            host: self.host,
            model_digest: self.model_digest,
        }
    }
}
