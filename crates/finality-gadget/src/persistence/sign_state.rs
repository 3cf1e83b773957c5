//! The slashing protection: nothing is signed that was not first judged against, and synced into, the table of own votes.
//!
//! [`check_and_insert`] is the only way to a [`Safe`], and a [`Safe`] the only thing a [`VoteSigner`](crate::VoteSigner) takes.

use super::storage::{CheckpointStorage, Error, SignUpdate};
use crate::codec::{self, Reader, Writer};
use crate::types::{CheckpointNumber, DomainDigest};
use crate::vote::Vote;

const VERSION: u8 = 1;
/// Longest reason of a refusal, in bytes.
const MAX_REASON_BYTES: usize = 512;

/// Whether the key may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As far as this table knows, yes.
    Clear,
    /// No, until an operator declares that the old process is stopped.
    Refused(Refusal),
}

/// Why a key no longer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was seen, in words for the operator.
    pub reason: String,
}

/// The watermarks of one key. They never decrease, and survive pruning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignState {
    /// What is signed is bound to this; a table of another domain is not ours.
    pub domain: DomainDigest,
    /// No source below this number is ever signed again: the highest source signed, or the declared mark.
    pub max_source: CheckpointNumber,
    /// No target at or below this number is ever signed anew: the highest target signed, or the declared mark.
    pub max_target: CheckpointNumber,
    /// Whether the key may sign at all.
    pub standing: Standing,
}

impl SignState {
    /// `version 1 · domain 32 · max source 8 · max target 8 · standing 1 (0 clear, 1 refused) · reason length 4 · reason`.
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::versioned(VERSION).raw(&self.domain.0).u64(self.max_source.0).u64(self.max_target.0);
        match &self.standing {
            Standing::Clear => writer.u8(0).sized(&[]),
            Standing::Refused(refusal) => writer.u8(1).sized(refusal.reason.as_bytes()),
        }
        .finish()
    }

    /// Reads an encoding; refuses anything that is not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("sign-state", bytes, VERSION)?;
        let domain = DomainDigest(reader.digest()?);
        let (max_source, max_target) = (CheckpointNumber(reader.u64()?), CheckpointNumber(reader.u64()?));
        let (kind, reason) = (reader.u8()?, reader.sized(MAX_REASON_BYTES)?);
        let standing = match (kind, std::str::from_utf8(reason)) {
            (0, Ok("")) => Standing::Clear,
            (1, Ok(reason)) => Standing::Refused(Refusal { reason: reason.to_owned() }),
            _ => return Err(reader.invalid("an unknown standing")),
        };
        reader.finish()?;
        Ok(Self { domain, max_source, max_target, standing })
    }
}

/// What the table holds, as [`CheckpointStorage::update_sign_state`] reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignRows {
    /// The sign-state, if there is one.
    pub state: Option<SignState>,
    /// The own vote for the target in question, if there is one.
    pub at_target: Option<Vote>,
}

/// Permission to sign one vote. Exists only after the vote was judged and synced; cannot be copied, and nothing outside this module
/// can make one.
#[derive(Debug)]
#[must_use = "a safe vote is there to be signed"]
pub struct Safe {
    vote: Vote,
}

impl Safe {
    /// What may be signed.
    pub fn vote(&self) -> &Vote {
        &self.vote
    }

    /// The bytes to sign.
    pub fn signed_bytes(&self) -> Vec<u8> {
        self.vote.signed_bytes()
    }
}

