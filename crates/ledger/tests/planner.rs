//! Planner, admission and terms: one story per rule.

mod common;

use common::{Desk, KEY, PRICE, START, attempt, block, done, reverted, terms};
use milepost_ledger::{
    Address, Bound, ChainStatus, ChainView, ClaimPace, Event, Limits, MAX_CLOSING_REVERTS, PlanConfig, Purpose, RevertClass, SessionEnd,
    Step, Terms, TokenAmount, TokenCount, TokenSeq, TxId, UnixSeconds, VoucherTerms, WaitFor, WriteOff, plan,
};
use proptest::prelude::*;

const CONFIG: PlanConfig =
    PlanConfig { claim_tokens: TokenCount(500), max_claim_tokens: TokenCount(1_000), claim_seconds: 120, claim_at_value: None };

fn at(seconds: u64) -> UnixSeconds {
    START.plus(seconds)
}

/// What the chain says `seconds` into the session, if it agrees with the ledger.
fn view(desk: &Desk, seconds: u64, status: ChainStatus) -> ChainView {
    let record = &desk.account().record;
    ChainView {
        block: block(1_000),
        time: at(seconds),
        status,
        used: TokenCount(record.positions.finalized.0),
        head: record.final_head,
        closed_to_claims: false,
    }
}

fn active(desk: &Desk, seconds: u64) -> Step {
    plan(desk.account(), &view(desk, seconds, ChainStatus::Active), &CONFIG)
}

fn closing(desk: &Desk, seconds: u64, until: u64, config: &PlanConfig) -> Step {
    plan(desk.account(), &view(desk, seconds, ChainStatus::Closing { until: at(until) }), config)
}

/// A desk whose session has ended in a closing window until then.
fn closing_desk(terms: Terms, threshold: u32, tokens: u64, until: u64) -> Desk {
    let mut desk = Desk::new(terms, threshold);
    if tokens > 0 {
        desk.meter(tokens);
    }
    desk.ok(Event::ClosingSeen { job: desk.job, until: at(until), at: START });
    desk
}

fn claim(until: u64) -> Step {
    Step::Claim { until: TokenSeq(until) }
}

fn wait(seconds: u64) -> Step {
    Step::Wait(WaitFor::Until(at(seconds)))
}

#[test]
fn a_running_session_is_claimed_when_enough_has_gathered() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(499);
    assert_eq!(active(&desk, 60), Step::Wait(WaitFor::Tokens));
    desk.meter(1);
    assert_eq!(active(&desk, 60), claim(500));
    let valuable = PlanConfig { claim_tokens: TokenCount(5_000), claim_at_value: Some(TokenAmount(300 * PRICE)), ..CONFIG };
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(300);
    assert_eq!(plan(desk.account(), &view(&desk, 60, ChainStatus::Active), &valuable), claim(300));
}

#[test]
fn more_than_one_claim_can_hold_is_not_waited_for() {
    let mut desk = Desk::new(terms(10_000), 150);
    desk.meter(900);
    let config = PlanConfig { claim_tokens: TokenCount(5_000), ..CONFIG };
    // Six checkpoints of 150 fit into 1,000.
    assert_eq!(plan(desk.account(), &view(&desk, 60, ChainStatus::Active), &config), claim(900));
}

#[test]
fn a_quiet_session_is_claimed_before_the_contract_calls_it_idle() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(150);
    assert_eq!(active(&desk, 3_600 - 121), Step::Wait(WaitFor::Tokens));
    assert_eq!(active(&desk, 3_600 - 120), claim(100));
    let mut below = Desk::new(terms(10_000), 7);
    below.meter(98);
    assert_eq!(active(&below, 3_600 - 120), Step::Wait(WaitFor::Tokens), "fewer than the contract takes");
}

