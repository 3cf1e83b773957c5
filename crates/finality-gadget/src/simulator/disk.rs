//! Disks that lose power, fill up and fail to sync.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rng::Rng;
use crate::certificate::{Certificate, Finalized};
use crate::evidence::Evidence;
use crate::persistence::{Anchor, CheckpointStorage, Decide, Error, PruneOrder, Pruned, SignRows, SignState, Stats};
use crate::scheme::PublicKey;
use crate::types::{CheckpointNumber, EvidenceId, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// What goes wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// The write fails and leaves nothing: the disk is full.
    Full,
    /// The data may or may not get to the disk; the sync reports an error.
    SyncFails,
    /// The data gets to the disk, and then the machine dies before the caller hears of it.
    DiesAfterWrite,
}

/// One machine's disk. It outlives the process; whatever was opened from it does not.
pub trait Disk {
    /// Opens what the disk holds, as a new process would.
    fn open(&mut self) -> Arc<dyn CheckpointStorage>;

    /// The process and the machine die. Of what was written and not synced a prefix or a random subset survives, as `rng` decides.
    fn power_loss(&mut self, rng: &mut Rng);

    /// The write that comes after `writes` others will meet this fault.
    fn inject(&mut self, writes: u64, fault: DiskFault);

    /// Takes back a fault that no write has met yet.
    fn mend(&mut self);

    /// A copy of what is durable now: a backup to be restored later.
    fn backup(&self) -> Box<dyn Disk>;

    /// Whether this own vote would survive a power loss at this moment, whatever else does not.
    fn survives(&self, vote: &Vote) -> bool;

    /// What would be read as final after a power loss at this moment.
    fn durable_finalized(&self) -> Option<Finalized>;
}

/// Where disks come from: tests of a real database bring their own.
pub trait Disks {
    /// An empty disk.
    fn empty(&mut self) -> Box<dyn Disk>;
}

/// Disks in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemoryDisks;

impl Disks for MemoryDisks {
    fn empty(&mut self) -> Box<dyn Disk> {
        Box::new(MemoryDisk::default())
    }
}

#[derive(Debug, Clone, Default)]
struct Rows {
    votes: BTreeMap<(CheckpointNumber, ValidatorId, Vec<u8>), SignedVote>,
    certificates: BTreeMap<CheckpointNumber, Certificate>,
    boundary: BTreeMap<CheckpointNumber, Certificate>,
    finalized: Option<Finalized>,
    evidence: BTreeMap<EvidenceId, Evidence>,
    sign_state: Option<SignState>,
    own_votes: BTreeMap<CheckpointNumber, Vote>,
    anchor: Option<Anchor>,
    pruned: CheckpointNumber,
    key: Option<PublicKey>,
}

/// One atomic write.
#[derive(Debug, Clone)]
enum Write {
    Votes(Vec<SignedVote>),
    Certificate(Box<Certificate>, Option<Finalized>),
    Evidence(Box<Evidence>),
    Sign(SignState, Option<Vote>),
    Key(PublicKey),
    Prune(PruneOrder),
}

impl Rows {
    fn apply(&mut self, write: &Write) {
        match write {
            Write::Votes(votes) => {
                for signed in votes {
                    let key = (signed.vote.link.target.number, signed.validator, signed.encode());
                    self.votes.insert(key, signed.clone());
                }
            }
            Write::Certificate(certificate, finalized) => {
                let target = certificate.vote.link.target.number;
                if certificate.is_boundary() {
                    self.boundary.insert(target, (**certificate).clone());
                } else {
                    self.certificates.insert(target, (**certificate).clone());
                }
                self.finalized = finalized.or(self.finalized);
            }
            Write::Evidence(evidence) => {
                self.evidence.insert(evidence.id(), (**evidence).clone());
            }
            Write::Sign(state, vote) => {
                self.sign_state = Some(state.clone());
                if let Some(vote) = vote {
                    self.own_votes.insert(vote.link.target.number, vote.clone());
                }
            }
            Write::Key(key) => self.key = Some(key.clone()),
            Write::Prune(order) => {
                self.votes = self.votes.split_off(&(order.below, ValidatorId(0), Vec::new()));
                self.certificates = self.certificates.split_off(&order.below);
                self.own_votes = self.own_votes.split_off(&order.own_votes_below);
                self.anchor = order.anchor.or(self.anchor);
                self.pruned = self.pruned.max(order.below);
            }
        }
    }

