//! Planner and admission against a model of the marketplace: random schedules of time, tokens, closes by the depositor and by
//! anybody, reorganisations, reverts, slow proofs and crashes.

#[path = "../common/mod.rs"]
mod common;

mod chain;
mod contract;
mod host;

use std::cell::RefCell;
use std::collections::BTreeMap;

use chain::{Chain, Others};
use common::{PRICE, START, cases, open, terms};
use contract::{Contract, Refusal};
use host::Host;
use milepost_ledger::{
    Address, ChainStatus, ClaimPace, JobId, Limits, Phase, PlanConfig, Positions, Terms, TokenAmount, TokenCount, VoucherTerms, WriteOff,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Blocks in which things may go wrong; a job ends only if it is some day left in peace.
const MAX_TROUBLE: usize = 1_500;

/// Everything that a case is made of.
#[derive(Clone, Debug)]
struct Case {
    threshold: u32,
    max_claim: u64,
    claim_tokens: u64,
    claim_value: Option<u64>,
    at_risk: bool,
    deposit: u64,
    rate: u32,
    burst: u64,
    minimum_charge: u64,
    allowance: Option<u64>,
    max_duration: u64,
    idle_timeout: u64,
    spare_window: u64,
    block_seconds: u64,
    confirmations: u64,
    prove_seconds: u64,
    /// Tokens the client wants, and how many of them a second.
    wanted: u64,
    speed: u64,
    ends_after: Option<u64>,
    depositor_closes_after: Option<u64>,
    anybody: bool,
    first: bool,
    /// One number per block: what goes wrong there, if things go wrong in this case.
    trouble: Vec<u8>,
}

fn case(trouble: bool) -> impl Strategy<Value = Case> {
    let planner = (
        prop::sample::select(vec![1_u32, 7, 60, 100, 150, 1_000]),
        1_u64..2_500,
        1_u64..3_000,
        prop::option::of(1_u64..1_000),
        any::<bool>(),
    );
    let money = (100_u64..6_000, 1_u32..60, 0_u64..400, 0_u64..2_000, prop::option::of(0_u64..300));
    let time = (60_u64..4_000, 60_u64..2_000, 0_u64..2_000, 1_u64..13, 0_u64..6, 0_u64..90);
    let story = (0_u64..8_000, 1_u64..300, prop::option::of(1_u64..2_500), prop::option::of(1_u64..2_500), any::<bool>(), any::<bool>());
    let trouble = prop::collection::vec(prop_oneof![Just(255_u8), any::<u8>()], if trouble { 1..120 } else { 0..1 });
    (planner, money, time, story, trouble).prop_map(|(planner, money, time, story, trouble)| Case {
        threshold: planner.0,
        max_claim: planner.1,
        claim_tokens: planner.2,
        claim_value: planner.3,
        at_risk: planner.4,
        deposit: money.0,
        rate: money.1,
        burst: money.2,
        minimum_charge: money.3,
        allowance: money.4,
        max_duration: time.0,
        idle_timeout: time.1,
        spare_window: time.2,
        block_seconds: time.3,
        confirmations: time.4,
        prove_seconds: time.5,
        wanted: story.0,
        speed: story.1,
        ends_after: story.2,
        // Now and then host and depositor close at about the same time.
        depositor_closes_after: match (story.2, story.3) {
            (Some(ends), Some(closes)) if closes % 2 == 0 => Some(ends + closes % 40),
            (_, closes) => closes,
        },
        anybody: story.4,
        first: story.5,
        trouble,
    })
}

impl Case {
    /// From plan to inclusion: proving, and a block each for noticing the proof, sending, and a stroke of bad luck.
    fn claim_seconds(&self) -> u64 {
        self.prove_seconds + 4 * self.block_seconds
    }

    /// From plan to finality, and the block in which the next claim is planned.
    fn round(&self) -> u64 {
        self.claim_seconds() + (self.confirmations + 2) * self.block_seconds
    }

    fn reserve(&self) -> u64 {
        self.round() + 3 * self.block_seconds
    }

    fn terms(&self) -> Terms {
        Terms {
            rate: self.rate,
            burst: TokenCount(self.burst),
            minimum_charge: TokenAmount(u128::from(self.minimum_charge) * PRICE),
            voucher: self.allowance.map(|tokens| VoucherTerms { signer: Address([5; 20]), allowance: TokenCount(tokens) }),
            max_duration: self.max_duration,
            idle_timeout: self.idle_timeout,
            claim_window: self.reserve() + 2 * self.round() + self.spare_window,
            ..terms(self.deposit)
        }
    }

    fn config(&self) -> PlanConfig {
        PlanConfig {
            claim_tokens: TokenCount(self.claim_tokens),
            max_claim_tokens: TokenCount(self.max_claim),
            claim_seconds: self.claim_seconds(),
            claim_at_value: self.claim_value.map(|tokens| TokenAmount(u128::from(tokens) * PRICE)),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            reserve_seconds: self.reserve(),
            max_at_risk: self.at_risk.then_some(TokenAmount(2_000 * PRICE)),
            pace: Some(ClaimPace { max_claim_tokens: TokenCount(self.max_claim), seconds: self.round() }),
            shared: None,
        }
    }

    /// Long enough for everything that may happen one after the other, with each thing going wrong many times.
    fn patience(&self) -> u64 {
        let window = self.terms().claim_window;
        self.max_duration + 40 * (window + self.round()) + 10 * self.round() * (1 + self.deposit / 100)
    }
}

struct End {
    positions: Positions,
    write_off: Option<WriteOff>,
    claims: Vec<u64>,
    refusals: BTreeMap<(&'static str, Refusal), u32>,
    operator: u32,
    /// What went wrong while a transaction of ours was under way.
    troubles: BTreeMap<&'static str, u32>,
}

/// Plays a case until the job is paid and nothing is under way.
fn play(case: &Case) -> End {
    let job = JobId(7);
    let mut host = Host::new(open(7, case.terms(), case.threshold), case.config(), case.limits(), case.confirmations, job);
    let genesis = host.account().expect("just opened").record.head;
    let others =
        Others { depositor_closes: case.depositor_closes_after.map(|after| START.0 + after), anybody: case.anybody, first: case.first };
    let mut chain = Chain::new(Contract::new(case.terms(), genesis), others, case.confirmations);
    let (mut now, mut wanted, mut troubles) = (START, case.wanted, BTreeMap::new());
    let mut trouble = case.trouble.iter().copied().cycle().take(if case.trouble.is_empty() { 0 } else { MAX_TROUBLE });
    while !host.account().is_none_or(|account| matches!(account.record.phase, Phase::Paid(_))) || host.ledger.txs().next().is_some() {
        assert!(
            now.since(START) < case.patience(),
            "the job never ends: {:?} at {now:?}, {:?}",
            host.tables.accounts[&host.id()].positions,
            chain.view()
        );
        now = now.plus(case.block_seconds);
        let bad = trouble.next();
        // Generation runs ahead of the block that may close the session under it.
        let step = wanted.min(case.speed * case.block_seconds);
        wanted -= host.generate(now, step);
        if case.ends_after.is_some_and(|after| now.since(START) >= after) {
            host.end(now);
        }
        let (mut slow, mut fails, mut name) = (0, false, "");
        match bad.unwrap_or(255) {
            0..20 => {
                chain.reorganise(1 + case.confirmations / 2);
                name = "reorganisation";
            }
            20..30 if case.confirmations > 0 => {
                // The depositor's close was in a block that is gone, and they thought better of it.
                chain.reorganise(case.confirmations);
                chain.others.depositor_closes = None;
                name = "close taken back";
            }
            30..40 => {
                chain.pool.clear();
                name = "pool dropped";
            }
            40..60 => {
                host.crash();
                name = "crash";
            }
            60..75 => {
                slow = 5 * case.claim_seconds();
                name = "slow prover";
            }
            75..80 => {
                fails = true;
                name = "out of gas";
            }
            _ => {}
        }
        if !name.is_empty() && host.ledger.txs().next().is_some() {
            *troubles.entry(name).or_default() += 1;
        }
        chain.mine(now, fails);
        host.wake(&mut chain, now, case.prove_seconds + slow);
        host.countersign(case.allowance.unwrap_or(0) / 2);
    }
    let record = &host.tables.accounts[&host.id()];
    let contract = &chain.head().contract;
    assert_eq!(contract.status, ChainStatus::Completed);
    let Phase::Paid(payout) = record.phase else { panic!("the job ended as {:?}", record.phase) };
    assert_eq!(Some(payout), contract.payout, "the ledger's payout is the chain's");
    assert_eq!(
        payout.host.0 + payout.treasury.0 + payout.refund.0,
        record.terms.as_ref().expect("a job").deposit.0,
        "the whole deposit was split"
    );
    assert_eq!(record.positions.paid.0, contract.used);
    assert_eq!(record.positions.metered.0, record.positions.paid.0 + record.positions.written_off.0, "M = Z + W");
    assert_eq!(record.positions.written_off.0 > 0, record.write_off.is_some());
    End {
        positions: record.positions,
        write_off: record.write_off,
        claims: contract.claims.clone(),
        refusals: chain.refusals,
        operator: host.operator,
        troubles,
    }
}

/// How often something was reached, to show that the cases are not idle.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<String, u64>>);

impl Seen {
    fn add(&self, name: impl Into<String>, count: u64) {
        *self.0.borrow_mut().entry(name.into()).or_default() += count;
    }

    fn end(&self, case: &Case, end: &End) {
        self.add("cases", 1);
        self.add("tokens", end.positions.metered.0);
        self.add("claims", end.claims.len() as u64);
        self.add("tails below the minimum", u64::from(end.claims.last().is_some_and(|last| *last < 100)));
        self.add("operator asked", u64::from(end.operator));
        self.add("several claims", u64::from(end.claims.len() > 1));
        self.add(format!("threshold {}", case.threshold), 1);
        if let Some(reason) = end.write_off {
            self.add(format!("written off {reason:?}"), 1);
        }
        for (name, count) in &end.troubles {
            self.add(format!("{name} under a transaction"), u64::from(*count));
        }
        for ((what, refusal), count) in &end.refusals {
            self.add(format!("{what} refused: {refusal:?}"), u64::from(*count));
        }
    }

    fn expect(&self, names: &[&str]) {
        println!("reached: {:#?}", self.0.borrow());
        for name in names {
            assert!(self.0.borrow().get(*name).is_some_and(|count| *count > 0), "no case reached: {name}");
        }
    }
}

#[test]
fn every_admitted_token_is_paid_when_the_chain_behaves() {
    let seen = Seen::default();
    let result = TestRunner::new(cases(1_000)).run(&case(false), |case| {
        let end = play(&case);
        prop_assert_eq!(end.positions.written_off, TokenCount(0), "tokens lost, written off as {:?}", end.write_off);
        prop_assert_eq!(end.refusals.keys().filter(|(what, _)| *what == "claim").count(), 0, "a claim was refused: {:?}", end.refusals);
        prop_assert_eq!(end.operator, 0, "an operator was asked");
        seen.end(&case, &end);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    seen.expect(&["tokens", "claims", "tails below the minimum", "several claims", "threshold 7", "threshold 150", "threshold 1000"]);
}

#[test]
fn a_job_always_ends_paid_and_explained_whatever_goes_wrong() {
    let seen = Seen::default();
    let result = TestRunner::new(cases(1_000)).run(&case(true), |case| {
        let end = play(&case);
        for (what, refusal) in end.refusals.keys() {
            // Somebody else may always be first, and a close may be reorganised away; nothing that the planner decides is refused.
            let elsewhere = matches!(refusal, Refusal::WrongStatus | Refusal::ClaimWindowOver | Refusal::BelowMinimum);
            prop_assert!(elsewhere, "{} refused: {:?}", what, refusal);
        }
        seen.end(&case, &end);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let troubles = ["reorganisation", "close taken back", "pool dropped", "crash", "slow prover", "out of gas"]
        .map(|name| format!("{name} under a transaction"));
    seen.expect(
        &[&["tokens", "claims", "tails below the minimum", "several claims"], &troubles.each_ref().map(String::as_str)[..]].concat(),
    );
}
