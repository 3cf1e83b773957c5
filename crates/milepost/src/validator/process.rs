//! The process: everything put together, supervised, and ended in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint_db::CheckpointDB;
use finality_gadget::finality::Maintenance;
use finality_gadget::{CheckpointFinality, Millis, VoteSigner};
use milepost_validator_net::light::{Board, Door};
use milepost_validator_net::{Limits, Network, Options};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::chain::{ChainState, Endpoints, Follower};
use super::doors::{self, Views};
use super::driver::{self, Driver};
use super::membership::{self, Membership};
use super::storage::Measured;
use super::{Error, meters};
use crate::build_info::build_info;
use crate::config::Validator;

/// Looks at the chain that wait for the gadget: one is being made while one is taken.
const LOOKS: usize = 2;
/// So long the parts may take to end after they were told to. A write to the disk is waited for beyond that.
const FAREWELL: Duration = Duration::from_secs(10);
/// Between two figures of what the database takes on the disk: reading them lists a directory.
const DISK_EVERY: Duration = Duration::from_secs(30);

/// How a part ended.
type Ending = (&'static str, Result<(), Error>);

/// Runs a validator until it is told to stop, or a part ends that must not.
pub(super) async fn run(settings: Validator, warnings: Vec<String>) -> Result<(), Error> {
    announce(&warnings);
    let metrics = meters::install()?;
    let build = build_info();
    meters::build(build.version, build.commit);

    let of = settings.clone();
    let membership = blocking("the set file", move || Membership::load(&of)).await??;
    let (me, agreement) = (membership.me, membership.agreement.clone());
    let schedule = Arc::clone(&agreement.schedule);
    let set = schedule.set_at(schedule.domain().trusted.checkpoint.number);
    tracing::info!(
        event = "validator",
        validator = %me,
        chain_id = %schedule.domain().chain,
        trusted = %schedule.domain().trusted.checkpoint,
        set = %set.id(),
        set_digest = %set.digest(),
        sets = schedule.sets().count(),
        agreement = membership::digest(&agreement),
        interval = agreement.interval,
        rule = ?agreement.rule,
        "who this is, and what all operators agree on"
    );
    let endpoints = Endpoints::new(&settings, schedule.domain().chain, agreement.rule)?;
    let listener = bind(settings.listen).await?;
    let asked = match settings.certificates_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let doors = match settings.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };

    let persistence = settings.persistence.config();
    let path = settings.database();
    let db = if persistence.enabled {
        let opened = blocking("opening the database", move || {
            make_folder(&path)?;
            Ok::<_, Error>(Arc::new(CheckpointDB::new(&path)?))
        });
        Some(opened.await??)
    } else {
        None
    };
    let (membership, signer) = {
        let of = settings.clone();
        blocking("opening the vote key", move || membership.signer(&of).map(|signer| (membership, signer))).await??
    };
    let observer = signer.is_none();
    let board = Board::new();
    let door = asked.map(|listener| Door::new(&membership.transport, &agreement, board.clone(), listener)).transpose();
    let door = door.map_err(|error| Error::Configuration(error.to_string()))?;
    let peers = agreement.peers(me);
    let options = Options {
        validator: me,
        key: membership.transport,
        schedule: Arc::clone(&schedule),
        peers,
        limits: Limits::for_schedule(&schedule),
    };
    let (network, bridge, inbox) = Network::new(options, listener)?;

    let rules = settings.timing.rules(agreement.rule, me);
    let tick = driver::tick_for(&rules);
    let signer = signer.map(|key| Arc::new(key) as Arc<dyn VoteSigner>);
    let mut gadget = CheckpointFinality::new(rules, (*schedule).clone(), persistence, Arc::new(bridge.clone()), signer);
    if let Some(db) = &db {
        gadget.set_storage(Arc::new(Measured::new(Arc::clone(db))));
        let nonce = driver::nonce()?;
        gadget = blocking("restoring", move || gadget.restore_from_storage(nonce).map(|_| gadget)).await??;
    } else {
        tracing::warn!(event = "observer", "persistence is not enabled: this node observes and never signs");
    }
    let maintenance = gadget.maintenance();

    // Heard from before anybody can know that it runs.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| Error::System(format!("signals: {error}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Error::System(format!("signals: {error}")))?;

    let stop = CancellationToken::new();
    let mut parts: JoinSet<Ending> = JoinSet::new();
    let (looks, taken) = mpsc::channel(LOOKS);
    let (status, statuses) = watch::channel(None);
    let (chain, chains) = watch::channel(ChainState::default());
    let (checked, check) = watch::channel(None);
    let driver = Driver { gadget, me, db: db.clone(), inbox, looks: taken, tick, board, status };
    parts.spawn(on_a_thread(driver, stop.clone()));
    let follower = Follower { endpoints, interval: agreement.interval, poll: settings.poll(), gadget: looks, state: chain };
    parts.spawn(named("chain", follower.run(stop.clone())));
    parts.spawn(named("network", network.run(stop.clone())));
    if let Some(door) = door {
        parts.spawn(named("certificates", door.run(stop.clone())));
    }
    if let (Some(maintenance), Some(db)) = (maintenance, &db) {
        parts.spawn(maintain(maintenance, Arc::clone(db), persistence.flush_interval().min(persistence.prune_interval()), stop.clone()));
    }
    if let Some(db) = &db {
        let db = Arc::clone(db);
        // Supervised by nobody: what it finds is dealt with at the next start, and until then the gadget refuses what it cannot read.
        tokio::task::spawn_blocking(move || check_database(&db, &checked));
    } else {
        checked.send_replace(Some(Ok(0)));
    }
    if let Some(listener) = doors {
        let needed = schedule.set_at(finality_gadget::CheckpointNumber(u64::MAX)).quorum() - 1;
        let views = Arc::new(Views { status: statuses, chain: chains, network: bridge, checked: check, observer, needed, metrics });
        let stop = stop.clone();
        parts.spawn(async move { ("doors", doors::serve(listener, views, stop).await) });
    }
    tracing::info!(event = "validating", listen = %settings.listen, certificates = ?settings.certificates_listen, metrics = ?settings.metrics_listen, observer, "validating");

    let outcome = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = parts.join_next() => Some(ended),
    };
    let outcome = match outcome {
        None => {
            tracing::info!(event = "draining", "told to stop: peers are told, what is being written is finished");
            Ok(())
        }
        Some(ended) => Err(reason(ended)),
    };
    stop.cancel();
    let outcome = farewell(parts, outcome).await;
    if outcome.is_ok()
        && let Some(db) = db
    {
        // The next start has no log to read. A database that stopped cannot, and need not.
        blocking("settling the database", move || db.settle()).await??;
    }
    tracing::info!(event = "stopped", clean = outcome.is_ok(), "stopped");
    outcome
}

