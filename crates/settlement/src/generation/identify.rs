//! Which generation a contract is, from its bytecode alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy::primitives::{B256, U256, b256};
use alloy::providers::Provider;
use milepost_ledger::Address;
use serde::Serialize;

use super::deployed::{DeployedMarket, Getter};
use super::forms::{Completes, CompletesWithContent, Form, Getters, Session, function, known};
use super::ours::Ours;
use super::{Adapter, Function};
use crate::Error;
use crate::bindings::JobMarketplace;
use crate::chain::{Chain, latest, pushed_selectors, required_functions};
use crate::convert::{address, evm};

/// Where an EIP-1967 proxy keeps its implementation: `keccak256("eip1967.proxy.implementation") − 1`.
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");
/// Where an EIP-1967 proxy keeps its beacon: `keccak256("eip1967.proxy.beacon") − 1`.
const BEACON_SLOT: B256 = b256!("a3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50");
/// Proxies before a contract. A clone of a proxy is two; more than four is somebody's maze, or a circle.
const MAX_HOPS: usize = 4;

alloy::sol! {
    interface Beacon {
        function implementation() external view returns (address);
    }
}

/// A proxy on the way to the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// EIP-1967: the implementation is in the proxy's storage.
    Storage {
        /// The proxy.
        proxy: Address,
    },
    /// EIP-1967: a beacon in the proxy's storage names the implementation.
    Beacon {
        /// The proxy.
        proxy: Address,
        /// Its beacon.
        beacon: Address,
    },
    /// EIP-1167: the implementation is in the proxy's code.
    Clone {
        /// The proxy.
        proxy: Address,
    },
}

/// What the contract was found to be.
#[derive(Clone, Debug)]
pub struct Identified {
    pub(crate) adapter: Arc<dyn Adapter>,
    /// Proxies on the way, the configured address first.
    pub route: Vec<Hop>,
    /// Where the code is.
    pub implementation: Address,
}

impl Identified {
    /// The generation, for people.
    pub fn name(&self) -> &'static str {
        self.adapter.name()
    }

    /// Whether it is our own marketplace.
    pub fn is_ours(&self) -> bool {
        self.adapter.is_ours()
    }

    /// Whether claims name content that must be published.
    pub fn wants_content(&self) -> bool {
        self.adapter.wants_content()
    }

    /// Functions of it that settlement calls; all of them are in its code.
    pub fn functions(&self) -> Vec<Function> {
        self.adapter.functions()
    }
}

/// Reads the code at the marketplace's address, through proxies, and says what it is.
pub(crate) async fn identify(chain: &Chain) -> Result<Identified, Error> {
    let (mut at, mut route) = (chain.marketplace(), Vec::new());
    loop {
        let code = chain.code(at).await?;
        if code.is_empty() {
            return Err(Error::NoContract { contract: at, chain: chain.chain_id(), name: "the marketplace" });
        }
        let Some((hop, next)) = next_hop(chain, at, &code).await? else {
            let adapter = choose(&pushed_selectors(&code)).map_err(|(found, missing)| Error::UnknownGeneration {
                contract: chain.marketplace(),
                code: at,
                found,
                missing,
            })?;
            return Ok(Identified { adapter: adapter.0, route, implementation: at });
        };
        route.push(hop);
        if route.len() > MAX_HOPS {
            let found = format!("more than {MAX_HOPS} proxies one behind the other");
            return Err(Error::UnknownGeneration { contract: chain.marketplace(), code: at, found, missing: "a contract".to_owned() });
        }
        at = next;
    }
}

async fn next_hop(chain: &Chain, at: Address, code: &[u8]) -> Result<Option<(Hop, Address)>, Error> {
    if let Some(next) = cloned(code) {
        return Ok(Some((Hop::Clone { proxy: at }, next)));
    }
    if let Some(next) = slot(chain, at, IMPLEMENTATION_SLOT).await? {
        return Ok(Some((Hop::Storage { proxy: at }, next)));
    }
    let Some(beacon) = slot(chain, at, BEACON_SLOT).await? else { return Ok(None) };
    let next = chain.call("the beacon's implementation", beacon, Beacon::implementationCall {}, latest()).await?;
    Ok(Some((Hop::Beacon { proxy: at, beacon }, address(next))))
}

