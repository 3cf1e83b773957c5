//! What callers hand in beside events, and what they get back.

use milepost_ledger::{AccountId, AccountRecord, CheckpointRecord, ClaimId, Effect, Phase, Positions};

/// Bytes that become durable together with a caller's events.
#[derive(Clone, Debug)]
pub enum Blob {
    /// A claim's verified receipt.
    Receipt {
        /// Whose.
        claim: ClaimId,
        /// The receipt.
        bytes: Vec<u8>,
    },
    /// Something of the program's own, by name: a watcher's cursor, a secret for session tokens.
    Meta {
        /// Its name, at most 1 KiB.
        name: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl Blob {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Receipt { bytes, .. } => bytes.len(),
            Self::Meta { name, bytes } => name.len() + bytes.len(),
        }
    }
}

/// An account without a job whose records are deleted, all of them.
#[derive(Clone, Debug)]
pub struct Forget {
    /// Whose. It must be retired, if only by the events in the same list.
    pub account: AccountId,
    /// How the names of its [`Blob::Meta`] begin, if it has some.
    pub names: Option<String>,
}

/// A caller's events are durable.
#[derive(Clone, Debug)]
pub struct Committed {
    /// What was written for them, in order.
    pub effects: Vec<Effect>,
}

impl Committed {
    /// The account as the events left it, if they changed one; of several the last.
    pub fn account(&self) -> Option<&AccountRecord> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::PutAccount(record) => Some(&**record),
            _ => None,
        })
    }

    /// Checkpoints that were sealed, in order.
    pub fn sealed(&self) -> impl Iterator<Item = &CheckpointRecord> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::PutCheckpoint(checkpoint) => Some(&**checkpoint),
            _ => None,
        })
    }
}

/// An account changed, durably.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub account: AccountId,
    /// Where it stands now.
    pub positions: Positions,
    /// Where its session stands now.
    pub phase: Phase,
    /// Checkpoints sealed by this change, in order.
    pub sealed: Vec<CheckpointRecord>,
}
