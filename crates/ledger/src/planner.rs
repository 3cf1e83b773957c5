//! The planner: what a job needs next, as a pure function of the chain's view, the ledger and the clock.

use milepost_statement::{Digest, TokenCount, TokenSeq};

use crate::admission::MAX_UNCLAIMED_WITHOUT_WINDOW;
use crate::{Account, BlockRef, CheckpointMeta, Claim, ClaimState, Phase, SessionEnd, Terms, TokenAmount, UnixSeconds, WriteOff};

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
    /// Tokens of a claim while the session runs; fewer only when its value is high or the idle timeout nears.
    pub claim_tokens: TokenCount,
    /// Most tokens of one claim: bounds proving time and memory. Exceeded by less than a checkpoint where the contract's minimum
    /// asks for it.
    pub max_claim_tokens: TokenCount,
    /// Seconds that a claim takes from plan to inclusion, with two fee bumps.
    pub claim_seconds: u64,
    /// Most value of unclaimed tokens before a claim is made, however small; `None` for no such rule. Where admission bounds the
    /// value at risk, this must be reached before that bound is, or generation waits until the idle timeout nears.
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
    /// The chain knows of tokens or heads that this ledger does not, or refuses what it must accept: stop.
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
    /// A time at which to look again: the rate cap, the pace after a revert, or the end of the window.
    Until(UnixSeconds),
    /// A view of the chain at this height or above: the one given is older than what is final.
    Block(u64),
    /// An operator.
    Operator,
    /// Nothing: the job is paid.
    Nothing,
}

/// Most reverts of our own close or finalize before an operator must look. A revert because somebody else closed or finalized
/// first needs no second attempt; one that repeats has a cause that attempts do not mend.
pub const MAX_CLOSING_REVERTS: u32 = 3;

/// What `account` needs next.
pub fn plan(account: &Account, view: &ChainView, config: &PlanConfig) -> Step {
    let record = &account.record;
    if record.halted.is_some() {
        return Step::Wait(WaitFor::Operator);
    }
    let Some(terms) = &record.terms else {
        return Step::Wait(WaitFor::Nothing);
    };
    if matches!(record.phase, Phase::Paid(_)) {
        return Step::Wait(WaitFor::Nothing);
    }
    if let Some(newest) = record.final_block
        && view.block.number < newest.number
    {
        return Step::Wait(WaitFor::Block(newest.number));
    }
    if let Some(reason) = stranger(account, view) {
        return Step::Halt { reason };
    }
    match view.status {
        ChainStatus::Completed => return settle(account, view),
        ChainStatus::Closing { until } if record.phase == Phase::Open || record.claim_until != Some(until) => {
            return Step::SeeClosing { until };
        }
        ChainStatus::Active if record.phase == Phase::Open && deadline_is_near(account, terms, view.time, config) => {
            return Step::End(SessionEnd::Deadline);
        }
        _ => {}
    }
    if let Some(claim) = &account.claim {
        return match view.status {
            // One that is signed is watched until the chain has resolved it.
            _ if matches!(claim.state, ClaimState::Submitted(_)) => Step::Wait(WaitFor::Claim),
            // One that can no longer land must not keep the payout waiting.
            _ if window_is_over(view) => finalize(account, view),
            // A tail was planned for a closing that a reorganisation took back.
            ChainStatus::Active if claim.statement.count < terms.min_claim => request_close(account, view),
            _ => Step::Wait(WaitFor::Claim),
        };
    }
    if record.finalize.is_some() {
        return Step::Wait(WaitFor::Transaction);
    }
    let unclaimed = record.positions.sealed - record.positions.finalized;
    match (&record.phase, view.status) {
        (Phase::Open, _) => claim_while_open(account, terms, view, config),
        // Everything of at least the minimum can go now; only a tail needs the closing window.
        (_, ChainStatus::Active) if unclaimed == TokenCount::ZERO => finalize(account, view),
        (_, ChainStatus::Active) if record.close.is_some() => request_close(account, view),
        (_, ChainStatus::Active) => match next_claim(account, terms, view, config) {
            Next::Step(step) => step,
            // Without a window a close changes nothing for what is left.
            Next::Never if terms.claim_window == 0 => finalize(account, view),
            Next::Never => request_close(account, view),
        },
        _ if unclaimed == TokenCount::ZERO || view.closed_to_claims || window_is_over(view) => finalize(account, view),
        _ => match next_claim(account, terms, view, config) {
            Next::Step(step) => step,
            Next::Never => finalize(account, view),
        },
    }
}

