//! The prover that the configuration names.

use std::sync::Arc;

use milepost_prover::{Cache, Mock, Prover};
use milepost_settlement::SettlementConfig;

use super::Error;
use crate::config::{Backend, Config};

pub(crate) fn open(config: &Config, chain: &SettlementConfig) -> Result<Arc<dyn Prover>, Error> {
    match config.prover.backend {
        Backend::Mock => {
            // Each endpoint: through any of them a claim could reach a chain that is not on this machine.
            let allowed = chain.endpoints().map(|endpoint| Mock::for_dev_chain(chain.chain_id, &endpoint.url));
            let allowed: Vec<_> = allowed.collect::<Result<_, _>>().map_err(|refused| Error::Mock(refused.to_string()))?;
            let mock = allowed.into_iter().next().ok_or_else(|| Error::Mock("no endpoint is configured".to_owned()))?;
            Ok(Arc::new(mock))
        }
        Backend::Groth16 => Err(Error::NoGroth16),
        #[cfg(feature = "stark")]
        Backend::Stark => Ok(stark(config)),
        #[cfg(feature = "stark")]
        Backend::Remote => Ok(Arc::new(remote(config)?)),
        #[cfg(not(feature = "stark"))]
        Backend::Stark | Backend::Remote => Err(Error::NotBuilt {
            what: "STARK verifier",
            instead: "build with the feature stark, or set prover.backend = \"mock\" on a dev chain",
        }),
    }
}

/// Where the self-test's success is remembered. Mock proofs have nothing to remember.
pub(crate) fn cache(config: &Config) -> Option<Cache> {
    matches!(config.prover.backend, Backend::Stark | Backend::Remote).then(|| Cache::new(config.node.data.join("prover-self-test.json")))
}

/// Where proofs are made and as whom they are asked for, if on another machine.
pub(crate) fn whereabouts(config: &Config) -> Option<String> {
    #[cfg(feature = "stark")]
    if config.prover.backend == Backend::Remote
        && let Ok(remote) = remote(config)
    {
        return Some(format!("at {}, asked by this node as {}", remote.address(), remote.identity()));
    }
    let _ = config;
    None
}

#[cfg(feature = "stark")]
fn stark(config: &Config) -> Arc<dyn Prover> {
    use milepost_prover::{Options, Process, locate};
    let mut options = Options::new(config.prover.program.clone().unwrap_or_else(locate));
    options.memory_mb = config.prover.memory_mb.unwrap_or(options.memory_mb);
    Arc::new(Process::new(options))
}

#[cfg(feature = "stark")]
fn remote(config: &Config) -> Result<milepost_prover::Remote, Error> {
    use milepost_prover::{Key, Remote, RemoteOptions};
    let missing = |what: &str| Error::Prover(format!("prover.backend = \"remote\" needs prover.{what}"));
    let address = config.prover.address.clone().ok_or_else(|| missing("address"))?;
    let identity = config.prover.identity.as_deref().ok_or_else(|| missing("identity"))?;
    let unusable = |error: milepost_prover::Unusable| Error::Prover(error.to_string());
    let mut options = RemoteOptions::new(address, identity.parse().map_err(unusable)?);
    options.memory_mb = config.prover.memory_mb.unwrap_or(options.memory_mb);
    let key = config.prover.key_file.clone().unwrap_or_else(|| config.node.data.join("prover-key.pem"));
    Remote::new(options, &Key::at(&key).map_err(unusable)?).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use milepost_settlement::Endpoint;
    use milepost_statement::{Address, ChainId};

    use super::*;
    use crate::config::ProverConfig;

    #[test]
    fn mock_proofs_are_refused_where_any_endpoint_is_elsewhere() {
        let config = Config { prover: ProverConfig { backend: Backend::Mock, ..ProverConfig::default() }, ..Config::default() };
        let at = |single: &str, several: &[&str]| {
            let mut chain = SettlementConfig::new(single, ChainId(31_337), Address([1; 20]));
            chain.rpc_urls = several.iter().map(|url| Endpoint { url: (*url).into(), weight: 1 }).collect();
            open(&config, &chain).is_ok()
        };
        let (here, elsewhere) = ("http://127.0.0.1:8545", "http://10.0.0.1:8545");
        for (single, several, allowed) in [
            (here, vec![], true),
            ("", vec![here, "http://localhost:1"], true),
            (elsewhere, vec![], false),
            (here, vec![elsewhere], false),
            ("", vec![here, elsewhere], false),
            ("", vec![], false),
        ] {
            assert_eq!(at(single, &several), allowed, "{single} {several:?}");
        }
    }

    #[cfg(feature = "stark")]
    #[test]
    fn a_prover_elsewhere_needs_an_address_and_an_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        let chain = SettlementConfig::new("http://127.0.0.1:8545", ChainId(31_337), Address([1; 20]));
        let config = |address: Option<&str>, identity: Option<&str>| {
            let (address, identity) = (address.map(str::to_owned), identity.map(str::to_owned));
            let prover = ProverConfig { backend: Backend::Remote, address, identity, ..ProverConfig::default() };
            let mut config = Config { prover, ..Config::default() };
            config.node.data = folder.path().into();
            config
        };
        let refused = |config: &Config| open(config, &chain).err().map(|error| error.to_string()).unwrap_or_default();
        let pin = "ab".repeat(32);
        assert!(refused(&config(None, Some(&pin))).contains("prover.address"));
        assert!(refused(&config(Some("box:7070"), None)).contains("prover.identity"));
        assert!(refused(&config(Some("box:7070"), Some("nobody"))).contains("is no identity"));
        let whole = config(Some("box:7070"), Some(&pin));
        assert!(open(&whole, &chain).is_ok(), "{}", refused(&whole));
        let known = whereabouts(&whole).expect("it is elsewhere");
        assert!(known.contains("box:7070") && whereabouts(&whole) == Some(known), "the key is made once");
        assert_eq!(whereabouts(&Config::default()), None);
    }

    #[test]
    fn seals_that_nobody_is_served_with_are_refused_by_name() {
        let config = Config { prover: ProverConfig { backend: Backend::Groth16, ..ProverConfig::default() }, ..Config::default() };
        let chain = SettlementConfig::new("http://127.0.0.1:8545", ChainId(31_337), Address([1; 20]));
        let refused = open(&config, &chain).err().expect("there is no such prover");
        assert!(matches!(refused, Error::NoGroth16) && refused.to_string().contains("docs/decisions/0011"), "{refused}");
        assert!(cache(&config).is_none());
    }
}
