//! A session that the chain no longer has: a reorganisation took its funding, and nothing came in its place.
//!
//! Its deposit may come back, since the depositor's transaction can be included again; until then every further token would be
//! generated for nobody's money. So the job is halted, as one whose number another session got is, and goes on by itself when the same
//! session is there again. Whatever else halted a job is not lifted here.

use milepost_ledger::{AccountId, AccountRecord, Event, JobId};

use super::Driver;
use super::job::is_anothers;
use crate::Error;
use crate::chain::Head;

/// How the reason of such a halt begins, by which it is known again.
const GONE: &str = "[MP-S-033] ";

impl Driver {
    /// The chain has no session under a number that was opened here. An endpoint that lags shows the same of a session that was
    /// funded a moment ago, so it is believed of the second block that says so.
    pub(super) async fn gone(&mut self, job: JobId, record: &AccountRecord, seen: &Head) -> Result<(), Error> {
        if record.halted.is_some() {
            return Ok(());
        }
        let block = seen.block.number;
        if *self.missing.entry(job).or_insert(block) >= block {
            self.dirty.insert(job);
            return Ok(());
        }
        let reason = format!(
            "{GONE}at block {block} the marketplace has no job {job}: the session opened here was reorganised away; it goes on if its funding comes back"
        );
        tracing::error!(event = "job_halted", job = %job, reason, "[MP-S-033] this job is stopped until its funding is on the chain again");
        self.books.record("halted", vec![Event::Halt { account: AccountId::Job(job), reason }]).await
    }

    /// Lifts such a halt from a job that the chain has again, with the terms it was opened with. Found twice, as its loss was.
    pub(super) async fn is_back(&mut self, job: JobId, record: &AccountRecord) -> Result<(), Error> {
        self.missing.remove(&job);
        if !record.halted.as_ref().is_some_and(|reason| reason.starts_with(GONE)) {
            return Ok(());
        }
        let newest = self.chain.head().await?;
        let seen = self.chain.view(job, &newest).await?;
        if is_anothers(record, &seen.terms) {
            return Ok(());
        }
        tracing::warn!(event = "job_resumed", job = %job, block = newest.block.number, "the session's funding is on the chain again: the job goes on");
        self.books.record("resumed", vec![Event::Resume { account: AccountId::Job(job) }]).await
    }
}
