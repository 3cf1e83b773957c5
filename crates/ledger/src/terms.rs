//! What a job was funded with, as read from the chain, and what its payout must be.

use milepost_statement::{Address, ChainId, Digest, TokenCount};
use serde::{Deserialize, Serialize};

use crate::{TokenAmount, UnixSeconds};

/// A job's terms (`SessionTerms` and the marketplace's constants), read from the chain when the job is first seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Chain id.
    pub chain: ChainId,
    /// The marketplace that holds the deposit.
    pub marketplace: Address,
    /// The job's host.
    pub host: Address,
    /// Who paid, and may end the session.
    pub depositor: Address,
    /// Payment token; zero for the chain's coin.
    pub token: Address,
    /// Deposit in the token's smallest unit.
    pub deposit: TokenAmount,
    /// Price of one token, above zero.
    pub price: TokenAmount,
    /// SHA-256 of the model file agreed on.
    pub model: Digest,
    /// Expected tokens per second; the cap is twice that.
    pub rate: u32,
    /// Tokens allowed above the cap.
    pub burst: TokenCount,
    /// Start of the session (block time).
    pub started: UnixSeconds,
    /// Seconds after which anyone may request the close.
    pub max_duration: u64,
    /// Seconds without a claim after which anyone may request the close.
    pub idle_timeout: u64,
    /// Seconds in which claims are accepted after a close was requested.
    pub claim_window: u64,
    /// Least charge once a claim landed.
    pub minimum_charge: TokenAmount,
    /// Least tokens of a claim while the job is active.
    pub min_claim: TokenCount,
    /// Fee in hundredths of a percent, as the contract says.
    pub fee_bps: u16,
    /// Voucher signer and allowance, if the terms name one.
    pub voucher: Option<VoucherTerms>,
    /// Commitment to the client's salt; zero for none.
    pub salt_commitment: Digest,
}

/// Who countersigns the running total, and how far a claim may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherTerms {
    /// The signer.
    pub signer: Address,
    /// Tokens a claim may exceed the last voucher by.
    pub allowance: TokenCount,
}

/// How a deposit was split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Tokens paid for.
    pub tokens: TokenCount,
    /// To the host.
    pub host: TokenAmount,
    /// To the treasury.
    pub treasury: TokenAmount,
    /// Back to the depositor.
    pub refund: TokenAmount,
}

impl Terms {
    /// Tokens the deposit pays for.
    pub fn affordable(&self) -> TokenCount {
        let tokens = self.deposit.0.checked_div(self.price.0).unwrap_or(0);
        TokenCount(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// End of the longest duration: nothing is generated after it, and anyone may request the close.
    pub fn ends(&self) -> UnixSeconds {
        self.started.plus(self.max_duration)
    }

    /// Tokens the rate cap allows to have been claimed in all at `now`: `2 × rate × (now − start) + burst`.
    pub fn rate_cap(&self, now: UnixSeconds) -> TokenCount {
        let seconds = now.since(self.started);
        TokenCount(seconds.saturating_mul(2 * u64::from(self.rate)).saturating_add(self.burst.0))
    }

    /// First moment at which the rate cap allows `tokens` in all: the end of time where the rate is zero and the burst too small.
    pub fn rate_allows_at(&self, tokens: TokenCount) -> UnixSeconds {
        match (tokens.0.saturating_sub(self.burst.0), self.rate) {
            (0, _) => self.started,
            (_, 0) => UnixSeconds(u64::MAX),
            (above, rate) => self.started.plus(above.div_ceil(2 * u64::from(rate))),
        }
    }

    /// The split that the contract must make for `tokens`: fee = floor, host = charge − fee, the rest back. `None` if the
    /// charge would exceed the deposit, which no claim can.
    pub fn payout(&self, tokens: TokenCount) -> Option<Payout> {
        let mut charge = self.price.checked_mul(tokens.0)?;
        if tokens.0 > 0 {
            charge = charge.max(self.minimum_charge.min(self.deposit));
        }
        let refund = self.deposit.0.checked_sub(charge.0)?;
        let fee = mul_div(charge.0, u128::from(self.fee_bps), 10_000);
        Some(Payout { tokens, host: TokenAmount(charge.0 - fee), treasury: TokenAmount(fee), refund: TokenAmount(refund) })
    }
}

/// `a × b / c` rounded down, without overflow for c ≤ 2³² and b ≤ c.
fn mul_div(a: u128, b: u128, c: u128) -> u128 {
    (a / c) * b + (a % c) * b / c
}
