//! What a replacement must offer.

use milepost_ledger::Attempt;

use super::urgency::{LEAST_PERCENT, Urgency};
use crate::chain::Fees;

/// What the next attempt offers: at least a tenth more on both fields, rounded up, more where a deadline is near, and at least
/// what the market asks now. A field of zero grows too, because pools want more, not as much. Never above the ceiling as long as a
/// replacement fits below it; the fee that would be needed where none does.
pub(super) fn bumped(last: &Attempt, market: Fees, urgency: Urgency, attempts: usize, ceiling: u128) -> Result<Fees, u128> {
    let max_tip = raised(last.max_tip, urgency.percent()).max(market.max_tip);
    let wanted = raised(last.max_fee, urgency.percent()).max(market.max_fee).max(max_tip);
    let smallest = raised(last.max_fee, LEAST_PERCENT).max(raised(last.max_tip, LEAST_PERCENT));
    if smallest > ceiling {
        return Err(smallest);
    }
    let max_fee = if urgency.is_last(attempts) { ceiling } else { wanted.min(ceiling) };
    Ok(Fees { max_fee, max_tip: max_tip.min(max_fee) })
}

fn raised(fee: u128, percent: u128) -> u128 {
    fee.saturating_mul(100 + percent).div_ceil(100).max(fee.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::{Digest, UnixSeconds};

    fn attempt(max_fee: u128, max_tip: u128) -> Attempt {
        Attempt { hash: Digest([0; 32]), raw: Vec::new(), max_fee, max_tip, at: UnixSeconds(0) }
    }

    /// No deadline, and no ceiling in sight.
    fn usual(last: &Attempt, market: Fees) -> Fees {
        bumped(last, market, Urgency::None, 1, u128::MAX).unwrap()
    }

    #[test]
    fn a_replacement_offers_a_tenth_more_on_both_fields_rounded_up() {
        let nothing = Fees { max_fee: 0, max_tip: 0 };
        for (fee, tip) in [(10, 1), (11, 0), (99, 9), (1_000_000_007, 1_000_003), (7, 7)] {
            let next = usual(&attempt(fee, tip), nothing);
            assert!(next.max_fee * 100 >= fee * 110 && next.max_fee > fee, "{fee} became {}", next.max_fee);
            assert!(next.max_tip * 100 >= tip * 110 && next.max_tip > tip, "{tip} became {}", next.max_tip);
            assert!(next.max_fee <= fee + fee / 10 + 1 && next.max_tip <= next.max_fee, "no more than needed");
        }
    }

    #[test]
    fn a_market_that_rose_further_is_followed() {
        let market = Fees { max_fee: 500, max_tip: 40 };
        assert_eq!(usual(&attempt(100, 10), market), market);
        assert_eq!(usual(&attempt(100, 100), market), Fees { max_fee: 500, max_tip: 110 });
    }

    #[test]
    fn near_a_deadline_more_is_offered_and_never_more_than_the_ceiling() {
        let (market, near) = (Fees { max_fee: 0, max_tip: 0 }, Urgency::Near(100));
        let offer = |last: &Attempt, attempts, ceiling| bumped(last, market, near, attempts, ceiling);
        assert_eq!(offer(&attempt(100, 10), 1, 1_000), Ok(Fees { max_fee: 150, max_tip: 15 }));
        assert_eq!(offer(&attempt(100, 10), 1, 120), Ok(Fees { max_fee: 120, max_tip: 15 }), "a smaller raise that is still one");
        assert_eq!(offer(&attempt(100, 10), 15, 1_000), Ok(Fees { max_fee: 1_000, max_tip: 15 }), "the last one holds nothing back");
        assert_eq!(offer(&attempt(100, 10), 1, 109), Err(110), "no replacement fits below the ceiling");
    }
}
