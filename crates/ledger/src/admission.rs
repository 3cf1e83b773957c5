//! Admission: no token is generated that could not be paid.

use milepost_statement::TokenCount;

use crate::planner::claim_size;
use crate::{Account, AccountRecord, Phase, TokenAmount, TokenSeq, UnixSeconds};

/// Most unclaimed tokens where the contract has no closing window and the operator set no value at risk: the depositor can take them
/// all at any moment by completing the session. Two claims of the usual size: one under way, and one gathering behind it.
pub const MAX_UNCLAIMED_WITHOUT_WINDOW: TokenCount = TokenCount(2_000);

/// The host's own limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Seconds before the last moment for a claim in which nothing is generated any more: the time until a close on chain is
    /// noticed, and one claim from plan to finality (proving, two fee bumps, confirmations), must fit in.
    pub reserve_seconds: u64,
    /// Most value of unclaimed tokens. `None`: no bound where the contract has a closing window, else
    /// [`MAX_UNCLAIMED_WITHOUT_WINDOW`].
    pub max_at_risk: Option<TokenAmount>,
    /// How fast claims follow one another; `None` where that is no limit.
    pub pace: Option<ClaimPace>,
    /// The prover that all jobs of the host share; `None` where proofs take no time.
    pub shared: Option<SharedProver>,
}

/// One prover, all jobs. If every session is closed at this moment, all that is not submitted yet must be proven, one claim after
/// the other, within the closing window. Counted in *quarter claims*: a full claim is four, and the smallest is one, because even
/// the smallest proof takes about a quarter of a full one's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedProver {
    /// Seconds that the proof of a full claim takes, above zero.
    pub proof_seconds: u64,
    /// Most tokens of one claim ([`crate::PlanConfig::max_claim_tokens`]).
    pub max_claim_tokens: TokenCount,
    /// Quarter claims that all other jobs would need now ([`SharedProver::quarters`]).
    pub others: u64,
}

impl SharedProver {
    /// Quarter claims that so many tokens without a submitted claim need: at least one if there are any.
    pub fn quarters(tokens: TokenCount, max_claim_tokens: TokenCount) -> u64 {
        tokens.0.saturating_mul(4).div_ceil(max_claim_tokens.0.max(1))
    }

    /// Quarter claims that can be proven in so many seconds.
    pub fn capacity(&self, seconds: u64) -> u64 {
        seconds.saturating_mul(4) / self.proof_seconds.max(1)
    }

    /// Tokens of one job that the prover still has time for beside the others.
    fn room(&self, seconds: u64) -> u64 {
        let quarters = self.capacity(seconds).saturating_sub(self.others);
        quarters.saturating_mul(self.max_claim_tokens.0) / 4
    }
}

/// How fast one job's claims follow one another: each begins when the one before is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimPace {
    /// Most tokens of one claim ([`crate::PlanConfig::max_claim_tokens`]).
    pub max_claim_tokens: TokenCount,
    /// Seconds of one claim from plan to finality.
    pub seconds: u64,
}

/// What stopped generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nothing: no terms, nothing is billed.
    Unbilled,
    /// The deposit.
    Deposit,
    /// What the rate cap will have allowed by the deadline, or by the end of the window if the session were closed now.
    RateCap,
    /// The claims that a closing window has time for, for this job or for all jobs of the host together.
    Proving,
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

    /// See [`AccountRecord::voucher_ceiling`].
    pub fn voucher_ceiling(&self) -> Option<TokenSeq> {
        self.record.voucher_ceiling()
    }

    /// How far a claim may reach where the rate cap allows `cap` tokens in all.
    pub(crate) fn claim_ceiling(&self, cap: TokenCount) -> TokenSeq {
        self.voucher_ceiling().map_or(TokenSeq(cap.0), |ceiling| ceiling.min(TokenSeq(cap.0)))
    }
}

