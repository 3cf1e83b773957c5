//! The doors' question to the chain: what was this job funded with?

use alloy::providers::Provider as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use milepost_bundle::link::MAX_LINK_HEADERS;
use milepost_bundle::{Certificate, Header, Inclusion};
use milepost_gateway::{Asked, Jobs, JobsError, JobsErrorKind, is_quoted};
use milepost_ledger::{Address, BlockRef, Digest, JobId, Statement, Terms};
use milepost_settlement::{Chain, Error};
use milepost_statement::{Domain, Quote};

/// How long the endpoint may take for one header.
const HEADER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

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

    fn terms_quoted(&self, job: JobId, quote: Quote) -> BoxFuture<'_, Result<Option<Terms>, JobsError>> {
        async move {
            match self.chain.terms_to_open(job, self.host).await {
                // The price is the last thing looked at: all else about the job is as it should be.
                Err(Error::Price { asked, .. }) => match self.chain.terms(job).await {
                    Ok(Some(terms)) if is_quoted(&terms, &quote) => Ok(Some(terms)),
                    Ok(Some(terms)) => answer(Err(Error::Price { job, token: terms.token, paid: terms.price, asked })),
                    found => answer(found),
                },
                found => answer(found),
            }
        }
        .boxed()
    }

    fn domain(&self) -> Option<Domain> {
        Some(Domain { chain_id: self.chain.chain_id(), marketplace: self.chain.marketplace() })
    }

    fn asked(&self, model: Digest, token: Address) -> BoxFuture<'_, Result<Option<Asked>, JobsError>> {
        async move {
            let prices = self.chain.prices_of(self.host, model).await.map_err(|error| unanswered(&error, JobsErrorKind::Unreachable))?;
            let domain = Domain { chain_id: self.chain.chain_id(), marketplace: self.chain.marketplace() };
            let price = prices.into_iter().find(|(found, _)| *found == token).map(|(_, price)| price);
            Ok(price.map(|price| Asked { domain, host: self.host, price }))
        }
        .boxed()
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

    fn certificate(&self, block: BlockRef) -> BoxFuture<'_, Result<Option<Certificate>, JobsError>> {
        async move {
            let (Some(set_file), Some(certified)) = (self.chain.agreement(), self.chain.certificate_of(block.number)) else {
                return Ok(None);
            };
            let top = certified.height().0;
            if top.saturating_sub(block.number) > MAX_LINK_HEADERS as u64 {
                return Ok(None);
            }
            let mut link = Vec::new();
            for height in block.number + 1..=top {
                let Some(header) = self.header(height).await? else { return Ok(None) };
                link.push(header);
            }
            let found = Certificate { set_file, bytes: certified.certificate().encode(), link };
            Ok(leads_there(block, &found, Digest(certified.checkpoint().hash.0)).then_some(found))
        }
        .boxed()
    }
}

impl ChainJobs {
    /// The canonical block's header; `None` where the endpoint knows none, or one with fields that are not known here.
    async fn header(&self, height: u64) -> Result<Option<Vec<u8>>, JobsError> {
        let asked =
            self.chain.provider().raw_request::<_, serde_json::Value>("eth_getBlockByNumber".into(), (format!("{height:#x}"), false));
        let unreachable = |reason: String| {
            let error = Error::Unreachable { endpoint: self.chain.endpoint().to_owned(), what: "a block", reason };
            unanswered(&error, JobsErrorKind::Unreachable)
        };
        let block = tokio::time::timeout(HEADER_TIMEOUT, asked).await.map_err(|_| unreachable("it took too long".to_owned()))?;
        let block = block.map_err(|error| unreachable(error.to_string()))?;
        Ok(milepost_bundle::rpc::header(&block).ok())
    }
}

/// Whether headers lead from a block to the certified one: between two questions the chain may have been reorganised.
fn leads_there(block: BlockRef, certificate: &Certificate, certified: Digest) -> bool {
    let ends = certificate.link.last().map_or(Ok(block.hash), |header| Header::read(header).map(|header| header.hash));
    let begins = certificate.link.first().is_none_or(|header| Header::read(header).is_ok_and(|header| header.parent == block.hash));
    begins && ends == Ok(certified)
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
