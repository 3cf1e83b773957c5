//! Looking at one job, and doing what it needs.

use alloy::primitives::Bytes;
use milepost_ledger::{
    AccountId, AccountRecord, ChainStatus, ChainView, Claim, ClaimState, Event, JobId, Phase, Purpose, RevertClass, SessionEnd, Step,
    Terms, UnixSeconds, WaitFor,
};

use super::Driver;
use crate::Error;
use crate::books::Planned;
use crate::chain::{Head, Seen, as_recorded};
use crate::submitter::{Expect, Offer, Submission};

/// Steps of one job in one look: see the close, plan a claim, begin to prove it. More would be a planner that goes in circles.
const MAX_STEPS: usize = 8;

/// What a look at a job sees of the chain.
struct Look<'a> {
    seen: &'a Seen,
    head: &'a Head,
}

/// Whether to go on with the same job in the same look.
enum Go {
    Again,
    Enough,
}

impl Driver {
    /// One look at a job.
    pub(super) async fn drive(&mut self, job: JobId, head: &Head) -> Result<(), Error> {
        let Some(record) = self.books.record_of(job).await? else {
            self.forget(job);
            return Ok(());
        };
        let seen = match self.chain.view(job, head).await {
            Err(Error::UnknownJob(_)) => return self.gone(job, &record, head).await,
            seen => seen?,
        };
        if is_anothers(&record, &seen.terms) {
            return self.another_job(job, &record).await;
        }
        self.is_back(job, &record).await?;
        let look = Look { seen: &seen, head };
        for _ in 0..MAX_STEPS {
            let Some(planned) = self.books.plan(job, &seen, self.config.plan()).await? else {
                self.forget(job);
                return Ok(());
            };
            self.set_alarms(job, &planned.record, &seen.view);
            match self.step(job, &planned, &look).await? {
                Go::Again => {}
                Go::Enough => return Ok(()),
            }
        }
        tracing::warn!(event = "job_restless", job = %job, steps = MAX_STEPS, "this job does not come to rest; it is looked at again later");
        self.dirty.insert(job);
        Ok(())
    }

    async fn step(&mut self, job: JobId, planned: &Planned, look: &Look<'_>) -> Result<Go, Error> {
        let record = &planned.record;
        let at = self.clock.now();
        match &planned.step {
            Step::Wait(WaitFor::Claim) => match &planned.claim {
                Some(claim) => return self.advance(claim, record, look).await,
                // Landed, and not final yet: the submitter's next look tells.
                None => {
                    self.dirty.insert(job);
                }
            },
            Step::Wait(WaitFor::Until(time)) => self.alarm(job, *time),
            Step::Wait(WaitFor::Block(_)) => {
                self.dirty.insert(job);
            }
            Step::Wait(WaitFor::Nothing) => return self.retire(job, planned).await,
            Step::Wait(WaitFor::Tokens | WaitFor::Transaction | WaitFor::Operator) => {}
            Step::Claim { until } => {
                tracing::info!(event = "claim_planned", job = %job, from = %record.positions.finalized, until = %until, "claim planned");
                self.books.record("planned", vec![Event::PlanClaim { job, until: *until, at }]).await?;
                return Ok(Go::Again);
            }
            Step::SeeClosing { until } => {
                tracing::info!(event = "closing_seen", job = %job, claim_until = until.0, "the job is closing: the last claims are accepted until then");
                self.books.record("closing_seen", vec![Event::ClosingSeen { job, until: *until, at }]).await?;
                return Ok(Go::Again);
            }
            Step::End(reason) => {
                self.end(job, *reason).await?;
                return Ok(Go::Again);
            }
            Step::RequestClose => {
                let adapter = self.chain.adapter().await?;
                let (purpose, data, expect) = match adapter.request_close(job) {
                    Some(data) => (Purpose::RequestClose(job), data, Expect::Active),
                    None => (Purpose::Finalize(job), adapter.complete(job), Expect::Unpaid),
                };
                return self.submit(purpose, data, expect, record).await;
            }
            Step::Finalize => {
                if let Some(claim) = &planned.claim {
                    // It can no longer land; its proof, if one is being made, is for nothing.
                    self.cancel_proof(claim.id);
                    let reason = "the closing window is over".to_owned();
                    tracing::warn!(event = "claim_abandoned", job = %job, claim = %claim.id, reason, "claim given up before it was signed");
                    self.books.record("abandoned", vec![Event::AbandonClaim { claim: claim.id, reason }]).await?;
                    return Ok(Go::Again);
                }
                let data = self.chain.adapter().await?.complete(job);
                return self.submit(Purpose::Finalize(job), data, Expect::Unpaid, record).await;
            }
            Step::Settle { rest } => return self.settle(job, record, *rest).await.map(|()| Go::Enough),
            Step::Halt { reason } => return self.halt(job, planned, reason).await,
        }
        Ok(Go::Enough)
    }

