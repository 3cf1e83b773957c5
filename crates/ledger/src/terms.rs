//! What a job was funded with, as read from the chain, and what its payout must be.

use milepost_statement::{Address, ChainId, Digest, TokenCount, TokenSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{TokenAmount, UnixSeconds};

/// A job's terms (`SessionTerms` and the marketplace's constants), read from the chain when the job is first seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
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
    /// Price of one token, above zero; of [`Deployed::price_precision`] tokens on a marketplace that is not ours.
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
    /// The rules of a marketplace of another generation than ours; `None` for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployed: Option<Deployed>,
}

/// What is otherwise on the marketplaces that others deployed: the rate counts from the last proof, so that allowance which a claim
/// did not need is forfeited; there is no closing window and there are no vouchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Tokens that [`Terms::price`] pays for, at least 1.
    pub price_precision: u64,
    /// Seconds from the session's start before which only the depositor may complete it.
    pub dispute_window: u64,
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
        self.worth_of(self.deposit)
    }

    /// Tokens that `amount` pays for.
    pub fn worth_of(&self, amount: TokenAmount) -> TokenCount {
        let tokens = amount.0.saturating_mul(self.precision()).checked_div(self.price.0).unwrap_or(0);
        TokenCount(u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// What so many tokens cost, rounded down; `None` beyond 128 bits.
    pub fn charge(&self, tokens: TokenCount) -> Option<TokenAmount> {
        Some(TokenAmount(self.price.checked_mul(tokens.0)?.0 / self.precision()))
    }

    fn precision(&self) -> u128 {
        self.deployed.map_or(1, |rules| u128::from(rules.price_precision.max(1)))
    }

    /// Before this moment a host cannot complete the session.
    pub fn completable_from(&self) -> UnixSeconds {
        self.deployed.map_or(self.started, |rules| self.started.plus(rules.dispute_window))
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

    /// First moment at which the rate cap allows the claim from `first` to `end`, where `last` is the job's last proof (its start
    /// before the first).
    pub fn claim_allowed_at(&self, first: TokenSeq, end: TokenSeq, last: UnixSeconds) -> UnixSeconds {
        match (self.deployed, self.rate) {
            (None, _) => self.rate_allows_at(end - TokenSeq::ZERO),
            (Some(_), 0) => UnixSeconds(u64::MAX),
            (Some(_), rate) => last.plus((end - first).0.div_ceil(2 * u64::from(rate))),
        }
    }

    /// The split that the contract must make for `tokens`: fee = floor, host = charge − fee, the rest back. `None` if the
    /// charge would exceed the deposit, which no claim can.
    pub fn payout(&self, tokens: TokenCount) -> Option<Payout> {
        let mut charge = self.charge(tokens)?;
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

// `serde(remote)` above gives `Terms` functions that go by the names of its fields; stored records go by their order.
impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            Self::serialize(self, serializer)
        } else {
            stored::Terms::from(self.clone()).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Self::deserialize(deserializer)
        } else {
            stored::Terms::deserialize(deserializer).map(Self::from)
        }
    }
}

/// Terms as they are stored. Records are positional, so that a new field would make every older record unreadable; instead the rules
/// of other generations stand where the voucher does, which those do not have, under a number of their own. What was written before
/// reads as it did, and what is written for our own marketplace has not changed by a byte.
mod stored {
    use milepost_statement::{Address, ChainId, Digest, TokenCount};
    use serde::{Deserialize, Serialize};

    use super::{Deployed, VoucherTerms};
    use crate::{TokenAmount, UnixSeconds};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Terms {
        chain: ChainId,
        marketplace: Address,
        host: Address,
        depositor: Address,
        token: Address,
        deposit: TokenAmount,
        price: TokenAmount,
        model: Digest,
        rate: u32,
        burst: TokenCount,
        started: UnixSeconds,
        max_duration: u64,
        idle_timeout: u64,
        claim_window: u64,
        minimum_charge: TokenAmount,
        min_claim: TokenCount,
        fee_bps: u16,
        rules: Rules,
        salt_commitment: Digest,
    }

    /// The first two are numbered as an `Option<VoucherTerms>` is.
    #[derive(Serialize, Deserialize)]
    enum Rules {
        NoVoucher,
        Voucher(VoucherTerms),
        Deployed(Deployed),
    }

    impl From<Terms> for super::Terms {
        fn from(stored: Terms) -> Self {
            let (voucher, deployed) = match stored.rules {
                Rules::NoVoucher => (None, None),
                Rules::Voucher(voucher) => (Some(voucher), None),
                Rules::Deployed(rules) => (None, Some(rules)),
            };
            Self {
                chain: stored.chain,
                marketplace: stored.marketplace,
                host: stored.host,
                depositor: stored.depositor,
                token: stored.token,
                deposit: stored.deposit,
                price: stored.price,
                model: stored.model,
                rate: stored.rate,
                burst: stored.burst,
                started: stored.started,
                max_duration: stored.max_duration,
                idle_timeout: stored.idle_timeout,
                claim_window: stored.claim_window,
                minimum_charge: stored.minimum_charge,
                min_claim: stored.min_claim,
                fee_bps: stored.fee_bps,
                voucher,
                salt_commitment: stored.salt_commitment,
                deployed,
            }
        }
    }

    impl From<super::Terms> for Terms {
        fn from(terms: super::Terms) -> Self {
            let rules = match (terms.deployed, terms.voucher) {
                (Some(rules), _) => Rules::Deployed(rules),
                (None, Some(voucher)) => Rules::Voucher(voucher),
                (None, None) => Rules::NoVoucher,
            };
            Self {
                chain: terms.chain,
                marketplace: terms.marketplace,
                host: terms.host,
                depositor: terms.depositor,
                token: terms.token,
                deposit: terms.deposit,
                price: terms.price,
                model: terms.model,
                rate: terms.rate,
                burst: terms.burst,
                started: terms.started,
                max_duration: terms.max_duration,
                idle_timeout: terms.idle_timeout,
                claim_window: terms.claim_window,
                minimum_charge: terms.minimum_charge,
                min_claim: terms.min_claim,
                fee_bps: terms.fee_bps,
                rules,
                salt_commitment: terms.salt_commitment,
            }
        }
    }
}