    fn certificates(&self) -> BTreeMap<CheckpointNumber, &Certificate> {
        self.certificates.iter().chain(&self.boundary).map(|(target, certificate)| (*target, certificate)).collect()
    }
}

#[derive(Debug, Default)]
struct Platter {
    /// What survives anything.
    durable: Rows,
    /// What a running process reads: durable and unsynced.
    current: Rows,
    unsynced: Vec<Write>,
    /// Each process that opens the disk gets a number; older ones are dead.
    opened: u64,
    stopped: bool,
    fault: Option<(u64, DiskFault)>,
}

impl Platter {
    fn failed(operation: &'static str, what: &str) -> Error {
        Error::Failed { operation, source: what.into() }
    }

    fn write(&mut self, process: u64, operation: &'static str, write: Write, synced: bool) -> Result<(), Error> {
        if self.stopped || process != self.opened {
            return Err(Error::Stopped);
        }
        let fault = match &mut self.fault {
            Some((0, fault)) => Some(*fault),
            Some((writes, _)) => {
                *writes -= 1;
                None
            }
            None => None,
        };
        if fault == Some(DiskFault::Full) {
            (self.stopped, self.fault) = (true, None);
            return Err(Self::failed(operation, "no space left on device"));
        }
        self.current.apply(&write);
        self.unsynced.push(write);
        if fault == Some(DiskFault::SyncFails) {
            (self.stopped, self.fault) = (true, None);
            return Err(Self::failed(operation, "input/output error"));
        }
        if synced {
            self.sync();
        }
        if fault == Some(DiskFault::DiesAfterWrite) {
            (self.stopped, self.fault) = (true, None);
            return Err(Self::failed(operation, "the machine died"));
        }
        Ok(())
    }

    fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
        }
    }
}

/// A disk in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    platter: Arc<Mutex<Platter>>,
}

impl MemoryDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        // A panic elsewhere is a failed test already; what the disk holds is whole at every moment.
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&mut self) -> Arc<dyn CheckpointStorage> {
        let mut platter = self.platter();
        platter.opened += 1;
        platter.stopped = false;
        Arc::new(Opened { disk: self.clone(), process: platter.opened })
    }

    fn power_loss(&mut self, rng: &mut Rng) {
        let mut platter = self.platter();
        platter.opened += 1;
        platter.stopped = false;
        platter.fault = None;
        let unsynced = std::mem::take(&mut platter.unsynced);
        let prefix = rng.index(unsynced.len() + 1);
        let subset = rng.chance(50);
        for (at, write) in unsynced.iter().enumerate() {
            if if subset { rng.chance(50) } else { at < prefix } {
                platter.durable.apply(write);
            }
        }
        platter.current = platter.durable.clone();
    }

    fn inject(&mut self, writes: u64, fault: DiskFault) {
        self.platter().fault = Some((writes, fault));
    }

    fn mend(&mut self) {
        self.platter().fault = None;
    }

    fn backup(&self) -> Box<dyn Disk> {
        let durable = self.platter().durable.clone();
        let platter = Platter { current: durable.clone(), durable, ..Platter::default() };
        Box::new(Self { platter: Arc::new(Mutex::new(platter)) })
    }

    fn survives(&self, vote: &Vote) -> bool {
        self.platter().durable.own_votes.get(&vote.link.target.number) == Some(vote)
    }

    fn durable_finalized(&self) -> Option<Finalized> {
        self.platter().durable.finalized
    }
}

struct Opened {
    disk: MemoryDisk,
    process: u64,
}

impl Opened {
    fn write(&self, operation: &'static str, write: Write, synced: bool) -> Result<(), Error> {
        self.disk.platter().write(self.process, operation, write, synced)
    }

    fn read<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, Error> {
        let platter = self.disk.platter();
        if platter.stopped || self.process != platter.opened { Err(Error::Stopped) } else { Ok(read(&platter.current)) }
    }
}