    async fn end(&mut self, job: JobId, reason: SessionEnd) -> Result<(), Error> {
        tracing::info!(event = "session_ending", job = %job, ?reason, "the session ends; the rest is sealed and claimed");
        let event = Event::EndSession { account: AccountId::Job(job), reason, at: self.clock.now() };
        self.books.record("ended", vec![event]).await
    }

    /// Halting is for good until an operator looks, so the finding is made twice: with a newer block, and with a ledger that did
    /// not move while the chain was read. What was read before our own claim landed is no finding.
    async fn halt(&mut self, job: JobId, first: &Planned, reason: &str) -> Result<Go, Error> {
        let seen = self.chain.view(job, &self.chain.head().await?).await?;
        let Some(second) = self.books.plan(job, &seen, self.config.plan()).await? else { return Ok(Go::Enough) };
        if !matches!(second.step, Step::Halt { .. }) || second.basis() != first.basis() {
            self.dirty.insert(job);
            return Ok(Go::Enough);
        }
        tracing::error!(event = "job_halted", job = %job, reason, "[MP-S-016] this job is stopped: an operator must look (milepost why, milepost reconcile)");
        self.books.record("halted", vec![Event::Halt { account: AccountId::Job(job), reason: reason.to_owned() }]).await?;
        Ok(Go::Enough)
    }

    /// Under this number the chain has another session than the one that was opened here: a reorganisation took that one away, and
    /// its tokens are owed by nobody. Without a salt both may begin with the same head, and claims would be paid by a stranger.
    /// Found twice, with a newer block, because it stops the job.
    async fn another_job(&mut self, job: JobId, record: &AccountRecord) -> Result<(), Error> {
        let Seen { view, terms, .. } = self.chain.view(job, &self.chain.head().await?).await?;
        if !is_anothers(record, &terms) {
            self.dirty.insert(job);
            return Ok(());
        }
        if record.halted.is_none() {
            let reason = format!(
                "at block {} job {job} is another session, funded by {}: the one opened here was reorganised away",
                view.block.number, terms.depositor
            );
            tracing::error!(event = "job_halted", job = %job, reason, "[MP-S-028] this job is stopped: an operator must look (milepost why, milepost reconcile)");
            self.books.record("halted", vec![Event::Halt { account: AccountId::Job(job), reason }]).await?;
        }
        Ok(())
    }

    /// Brings an unresolved claim on its way.
    async fn advance(&mut self, claim: &Claim, record: &AccountRecord, look: &Look<'_>) -> Result<Go, Error> {
        let job = claim.id.job;
        match (&claim.state, &claim.proof) {
            (ClaimState::Planned | ClaimState::Proving, _) => {
                self.begin_proof(claim, record).await?;
                Ok(Go::Enough)
            }
            (ClaimState::Proven, Some(proof)) => {
                let Some(terms) = &record.terms else { return Ok(Go::Enough) };
                // Proving may begin before the rate cap allows the claim; sending may not.
                let last_proof = look.seen.last_proof.unwrap_or(terms.started);
                let allowed_at = terms.claim_allowed_at(claim.statement.first_seq, claim.statement.end(), last_proof);
                if look.seen.view.time < allowed_at {
                    self.alarm(job, allowed_at);
                    return Ok(Go::Enough);
                }
                // What is signed can be sent again by anybody: were the funding reorganised away, it would reach whatever session
                // has the number then.
                let funded = look.seen.terms.started;
                if record.final_block.is_none() && !self.chain.is_funding_final(job, funded, look.head).await? {
                    self.dirty.insert(job);
                    return Ok(Go::Enough);
                }
                let data = self.claim_call(claim, proof, record).await?;
                let expect = Expect::Claimed { used: claim.statement.first_seq, head: claim.statement.head_before };
                // One that is made anew goes alone: whatever kept it before must cost no other claim anything.
                if claim.id.plan == 0 && self.most_claims().await? > 1 {
                    self.offer(Offer { claim: claim.id, call: data, expect }, record);
                    return Ok(Go::Enough);
                }
                self.submit(Purpose::Claim(claim.id), data, expect, record).await
            }
            _ => Ok(Go::Enough),
        }
    }