async fn slot(chain: &Chain, at: Address, slot: B256) -> Result<Option<Address>, Error> {
    let question = chain.provider().get_storage_at(evm(at), U256::from_be_bytes(slot.0)).block_id(latest());
    let word = B256::from(chain.ask("a proxy's storage", question.into_future()).await?);
    let found = Address(word.0[12..].try_into().unwrap_or_default());
    Ok((found != Address::ZERO && word.0[..12] == [0; 12]).then_some(found))
}

/// The implementation in the code of an EIP-1167 clone, also in the shorter form that compilers with PUSH0 emit (EIP-7511).
fn cloned(code: &[u8]) -> Option<Address> {
    const FORMS: [(&[u8], &[u8]); 2] = [
        (
            &[0x36, 0x3d, 0x3d, 0x37, 0x3d, 0x3d, 0x3d, 0x36, 0x3d, 0x73],
            &[0x5a, 0xf4, 0x3d, 0x82, 0x80, 0x3e, 0x90, 0x3d, 0x91, 0x60, 0x2b, 0x57, 0xfd, 0x5b, 0xf3],
        ),
        (
            &[0x36, 0x5f, 0x5f, 0x37, 0x5f, 0x5f, 0x36, 0x5f, 0x73],
            &[0x5a, 0xf4, 0x3d, 0x5f, 0x5f, 0x3e, 0x5f, 0x3d, 0x91, 0x60, 0x2a, 0x57, 0xfd, 0x5b, 0xf3],
        ),
    ];
    FORMS.iter().find_map(|(before, after)| {
        let address = code.strip_prefix(*before)?.get(..20)?;
        (code[before.len() + 20..].starts_with(after)).then(|| Address(address.try_into().unwrap_or_default()))
    })
}

/// A chosen adapter; opaque outside of this crate.
#[derive(Clone, Debug)]
pub struct Chosen(pub(crate) Arc<dyn Adapter>);

impl Chosen {
    /// The generation, for people.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// The generation to which a contract with these selectors belongs. An error says what was found of the functions that we know, and
/// what each generation lacked.
pub fn choose(selectors: &BTreeSet<u32>) -> Result<Chosen, (String, String)> {
    let has = |function: Function| selectors.contains(&function.selector);
    let mut fitting: Vec<Arc<dyn Adapter>> = Vec::new();
    let mut missing = Vec::new();
    let batches = [function::<JobMarketplace::submitProofsOfWorkCall>(), function::<JobMarketplace::MAX_BATCHCall>()];
    let market = Ours { batches: batches.into_iter().all(has) };
    let ours: Vec<Function> = market.functions();
    let mut consider = |name: &str, adapter: Result<Arc<dyn Adapter>, Vec<&'static str>>| match adapter {
        Ok(adapter) => fitting.push(adapter),
        Err(lacks) => missing.push(format!("{name} lacks {}", lacks.join(", "))),
    };
    let lacks: Vec<_> = ours.iter().filter(|function| !has(**function)).map(|function| function.signature).collect();
    consider(market.name(), if lacks.is_empty() { Ok(Arc::new(market)) } else { Err(lacks) });
    for form in Form::ALL {
        let market = deployed(form, &has);
        consider(form.function().signature, market.map(|market| Arc::new(market) as Arc<dyn Adapter>));
    }
    let found = known(selectors, &ours);
    let found = if found.is_empty() { "no function of any generation".to_owned() } else { found.join(", ") };
    match fitting.len() {
        1 => fitting.pop().map(Chosen).ok_or((found, String::new())),
        0 => Err((found, missing.join("; "))),
        _ => {
            let names: Vec<_> = fitting.iter().map(|adapter| adapter.name()).collect();
            Err((found, format!("nothing, it answers as more than one generation: {}", names.join(" and "))))
        }
    }
}

