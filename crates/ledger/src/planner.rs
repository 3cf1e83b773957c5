//! The planner: what a job needs next, as a pure function of the chain's view, the ledger and the clock.

use milepost_statement::{Digest, TokenCount, TokenSeq};

use crate::{Account, BlockRef, ClaimState, Phase, SessionEnd, TokenAmount, UnixSeconds, WriteOff};

/// What the chain says of a job, read at one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainView {
    /// The block.
    pub block: BlockRef,
    /// Its timestamp.
    pub time: UnixSeconds,
    /// Where the session stands.
    pub status: ChainStatus,
    /// Tokens claimed in all.
    pub used: TokenCount,
    /// The transcript head.
    pub head: Digest,
    /// No further claim is accepted (a tail below the minimum was).
    pub closed_to_claims: bool,
}

/// Status of a session on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStatus {
    /// Claims are accepted.
    Active,
    /// The last claims are accepted.
    Closing {
        /// Until then.
        until: UnixSeconds,
    },
    /// Paid out.
    Completed,
}

/// What the operator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanConfig {
    /// Tokens of a claim while the session runs; fewer only when a deadline nears.
    pub claim_tokens: TokenCount,
    /// Most tokens of one claim: bounds proving time and memory.
    pub max_claim_tokens: TokenCount,
    /// Seconds that a claim takes from plan to inclusion, with two fee bumps.
    pub claim_seconds: u64,
    /// Most value of unclaimed tokens before a claim is made, however small; `None` for no such rule.
    pub claim_at_value: Option<TokenAmount>,
}

/// What to do now.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait(WaitFor),
    /// Plan a claim that ends there.
    Claim {
        /// A checkpoint's end.
        until: TokenSeq,
    },
    /// The chain is closing the job: tell the ledger, which ends the session.
    SeeClosing {
        /// End of the window.
        until: UnixSeconds,
    },
    /// End the session here (its deadline is near); nothing was said on chain yet.
    End(SessionEnd),
    /// Send `requestClose`.
    RequestClose,
    /// Send `finalize`.
    Finalize,
    /// The chain has paid out: once that is final, record it. The reason goes with tokens that were not paid.
    Settle {
        /// Why the rest is lost.
        rest: Option<WriteOff>,
    },
    /// The chain knows of tokens or heads that this ledger does not: stop.
    Halt {
        /// What.
        reason: String,
    },
}

/// What a job is waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// More tokens, or the end of the session.
    Tokens,
    /// The claim that is under way.
    Claim,
    /// Our `requestClose` or `finalize`.
    Transaction,
    /// The rate cap, or the pace after a revert.
    Until(UnixSeconds),
    /// An operator.
    Operator,
    /// Nothing: the job is paid.
    Nothing,
}

/// What `account` needs next.
pub fn plan(account: &Account, view: &ChainView, config: &PlanConfig) -> Step {
    let record = &account.record;
    let positions = &record.positions;
    if record.halted.is_some() {
        return Step::Wait(WaitFor::Operator);
    }
    let Some(terms) = &record.terms else {
        return Step::Wait(WaitFor::Nothing);
    };
    if matches!(record.phase, Phase::Paid(_)) {
        return Step::Wait(WaitFor::Nothing);
    }
    if view.used.0 > positions.submitted.0 {
        return Step::Halt { reason: format!("the chain has {} tokens claimed, this ledger submitted {}: another copy of this host claims", view.used, positions.submitted) };
    }
    if view.used.0 == positions.finalized.0 && view.head != record.final_head {
        return Step::Halt { reason: format!("the chain's head at token {} is {}, this ledger's is {}", view.used, view.head, record.final_head) };
    }
    if view.used.0 < positions.finalized.0 {
        return Step::Halt { reason: format!("the chain has {} tokens claimed, but {} were final: a reorganisation below finality", view.used, positions.finalized) };
    }
    match view.status {
        ChainStatus::Completed => return settle(account, view),
        ChainStatus::Closing { until } if record.phase == Phase::Open || record.claim_until != Some(until) => return Step::SeeClosing { until },
        ChainStatus::Active if record.phase == Phase::Open && deadline_is_near(account, view.time, config) => return Step::End(SessionEnd::Deadline),
        _ => {}
    }
    if let Some(claim) = &account.claim {
        // A claim not yet signed that can no longer land must not keep the payout waiting; one that is signed is watched.
        let dead = matches!(claim.state, ClaimState::Planned | ClaimState::Proving | ClaimState::Proven) && window_is_over(view);
        return if dead { Step::Finalize } else { Step::Wait(WaitFor::Claim) };
    }
    if record.finalize.is_some() {
        return Step::Wait(WaitFor::Transaction);
    }
    let unclaimed = positions.sealed - positions.finalized;
    let claimable = unclaimed > TokenCount::ZERO && !view.closed_to_claims && !window_is_over(view);
    match (&record.phase, view.status) {
        (Phase::Open, _) => claim_while_open(account, view, config),
        (Phase::Ending { .. }, ChainStatus::Active) => {
            // Everything of at least the minimum can go now; only a tail needs the closing window, and so does an empty job's refund.
            if unclaimed == TokenCount::ZERO {
                Step::Finalize
            } else if record.close.is_some() {
                Step::Wait(WaitFor::Transaction)
            } else if unclaimed >= terms.min_claim {
                claim_ending(account, view, config)
            } else {
                Step::RequestClose
            }
        }
        (Phase::Ending { .. }, _) if claimable => claim_ending(account, view, config),
        (Phase::Ending { .. }, _) => Step::Finalize,
        (Phase::Paid(_), _) => Step::Wait(WaitFor::Nothing),
    }
}