    async fn submit(&mut self, purpose: Purpose, data: Bytes, expect: Expect, record: &AccountRecord) -> Result<Go, Error> {
        let what = purpose.clone();
        let submission = self.submitter.submit(purpose, data, expect).await?;
        self.answered(&what, submission, record.terms.as_ref()).map(|()| Go::Enough)
    }

    /// What follows from the answer to a wish to submit.
    pub(super) fn answered(&mut self, purpose: &Purpose, submission: Submission, terms: Option<&Terms>) -> Result<(), Error> {
        let job = purpose.job();
        match submission {
            Submission::Signed(_) => {}
            Submission::Later => {
                self.dirty.insert(job);
            }
            Submission::Moved(found) => {
                tracing::info!(event = "job_moved", job = %job, purpose = ?purpose, found, "the job moved meanwhile; nothing was signed");
                self.dirty.insert(job);
            }
            Submission::Refused(revert) => match revert.class(terms) {
                RevertClass::Pace(until) => {
                    tracing::info!(event = "claim_paced", job = %job, until = until.0, reason = revert.text, "too early by the contract's rate cap; nothing was signed");
                    self.alarm(job, until);
                }
                // Nothing was signed and nothing is lost: looked at again, later each time, with the reason shown.
                RevertClass::Replan | RevertClass::Stop => {
                    return Err(Error::Refused { what: format!("{purpose:?}"), reason: revert.text });
                }
            },
        }
        Ok(())
    }

    /// Forgets a paid job in memory once no transaction of it is unresolved.
    async fn retire(&mut self, job: JobId, planned: &Planned) -> Result<Go, Error> {
        if !matches!(planned.record.phase, Phase::Paid(_)) {
            return Ok(Go::Enough);
        }
        if planned.watched {
            self.dirty.insert(job);
            return Ok(Go::Enough);
        }
        self.books.record("retired", vec![Event::Retire { account: AccountId::Job(job) }]).await?;
        self.forget(job);
        Ok(Go::Enough)
    }

    /// Times at which the job is to be looked at even if nothing is heard of it, and when its claims must have landed.
    fn set_alarms(&mut self, job: JobId, record: &AccountRecord, view: &ChainView) {
        let Some(terms) = &record.terms else { return };
        self.deadlines.extend(record.deadline().map(|deadline| (job, deadline)));
        let before = |time: UnixSeconds| UnixSeconds(time.0.saturating_sub(self.config.claim_seconds));
        let mut times = Vec::new();
        match view.status {
            ChainStatus::Active if record.phase == Phase::Open => {
                times.extend([terms.ends(), before(record.last_claim.plus(terms.idle_timeout))]);
                times.extend(record.deadline().map(before));
            }
            ChainStatus::Active | ChainStatus::Completed => {}
            ChainStatus::Closing { until } => times.extend([before(until), until]),
        }
        for time in times.into_iter().filter(|time| *time > view.time) {
            self.alarm(job, time);
        }
    }
}

/// Whether the terms are another session's than the account was opened with. The start may differ: the same funding, included
/// again in another block, is the same session.
pub(super) fn is_anothers(record: &AccountRecord, found: &Terms) -> bool {
    let agreed = |terms: &Terms| {
        let Terms { host, depositor, token, deposit, price, model, voucher, salt_commitment, .. } = *terms;
        (host, depositor, token, deposit, price, model, voucher, salt_commitment)
    };
    record.terms.as_ref().is_some_and(|terms| agreed(terms) != agreed(&as_recorded(found.clone(), terms)))
}
