//! The trait that a checkpoint database implements.

use super::sign_state::{SignRows, SignState};
use crate::certificate::{Certificate, Finalized};
use crate::evidence::Evidence;
use crate::scheme::PublicKey;
use crate::types::{CheckpointNumber, EvidenceId, LinkDigest, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Why the storage did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read or write failed. After a write it is unknown what the disk holds.
    #[error("{operation} failed: {source}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The engine's own words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record is not what was written.
    #[error("damaged record: {what}")]
    Corrupt {
        /// Which record, and how it shows.
        what: String,
    },
    /// An earlier write failed; only a restart, which reads what the disk really holds, can go on.
    #[error("stopped after an earlier failed write")]
    Stopped,
    /// The record of own votes was made by another key: a directory was mixed up.
    #[error("this storage holds the record of another key; a key may only sign with its own")]
    AnotherKey,
}

/// What to write into the sign-state, decided by the gadget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignUpdate {
    /// The sign-state from now on.
    pub state: SignState,
    /// The own vote to insert under its target number, or to write again if it is already there.
    pub vote: Option<Vote>,
}

/// The gadget's decision over what the table holds. `None` writes nothing.
pub type Decide<'a> = &'a mut dyn FnMut(SignRows) -> Option<SignUpdate>;

/// Where the record of pruned links ends: the chain of digests is checked down to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Source of the lowest kept link.
    pub number: CheckpointNumber,
    /// Digest of the link that justified it, itself no longer kept.
    pub link: LinkDigest,
}

/// What may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PruneOrder {
    /// Votes and certificates with targets below this number, but not boundary certificates ([`Certificate::is_boundary`]).
    pub below: CheckpointNumber,
    /// Own votes with targets below this number. The sign-state itself never shrinks.
    pub own_votes_below: CheckpointNumber,
    /// The anchor to keep from now on, written in the same batch.
    pub anchor: Option<Anchor>,
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Checkpoints below this number are gone.
    pub below: CheckpointNumber,
    /// How far the mark moved, in checkpoints; zero when there was nothing to do.
    pub checkpoints: u64,
}

/// What the storage holds. Counting may cost a scan; it is asked for by operators only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Stored certificates.
    pub certificates: u64,
    /// Stored votes of all validators.
    pub signatures: u64,
    /// Own votes.
    pub own_votes: u64,
    /// Pieces of evidence.
    pub evidence: u64,
    /// Lowest target number with a certificate.
    pub oldest: Option<CheckpointNumber>,
    /// Highest.
    pub newest: Option<CheckpointNumber>,
}

/// A checkpoint database, as the gadget sees it. All methods block; each says how durable its write is when it returns.
///
/// # What an implementation must guarantee
///
/// - Writes are atomic: after a crash each is there as a whole or not at all.
/// - A synced write makes everything written before it durable too.
/// - After a failed write every later write answers an error ([`Error::Stopped`]).
/// - Reads give what was written, or [`Error::Corrupt`]; a damaged record is never passed over as absent.
/// - Nothing but [`CheckpointStorage::update_sign_state`] touches the sign-state, and one process owns it.
pub trait CheckpointStorage: Send + Sync {
    /// Keeps votes of any validators, several per target; a vote that is already there is no error. Two different votes of one
    /// validator for one target are both kept. **Buffered.**
    fn store_signatures(&self, votes: &[SignedVote]) -> Result<(), Error>;

    /// Votes with targets above `after`, ascending by target, at most `limit`.
    fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, Error>;

    /// Keeps a certificate under its target's number and, in the same batch, what has become final by it. **Synced.**
    fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), Error>;

    /// The certificate of a target.
    fn certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error>;

    /// Certificates with targets above `after`, ascending, at most `limit`.
    fn certificates_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Certificate>, Error>;

    /// Certificates with targets below `before`, descending, at most `limit`; from the newest where `before` is `None`.
    fn certificates_before(&self, before: Option<CheckpointNumber>, limit: usize) -> Result<Vec<Certificate>, Error>;

    /// What was last stored as final.
    fn last_finalized(&self) -> Result<Option<Finalized>, Error>;

    /// Keeps evidence under [`Evidence::id`]; what is already there is no error. Survives pruning. **Synced.**
    fn store_evidence(&self, evidence: &Evidence) -> Result<(), Error>;

    /// Evidence with ids above `after`, ascending, at most `limit`.
    fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, Error>;

    /// Whether there is evidence against a validator.
    fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, Error>;

    /// Ties the record of own votes to the key that signs with it: the first call decides, any other key is [`Error::AnotherKey`] from
    /// then on. Without it two validators whose directories are exchanged would each sign against the other's record. **Synced.**
    fn bind_key(&self, key: &PublicKey) -> Result<(), Error>;

    /// The sign-state; `None` in a database that never had one, which is also what a lost one looks like.
    fn sign_state(&self) -> Result<Option<SignState>, Error>;

    /// Own votes with targets above `after`, ascending, at most `limit`.
    fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, Error>;

    /// Reads the sign-state and the own vote for `target`, lets `decide` judge, and writes what it answers: **one transaction under
    /// exclusion, one synced write.** `Ok` says that the decision is on the disk; with any doubt the answer is an error. `decide` is called
    /// exactly once unless reading fails, even where nothing is there. A vote already there is written and synced again when asked, since
    /// an earlier process may have died between its write and its sync.
    fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), Error>;

    /// Makes everything written so far durable. **Synced.**
    fn flush(&self) -> Result<(), Error>;

    /// Removes what the order names, as a range: the cost must not grow with the height. **Buffered**, atomic.
    fn prune(&self, order: &PruneOrder) -> Result<Pruned, Error>;

    /// The anchor of the last pruning.
    fn anchor(&self) -> Result<Option<Anchor>, Error>;

    /// Counts.
    fn stats(&self) -> Result<Stats, Error>;
}
