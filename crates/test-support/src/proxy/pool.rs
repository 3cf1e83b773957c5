//! Signed transactions on their way: what they offer, and whether a real pool would take them.

use std::collections::{HashMap, HashSet};

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, B256, hex};

use super::Rules;
use crate::{DevChain, Error};

/// What one nonce of one sender offers at the moment.
#[derive(Clone, Copy)]
struct Offer {
    hash: B256,
    max_fee: u128,
    max_tip: u128,
}

/// Every transaction that was forwarded.
#[derive(Default)]
pub(crate) struct Pool {
    offers: HashMap<(Address, u64), Offer>,
    raw: HashMap<B256, (String, u32)>,
    order: Vec<B256>,
}

/// A transaction as far as the rules need it.
pub(crate) struct Offered {
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    offer: Offer,
}

/// Reads a signed transaction; `None` if it is none, which the chain may judge itself.
pub(crate) fn read(raw: &str) -> Option<Offered> {
    let bytes = hex::decode(raw).ok()?;
    let tx = TxEnvelope::decode_2718(&mut bytes.as_slice()).ok()?;
    let offer = Offer {
        hash: *tx.tx_hash(),
        max_fee: tx.max_fee_per_gas(),
        max_tip: tx.max_priority_fee_per_gas().unwrap_or(tx.max_fee_per_gas()),
    };
    Some(Offered { sender: tx.signature().recover_address_from_prehash(&tx.signature_hash()).ok()?, nonce: tx.nonce(), offer })
}

impl Pool {
    /// Why a real pool would refuse it; `pending` says whether its nonce is still free on chain.
    pub(crate) fn refusal(&self, offered: &Offered, raw: &str, rules: &Rules, pending: bool) -> Option<String> {
        let size = raw.len().saturating_sub(2) / 2;
        if size > rules.max_transaction {
            return Some(format!("oversized data: transaction size {size}, limit {}", rules.max_transaction));
        }
        let old = self.offers.get(&(offered.sender, offered.nonce)).filter(|old| pending && old.hash != offered.offer.hash)?;
        // A hundredth of the old offer, times: compared without rounding, as geth does.
        let enough = |old: u128, new: u128| new * 100 >= old * (100 + rules.replacement_percent) && new > old;
        let fair = enough(old.max_fee, offered.offer.max_fee) && enough(old.max_tip, offered.offer.max_tip);
        (!fair).then(|| "replacement transaction underpriced".to_owned())
    }

    /// It was forwarded; an attempt that was replaced may come again, and then holds the nonce no more than before.
    pub(crate) fn forward(&mut self, offered: &Offered, raw: &str) {
        let hash = offered.offer.hash;
        let known = self.raw.entry(hash).or_insert_with(|| {
            self.order.push(hash);
            (raw.to_owned(), 0)
        });
        known.1 += 1;
    }

    /// The chain took it.
    pub(crate) fn taken(&mut self, offered: &Offered) {
        self.offers.insert((offered.sender, offered.nonce), offered.offer);
    }

    pub(crate) fn forwarded(&self) -> Vec<(B256, u32)> {
        self.order.iter().filter_map(|hash| self.raw.get(hash).map(|(_, times)| (*hash, *times))).collect()
    }

    /// The bytes of those transactions that came this way, in the order in which they came.
    pub(crate) fn raw_of(&self, hashes: &HashSet<B256>) -> Vec<String> {
        self.order.iter().filter(|hash| hashes.contains(*hash)).filter_map(|hash| self.raw.get(hash).map(|(raw, _)| raw.clone())).collect()
    }
}

/// Hashes of the transactions in these blocks.
pub(crate) async fn included(chain: &DevChain, from: u64, to: u64) -> Result<HashSet<B256>, Error> {
    let mut hashes = HashSet::new();
    for number in from..=to {
        let block: serde_json::Value = chain.request("eth_getBlockByNumber", (format!("0x{number:x}"), false)).await?;
        let of_block = block["transactions"].as_array().into_iter().flatten().filter_map(|hash| hash.as_str()?.parse::<B256>().ok());
        hashes.extend(of_block);
    }
    Ok(hashes)
}