/// Waits for the parts; the first reason is the reason.
async fn farewell(mut parts: JoinSet<Ending>, mut outcome: Result<(), Error>) -> Result<(), Error> {
    let all = async {
        while let Some(ended) = parts.join_next().await {
            let ended = match ended {
                Ok((_, ended)) => ended,
                Err(panic) => Err(Error::Ended { part: "a part", reason: panic.to_string() }),
            };
            if outcome.is_ok() {
                outcome = ended;
            }
        }
    };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tracing::warn!(event = "parts_cut", "some parts did not end in time");
    }
    outcome
}

/// Why a part has ended that must not.
fn reason(ended: Option<Result<Ending, tokio::task::JoinError>>) -> Error {
    match ended {
        Some(Ok((_, Err(error)))) => error,
        Some(Ok((part, Ok(())))) => Error::Ended { part, reason: "without a reason".to_owned() },
        Some(Err(panic)) => Error::Ended { part: "a part", reason: panic.to_string() },
        None => Error::Ended { part: "everything", reason: "there was nothing to run".to_owned() },
    }
}

async fn named(part: &'static str, run: impl Future<Output = ()>) -> Ending {
    run.await;
    (part, Ok(()))
}

/// The gadget has a thread of its own: it blocks while the disk syncs, and nothing else is to wait for that.
async fn on_a_thread(driver: Driver, stop: CancellationToken) -> Ending {
    let (done, ended) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let spawned = std::thread::Builder::new().name("finality".to_owned()).spawn(move || {
        // Nobody listens any more where the process gave up waiting.
        let _ = done.send(runtime.block_on(driver.run(stop)));
    });
    if let Err(error) = spawned {
        return ("finality", Err(Error::System(format!("the thread for finality: {error}"))));
    }
    let panicked = || Err(Error::Ended { part: "finality", reason: "its thread panicked".to_owned() });
    ("finality", ended.await.unwrap_or_else(|_| panicked()))
}

