//! The prover that runs `milepost-prover`: one process for each proof, one proof at a time.
//!
//! A process lives for one proof. So nothing one claim does (memory, a crash, a kill) reaches the next, cancelling is killing,
//! and the priority can be chosen anew: scheduling priority can be lowered by anyone but raised only by root.
//!
//! **Guarantees.** What [`Prover::prove`] returns was verified here. The worker is killed when the future is dropped, when it is
//! silent, when it stops advancing, and when this process ends; it ends by itself when it needs more memory than it may have. It is
//! given no secrets: its environment is empty but for a few harmless names (`worker::PASSED_ON`).
//!
//! **Does not** retry a failed claim: that is for the owner of the claim to decide. It only waits before starting a worker
//! again after one died.

mod worker;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost_statement::{Digest, ProofKind};
use sha2::Digest as _;
use tokio::time::Instant;

use crate::conversation::{Ask, Nobody, Patience, verified};
use crate::memory::enough_for_any_claim_mb;
use crate::request::BoxFuture;
use crate::turns::Turns;
use crate::{Error, IMAGE_ID, Proof, ProofRequest, Prover, dev_mode_is_set};
pub(crate) use worker::Worker;

/// Name of the program.
pub const PROGRAM: &str = "milepost-prover";

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
    /// Most private writable memory of a worker, in MB. The worker sets the limit itself before it proves.
    pub memory_mb: u64,
    /// Whether it makes seals for the chain's verifier, where one is asked for.
    pub seals: bool,
    /// How long a worker is waited for.
    pub patience: Patience,
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
            memory_mb: enough_for_any_claim_mb(),
            seals: false,
            patience: Patience::default(),
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
    turns: Turns,
    next_id: AtomicU64,
}

impl Process {
    /// A prover; starts nothing yet.
    pub fn new(options: Options) -> Self {
        Self { options, turns: Turns::new(), next_id: AtomicU64::new(1) }
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
        let seals = if self.options.seals { worker.check_seals() } else { Ok(()) };
        worker.end().await;
        seals?;
        Ok(Identity { version, image_id: self.options.image_id, sha256: file_digest(&self.options.path).await? })
    }

    async fn take_turn(&self, request: ProofRequest) -> Result<Proof, Error> {
        if dev_mode_is_set() {
            return Err(Error::DevMode);
        }
        request.check()?;
        let _turn = self.turns.take().await?;
        let outcome = self.run(request).await;
        self.turns.ended(&outcome);
        outcome
    }

    /// One proof in one process.
    async fn run(&self, request: ProofRequest) -> Result<Proof, Error> {
        let started = Instant::now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ask = Ask::new(&request, id, self.options.nice, self.options.urgent, self.options.memory_mb);
        let mut worker = Worker::start(&self.options).await?;
        if request.sealed
            && let Err(error) = worker.check_seals()
        {
            return Err(worker.kill(error).await);
        }
        let made = match ask.follow(&mut worker, &self.options.patience, &mut Nobody).await {
            Ok(made) => made,
            Err(error) => return Err(worker.kill(error).await),
        };
        worker.end().await;
        verified(request, self.options.image_id, made, started).await
    }
}

impl Prover for Process {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.take_turn(request))
    }

    fn kind(&self) -> ProofKind {
        if self.options.seals { ProofKind::Groth16 } else { ProofKind::Composite }
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async {
            // Greeted each time: a remembered success must not hide a program that no longer starts.
            let Identity { version, image_id, sha256 } = self.identify().await?;
            Ok(Some(format!("prover {version} {sha256} image {image_id} {}", self.kind())))
        })
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
