//! What a job cost and what is left of what it earned.
//!
//! Gas is asked of the chain for each mined transaction (price really paid, data fee included); where the chain does not answer, the
//! records give the most that it can have cost. Proving time is in the records. What a coin, a token and a second of proving are
//! worth is the operator's to say (`[costs]`): without that, costs are shown and no profit is.

use milepost_ledger::{Claim, Digest, JobId, Payout, Terms, Tx, TxState};
use milepost_settlement::Chain;
use milepost_statement::Address;
use serde::Serialize;

use crate::config::{Costs, currency};

/// Digits of the currency shown.
const DIGITS: u32 = 6;
/// 10^18 wei are one coin.
const COIN_DECIMALS: u8 = 18;

/// What a job cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spent {
    /// Transactions in blocks, reverted ones too.
    pub(super) transactions: u32,
    /// Gas of them.
    pub(super) gas: u64,
    /// What that cost.
    #[serde(serialize_with = "text")]
    pub(super) gas_wei: u128,
    /// Whether the chain said so; else it is the most that it can have been.
    pub(super) gas_exact: bool,
    /// Proofs made.
    pub(super) proofs: u32,
    /// Wall-clock seconds of proving.
    pub(super) proving_seconds: f64,
}

/// Earnings less costs, in the operator's currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Profit {
    pub(super) earned: String,
    pub(super) gas: String,
    pub(super) proving: String,
    /// What is left; negative for a loss.
    pub(super) left: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn text<S: serde::Serializer>(amount: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// Who is asked what transactions cost. One failure is enough: a dead endpoint is not waited for once for each job.
pub(super) struct GasPrices<'a>(Option<&'a Chain>);

impl<'a> GasPrices<'a> {
    pub(super) fn new(chain: Option<&'a Chain>) -> Self {
        Self(chain)
    }

    /// What a mined transaction cost in wei, if the chain says so.
    async fn cost(&mut self, tx: Digest) -> Option<u128> {
        let answer = self.0?.gas_cost(tx).await;
        if answer.is_err() {
            self.0 = None;
        }
        answer.ok().flatten()
    }
}

/// Adds up a job's transactions and proofs. Of a transaction that carries claims of several jobs, this one's part counts ([`Tx::share`]).
pub(super) async fn spent(prices: &mut GasPrices<'_>, job: JobId, txs: &[&Tx], claims: &[Claim]) -> Spent {
    let mut spent = Spent { gas_exact: true, ..Spent::default() };
    for tx in txs {
        let Some((hash, gas)) = mined(tx) else { continue };
        spent.transactions += 1;
        spent.gas = spent.gas.saturating_add(u64::try_from(tx.share(u128::from(gas), job)).unwrap_or(u64::MAX));
        let wei = prices.cost(hash).await.unwrap_or_else(|| {
            spent.gas_exact = false;
            let offered = tx.attempts.iter().filter(|attempt| attempt.hash == hash).map(|attempt| attempt.max_fee).max();
            u128::from(gas).saturating_mul(offered.unwrap_or_default())
        });
        spent.gas_wei = spent.gas_wei.saturating_add(tx.share(wei, job));
    }
    for proof in claims.iter().filter_map(|claim| claim.proof.as_ref()) {
        spent.proofs += 1;
        spent.proving_seconds += proof.seconds.max(0.0);
    }
    spent
}

/// The hash that is in a block, and the gas it took.
fn mined(tx: &Tx) -> Option<(Digest, u64)> {
    let (TxState::Included { hash, outcome, .. } | TxState::Final { hash, outcome, .. }) = &tx.state else { return None };
    Some((*hash, outcome.gas()))
}

/// What is left of a payout; `None` where the configuration does not say what something is worth.
pub(super) fn profit(terms: &Terms, decimals: Option<u8>, payout: &Payout, spent: &Spent, costs: &Costs) -> Option<Profit> {
    let price = if terms.token == Address::ZERO { costs.coin } else { costs.tokens.get(&terms.token).copied() };
    let earned = worth(payout.host.0, decimals?, price?.0)?;
    let gas = worth(spent.gas_wei, COIN_DECIMALS, costs.coin?.0)?;
    let proving = seconds_worth(spent.proving_seconds, costs.proving_per_second?.0)?;
    let left = earned.checked_sub(gas)?.checked_sub(proving)?;
    let shown = |amount| currency(amount, DIGITS);
    Some(Profit { earned: shown(earned), gas: shown(gas), proving: shown(proving), left: shown(left) })
}