/// Flushes and prunes when it is time.
async fn maintain(mut maintenance: Maintenance, db: Arc<CheckpointDB>, pause: Duration, stop: CancellationToken) -> Ending {
    let began = Instant::now();
    let mut disk_at: Option<Instant> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return ("maintenance", Ok(())),
            () = tokio::time::sleep(pause) => {}
        }
        let now = Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let round = tokio::task::spawn_blocking(move || {
            let report = maintenance.run_once(now);
            (maintenance, report)
        });
        let report = match round.await {
            Ok((again, report)) => {
                maintenance = again;
                report
            }
            Err(panic) => return ("maintenance", Err(Error::Ended { part: "maintenance", reason: panic.to_string() })),
        };
        match report {
            Ok(report) => {
                if let Some(took) = report.flushed {
                    meters::flush(took);
                }
                if let Some((_, took)) = report.pruned {
                    meters::prune(took);
                }
            }
            Err(error) => {
                tracing::error!(event = "maintenance_failed", %error, "maintenance has ended, and the process ends with it");
                return ("maintenance", Err(Error::Finality(error.into())));
            }
        }
        if disk_at.is_none_or(|at| at.elapsed() >= DISK_EVERY) {
            disk_at = Some(Instant::now());
            let db = Arc::clone(&db);
            if let Ok(Ok(bytes)) = tokio::task::spawn_blocking(move || db.disk_bytes()).await {
                meters::disk(bytes);
            }
        }
    }
}

/// Reads every record once, behind the start.
fn check_database(db: &CheckpointDB, checked: &watch::Sender<Option<Result<u64, String>>>) {
    let began = Instant::now();
    let found = db.check().map_err(|error| error.to_string());
    let millis = began.elapsed().as_millis();
    match &found {
        Ok(records) => tracing::info!(event = "database_checked", records, millis, "every record of the database is whole"),
        Err(error) => {
            tracing::error!(
                event = "database_checked",
                error,
                millis,
                "the database is damaged; the next start sets it aside and rebuilds it"
            );
        }
    }
    checked.send_replace(Some(found));
}

/// Runs something that blocks, away from the threads that must not.
pub(super) async fn blocking<T: Send + 'static>(what: &'static str, run: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(run).await.map_err(|panic| Error::Ended { part: what, reason: panic.to_string() })
}

/// The folder above the database, which RocksDB does not make.
pub(super) fn make_folder(database: &std::path::Path) -> Result<(), Error> {
    let folder = database.parent().unwrap_or(database);
    std::fs::create_dir_all(folder).map_err(|error| Error::File { path: folder.to_owned(), reason: error.to_string() })
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn announce(warnings: &[String]) {
    let build = build_info();
    tracing::info!(
        event = "starting",
        version = build.version,
        commit = build.commit,
        built = build.built,
        features = build.features.join(","),
        "milepost validator"
    );
    for warning in warnings {
        tracing::warn!(event = "configuration", "{warning}");
    }
}
