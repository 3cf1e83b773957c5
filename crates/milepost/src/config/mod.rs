//! Configuration: one TOML file, `MILEPOST_SECTION__KEY` variables over it, the known node's variables beside them, flags on top.
//!
//! An unknown key or an unknown `MILEPOST_*` variable is an error: a setting that is silently ignored costs money. Secrets come
//! from a file or the environment only and are never printed.

#[cfg(feature = "host")]
mod aliases;
#[cfg(feature = "host")]
mod costs;
mod endpoints;
#[cfg(feature = "host")]
mod host;
mod load;
#[cfg(feature = "host")]
mod secret;
#[cfg(feature = "validator")]
mod validator;

#[cfg(feature = "host")]
use milepost_gateway::GatewayConfig;
#[cfg(feature = "host")]
use milepost_settlement::SettlementConfig;
use serde::{Deserialize, Serialize};

#[cfg(feature = "host")]
pub(crate) use costs::{Costs, currency};
#[cfg(feature = "host")]
pub(crate) use host::{Backend, EngineKind, Keys, Model, Node, ProverConfig, StoreKind};
pub(crate) use load::load;
#[cfg(feature = "host")]
pub(crate) use secret::Secret;
#[cfg(feature = "validator")]
pub(crate) use validator::{Url, Validator};

/// Everything an operator can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the ledger lives and how the node is reached.
    #[cfg(feature = "host")]
    pub(crate) node: Node,
    /// The model.
    #[cfg(feature = "host")]
    pub(crate) model: Model,
    /// The chain, its contract and how claims are made; without `rpc_url` the node runs in log mode.
    #[cfg(feature = "host")]
    #[serde(deserialize_with = "host::chain")]
    pub(crate) chain: Option<SettlementConfig>,
    /// The submitter's key.
    #[cfg(feature = "host")]
    pub(crate) keys: Keys,
    /// The prover.
    #[cfg(feature = "host")]
    pub(crate) prover: ProverConfig,
    /// The doors.
    #[cfg(feature = "host")]
    pub(crate) gateway: GatewayConfig,
    /// What things cost, for reports.
    #[cfg(feature = "host")]
    pub(crate) costs: Costs,
    /// A validator of checkpoints.
    #[cfg(feature = "validator")]
    pub(crate) validator: Option<Validator>,
}
