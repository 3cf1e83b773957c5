//! The gadget's storage trait over the database.

use std::sync::Arc;

use finality_gadget::persistence::{Anchor, Decide, Error, PruneOrder, Pruned, SignState, Stats};
use finality_gadget::{
    Certificate, CheckpointNumber, CheckpointStorage, Evidence, EvidenceId, Finalized, PublicKey, SignedVote, ValidatorId, Vote,
};
use milepost_store::{Order, Range};

use crate::db::CheckpointDB;
use crate::tables;

/// Hands a [`CheckpointDB`] to the gadget. Clones share it.
#[derive(Debug, Clone)]
pub struct CheckpointStorageAdapter {
    db: Arc<CheckpointDB>,
}

impl CheckpointStorageAdapter {
    /// Over an opened database.
    pub fn new(db: Arc<CheckpointDB>) -> Self {
        Self { db }
    }

    /// The database.
    pub fn db(&self) -> &Arc<CheckpointDB> {
        &self.db
    }
}

impl CheckpointStorage for CheckpointStorageAdapter {
    fn store_signatures(&self, votes: &[SignedVote]) -> Result<(), Error> {
        Ok(self.db.store_signatures_batch(votes)?)
    }

    fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, Error> {
        Ok(self.db.noting(self.db.signatures_after(after, limit))?)
    }

    fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), Error> {
        Ok(self.db.store_certificate(certificate, finalized)?)
    }

    fn certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error> {
        Ok(self.db.noting(self.db.get_certificate(target))?)
    }

    fn certificates_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Certificate>, Error> {
        Ok(self.db.noting(self.db.certificates(&tables::above(after), Order::Ascending, limit))?)
    }

    fn certificates_before(&self, before: Option<CheckpointNumber>, limit: usize) -> Result<Vec<Certificate>, Error> {
        let range = before.map_or_else(Range::all, tables::below);
        Ok(self.db.noting(self.db.certificates(&range, Order::Descending, limit))?)
    }

    fn last_finalized(&self) -> Result<Option<Finalized>, Error> {
        Ok(self.db.noting(self.db.get_last_finalized())?)
    }

    fn store_evidence(&self, evidence: &Evidence) -> Result<(), Error> {
        Ok(self.db.store_evidence(evidence)?)
    }

    fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, Error> {
        Ok(self.db.noting(self.db.evidence_after(after, limit))?)
    }

    fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, Error> {
        Ok(self.db.noting(self.db.has_evidence_against(validator))?)
    }

    fn bind_key(&self, key: &PublicKey) -> Result<(), Error> {
        Ok(self.db.noting(self.db.bind_key(key))?)
    }

    fn sign_state(&self) -> Result<Option<SignState>, Error> {
        Ok(self.db.noting(self.db.sign_state())?)
    }

    fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, Error> {
        Ok(self.db.noting(self.db.own_votes_after(after, limit))?)
    }

    fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), Error> {
        Ok(self.db.update_sign_state(target, decide)?)
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(self.db.flush()?)
    }

    fn prune(&self, order: &PruneOrder) -> Result<Pruned, Error> {
        Ok(self.db.prune_old_checkpoints(order)?)
    }

    fn anchor(&self) -> Result<Option<Anchor>, Error> {
        Ok(self.db.noting(self.db.anchor())?)
    }

    fn stats(&self) -> Result<Stats, Error> {
        let stats = self.db.noting(self.db.get_stats())?;
        Ok(Stats {
            certificates: stats.total_certificates,
            signatures: stats.total_signatures,
            own_votes: stats.own_votes,
            evidence: stats.evidence,
            oldest: stats.oldest_checkpoint,
            newest: stats.newest_checkpoint,
        })
    }
}
