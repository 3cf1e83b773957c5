//! Jobs on marketplaces of other generations than ours: prices in thousandths, a rate that counts from the last proof, no closing
//! window, and a while from the start in which a host cannot complete.

mod common;

use common::{Desk, PRICE, START, terms};
use milepost_ledger::{
    Address, BlockRef, Bound, ChainStatus, ChainView, Deployed, Digest, Limits, Payout, PlanConfig, Step, Terms, TokenAmount, TokenCount,
    TokenSeq, UnixSeconds, VoucherTerms, WaitFor, WriteOff, plan,
};

const RULES: Deployed = Deployed { price_precision: 1_000, dispute_window: 30 };
const CONFIG: PlanConfig =
    PlanConfig { claim_tokens: TokenCount(1_000), max_claim_tokens: TokenCount(4_000), claim_seconds: 60, claim_at_value: None };

/// Terms at 2.5 units per token: 2,500 for a thousand.
fn precise(tokens: u64) -> Terms {
    Terms {
        price: TokenAmount(2_500),
        deposit: TokenAmount(u128::from(tokens) * 5 / 2),
        claim_window: 0,
        burst: TokenCount::ZERO,
        rate: 1_000,
        deployed: Some(RULES),
        ..terms(1)
    }
}

fn look(desk: &Desk, seconds: u64, status: ChainStatus) -> Step {
    let record = &desk.account().record;
    let view = ChainView {
        block: BlockRef { number: 1_000_000, hash: Digest([9; 32]) },
        time: UnixSeconds(START.0 + seconds),
        status,
        used: record.positions.finalized - TokenSeq::ZERO,
        head: record.final_head,
        closed_to_claims: false,
    };
    plan(desk.account(), &view, &CONFIG)
}

#[test]
fn a_price_in_thousandths_is_rounded_once_and_downwards() {
    let terms = precise(1_001);
    assert_eq!(terms.deposit, TokenAmount(2_502));
    assert_eq!(terms.affordable(), TokenCount(1_000), "2502 pay for 1000.8 tokens");
    assert_eq!(terms.charge(TokenCount(101)), Some(TokenAmount(252)), "252.5");
    let payout = Payout { tokens: TokenCount(101), host: TokenAmount(227), treasury: TokenAmount(25), refund: TokenAmount(2_250) };
    assert_eq!(terms.payout(TokenCount(101)), Some(payout));
    assert_eq!(terms.payout(TokenCount(1_001)).map(|payout| payout.refund), Some(TokenAmount(0)));
    assert_eq!(terms.payout(TokenCount(1_002)), None, "beyond the deposit");
}

#[test]
fn records_of_our_own_marketplace_are_stored_as_they_were() {
    // As an `Option<VoucherTerms>` between fee and salt: 0, or 1 and the voucher.
    let bytes = |terms: &Terms| postcard::to_allocvec(terms).expect("a record of known shape");
    let plain = bytes(&terms(10));
    let salt = 32;
    assert_eq!(plain[plain.len() - salt - 1], 0);
    let voucher = VoucherTerms { signer: Address([5; 20]), allowance: TokenCount(3) };
    let signed = bytes(&Terms { voucher: Some(voucher), ..terms(10) });
    let option = postcard::to_allocvec(&Some(voucher)).expect("a record of known shape");
    assert_eq!(signed[..plain.len() - salt - 1], plain[..plain.len() - salt - 1]);
    assert_eq!(signed[plain.len() - salt - 1..signed.len() - salt], option);
    for terms in [terms(10), Terms { voucher: Some(voucher), ..terms(10) }, precise(10)] {
        assert_eq!(postcard::from_bytes::<Terms>(&bytes(&terms)).expect("what was written"), terms);
    }
}

#[test]
fn what_is_shown_of_our_own_marketplace_has_the_fields_it_had() {
    let shown = serde_json::to_value(terms(10)).expect("terms are shown");
    assert_eq!(shown["voucher"], serde_json::Value::Null);
    assert_eq!(shown.get("deployed"), None);
    assert_eq!(shown.as_object().map(serde_json::Map::len), Some(19));
    let theirs = serde_json::to_value(precise(10)).expect("terms are shown");
    assert_eq!(theirs["deployed"]["price_precision"], 1_000);
    for (shown, terms) in [(shown, terms(10)), (theirs, precise(10))] {
        assert_eq!(serde_json::from_value::<Terms>(shown).expect("what was shown"), terms);
    }
}

