//! Several claims in one transaction: one nonce, one place on the chain, a fate each.

mod common;

use common::tables::Tables;
use common::{KEY, START, attempt, block, done, ids, open, partly, proof, reverted, start_turn, terms};
use milepost_ledger::{
    AccountId, AccountRecord, ClaimId, ClaimState, Effect, Error, Event, JobId, Ledger, Outcome, Phase, Positions, Purpose, RevertClass,
    SessionEnd, TokenCount, TokenSeq, TxId, TxState, UnixSeconds, WriteOff,
};

/// The transaction that carries the batch.
const BATCH: TxId = TxId { key: KEY, nonce: 0 };

/// Jobs 1 to `n`, each with a proven claim of its 100 tokens and 50 more, and the rows that this left.
struct Desk {
    ledger: Ledger,
    tables: Tables,
    claims: Vec<ClaimId>,
}

impl Desk {
    fn new(jobs: u64) -> Self {
        let mut desk = Self { ledger: Ledger::new(), tables: Tables::default(), claims: Vec::new() };
        for job in 1..=jobs {
            let account = AccountId::Job(JobId(job));
            desk.ok(open(job, terms(1_000), 100));
            desk.ok(start_turn(account, "r"));
            desk.ok(Event::Metered { account, at: TokenSeq(0), ids: ids(TokenSeq(0), 150) });
            desk.ok(Event::PlanClaim { job: JobId(job), until: TokenSeq(100), at: START });
            let claim = desk.record(job).claim.expect("just planned");
            desk.ok(Event::Proved { claim, proof: proof() });
            desk.claims.push(claim);
        }
        desk
    }

    fn ok(&mut self, event: Event) {
        let name = format!("{event:?}");
        let effects = self.ledger.apply(event).unwrap_or_else(|error| panic!("{name}: {error}"));
        self.tables.write(&effects);
    }

    fn refused(&mut self, event: Event) -> Error {
        let before = self.ledger.clone();
        let error = self.ledger.apply(event).expect_err("refused");
        assert!(self.ledger == before, "a refused event changed something");
        error
    }

    fn record(&self, job: u64) -> &AccountRecord {
        &self.ledger.job(JobId(job)).expect("in memory").record
    }

    fn positions(&self, job: u64) -> Positions {
        self.record(job).positions
    }

    /// U, L and F of each job.
    fn stand(&self) -> Vec<(u64, u64, u64)> {
        let jobs = 1..=self.claims.len() as u64;
        jobs.map(|job| self.positions(job)).map(|at| (at.submitted.0, at.landed.0, at.finalized.0)).collect()
    }

    fn state(&self, job: u64) -> &ClaimState {
        &self.tables.claims[&self.claims[usize::try_from(job).unwrap() - 1]].state
    }

    fn sign(&self) -> Event {
        signed(BATCH, &self.claims, 0)
    }

    fn include(&mut self, outcome: Outcome) {
        self.ok(Event::TxIncluded { id: BATCH, hash: attempt(BATCH, 0).hash, block: block(7), outcome });
    }

    /// The ledger rebuilt from its rows is the same.
    fn restart(&mut self) {
        let rebuilt = self.tables.restore(false).expect("the rows fit together");
        for account in rebuilt.accounts() {
            assert_eq!(Some(account), self.ledger.account(account.id()));
        }
        assert!(rebuilt.txs().eq(self.ledger.txs()));
        self.ledger = rebuilt;
    }
}

fn signed(id: TxId, claims: &[ClaimId], number: u8) -> Event {
    Event::TxSigned { id, purpose: Purpose::Claims(claims.to_vec()), attempt: attempt(id, number) }
}

#[test]
fn the_claims_of_a_batch_are_signed_land_and_become_final_together() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    assert_eq!(desk.stand(), [(100, 0, 0); 3]);
    assert_eq!(desk.ledger.next_nonce(KEY), Some(1), "one nonce for all of them");
    desk.restart();
    desk.ok(Event::TxSent { id: BATCH });
    desk.include(done());
    assert_eq!(desk.stand(), [(100, 100, 0); 3]);
    desk.restart();
    desk.ok(Event::TxFinal { id: BATCH });
    assert_eq!(desk.stand(), [(100, 100, 100); 3]);
    assert!((1..=3).all(|job| *desk.state(job) == ClaimState::Final(BATCH) && desk.record(job).claim.is_none()));
    assert_eq!(desk.ledger.txs().count(), 0);
    desk.restart();
}

