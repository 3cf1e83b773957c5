//! The self-test: prove a tiny fixed claim and verify it, before anybody's money depends on it.
//!
//! A missing, broken or wrong prover is named at start and not at the first claim. Proving takes a quarter of a minute, so a
//! success is remembered in a file under the prover's fingerprint (SHA-256 of the program, image id) and not repeated until
//! either changes. It runs in the background: serving does not wait for it, claims do.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use milepost_statement::{Address, ChainId, Digest, JobId, ProofKind, Statement, TokenCount, TokenSeq, checkpoint_head};
use serde::{Deserialize, Serialize};
use tokio::sync::watch as channel;

use crate::{CheckpointInput, Error, ProofRequest, Prover};

/// First pause before a failed test is repeated; doubles up to [`LAST_PAUSE`]. An operator who mends the prover need not
/// restart the node.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Longest pause between tests.
const LAST_PAUSE: Duration = Duration::from_mins(10);

/// Whether the prover can be relied on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Status {
    /// Nothing is known yet.
    Untested,
    /// The test runs.
    Testing,
    /// It proved, and the proof held.
    Ready(SelfTest),
    /// It did not.
    Failed {
        /// [`Error::code`].
        code: &'static str,
        /// What went wrong.
        message: String,
        /// What to do about it.
        advice: &'static str,
    },
}

impl Status {
    /// Whether claims may be proven.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

/// A self-test that succeeded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfTest {
    /// The kind of proof made.
    pub kind: ProofKind,
    /// How long the proof took when it was made.
    pub seconds: f64,
    /// Whether the result was remembered from an earlier run.
    pub cached: bool,
}

/// Where a success is remembered.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    fingerprint: String,
    seconds: f64,
}

impl Cache {
    /// A file; it and its folder need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An unreadable or foreign file is no memory: the test is simply run again.
    fn recall(&self, fingerprint: &str) -> Option<f64> {
        let remembered: Remembered = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        (remembered.fingerprint == fingerprint).then_some(remembered.seconds)
    }

    /// Replaces the file whole, so that a crash leaves the old or the new one.
    fn remember(&self, fingerprint: &str, seconds: f64) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_vec(&Remembered { fingerprint: fingerprint.to_owned(), seconds })?;
        let draft = self.path.with_extension(format!("draft-{}", std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(draft, &self.path)
    }
}

/// Proves the sample claim, or recalls that this very prover did.
pub async fn self_test(prover: &dyn Prover, cache: Option<&Cache>) -> Result<SelfTest, Error> {
    let fingerprint = prover.fingerprint().await?;
    let memory = cache.zip(fingerprint.as_deref());
    if let Some(seconds) = memory.and_then(|(cache, fingerprint)| cache.recall(fingerprint)) {
        return Ok(SelfTest { kind: prover.kind(), seconds, cached: true });
    }
    let sealed = prover.kind() == ProofKind::Groth16;
    let proof = prover.prove(ProofRequest { sealed, ..sample_request() }).await?;
    if let Some((cache, fingerprint)) = memory
        && let Err(why) = cache.remember(fingerprint, proof.seconds)
    {
        tracing::warn!(event = "self_test_not_remembered", path = %cache.path.display(), %why, "the self-test will be repeated at the next start");
    }
    Ok(SelfTest { kind: proof.kind, seconds: proof.seconds, cached: false })
}

/// Tests the prover in the background, again and again until it succeeds; the receiver always shows how it stands.
pub fn watch(prover: Arc<dyn Prover>, cache: Option<Cache>) -> channel::Receiver<Status> {
    let (tell, status) = channel::channel(Status::Untested);
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            tell.send_replace(Status::Testing);
            let outcome = tokio::select! {
                outcome = self_test(&*prover, cache.as_ref()) => outcome,
                () = tell.closed() => return,
            };
            match outcome {
                Ok(test) => {
                    tracing::info!(event = "prover_ready", kind = %test.kind, seconds = test.seconds, cached = test.cached, "the prover's self-test holds");
                    tell.send_replace(Status::Ready(test));
                    return;
                }
                Err(error) => {
                    let (code, advice, message) = (error.code(), error.advice(), error.to_string());
                    tracing::error!(event = "prover_failed", code, retry_s = pause.as_secs(), "{message}; {advice}");
                    tell.send_replace(Status::Failed { code, message, advice });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tell.closed() => return,
            }
            pause = LAST_PAUSE.min(pause * 2);
        }
    });
    status
}

/// The claim that a self-test proves: one checkpoint of ten tokens, of no real job.
pub fn sample_request() -> ProofRequest {
    let checkpoint = CheckpointInput { turns: Digest([7; 32]), ids: (1..=10).collect() };
    let head_before = Digest([1; 32]);
    let first_seq = TokenSeq::ZERO;
    let statement = Statement {
        chain_id: ChainId(31337),
        marketplace: Address([2; 20]),
        job_id: JobId(0),
        host: Address([3; 20]),
        model_digest: Digest([4; 32]),
        first_seq,
        count: TokenCount(checkpoint.ids.len() as u64),
        head_before,
        head_after: checkpoint_head(&head_before, first_seq, &checkpoint.turns, &checkpoint.ids),
    };
    ProofRequest { claim: "self-test".into(), statement, checkpoints: vec![checkpoint], sealed: false, deadline: None }
}
