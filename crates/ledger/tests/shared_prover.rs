//! Many jobs, one prover: what all of them have left when every session is closed at once is proven within the closing window.

mod common;

use common::{Desk, START, terms};
use milepost_ledger::{Bound, Limits, SharedProver, Terms, TokenCount};
use proptest::prelude::*;

/// Seconds kept free at the end of a closing window, as the doors are set by default.
const RESERVE: u64 = 900;
/// Seconds of the window in which proofs are made.
const WINDOW: u64 = 3_600 - RESERVE;
/// Tokens of a full claim, as settlement is set by default.
const MAX_CLAIM: TokenCount = TokenCount(4_000);
/// The contract's least claim.
const MIN_CLAIM: u64 = 100;

/// A job that neither its deposit nor its rate keeps from running ahead.
fn unbounded() -> Terms {
    Terms { rate: 1_000_000, ..terms(100_000_000) }
}

fn limits(shared: Option<SharedProver>) -> Limits {
    Limits { reserve_seconds: RESERVE, max_at_risk: None, pace: None, shared }
}

/// Jobs of one host.
struct Jobs {
    desks: Vec<Desk>,
    proof_seconds: u64,
}

impl Jobs {
    fn new(count: usize, proof_seconds: u64) -> Self {
        Self { desks: (0..count).map(|_| Desk::new(unbounded(), 100)).collect(), proof_seconds }
    }

    fn left(&self, job: usize) -> TokenCount {
        let positions = &self.desks[job].account().record.positions;
        positions.metered - positions.submitted
    }

    fn quarters(&self, job: usize) -> u64 {
        SharedProver::quarters(self.left(job), MAX_CLAIM)
    }

    fn shared(&self, job: usize) -> SharedProver {
        let others = (0..self.desks.len()).filter(|other| *other != job).map(|other| self.quarters(other)).sum();
        SharedProver { proof_seconds: self.proof_seconds, max_claim_tokens: MAX_CLAIM, others }
    }

    /// Generates as many of the wished tokens as are admitted; which bound there is.
    fn run(&mut self, job: usize, wish: u64) -> Bound {
        let admission = self.desks[job].account().admissible(START, &limits(Some(self.shared(job))));
        let tokens = wish.min(admission.tokens.0);
        if tokens > 0 {
            self.desks[job].meter(tokens);
        }
        admission.bound
    }

    /// Seconds that one prover needs for everything that is left: a claim after the other, each as long as its quarters.
    fn seconds(&self) -> u64 {
        let claims = (0..self.desks.len()).flat_map(|job| {
            let left = self.left(job).0;
            let full = usize::try_from(left / MAX_CLAIM.0).expect("few");
            std::iter::repeat_n(MAX_CLAIM.0, full).chain(Some(left % MAX_CLAIM.0).filter(|tail| *tail > 0))
        });
        claims.map(|tokens| self.proof_seconds * (4 * tokens).div_ceil(MAX_CLAIM.0)).sum::<u64>().div_ceil(4)
    }
}

#[test]
fn a_hundred_jobs_that_close_together_are_proven_within_the_window() {
    let mut jobs = Jobs::new(100, 70);
    // All at once, each as fast as it may, until nobody may go on.
    for _ in 0..100 {
        for job in 0..100 {
            assert_eq!(jobs.run(job, 250), Bound::Proving, "the prover is what is short");
        }
    }
    let (seconds, tokens) = (jobs.seconds(), (0..100).map(|job| jobs.left(job).0).sum::<u64>());
    println!("figure 100 jobs that close together leave {tokens} tokens: {seconds} s of proving in a window of {WINDOW} s");
    assert!(seconds <= WINDOW, "{seconds} s of proving do not fit into {WINDOW} s");
    // Nobody is shut out: everyone has at least a claim's worth.
    assert!((0..100).all(|job| jobs.left(job).0 >= MIN_CLAIM));
    // What there would be without the bound.
    let mut free = Jobs::new(100, 70);
    for job in 0..100 {
        let admission = free.desks[job].account().admissible(START, &limits(None));
        assert!(admission.tokens.0 >= 25_000, "{admission:?}");
        free.desks[job].meter(25_000);
    }
    assert!(free.seconds() > WINDOW, "the bound is what keeps it");
}

#[test]
fn a_prover_that_is_taken_leaves_each_job_one_least_claim_and_gives_back_what_is_submitted() {
    let mut jobs = Jobs::new(2, 70);
    let capacity = WINDOW * 4 / 70;
    jobs.run(0, u64::MAX);
    assert_eq!(jobs.quarters(0), capacity, "alone, a job may fill it");
    assert_eq!(jobs.run(1, u64::MAX), Bound::Proving);
    assert_eq!(jobs.left(1).0, MIN_CLAIM);
    // The first job's claims are submitted: the room is there again.
    jobs.desks[0].land(100_000);
    let admission = jobs.desks[1].account().admissible(START, &limits(Some(jobs.shared(1))));
    assert_eq!(admission.tokens.0, 100_000 - MIN_CLAIM);
}

#[test]
fn where_proofs_take_no_time_nobody_waits_for_the_prover() {
    let desk = Desk::new(unbounded(), 100);
    assert_ne!(desk.account().admissible(START, &limits(None)).bound, Bound::Proving);
}

proptest! {
    #![proptest_config(common::cases(100))]

    /// Whatever order jobs run in: what is left takes no longer than the window, but for the least claim that each job may always
    /// have, a quarter of a proof each.
    #[test]
    fn the_window_holds_whatever_order_jobs_run_in(
        count in 1_usize..40,
        proof_seconds in 1_u64..2_000,
        steps in prop::collection::vec((0_usize..40, 1_u64..9_000), 1..150),
    ) {
        let mut jobs = Jobs::new(count, proof_seconds);
        for (job, wish) in steps {
            jobs.run(job % count, wish);
            let spare = (proof_seconds * (count as u64 - 1)).div_ceil(4) + proof_seconds.div_ceil(4);
            prop_assert!(jobs.seconds() <= WINDOW.max(1) + spare, "{} s of {WINDOW}", jobs.seconds());
        }
    }
}