impl CheckpointStorage for Opened {
    fn store_signatures(&self, votes: &[SignedVote]) -> Result<(), Error> {
        self.write("storing votes", Write::Votes(votes.to_vec()), false)
    }

    fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, Error> {
        let from = (after.next(), ValidatorId(0), Vec::new());
        self.read(|rows| rows.votes.range(from..).take(limit).map(|(_, signed)| signed.clone()).collect())
    }

    fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), Error> {
        self.write("storing a certificate", Write::Certificate(Box::new(certificate.clone()), finalized.copied()), true)
    }

    fn certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error> {
        self.read(|rows| rows.certificates.get(&target).or(rows.boundary.get(&target)).cloned())
    }

    fn certificates_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Certificate>, Error> {
        self.read(|rows| rows.certificates().range(after.next()..).take(limit).map(|(_, certificate)| (*certificate).clone()).collect())
    }

    fn certificates_before(&self, before: Option<CheckpointNumber>, limit: usize) -> Result<Vec<Certificate>, Error> {
        let before = before.unwrap_or(CheckpointNumber(u64::MAX));
        self.read(|rows| rows.certificates().range(..before).rev().take(limit).map(|(_, certificate)| (*certificate).clone()).collect())
    }

    fn last_finalized(&self) -> Result<Option<Finalized>, Error> {
        self.read(|rows| rows.finalized)
    }

    fn store_evidence(&self, evidence: &Evidence) -> Result<(), Error> {
        self.write("storing evidence", Write::Evidence(Box::new(evidence.clone())), true)
    }

    fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, Error> {
        let above = |id: &EvidenceId| after.is_none_or(|after| *id > after);
        self.read(|rows| rows.evidence.iter().filter(|(id, _)| above(id)).take(limit).map(|(_, evidence)| evidence.clone()).collect())
    }

    fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, Error> {
        self.read(|rows| rows.evidence.values().any(|evidence| evidence.validator == validator))
    }

    fn bind_key(&self, key: &PublicKey) -> Result<(), Error> {
        match self.read(|rows| rows.key.clone())? {
            Some(bound) if bound == *key => Ok(()),
            Some(_) => Err(Error::AnotherKey),
            None => self.write("binding a key", Write::Key(key.clone()), true),
        }
    }

    fn sign_state(&self) -> Result<Option<SignState>, Error> {
        self.read(|rows| rows.sign_state.clone())
    }

    fn own_votes_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<Vote>, Error> {
        self.read(|rows| rows.own_votes.range(after.next()..).take(limit).map(|(_, vote)| vote.clone()).collect())
    }

    fn update_sign_state(&self, target: CheckpointNumber, decide: Decide<'_>) -> Result<(), Error> {
        let mut platter = self.disk.platter();
        if platter.stopped || self.process != platter.opened {
            return Err(Error::Stopped);
        }
        let rows = SignRows { state: platter.current.sign_state.clone(), at_target: platter.current.own_votes.get(&target).cloned() };
        match decide(rows) {
            Some(update) => platter.write(self.process, "recording an own vote", Write::Sign(update.state, update.vote), true),
            None => Ok(()),
        }
    }

    fn flush(&self) -> Result<(), Error> {
        let mut platter = self.disk.platter();
        if platter.stopped || self.process != platter.opened {
            return Err(Error::Stopped);
        }
        platter.sync();
        Ok(())
    }

    fn prune(&self, order: &PruneOrder) -> Result<Pruned, Error> {
        let before = self.read(|rows| rows.pruned)?;
        self.write("pruning", Write::Prune(*order), false)?;
        Ok(Pruned { below: order.below, checkpoints: order.below.above(before) })
    }

    fn anchor(&self) -> Result<Option<Anchor>, Error> {
        self.read(|rows| rows.anchor)
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.read(|rows| Stats {
            certificates: rows.certificates().len() as u64,
            signatures: rows.votes.len() as u64,
            own_votes: rows.own_votes.len() as u64,
            evidence: rows.evidence.len() as u64,
            oldest: rows.certificates().keys().next().copied(),
            newest: rows.certificates().keys().next_back().copied(),
        })
    }
}
