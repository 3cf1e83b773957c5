//! Claims: a run of checkpoints, one proof, one submission.

use std::fmt;

use milepost_statement::{Digest, JobId, ProofKind, Statement, TokenSeq};
use serde::{Deserialize, Serialize};

use crate::{TxId, UnixSeconds};

/// A claim's name, the same on every box: job, first token, and how often that run was planned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimId {
    /// The job.
    pub job: JobId,
    /// First token.
    pub first: TokenSeq,
    /// 0 for the first plan, one more after each that was resolved without landing.
    pub plan: u32,
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.job, self.first, self.plan)
    }
}

impl std::str::FromStr for ClaimId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "a claim is named job-first-plan, as in 163-200-0";
        let mut parts = text.split('-').map(|part| part.parse::<u64>().ok());
        let mut next = || parts.next().flatten().ok_or(wrong);
        let id = Self { job: JobId(next()?), first: TokenSeq(next()?), plan: u32::try_from(next()?).map_err(|_| wrong)? };
        if parts.next().is_some() { Err(wrong) } else { Ok(id) }
    }
}

/// `planned → proving → proven → signed → broadcast → included → final`. The last four live in the claim's transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimState {
    /// Its run is fixed.
    Planned,
    /// A prover was asked.
    Proving,
    /// A verified proof is stored.
    Proven,
    /// A transaction carries it, alone or with others (signed, broadcast or included: see the transaction).
    Submitted(TxId),
    /// Final on the chain.
    Final(TxId),
    /// Resolved without landing; its tokens are owed again.
    Reverted {
        /// Why, as the chain said.
        reason: String,
    },
    /// Its nonce was consumed by something else; its tokens are owed again.
    Replaced,
    /// Given up before it was signed.
    Abandoned {
        /// Why.
        reason: String,
    },
}

/// What is kept of a proof beside the receipt itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofMeta {
    /// Kind.
    pub kind: ProofKind,
    /// SHA-256 of the receipt's bytes.
    pub receipt: Digest,
    /// Length of the receipt in bytes.
    pub receipt_bytes: u64,
    /// Wall-clock seconds of proving.
    pub seconds: f64,
}

/// A claim's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Name.
    pub id: ClaimId,
    /// What its proof says.
    pub statement: Statement,
    /// Number of its first checkpoint.
    pub first_checkpoint: u64,
    /// How many checkpoints.
    pub checkpoints: u32,
    /// Where it stands.
    pub state: ClaimState,
    /// The proof, once there is one.
    pub proof: Option<ProofMeta>,
    /// When it was planned.
    pub planned: UnixSeconds,
}

impl Claim {
    /// Most plans of one run before a revert stops the job: a claim that keeps reverting has a cause that gas does not mend.
    pub const MAX_PLANS: u32 = 16;

    /// Still on its way: the job can have no other.
    pub fn is_unresolved(&self) -> bool {
        matches!(self.state, ClaimState::Planned | ClaimState::Proving | ClaimState::Proven | ClaimState::Submitted(_))
    }
}