/// A deployed marketplace with that form of claims, or what it lacks.
fn deployed(form: Form, has: &impl Fn(Function) -> bool) -> Result<DeployedMarket, Vec<&'static str>> {
    let mut lacks = Vec::new();
    let mut need = |alternatives: &[Function]| {
        let found = alternatives.iter().position(|function| has(*function));
        if found.is_none() {
            lacks.push(alternatives[0].signature);
        }
        found
    };
    need(&[form.function()]);
    need(&[function::<Session::sessionJobsCall>()]);
    need(&[function::<Getters::MIN_PROVEN_TOKENSCall>()]);
    need(&[function::<Getters::hostEarningsCall>()]);
    let completes = need(&[function::<CompletesWithContent::completeSessionJobCall>(), function::<Completes::completeSessionJobCall>()]);
    let fee = need(&[function::<Getters::FEE_BASIS_POINTSCall>(), function::<Getters::feeBasisPointsCall>()]);
    let window = need(&[function::<Getters::DISPUTE_WINDOWCall>(), function::<Getters::disputeWindowCall>()]);
    let getter = |found: usize| if found == 0 { Getter::Capital } else { Getter::Small };
    match (completes, fee, window) {
        (Some(completes), Some(fee), Some(window)) if lacks.is_empty() => Ok(DeployedMarket {
            form,
            with_conversation: completes == 0,
            fee: getter(fee),
            window: getter(window),
            precision: has(function::<Getters::PRICE_PRECISIONCall>()),
            registry: has(function::<Getters::nodeRegistryCall>()),
        }),
        _ => Err(lacks),
    }
}

/// Our own marketplace's functions, in the form of this module.
pub(super) fn ours() -> Vec<Function> {
    required_functions()
        .into_iter()
        .filter(|(of_marketplace, ..)| *of_marketplace)
        .map(|(_, signature, selector)| Function { signature, selector })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::keccak256;

    #[test]
    fn the_slots_are_those_of_eip_1967() {
        let slot = |name: &str| B256::from(U256::from_be_bytes(keccak256(name).0) - U256::from(1));
        assert_eq!(IMPLEMENTATION_SLOT, slot("eip1967.proxy.implementation"));
        assert_eq!(BEACON_SLOT, slot("eip1967.proxy.beacon"));
    }

    #[test]
    fn several_claims_go_at_once_only_where_the_code_has_both_functions_for_it() {
        let (submit, most) = (function::<JobMarketplace::submitProofsOfWorkCall>(), function::<JobMarketplace::MAX_BATCHCall>());
        let takes = |further: &[Function]| {
            let selectors = ours().iter().chain(further).map(|function| function.selector).collect();
            let chosen = choose(&selectors).map_err(|(_, missing)| missing).unwrap();
            chosen.0.claims(&[]).unwrap().is_some()
        };
        assert!(takes(&[submit, most]));
        assert!(!takes(&[submit]) && !takes(&[most]) && !takes(&[]));
    }

    #[test]
    fn a_clone_is_told_by_its_whole_code() {
        let code = hex::decode("363d3d373d3d3d363d73bebebebebebebebebebebebebebebebebebebebe5af43d82803e903d91602b57fd5bf3").unwrap();
        assert_eq!(cloned(&code), Some(Address([0xbe; 20])));
        assert_eq!(cloned(&code[..40]), None);
        let short = hex::decode("365f5f375f5f365f73bebebebebebebebebebebebebebebebebebebebe5af43d5f5f3e5f3d91602a57fd5bf3").unwrap();
        assert_eq!(cloned(&short), Some(Address([0xbe; 20])));
        assert_eq!(cloned(&[]), None);
    }

    #[test]
    fn a_contract_that_fits_nothing_is_refused_with_what_it_has_and_what_it_lacks() {
        let (found, missing) = choose(&BTreeSet::new()).map(|chosen| chosen.name()).unwrap_err();
        assert_eq!(found, "no function of any generation");
        assert!(missing.contains("requestClose(uint256)") && missing.contains("sessionJobs(uint256)"), "{missing}");
        let half: BTreeSet<_> = [Form::Hash.function().selector, function::<Session::sessionJobsCall>().selector].into();
        let (found, missing) = choose(&half).map(|chosen| chosen.name()).unwrap_err();
        assert_eq!(found, "sessionJobs(uint256), submitProofOfWork(uint256,uint256,bytes32,string)");
        assert!(
            missing.contains(
                "submitProofOfWork(uint256,uint256,bytes32,string) lacks MIN_PROVEN_TOKENS(), hostEarnings(), completeSessionJob(uint256,string), FEE_BASIS_POINTS(), DISPUTE_WINDOW()"
            ),
            "{missing}"
        );
    }

    #[test]
    fn a_contract_that_fits_two_generations_is_refused_as_well() {
        let selectors: BTreeSet<_> = super::super::deployed_functions().iter().map(|function| function.selector).collect();
        let (_, missing) = choose(&selectors).map(|chosen| chosen.name()).unwrap_err();
        assert!(missing.contains("more than one generation"), "{missing}");
    }
}