/// Why a vote must not be signed.
#[derive(Debug, thiserror::Error)]
pub enum NotSafe {
    /// There is no sign-state: this is a new key, or its record was lost.
    #[error("there is no record of what this key has signed; an operator must declare that it is new, or that its old process is stopped")]
    NoRecord,
    /// The record belongs to another chain or trusted checkpoint.
    #[error("the record of own votes belongs to another domain ({0})")]
    Domain(DomainDigest),
    /// The key signs no more.
    #[error("this key has stopped signing: {}", .0.reason)]
    Refused(Refusal),
    /// Something else was signed for this target.
    #[error("another vote for target {0} was already signed")]
    SameTarget(CheckpointNumber),
    /// The target is not above everything signed.
    #[error("target {target} is not above {max_target}, the highest ever signed")]
    Target {
        /// The vote's target.
        target: CheckpointNumber,
        /// The watermark.
        max_target: CheckpointNumber,
    },
    /// The source lies below one that was signed: the vote could surround an earlier one.
    #[error("source {source_number} is below {max_source}, the highest ever signed")]
    Source {
        /// The vote's source.
        source_number: CheckpointNumber,
        /// The watermark.
        max_source: CheckpointNumber,
    },
    /// The record could not be read or written: nothing is signed.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// Judges `vote` against everything this key ever signed and records it, in one transaction and one synced write.
///
/// A vote that is already in the table, byte for byte, is safe: it is written and synced again, and may be sent again.
pub fn check_and_insert(storage: &dyn CheckpointStorage, vote: Vote) -> Result<Safe, NotSafe> {
    let target = vote.link.target.number;
    let mut verdict = None;
    storage.update_sign_state(target, &mut |rows| match judge(rows, &vote) {
        Ok(state) => {
            verdict = Some(Ok(()));
            Some(SignUpdate { state, vote: Some(vote.clone()) })
        }
        Err(refused) => {
            verdict = Some(Err(refused));
            None
        }
    })?;
    match verdict {
        Some(Ok(())) => Ok(Safe { vote }),
        Some(Err(refused)) => Err(refused),
        None => Err(NotSafe::Storage(Error::Corrupt { what: "the storage answered without reading the sign-state".to_owned() })),
    }
}

/// The rule: what was signed may be sent again; anything else must have a target above all targets, and a source not below any source,
/// that this key ever signed.
fn judge(rows: SignRows, vote: &Vote) -> Result<SignState, NotSafe> {
    let mut state = rows.state.ok_or(NotSafe::NoRecord)?;
    if state.domain != vote.domain {
        return Err(NotSafe::Domain(state.domain));
    }
    if let Standing::Refused(refusal) = state.standing {
        return Err(NotSafe::Refused(refusal));
    }
    let (source, target) = (vote.link.source.number, vote.link.target.number);
    if let Some(signed) = rows.at_target {
        return if signed == *vote { Ok(state) } else { Err(NotSafe::SameTarget(target)) };
    }
    if target <= state.max_target {
        return Err(NotSafe::Target { target, max_target: state.max_target });
    }
    if source < state.max_source {
        return Err(NotSafe::Source { source_number: source, max_source: state.max_source });
    }
    state.max_target = target;
    state.max_source = source;
    Ok(state)
}

/// What an operator answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declaration {
    /// This key has never signed anything in this domain. Refused where there is a record.
    NeverSigned,
    /// Whatever process used this key before is stopped for good, and could not have signed targets above `mark`: the highest number
    /// eligible at the chain's head after it was stopped, plus a margin for clocks. Clears a refusal.
    OldProcessStopped {
        /// Only sources at or above, and targets above this number are signed from now on.
        mark: CheckpointNumber,
    },
}

/// Writes an operator's declaration into the sign-state. **Synced.** Watermarks never decrease by it.
pub fn declare(storage: &dyn CheckpointStorage, domain: DomainDigest, declaration: Declaration) -> Result<SignState, NotSafe> {
    let mut verdict = None;
    storage.update_sign_state(CheckpointNumber(0), &mut |rows| {
        let next = match (declaration, rows.state) {
            (_, Some(state)) if state.domain != domain => Err(NotSafe::Domain(state.domain)),
            (Declaration::NeverSigned, Some(state)) => Err(NotSafe::Target { target: CheckpointNumber(0), max_target: state.max_target }),
            (Declaration::NeverSigned, None) => {
                Ok(SignState { domain, max_source: CheckpointNumber(0), max_target: CheckpointNumber(0), standing: Standing::Clear })
            }
            (Declaration::OldProcessStopped { mark }, state) => {
                let (source, target) = state.map_or((mark, mark), |state| (state.max_source, state.max_target));
                Ok(SignState { domain, max_source: source.max(mark), max_target: target.max(mark), standing: Standing::Clear })
            }
        };
        let update = next.as_ref().ok().map(|state| SignUpdate { state: state.clone(), vote: None });
        verdict = Some(next);
        update
    })?;
    verdict
        .unwrap_or_else(|| Err(NotSafe::Storage(Error::Corrupt { what: "the storage answered without reading the sign-state".to_owned() })))
}

/// Stops the key from signing until an operator declares. **Synced.** Without a record there is nothing to stop: it cannot sign anyway.
pub fn refuse(storage: &dyn CheckpointStorage, reason: &str) -> Result<(), Error> {
    let reason: String = reason.chars().take(MAX_REASON_BYTES / 4).collect();
    storage.update_sign_state(CheckpointNumber(0), &mut |rows| {
        let state = rows.state?;
        Some(SignUpdate { state: SignState { standing: Standing::Refused(Refusal { reason: reason.clone() }), ..state }, vote: None })
    })
}
