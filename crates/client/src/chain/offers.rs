//! Finding a host.

use milepost_statement::{Address, Digest};

use super::{Chain, address, eth_address, eth_hash};
use crate::abi::{HostRegistry, JobMarketplace};
use crate::{Amount, Error};

/// Hosts asked for in one call.
const PAGE: u64 = 100;
/// Most hosts looked at: bounds the time on a registry that somebody filled with junk.
const MAX_HOSTS: u64 = 2_000;

/// What a host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The host.
    pub host: Address,
    /// Where it serves.
    pub url: String,
    /// Price of a token.
    pub price: Amount,
    /// Its submitter keys, whose signatures on receipts are good.
    pub submitters: Vec<Address>,
}

/// Active hosts that serve `model` for `token`, cheapest first.
pub async fn find_offers(chain: &Chain, model: Digest, token: Address) -> Result<Vec<Offer>, Error> {
    let registry = chain.registry().await?;
    let count = chain.read("hostCount", registry, HostRegistry::hostCountCall {}).await?;
    let count = u64::try_from(count).unwrap_or(u64::MAX).min(MAX_HOSTS);
    let mut offers = Vec::new();
    for offset in (0..count).step_by(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
        let call = HostRegistry::hostsCall { offset: alloy::primitives::U256::from(offset), limit: alloy::primitives::U256::from(PAGE) };
        for host in chain.read("hosts", registry, call).await? {
            match chain.offer(address(host), model, token).await {
                Ok(offer) => offers.push(offer),
                Err(Error::HostNotActive(_) | Error::NotOffered { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    offers.sort_by_key(|offer| offer.price);
    Ok(offers)
}

impl Chain {
    /// The registry that the marketplace asks.
    pub async fn registry(&self) -> Result<Address, Error> {
        Ok(address(self.read("hostRegistry", self.marketplace(), JobMarketplace::hostRegistryCall {}).await?))
    }

    /// What one host offers for a model and a token.
    pub async fn offer(&self, host: Address, model: Digest, token: Address) -> Result<Offer, Error> {
        let registry = self.registry().await?;
        let record = match self.read("getHost", registry, HostRegistry::getHostCall { host: eth_address(host) }).await {
            Ok(record) if record.active => record,
            Ok(_) | Err(Error::Reverted { .. }) => return Err(Error::HostNotActive(host)),
            Err(error) => return Err(error),
        };
        let call = HostRegistry::priceOfCall { host: eth_address(host), modelDigest: eth_hash(model), token: eth_address(token) };
        let price = self.read("priceOf", registry, call).await?;
        let price = Amount::from_word(price).filter(|price| price.0 > 0).ok_or(Error::NotOffered { host, model, token })?;
        Ok(Offer { host, url: record.apiUrl, price, submitters: record.submitters.into_iter().map(address).collect() })
    }

    /// Whether `key` may submit, and so sign receipts, for `host`.
    pub async fn is_submitter(&self, host: Address, key: Address) -> Result<bool, Error> {
        let registry = self.registry().await?;
        self.read("isSubmitter", registry, HostRegistry::isSubmitterCall { host: eth_address(host), key: eth_address(key) }).await
    }
}
