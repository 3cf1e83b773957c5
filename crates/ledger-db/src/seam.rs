//! The seam for fleets: an append that names the owner and the place.
//!
//! A job has one owner at a time, fenced by its epoch. A box that lost its job, or missed an append, finds out by the answer
//! and not by a broken transcript. Today one database serves one box; with a shared one behind the same trait, several boxes
//! under one host need only leases.

use std::future::Future;

use milepost_ledger::{AccountId, Event, TokenSeq};

use crate::{Committed, Error, LedgerDb};

/// What became of an append.
#[derive(Clone, Debug)]
#[must_use = "a fenced append wrote nothing"]
pub enum Append {
    /// It is durable.
    Committed(Committed),
    /// The account has another owner, or stands elsewhere. Nothing was written.
    Fenced {
        /// The epoch it has.
        epoch: u64,
        /// Where its transcript ends.
        metered: TokenSeq,
    },
}

/// Where accounts' events become durable.
pub trait LedgerStore: Send + Sync {
    /// Appends events to an account that has `epoch` and whose transcript ends at `expected`, all or nothing.
    fn append(
        &self,
        account: AccountId,
        epoch: u64,
        expected: TokenSeq,
        events: Vec<Event>,
    ) -> impl Future<Output = Result<Append, Error>> + Send;
}

impl LedgerStore for LedgerDb {
    async fn append(&self, account: AccountId, epoch: u64, expected: TokenSeq, events: Vec<Event>) -> Result<Append, Error> {
        self.append_fenced(account, epoch, expected, events).await
    }
}
