//! When to dial again, as a pure value: randomness is passed in.

use std::time::Duration;

/// Longest wait after the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait after any number of failures: a peer that was away is back on the network this soon.
const LONGEST: Duration = Duration::from_secs(10);
/// Wait after a refusal that only an operator can end: long enough to cost nothing, short enough to notice a corrected configuration.
const REFUSED: Duration = Duration::from_secs(30);

/// Waits between attempts to reach one peer.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a failure: doubled each time, and between a half and the whole of that by `random`, so that a set of validators
    /// that lost each other does not come back in one instant.
    pub(crate) fn failed(&mut self, random: u64) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        spread(longest, random)
    }

    /// The wait after a refusal.
    pub(crate) fn refused(&mut self, random: u64) -> Duration {
        self.failures = 0;
        spread(REFUSED, random)
    }

    /// The connection worked, or the peer was heard of: begins anew.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

fn spread(longest: Duration, random: u64) -> Duration {
    let half = longest / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_never_fall_below_half_of_it() {
        for random in [0, 1, 77_777, u64::MAX / 3, u64::MAX] {
            let mut backoff = Backoff::default();
            let mut longest = FIRST;
            for _ in 0..40 {
                let wait = backoff.failed(random);
                assert!(wait >= longest / 2 && wait <= longest, "{wait:?} for at most {longest:?}");
                longest = (longest * 2).min(LONGEST);
            }
            backoff.reset();
            assert!(backoff.failed(random) <= FIRST, "begins anew");
        }
    }

    #[test]
    fn two_peers_that_fail_together_do_not_dial_together() {
        let (mut one, mut other) = (Backoff::default(), Backoff::default());
        assert_ne!(one.failed(11), other.failed(99_999));
    }
}