#[test]
fn a_batch_is_signed_for_all_of_its_accounts_or_for_none() {
    // Whichever of them may not: the others were asked before it, or after it.
    for job in 1..=3 {
        let mut desk = Desk::new(3);
        desk.ok(Event::Halt { account: AccountId::Job(JobId(job)), reason: "looks wrong".to_owned() });
        let before = desk.ledger.clone();
        let answer = desk.ledger.apply(desk.sign());
        assert!(
            answer.is_err() && desk.ledger == before,
            "a batch was signed although one of its accounts may not: job {job}, {:?}",
            desk.stand()
        );
    }
    // A claim that is not proven, one that is submitted already, one that is nobody's.
    let mut desk = Desk::new(3);
    desk.ok(Event::TxSigned { id: BATCH, purpose: Purpose::Claim(desk.claims[1]), attempt: attempt(BATCH, 0) });
    let next = TxId { nonce: 1, ..BATCH };
    assert!(matches!(desk.refused(signed(next, &desk.claims.clone(), 0)), Error::WrongState { .. }), "one claim, two nonces");
    let stranger = ClaimId { plan: 9, ..desk.claims[2] };
    assert_eq!(desk.refused(signed(next, &[desk.claims[0], stranger], 0)), Error::UnknownClaim(stranger));
    assert_eq!(desk.stand(), [(0, 0, 0), (100, 0, 0), (0, 0, 0)]);
}

#[test]
fn a_batch_holds_two_claims_or_more_each_of_another_job() {
    let mut desk = Desk::new(2);
    let [first, second] = [desk.claims[0], desk.claims[1]];
    for claims in [vec![], vec![first], vec![first, first], vec![first, second, second]] {
        assert!(matches!(desk.refused(signed(BATCH, &claims, 0)), Error::WrongState { .. }), "{claims:?}");
    }
    let mut many = Desk::new(Purpose::MAX_CLAIMS as u64 + 1);
    let claims = many.claims.clone();
    assert!(matches!(many.refused(signed(BATCH, &claims, 0)), Error::WrongState { .. }), "more than a contract takes");
    many.ok(signed(BATCH, &claims[1..], 0));
}

#[test]
fn a_nonce_keeps_its_claims_for_life() {
    let mut desk = Desk::new(3);
    desk.ok(signed(BATCH, &desk.claims[..2], 0));
    let (all, turned) = (desk.claims.clone(), vec![desk.claims[1], desk.claims[0]]);
    for other in [all, turned, vec![desk.claims[0], desk.claims[2]]] {
        assert_eq!(desk.refused(signed(BATCH, &other, 1)), Error::NonceTaken(BATCH), "{other:?}");
    }
    desk.ok(signed(BATCH, &desk.claims[..2], 1));
    assert_eq!(desk.ledger.tx(BATCH).expect("there").attempts.len(), 2);
}

#[test]
fn a_refused_claim_of_a_batch_is_owed_again_and_the_others_are_paid() {
    let classes = [RevertClass::Replan, RevertClass::Pace(UnixSeconds(9_000_000)), RevertClass::Stop];
    for class in classes {
        let mut desk = Desk::new(3);
        desk.ok(desk.sign());
        desk.include(partly(&[desk.claims[1]], class));
        assert_eq!(desk.stand(), [(100, 100, 0), (100, 0, 0), (100, 100, 0)], "what was refused has not landed");
        desk.restart();
        desk.ok(Event::TxFinal { id: BATCH });
        assert_eq!(desk.stand(), [(100, 100, 100), (0, 0, 0), (100, 100, 100)]);
        assert_eq!(*desk.state(2), ClaimState::Reverted { reason: "WrongStatus".to_owned() });
        let record = desk.record(2);
        assert_eq!(
            (record.halted.is_some(), record.not_before.0),
            match class {
                RevertClass::Stop => (true, 0),
                RevertClass::Pace(until) => (false, until.0),
                RevertClass::Replan => (false, 0),
            }
        );
        assert!([1, 3].iter().all(|job| desk.record(*job).halted.is_none() && desk.record(*job).not_before.0 == 0));
        desk.restart();
    }
}

#[test]
fn what_a_batch_is_said_to_have_refused_must_be_of_it() {
    let mut desk = Desk::new(3);
    desk.ok(signed(BATCH, &desk.claims[..2], 0));
    let [first, other] = [desk.claims[0], desk.claims[2]];
    let include = |outcome| Event::TxIncluded { id: BATCH, hash: attempt(BATCH, 0).hash, block: block(7), outcome };
    for refused in [vec![], vec![other], vec![first, other], vec![first, first]] {
        let error = desk.refused(include(partly(&refused, RevertClass::Replan)));
        assert!(matches!(error, Error::WrongState { .. }), "{refused:?}: {error}");
    }
    let single = TxId { nonce: 1, ..BATCH };
    desk.ok(Event::TxSigned { id: single, purpose: Purpose::Claim(other), attempt: attempt(single, 0) });
    let outcome = partly(&[other], RevertClass::Replan);
    desk.refused(Event::TxIncluded { id: single, hash: attempt(single, 0).hash, block: block(7), outcome });
}

#[test]
fn a_batch_that_reverts_or_is_cancelled_leaves_every_claim_owed() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    desk.include(reverted(RevertClass::Replan));
    assert_eq!(desk.stand(), [(100, 0, 0); 3]);
    desk.ok(Event::TxFinal { id: BATCH });
    assert_eq!(desk.stand(), [(0, 0, 0); 3]);
    assert!((1..=3).all(|job| matches!(desk.state(job), ClaimState::Reverted { .. })));
    for job in 1..=3 {
        desk.ok(Event::PlanClaim { job: JobId(job), until: TokenSeq(100), at: START });
        assert_eq!(desk.record(job).claim.map(|claim| claim.plan), Some(1));
    }
}