/// What the chain knows and this ledger does not. With one unresolved claim at a time the chain has either landed it or not.
fn stranger(account: &Account, view: &ChainView) -> Option<String> {
    let record = &account.record;
    let positions = &record.positions;
    let (used, last, submitted) = (view.used.0, positions.finalized.0, positions.submitted.0);
    if used > submitted {
        return Some(format!("the chain has {used} tokens claimed, this ledger submitted {submitted}: another copy of this host claims"));
    }
    if used < last {
        return Some(format!("the chain has {used} tokens claimed, but {last} were final: a reorganisation below finality"));
    }
    let head = if used == last {
        Some(record.final_head)
    } else {
        account.claim.as_ref().filter(|claim| claim.statement.end().0 == used).map(head_after)
    };
    match head {
        Some(head) if head == view.head => None,
        Some(head) => Some(format!("the chain's head at token {used} is {}, this ledger's is {head}", view.head)),
        None => Some(format!("the chain has {used} tokens claimed, where no claim of this ledger ends")),
    }
}

fn head_after(claim: &Claim) -> Digest {
    claim.statement.head_after
}

/// A claim signed now lands in a later block, so the window is over for it when the view stands at its end.
fn window_is_over(view: &ChainView) -> bool {
    matches!(view.status, ChainStatus::Closing { until } if view.time >= until)
}

/// With a closing window the session runs its full length, without one its last claim must fit in before the end.
fn deadline_is_near(account: &Account, terms: &Terms, now: UnixSeconds, config: &PlanConfig) -> bool {
    now >= terms.ends() || account.deadline().is_some_and(|deadline| now.plus(config.claim_seconds) >= deadline)
}

fn request_close(account: &Account, view: &ChainView) -> Step {
    if account.record.close.is_some() { Step::Wait(WaitFor::Transaction) } else { closing_step(account, view, Step::RequestClose) }
}

fn finalize(account: &Account, view: &ChainView) -> Step {
    if account.record.finalize.is_some() { Step::Wait(WaitFor::Transaction) } else { closing_step(account, view, Step::Finalize) }
}

/// `step`, unless it reverted before and must wait, or did so too often.
fn closing_step(account: &Account, view: &ChainView, step: Step) -> Step {
    let record = &account.record;
    if record.closing_reverts >= MAX_CLOSING_REVERTS {
        return Step::Halt { reason: format!("requestClose or finalize reverted {} times", record.closing_reverts) };
    }
    let completable = record.terms.as_ref().map_or(record.not_before, Terms::completable_from);
    let not_before = if step == Step::Finalize { record.not_before.max(completable) } else { record.not_before };
    if view.time < not_before { Step::Wait(WaitFor::Until(not_before)) } else { step }
}

/// Anybody may end the session soon, because no claim was made for so long.
fn idle_is_near(account: &Account, terms: &Terms, view: &ChainView, config: &PlanConfig) -> bool {
    heeds_idle(terms, config) && view.time.plus(config.claim_seconds) >= account.record.last_claim.plus(terms.idle_timeout)
}

/// A running session: claim when enough has gathered, when its value is high, or when the idle timeout nears.
fn claim_while_open(account: &Account, terms: &Terms, view: &ChainView, config: &PlanConfig) -> Step {
    let unclaimed = account.record.positions.sealed - account.record.positions.finalized;
    let worth = terms.charge(unclaimed).unwrap_or(TokenAmount(u128::MAX));
    // Waiting for more than one claim can hold would be waiting for nothing, and so would be waiting for what is not admitted.
    let admitted = if terms.claim_window == 0 { TokenCount(MAX_UNCLAIMED_WITHOUT_WINDOW.0 / 2) } else { TokenCount(u64::MAX) };
    let full = claim_size(account.record.threshold, terms.min_claim, config.max_claim_tokens).min(admitted.max(terms.min_claim));
    let enough = unclaimed >= config.claim_tokens.min(full);
    if !(enough || idle_is_near(account, terms, view, config) || config.claim_at_value.is_some_and(|value| worth >= value)) {
        return Step::Wait(WaitFor::Tokens);
    }
    match next_claim(account, terms, view, config) {
        Next::Step(step) => step,
        Next::Never => Step::Wait(WaitFor::Tokens),
    }
}

/// Whether claims are made to keep the session from being called idle. One that is called idle after less than two claims take would
/// be claimed without end, each checkpoint at the price of a proof and a transaction, and might be called idle all the same: there the
/// closing window is relied on. Without a window an idle session loses what is unclaimed, whatever a claim costs.
fn heeds_idle(terms: &Terms, config: &PlanConfig) -> bool {
    terms.claim_window == 0 || terms.idle_timeout >= config.claim_seconds.saturating_mul(2)
}

