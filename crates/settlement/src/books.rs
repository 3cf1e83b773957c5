//! The ledger, as settlement writes to it and asks it.

use std::sync::Arc;

use milepost_ledger::{AccountId, AccountRecord, Claim, Event, JobId, PlanConfig, Step, Tx};
use milepost_ledger_db::{Blob, LedgerDb};

use crate::Error;
use crate::chain::Seen;
use crate::telemetry::Counts;

/// Asked after every durable step and every outside effect, with its name; `true` ends the task there, as a crash would. For
/// tests: a program has none.
pub type Probe = Arc<dyn Fn(&'static str) -> bool + Send + Sync>;

/// The ledger's database, with the errors of this crate.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) db: LedgerDb,
    probe: Option<Probe>,
}

/// A plan and what it was made from, at one moment of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) step: Step,
    pub(crate) record: AccountRecord,
    pub(crate) claim: Option<Claim>,
    /// A transaction of the job is unresolved.
    pub(crate) watched: bool,
}

impl Planned {
    /// What a judgement about the chain rests on: if it changed meanwhile, the judgement is void.
    pub(crate) fn basis(&self) -> impl PartialEq + use<> {
        let record = &self.record;
        (record.positions.submitted, record.positions.finalized, record.final_head, record.claim)
    }
}

impl Books {
    pub(crate) fn new(db: LedgerDb, probe: Option<Probe>) -> Self {
        Self { db, probe }
    }

    /// Records events, all or none; durable when this returns.
    pub(crate) async fn record(&self, point: &'static str, events: Vec<Event>) -> Result<(), Error> {
        self.record_with(point, events, Vec::new()).await
    }

    /// As [`Self::record`], with further bytes in the same batch.
    pub(crate) async fn record_with(&self, point: &'static str, events: Vec<Event>, blobs: Vec<Blob>) -> Result<(), Error> {
        let counts = Counts::of(&self.db, &events).await;
        self.db.apply_with(events, blobs).await.map_err(error)?;
        counts.count();
        self.pass(point)
    }

    /// A point at which a test may end the task.
    pub(crate) fn pass(&self, point: &'static str) -> Result<(), Error> {
        match &self.probe {
            Some(probe) if probe(point) => Err(Error::Interrupted(point)),
            _ => Ok(()),
        }
    }

    /// Jobs in memory that are settled on a chain.
    pub(crate) async fn jobs(&self) -> Result<Vec<JobId>, Error> {
        let settled = |ledger: &milepost_ledger::Ledger| {
            ledger.accounts().filter(|account| account.record.terms.is_some()).filter_map(|account| account.id().job()).collect()
        };
        self.db.query(settled).await.map_err(error)
    }

    /// Every unresolved transaction.
    pub(crate) async fn txs(&self) -> Result<Vec<Tx>, Error> {
        self.db.query(|ledger| ledger.txs().cloned().collect()).await.map_err(error)
    }

    /// The plan for a job as things stand; `None` if it is not in memory.
    pub(crate) async fn plan(&self, job: JobId, seen: &Seen, config: PlanConfig) -> Result<Option<Planned>, Error> {
        let seen = seen.clone();
        let plan = move |ledger: &milepost_ledger::Ledger| {
            let account = ledger.job(job)?;
            Some(Planned {
                step: milepost_ledger::plan(account, &seen.view_of(account), &config),
                record: account.record.clone(),
                claim: account.claim.clone(),
                watched: ledger.txs().any(|tx| tx.purpose.concerns(job)),
            })
        };
        self.db.query(plan).await.map_err(error)
    }

    /// The record of an account in memory, and whether it has an unresolved claim.
    pub(crate) async fn record_of(&self, job: JobId) -> Result<Option<AccountRecord>, Error> {
        self.db.query(move |ledger| ledger.account(AccountId::Job(job)).map(|account| account.record.clone())).await.map_err(error)
    }
}

pub(crate) fn error(error: milepost_ledger_db::Error) -> Error {
    match error {
        milepost_ledger_db::Error::Refused(refused) => Error::LedgerRefused(refused),
        other => Error::LedgerStopped(other.to_string()),
    }
}