/// `amount / 10^decimals × price`, in 10^-12 of the currency.
fn worth(amount: u128, decimals: u8, price: u64) -> Option<i128> {
    let unit = 10_u128.checked_pow(u32::from(decimals))?;
    let price = u128::from(price);
    let whole = (amount / unit).checked_mul(price)?;
    let part = (amount % unit).checked_mul(price)? / unit;
    i128::try_from(whole.checked_add(part)?).ok()
}

fn seconds_worth(seconds: f64, price: u64) -> Option<i128> {
    // Times are measured to the millisecond at best; anything beyond 30,000 years is no time.
    const MOST: f64 = 1e15;
    let millis = (seconds * 1_000.0).round();
    if !(0.0..MOST).contains(&millis) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "bounded just above")]
    let millis = millis as i128;
    millis.checked_mul(i128::from(price)).map(|thousandths| thousandths / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::{ChainId, TokenAmount, TokenCount, UnixSeconds};

    fn terms(token: Address) -> Terms {
        Terms {
            chain: ChainId(1),
            marketplace: Address([1; 20]),
            host: Address([2; 20]),
            depositor: Address([3; 20]),
            token,
            deposit: TokenAmount(2_000_000),
            price: TokenAmount(2_000),
            model: Digest::ZERO,
            rate: 10,
            burst: TokenCount(100),
            started: UnixSeconds(0),
            max_duration: 3_600,
            idle_timeout: 600,
            claim_window: 3_600,
            minimum_charge: TokenAmount::ZERO,
            min_claim: TokenCount(100),
            fee_bps: 1_000,
            voucher: None,
            salt_commitment: Digest::ZERO,
            deployed: None,
        }
    }

    fn costs(token: Address) -> Costs {
        let price = |text: &str| text.parse().expect("a price");
        Costs { coin: Some(price("3000")), tokens: [(token, price("1"))].into(), proving_per_second: Some(price("0.0001")) }
    }

    #[test]
    fn two_hundred_tokens_leave_what_gas_and_proving_do_not_take() {
        // SPEC 2.4: 200 tokens at 0.002 USDC: the host gets 0.36. Gas: 0.00001 ETH at 3,000. Proving: 33.5 s at 0.0001.
        let usdc = Address([0xcc; 20]);
        let terms = terms(usdc);
        let payout = terms.payout(TokenCount(200)).expect("a payout");
        let spent = Spent { gas_wei: 10_000_000_000_000, gas_exact: true, proving_seconds: 33.5, ..Spent::default() };
        let left = profit(&terms, Some(6), &payout, &spent, &costs(usdc)).expect("a profit");
        assert_eq!((left.earned.as_str(), left.gas.as_str(), left.proving.as_str()), ("0.360000", "0.030000", "0.003350"));
        assert_eq!(left.left, "0.326650");
    }

    #[test]
    fn a_job_whose_gas_costs_more_than_it_earned_is_a_loss() {
        let terms = terms(Address::ZERO);
        let payout = Payout { tokens: TokenCount(1), host: TokenAmount(10), ..Payout::default() };
        let spent = Spent { gas_wei: 1_000_000_000_000_000, ..Spent::default() };
        let left = profit(&terms, Some(18), &payout, &spent, &costs(Address::ZERO)).expect("a profit");
        assert_eq!((left.gas.as_str(), left.left.as_str()), ("3.000000", "-3.000000"));
    }

    #[test]
    fn without_a_price_no_profit_is_made_up() {
        let usdc = Address([0xcc; 20]);
        let terms = terms(usdc);
        let payout = terms.payout(TokenCount(200)).expect("a payout");
        let spent = Spent::default();
        assert!(profit(&terms, None, &payout, &spent, &costs(usdc)).is_none(), "the token's decimals are not known");
        for missing in 0..3 {
            let mut costs = costs(usdc);
            match missing {
                0 => costs.coin = None,
                1 => costs.tokens.clear(),
                _ => costs.proving_per_second = None,
            }
            assert!(profit(&terms, Some(6), &payout, &spent, &costs).is_none());
        }
    }
}
