//! What is checked before money depends on it: nothing is assumed about the chain, the contract or the key.

use milepost_ledger::{Address, TokenCount};

use super::{Chain, Constants, latest, pushed_selectors, required_functions};
use crate::Error;
use crate::bindings::{HostRegistry, JobMarketplace};
use crate::convert::{address, digest, evm, small};

/// What the preflight found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The marketplace's constants.
    pub constants: Constants,
    /// The host account.
    pub host: Address,
    /// The key that acts for it.
    pub key: Address,
    /// What the key holds for gas, in wei. 0 is no error here: it stops no token, only claims.
    pub gas_balance: u128,
    /// Which generation of the marketplace it is, for people.
    pub generation: &'static str,
    /// How the chain is told from others of the same id: hash of its first block.
    pub genesis: milepost_ledger::Digest,
}

impl Chain {
    /// Checks chain id, code, selectors, host and key; reads the constants. Each failure is a coded error.
    pub async fn preflight(&self, host: Address, key: Address) -> Result<Preflight, Error> {
        let constants = self.preflight_contract().await?;
        let generation = self.generation().await?;
        let genesis = self.block_at(0).await?.ok_or(Error::Answer { what: "the first block", answer: "none".to_owned() })?;
        let found = Preflight { constants, host, key, gas_balance: self.balance(key).await?, generation: generation.name(), genesis };
        if !generation.is_ours() {
            // Whether the host is registered was that contract's to check when the session was funded; but it knows no submitter keys.
            if key != host {
                return Err(Error::HostKeyOnly { key, host, contract: self.marketplace() });
            }
            return Ok(found);
        }
        let registry = constants.registry;
        let active = self.call("whether the host is active", registry, HostRegistry::isActiveCall { host: evm(host) }, latest()).await?;
        if !active {
            return Err(Error::HostNotActive { host, registry });
        }
        let call = HostRegistry::isSubmitterCall { host: evm(host), key: evm(key) };
        if key != host && !self.call("whether the key may submit", registry, call, latest()).await? {
            return Err(Error::NotSubmitter { key, host, registry });
        }
        Ok(found)
    }

    /// Whether the endpoint serves the configured chain; [`Error::WrongChain`] if not.
    pub async fn check_id(&self) -> Result<(), Error> {
        let provider = self.provider();
        let found = self.ask("the chain id", async { alloy::providers::Provider::get_chain_id(provider).await }).await?;
        if found == self.chain_id().0 {
            return Ok(());
        }
        Err(Error::WrongChain { endpoint: self.endpoint().to_owned(), expected: self.chain_id(), found })
    }

    /// The part that needs no key: chain id, code, selectors, constants.
    pub async fn preflight_contract(&self) -> Result<Constants, Error> {
        self.check_id().await?;
        let ours = self.generation().await?.is_ours();
        let constants = self.constants().await?;
        if ours {
            self.check_registry(constants.registry).await?;
        }
        Ok(constants)
    }

    async fn check_registry(&self, contract: Address) -> Result<(), Error> {
        let code = self.code(contract).await?;
        if code.is_empty() {
            return Err(Error::NoContract { contract, chain: self.chain_id(), name: "the host registry" });
        }
        let found = pushed_selectors(&code);
        let missing = required_functions().into_iter().find(|(of_marketplace, _, selector)| !of_marketplace && !found.contains(selector));
        missing.map_or(Ok(()), |(_, function, selector)| Err(Error::NoFunction { contract, function, selector }))
    }
}

/// The constants of our own marketplace. `batches`: it has the functions that submit several claims at once.
pub(crate) async fn read_constants(chain: &Chain, batches: bool) -> Result<Constants, Error> {
    let market = chain.marketplace();
    let fee = chain.call("feeBps", market, JobMarketplace::feeBpsCall {}, latest()).await?;
    let fee_bps = u16::try_from(fee).ok().filter(|bps| *bps <= 10_000);
    let fee_bps = fee_bps.ok_or(Error::Answer { what: "feeBps", answer: format!("{fee}, more than the whole") })?;
    let min_claim =
        small("MIN_PROVEN_TOKENS", chain.call("MIN_PROVEN_TOKENS", market, JobMarketplace::MIN_PROVEN_TOKENSCall {}, latest()).await?)?;
    let claim_window = small("claimWindow", chain.call("claimWindow", market, JobMarketplace::claimWindowCall {}, latest()).await?)?;
    let burst = small("RATE_BURST", chain.call("RATE_BURST", market, JobMarketplace::RATE_BURSTCall {}, latest()).await?)?;
    Ok(Constants {
        fee_bps,
        min_claim: TokenCount(min_claim),
        claim_window,
        burst: TokenCount(burst),
        image_id: digest(chain.call("imageId", market, JobMarketplace::imageIdCall {}, latest()).await?),
        test_deployment: chain.call("testDeployment", market, JobMarketplace::testDeploymentCall {}, latest()).await?,
        registry: address(chain.call("hostRegistry", market, JobMarketplace::hostRegistryCall {}, latest()).await?),
        earnings: address(chain.call("hostEarnings", market, JobMarketplace::hostEarningsCall {}, latest()).await?),
        price_precision: 1,
        dispute_window: 0,
        max_batch: if batches {
            small("MAX_BATCH", chain.call("MAX_BATCH", market, JobMarketplace::MAX_BATCHCall {}, latest()).await?)?
        } else {
            1
        },
    })
}
