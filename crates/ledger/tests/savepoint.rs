//! A list of events of which one is refused leaves no trace.

mod common;

use common::{Desk, KEY, attempt, block, done, ids, open, proof, start_turn, terms};
use milepost_ledger::{
    AccountId, ClaimId, Digest, EndReason, Event, JobId, OpenAccount, Purpose, SessionEnd, TokenCount, TokenSeq, TxId, UnixSeconds,
    VoucherTerms,
};

/// A job's whole life, with a free label beside it.
fn life() -> Vec<Event> {
    let (job, account, at) = (JobId(8), AccountId::Job(JobId(8)), UnixSeconds(1));
    let free = AccountId::Free(Digest([9; 32]));
    let mut terms = terms(1_000);
    terms.voucher = Some(VoucherTerms { signer: KEY, allowance: TokenCount(500) });
    let claim = ClaimId { job, first: TokenSeq(0), plan: 0 };
    let tx = |nonce| TxId { key: KEY, nonce };
    let free_terms = OpenAccount { id: free, terms: None, salt: common::SALT, model: Digest([0x55; 32]), threshold: 10, at };
    vec![
        open(8, terms, 100),
        Event::Open(Box::new(free_terms)),
        start_turn(account, "a"),
        start_turn(free, "a"),
        Event::Metered { account, at: TokenSeq(0), ids: ids(TokenSeq(0), 250) },
        Event::Metered { account: free, at: TokenSeq(0), ids: ids(TokenSeq(0), 25) },
        Event::EndTurn { account: free, reason: EndReason::Stop, at },
        Event::Retire { account: free },
        Event::Voucher { account, tokens: TokenCount(250), signature: vec![1] },
        Event::PlanClaim { job, until: TokenSeq(200), at },
        Event::Proving { claim },
        Event::Proved { claim, proof: proof() },
        Event::TxSigned { id: tx(3), purpose: Purpose::Claim(claim), attempt: attempt(tx(3), 0) },
        Event::TxSent { id: tx(3) },
        Event::TxIncluded { id: tx(3), hash: attempt(tx(3), 0).hash, block: block(5), outcome: done() },
        Event::TxReorged { id: tx(3) },
        Event::TxIncluded { id: tx(3), hash: attempt(tx(3), 0).hash, block: block(6), outcome: done() },
        Event::TxFinal { id: tx(3) },
        Event::Halt { account, reason: "look".into() },
        Event::Resume { account },
        Event::EndSession { account, reason: SessionEnd::ByClient, at },
        Event::TxSigned { id: tx(4), purpose: Purpose::RequestClose(job), attempt: attempt(tx(4), 0) },
        Event::TxReplaced { id: tx(4) },
        Event::ClosingSeen { job, until: UnixSeconds(9), at },
        Event::PlanClaim { job, until: TokenSeq(250), at },
        Event::AbandonClaim { claim: ClaimId { job, first: TokenSeq(200), plan: 0 }, reason: "moved on".into() },
    ]
}

#[test]
fn rolling_back_any_run_of_events_restores_the_ledger_exactly() {
    let life = life();
    for from in 0..life.len() {
        let mut desk = Desk::new(terms(500), 100);
        desk.meter(120);
        for event in &life[..from] {
            drop(desk.ok(event.clone()));
        }
        for to in from..=life.len() {
            let (before, events) = (desk.ledger.clone(), &life[from..to]);
            let savepoint = desk.ledger.savepoint(events);
            for event in events {
                drop(desk.ok(event.clone()));
            }
            assert!(to != from + 1 || desk.ledger != before, "event {from} changed nothing, so that undoing it shows nothing");
            desk.ledger.roll_back(savepoint);
            assert!(desk.ledger == before, "{from}..{to} left a trace");
        }
    }
}
