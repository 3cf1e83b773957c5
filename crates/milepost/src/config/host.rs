//! The sections of a host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use milepost_settlement::SettlementConfig;
use serde::{Deserialize, Deserializer, Serialize};

use super::Secret;

/// Chain id of Base Sepolia, the known node's default.
const DEFAULT_CHAIN: u64 = 84_532;

/// A chain section without an endpoint is no chain: the known node's variables may name contracts all the same.
pub(super) fn chain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SettlementConfig>, D::Error> {
    let mut section: BTreeMap<String, figment::value::Value> = BTreeMap::deserialize(deserializer)?;
    if !section.contains_key("rpc_url") && !section.contains_key("rpc_urls") {
        return Ok(None);
    }
    section.entry("chain_id".to_owned()).or_insert_with(|| DEFAULT_CHAIN.into());
    let settlement: SettlementConfig =
        figment::value::Value::from(section).deserialize().map_err(|error| serde::de::Error::custom(super::load::explain(&error)))?;
    Ok(Some(settlement))
}

/// Puts in what depends on another section: accepted certificates are kept beside the ledger.
pub(super) fn complete(config: &mut super::Config) {
    let folder = config.node.data.join("certificates");
    if let Some(certificates) = config.chain.as_mut().and_then(|chain| chain.certificates.as_mut()) {
        certificates.folder.get_or_insert(folder);
    }
}

/// `[node]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// Folder of the ledger's database; made if absent.
    pub(crate) data: PathBuf,
    /// Address of the doors.
    pub(crate) listen: SocketAddr,
    /// `rocksdb`, or `memory` (nothing survives: tours and tests only).
    pub(crate) store: StoreKind,
}

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// RocksDB on disk.
    Rocksdb,
    /// Nothing survives the process.
    Memory,
}

/// `[model]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Model {
    /// `llama`, or `scripted` (no model at all: tours and tests only).
    pub(crate) engine: EngineKind,
    /// A GGUF file.
    pub(crate) path: Option<PathBuf>,
    /// Name under which it is offered; the file's stem by default.
    pub(crate) name: Option<String>,
    /// CPU threads; by default all but one, so that commits are never starved.
    pub(crate) threads: Option<u32>,
    /// Context of each sequence in tokens.
    pub(crate) context: Option<u32>,
    /// Sequences decoded at once.
    pub(crate) parallel: Option<u32>,
    /// Layers on the GPU.
    pub(crate) gpu_layers: Option<u32>,
    /// Tokens per second of the scripted engine.
    pub(crate) scripted_rate: Option<u32>,
    /// Tokens of each answer of the scripted engine; unset: until max_tokens.
    pub(crate) scripted_tokens: Option<u32>,
}

/// Which engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EngineKind {
    /// llama.cpp in this process.
    #[default]
    Llama,
    /// Deterministic text without a model.
    Scripted,
}

/// `[keys]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keys {
    /// The submitter's key as an encrypted keystore (`milepost keys new`).
    pub(crate) keystore: Option<PathBuf>,
    /// File with the keystore's passphrase, readable by its owner only; without it `MILEPOST_PASSPHRASE`, else the terminal.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// File with the submitter's private key in hexadecimal, readable by its owner only.
    pub(crate) submitter_file: Option<PathBuf>,
    /// The key itself; accepted from the environment only (`HOST_PRIVATE_KEY`).
    #[serde(skip_serializing)]
    pub(crate) submitter: Option<Secret>,
}

/// `[prover]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProverConfig {
    /// `stark`, `remote`, or `mock` (tests on chain id 31337 over loopback only).
    pub(crate) backend: Backend,
    /// `stark`: the program `milepost-prover`; by default the one beside this program.
    pub(crate) program: Option<PathBuf>,
    /// Most private writable memory of a proof, in MB; by default enough for the largest claim.
    pub(crate) memory_mb: Option<u64>,
    /// `remote`: `host:port` of `milepost-prover serve --listen`.
    pub(crate) address: Option<String>,
    /// `remote`: the identity of that prover, 64 hexadecimal digits (`milepost-prover identity`).
    pub(crate) identity: Option<String>,
    /// `remote`: file with this node's own key, made if absent; by default `prover-key.pem` beside the ledger.
    pub(crate) key_file: Option<PathBuf>,
}

/// Which proofs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Backend {
    /// Composite STARKs by `milepost-prover` on this machine.
    #[default]
    Stark,
    /// The same by `milepost-prover` on another machine.
    Remote,
    /// Seals for the chain's verifier. Known by name and refused: no session that demands them is served (docs/decisions/0011).
    Groth16,
    /// No proof at all.
    Mock,
}

impl Default for Node {
    fn default() -> Self {
        let store = if cfg!(feature = "rocksdb") { StoreKind::Rocksdb } else { StoreKind::Memory };
        Self { data: PathBuf::from("milepost-data"), listen: SocketAddr::from(([127, 0, 0, 1], 8080)), store }
    }
}
