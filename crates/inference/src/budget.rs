//! The meter's hold on the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::Waker;

use futures::task::AtomicWaker;

/// How many tokens a generation may have sampled in all.
///
/// Shared with the caller, which raises it as tokens become durable, acknowledged and affordable. The engine takes one
/// before it samples one.
///
/// # Guarantees
///
/// `taken ≤ limit` at every instant, also while one thread takes and another lowers. Raising wakes the engine.
///
/// # Does not
///
/// Does not give back a token whose step failed: after [`crate::Error::EngineFailed`] `taken` may exceed what was
/// delivered by one. Counts end at `u32::MAX`, far above any context: a limit of that size or more is no limit and reads
/// back as `u64::MAX`.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Limit in the upper half, taken in the lower: one word, so that no order of two loads can let a token through.
    state: AtomicU64,
    engine: AtomicWaker,
}

const UNLIMITED: u64 = u32::MAX as u64;

fn pack(limit: u64, taken: u64) -> u64 {
    (limit.min(UNLIMITED) << 32) | taken
}

fn unpack(state: u64) -> (u64, u64) {
    (state >> 32, state & UNLIMITED)
}

impl Budget {
    /// A budget of `limit` tokens of which none is taken.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { state: AtomicU64::new(pack(limit, 0)), engine: AtomicWaker::new() }))
    }

    /// No limit: for requests that nobody pays for and nothing meters.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Raises the limit and wakes the engine. Never lowers it.
    pub fn raise_to(&self, limit: u64) {
        let raised = self.0.state.fetch_update(SeqCst, SeqCst, |state| {
            let (old, taken) = unpack(state);
            (limit.min(UNLIMITED) > old).then(|| pack(limit, taken))
        });
        if raised.is_ok() {
            self.0.engine.wake();
        }
    }

    /// Lowers the limit, but not under what was taken. Never raises it; a later [`Self::raise_to`] may.
    pub fn stop_at(&self, limit: u64) {
        let _ = self.0.state.fetch_update(SeqCst, SeqCst, |state| {
            let (old, taken) = unpack(state);
            (limit < old).then(|| pack(limit.max(taken), taken))
        });
    }

    /// The limit now; `u64::MAX` where there is none.
    pub fn limit(&self) -> u64 {
        match unpack(self.0.state.load(SeqCst)).0 {
            UNLIMITED => u64::MAX,
            limit => limit,
        }
    }

    /// Tokens the engine took so far.
    pub fn taken(&self) -> u64 {
        unpack(self.0.state.load(SeqCst)).1
    }

    /// Takes one token if the limit allows. Only an engine calls this, once for each token it is about to sample.
    #[must_use]
    pub fn try_take(&self) -> bool {
        self.0
            .state
            .fetch_update(SeqCst, SeqCst, |state| {
                let (limit, taken) = unpack(state);
                (taken < limit).then(|| pack(limit, taken + 1))
            })
            .is_ok()
    }

    /// Whom to wake when the limit rises. Register first, then ask [`Self::try_take`]: so no raise is missed.
    pub(crate) fn wake_on_raise(&self, waker: &Waker) {
        self.0.engine.register(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_stops_at_the_limit_and_goes_on_after_a_raise() {
        let budget = Budget::new(2);
        assert_eq!([budget.try_take(), budget.try_take(), budget.try_take()], [true, true, false]);
        budget.raise_to(1);
        assert_eq!((budget.limit(), budget.taken()), (2, 2), "a raise never lowers");
        budget.raise_to(3);
        assert_eq!([budget.try_take(), budget.try_take()], [true, false]);
    }

    #[test]
    fn a_stop_lowers_the_limit_but_not_under_what_was_taken() {
        let budget = Budget::unlimited();
        assert_eq!(budget.limit(), u64::MAX);
        for _ in 0..5 {
            assert!(budget.try_take());
        }
        budget.stop_at(7);
        assert_eq!(budget.limit(), 7);
        budget.stop_at(9);
        assert_eq!(budget.limit(), 7, "a stop never raises");
        budget.stop_at(1);
        assert_eq!((budget.limit(), budget.taken()), (5, 5));
        assert!(!budget.try_take());
    }

    #[test]
    fn no_interleaving_of_takes_and_stops_exceeds_the_limit() {
        for round in 0..200 {
            let budget = Budget::new(1_000);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| while budget.try_take() {});
                }
                scope.spawn(|| budget.stop_at(round));
            });
            assert_eq!(budget.taken(), budget.limit());
            assert!(budget.limit() >= round && budget.limit() <= 1_000);
        }
    }
}
