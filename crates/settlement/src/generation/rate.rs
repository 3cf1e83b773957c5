//! The rate cap of a deployed marketplace, which no getter tells: measured by calls that change nothing.
//!
//! A claim is tried as if it were made so many seconds after the session's last proof (the block's time is set for the trial). The
//! deployed ones check the rate before deposit and proof, and name it when it refuses: the greatest number of tokens that is not
//! refused for its rate is the cap.

use alloy::eips::BlockId;
use alloy::primitives::Bytes;
use milepost_ledger::{JobId, UnixSeconds};

use super::forms::{Refusal, refusal};
use super::session::Session;
use crate::Error;
use crate::chain::Chain;

/// Seconds after the last proof at which claims are tried: long enough that the cap is told to a hundredth of a token per second.
const AFTER: u64 = 100;
/// Rates of the generations we know, tried first: three pairs of calls instead of thirty.
const KNOWN: [u64; 3] = [10, 1_000, 2_000];
/// No engine generates faster; a contract that allows more has no cap that matters.
const MOST: u64 = 1_000_000;
/// What every generation allows, taken where an endpoint does not try calls at another time: too slow is safe.
const LEAST: u32 = 10;

/// Expected tokens per second; the cap is twice that.
pub(super) async fn of(chain: &Chain, job: JobId, session: &Session, block: BlockId, data: impl Fn(u64) -> Bytes) -> Result<u32, Error> {
    if let Some(known) = chain.known_rate() {
        return Ok(known);
    }
    let trial = Trial { chain, session, block, data };
    match trial.measure().await {
        Ok(Some(rate)) => {
            tracing::info!(event = "rate_measured", job = %job, tokens_per_second = rate, "the marketplace's rate was measured");
            chain.know_rate(rate);
            Ok(rate)
        }
        Ok(None) => Ok(LEAST),
        Err(error @ Error::Unreachable { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(event = "rate_unknown", job = %job, %error, tokens_per_second = LEAST, "the endpoint does not try calls at another time; the least rate of all generations is kept");
            Ok(LEAST)
        }
    }
}

struct Trial<'a, D> {
    chain: &'a Chain,
    session: &'a Session,
    block: BlockId,
    data: D,
}

impl<D: Fn(u64) -> Bytes> Trial<'_, D> {
    /// `None` where trials tell nothing: the session is over, or time cannot be set.
    async fn measure(&self) -> Result<Option<u32>, Error> {
        // At once nothing is allowed; if something is, the endpoint does not set the time.
        if self.allowed(MOST, 0).await? {
            return Ok(None);
        }
        for rate in KNOWN {
            let cap = 2 * rate * AFTER;
            if self.allowed(cap, AFTER).await? && !self.allowed(cap + 1, AFTER).await? {
                return Ok(u32::try_from(rate).ok());
            }
        }
        let (mut allowed, mut refused) = (0, 2 * MOST * AFTER);
        if self.allowed(refused, AFTER).await? {
            return Ok(u32::try_from(MOST).ok());
        }
        while refused - allowed > 1 {
            let middle = allowed + (refused - allowed) / 2;
            if self.allowed(middle, AFTER).await? {
                allowed = middle;
            } else {
                refused = middle;
            }
        }
        Ok(u32::try_from(allowed / (2 * AFTER)).ok().filter(|rate| *rate > 0))
    }

    /// Whether so many tokens would not be refused for their rate.
    async fn allowed(&self, tokens: u64, after: u64) -> Result<bool, Error> {
        let time = UnixSeconds(self.session.last_proof.0 + after);
        let refused = self.chain.trial(self.session.host, (self.data)(tokens), self.block, time).await?;
        Ok(refused.is_none_or(|revert| refusal(&revert.text) != Refusal::TooFast))
    }
}
