//! One simulated machine: a disk that lasts, and a process that does not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::disk::Disk;
use super::hearing::{Hearing, counts, is_unrecorded};
use super::keys::Key;
use super::rng::Rng;
use crate::certificate::{Certificate, Finalized};
use crate::core::{Config, FinalityRule};
use crate::evidence::Evidence;
use crate::finality::{CheckpointFinality, Error};
use crate::network::{Message, NetworkBridge, Recipient};
use crate::persistence::{
    self, Anchor, CheckpointPersistenceConfig, CheckpointStorage, Decide, Declaration, Error as StorageError, PruneOrder, Pruned,
    SignState, Stats,
};
use crate::scheme::PublicKey;
use crate::set::Schedule;
use crate::types::{CheckpointNumber, EvidenceId, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// What a node does during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Honest,
    /// One of two processes with the same key.
    Twin,
}

/// Kept by a storage or found in it, reported to the monitor.
pub(super) enum Kept {
    Certificate(Box<Certificate>),
    /// Was on the disk before.
    Found(Box<Certificate>),
    Evidence(Box<Evidence>),
}

impl Kept {
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        match self {
            Self::Certificate(certificate) | Self::Found(certificate) => Some(certificate),
            Self::Evidence(_) => None,
        }
    }
}

pub(super) struct Node {
    pub(super) validator: ValidatorId,
    pub(super) role: Role,
    pub(super) disk: Box<dyn Disk>,
    pub(super) life: Option<Life>,
    /// How late it sees the chain, in ms.
    pub(super) delay: u64,
    pub(super) backup: Option<Box<dyn Disk>>,
    /// Its record was lost or is old: it may refuse to sign, and an operator will declare.
    pub(super) doubtful: bool,
    /// It runs on an old backup that nobody has declared. If no peer that answers remembers its newer votes it counts as faulty.
    pub(super) old: bool,
    /// It was shown a vote of its own that its record does not know, whatever it made of that: from then on it must not sign.
    pub(super) warned: bool,
    pub(super) hearing: Hearing,
    key: Arc<Key>,
}

/// One process.
pub(super) struct Life {
    pub(super) gadget: CheckpointFinality,
    pub(super) outbox: Receiver<(Recipient, Message)>,
    pub(super) kept: Receiver<Kept>,
    /// What the gadget reads and writes, to be read by others.
    pub(super) storage: Arc<dyn CheckpointStorage>,
}

impl Node {
    pub(super) fn new(validator: ValidatorId, role: Role, disk: Box<dyn Disk>, delay: u64, key: Arc<Key>) -> Self {
        let hearing = Hearing::default();
        Self { validator, role, disk, life: None, delay, backup: None, doubtful: false, old: false, warned: false, hearing, key }
    }

    /// Declares as an operator does, with the process down.
    pub(super) fn declare(&mut self, schedule: &Schedule, declaration: Declaration) {
        let storage = self.disk.open();
        let declared = persistence::declare(&*storage, schedule.domain_digest(), declaration);
        assert!(declared.is_ok(), "a declaration on a sound disk failed: {declared:?}");
        self.warned = false;
        self.old = false;
    }

    pub(super) fn start(&mut self, schedule: &Schedule, rule: FinalityRule, rng: &mut Rng) -> Result<(), Error> {
        let ((bridge, outbox), (keeper, kept)) = (channel(), channel());
        let config = Config {
            resend_every: 1_000,
            status_every: 2_000,
            patience: 4_000,
            settle: 3_000,
            stuck_after: 15_000,
            ..Config::new(rule, Some(self.validator))
        };
        // Little is retained, so that pruning happens in every run.
        let persistence =
            CheckpointPersistenceConfig { enabled: true, retention_checkpoints: 4, flush_interval_secs: 3, prune_interval_secs: 5 };
        let signer: Arc<Key> = Arc::clone(&self.key);
        let mut entropy = rng.fork();
        let mut gadget =
            CheckpointFinality::with_entropy(config, schedule.clone(), persistence, Arc::new(Bridge(bridge)), Some(signer), || {
                Box::new(entropy.fork())
            });
        let storage = self.disk.open();
        self.hearing.restart(&*storage);
        gadget.set_storage(Arc::new(Watched { storage: Arc::clone(&storage), keeper }));
        gadget.restore_from_storage(rng.bits())?;
        self.hearing.restarted(&gadget.health());
        self.life = Some(Life { gadget, outbox, kept, storage });
        Ok(())
    }

