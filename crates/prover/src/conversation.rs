//! From a request to a verified receipt: what a worker on this machine and one on another have in common.
//!
//! ```text
//! prove ─▶ (heartbeat)* executed (heartbeat | proven)* [sealing (heartbeat)*] done | failed
//! ```
//!
//! Signs of life are not progress. Until the guest ran, and from each segment to the next, a worker has a time that is many times
//! what it takes ([`Patience`]); whoever only beats is given up. Progress cannot be feigned for ever either: segments are announced
//! once, before the first is proven, no more and no larger ones than the input can fill, and counted upwards to that many.

use std::io;
use std::time::{Duration, SystemTime};

use milepost_statement::{Digest, ProofKind};
use tokio::time::Instant;

use crate::memory::{self, MAX_SEGMENT_PO2, most_segments};
use crate::protocol::{FromWorker, SEALING, ToWorker};
use crate::{Error, Proof, ProofRequest, VerifyError, verify};

/// The smallest segment, as a power of two; each further step doubles the time it takes.
const SMALLEST_PO2: u32 = 14;

/// How long a worker is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the greeting. Generous: the machine may be busy, and the binary cold.
    pub greeting: Duration,
    /// For any word of a worker that should give a sign of life every second.
    pub silence: Duration,
    /// For one segment of the smallest size, 2^14 cycles; doubles with each step. Such a segment takes 32 seconds of processor
    /// time: fifteen times that is a worker of the lowest priority on one core of a busy machine.
    pub segment: Duration,
    /// For sealing what was proven: recursion over every segment, and a program in a container, of which nobody tells how far it is.
    pub sealing: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            segment: 15 * Duration::from_secs(32),
            sealing: Duration::from_hours(2),
        }
    }
}

impl Patience {
    /// For one segment of the largest of these sizes.
    fn largest(&self, po2: &[u32]) -> Duration {
        let largest = po2.iter().copied().max().unwrap_or(MAX_SEGMENT_PO2).clamp(SMALLEST_PO2, 24);
        self.segment * (1 << (largest - SMALLEST_PO2))
    }
}

/// A worker that greeted as it should, wherever it runs.
pub(crate) trait Peer {
    /// Asks for something.
    async fn say(&mut self, message: &ToWorker, body: &[u8]) -> Result<(), Error>;
    /// The next message, or why there is none.
    async fn hear(&mut self) -> Result<(FromWorker, Vec<u8>), Error>;
    /// It said something that no prover would.
    fn no_prover(&self, why: String) -> Error;
}

/// Who is told of a worker's steps.
pub(crate) trait Audience {
    /// Hears a step; an error ends the proof.
    async fn tell(&mut self, step: &FromWorker) -> io::Result<()>;
}

/// Nobody: who waits for the proof alone.
pub(crate) struct Nobody;

impl Audience for Nobody {
    async fn tell(&mut self, _: &FromWorker) -> io::Result<()> {
        Ok(())
    }
}

/// What is asked of a worker, and how.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) nice: u8,
    pub(crate) memory_mb: u64,
    pub(crate) sealed: bool,
    pub(crate) journal: String,
    /// The claim's name, for the log.
    pub(crate) claim: String,
    pub(crate) input: Vec<u8>,
}

/// A proof as a worker made it: not verified yet.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) cycles: u64,
    pub(crate) po2: Vec<u32>,
    /// Wall-clock seconds that the worker says it took.
    pub(crate) seconds: f64,
    pub(crate) receipt: Vec<u8>,
}

impl Ask {
    /// For a claim. `urgent`: nearer to its deadline than this, it runs at normal priority.
    pub(crate) fn new(request: &ProofRequest, id: u64, nice: u8, urgent: Duration, memory_mb: u64) -> Self {
        let urgent = request.deadline.is_some_and(|deadline| deadline < SystemTime::now() + urgent);
        Self {
            id,
            nice: if urgent { 0 } else { nice },
            memory_mb,
            sealed: request.sealed,
            journal: hex::encode(request.statement.journal()),
            claim: request.claim.clone(),
            input: request.guest_input(),
        }
    }

