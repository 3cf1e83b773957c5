//! What the marketplace logged.

use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use milepost_ledger::{BlockRef, Digest, JobId, Payout, TokenCount, TokenSeq, UnixSeconds};

use super::Chain;
use crate::Error;
use crate::convert::digest;

/// Blocks asked for at once: below the limits of the public endpoints we know.
const LOG_PAGE: u64 = 1_000;
/// Pages walked back for a job's events at most: a year of 2-second blocks would be 16,000; sessions are far shorter.
const MAX_PAGES: usize = 20_000;

/// `ProofOfWork`, in deployed generations `ProofSubmitted`: a claim that landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandedClaim {
    /// Its block.
    pub block: BlockRef,
    /// Its transaction.
    pub tx: Digest,
    /// Tokens claimed.
    pub count: TokenCount,
    /// Tokens claimed in all after it.
    pub used: TokenSeq,
    /// The head after it; `None` where the contract keeps none.
    pub head: Option<Digest>,
    /// Kind of proof; 0 where the contract does not say.
    pub kind: u8,
}

/// `SessionCompleted`: a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Its block.
    pub block: BlockRef,
    /// Its transaction.
    pub tx: Digest,
    /// The split.
    pub payout: Payout,
}

impl Chain {
    /// Jobs about which the marketplace logged something in these blocks.
    pub(crate) async fn touched(&self, from: u64, to: u64) -> Result<Vec<JobId>, Error> {
        let mut jobs = Vec::new();
        let mut first = from;
        while first <= to {
            let last = to.min(first + LOG_PAGE - 1);
            let logs = self.logs(Filter::new().from_block(first).to_block(last)).await?;
            // Topic 1 is the job in every event about a job.
            jobs.extend(
                logs.iter()
                    .filter_map(|log| log.topics().get(1))
                    .filter_map(|topic| u64::try_from(U256::from_be_bytes(topic.0)).ok())
                    .map(JobId),
            );
            first = last + 1;
        }
        jobs.sort_unstable();
        jobs.dedup();
        Ok(jobs)
    }

    /// The job's payout, looked for from block `to` back to the session's start. `None` if there is none.
    pub async fn completed(&self, job: JobId, to: u64, started: UnixSeconds) -> Result<Option<Completed>, Error> {
        let adapter = self.adapter().await?;
        let logs = self.back_to(job, adapter.end_topics(), to, started, true).await?;
        let Some(log) = logs.first() else { return Ok(None) };
        let (block, tx) = place(log)?;
        let payout = match adapter.payout_of(log)? {
            Some(payout) => payout,
            // What is over does not change: the newest state tells what was paid.
            None => match self.job(job).await?.and_then(|found| found.paid) {
                Some(payout) => payout,
                None => return Err(Error::Answer { what: "a completed job", answer: "that it is not completed".to_owned() }),
            },
        };
        Ok(Some(Completed { block, tx, payout }))
    }

    /// The job's claims up to block `to`, oldest first.
    pub async fn landed(&self, job: JobId, to: u64, started: UnixSeconds) -> Result<Vec<LandedClaim>, Error> {
        let adapter = self.adapter().await?;
        let mut logs = self.back_to(job, adapter.claim_topics(), to, started, false).await?;
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let mut sum = TokenSeq::ZERO;
        let landed = logs.iter().map(|log| -> Result<LandedClaim, Error> {
            let (block, tx) = place(log)?;
            let claim = adapter.claim_of(log)?;
            sum += claim.count;
            // Where the log does not say how many there are in all, it is those before it and its own.
            let used = claim.used.unwrap_or(sum);
            Ok(LandedClaim { block, tx, count: claim.count, used, head: claim.head, kind: claim.kind })
        });
        landed.collect()
    }

    async fn back_to(&self, job: JobId, topics: Vec<B256>, to: u64, started: UnixSeconds, first_only: bool) -> Result<Vec<Log>, Error> {
        let mut found = Vec::new();
        let mut last = to;
        for _ in 0..MAX_PAGES {
            let first = last.saturating_sub(LOG_PAGE - 1);
            let filter = Filter::new().event_signature(topics.clone()).topic1(U256::from(job.0)).from_block(first).to_block(last);
            found.extend(self.logs(filter).await?);
            if first == 0 || (first_only && !found.is_empty()) || self.time_of(first).await? < started {
                return Ok(found);
            }
            last = first - 1;
        }
        Err(Error::Answer { what: "a job's logs", answer: format!("no block before the session's start within {MAX_PAGES} pages") })
    }

    async fn time_of(&self, number: u64) -> Result<UnixSeconds, Error> {
        use alloy::consensus::BlockHeader as _;
        let what = "a block's time";
        let block = self.ask(what, self.provider().get_block_by_number(number.into()).into_future()).await?;
        block.map(|block| UnixSeconds(block.header.timestamp())).ok_or(Error::Answer { what, answer: format!("no block {number}") })
    }

    async fn logs(&self, filter: Filter) -> Result<Vec<Log>, Error> {
        let filter = filter.address(crate::convert::evm(self.marketplace()));
        let provider = self.provider();
        self.ask("the marketplace's logs", async { provider.get_logs(&filter).await }).await
    }
}

fn place(log: &Log) -> Result<(BlockRef, Digest), Error> {
    let place = (log.block_number.zip(log.block_hash)).zip(log.transaction_hash);
    let ((number, hash), tx) = place.ok_or(Error::Answer { what: "a log", answer: "no block or transaction".to_owned() })?;
    Ok((BlockRef { number, hash: digest(hash) }, digest(tx)))
}
