//! The doors' question to the chain: what was this job funded with?

use futures::FutureExt;
use futures::future::BoxFuture;
use milepost_gateway::{Jobs, JobsError};
use milepost_ledger::{Address, JobId, Terms};
use milepost_settlement::Chain;

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
        async move { self.chain.terms_to_open(job, self.host).await.map_err(|error| JobsError(error.to_string())) }.boxed()
    }
}
