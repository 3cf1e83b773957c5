//! The money rules one by one: each test tells a story in which a job could be paid twice, lose tokens, or be stranded.

mod common;

use common::tables::Tables;
use common::{Desk, KEY, START, attempt, block, done, ids, open, proof, reverted, start_turn, terms};
use milepost_ledger::{
    AccountId, Claim, ClaimState, Digest, Effect, EndReason, Error, Event, JobId, Ledger, OpenAccount, Phase, Purpose, RevertClass, Salt,
    SessionEnd, TokenCount, TokenSeq, Tx, TxId, TxState, UnixSeconds, WriteOff,
};

fn close(desk: &Desk) -> Purpose {
    Purpose::RequestClose(desk.job)
}

fn finalize(desk: &Desk) -> Purpose {
    Purpose::Finalize(desk.job)
}

fn sign(id: TxId, purpose: Purpose) -> Event {
    Event::TxSigned { id, purpose, attempt: attempt(id, 0) }
}

fn text(desk: &Desk) -> String {
    desk.account().record.positions.to_string()
}

#[test]
fn the_example_of_the_crates_documentation_comes_out_as_told() {
    let mut desk = Desk::new(terms(1_000), 100);
    let account = desk.id();
    desk.ok(start_turn(account, "r"));
    for seq in 0..250 {
        desk.ok(Event::Metered { account, at: TokenSeq(seq), ids: ids(TokenSeq(seq), 1) });
    }
    assert_eq!(text(&desk), "M 250 S 200 P 0 U 0 L 0 F 0 Z 0 W 0");
    let claim = desk.prove(200);
    assert_eq!(text(&desk), "M 250 S 200 P 200 U 0 L 0 F 0 Z 0 W 0");
    let tx = desk.send(Purpose::Claim(claim));
    assert_eq!(text(&desk), "M 250 S 200 P 200 U 200 L 0 F 0 Z 0 W 0");
    desk.include(tx, done());
    desk.ok(Event::TxFinal { id: tx });
    assert_eq!(text(&desk), "M 250 S 200 P 200 U 200 L 200 F 200 Z 0 W 0");
    desk.end();
    desk.ok(Event::ClosingSeen { job: desk.job, until: START.plus(3_600), at: START });
    desk.land(250);
    let paid = desk.paid();
    desk.ok(paid);
    assert_eq!(text(&desk), "M 250 S 250 P 250 U 250 L 250 F 250 Z 250 W 0");
    let Phase::Paid(payout) = &desk.account().record.phase else { panic!("paid") };
    // 250 × 0.002 = 0.50 of 2.00: 0.45 to the host, 0.05 to the treasury, 1.50 back.
    assert_eq!((payout.host.0, payout.treasury.0, payout.refund.0), (450_000, 50_000, 1_500_000));
}

#[test]
fn a_reorganisation_takes_the_landed_back_and_inclusion_brings_it_again() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let claim = desk.prove(100);
    let id = desk.send(Purpose::Claim(claim));
    desk.include(id, done());
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 100 F 0 Z 0 W 0");
    desk.ok(Event::TxReorged { id });
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 0 F 0 Z 0 W 0");
    assert_eq!(desk.ledger.tx(id).expect("still watched").state, TxState::Sent, "unknown, not failed: the stored bytes are sent again");
    desk.ok(Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(101), outcome: done() });
    desk.ok(Event::TxFinal { id });
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 100 F 100 Z 0 W 0");
}

#[test]
fn a_reverted_claims_tokens_are_owed_again_under_a_new_name() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let first = desk.prove(100);
    let id = desk.send(Purpose::Claim(first));
    desk.include(id, reverted(RevertClass::Pace(UnixSeconds(77))));
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 0 F 0 Z 0 W 0", "until the revert is final it might be reorganised away");
    desk.ok(Event::TxFinal { id });
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 0 L 0 F 0 Z 0 W 0");
    assert_eq!(desk.account().record.not_before, UnixSeconds(77));
    let second = desk.prove(100);
    assert_ne!(first, second);
    assert_eq!(second.plan, 1);
    let id = desk.send(Purpose::Claim(second));
    desk.include(id, done());
    desk.ok(Event::TxFinal { id });
    desk.meter(100);
    assert_eq!(desk.prove(200).to_string(), "7-100-0", "each run is counted for itself");
}