#[test]
fn the_rate_counts_from_the_last_proof_and_not_from_the_start() {
    let ours = Terms { deployed: None, rate: 10, burst: TokenCount(200), ..precise(100_000) };
    let theirs = Terms { rate: 10, ..precise(100_000) };
    let (first, end) = (TokenSeq(1_000), TokenSeq(1_401));
    let last = UnixSeconds(START.0 + 500);
    assert_eq!(ours.claim_allowed_at(first, end, last), ours.rate_allows_at(TokenCount(1_401)));
    assert_eq!(theirs.claim_allowed_at(first, end, last), UnixSeconds(START.0 + 500 + 21), "401 tokens at 20 a second");
}

#[test]
fn without_a_window_what_may_be_lost_is_bounded_and_claimed_before_generation_waits() {
    let mut desk = Desk::new(precise(100_000), 100);
    let limits = Limits { reserve_seconds: 300, max_at_risk: None, pace: None, shared: None };
    let admitted = |desk: &Desk, limits: &Limits| {
        let admission = desk.account().admissible(UnixSeconds(START.0 + 100), limits);
        (admission.tokens.0, admission.bound)
    };
    assert_eq!(admitted(&desk, &limits), (2_000, Bound::AtRisk), "bounded though the operator set nothing");
    let risk = Limits { max_at_risk: Some(TokenAmount(1_000)), ..limits };
    assert_eq!(admitted(&desk, &risk), (400, Bound::AtRisk), "1000 at 2.5");
    desk.meter(999);
    assert_eq!(look(&desk, 100, ChainStatus::Active), Step::Wait(WaitFor::Tokens));
    desk.meter(1_001);
    assert_eq!(admitted(&desk, &limits), (0, Bound::AtRisk));
    assert_eq!(look(&desk, 100, ChainStatus::Active), Step::Claim { until: TokenSeq(1_900) });
}

#[test]
fn nothing_is_held_back_when_anybody_may_soon_end_the_session() {
    let mut desk = Desk::new(precise(10_000), 100);
    desk.meter(150);
    assert_eq!(look(&desk, 3_600 - 61, ChainStatus::Active), Step::Wait(WaitFor::Tokens), "a claim of 100 would strand 50");
    assert_eq!(look(&desk, 3_600 - 60, ChainStatus::Active), Step::Claim { until: TokenSeq(100) });
}

#[test]
fn near_the_end_only_the_time_that_is_left_counts_for_the_rate() {
    let desk = Desk::new(Terms { rate: 10, ..precise(100_000) }, 100);
    let limits = Limits { reserve_seconds: 300, max_at_risk: Some(TokenAmount(u128::MAX)), pace: None, shared: None };
    let admission = desk.account().admissible(UnixSeconds(START.0 + 86_400 - 310), &limits);
    assert_eq!((admission.tokens.0, admission.bound), (200, Bound::RateCap), "ten seconds");
}

#[test]
fn a_rest_below_the_minimum_is_given_up_by_completing_once_the_host_may() {
    let mut desk = Desk::new(precise(10_000), 100);
    desk.meter(150);
    desk.end();
    assert_eq!(look(&desk, 1, ChainStatus::Active), Step::Claim { until: TokenSeq(150) });
    desk.land(150);
    assert_eq!(look(&desk, 29, ChainStatus::Active), Step::Wait(WaitFor::Until(UnixSeconds(START.0 + 30))));
    assert_eq!(look(&desk, 30, ChainStatus::Active), Step::Finalize);
    let mut short = Desk::new(precise(10_000), 100);
    short.meter(99);
    short.end();
    assert_eq!(look(&short, 30, ChainStatus::Active), Step::Finalize, "there is no window in which a tail could be claimed");
    assert_eq!(look(&short, 31, ChainStatus::Completed), Step::Settle { rest: Some(WriteOff::BelowMinimum) });
}

#[test]
fn the_price_of_our_own_marketplace_is_for_one_token() {
    assert_eq!(terms(10).charge(TokenCount(3)), Some(TokenAmount(3 * PRICE)));
    assert_eq!(terms(10).completable_from(), START);
}
