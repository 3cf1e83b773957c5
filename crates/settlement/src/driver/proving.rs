//! Asking the prover, and keeping what it proved.

use std::time::{Duration, Instant, SystemTime};

use milepost_ledger::{AccountId, AccountRecord, Claim, ClaimId, Digest, Event, ProofMeta};
use milepost_ledger_db::Blob;
use milepost_prover::{CheckpointInput, Proof, ProofRequest};
use tokio::task::JoinError;

use super::Driver;
use crate::Error;
use crate::backoff::pause;
use crate::status::Trouble;

/// Claims at the prover's door at once. It proves one at a time, in the order of asking: one more waits there so that it is never
/// idle. All others wait here, where the nearest deadline goes first.
const MAX_AT_PROVER: usize = 2;
/// First pause after a failed proof; doubles up to half a minute. Never per token.
const PROOF_PAUSE: Duration = Duration::from_secs(2);

impl Driver {
    /// Has the claim proven, unless that is under way, has just failed, or the prover is not fit yet.
    pub(super) async fn begin_proof(&mut self, claim: &Claim, record: &AccountRecord) -> Result<(), Error> {
        let job = claim.id.job;
        if self.in_proof.contains_key(&claim.id) {
            return Ok(());
        }
        let paused = self.proof_failures.get(&claim.id).is_some_and(|(_, until)| *until > Instant::now());
        let unfit = self.prover_ready.as_ref().is_some_and(|status| !status.borrow().is_ready());
        if paused || unfit || self.in_proof.len() >= MAX_AT_PROVER {
            self.dirty.insert(job);
            return Ok(());
        }
        let request = self.request(claim, record)?;
        self.books.record("proving", vec![Event::Proving { claim: claim.id }]).await?;
        tracing::info!(event = "proof_started", job = %job, claim = %claim.id, tokens = %claim.statement.count, "proving the claim");
        let (id, prover) = (claim.id, self.prover.clone());
        let task = self.proving.spawn(async move { (id, prover.prove(request).await) });
        self.in_proof.insert(claim.id, task);
        Ok(())
    }

    fn request(&self, claim: &Claim, record: &AccountRecord) -> Result<ProofRequest, Error> {
        let db = &self.books.db;
        let account = AccountId::Job(claim.id.job);
        let checkpoints = db.checkpoints(account, claim.first_checkpoint, claim.checkpoints as usize).map_err(crate::books::error)?;
        let checkpoints = checkpoints
            .into_iter()
            .map(|checkpoint| {
                let ids = db.tokens(account, checkpoint.first..checkpoint.first + checkpoint.count).map_err(crate::books::error)?;
                Ok(CheckpointInput { turns: checkpoint.turns_digest, ids })
            })
            .collect::<Result<_, Error>>()?;
        let deadline = record.deadline().map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at.0));
        // No session that demands seals is opened (docs/decisions/0011).
        Ok(ProofRequest { claim: claim.id.to_string(), statement: claim.statement, checkpoints, sealed: false, deadline })
    }

    /// A prover's answer: the proof and its receipt become durable together.
    pub(super) async fn proved(
        &mut self,
        answer: Result<(ClaimId, Result<Proof, milepost_prover::Error>), JoinError>,
    ) -> Result<(), Error> {
        let (id, outcome) = match answer {
            Ok(answer) => answer,
            // A cancelled proof was taken off the list by who cancelled it; a panic is a fault of the prover's code.
            Err(cancelled) if cancelled.is_cancelled() => return Ok(()),
            Err(panic) => return Err(Error::TaskEnded(format!("a proof: {panic}"))),
        };
        self.in_proof.remove(&id);
        self.dirty.insert(id.job);
        let proof = match outcome {
            Ok(proof) => proof,
            Err(error) => {
                self.not_proved(id, &error);
                return Ok(());
            }
        };
        let meta = ProofMeta {
            kind: proof.kind,
            receipt: sha256(&proof.receipt),
            receipt_bytes: proof.receipt.len() as u64,
            seconds: proof.seconds,
        };
        tracing::info!(event = "proof_made", job = %id.job, claim = %id, kind = %proof.kind, seconds = proof.seconds, bytes = proof.receipt.len(), "the claim is proven and its receipt verified");
        let blob = Blob::Receipt { claim: id, bytes: proof.receipt };
        match self.books.record_with("proved", vec![Event::Proved { claim: id, proof: meta }], vec![blob]).await {
            // The claim was given up while it was being proven.
            Err(Error::LedgerRefused(refused)) => {
                tracing::info!(event = "proof_unneeded", claim = %id, %refused, "the proof came too late");
            }
            other => other?,
        }
        self.proof_failures.remove(&id);
        Ok(())
    }

    fn not_proved(&mut self, id: ClaimId, error: &milepost_prover::Error) {
        let failures = self.proof_failures.get(&id).map_or(0, |(failures, _)| *failures) + 1;
        let wait = pause(PROOF_PAUSE.min(self.config.poll() * 4), failures);
        self.proof_failures.insert(id, (failures, Instant::now() + wait));
        tracing::error!(event = "proof_failed", job = %id.job, claim = %id, code = error.code(), %error, advice = error.advice(), failures, retry_in_ms = wait.as_millis(), "the claim could not be proven; it is kept");
        let reason = format!("[{}] {error}", error.code());
        let trouble = Trouble::from(&Error::Prover { claim: id.to_string(), reason });
        self.status.send_modify(|status| status.trouble = Some(trouble));
    }

    /// Stops a proof that nobody needs any more.
    pub(super) fn cancel_proof(&mut self, id: ClaimId) {
        if let Some(task) = self.in_proof.remove(&id) {
            task.abort();
        }
        self.proof_failures.remove(&id);
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(bytes).into())
}
