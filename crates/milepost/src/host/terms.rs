//! The doors' question to the chain: what was this job funded with?

use futures::FutureExt;
use futures::future::BoxFuture;
use milepost_bundle::Inclusion;
use milepost_gateway::{Jobs, JobsError, JobsErrorKind};
use milepost_ledger::{Address, BlockRef, Digest, JobId, Statement, Terms};
use milepost_settlement::{Chain, Error};

/// Reads terms from the marketplace; only jobs of this host that are active have any.
pub(super) struct ChainJobs {
    chain: Chain,
    host: Address,
}

impl ChainJobs {
    pub(super) fn new(chain: Chain, host: Address) -> Self {
        Self { chain, host }
    }
}

impl Jobs for ChainJobs {
    fn terms(&self, job: JobId) -> BoxFuture<'_, Result<Option<Terms>, JobsError>> {
        async move { answer(self.chain.terms_to_open(job, self.host).await) }.boxed()
    }

    fn inclusion(&self, transaction: Digest, block: BlockRef, claim: Statement) -> BoxFuture<'_, Result<Option<Inclusion>, JobsError>> {
        async move {
            let found = self.chain.block_with_receipts(block.hash).await.map_err(|error| unanswered(&error, JobsErrorKind::Unreachable))?;
            let Some((header, receipts)) = found else { return Ok(None) };
            match milepost_bundle::rpc::inclusion(&header, &receipts, transaction, &claim) {
                Ok(inclusion) => Ok(Some(inclusion)),
                Err(error) => {
                    tracing::debug!(event = "inclusion_not_shown", %transaction, block = %block.hash, %error, "a claim's block shows nothing");
                    Ok(None)
                }
            }
        }
        .boxed()
    }
}

/// What the doors tell a client of the chain's answer. Whatever does not speak of the job itself decides nothing about it.
fn answer(found: Result<Option<Terms>, Error>) -> Result<Option<Terms>, JobsError> {
    let error = match found {
        Err(Error::UnknownJob(_)) => return Ok(None),
        Ok(terms) => return Ok(terms),
        Err(error) => error,
    };
    let kind = match &error {
        Error::AnotherHost { .. } => JobsErrorKind::AnotherHost,
        Error::VerifierDemanded { .. } | Error::NotActive { .. } | Error::Price { .. } | Error::ChainAhead { .. } => {
            JobsErrorKind::NotServed
        }
        _ => JobsErrorKind::Unreachable,
    };
    Err(unanswered(&error, kind))
}

fn unanswered(error: &Error, kind: JobsErrorKind) -> JobsError {
    // Strangers read this, and an endpoint's own words may repeat its address.
    JobsError { kind, code: error.code(), message: crate::redact::clean(&error.to_string()).into_owned(), advice: error.advice() }
}

#[cfg(test)]
mod tests {
    use milepost_ledger::TokenAmount;

    use super::*;

    const JOB: JobId = JobId(3);

    #[test]
    fn only_what_the_chain_says_of_the_job_is_for_good() {
        let cases = [
            (Error::AnotherHost { job: JOB, expected: Address::ZERO, found: Address([1; 20]) }, JobsErrorKind::AnotherHost, "MP-S-013"),
            (Error::VerifierDemanded { job: JOB, verifier: Address([1; 20]) }, JobsErrorKind::NotServed, "MP-S-014"),
            (Error::NotActive { job: JOB, status: "closing" }, JobsErrorKind::NotServed, "MP-S-015"),
            (Error::ChainAhead { job: JOB, used: 5 }, JobsErrorKind::NotServed, "MP-S-016"),
            (Error::Price { job: JOB, token: Address::ZERO, paid: TokenAmount(1), asked: None }, JobsErrorKind::NotServed, "MP-S-027"),
            (Error::Unreachable { endpoint: "e".into(), what: "a job", reason: "refused".into() }, JobsErrorKind::Unreachable, "MP-S-001"),
            (Error::Answer { what: "a job", answer: "?".into() }, JobsErrorKind::Unreachable, "MP-S-011"),
        ];
        for (error, kind, code) in cases {
            let (text, advice) = (error.to_string(), error.advice());
            assert_eq!(answer(Err(error)), Err(JobsError { kind, code, message: text, advice }));
        }
        assert_eq!(answer(Err(Error::UnknownJob(JOB))), Ok(None));
    }
}
