//! Transactions as the ledger records them: one claim, one nonce, all its attempts.

use milepost_statement::{Address, Digest, JobId};
use serde::{Deserialize, Serialize};

use crate::{BlockRef, ClaimId, UnixSeconds};

/// A transaction: its key and its nonce. All attempts to send it share both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxId {
    /// Address of the submitter key.
    pub key: Address,
    /// Nonce.
    pub nonce: u64,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// `submitProofOfWork` of this claim.
    Claim(ClaimId),
    /// `requestClose` of this job.
    RequestClose(JobId),
    /// `finalize` of this job.
    Finalize(JobId),
    /// A transfer of nothing, at a nonce that was never given a purpose, so that this job's transaction behind it is not held up.
    /// It changes nothing of the job.
    Fill(JobId),
}

impl Purpose {
    /// The job it is about.
    pub fn job(&self) -> JobId {
        match self {
            Self::Claim(claim) => claim.job,
            Self::RequestClose(job) | Self::Finalize(job) | Self::Fill(job) => *job,
        }
    }
}

/// A signed transaction, stored before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Transaction hash.
    pub hash: Digest,
    /// Signed bytes (EIP-2718), to be sent again byte for byte.
    pub raw: Vec<u8>,
    /// `maxFeePerGas` in wei.
    pub max_fee: u128,
    /// `maxPriorityFeePerGas` in wei.
    pub max_tip: u128,
    /// When it was signed.
    pub at: UnixSeconds,
}

/// Where a transaction stands. A missing receipt is not a state: it is [`TxState::Sent`] until the chain says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxState {
    /// Signed and stored; perhaps sent, perhaps not.
    Signed,
    /// Handed to an endpoint at least once. Its outcome is *unknown* until the chain shows it.
    Sent,
    /// Mined in this block, not final yet.
    Included {
        /// The block.
        block: BlockRef,
        /// Which attempt.
        hash: Digest,
        /// What it did.
        outcome: Outcome,
    },
    /// Final.
    Final {
        /// The block.
        block: BlockRef,
        /// Which attempt.
        hash: Digest,
        /// What it did.
        outcome: Outcome,
    },
    /// The nonce was consumed, at finality depth, by a transaction that is not ours.
    Replaced,
}

/// What an included transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It did what it was for.
    Done {
        /// Gas used.
        gas: u64,
    },
    /// It reverted.
    Reverted {
        /// The contract's error, decoded.
        reason: String,
        /// What follows from it.
        class: RevertClass,
        /// Gas used.
        gas: u64,
    },
}

/// What follows from a revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevertClass {
    /// The session moved on (somebody else closed or finalized first, a close was reorganised away): plan anew from what the chain
    /// says. A claim's tokens are owed again.
    Replan,
    /// Too early: plan anew, not before this time.
    Pace(UnixSeconds),
    /// Nothing that may be repeated: the operator must look.
    Stop,
}

/// A transaction's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tx {
    /// Key and nonce.
    pub id: TxId,
    /// What for.
    pub purpose: Purpose,
    /// Every signed form, oldest first. At most [`Tx::MAX_ATTEMPTS`].
    pub attempts: Vec<Attempt>,
    /// Where it stands.
    pub state: TxState,
}

impl Tx {
    /// Most attempts of one transaction: 10 % bumps reach 4 times the first fee after 15, beyond any sensible ceiling.
    pub const MAX_ATTEMPTS: usize = 16;

    /// Neither final nor replaced.
    pub fn is_unresolved(&self) -> bool {
        !matches!(self.state, TxState::Final { .. } | TxState::Replaced)
    }
}