fn window_is_over(view: &ChainView) -> bool {
    matches!(view.status, ChainStatus::Closing { until } if view.time > until)
}

fn deadline_is_near(account: &Account, now: UnixSeconds, config: &PlanConfig) -> bool {
    account.deadline().is_some_and(|deadline| now.plus(config.claim_seconds) >= deadline)
}

/// A running session: claim when enough has gathered, when its value is high, or when the idle timeout nears.
fn claim_while_open(account: &Account, view: &ChainView, config: &PlanConfig) -> Step {
    let record = &account.record;
    let Some(terms) = &record.terms else { return Step::Wait(WaitFor::Nothing) };
    let unclaimed = record.positions.sealed - record.positions.finalized;
    if unclaimed < terms.min_claim {
        return Step::Wait(WaitFor::Tokens);
    }
    let worth = terms.price.checked_mul(unclaimed.0).unwrap_or(TokenAmount(u128::MAX));
    let enough = unclaimed >= config.claim_tokens || config.claim_at_value.is_some_and(|value| worth >= value);
    if enough { paced(account, view, config, terms.min_claim) } else { Step::Wait(WaitFor::Tokens) }
}

fn claim_ending(account: &Account, view: &ChainView, config: &PlanConfig) -> Step {
    let Some(terms) = &account.record.terms else { return Step::Wait(WaitFor::Nothing) };
    let least = if matches!(view.status, ChainStatus::Closing { .. }) { TokenCount(1) } else { terms.min_claim };
    paced(account, view, config, least)
}

/// The longest run of checkpoints that fits into one claim, once the rate cap allows it. A part is claimed earlier only if it is
/// the largest a claim may be: claiming in bits wastes gas and proofs, and waiting is never forfeited.
fn paced(account: &Account, view: &ChainView, config: &PlanConfig, least: TokenCount) -> Step {
    let record = &account.record;
    let Some(terms) = &record.terms else { return Step::Wait(WaitFor::Nothing) };
    if view.time < record.not_before {
        return Step::Wait(WaitFor::Until(record.not_before));
    }
    let first = record.positions.finalized;
    let limit = first + config.max_claim_tokens;
    let Some(target) = account.last_checkpoint_until(limit).or(account.pending.front()) else {
        return Step::Wait(WaitFor::Tokens);
    };
    let allowed_at = terms.rate_allows_at(target.end() - TokenSeq::ZERO);
    let soon = view.time.plus(config.claim_seconds);
    if allowed_at <= soon {
        let end = without_stranding(account, target.end(), least, view);
        return if end - first < least { Step::Wait(WaitFor::Tokens) } else { Step::Claim { until: end } };
    }
    // Near the end of the window a part is better than nothing.
    if let ChainStatus::Closing { until } = view.status
        && allowed_at > until
    {
        let cap = terms.rate_cap(view.time);
        if let Some(part) = account.last_checkpoint_until(TokenSeq(cap.0)).filter(|part| part.end() - first >= terms.min_claim) {
            return Step::Claim { until: part.end() };
        }
    }
    Step::Wait(WaitFor::Until(allowed_at))
}

/// Hold back: in Closing one tail below the minimum closes the job to further claims, so a claim that is not the last must be
/// of at least the minimum. Runs of whole checkpoints of at least the minimum satisfy that by themselves; a threshold below
/// the minimum does not, and is mended here by taking the run one checkpoint shorter until it does.
fn without_stranding(account: &Account, end: TokenSeq, least: TokenCount, view: &ChainView) -> TokenSeq {
    let Some(terms) = &account.record.terms else { return end };
    let last = account.record.positions.sealed;
    if end == last || !matches!(view.status, ChainStatus::Closing { .. }) || end - account.record.positions.finalized >= terms.min_claim {
        return end;
    }
    let first = account.record.positions.finalized;
    account.pending.iter().map(crate::CheckpointMeta::end).find(|candidate| *candidate - first >= terms.min_claim.max(least)).unwrap_or(last)
}

fn settle(account: &Account, view: &ChainView) -> Step {
    let positions = &account.record.positions;
    if account.record.phase == Phase::Open {
        return Step::End(SessionEnd::OnChain);
    }
    if view.used.0 > positions.finalized.0 {
        // Landed, but our own transaction is not final yet.
        return Step::Wait(WaitFor::Claim);
    }
    let lost = positions.metered.0 - positions.finalized.0;
    let rest = match &account.record.terms {
        _ if lost == 0 => None,
        Some(terms) if lost < terms.min_claim.0 && account.record.claim_until.is_none() => Some(WriteOff::BelowMinimum),
        Some(_) if account.record.claim_until.is_some_and(|until| view.time > until) => Some(WriteOff::TimedOut),
        _ => Some(WriteOff::ClosedEarly),
    };
    Step::Settle { rest }
}