#[test]
fn a_reorganisation_takes_every_claim_of_a_batch_back() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    desk.include(partly(&[desk.claims[0]], RevertClass::Stop));
    desk.ok(Event::TxReorged { id: BATCH });
    assert_eq!(desk.stand(), [(100, 0, 0); 3]);
    assert!((1..=3).all(|job| *desk.state(job) == ClaimState::Submitted(BATCH)), "unknown again, one as the other");
    desk.restart();
    // Included again, it did something else.
    desk.include(partly(&[desk.claims[2]], RevertClass::Replan));
    desk.ok(Event::TxFinal { id: BATCH });
    assert_eq!(desk.stand(), [(100, 100, 100), (100, 100, 100), (0, 0, 0)]);
    assert!(desk.record(1).halted.is_none(), "what a block said that is gone halts nobody");
}

#[test]
fn a_batch_whose_nonce_was_used_elsewhere_leaves_every_claim_owed() {
    let mut desk = Desk::new(2);
    desk.ok(desk.sign());
    desk.ok(Event::TxReplaced { id: BATCH });
    assert_eq!(desk.stand(), [(0, 0, 0); 2]);
    assert!((1..=2).all(|job| *desk.state(job) == ClaimState::Replaced));
    assert!(matches!(desk.tables.txs[&BATCH].state, TxState::Replaced));
    desk.restart();
}

#[test]
fn a_job_that_is_paid_while_its_batch_waits_holds_up_nobody() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    let account = AccountId::Job(JobId(2));
    desk.ok(Event::EndSession { account, reason: SessionEnd::OnChain, at: START });
    let payout = terms(1_000).payout(TokenCount(0)).expect("within the deposit");
    desk.ok(Event::Paid { job: JobId(2), payout, rest: Some(WriteOff::ClosedEarly) });
    assert!(matches!(desk.record(2).phase, Phase::Paid(_)));
    assert!(matches!(desk.refused(Event::Retire { account }), Error::WrongState { .. }), "its transaction is still followed");
    // Paid accounts are not loaded: the batch goes on without it, before a restart and after.
    for restarts in [false, true] {
        let (mut ledger, tables) = (desk.ledger.clone(), desk.tables.clone());
        if restarts {
            ledger = tables.restore(false).expect("the rows fit together");
            assert!(ledger.account(account).is_none());
        }
        let mut desk = Desk { ledger, tables, claims: desk.claims.clone() };
        desk.include(partly(&[desk.claims[1]], RevertClass::Replan));
        desk.ok(Event::TxFinal { id: BATCH });
        assert!([1, 3].iter().all(|job| desk.positions(*job).finalized == TokenSeq(100)));
        assert!(matches!(desk.state(2), ClaimState::Abandoned { .. }));
        if !restarts {
            desk.ok(Event::Retire { account });
        }
    }
}

#[test]
fn a_halted_job_in_a_batch_still_learns_of_its_claims_fate() {
    let mut desk = Desk::new(2);
    desk.ok(desk.sign());
    desk.ok(Event::Halt { account: AccountId::Job(JobId(1)), reason: "looks wrong".to_owned() });
    desk.include(done());
    desk.ok(Event::TxFinal { id: BATCH });
    assert_eq!(desk.stand(), [(100, 100, 100); 2]);
}

#[test]
fn a_claim_whose_transaction_does_not_name_it_is_not_restored() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    if let Some(tx) = desk.tables.txs.get_mut(&BATCH) {
        tx.purpose = Purpose::Claims(desk.claims[..2].to_vec());
    }
    assert!(matches!(desk.tables.restore(false), Err(Error::WrongState { event: "restored", .. })));
}

#[test]
fn undoing_a_list_of_events_undoes_the_whole_batch() {
    let mut desk = Desk::new(3);
    let events = vec![
        desk.sign(),
        Event::TxSent { id: BATCH },
        Event::TxIncluded { id: BATCH, hash: attempt(BATCH, 0).hash, block: block(7), outcome: done() },
        Event::TxFinal { id: BATCH },
    ];
    let before = desk.ledger.clone();
    let savepoint = desk.ledger.savepoint(&events);
    for event in events {
        assert!(desk.ledger.apply(event).expect("accepted").iter().any(|effect| matches!(effect, Effect::PutTx(_))));
    }
    desk.ledger.roll_back(savepoint);
    assert!(desk.ledger == before, "rolling back leaves something of the batch");
}

#[test]
fn the_parts_of_what_a_batch_cost_add_up_to_it() {
    let mut desk = Desk::new(3);
    desk.ok(desk.sign());
    let tx = desk.ledger.tx(BATCH).expect("there");
    let parts = |cost| [1, 2, 3].map(|job| tx.share(cost, JobId(job)));
    assert_eq!(parts(90_002), [30_001, 30_001, 30_000]);
    assert_eq!(parts(2), [1, 1, 0]);
    assert_eq!(tx.share(90_002, JobId(4)), 0, "a job that is not in it");
}
