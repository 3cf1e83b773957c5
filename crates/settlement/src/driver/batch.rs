//! Claims that may be sent now are gathered over a round and go together as far as they can.

use std::time::Instant;

use milepost_ledger::{AccountRecord, JobId, Purpose, Terms};

use super::Driver;
use crate::Error;
use crate::chain::Head;
use crate::submitter::Offer;

/// A claim that may be sent now, and what its job was funded with.
pub(super) struct Ready {
    offer: Offer,
    terms: Option<Terms>,
}

impl Ready {
    fn job(&self) -> JobId {
        self.offer.claim.job
    }
}

impl Driver {
    /// Most claims of one transaction, by the marketplace at hand and by the operator.
    pub(super) async fn most_claims(&self) -> Result<usize, Error> {
        let most = self.chain.constants().await?.max_batch.min(self.config.max_batch);
        Ok(usize::try_from(most).unwrap_or(usize::MAX).min(Purpose::MAX_CLAIMS))
    }

    /// Sends it at the end of the round, with the others.
    pub(super) fn offer(&mut self, offer: Offer, record: &AccountRecord) {
        self.ready.push(Ready { offer, terms: record.terms.clone() });
    }

    /// Whether the job's claim is to be sent in this round.
    pub(super) fn is_ready(&self, job: JobId) -> bool {
        self.ready.iter().any(|ready| ready.job() == job)
    }

    /// The round ends early: they are looked at again in the next.
    pub(super) fn put_off(&mut self) {
        self.dirty.extend(self.ready.drain(..).map(|ready| ready.job()));
    }

    /// Sends what was gathered, the nearest deadlines first (the order in which jobs are looked at). Fewer claims than a transaction may
    /// carry wait a while for others, if the operator says so and none is urgent.
    pub(super) async fn send_ready(&mut self, head: &Head) -> Result<(), Error> {
        if self.ready.is_empty() {
            self.gathering = None;
            return Ok(());
        }
        let most = self.most_claims().await?.max(1);
        let since = *self.gathering.get_or_insert_with(Instant::now);
        let waits = since.elapsed() < self.config.batch_wait() && !self.ready.iter().any(|ready| self.is_urgent(ready.job(), head));
        while self.ready.len() >= most || !(waits || self.ready.is_empty()) {
            let batch: Vec<_> = self.ready.drain(..most.min(self.ready.len())).collect();
            match self.submitter.submit_claims(batch.iter().map(|ready| ready.offer.clone()).collect()).await {
                Ok(answers) => {
                    for (claim, answer) in answers {
                        let terms = batch.iter().find(|ready| ready.offer.claim == claim).and_then(|ready| ready.terms.as_ref());
                        let answer = answer.and_then(|submission| self.answered(&Purpose::Claim(claim), submission, terms));
                        match answer {
                            Ok(()) => {
                                self.troubled.remove(&claim.job);
                            }
                            Err(error) => self.trouble(claim.job, &error),
                        }
                    }
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error @ Error::Unreachable { .. }) => {
                    self.dirty.extend(batch.iter().map(Ready::job));
                    self.put_off();
                    return Err(error);
                }
                Err(error) => batch.iter().for_each(|ready| self.trouble(ready.job(), &error)),
            }
        }
        if self.ready.is_empty() {
            self.gathering = None;
        }
        self.put_off();
        Ok(())
    }

    /// Whether the time that a claim of this job takes is about what is left of its deadline.
    fn is_urgent(&self, job: JobId, head: &Head) -> bool {
        self.deadlines.get(&job).is_some_and(|deadline| deadline.since(head.next_time) < self.config.claim_seconds)
    }
}