#[test]
fn an_idle_timeout_that_leaves_no_room_for_claims_is_not_raced() {
    let step = |timeout: u64, window: u64, seconds: u64| {
        let mut desk = Desk::new(Terms { idle_timeout: timeout, claim_window: window, ..terms(10_000) }, 100);
        desk.meter(250);
        active(&desk, seconds)
    };
    // A claim takes 120 s: by this rule every checkpoint would be a claim, from the first second on.
    for seconds in [0, 59, 60, 119, 1_000] {
        assert_eq!(step(60, 3_600, seconds), Step::Wait(WaitFor::Tokens), "at {seconds} s");
        assert_eq!(step(239, 3_600, seconds), Step::Wait(WaitFor::Tokens), "at {seconds} s");
    }
    assert_eq!((step(240, 3_600, 119), step(240, 3_600, 120)), (Step::Wait(WaitFor::Tokens), claim(200)));
    // Without a window an idle session would lose them, and so nothing is held back for a later claim either.
    assert_eq!(step(60, 0, 0), claim(200));
    // What gathers is claimed all the same, and the closing window takes the rest.
    let mut desk = closing_desk(Terms { idle_timeout: 60, ..terms(10_000) }, 100, 550, 3_660);
    assert_eq!(closing(&desk, 61, 3_660, &CONFIG), claim(550));
    desk = Desk::new(Terms { idle_timeout: 60, ..terms(10_000) }, 100);
    desk.meter(500);
    assert_eq!(active(&desk, 60), claim(500));
}

#[test]
fn a_claim_is_begun_early_enough_to_be_proven_when_the_rate_cap_allows_it() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(5_000);
    let config = PlanConfig { max_claim_tokens: TokenCount(5_000), ..CONFIG };
    let step = |seconds| plan(desk.account(), &view(&desk, seconds, ChainStatus::Active), &config);
    // 2 × 10 tokens a second after a burst of 200: 5,000 are allowed after 240 s, and a claim takes 120 s.
    assert_eq!(step(119), wait(120));
    assert_eq!(step(120), claim(5_000));
}

#[test]
fn small_checkpoints_make_a_claim_of_the_minimum_even_where_the_longest_claim_is_below_it() {
    for (threshold, max, expected) in
        [(7, 100, 105), (60, 100, 120), (60, 119, 120), (60, 120, 120), (100, 150, 100), (150, 100, 150), (1_000, 1, 1_000), (1, 7, 100)]
    {
        let mut desk = Desk::new(terms(10_000), threshold);
        desk.meter(1_050);
        desk.end();
        let config = PlanConfig { claim_tokens: TokenCount(1), max_claim_tokens: TokenCount(max), ..CONFIG };
        let step = plan(desk.account(), &view(&desk, 500, ChainStatus::Active), &config);
        assert_eq!(step, claim(expected), "threshold {threshold}, at most {max}");
    }
}

#[test]
fn a_tail_below_the_minimum_waits_for_the_closing_window_and_goes_last() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(1_050);
    desk.end();
    assert_eq!(active(&desk, 500), claim(1_000));
    desk.land(1_000);
    assert_eq!(active(&desk, 500), Step::RequestClose);
    desk.send(Purpose::RequestClose(desk.job));
    assert_eq!(active(&desk, 500), Step::Wait(WaitFor::Transaction));
    assert_eq!(closing(&desk, 510, 4_110, &CONFIG), Step::SeeClosing { until: at(4_110) });
    desk.ok(Event::ClosingSeen { job: desk.job, until: at(4_110), at: START });
    assert_eq!(closing(&desk, 510, 4_110, &CONFIG), claim(1_050));
    desk.land(1_050);
    assert_eq!(closing(&desk, 600, 4_110, &CONFIG), Step::Finalize);
}

#[test]
fn a_claim_that_leaves_a_rest_behind_in_closing_is_never_below_the_minimum() {
    let desk = closing_desk(terms(10_000), 60, 130, 3_600);
    let config = PlanConfig { max_claim_tokens: TokenCount(70), ..CONFIG };
    // 60 would close the job to the other 70.
    assert_eq!(closing(&desk, 300, 3_600, &config), claim(120));
}

