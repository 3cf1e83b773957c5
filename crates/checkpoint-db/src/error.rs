//! What can go wrong.

use std::path::PathBuf;

use finality_gadget::{CheckpointNumber, DomainDigest, PublicKey, persistence};

/// An error of the checkpoint database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine below failed or refused.
    #[error(transparent)]
    Store(#[from] milepost_store::Error),
    /// The witness could not be read or written. After a failed write nothing more is written.
    #[error("the witness of the sign-state failed while {doing}: {reason}")]
    Witness {
        /// What was tried.
        doing: &'static str,
        /// The system's own words.
        reason: String,
    },
    /// The database as a whole is not what was left: a part is unreadable or missing.
    #[error("the checkpoint database is damaged: {reason}")]
    Damaged {
        /// Which part, and how it shows.
        reason: String,
    },
    /// Setting a damaged database aside, or rebuilding it, failed. Nothing was deleted.
    #[error("recovering the checkpoint database at {} failed while {doing}: {reason}", path.display())]
    Recovery {
        /// Where the database lies.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's own words.
        reason: String,
    },
    /// An earlier write failed; only a restart, which reads what the disk really holds, can go on.
    #[error("stopped after an earlier failed write: {reason}")]
    Stopped {
        /// The failure that stopped it.
        reason: String,
    },
    /// A later program wrote this database.
    #[error("the checkpoint database has schema {found}; this program knows {known}")]
    Schema {
        /// On the disk.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// Finality does not move backwards, nor sideways.
    #[error("checkpoint {current} is final already; {refused} cannot become the last final one")]
    Finality {
        /// What is final.
        current: CheckpointNumber,
        /// What was to be recorded.
        refused: CheckpointNumber,
    },
    /// A sign-state was to be replaced by one that permits more than it should.
    #[error("the sign-state may not change so: {reason}")]
    SignState {
        /// What is wrong with the change.
        reason: String,
    },
    /// The record of own votes belongs to another key: a directory was mixed up.
    #[error("the record of own votes belongs to the key {found:?}; a key signs only with its own")]
    Key {
        /// Whose it is.
        found: PublicKey,
    },
    /// The record of own votes belongs to another domain.
    #[error("the record of own votes belongs to domain {found}, not {expected}")]
    Domain {
        /// What the caller works in.
        expected: DomainDigest,
        /// What is recorded.
        found: DomainDigest,
    },
}

impl Error {
    /// Whether the database must be rebuilt: waiting, freeing space or fixing permissions does not help.
    pub fn is_damage(&self) -> bool {
        match self {
            // Another layout is no damage. It is brought into ours as damage is mended: the old one is set aside whole.
            Self::Damaged { .. }
            | Self::Store(
                milepost_store::Error::Damaged { .. } | milepost_store::Error::Corrupt { .. } | milepost_store::Error::Layout { .. },
            ) => true,
            // RocksDB says in words which of its files is missing or makes no sense. What begins with `IO error` and names no missing file is
            // the system's trouble: permissions, descriptors, a failing disk.
            Self::Store(milepost_store::Error::Io { reason, .. }) => {
                !reason.starts_with("IO error") || reason.contains("No such file or directory") || reason.contains("file is too short")
            }
            _ => false,
        }
    }
}

impl From<Error> for persistence::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Stopped { .. } | Error::Store(milepost_store::Error::Stopped { .. }) => Self::Stopped,
            Error::Key { .. } => Self::AnotherKey,
            Error::Damaged { reason } => Self::Corrupt { what: reason },
            Error::Store(corrupt @ milepost_store::Error::Corrupt { .. }) => Self::Corrupt { what: corrupt.to_string() },
            other => Self::Failed { operation: "the checkpoint database", source: Box::new(other) },
        }
    }
}
