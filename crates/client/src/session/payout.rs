//! The split that the contract must make.

use milepost_statement::TokenCount;

use crate::Amount;

/// Host's share, fee and refund for `tokens`, as the contract computes them: charge = tokens × price, at least the minimum charge once
/// anything was claimed, never above the deposit; fee = floor(charge × bps / 10,000); host = charge − fee; the rest back. `None` if
/// the charge exceeds the deposit, which no accepted claim can.
pub fn split(tokens: TokenCount, price: Amount, deposit: Amount, minimum: Amount, fee_bps: u16) -> Option<(Amount, Amount, Amount)> {
    let mut charge = price.0.checked_mul(u128::from(tokens.0))?;
    if tokens.0 > 0 {
        charge = charge.max(minimum.0.min(deposit.0));
    }
    let refund = deposit.0.checked_sub(charge)?;
    let fee = charge.checked_mul(u128::from(fee_bps))? / 10_000;
    let host = charge.checked_sub(fee)?;
    Some((Amount(host), Amount(fee), Amount(refund)))
}

#[cfg(test)]
mod tests {
    use super::split;
    use crate::Amount;
    use milepost_statement::TokenCount;

    const USDC: u128 = 1_000_000;

    fn parts(tokens: u64, price: u128, deposit: u128, minimum: u128) -> Option<(u128, u128, u128)> {
        let parts = split(TokenCount(tokens), Amount(price), Amount(deposit), Amount(minimum), 1_000);
        parts.map(|(host, fee, refund)| (host.0, fee.0, refund.0))
    }

    #[test]
    fn the_example_of_the_specification() {
        assert_eq!(parts(200, 2_000, 2 * USDC, 0), Some((360_000, 40_000, 1_600_000)));
    }

    #[test]
    fn the_fee_is_rounded_down_and_the_parts_add_up() {
        assert_eq!(parts(101, 3, 1_000, 0), Some((273, 30, 697)));
        for tokens in 0..400 {
            let (host, fee, refund) = parts(tokens, 7, 2_800, 0).expect("it is affordable");
            assert_eq!(host + fee + refund, 2_800);
        }
    }

    #[test]
    fn the_minimum_charge_counts_once_something_was_claimed_and_never_beyond_the_deposit() {
        assert_eq!(parts(0, 2_000, 500_000, 300_000), Some((0, 0, 500_000)));
        assert_eq!(parts(1, 2_000, 500_000, 300_000), Some((270_000, 30_000, 200_000)));
        assert_eq!(parts(1, 2_000, 500_000, 900_000), Some((450_000, 50_000, 0)));
    }

    #[test]
    fn more_than_the_deposit_is_no_payout() {
        assert_eq!(parts(251, 2_000, 500_000, 0), None);
        assert_eq!(parts(u64::MAX, u128::MAX, u128::MAX, 0), None);
    }
}
