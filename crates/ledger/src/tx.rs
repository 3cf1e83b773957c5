//! Transactions as the ledger records them: one claim, one nonce, all its attempts. Several claims may share a transaction, and so
//! its nonce; each of them has a fate of its own ([`Outcome::refusal_of`]).

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

/// What a transaction is for. A record names it by its place here: a new purpose goes to the end, and a program that does not know it
/// refuses the record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// `submitProofsOfWork` of these claims, of as many jobs, in their order in the call. At least two, at most [`Self::MAX_CLAIMS`].
    Claims(Vec<ClaimId>),
}

impl Purpose {
    /// Most claims of one transaction: as many as our own marketplace takes at once.
    pub const MAX_CLAIMS: usize = 100;

    /// The job it is about; of several claims the first one's. See [`Self::jobs`].
    pub fn job(&self) -> JobId {
        match self {
            Self::Claim(claim) => claim.job,
            Self::RequestClose(job) | Self::Finalize(job) | Self::Fill(job) => *job,
            // One without claims cannot be signed, and one that is read says nothing of any job.
            Self::Claims(claims) => claims.first().map_or(JobId::default(), |claim| claim.job),
        }
    }

    /// The claims that it submits, in their order in the call; none for other purposes.
    pub fn claims(&self) -> &[ClaimId] {
        match self {
            Self::Claim(claim) => std::slice::from_ref(claim),
            Self::Claims(claims) => claims,
            Self::RequestClose(_) | Self::Finalize(_) | Self::Fill(_) => &[],
        }
    }

    /// Every job that it is about.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        let (claims, other) = match self {
            Self::Claim(_) | Self::Claims(_) => (self.claims(), None),
            Self::RequestClose(job) | Self::Finalize(job) | Self::Fill(job) => (&[][..], Some(*job)),
        };
        claims.iter().map(|claim| claim.job).chain(other)
    }

    /// Whether it is about this job.
    pub fn concerns(&self, job: JobId) -> bool {
        self.jobs().any(|other| other == job)
    }

    /// The claim of this job that it submits, if it submits one.
    pub fn claim_of(&self, job: JobId) -> Option<ClaimId> {
        self.claims().iter().find(|claim| claim.job == job).copied()
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
    /// It submitted several claims and did not revert, but the contract refused some of them.
    Partly {
        /// Those that were refused, at least one. Every other one landed.
        refused: Vec<Refused>,
        /// Gas used.
        gas: u64,
    },
}

/// A claim that was refused inside a transaction that did not revert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The claim.
    pub claim: ClaimId,
    /// The contract's error, decoded.
    pub reason: String,
    /// What follows from it.
    pub class: RevertClass,
}

impl Outcome {
    /// Gas used by the whole transaction.
    pub fn gas(&self) -> u64 {
        let (Self::Done { gas } | Self::Reverted { gas, .. } | Self::Partly { gas, .. }) = self;
        *gas
    }

    /// Why this claim of the transaction did not land, and what follows; `None` where it did.
    pub fn refusal_of(&self, claim: ClaimId) -> Option<(&str, RevertClass)> {
        match self {
            Self::Done { .. } => None,
            Self::Reverted { reason, class, .. } => Some((reason, *class)),
            Self::Partly { refused, .. } => {
                refused.iter().find(|refused| refused.claim == claim).map(|refused| (refused.reason.as_str(), refused.class))
            }
        }
    }
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

    /// What it did, once it is in a block.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            TxState::Included { outcome, .. } | TxState::Final { outcome, .. } => Some(outcome),
            TxState::Signed | TxState::Sent | TxState::Replaced => None,
        }
    }

    /// This job's part of what the transaction cost (gas, wei): the same for each of its claims, landed or refused, because each was
    /// carried and looked at; what does not divide falls to the first ones, a unit each, so that the parts add up to the whole.
    pub fn share(&self, cost: u128, job: JobId) -> u128 {
        let mut jobs = self.purpose.jobs();
        let count = self.purpose.jobs().count().max(1) as u128;
        jobs.position(|other| other == job).map_or(0, |place| cost / count + u128::from((place as u128) < cost % count))
    }
}