#[test]
fn a_claim_that_keeps_reverting_stops_at_a_named_bound_and_an_operator_lets_it_go_on() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    for _ in 0..Claim::MAX_PLANS {
        let claim = desk.prove(100);
        let id = desk.send(Purpose::Claim(claim));
        desk.include(id, reverted(RevertClass::Replan));
        desk.ok(Event::TxFinal { id });
    }
    assert!(
        desk.account().record.halted.as_ref().is_some_and(|reason| reason.contains("reverted again")),
        "{:?}",
        desk.account().record.halted
    );
    desk.refused(Event::PlanClaim { job: desk.job, until: TokenSeq(100), at: START });
    let account = desk.id();
    desk.ok(Event::Resume { account });
    desk.land(100);
    assert_eq!(desk.account().record.positions.finalized, TokenSeq(100));
}

#[test]
fn a_halted_job_signs_nothing_new_but_resumes_where_it_stood() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(250);
    let claim = desk.prove(200);
    let account = desk.id();
    desk.ok(Event::Halt { account, reason: "the chain is ahead".to_owned() });
    desk.refused(sign(TxId { key: KEY, nonce: 0 }, Purpose::Claim(claim)));
    desk.refused(start_turn(account, "another"));
    assert!(desk.ok(Event::Resume { account }).len() == 1);
    assert!(desk.ok(Event::Resume { account }).is_empty(), "nothing to lift");
    desk.send(Purpose::Claim(claim));
}

#[test]
fn no_payout_is_asked_for_while_a_claim_is_signed() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(250);
    let claim = desk.prove(200);
    desk.end();
    let id = desk.send(Purpose::Claim(claim));
    desk.refused(sign(TxId { key: KEY, nonce: 1 }, finalize(&desk)));
    desk.include(id, done());
    desk.refused(sign(TxId { key: KEY, nonce: 1 }, finalize(&desk)));
    desk.ok(Event::TxFinal { id });
    desk.send(finalize(&desk));
}

#[test]
fn no_claim_is_planned_or_signed_once_the_payout_was_asked_for() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(250);
    desk.end();
    let late = desk.prove(200);
    desk.send(finalize(&desk));
    desk.refused(sign(TxId { key: KEY, nonce: 1 }, Purpose::Claim(late)));
    desk.ok(Event::AbandonClaim { claim: late, reason: "too late".to_owned() });
    desk.refused(Event::PlanClaim { job: desk.job, until: TokenSeq(200), at: START });
}

#[test]
fn a_session_that_is_open_here_is_neither_closed_nor_finalized_nor_paid() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(50);
    desk.refused(sign(TxId { key: KEY, nonce: 0 }, close(&desk)));
    desk.refused(sign(TxId { key: KEY, nonce: 0 }, finalize(&desk)));
    let paid = desk.paid();
    desk.refused(paid);
    desk.end();
    let paid = desk.paid();
    desk.ok(paid);
    assert_eq!(text(&desk), "M 50 S 50 P 0 U 0 L 0 F 0 Z 0 W 50");
}

#[test]
fn tokens_that_landed_but_are_not_final_are_paid_only_after_their_transaction_is_final() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let claim = desk.prove(100);
    let id = desk.send(Purpose::Claim(claim));
    desk.include(id, done());
    desk.end();
    let payout = desk.account().record.terms.as_ref().and_then(|terms| terms.payout(TokenCount(100))).expect("within the deposit");
    let paid = Event::Paid { job: desk.job, payout, rest: None };
    assert!(matches!(desk.refused(paid.clone()), Error::Payout { .. }));
    desk.ok(Event::TxFinal { id });
    desk.ok(paid);
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 100 F 100 Z 100 W 0");
}

#[test]
fn a_job_is_paid_once_and_to_the_unit() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    desk.land(100);
    desk.end();
    let Event::Paid { job, payout, .. } = desk.paid() else { panic!("a payout") };
    for wrong in [payout.host.0 + 1, payout.host.0 - 1] {
        let payout = milepost_ledger::Payout { host: milepost_ledger::TokenAmount(wrong), ..payout };
        desk.refused(Event::Paid { job, payout, rest: None });
    }
    desk.refused(Event::Paid { job, payout, rest: Some(WriteOff::TimedOut) });
    desk.ok(Event::Paid { job, payout, rest: None });
    desk.refused(Event::Paid { job, payout, rest: None });
    let account = desk.id();
    desk.ok(Event::Retire { account });
    assert_eq!(
        desk.refused(open(7, terms(1_000), 100)),
        Error::NotOpen(account),
        "a retired job opened again would begin at token 0 over its own records"
    );
}

