//! Admission: no token is generated that could not be paid.

use milepost_statement::TokenCount;

use crate::{Account, AccountRecord, Phase, TokenAmount, UnixSeconds};

/// The host's own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds before the last moment for a claim in which nothing is generated any more: proving, two fee bumps and
    /// confirmations must fit in.
    pub reserve_seconds: u64,
    /// Most value of unclaimed tokens; `None` where the contract has a closing window.
    pub max_at_risk: Option<TokenAmount>,
}

/// What stopped generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nothing: no terms, nothing is billed.
    Unbilled,
    /// The deposit.
    Deposit,
    /// What the rate cap will have allowed by the deadline.
    RateCap,
    /// The deadline itself.
    Deadline,
    /// The client's vouchers and allowance.
    Voucher,
    /// Unclaimed value.
    AtRisk,
    /// The session is ending, or an operator must look.
    NotOpen,
}

/// How many more tokens could still be proven, claimed and paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Admission {
    /// Tokens.
    pub tokens: TokenCount,
    /// The tightest bound.
    pub bound: Bound,
}

impl Account {
    /// See [`AccountRecord::deadline`].
    pub fn deadline(&self) -> Option<UnixSeconds> {
        self.record.deadline()
    }

    /// See [`AccountRecord::admissible`].
    pub fn admissible(&self, now: UnixSeconds, limits: &Limits) -> Admission {
        self.record.admissible(now, limits)
    }
}

impl AccountRecord {
    /// The last moment at which a claim can land: the end of the closing window, or the longest duration while the job is
    /// active (claims are accepted for longer, but by then anyone may start the window).
    pub fn deadline(&self) -> Option<UnixSeconds> {
        let terms = self.terms.as_ref()?;
        Some(self.claim_until.unwrap_or_else(|| terms.started.plus(terms.max_duration)))
    }

    /// How many more tokens may be generated at `now`. A function of the durable record alone, so that a meter can ask after
    /// every commit without going back to the ledger.
    pub fn admissible(&self, now: UnixSeconds, limits: &Limits) -> Admission {
        if self.phase != Phase::Open || self.halted.is_some() {
            return Admission { tokens: TokenCount::ZERO, bound: Bound::NotOpen };
        }
        let Some(terms) = &self.terms else {
            return Admission { tokens: TokenCount(u64::MAX), bound: Bound::Unbilled };
        };
        let positions = &self.positions;
        let last_claim = UnixSeconds(self.deadline().unwrap_or(now).0.saturating_sub(limits.reserve_seconds));
        if now >= last_claim {
            return Admission { tokens: TokenCount::ZERO, bound: Bound::Deadline };
        }
        let ceilings = [
            (Some(terms.affordable().0), Bound::Deposit),
            (Some(terms.rate_cap(last_claim).0), Bound::RateCap),
            (terms.voucher.map(|voucher| self.voucher.0.saturating_add(voucher.allowance.0)), Bound::Voucher),
            (limits.max_at_risk.map(|risk| positions.landed.0.saturating_add(tokens_worth(risk, terms.price))), Bound::AtRisk),
        ];
        let (ceiling, bound) =
            ceilings.into_iter().filter_map(|(ceiling, bound)| Some((ceiling?, bound))).min_by_key(|(ceiling, _)| *ceiling).unwrap_or((0, Bound::Deposit));
        Admission { tokens: TokenCount(ceiling.saturating_sub(positions.metered.0)), bound }
    }
}

fn tokens_worth(amount: TokenAmount, price: TokenAmount) -> u64 {
    u64::try_from(amount.0 / price.0.max(1)).unwrap_or(u64::MAX)
}