    /// Asks, and follows the worker to its answer. The audience hears of every step before the answer.
    pub(crate) async fn follow(&self, peer: &mut impl Peer, patience: &Patience, audience: &mut impl Audience) -> Result<Made, Error> {
        let Self { id, nice, memory_mb, sealed, .. } = *self;
        let prove = ToWorker::Prove { id, nice, memory_mb, sealed, journal: self.journal.clone() };
        peer.say(&prove, &self.input).await?;
        let mut progress = Progress { announced: None, proven: 0, sealing: false, advanced: Instant::now() };
        loop {
            let heard = match peer.hear().await {
                Err(Error::Crashed { stderr, .. }) if memory::ran_out(&stderr) => return Err(self.out_of_memory(&progress)),
                heard => heard?,
            };
            match heard {
                (FromWorker::Done { id, cycles, po2, seconds }, receipt) if id == self.id => {
                    return Ok(Made { cycles, po2, seconds, receipt });
                }
                (FromWorker::Failed { message, .. }, _) if memory::ran_out(&message) => return Err(self.out_of_memory(&progress)),
                (FromWorker::Failed { code, message, .. }, _) if code == SEALING => return Err(Error::Sealing { why: message }),
                (FromWorker::Failed { code, message, .. }, _) => return Err(Error::Refused { code, message }),
                (FromWorker::OutOfMemory { ceiling_mb, enough_mb, .. }, _) => return Err(Error::OutOfMemory { ceiling_mb, enough_mb }),
                (step, _) => {
                    progress.check(self, &step, patience).map_err(|fault| match fault {
                        Fault::Stalled(silent) => Error::Hung {
                            silent,
                            what: if progress.sealing { "the sealing did not end" } else { "no segment was finished" },
                        },
                        Fault::NoProver(why) => peer.no_prover(why),
                    })?;
                    audience.tell(&step).await?;
                }
            }
        }
    }

    fn out_of_memory(&self, progress: &Progress) -> Error {
        if progress.sealing {
            return Error::Sealing { why: "it ran out of memory; how much is enough was never measured".into() };
        }
        Error::OutOfMemory { ceiling_mb: self.memory_mb, enough_mb: memory::enough_mb(progress.announced.as_deref().unwrap_or_default()) }
    }
}

/// How far a worker has come.
#[derive(Debug)]
struct Progress {
    /// Each segment's size, once the guest ran.
    announced: Option<Vec<u32>>,
    proven: usize,
    sealing: bool,
    advanced: Instant,
}

/// Why a step is none.
enum Fault {
    Stalled(Duration),
    NoProver(String),
}

impl Progress {
    fn check(&mut self, ask: &Ask, step: &FromWorker, patience: &Patience) -> Result<(), Fault> {
        match step {
            FromWorker::Heartbeat {} => {
                let waited = self.advanced.elapsed();
                let most = if self.sealing { patience.sealing } else { patience.largest(self.announced.as_deref().unwrap_or_default()) };
                if waited > most {
                    return Err(Fault::Stalled(waited));
                }
                return Ok(());
            }
            FromWorker::Executed { id, cycles, po2 } if *id == ask.id && self.announced.is_none() && is_possible(po2, ask.input.len()) => {
                tracing::debug!(claim = ask.claim, cycles, ?po2, "the guest ran");
                self.announced = Some(po2.clone());
            }
            FromWorker::Proven { id, segments }
                if *id == ask.id && *segments > self.proven && self.announced.as_ref().is_some_and(|po2| *segments <= po2.len()) =>
            {
                tracing::debug!(claim = ask.claim, segments, "segments proven");
                self.proven = *segments;
            }
            FromWorker::Sealing { id }
                if *id == ask.id && ask.sealed && !self.sealing && self.announced.as_ref().is_some_and(|po2| self.proven == po2.len()) =>
            {
                tracing::debug!(claim = ask.claim, "sealing what is proven");
                self.sealing = true;
            }
            other => return Err(Fault::NoProver(format!("it said {other:?} out of turn"))),
        }
        self.advanced = Instant::now();
        Ok(())
    }
}

/// Whether a run on an input of so many bytes can have these segments: each announced one is waited for.
fn is_possible(po2: &[u32], input: usize) -> bool {
    po2.len() <= most_segments(input) && po2.iter().all(|size| *size <= MAX_SEGMENT_PO2)
}

/// Believes nothing: verifies what was made, and makes it a proof.
pub(crate) async fn verified(request: ProofRequest, image_id: Digest, made: Made, started: Instant) -> Result<Proof, Error> {
    let (statement, expected) = (request.statement, if request.sealed { ProofKind::Groth16 } else { ProofKind::Composite });
    let Made { cycles, po2, receipt, seconds: worked } = made;
    let (receipt, verified) = tokio::task::spawn_blocking(move || {
        let verified = verify(&receipt, image_id, &statement);
        (receipt, verified)
    })
    .await
    .map_err(io::Error::other)?;
    let kind = verified?.kind;
    if kind != expected {
        return Err(VerifyError::Kind { expected, found: if kind == ProofKind::Groth16 { "Groth16" } else { "composite" } }.into());
    }
    let seconds = started.elapsed().as_secs_f64();
    let (tokens, bytes) = (statement.count.0, receipt.len());
    tracing::info!(event = "proof_made", claim = request.claim, tokens, seconds, worked, bytes, ?po2, "claim proven");
    Ok(Proof { kind, journal: statement.journal(), receipt, seconds, cycles: Some(cycles), po2 })
}