/// The host's finalize and its payout become final in the same block, and the process dies between the two.
#[test]
fn transactions_of_a_paid_job_are_followed_to_their_end_after_a_restart() {
    let mut desk = Desk::new(terms(1_000), 100);
    let mut tables = Tables::default();
    let record = Effect::PutAccount(Box::new(desk.account().record.clone()));
    tables.write(&[record]);
    desk.end();
    for id in [0, 1] {
        let purpose = if id == 0 { close(&desk) } else { finalize(&desk) };
        let id = TxId { key: KEY, nonce: id };
        tables.write(&desk.ledger.apply(sign(id, purpose)).expect("signed"));
        tables.write(&desk.ok(Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(9), outcome: done() }));
    }
    let paid = desk.paid();
    tables.write(&desk.ok(paid));
    desk.restart(&tables);
    assert!(desk.ledger.job(desk.job).is_none(), "a paid account is not loaded");
    assert_eq!(desk.ledger.txs().count(), 2);
    for nonce in [0, 1] {
        tables.write(&desk.ok(Event::TxFinal { id: TxId { key: KEY, nonce } }));
    }
    assert_eq!(desk.ledger.txs().count(), 0);
    assert!(tables.txs.values().all(|tx| matches!(tx.state, TxState::Final { .. })));
}

#[test]
fn a_claim_has_one_nonce_for_life() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let claim = desk.prove(100);
    let id = desk.send(Purpose::Claim(claim));
    let second = sign(TxId { key: KEY, nonce: id.nonce + 1 }, Purpose::Claim(claim));
    for event in [
        Event::TxSent { id },
        Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(5), outcome: done() },
        Event::TxReorged { id },
    ] {
        assert!(desk.ledger.clone().apply(second.clone()).is_err(), "a claim was given a second nonce");
        desk.ok(event);
    }
    assert!(desk.ledger.clone().apply(second).is_err(), "a claim was given a second nonce");
}

#[test]
fn a_gap_is_filled_only_below_a_transaction_that_waits_and_moves_no_position() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let claim = desk.prove(100);
    let (gap, id) = (TxId { key: KEY, nonce: 4 }, TxId { key: KEY, nonce: 5 });
    assert!(matches!(desk.refused(sign(gap, Purpose::Fill(desk.job))), Error::WrongState { .. }), "nothing waits behind it");
    desk.ok(sign(id, Purpose::Claim(claim)));
    assert_eq!(desk.refused(sign(id, Purpose::Fill(desk.job))), Error::NonceTaken(id), "a claim's own nonce is never filled");
    let before = text(&desk);
    for event in [
        sign(gap, Purpose::Fill(desk.job)),
        Event::TxIncluded { id: gap, hash: attempt(gap, 0).hash, block: block(5), outcome: done() },
        Event::TxReorged { id: gap },
        Event::TxIncluded { id: gap, hash: attempt(gap, 0).hash, block: block(6), outcome: done() },
        Event::TxFinal { id: gap },
    ] {
        desk.ok(event);
        assert_eq!(text(&desk), before);
    }
    assert_eq!((desk.ledger.next_nonce(KEY), desk.ledger.txs().count()), (Some(6), 1));
    // Or somebody else used the nonce after all: nothing is owed, nothing is lost.
    let other = TxId { key: KEY, nonce: 3 };
    desk.ok(sign(other, Purpose::Fill(desk.job)));
    desk.ok(Event::TxReplaced { id: other });
    assert_eq!(text(&desk), before);
}