    /// Its process has taken over a certificate.
    pub(super) fn has_kept(&mut self, schedule: &Schedule, certificate: &Certificate) {
        self.hearing.kept(certificate);
        if let Some(life) = &self.life {
            self.warned |= counts(schedule, certificate, self.validator) && is_unrecorded(&*life.storage, &certificate.vote);
        }
    }

    /// Another disk takes the place of this one, which takes what it knew along.
    pub(super) fn replace_disk(&mut self, disk: Box<dyn Disk>) {
        (self.life, self.disk, self.warned, self.hearing) = (None, disk, false, Hearing::default());
    }

    /// Whether it signs on an old backup that nobody could tell from a current record.
    pub(super) fn is_unnoticed(&self) -> bool {
        self.old && !self.warned
    }

    /// The machine dies.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.life = None;
        self.disk.power_loss(rng);
    }
}

struct Bridge(Sender<(Recipient, Message)>);

impl NetworkBridge for Bridge {
    fn send(&self, to: Recipient, message: &Message) {
        // The receiver is gone only when the process is.
        let _ = self.0.send((to, message.clone()));
    }
}

/// Tells the monitor what is kept.
struct Watched {
    storage: Arc<dyn CheckpointStorage>,
    /// Its life holds the other end: what is handed on when that has ended is of no interest to anybody.
    keeper: Sender<Kept>,
}

impl Watched {
    /// A disk that fails, or dies, as a certificate is written may hold it afterwards: nobody hears of it before it is read.
    fn found(&self, certificates: Vec<Certificate>) -> Vec<Certificate> {
        for certificate in &certificates {
            let _ = self.keeper.send(Kept::Found(Box::new(certificate.clone())));
        }
        certificates
    }
}

impl CheckpointStorage for Watched {
    fn store_signatures(&self, votes: &[SignedVote]) -> Result<(), StorageError> {
        self.storage.store_signatures(votes)
    }

    fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, StorageError> {
        self.storage.signatures_after(after, limit)
    }

    fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), StorageError> {
        self.storage.store_certificate(certificate, finalized)?;
        let _ = self.keeper.send(Kept::Certificate(Box::new(certificate.clone())));
        Ok(())
    }

    fn certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, StorageError> {
        self.storage.certificate(target)
    }

    fn certificates_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Certificate>, StorageError> {
        Ok(self.found(self.storage.certificates_after(after, limit)?))
    }

    fn certificates_before(&self, before: Option<CheckpointNumber>, limit: usize) -> Result<Vec<Certificate>, StorageError> {
        Ok(self.found(self.storage.certificates_before(before, limit)?))
    }

    fn last_finalized(&self) -> Result<Option<Finalized>, StorageError> {
        self.storage.last_finalized()
    }

    fn store_evidence(&self, evidence: &Evidence) -> Result<(), StorageError> {
        self.storage.store_evidence(evidence)?;
        let _ = self.keeper.send(Kept::Evidence(Box::new(evidence.clone())));
        Ok(())
    }

    fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, StorageError> {
        self.storage.evidence_after(after, limit)
    }

    fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, StorageError> {
        self.storage.has_evidence_against(validator)
    }

    fn bind_key(&self, key: &PublicKey) -> Result<(), StorageError> {
        self.storage.bind_key(key)
    }

    fn sign_state(&self) -> Result<Option<SignState>, StorageError> {
        self.storage.sign_state()
    }

    fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, StorageError> {
        self.storage.own_votes_after(after, limit)
    }

    fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), StorageError> {
        self.storage.update_sign_state(target, decide)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.storage.flush()
    }

    fn prune(&self, order: &PruneOrder) -> Result<Pruned, StorageError> {
        self.storage.prune(order)
    }

    fn anchor(&self) -> Result<Option<Anchor>, StorageError> {
        self.storage.anchor()
    }

    fn stats(&self) -> Result<Stats, StorageError> {
        self.storage.stats()
    }
}
