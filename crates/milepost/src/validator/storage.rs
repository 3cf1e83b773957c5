//! The checkpoint database as the gadget sees it, with a look at the clock around each write.

use std::sync::Arc;
use std::time::Instant;

use checkpoint_db::CheckpointStorageAdapter;
use finality_gadget::persistence::{Anchor, Decide, Error, PruneOrder, Pruned, SignState, Stats};
use finality_gadget::{Certificate, CheckpointNumber, CheckpointStorage, Evidence, EvidenceId, Finalized, SignedVote, ValidatorId, Vote};

use super::meters;

/// Counts and times what is written. Decides nothing and changes nothing.
pub(super) struct Measured {
    inner: CheckpointStorageAdapter,
}

impl Measured {
    pub(super) fn new(db: Arc<checkpoint_db::CheckpointDB>) -> Self {
        Self { inner: CheckpointStorageAdapter::new(db) }
    }
}

impl CheckpointStorage for Measured {
    fn store_signatures(&self, votes: &[SignedVote]) -> Result<(), Error> {
        self.inner.store_signatures(votes)?;
        meters::votes(votes.len());
        Ok(())
    }

    fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, Error> {
        self.inner.signatures_after(after, limit)
    }

    fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), Error> {
        let began = Instant::now();
        self.inner.store_certificate(certificate, finalized)?;
        meters::certificate(began.elapsed());
        Ok(())
    }

    fn certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error> {
        self.inner.certificate(target)
    }

    fn certificates_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Certificate>, Error> {
        self.inner.certificates_after(after, limit)
    }

    fn certificates_before(&self, before: Option<CheckpointNumber>, limit: usize) -> Result<Vec<Certificate>, Error> {
        self.inner.certificates_before(before, limit)
    }

    fn last_finalized(&self) -> Result<Option<Finalized>, Error> {
        self.inner.last_finalized()
    }

    fn store_evidence(&self, evidence: &Evidence) -> Result<(), Error> {
        self.inner.store_evidence(evidence)?;
        meters::evidence();
        Ok(())
    }

    fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, Error> {
        self.inner.evidence_after(after, limit)
    }

    fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, Error> {
        self.inner.has_evidence_against(validator)
    }

    fn sign_state(&self) -> Result<Option<SignState>, Error> {
        self.inner.sign_state()
    }

    fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, Error> {
        self.inner.own_votes_after(after, limit)
    }

    fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), Error> {
        let (began, mut link) = (Instant::now(), None);
        self.inner.update_sign_state(target, &mut |rows| {
            let update = decide(rows);
            link = update.as_ref().and_then(|update| update.vote.as_ref()).map(|vote| vote.link);
            update
        })?;
        if let Some(link) = link {
            let took = began.elapsed();
            meters::own_vote(took);
            let (source, target) = (link.source.number, link.target.number);
            tracing::info!(event = "own_vote_recorded", %source, %target, micros = took.as_micros(), "own vote recorded; it may be signed");
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.inner.flush()
    }

    fn prune(&self, order: &PruneOrder) -> Result<Pruned, Error> {
        self.inner.prune(order)
    }

    fn anchor(&self) -> Result<Option<Anchor>, Error> {
        self.inner.anchor()
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.inner.stats()
    }
}