#[test]
fn what_the_rate_cap_allows_only_after_the_window_is_left_and_the_rest_is_claimed() {
    let mut terms = terms(10_000);
    terms.rate = 1;
    // At the end of the window 2 × 600 + 200 = 1,400 are allowed; with 120 s to prove them, 1,160.
    let desk = closing_desk(terms.clone(), 100, 2_000, 600);
    let config = PlanConfig { max_claim_tokens: TokenCount(5_000), ..CONFIG };
    assert_eq!(closing(&desk, 0, 600, &config), wait(330), "1,100 are allowed at 450");
    assert_eq!(closing(&desk, 330, 600, &config), claim(1_100));
    // Nothing can be had any more: the client's money is not kept until the window ends.
    terms.burst = TokenCount(0);
    terms.min_claim = TokenCount(100);
    let desk = closing_desk(terms, 1_000, 1_000, 300);
    assert_eq!(closing(&desk, 0, 300, &config), Step::Finalize);
}

#[test]
fn at_the_end_of_the_window_no_claim_is_begun() {
    let desk = closing_desk(terms(10_000), 100, 150, 600);
    assert_eq!(closing(&desk, 599, 600, &CONFIG), claim(150));
    // A claim signed now would land in a later block.
    assert_eq!(closing(&desk, 600, 600, &CONFIG), Step::Finalize);
}

#[test]
fn a_claim_that_the_window_outran_keeps_the_payout_waiting_only_while_it_is_signed() {
    let mut desk = closing_desk(terms(10_000), 100, 150, 600);
    let claim = desk.prove(150);
    assert_eq!(closing(&desk, 599, 600, &CONFIG), Step::Wait(WaitFor::Claim));
    assert_eq!(closing(&desk, 601, 600, &CONFIG), Step::Finalize);
    let finalize = desk.send(Purpose::Finalize(desk.job));
    assert_eq!(closing(&desk, 602, 600, &CONFIG), Step::Wait(WaitFor::Transaction), "asked for once");
    desk.include(finalize, done());
    assert_eq!(plan(desk.account(), &view(&desk, 603, ChainStatus::Completed), &CONFIG), Step::Settle { rest: Some(WriteOff::TimedOut) });
    let mut signed = closing_desk(terms(10_000), 100, 150, 600);
    assert_eq!(signed.prove(150), claim);
    signed.send(Purpose::Claim(claim));
    assert_eq!(closing(&signed, 700, 600, &CONFIG), Step::Wait(WaitFor::Claim), "it may be in a block that is not seen yet");
}

#[test]
fn a_tail_planned_for_a_close_that_was_reorganised_away_asks_for_the_close_itself() {
    let mut desk = closing_desk(terms(10_000), 100, 50, 600);
    desk.prove(50);
    assert_eq!(closing(&desk, 100, 600, &CONFIG), Step::Wait(WaitFor::Claim));
    assert_eq!(active(&desk, 101), Step::RequestClose);
    desk.send(Purpose::RequestClose(desk.job));
    assert_eq!(active(&desk, 102), Step::Wait(WaitFor::Transaction));
}

#[test]
fn the_job_goes_on_when_somebody_else_closes_or_finalizes_first() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(50);
    desk.end();
    let close = desk.send(Purpose::RequestClose(desk.job));
    desk.ok(Event::ClosingSeen { job: desk.job, until: at(600), at: START });
    assert_eq!(closing(&desk, 100, 600, &CONFIG), claim(50), "our own close need not be resolved");
    desk.include(close, reverted(RevertClass::Replan));
    desk.ok(Event::TxFinal { id: close });
    desk.land(50);
    assert_eq!(closing(&desk, 110, 600, &CONFIG), Step::Finalize);
    let finalize = desk.send(Purpose::Finalize(desk.job));
    desk.include(finalize, reverted(RevertClass::Replan));
    assert_eq!(plan(desk.account(), &view(&desk, 120, ChainStatus::Completed), &CONFIG), Step::Settle { rest: None });
    desk.ok(Event::TxFinal { id: finalize });
    let paid = desk.paid();
    desk.ok(paid);
    assert_eq!(active(&desk, 130), Step::Wait(WaitFor::Nothing));
}