/// The window closed under a signed claim: the payout is final first, then the claim's own transaction reverts.
#[test]
fn a_claim_given_up_by_the_payout_still_has_its_nonce_resolved() {
    for restart in [false, true] {
        let mut desk = Desk::new(terms(1_000), 100);
        let mut tables = Tables::default();
        tables.write(&[Effect::PutAccount(Box::new(desk.account().record.clone()))]);
        let account = desk.id();
        for event in [
            start_turn(account, "r"),
            Event::Metered { account, at: TokenSeq(0), ids: ids(TokenSeq(0), 100) },
            Event::EndSession { account, reason: SessionEnd::Idle, at: START },
            Event::PlanClaim { job: desk.job, until: TokenSeq(100), at: START },
        ] {
            tables.write(&desk.ok(event));
        }
        let claim = desk.account().record.claim.expect("planned");
        let id = TxId { key: KEY, nonce: 4 };
        tables.write(&desk.ok(Event::Proved { claim, proof: proof() }));
        tables.write(&desk.ok(sign(id, Purpose::Claim(claim))));
        let paid = desk.paid();
        tables.write(&desk.ok(paid));
        assert!(matches!(tables.claims[&claim].state, ClaimState::Abandoned { .. }));
        assert_eq!(text(&desk), "M 100 S 100 P 100 U 0 L 0 F 0 Z 0 W 100");
        desk.refused(Event::Retire { account });
        if restart {
            desk.restart(&tables);
        }
        let outcome = reverted(RevertClass::Stop);
        tables.write(&desk.ok(Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(9), outcome }));
        tables.write(&desk.ok(Event::TxReorged { id }));
        tables.write(&desk.ok(Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(10), outcome: reverted(RevertClass::Stop) }));
        tables.write(&desk.ok(Event::TxFinal { id }));
        assert_eq!(tables.accounts[&account].halted, None, "a revert that changes nothing any more needs no operator");
        assert_eq!(desk.ledger.next_nonce(KEY), Some(5));
    }
}

#[test]
fn a_nonce_keeps_its_purpose_after_it_was_resolved_and_after_a_restart() {
    let mut desk = Desk::new(terms(1_000), 100);
    let mut tables = Tables::default();
    tables.write(&[Effect::PutAccount(Box::new(desk.account().record.clone()))]);
    let account = desk.id();
    tables.write(&desk.ok(Event::EndSession { account, reason: SessionEnd::Idle, at: START }));
    let id = TxId { key: KEY, nonce: 3 };
    for event in [
        sign(id, close(&desk)),
        Event::TxIncluded { id, hash: attempt(id, 0).hash, block: block(5), outcome: done() },
        Event::TxFinal { id },
    ] {
        tables.write(&desk.ok(event));
    }
    for _ in 0..2 {
        // An endpoint that lags would have the nonce used a second time, over the record of the first.
        assert_eq!(desk.refused(sign(id, finalize(&desk))), Error::NonceTaken(id));
        assert_eq!(desk.ledger.next_nonce(KEY), Some(4));
        desk.restart(&tables);
    }
    desk.ok(sign(TxId { key: KEY, nonce: 4 }, finalize(&desk)));
}

#[test]
fn an_attempt_told_twice_is_stored_once_and_attempts_are_bounded() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.end();
    let id = desk.send(finalize(&desk));
    assert!(desk.ok(sign(id, finalize(&desk))).is_empty());
    for number in 1..Tx::MAX_ATTEMPTS {
        let attempt = attempt(id, u8::try_from(number).expect("few"));
        assert_eq!(desk.ok(Event::TxSigned { id, purpose: finalize(&desk), attempt }).len(), 1);
    }
    let over = Event::TxSigned { id, purpose: finalize(&desk), attempt: attempt(id, 200) };
    assert_eq!(desk.refused(over), Error::TooManyAttempts(id));
    assert_eq!(desk.refused(Event::TxSigned { id, purpose: close(&desk), attempt: attempt(id, 201) }), Error::NonceTaken(id));
}

#[test]
fn a_timeout_is_not_a_failure() {
    let mut desk = Desk::new(terms(1_000), 100);
    desk.meter(100);
    let claim = desk.prove(100);
    let id = desk.send(Purpose::Claim(claim));
    // Nothing the chain has not said can resolve a signed claim.
    desk.refused(Event::AbandonClaim { claim, reason: "no receipt".to_owned() });
    desk.refused(Event::PlanClaim { job: desk.job, until: TokenSeq(100), at: START });
    desk.refused(sign(TxId { key: KEY, nonce: 1 }, Purpose::Claim(claim)));
    desk.refused(Event::TxFinal { id });
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 100 L 0 F 0 Z 0 W 0");
    desk.ok(Event::TxReplaced { id });
    assert_eq!(text(&desk), "M 100 S 100 P 100 U 0 L 0 F 0 Z 0 W 0");
}

