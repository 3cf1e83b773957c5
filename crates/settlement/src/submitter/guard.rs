//! Whether the key is ours alone, and whether a claim is worth its gas.
//!
//! The chain counts a key's transactions, and so does the ledger. A chain that counts more knows something that the ledger does
//! not: an old backup was restored, a disk was lost, or the key is used elsewhere. Claims signed then might repeat what was claimed
//! already. So nothing is signed until an operator has looked and says that the difference is explained.

use milepost_ledger::{Address, ClaimId, Purpose};
use milepost_ledger_db::{Blob, LedgerDb};

use super::Submitter;
use crate::books::Books;
use crate::chain::latest;
use crate::{Chain, Error};

/// Gas of a transaction that does nothing: what its claims share.
const TRANSACTION_GAS: u64 = 21_000;
/// Wei of one coin.
const COIN: u128 = 1_000_000_000_000_000_000;

/// Under this name the database keeps up to which nonce a key's use is explained by something other than the ledger.
fn name(key: Address) -> String {
    format!("settlement.nonce.{key}")
}

/// The explained count, if one is recorded.
pub(super) fn explained(db: &LedgerDb, key: Address) -> Result<Option<u64>, Error> {
    let bytes = db.meta(&name(key)).map_err(crate::books::error)?;
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    text.map(|text| text.parse().map_err(|_| Error::LedgerStopped(format!("{} is no number: {text:?}", name(key))))).transpose()
}

pub(super) fn blob(key: Address, count: u64) -> Blob {
    Blob::Meta { name: name(key), bytes: count.to_string().into_bytes() }
}

/// What is to be recorded at the first start with a key: whatever it did before is none of this ledger's business.
pub(crate) async fn first_sight(chain: &Chain, books: &Books, key: Address) -> Result<Option<Blob>, Error> {
    let floor = books.db.query(move |ledger| ledger.next_nonce(key)).await.map_err(crate::books::error)?;
    if floor.is_some() || explained(&books.db, key)?.is_some() {
        return Ok(None);
    }
    Ok(Some(blob(key, chain.nonce(key, latest()).await?)))
}

/// An operator has looked: what the key did until now is explained. The count up to which it is.
pub async fn accept_nonces(db: &LedgerDb, chain: &Chain, key: Address) -> Result<u64, Error> {
    let count = chain.nonce(key, latest()).await?;
    db.apply_with(Vec::new(), vec![blob(key, count)]).await.map_err(crate::books::error)?;
    tracing::warn!(event = "key_accepted", key = %key, count, "an operator says that this key's use is explained; signing goes on");
    Ok(count)
}

impl Submitter {
    /// The next nonce, or why nothing may be signed: never below the chain's count, never one that was given a purpose here.
    pub(super) async fn next_nonce(&mut self) -> Result<u64, Error> {
        let key = self.key.address();
        let floor = self.books.db.query(move |ledger| ledger.next_nonce(key)).await.map_err(crate::books::error)?.unwrap_or(0);
        let count = self.chain.nonce(key, latest()).await?;
        let known = floor.max(explained(&self.books.db, key)?.unwrap_or(0));
        self.ahead = (count > known && !self.shared_key).then_some(Error::KeyAhead { key, count, known });
        match &self.ahead {
            Some(error) => Err(error.clone()),
            None => Ok(count.max(floor)),
        }
    }