#[test]
fn a_finalize_that_keeps_reverting_is_raised_to_the_operator() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.end();
    for _ in 0..MAX_CLOSING_REVERTS {
        assert_eq!(active(&desk, 10), Step::Finalize);
        let id = desk.send(Purpose::Finalize(desk.job));
        desk.include(id, reverted(RevertClass::Replan));
        desk.ok(Event::TxFinal { id });
    }
    assert!(matches!(active(&desk, 10), Step::Halt { .. }));
    let account = desk.id();
    desk.ok(Event::Halt { account, reason: "finalize reverted".to_owned() });
    assert_eq!(active(&desk, 10), Step::Wait(WaitFor::Operator));
    desk.ok(Event::Resume { account });
    assert_eq!(active(&desk, 10), Step::Finalize);
    let id = desk.send(Purpose::Finalize(desk.job));
    desk.include(id, reverted(RevertClass::Pace(at(50))));
    desk.ok(Event::TxFinal { id });
    assert_eq!(active(&desk, 10), wait(50));
    let id = TxId { key: KEY, nonce: desk.nonce };
    desk.ok(Event::TxSigned { id, purpose: Purpose::Finalize(desk.job), attempt: attempt(id, 0) });
    desk.include(id, reverted(RevertClass::Stop));
    desk.ok(Event::TxFinal { id });
    assert!(matches!(active(&desk, 60), Step::Halt { .. }), "not to be repeated at all");
}

#[test]
fn an_endpoint_that_lags_behind_what_is_final_is_waited_for_and_does_not_halt_the_job() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(600);
    let genesis = desk.account().record.final_head;
    let id = desk.land(500);
    let final_block = block(100 + id.nonce);
    let stale =
        ChainView { block: block(final_block.number - 1), used: TokenCount(0), head: genesis, ..view(&desk, 100, ChainStatus::Active) };
    assert_eq!(plan(desk.account(), &stale, &CONFIG), Step::Wait(WaitFor::Block(final_block.number)));
    let contradicts = ChainView { block: final_block, ..stale };
    assert!(matches!(plan(desk.account(), &contradicts, &CONFIG), Step::Halt { reason } if reason.contains("below finality")));
}

#[test]
fn a_chain_that_knows_what_this_ledger_does_not_stops_the_job() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(600);
    let claim = desk.prove(500);
    let id = desk.send(Purpose::Claim(claim));
    let head = desk.account().claim.as_ref().expect("under way").statement.head_after;
    let halts = |used, head| {
        let view = ChainView { used: TokenCount(used), head, ..view(&desk, 100, ChainStatus::Active) };
        matches!(plan(desk.account(), &view, &CONFIG), Step::Halt { .. })
    };
    let genesis = desk.account().record.final_head;
    assert!(!halts(0, genesis) && !halts(500, head), "landed or not yet");
    assert!(halts(0, head), "another head at the same token");
    assert!(halts(500, genesis), "other tokens were claimed in the place of ours");
    assert!(halts(300, head), "a claim that is not ours");
    assert!(halts(600, head), "more than was ever signed");
    assert_eq!(desk.ledger.tx(id).map(|tx| tx.attempts.len()), Some(1));
}

#[test]
fn claims_keep_within_the_vouchers() {
    let mut terms = terms(10_000);
    terms.voucher = Some(VoucherTerms { signer: Address([5; 20]), allowance: TokenCount(250) });
    let mut desk = Desk::new(terms, 100);
    desk.meter(600);
    let account = desk.id();
    assert_eq!(active(&desk, 100), claim(200));
    desk.ok(Event::Voucher { account, tokens: TokenCount(300), signature: vec![1] });
    assert_eq!(active(&desk, 100), claim(500));
    desk.land(500);
    desk.ok(Event::ClosingSeen { job: desk.job, until: at(600), at: START });
    assert_eq!(closing(&desk, 100, 600, &CONFIG), wait(600), "the client may still countersign");
    desk.ok(Event::Voucher { account, tokens: TokenCount(350), signature: vec![2] });
    assert_eq!(closing(&desk, 100, 600, &CONFIG), claim(600));
    let mut silent = Desk::new(desk.account().record.terms.clone().expect("a job"), 300);
    silent.meter(300);
    silent.end();
    assert_eq!(active(&silent, 100), Step::RequestClose, "nothing to claim, and the client's money is not kept");
    assert_eq!(
        closing(&closing_desk(silent.account().record.terms.clone().expect("a job"), 300, 300, 600), 600, 600, &CONFIG),
        Step::Finalize
    );
}

