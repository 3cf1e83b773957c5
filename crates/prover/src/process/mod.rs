//! The prover that runs `milepost-prover`: one process for each proof, one proof at a time.
//!
//! A process lives for one proof. So nothing one claim does (memory, a crash, a kill) reaches the next, cancelling is killing,
//! and the priority can be chosen anew: scheduling priority can be lowered by anyone but raised only by root.
//!
//! **Guarantees.** What [`Prover::prove`] returns was verified here. The worker is killed when the future is dropped, when it is
//! silent, when it stops advancing, and when this process ends. It is given no secrets: its environment is empty but for
//! a few harmless names (`worker::PASSED_ON`).
//!
//! **Does not** retry a failed claim: that is for the owner of the claim to decide. It only waits before starting a worker
//! again after one died.

mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use milepost_statement::{Digest, ProofKind};
use sha2::Digest as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::protocol::{FromWorker, ToWorker};
use crate::request::BoxFuture;
use crate::{Error, IMAGE_ID, Proof, ProofRequest, Prover, dev_mode_is_set, verify};
use worker::Worker;

/// Name of the program.
pub const PROGRAM: &str = "milepost-prover";

/// Most claims that wait for the prover. A host has one unresolved claim per job; beyond this, claims should grow instead.
const MAX_WAITING: usize = 256;
/// Longest pause before a worker is started after others died.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// First pause; doubles with each death in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How to run the prover.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub path: PathBuf,
    /// The image id whose proofs are believed.
    pub image_id: Digest,
    /// Threads it may use; `None` leaves it to the program (all cores).
    pub threads: Option<usize>,
    /// Priority of a proof that has time: 0 (normal) to 19 (lowest).
    pub nice: u8,
    /// A proof whose deadline is nearer than this runs at normal priority.
    pub urgent: Duration,
    /// Longest wait for the greeting. Generous: the machine may be busy, and the binary cold.
    pub greeting: Duration,
    /// Longest silence of a worker that should give a sign of life every second.
    pub silence: Duration,
    /// Longest time without a finished segment. The largest takes some two minutes on one free core.
    pub stall: Duration,
}

impl Options {
    /// The usual settings for the program at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            image_id: IMAGE_ID,
            threads: None,
            nice: 10,
            urgent: Duration::from_mins(10),
            greeting: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            stall: Duration::from_mins(30),
        }
    }
}

/// Where the prover is when nothing is configured: beside the running program, otherwise on the search path, otherwise where
/// it would be beside the running program.
pub fn locate() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROGRAM)));
    let searched = std::env::var_os("PATH").into_iter().flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let candidates = beside.clone().into_iter().chain(searched.map(|folder| folder.join(PROGRAM)));
    candidates.into_iter().find(|path| path.is_file()).or(beside).unwrap_or_else(|| PROGRAM.into())
}

/// What a prover says of itself, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Version of the program.
    pub version: String,
    /// Image id of its guest.
    pub image_id: Digest,
    /// SHA-256 of the program's file.
    pub sha256: Digest,
}

/// Proves with the program `milepost-prover`.
#[derive(Debug)]
pub struct Process {
    options: Options,
    turn: Semaphore,
    waiting: AtomicUsize,
    deaths: AtomicU32,
    next_id: AtomicU32,
}

impl Process {
    /// A prover; starts nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, turn: Semaphore::new(1), waiting: AtomicUsize::new(0), deaths: AtomicU32::new(0), next_id: AtomicU32::new(1) }
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Starts the program, reads its greeting, checks it as for a proof, and ends it.
    pub async fn identify(&self) -> Result<Identity, Error> {
        if dev_mode_is_set() {
            return Err(Error::DevMode);
        }
        let worker = Worker::start(&self.options).await?;
        let version = worker.version.clone();
        worker.end().await;
        Ok(Identity { version, image_id: self.options.image_id, sha256: file_digest(&self.options.path).await? })
    }

