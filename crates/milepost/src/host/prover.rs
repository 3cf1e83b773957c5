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
        #[cfg(feature = "stark")]
        Backend::Stark => Ok(stark(config)),
        #[cfg(not(feature = "stark"))]
        Backend::Stark => Err(Error::NotBuilt {
            what: "STARK verifier",
            instead: "build with the feature stark, or set prover.backend = \"mock\" on a dev chain",
        }),
    }
}

/// Where the self-test's success is remembered. Mock proofs have nothing to remember.
pub(crate) fn cache(config: &Config) -> Option<Cache> {
    (config.prover.backend == Backend::Stark).then(|| Cache::new(config.node.data.join("prover-self-test.json")))
}

#[cfg(feature = "stark")]
fn stark(config: &Config) -> Arc<dyn Prover> {
    use milepost_prover::{Options, Process, locate};
    let program = config.prover.program.clone().unwrap_or_else(locate);
    Arc::new(Process::new(Options::new(program)))
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
}