#[test]
fn without_a_closing_window_a_rest_of_the_minimum_is_held_back_for_the_last_claim() {
    let mut terms = terms(10_000);
    terms.claim_window = 0;
    let mut desk = Desk::new(terms, 100);
    desk.meter(550);
    // Claiming 500 would strand 50 if the session ended now.
    assert_eq!(active(&desk, 100), claim(400));
    desk.land(400);
    assert_eq!(active(&desk, 100), Step::Wait(WaitFor::Tokens));
    desk.end();
    assert_eq!(active(&desk, 100), claim(550));
}

#[test]
fn an_ended_session_without_tokens_is_refunded_at_once() {
    let mut desk = Desk::new(terms(10_000), 100);
    desk.end();
    assert_eq!(active(&desk, 1), Step::Finalize);
}

#[test]
fn a_session_with_a_closing_window_runs_its_full_length() {
    let desk = Desk::new(Terms { max_duration: 100, ..terms(10_000) }, 100);
    // Its last claims have the window: a session shorter than a claim takes is served all the same.
    assert_eq!(active(&desk, 99), Step::Wait(WaitFor::Tokens));
    assert_eq!(admitted(&desk, 99, LIMITS), (10_000, Bound::Deposit));
    assert_eq!(active(&desk, 100), Step::End(SessionEnd::Deadline));
    assert_eq!(admitted(&desk, 100, LIMITS), (0, Bound::Deadline));
}

#[test]
fn a_session_without_a_closing_window_ends_while_its_last_claim_can_still_land() {
    let desk = Desk::new(Terms { claim_window: 0, ..terms(10_000) }, 100);
    assert_eq!(active(&desk, 86_400 - 121), Step::Wait(WaitFor::Tokens));
    assert_eq!(active(&desk, 86_400 - 120), Step::End(SessionEnd::Deadline));
    let risk = Limits { max_at_risk: Some(TokenAmount(10_000 * PRICE)), ..LIMITS };
    assert_eq!(admitted(&desk, 86_400 - 301, risk), (10_000, Bound::Deposit));
    assert_eq!(admitted(&desk, 86_400 - 301, LIMITS), (2_000, Bound::AtRisk), "bounded even where the operator set nothing");
    assert_eq!(admitted(&desk, 86_400 - 300, LIMITS), (0, Bound::Deadline));
}

#[test]
fn what_was_not_paid_is_written_off_by_the_reason_it_was_lost_for() {
    let completed = |desk: &Desk, seconds| plan(desk.account(), &view(desk, seconds, ChainStatus::Completed), &CONFIG);
    let mut desk = Desk::new(terms(10_000), 100);
    desk.meter(150);
    assert_eq!(completed(&desk, 10), Step::End(SessionEnd::OnChain));
    desk.end();
    assert_eq!(completed(&desk, 10), Step::Settle { rest: Some(WriteOff::ClosedEarly) });
    desk.land(100);
    assert_eq!(completed(&desk, 10), Step::Settle { rest: Some(WriteOff::BelowMinimum) });
    let desk = closing_desk(terms(10_000), 100, 50, 600);
    assert_eq!(completed(&desk, 599), Step::Settle { rest: Some(WriteOff::ClosedEarly) });
    assert_eq!(completed(&desk, 600), Step::Settle { rest: Some(WriteOff::TimedOut) });
}

const LIMITS: Limits = Limits { reserve_seconds: 300, max_at_risk: None, pace: None, shared: None };

fn admitted(desk: &Desk, seconds: u64, limits: Limits) -> (u64, Bound) {
    let admission = desk.account().admissible(at(seconds), &limits);
    (admission.tokens.0, admission.bound)
}

