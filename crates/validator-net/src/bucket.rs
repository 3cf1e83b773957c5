//! A rate with a burst, as a pure value: time is passed in.

use std::time::{Duration, Instant};

/// What may be spent at once, and how fast it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units that come back in a second; at least 1.
    pub per_second: u64,
    /// Units that may be spent at once.
    pub burst: u64,
}

/// Units left of a [`Rate`]. Spending may go into debt, which later units pay: the size of what a peer sends is known only when it is
/// there.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// Millionths of a unit, so that short times count.
    level: i128,
    at: Instant,
}

const PARTS: i128 = 1_000_000;

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: i128::from(rate.burst) * PARTS, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let micros = i128::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(i128::MAX / PARTS);
        let gained = micros.saturating_mul(i128::from(self.rate.per_second));
        self.level = self.level.saturating_add(gained).min(i128::from(self.rate.burst) * PARTS);
        self.at = self.at.max(now);
    }

    /// How long nothing may be spent; `None` where something may be.
    pub(crate) fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.refill(now);
        if self.level > 0 {
            return None;
        }
        let micros = (1 - self.level).div_euclid(i128::from(self.rate.per_second.max(1))) + 1;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// Spends, into debt if need be.
    pub(crate) fn spend(&mut self, units: usize) {
        self.level = self.level.saturating_sub(i128::try_from(units).unwrap_or(i128::MAX / PARTS).saturating_mul(PARTS));
    }

    /// Spends one unit, if there is anything left.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        self.spend(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_any_time_no_more_is_spent_than_the_burst_and_the_rate_allow() {
        let start = Instant::now();
        let rate = Rate { per_second: 50, burst: 20 };
        let mut bucket = Bucket::new(rate, start);
        let mut spent = 0;
        for milli in 0..10_000 {
            let now = start + Duration::from_millis(milli);
            while bucket.take(now).is_ok() {
                spent += 1;
            }
        }
        assert!((515..=521).contains(&spent), "10 s at 50/s and a burst of 20 are 520, spent were {spent}");
    }

    #[test]
    fn after_the_wait_that_it_names_something_may_be_spent_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 1000, burst: 10 }, start);
        bucket.spend(4_010);
        let wait = bucket.wait(start).unwrap_or_default();
        assert!(wait > Duration::from_secs(4) && wait < Duration::from_millis(4_010), "a debt of 4000 at 1000/s, not {wait:?}");
        assert_eq!(bucket.wait(start + wait), None);
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 1, burst: 1 }, start);
        assert!(bucket.take(start).is_ok());
        assert!(bucket.take(start).is_err());
        assert!(bucket.take(start).is_err());
    }
}
