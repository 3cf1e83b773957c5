//! How soon a transaction that waits is raised, and by how much: sooner and by more as a deadline draws near.
//!
//! The planner begins a claim `claim_seconds` before its last moment: proving, inclusion and two raises at the usual pace fit into
//! that. A claim that has less time left than that is late, and what it waits for is worth more than the fee: the pauses become a
//! part of what is left, each raise is by half, and the last one offers the ceiling.

use std::time::Duration;

use milepost_ledger::{Tx, UnixSeconds};

/// Percent by which both fee fields of a replacement must be higher: the rule of every client's pool.
pub(super) const LEAST_PERCENT: u128 = 10;
/// Percent of a raise near a deadline: five of them are more than sevenfold.
const NEAR_PERCENT: u128 = 50;
/// Near a deadline the next raise comes after this part of the time that is left.
const PARTS: u32 = 6;
/// Least pause between two raises: a block of a quick chain, which must have had its chance.
const LEAST_PAUSE: Duration = Duration::from_secs(2);
/// Forms of a transaction that are kept for the time before its deadline.
const KEPT_ATTEMPTS: usize = 5;

/// How urgent the key's queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Nothing in it has a deadline.
    None,
    /// Its nearest deadline is far.
    Far,
    /// So many seconds are left until its nearest deadline.
    Near(u64),
}

impl Urgency {
    /// By the nearest deadline of what waits, at this chain time.
    pub(super) fn of(deadline: Option<UnixSeconds>, now: UnixSeconds, claim_seconds: u64) -> Self {
        match deadline.map(|deadline| deadline.since(now)) {
            None => Self::None,
            Some(left) if left >= claim_seconds => Self::Far,
            Some(left) => Self::Near(left),
        }
    }

    /// The pause between two raises, where the usual one is this.
    pub(super) fn pause(self, usual: Duration) -> Duration {
        match self {
            Self::None | Self::Far => usual,
            Self::Near(left) => usual.min((Duration::from_secs(left) / PARTS).max(LEAST_PAUSE)),
        }
    }

    /// Percent of a raise.
    pub(super) fn percent(self) -> u128 {
        if matches!(self, Self::Near(_)) { NEAR_PERCENT } else { LEAST_PERCENT }
    }

    /// Signed forms that a transaction may have by now.
    pub(super) fn attempts(self) -> usize {
        if self == Self::Far { Tx::MAX_ATTEMPTS - KEPT_ATTEMPTS } else { Tx::MAX_ATTEMPTS }
    }

    /// Whether the next form, after so many, is the last that there can be before the deadline: it offers whatever is allowed.
    pub(super) fn is_last(self, attempts: usize) -> bool {
        matches!(self, Self::Near(left) if attempts + 1 == Tx::MAX_ATTEMPTS || Duration::from_secs(left) <= 2 * LEAST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(30);

    fn at(left: u64) -> Urgency {
        Urgency::of(Some(UnixSeconds(10_000)), UnixSeconds(10_000 - left), 300)
    }

    #[test]
    fn pauses_shrink_with_the_time_that_is_left_and_are_never_longer_than_usual() {
        assert_eq!(Urgency::of(None, UnixSeconds(5), 300).pause(USUAL), USUAL);
        assert_eq!((at(300), at(300).pause(USUAL)), (Urgency::Far, USUAL));
        let pauses: Vec<_> = [299, 120, 60, 12, 1, 0].map(|left| at(left).pause(USUAL).as_secs()).to_vec();
        assert_eq!(pauses, [30, 20, 10, 2, 2, 2]);
        assert_eq!(at(60).pause(Duration::from_secs(1)), Duration::from_secs(1));
    }

    #[test]
    fn forms_are_kept_for_the_time_before_a_deadline_and_the_last_goes_to_the_ceiling() {
        assert_eq!((at(1_000).attempts(), at(100).attempts(), Urgency::None.attempts()), (11, 16, 16));
        assert!(at(100).is_last(15) && !at(100).is_last(14) && at(3).is_last(2) && !Urgency::None.is_last(15));
    }

    #[test]
    fn a_late_claims_raises_reach_sevenfold_with_half_of_its_time_left() {
        let (mut left, mut raises, mut fee) = (299_u64, 0, 100_u128);
        while left > 4 && raises < KEPT_ATTEMPTS {
            left = left.saturating_sub(at(left).pause(USUAL).as_secs());
            fee += fee * at(left).percent() / 100;
            raises += 1;
        }
        assert!(raises == KEPT_ATTEMPTS && fee > 700 && left >= 150, "{raises} raises to {fee}, {left} s left");
    }
}