    /// Looks whether the chain knows more of the key than the ledger; told once.
    pub(crate) async fn examine_key(&mut self) -> Result<(), Error> {
        let before = self.ahead.is_some();
        match self.next_nonce().await {
            Err(error @ Error::KeyAhead { .. }) => {
                if !before {
                    tracing::error!(event = "key_ahead", %error, advice = error.advice(), "nothing more is signed until an operator has looked");
                }
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Why nothing is signed, if that is so.
    pub(crate) fn ahead(&self) -> Option<&Error> {
        self.ahead.as_ref()
    }

    /// Whether a claim earns more than it costs, as far as an operator said what the coin is worth. `cost` in wei.
    pub(super) async fn check_worth(&self, purpose: &Purpose, cost: u128) -> Result<(), Error> {
        let (Some(price), Purpose::Claim(id)) = (self.coin_price, purpose) else { return Ok(()) };
        let Some(revenue) = self.revenue(*id).await? else { return Ok(()) };
        let gas = cost.saturating_mul(price.0) / COIN;
        if gas > revenue { Err(Error::NotWorth { claim: id.to_string(), gas, revenue }) } else { Ok(()) }
    }

    /// Which of several claims should wait for cheaper gas. `cost` in wei, for so much `gas`.
    pub(super) async fn not_worth(&self, claims: &[ClaimId], cost: u128, gas: u64) -> Result<Vec<(ClaimId, Error)>, Error> {
        let Some(price) = self.coin_price else { return Ok(Vec::new()) };
        let mut earned = Vec::new();
        for claim in claims {
            earned.push((*claim, self.revenue(*claim).await?.unwrap_or(u128::MAX)));
        }
        Ok(poor(&earned, cost.saturating_mul(price.0) / COIN, gas))
    }

    /// What the host gets for a claim, in the smallest unit of its token; `None` where that is not known.
    async fn revenue(&self, id: ClaimId) -> Result<Option<u128>, Error> {
        let claim = self.books.db.claim(id).map_err(crate::books::error)?;
        let terms = self.books.record_of(id.job).await?.and_then(|record| record.terms);
        let Some((claim, terms)) = claim.zip(terms) else { return Ok(None) };
        // Not price times tokens: elsewhere a price may be one for a thousand of them.
        let gross = terms.charge(claim.statement.count).map_or(u128::MAX, |charge| charge.0);
        Ok(Some(gross - gross.saturating_mul(u128::from(terms.fee_bps)) / 10_000))
    }
}

/// Those of several claims that earn less than they add to the cost of their transaction; where each earns that, all of them if they do not
/// earn the whole together. `whole` is what the transaction costs, in the unit of what they earn, for so much `gas`.
fn poor(earned: &[(ClaimId, u128)], whole: u128, gas: u64) -> Vec<(ClaimId, Error)> {
    let count = earned.len().max(1) as u128;
    let added = whole.saturating_mul(u128::from(gas.saturating_sub(TRANSACTION_GAS))) / u128::from(gas.max(1)).saturating_mul(count);
    let sum = earned.iter().fold(0_u128, |sum, (_, revenue)| sum.saturating_add(*revenue));
    let told = |(claim, revenue): &(ClaimId, u128), gas| (*claim, Error::NotWorth { claim: claim.to_string(), gas, revenue: *revenue });
    let alone: Vec<_> = earned.iter().filter(|(_, revenue)| added > *revenue).map(|each| told(each, added)).collect();
    if alone.is_empty() && whole > sum { earned.iter().map(|each| told(each, whole / count)).collect() } else { alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::{JobId, TokenSeq};

    /// Jobs 1, 2, … whose claims earn this, in a transaction of 121,000 gas that costs 121: each claim adds 100 among them.
    fn waiting(earned: &[u128]) -> Vec<u64> {
        let claim = |job| ClaimId { job: JobId(job), first: TokenSeq(0), plan: 0 };
        let earned: Vec<_> = (1..).zip(earned).map(|(job, earned)| (claim(job), *earned)).collect();
        poor(&earned, 121, 121_000).into_iter().map(|(claim, _)| claim.job.0).collect()
    }

    #[test]
    fn a_claim_in_company_must_earn_what_it_adds_and_all_of_them_the_whole() {
        assert!(waiting(&[25, 25, 25, 46]).is_empty(), "together they earn the whole");
        assert_eq!(waiting(&[24, 100, 25, 25]), [1], "less than its part beyond what any transaction costs");
        assert_eq!(waiting(&[25, 25, 25, 45]), [1, 2, 3, 4], "each earns its part, and not all of them the whole");
        assert_eq!(waiting(&[0, u128::MAX, u128::MAX, 24]), [1, 4]);
        assert!(waiting(&[0, 0]).len() == 2 && waiting(&[]).is_empty());
    }
}
