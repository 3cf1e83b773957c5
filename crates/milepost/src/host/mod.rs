//! A host: model, ledger, doors, prover and settlement, wired together and supervised.
//!
//! A critical part that ends ends the process with its reason: a half-alive node takes money it cannot account for.

mod engine;
pub(crate) mod prover;
pub(crate) mod readiness;
mod terms;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use milepost_gateway::{Deps, Host, SystemClock};
use milepost_ledger::Digest;
use milepost_ledger_db::LedgerDb;
use milepost_settlement::{Finality, LogSettler, Settlement, SettlementConfig, SubmitterKey};
use milepost_statement::SigningKey;
use milepost_validator_net::set_file::{Rule, SetFile};
use tokio::signal::unix::{SignalKind, signal};

use crate::build_info::{BuildInfo, build_info};
use crate::config::{Backend, Config, StoreKind};

/// Why a host cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The ledger's database.
    #[error("[{code}] ledger database: {0}\n{advice}", code = .0.code(), advice = .0.advice())]
    Ledger(#[from] milepost_ledger_db::Error),
    /// The model.
    #[error("model: {0}")]
    Model(#[from] milepost_inference::Error),
    /// Settlement.
    #[error("{error}\n{}", .error.advice())]
    Settlement {
        /// What.
        error: milepost_settlement::Error,
    },
    /// The doors.
    #[error("doors: {0}")]
    Doors(String),
    /// The address of the doors is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A key is missing or wrong.
    #[error("{0}")]
    Key(String),
    /// Something that this build does not have.
    #[cfg(not(all(feature = "rocksdb", feature = "llama", feature = "stark")))]
    #[error("this build has no {what}: {instead}")]
    NotBuilt {
        /// What.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The prover cannot be used as it is configured.
    #[cfg(feature = "stark")]
    #[error("prover: {0}")]
    Prover(String),
    /// Seals are made for nobody yet.
    #[error(
        "prover.backend = \"groth16\" is refused: this host serves no session that demands seals (docs/decisions/0011); set prover.backend = \
         \"stark\""
    )]
    NoGroth16,
    /// Mock proofs where they are refused.
    #[error("prover.backend = \"mock\" is refused: {0}")]
    Mock(String),
    /// A part that must not end has ended.
    #[error("{part} ended: {reason}; the process ends with it, so that nothing is served that is not accounted for")]
    Ended {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// A signal handler.
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// Time between blocks of the slowest chain in use (Ethereum's 12 s); faster ones only leave more time.
const SLOWEST_BLOCK_SECONDS: u64 = 12;

/// Seconds that a chain's own `finalized` tag is behind its head: two epochs and a half of Ethereum, rounded up, which rollups wait for
/// too.
const TAG_SECONDS: u64 = 1_200;

/// Seconds that the proof of a full claim takes on two cores; the operator's own figure is `gateway.proof_seconds`.
const PROOF_SECONDS: u64 = 70;

/// Runs a host until it is told to stop, or a critical part ends.
pub(crate) async fn serve(config: Config, warnings: Vec<String>) -> Result<(), Error> {
    let build = build_info();
    announce(&config, &build, &warnings);
    config.gateway.check().map_err(Error::Doors)?;
    let listener = milepost_gateway::bind(config.node.listen).map_err(|source| Error::Listen { address: config.node.listen, source })?;

    let db = open_ledger(&config)?;
    // Reading and hashing a model file takes seconds and more: not on an async thread.
    let model = config.model.clone();
    let engine = tokio::task::spawn_blocking(move || engine::open(&model))
        .await
        .map_err(|panic| Error::Ended { part: "loading the model", reason: panic.to_string() })??;
    tracing::info!(
        event = "model_loaded",
        model = engine.model().name,
        digest = %Digest(engine.model().digest),
        context_tokens = engine.model().context_tokens,
        "model loaded"
    );

    let mut gateway = config.gateway.clone();
    let mut signer = None;
    let mut settling = None;
    let mut log_settler = None;
    let mut prover_status = None;
    if let Some(chain) = &config.chain {
        // Opening a keystore takes most of a second, and may ask on the terminal: not on an async thread.
        let keys = config.keys.clone();
        let key = tokio::task::spawn_blocking(move || crate::keys::configured(&keys))
            .await
            .map_err(|panic| Error::Ended { part: "opening the key", reason: panic.to_string() })?
            .map_err(Error::Key)?;
        signer = SigningKey::from_bytes(key.bytes());
        let key = SubmitterKey::from_bytes(key.bytes()).map_err(|error| Error::Key(error.to_string()))?;
        let prover = prover::open(&config, chain)?;
        let ready = milepost_prover::watch(Arc::clone(&prover), prover::cache(&config));
        let mut deps = milepost_settlement::Deps::new(db.clone(), prover, key);
        deps.prover_ready = Some(ready.clone());
        prover_status = Some(ready);
        gateway.chain_id = chain.chain_id.0;
        // A marketplace of another generation does not say which model a job is for: it is for the one that is served.
        let mut settlement = chain.clone();
        settlement.deployed.model.get_or_insert(Digest(engine.model().digest));
        // What a closing window has time for bounds what may be generated: the doors must know how fast claims can follow.
        gateway.max_claim_tokens.get_or_insert(chain.max_claim_tokens);
        gateway.claim_seconds.get_or_insert(chain.claim_seconds.saturating_add(finality_seconds(chain)));
        gateway.proof_seconds.get_or_insert(if config.prover.backend == Backend::Mock { 0 } else { PROOF_SECONDS });
        let submitter = deps.key.address();
        let handle = Settlement::start(settlement, deps).await.map_err(|error| Error::Settlement { error })?;
        for transaction in milepost_settlement::recorded_cancels(&db, submitter).map_err(|error| Error::Settlement { error })? {
            tracing::warn!(event = "cancel_wished", nonce = transaction.nonce, "an operator wants this transaction cancelled");
            handle.cancel(transaction);
        }
        settling = Some(handle);
    } else {
        log_settler = Some(LogSettler::start(&db, None));
    }

    let readiness = readiness::Readiness::new(settling.as_ref().map(milepost_settlement::Handle::watch), prover_status);
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| Error::Doors(format!("metrics: {error}")))?;
    metrics::gauge!("milepost_build_info", "version" => build.version, "commit" => build.commit, "image_id" => build.image_id.clone())
        .set(1.0);
    let jobs = settling
        .as_ref()
        .map(|handle| Arc::new(terms::ChainJobs::new(handle.chain().clone(), handle.host())) as Arc<dyn milepost_gateway::Jobs>);
    let host = Host::new(
        gateway,
        Deps {
            db: db.clone(),
            engines: vec![engine],
            jobs,
            signer,
            readiness: Arc::new(readiness),
            build: for_the_doors(&build, &config),
            metrics: Arc::new(move || metrics.render()),
            clock: Arc::new(SystemClock),
        },
    )
    .await
    .map_err(|error| Error::Doors(error.to_string()))?;
    let recovered = host.recover().await.map_err(|error| Error::Doors(error.to_string()))?;
    // Heard from before anybody can know that it serves.
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    tracing::info!(event = "serving", listen = %config.node.listen, ?recovered, "serving");

    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(event = "draining", "told to stop: finishing what is in flight");
    };
    let settlement_ended = async {
        match &mut settling {
            Some(handle) => handle.ended().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        served = milepost_gateway::serve(listener, Arc::clone(&host), told) => served.map_err(|error| Error::Doors(error.to_string())),
        reason = db.stopped() => Err(Error::Ledger(milepost_ledger_db::Error::Stopped { reason })),
        ended = settlement_ended => match ended {
            Ok(()) => Err(Error::Ended { part: "settlement", reason: "without a reason".to_owned() }),
            Err(error) => Err(Error::Settlement { error }),
        },
    };
    // A ledger that cannot be written fails every part at once. Whoever noticed first, that is the reason.
    let outcome = match (outcome, tokio::task::unconstrained(db.stopped()).now_or_never()) {
        (Err(_), Some(reason)) => Err(Error::Ledger(milepost_ledger_db::Error::Stopped { reason })),
        (outcome, _) => outcome,
    };
    drop(log_settler);
    if outcome.is_ok()
        && let Some(handle) = settling
    {
        handle.stop().await.map_err(|error| Error::Settlement { error })?;
    }
    tracing::info!(event = "stopped", clean = outcome.is_ok(), "stopped");
    outcome
}

/// Seconds from a claim's block to its finality, on a day on which nothing is wrong. A job has one unresolved claim at a time, so this
/// bounds how many of them a closing window has time for.
fn finality_seconds(chain: &SettlementConfig) -> u64 {
    match (chain.finality, &chain.certificates) {
        (Finality::Confirmations, _) => chain.confirmations.saturating_mul(SLOWEST_BLOCK_SECONDS),
        (Finality::Finalized, _) | (Finality::Certificate, None) => TAG_SECONDS,
        // Without a certificate for longer than this the operator is told that something is wrong. Under the rule `single` validators
        // certify nothing above the tag; a set file that cannot be read is refused elsewhere.
        (Finality::Certificate, Some(section)) => {
            let behind_the_tag = SetFile::read(&section.set_file).is_ok_and(|file| file.rule == Rule::Single);
            section.stale_seconds.saturating_add(if behind_the_tag { TAG_SECONDS } else { 0 })
        }
    }
}

/// The startup log: which code runs, against what, in which mode.
fn announce(config: &Config, build: &BuildInfo, warnings: &[String]) {
    tracing::info!(
        event = "starting",
        version = build.version,
        commit = build.commit,
        built = build.built,
        image_id = build.image_id,
        features = build.features.join(","),
        "milepost"
    );
    for warning in warnings {
        tracing::warn!(event = "configuration", "{warning}");
    }
    if let Some(chain) = &config.chain {
        tracing::info!(
            event = "mode",
            mode = "settling",
            chain_id = chain.chain_id.0,
            marketplace = %chain.marketplace,
            "settling: claims go to the marketplace"
        );
    } else {
        tracing::info!(event = "mode", mode = "log", "log mode: metering and sealing; what would be submitted is printed");
    }
    if config.node.store == StoreKind::Memory {
        tracing::warn!(event = "memory_store", "node.store = \"memory\": nothing survives this process; for tours and tests only");
    }
}

pub(crate) fn open_ledger(config: &Config) -> Result<LedgerDb, Error> {
    let options = milepost_ledger_db::Options::default();
    match config.node.store {
        StoreKind::Memory => Ok(LedgerDb::open_memory(options)?),
        #[cfg(feature = "rocksdb")]
        StoreKind::Rocksdb => Ok(LedgerDb::open_rocks(&config.node.data.join("ledger"), options)?),
        #[cfg(not(feature = "rocksdb"))]
        StoreKind::Rocksdb => {
            Err(Error::NotBuilt { what: "RocksDB", instead: "build with the feature rocksdb, or set node.store = \"memory\" for a tour" })
        }
    }
}

fn for_the_doors(build: &BuildInfo, config: &Config) -> milepost_gateway::BuildInfo {
    let mut contracts = BTreeMap::new();
    if let Some(chain) = &config.chain {
        contracts.insert("JobMarketplace".to_owned(), chain.marketplace.to_string());
    }
    milepost_gateway::BuildInfo {
        version: build.version.to_owned(),
        commit: build.commit.to_owned(),
        built: build.built.to_string(),
        image_id: Some(build.image_id.clone()),
        features: build.features.iter().map(|feature| (*feature).to_owned()).collect(),
        chains: config.chain.iter().map(|chain| chain.chain_id.0).collect(),
        contracts,
    }
}

#[cfg(test)]
mod tests {
    use milepost_settlement::Certificates;
    use milepost_statement::{Address, ChainId};

    use super::*;

    #[test]
    fn what_makes_a_claim_final_decides_how_soon_the_next_can_follow() {
        let mut chain = SettlementConfig::new("http://127.0.0.1:1", ChainId(84_532), Address([1; 20]));
        assert_eq!(finality_seconds(&chain), 72, "six blocks of twelve seconds");
        chain.finality = Finality::Finalized;
        assert_eq!(finality_seconds(&chain), TAG_SECONDS);
        chain.finality = Finality::Certificate;
        let certificates = Certificates::new("/nowhere/set.toml", "/nowhere");
        chain.certificates = Some(certificates.clone());
        assert_eq!(finality_seconds(&chain), certificates.stale_seconds);
    }
}