#[test]
fn what_cannot_be_metered_is_refused_by_name() {
    let mut desk = Desk::new(terms(150), 100);
    let account = desk.id();
    let metered = |at, count| Event::Metered { account, at: TokenSeq(at), ids: ids(TokenSeq(at), count) };
    assert_eq!(desk.refused(metered(0, 1)), Error::NoTurn(account));
    desk.ok(start_turn(account, "r"));
    assert!(matches!(desk.refused(metered(0, 0)), Error::WrongState { .. }));
    assert!(matches!(desk.refused(metered(1, 1)), Error::OutOfOrder { .. }));
    assert!(matches!(desk.refused(metered(0, 151)), Error::Deposit { .. }));
    desk.ok(metered(0, 150));
    assert!(matches!(desk.refused(metered(150, 1)), Error::Deposit { .. }));
    assert!(matches!(desk.refused(start_turn(account, "r")), Error::RequestExists { turn: 0, .. }));
    assert!(matches!(desk.refused(start_turn(account, "s")), Error::Busy { .. }));
    desk.ok(Event::EndTurn { account, reason: EndReason::Escrow, at: START });
    assert_eq!(desk.refused(metered(150, 1)), Error::NoTurn(account));
}

#[test]
fn a_salted_job_is_refused_before_it_is_served_to_whoever_lacks_the_salt() {
    let mut ledger = Ledger::new();
    let terms = terms(1_000);
    let id = AccountId::Job(JobId(7));
    let open =
        |salt| Event::Open(Box::new(OpenAccount { id, model: terms.model, terms: Some(terms.clone()), salt, threshold: 100, at: START }));
    assert!(matches!(ledger.apply(open(Salt::default())), Err(Error::WrongSalt { .. })));
    assert!(ledger.job(JobId(7)).is_none());
    assert!(ledger.apply(open(common::SALT)).is_ok());
}

#[test]
fn a_free_label_has_no_terms() {
    let mut ledger = Ledger::new();
    let id = AccountId::Free(Digest([4; 32]));
    let open =
        |terms| Event::Open(Box::new(OpenAccount { id, terms, salt: common::SALT, model: Digest([0x55; 32]), threshold: 100, at: START }));
    assert_eq!(ledger.apply(open(Some(terms(1_000)))).expect_err("tokens that no claim could name"), Error::NotSettling(id));
    assert!(ledger.apply(open(None)).is_ok());
    assert!(ledger.apply(Event::Retire { account: id }).is_ok());
    assert_eq!(ledger.apply(open(None)).expect_err("its records stand"), Error::NotOpen(id));
}

#[test]
fn records_that_do_not_fit_together_are_not_restored() {
    let mut desk = Desk::new(terms(1_000), 100);
    let mut tables = Tables::default();
    tables.write(&[Effect::PutAccount(Box::new(desk.account().record.clone()))]);
    let account = desk.id();
    for event in [start_turn(account, "r"), Event::Metered { account, at: TokenSeq(0), ids: ids(TokenSeq(0), 250) }] {
        tables.write(&desk.ok(event));
    }
    tables.write(&desk.ok(Event::PlanClaim { job: desk.job, until: TokenSeq(200), at: START }));
    let claim = desk.account().record.claim.expect("planned");
    let id = TxId { key: KEY, nonce: 0 };
    tables.write(&desk.ok(Event::Proved { claim, proof: proof() }));
    tables.write(&desk.ok(sign(id, Purpose::Claim(claim))));
    assert!(tables.restore(true).is_ok());
    let damaged = |damage: &dyn Fn(&mut Tables)| {
        let mut tables = tables.clone();
        damage(&mut tables);
        tables.restore(true).expect_err("damaged").to_string()
    };
    let lost_tx = damaged(&|tables| tables.txs.clear());
    assert!(lost_tx.contains("claim 7-0-0 cannot be restored while it is carried by nonce 0"), "{lost_tx}");
    let lost_claim = damaged(&|tables| tables.claims.clear());
    assert!(lost_claim.contains("naming a claim that has no record"), "{lost_claim}");
    let resolved = damaged(&|tables| tables.claims.get_mut(&claim).expect("its row").state = ClaimState::Replaced);
    assert!(resolved.contains("or a resolved one"), "{resolved}");
    let lost_checkpoint = damaged(&|tables| drop(tables.checkpoints.remove(&(account, 1))));
    assert!(lost_checkpoint.contains("missing checkpoints between F 0 and S 200"), "{lost_checkpoint}");
    let lost_tokens = damaged(&|tables| tables.tokens.get_mut(&account).expect("its row").truncate(220));
    assert!(lost_tokens.contains("missing tokens between S 200 and M 250"), "{lost_tokens}");
}