// Functions of the durable record alone, so that a meter can ask after every commit without going back to the ledger.
impl AccountRecord {
    /// The last moment at which a claim can land: the end of the closing window, which anyone may start once the longest duration
    /// has passed. Without a window that moment itself.
    pub fn deadline(&self) -> Option<UnixSeconds> {
        let terms = self.terms.as_ref()?;
        Some(self.claim_until.unwrap_or_else(|| terms.ends().plus(terms.claim_window)))
    }

    /// How many more tokens may be generated at `now`. The depositor may close at any moment: what is unclaimed then must fit
    /// into the closing window, by the rate cap and by the time that claims take.
    pub fn admissible(&self, now: UnixSeconds, limits: &Limits) -> Admission {
        if self.phase != Phase::Open || self.halted.is_some() {
            return Admission { tokens: TokenCount::ZERO, bound: Bound::NotOpen };
        }
        let Some(terms) = &self.terms else {
            return Admission { tokens: TokenCount(u64::MAX), bound: Bound::Unbilled };
        };
        let positions = &self.positions;
        let last_claim = UnixSeconds(self.deadline().unwrap_or(now).0.saturating_sub(limits.reserve_seconds));
        if now >= last_claim.min(terms.ends()) {
            return Admission { tokens: TokenCount::ZERO, bound: Bound::Deadline };
        }
        // Without a window a close forfeits all that is unclaimed: `max_at_risk` bounds that, the rate cap cannot.
        let window = (terms.claim_window > 0).then(|| terms.claim_window.saturating_sub(limits.reserve_seconds));
        let if_closed_now = window.map_or(last_claim, |seconds| now.plus(seconds)).min(last_claim);
        let in_window = limits.pace.zip(window).map(|(pace, seconds)| {
            // One round goes to the claim that is under way, which may be a small one.
            let rounds = (seconds / pace.seconds.max(1)).saturating_sub(1).max(1);
            let size = claim_size(self.threshold, terms.min_claim, pace.max_claim_tokens);
            positions.finalized.0.saturating_add(size.0.saturating_mul(rounds))
        });
        let rate_cap = match terms.deployed {
            None => terms.rate_cap(if_closed_now).0,
            // Counted from the last proof, which may be made at any moment: only the time that is left is sure to be had.
            Some(_) => positions.finalized.0.saturating_add(if_closed_now.since(now).saturating_mul(2 * u64::from(terms.rate))),
        };
        let unclaimed = match limits.max_at_risk {
            Some(risk) => Some(terms.worth_of(risk)),
            None => (terms.claim_window == 0).then_some(MAX_UNCLAIMED_WITHOUT_WINDOW),
        };
        // Whoever finds the prover taken by others may still run for one claim: a host that serves many small jobs must not stand
        // still because each of them holds a little.
        let beside_others = limits
            .shared
            .zip(window)
            .map(|(shared, seconds)| positions.submitted.0.saturating_add(shared.room(seconds).max(terms.min_claim.0)));
        let ceilings = [
            (Some(terms.affordable().0), Bound::Deposit),
            (Some(rate_cap), Bound::RateCap),
            (in_window, Bound::Proving),
            (beside_others, Bound::Proving),
            (self.voucher_ceiling().map(|ceiling| ceiling.0), Bound::Voucher),
            (unclaimed.map(|tokens| positions.landed.0.saturating_add(tokens.0)), Bound::AtRisk),
        ];
        let (ceiling, bound) = ceilings
            .into_iter()
            .filter_map(|(ceiling, bound)| Some((ceiling?, bound)))
            .min_by_key(|(ceiling, _)| *ceiling)
            .unwrap_or((0, Bound::Deposit));
        Admission { tokens: TokenCount(ceiling.saturating_sub(positions.metered.0)), bound }
    }

    /// How far claims may reach by the client's vouchers; `None` where the terms name no signer.
    pub fn voucher_ceiling(&self) -> Option<TokenSeq> {
        let voucher = self.terms.as_ref()?.voucher?;
        Some(TokenSeq(self.voucher.0.saturating_add(voucher.allowance.0)))
    }
}
