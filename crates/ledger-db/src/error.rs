//! What can go wrong between an event and its record.

use std::path::PathBuf;

use milepost_ledger::{AccountId, TokenSeq};

/// An error of the ledger's database.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ledger refused an event. Nothing of the caller's list was applied or written.
    #[error(transparent)]
    Refused(#[from] milepost_ledger::Error),
    /// The commit thread has stopped; nothing is written any more. Whether this caller's events are durable shows at the
    /// next start.
    #[error("the ledger's database has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// Another process has the database.
    #[error("another milepost has this database open: {}", path.display())]
    InUse {
        /// Where it lies.
        path: PathBuf,
    },
    /// The store failed, or a record is damaged; a damaged record is named by table and key.
    #[error(transparent)]
    Store(milepost_store::Error),
    /// The database was written by a newer program.
    #[error(
        "the database has schema {found}, this milepost knows up to {known}: run the newer milepost that wrote it, or restore a backup"
    )]
    NewerSchema {
        /// What the database says.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// The store holds records and no schema version.
    #[error("the store holds records but no schema version: it is not a ledger's database, or its schema record is lost")]
    NoSchema,
    /// Rows are each whole and do not fit together.
    #[error("the rows of account {account} do not fit together: {what}")]
    Rows {
        /// Whose.
        account: AccountId,
        /// What does not fit.
        what: String,
    },
    /// The ledger cannot be rebuilt from its records.
    #[error("the ledger cannot be rebuilt: {0}")]
    Recovery(milepost_ledger::Error),
    /// More was asked for, or handed in, than one call takes.
    #[error("{what}: {count} exceeds the limit of {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        count: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// Token ids that should be there are missing.
    #[error("account {account} has no token ids at position {at}, though its transcript reaches further")]
    MissingTokens {
        /// Whose.
        account: AccountId,
        /// Where.
        at: TokenSeq,
    },
    /// A query panicked. The ledger is unchanged and goes on.
    #[error("the query panicked")]
    QueryPanicked,
}

impl Error {
    /// A short, stable code; `docs/ledger.md` lists them.
    pub fn code(&self) -> &'static str {
        use milepost_store::Error as Store;
        match self {
            Self::Stopped { .. } => "MP-L-001",
            Self::InUse { .. } => "MP-L-002",
            Self::Store(Store::NoSpace { .. }) => "MP-L-003",
            Self::Store(Store::Corrupt { .. } | Store::Damaged { .. }) => "MP-L-005",
            Self::Store(_) => "MP-L-004",
            Self::NewerSchema { .. } => "MP-L-006",
            Self::NoSchema => "MP-L-007",
            Self::Rows { .. } | Self::MissingTokens { .. } => "MP-L-008",
            Self::Recovery(_) => "MP-L-009",
            Self::Refused(_) => "MP-L-010",
            Self::TooMuch { .. } => "MP-L-011",
            Self::QueryPanicked => "MP-L-012",
        }
    }

    /// What an operator should do.
    pub fn advice(&self) -> &'static str {
        use milepost_store::Error as Store;
        match self {
            Self::Stopped { .. } => {
                "nothing left this process that is not durable; make room or mend the disk, then start the node again: it goes on from what the disk holds"
            }
            Self::InUse { .. } => "stop the other node, or give this one a data directory of its own",
            Self::Store(Store::NoSpace { .. }) => "make room on the disk, then start the node again: it goes on from what the disk holds",
            Self::Store(Store::Corrupt { .. } | Store::Damaged { .. })
            | Self::NoSchema
            | Self::Rows { .. }
            | Self::MissingTokens { .. } => {
                "keep the directory as it is: it says what was paid for; restore the newest backup beside it, and report this with the log"
            }
            Self::Store(_) => {
                "check that the data directory is a directory of this user's, on a disk that has room and works, then start the node again"
            }
            Self::NewerSchema { .. } => "run the newer milepost, or restore the backup that was made before the upgrade",
            Self::Recovery(_) | Self::Refused(_) | Self::TooMuch { .. } | Self::QueryPanicked => {
                "this is a fault of the program: keep the log and the data directory, and report it"
            }
        }
    }
}

impl From<milepost_store::Error> for Error {
    fn from(error: milepost_store::Error) -> Self {
        match error {
            milepost_store::Error::Locked { path } => Self::InUse { path },
            milepost_store::Error::Stopped { reason } => Self::Stopped { reason },
            other => Self::Store(other),
        }
    }
}
