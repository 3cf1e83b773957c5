//! What a replacement must offer.

use milepost_ledger::Attempt;

use crate::chain::Fees;

/// Percent by which both fee fields of a replacement must be higher: the rule of every client's pool.
const BUMP_PERCENT: u128 = 10;

/// What the next attempt offers: at least a tenth more on both fields, rounded up, and at least what the market asks now. A field
/// of zero grows too, because pools want more, not as much.
pub(super) fn bumped(last: &Attempt, market: Fees) -> Fees {
    let max_tip = raised(last.max_tip).max(market.max_tip);
    Fees { max_fee: raised(last.max_fee).max(market.max_fee).max(max_tip), max_tip }
}

fn raised(fee: u128) -> u128 {
    fee.saturating_mul(100 + BUMP_PERCENT).div_ceil(100).max(fee.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::{Digest, UnixSeconds};

    fn attempt(max_fee: u128, max_tip: u128) -> Attempt {
        Attempt { hash: Digest([0; 32]), raw: Vec::new(), max_fee, max_tip, at: UnixSeconds(0) }
    }

    #[test]
    fn a_replacement_offers_a_tenth_more_on_both_fields_rounded_up() {
        let nothing = Fees { max_fee: 0, max_tip: 0 };
        for (fee, tip) in [(10, 1), (11, 0), (99, 9), (1_000_000_007, 1_000_003), (7, 7)] {
            let next = bumped(&attempt(fee, tip), nothing);
            assert!(next.max_fee * 100 >= fee * 110 && next.max_fee > fee, "{fee} became {}", next.max_fee);
            assert!(next.max_tip * 100 >= tip * 110 && next.max_tip > tip, "{tip} became {}", next.max_tip);
            assert!(next.max_fee <= fee + fee / 10 + 1 && next.max_tip <= next.max_fee, "no more than needed");
        }
    }

    #[test]
    fn a_market_that_rose_further_is_followed() {
        let market = Fees { max_fee: 500, max_tip: 40 };
        assert_eq!(bumped(&attempt(100, 10), market), market);
        assert_eq!(bumped(&attempt(100, 100), market), Fees { max_fee: 500, max_tip: 110 });
    }
}