/// Tokens of a full claim: as many whole checkpoints as `max_claim` holds, but no fewer than reach `min_claim`, and at least one.
pub(crate) fn claim_size(threshold: u32, min_claim: TokenCount, max_claim: TokenCount) -> TokenCount {
    let threshold = u64::from(threshold.max(1));
    let checkpoints = (max_claim.0 / threshold).max(min_claim.0.div_ceil(threshold)).max(1);
    TokenCount(checkpoints.saturating_mul(threshold))
}

enum Next {
    /// Claim, or wait for the time to do so.
    Step(Step),
    /// No claim can be made while things stand as they do.
    Never,
}

/// The longest run of checkpoints that fits into one claim, as soon as the rate cap will allow it by the time it is proven.
/// Claiming in bits wastes gas and proofs, and waiting is never forfeited; but in the closing window only what the cap allows
/// before its end can be had at all.
fn next_claim(account: &Account, terms: &Terms, view: &ChainView, config: &PlanConfig) -> Next {
    let record = &account.record;
    let reachable = match view.status {
        ChainStatus::Closing { until } => {
            // With time to prove it, or else whatever the end of the window allows.
            let in_time = UnixSeconds(until.0.saturating_sub(config.claim_seconds)).max(view.time);
            let reach = |at: UnixSeconds| account.last_checkpoint_until(account.claim_ceiling(terms.rate_cap(at)));
            reach(in_time).or_else(|| reach(until))
        }
        _ => account.last_checkpoint_until(account.claim_ceiling(TokenCount(u64::MAX))),
    };
    let Some(reachable) = reachable.map(CheckpointMeta::end) else {
        return match view.status {
            // A voucher may still come; the rate cap's allowance at the end of the window is known today.
            ChainStatus::Closing { until } if account.pending.front().is_some_and(|first| terms.rate_cap(until).0 >= first.end().0) => {
                Next::Step(Step::Wait(WaitFor::Until(until)))
            }
            _ => Next::Never,
        };
    };
    let may_be_small = matches!(view.status, ChainStatus::Closing { .. });
    // Where an end at any moment takes all that is unclaimed, a whole claim is worth more than what it may strand.
    let hold_back = terms.claim_window == 0 && !idle_is_near(account, terms, view, config);
    let Some(end) = run(account, terms, config, reachable, may_be_small, hold_back) else {
        return Next::Never;
    };
    if view.time < record.not_before {
        return Next::Step(Step::Wait(WaitFor::Until(record.not_before)));
    }
    let allowed_at = terms.claim_allowed_at(record.positions.finalized, end, record.last_claim);
    let start_at = UnixSeconds(allowed_at.0.saturating_sub(config.claim_seconds));
    Next::Step(if view.time < start_at { Step::Wait(WaitFor::Until(start_at)) } else { Step::Claim { until: end } })
}

/// Where the next claim ends: the longest run within `max_claim_tokens`, or where that is below the contract's minimum the
/// shortest that reaches it. In Closing one claim below the minimum closes the job to further ones, so it must be the last.
/// A contract without a closing window takes no tail at all: there a rest of at least the minimum is held back for the last
/// claim (`hold_back`).
fn run(
    account: &Account,
    terms: &Terms,
    config: &PlanConfig,
    reachable: TokenSeq,
    may_be_small: bool,
    hold_back: bool,
) -> Option<TokenSeq> {
    let first = account.record.positions.finalized;
    let metered = account.record.positions.metered;
    let is_last = |end: TokenSeq| account.record.phase != Phase::Open && end == metered;
    let leaves_a_claim = |end: TokenSeq| metered - end >= terms.min_claim || is_last(end);
    let ends = || account.pending.iter().map(CheckpointMeta::end).take_while(move |end| *end <= reachable);
    let enough = |end: &TokenSeq| *end - first >= terms.min_claim && (!hold_back || leaves_a_claim(*end));
    let fits = ends().take_while(|end| *end - first <= config.max_claim_tokens).filter(enough).last();
    fits.or_else(|| ends().find(enough)).or(if may_be_small { ends().last() } else { None })
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
        Some(_) if account.record.claim_until.is_some_and(|until| view.time >= until) => Some(WriteOff::TimedOut),
        _ => Some(WriteOff::ClosedEarly),
    };
    Step::Settle { rest }
}
