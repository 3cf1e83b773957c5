//! The prover that the configuration names.

use std::sync::Arc;

use milepost_prover::{Cache, Mock, Prover};
use milepost_settlement::SettlementConfig;

use super::Error;
use crate::config::{Backend, Config};

pub(crate) fn open(config: &Config, chain: &SettlementConfig) -> Result<Arc<dyn Prover>, Error> {
    match config.prover.backend {
        Backend::Mock => {
            let mock = Mock::for_dev_chain(chain.chain_id, &chain.rpc_url).map_err(|refused| Error::Mock(refused.to_string()))?;
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
