//! Waiting longer after each failure, by no fixed amount, so that many nodes do not come back to an endpoint at once.

use std::time::Duration;

use rand::Rng as _;

/// Longest pause: a chain that comes back is noticed within half a minute.
const LONGEST: Duration = Duration::from_secs(30);
/// Doublings after which the pause is at its longest from any sensible first one.
const MAX_DOUBLINGS: u32 = 12;

/// The pause after `failures` failures in a row (at least one), between half of and the whole of `first × 2^(failures − 1)`.
pub(crate) fn pause(first: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(MAX_DOUBLINGS)).min(LONGEST);
    doubled.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let first = Duration::from_millis(100);
        for failures in 1..100 {
            let pause = pause(first, failures);
            assert!(pause <= LONGEST && pause >= first / 2, "{pause:?} after {failures}");
        }
        assert!(pause(first, 40) >= LONGEST / 2);
    }
}
