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

impl From<milepost_store::Error> for Error {
    fn from(error: milepost_store::Error) -> Self {
        match error {
            milepost_store::Error::Locked { path } => Self::InUse { path },
            milepost_store::Error::Stopped { reason } => Self::Stopped { reason },
            other => Self::Store(other),
        }
    }
}