#[test]
fn no_more_is_admitted_than_a_close_at_this_moment_would_leave_time_for() {
    let mut desk = Desk::new(terms(1_000_000), 100);
    // Closed now, the window ends at 3,600; claims begin by 3,300: 2 × 10 × 3,300 + 200.
    assert_eq!(admitted(&desk, 0, LIMITS), (66_200, Bound::RateCap));
    desk.meter(66_200);
    assert_eq!(admitted(&desk, 0, LIMITS), (0, Bound::RateCap));
    assert_eq!(admitted(&desk, 10, LIMITS), (200, Bound::RateCap));
    // Claims of 1,000 that take 600 s each: five rounds, one of them for the claim under way.
    let pace = Some(ClaimPace { max_claim_tokens: TokenCount(1_050), seconds: 600 });
    let desk = Desk::new(terms(1_000_000), 100);
    assert_eq!(admitted(&desk, 0, Limits { pace, ..LIMITS }), (4_000, Bound::Proving));
    let slow = Some(ClaimPace { max_claim_tokens: TokenCount(1_050), seconds: 6_000 });
    assert_eq!(admitted(&desk, 0, Limits { pace: slow, ..LIMITS }), (1_000, Bound::Proving), "one claim at least");
}

#[test]
fn every_other_bound_is_named_too() {
    let desk = Desk::new(terms(1_000), 100);
    assert_eq!(admitted(&desk, 0, LIMITS), (1_000, Bound::Deposit));
    assert_eq!(admitted(&desk, 86_400, LIMITS), (0, Bound::Deadline));
    assert_eq!(admitted(&desk, 0, Limits { max_at_risk: Some(TokenAmount(300 * PRICE + 1)), ..LIMITS }), (300, Bound::AtRisk));
    let mut terms = terms(1_000);
    terms.voucher = Some(VoucherTerms { signer: Address([5; 20]), allowance: TokenCount(250) });
    let mut desk = Desk::new(terms, 100);
    assert_eq!(admitted(&desk, 0, LIMITS), (250, Bound::Voucher));
    desk.meter(100);
    let account = desk.id();
    desk.ok(Event::Voucher { account, tokens: TokenCount(100), signature: vec![1] });
    assert_eq!(admitted(&desk, 0, LIMITS), (250, Bound::Voucher));
    desk.end();
    assert_eq!(admitted(&desk, 0, LIMITS), (0, Bound::NotOpen));
}

proptest! {
    #![proptest_config(common::cases(500))]

    #[test]
    fn the_rate_cap_allows_what_it_says_at_the_first_moment_it_says(rate in 0_u32..5_000, burst in 0_u64..500, tokens in 0_u64..1_000_000) {
        let terms = Terms { rate, burst: TokenCount(burst), ..terms(1) };
        let moment = terms.rate_allows_at(TokenCount(tokens));
        if moment.0 == u64::MAX {
            prop_assert!(rate == 0 && tokens > burst);
        } else {
            prop_assert!(terms.rate_cap(moment).0 >= tokens);
            prop_assert!(moment <= START || terms.rate_cap(UnixSeconds(moment.0 - 1)).0 < tokens);
        }
    }

    #[test]
    fn a_payout_splits_the_whole_deposit_and_never_rounds_against_the_host(
        deposit in any::<u128>(), price in 1_u128..1_000_000_000, tokens in 0_u64..1_000_000, fee_bps in 0_u16..=3_000, minimum in 0_u128..10_000_000,
    ) {
        let terms = Terms { deposit: TokenAmount(deposit), price: TokenAmount(price), fee_bps, minimum_charge: TokenAmount(minimum), ..terms(1) };
        let charge = price * u128::from(tokens);
        let Some(payout) = terms.payout(TokenCount(tokens)) else {
            prop_assert!(charge > deposit);
            return Ok(());
        };
        let charged = if tokens == 0 { 0 } else { charge.max(minimum.min(deposit)) };
        prop_assert_eq!(payout.refund.0, deposit - charged);
        prop_assert_eq!(payout.host.0 + payout.treasury.0, charged);
        // fee = floor(charge × bps / 10,000); this product fits, the charge being below 10¹⁵.
        prop_assert_eq!(payout.treasury.0, charged * u128::from(fee_bps) / 10_000);
    }
}