    async fn take_turn(&self, request: ProofRequest) -> Result<Proof, Error> {
        if dev_mode_is_set() {
            return Err(Error::DevMode);
        }
        request.check()?;
        let _turn = {
            let _place = Place::take(&self.waiting)?;
            self.turn.acquire().await.map_err(|_| io::Error::other("the prover's queue is closed"))?
        };
        let deaths = self.deaths.load(Ordering::Relaxed);
        if deaths > 0 {
            tokio::time::sleep(MAX_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(deaths - 1))).await;
        }
        let outcome = self.run(request).await;
        match &outcome {
            Err(Error::Crashed { .. } | Error::Hung { .. } | Error::Io(_)) => {
                self.deaths.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.deaths.store(0, Ordering::Relaxed),
        }
        outcome
    }

    /// One proof in one process.
    async fn run(&self, request: ProofRequest) -> Result<Proof, Error> {
        let started = Instant::now();
        let urgent = request.deadline.is_some_and(|deadline| deadline < SystemTime::now() + self.options.urgent);
        let journal = request.statement.journal();
        let id = u64::from(self.next_id.fetch_add(1, Ordering::Relaxed));
        let ask = ToWorker::Prove { id, nice: if urgent { 0 } else { self.options.nice }, journal: hex::encode(journal) };

        let mut worker = Worker::start(&self.options).await?;
        worker.send(&ask, &request.guest_input()).await?;
        let mut advanced = Instant::now();
        let (cycles, po2, receipt) = loop {
            let (message, body) = worker.receive(self.options.silence, "no sign of life").await?;
            match message {
                FromWorker::Heartbeat {} => {
                    if advanced.elapsed() > self.options.stall {
                        return Err(worker.kill(Error::Hung { silent: advanced.elapsed(), what: "no segment was finished" }).await);
                    }
                }
                FromWorker::Executed { id: about, cycles, po2 } if about == id => {
                    tracing::debug!(claim = request.claim, cycles, ?po2, "the guest ran");
                    advanced = Instant::now();
                }
                FromWorker::Proven { id: about, segments } if about == id => {
                    tracing::debug!(claim = request.claim, segments, "segments proven");
                    advanced = Instant::now();
                }
                FromWorker::Done { id: about, cycles, po2, .. } if about == id => break (cycles, po2, body),
                FromWorker::Failed { code, message, .. } => {
                    let refusal = Error::Refused { code, message };
                    return Err(worker.kill(refusal).await);
                }
                other => {
                    let why = format!("it said {other:?} out of turn");
                    return Err(worker.kill(Error::NotAProver { path: self.options.path.clone(), why }).await);
                }
            }
        };
        worker.end().await;

        let image_id = self.options.image_id;
        let statement = request.statement;
        let (receipt, verified) = tokio::task::spawn_blocking(move || {
            let verified = verify(&receipt, image_id, &statement);
            (receipt, verified)
        })
        .await
        .map_err(io::Error::other)?;
        verified?;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(
            event = "proof_made",
            claim = request.claim,
            tokens = statement.count.0,
            seconds,
            bytes = receipt.len(),
            ?po2,
            "claim proven"
        );
        Ok(Proof { kind: ProofKind::Composite, journal, receipt, seconds, cycles: Some(cycles), po2 })
    }
}

impl Prover for Process {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.take_turn(request))
    }

    fn kind(&self) -> ProofKind {
        ProofKind::Composite
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async {
            // Greeted each time: a remembered success must not hide a program that no longer starts.
            let Identity { version, image_id, sha256 } = self.identify().await?;
            Ok(Some(format!("prover {version} {sha256} image {image_id}")))
        })
    }
}

/// A place in the queue, given up when dropped: a cancelled claim does not count.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Error> {
        let place = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        if before >= MAX_WAITING { Err(Error::Busy { waiting: before }) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// SHA-256 of the program's file.
async fn file_digest(path: &Path) -> Result<Digest, Error> {
    let path = path.to_owned();
    let hash = move || {
        let mut file = std::fs::File::open(&path).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => Error::Absent { path: path.clone() },
            _ => Error::NotExecutable { path: path.clone(), why: why.to_string() },
        })?;
        let mut hash = sha2::Sha256::new();
        io::copy(&mut file, &mut hash)?;
        Ok(Digest(hash.finalize().into()))
    };
    tokio::task::spawn_blocking(hash).await.map_err(io::Error::other)?
}
