//! The database: opening, writing in order, and what everyone reads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use finality_gadget::persistence::{Anchor, PruneOrder, Pruned, SignState};
use finality_gadget::{Certificate, CheckpointNumber, Evidence, EvidenceId, Finalized, LinkDigest, SignedVote, ValidatorId, Vote};
use milepost_store::key::{Key, Reader};
use milepost_store::{Batch, Corruption, Durability, Order, Range, Storage, Table, entries};

use crate::Error;
use crate::recovery::Recovery;
use crate::tables::{self, BOUNDARIES, CERTIFICATES, EVIDENCE, OWN_VOTES, ROW, SIGNATURES, STATE, SignatureRow, StateKey};
use crate::witness::{Testimonial, Witness};

/// Version of tables and rows together.
pub(crate) const SCHEMA: u32 = 1;

/// A flush also moves the log into table files when this much has been written since it last did: about 130 checkpoints of 21 votes. It
/// keeps what a restart must replay, and the logs on the disk, short; and it is seldom enough that fewer than one in a hundred flushes of
/// a checkpoint's votes each waits for it.
const SETTLE_BYTES: usize = 384 << 10;

/// Figures about a checkpoint database, under the names that operators of the known validator use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckpointDbStats {
    /// Number of the last final checkpoint.
    pub last_finalized: Option<CheckpointNumber>,
    /// Stored certificates, boundary certificates included.
    pub total_certificates: u64,
    /// Stored votes of all validators.
    pub total_signatures: u64,
    /// Lowest target with a certificate.
    pub oldest_checkpoint: Option<CheckpointNumber>,
    /// Highest target with a certificate.
    pub newest_checkpoint: Option<CheckpointNumber>,
    /// Own votes.
    pub own_votes: u64,
    /// Pieces of evidence.
    pub evidence: u64,
    /// Bytes on the disk, logs included; 0 for an engine in memory.
    pub disk_bytes: u64,
}

/// What must be known to write in order.
#[derive(Debug)]
pub(crate) struct Writer {
    /// Which database this is; the witness names it too.
    pub(crate) identity: [u8; 16],
    /// Synced writes so far.
    pub(crate) synced: u64,
    /// Changes of the sign-state so far.
    pub(crate) serial: u64,
    pub(crate) state: Option<SignState>,
    pub(crate) newest_vote: Option<Vote>,
    /// Why nothing is written any more.
    pub(crate) stopped: Option<String>,
    /// Whether anything was written since the last sync.
    pub(crate) dirty: bool,
    /// Bytes written since the log was last moved into table files.
    pub(crate) unsettled: usize,
}

/// The checkpoint database.
///
/// # Guarantees
///
/// Writes are atomic, and as durable as each method says. After a failed write every later one is refused. A damaged row is an error,
/// never an absent row. Watermarks never decrease; boundary certificates and evidence are never pruned.
///
/// # Does not
///
/// Verify signatures: what is read back is what was written, and whoever uses it verifies it. Share its directory with another process.
pub struct CheckpointDB {
    pub(crate) store: Arc<dyn Storage>,
    pub(crate) witness: Box<dyn Witness>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) recovery: Option<Recovery>,
    /// Where to leave word for the next start that something unreadable was met.
    pub(crate) suspicion: Option<PathBuf>,
    /// Held for as long as the database is open, and the last to go. `None` for an engine without a file system.
    pub(crate) lock: Option<std::fs::File>,
}

impl std::fmt::Debug for CheckpointDB {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointDB").field("writer", &self.writer).field("recovery", &self.recovery).finish_non_exhaustive()
    }
}

impl CheckpointDB {
    /// What had to be recovered when this database was opened, if anything.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// Keeps one vote. **Buffered.**
    pub fn store_signature(&self, signed: &SignedVote) -> Result<(), Error> {
        self.store_signatures_batch(std::slice::from_ref(signed))
    }

    /// Keeps votes, in one atomic batch. The vote itself is stored once, however many cast it. **Buffered.**
    pub fn store_signatures_batch(&self, votes: &[SignedVote]) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let (mut batch, mut links) = (Batch::new(), BTreeSet::new());
        for signed in votes {
            let (target, digest) = (signed.vote.link.target.number, signed.vote.digest());
            let link = tables::link_key(target, &digest);
            if links.insert(digest) && self.store.get(SIGNATURES, &link)?.is_none() {
                batch.put_sealed(SIGNATURES, link, ROW, &signed.vote.encode());
            }
            batch.put_sealed(SIGNATURES, tables::signature_key(target, &digest, signed.validator), ROW, &signed.signature.0);
        }
        self.write_buffered(&mut writer, batch)
    }

    /// All votes for a target.
    pub fn get_signatures(&self, target: CheckpointNumber) -> Result<Vec<SignedVote>, Error> {
        self.signatures(Range::prefix(tables::target_key(target)), usize::MAX)
    }

    /// Votes with targets above `after`, ascending, at most `limit`.
    pub fn signatures_after(&self, after: CheckpointNumber, limit: usize) -> Result<Vec<SignedVote>, Error> {
        self.signatures(tables::above(after), limit)
    }

    fn signatures(&self, range: Range, limit: usize) -> Result<Vec<SignedVote>, Error> {
        let mut found = Vec::new();
        let mut link: Option<(Vec<u8>, Vote)> = None;
        for entry in entries(&*self.store, SIGNATURES, range, Order::Ascending).in_pages_of(limit) {
            if found.len() >= limit {
                break;
            }
            let (key, value) = entry?;
            match tables::signature_row(&key, &value)? {
                SignatureRow::Link(vote) => link = Some((key, vote)),
                SignatureRow::Signature { validator, signature } => {
                    // Votes are buffered. Where a power loss took the vote and left a signature of it, that signature is lost too.
                    let of_link = |(place, _): &&(Vec<u8>, Vote)| key.starts_with(place);
                    if let Some((_, vote)) = link.as_ref().filter(of_link) {
                        found.push(SignedVote { vote: vote.clone(), validator, signature });
                    }
                }
            }
        }
        Ok(found)
    }

    /// Keeps a certificate and, in the same batch, what is final by it. **Synced.** Where something higher is recorded as final, that stays.
    pub fn store_certificate(&self, certificate: &Certificate, finalized: Option<&Finalized>) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let target = certificate.vote.link.target.number;
        let (table, other) = if certificate.is_boundary() { (BOUNDARIES, CERTIFICATES) } else { (CERTIFICATES, BOUNDARIES) };
        let mut batch = Batch::new();
        batch.put_sealed(table, tables::target_key(target), ROW, &certificate.encode());
        batch.delete(other, tables::target_key(target));
        if let Some(finalized) = finalized
            && self.get_last_finalized()?.is_none_or(|known| known.checkpoint.number <= finalized.checkpoint.number)
        {
            self.put_finalized(&mut batch, finalized)?;
        }
        self.write_synced(&mut writer, batch)
    }

    /// The certificate of a target.
    pub fn get_certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error> {
        let key = tables::target_key(target);
        for table in [CERTIFICATES, BOUNDARIES] {
            if let Some(payload) = tables::read(&*self.store, table, &key)? {
                return Ok(Some(tables::certificate(table, &key, &payload)?));
            }
        }
        Ok(None)
    }

    /// Certificates in a range of targets, in order, at most `limit`: those of both tables.
    pub(crate) fn certificates(&self, range: &Range, order: Order, limit: usize) -> Result<Vec<Certificate>, Error> {
        let mut found = Vec::new();
        for table in [CERTIFICATES, BOUNDARIES] {
            for entry in entries(&*self.store, table, range.clone(), order).in_pages_of(limit).take(limit) {
                let (key, value) = entry?;
                found.push(tables::certificate(table, &key, tables::open(table, &key, &value)?)?);
            }
        }
        found.sort_by_key(|certificate| certificate.vote.link.target.number);
        if order == Order::Descending {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Targets of all stored certificates, ascending.
    pub fn get_all_certificate_checkpoints(&self) -> Result<Vec<CheckpointNumber>, Error> {
        let mut targets = Vec::new();
        for table in [CERTIFICATES, BOUNDARIES] {
            for entry in entries(&*self.store, table, Range::all(), Order::Ascending) {
                targets.push(tables::number(table, &entry?.0)?);
            }
        }
        targets.sort_unstable();
        Ok(targets)
    }

    /// What was last stored as final.
    pub fn get_last_finalized(&self) -> Result<Option<Finalized>, Error> {
        let payload = StateKey::Finalized.read(&*self.store)?;
        payload.map(|payload| Finalized::decode(&payload).map_err(|_| content(StateKey::Finalized, "last finalized"))).transpose()
    }

    /// Records what is final. **Synced.** Finality never moves backwards: that is refused, and nothing is written.
    pub fn set_last_finalized(&self, finalized: &Finalized) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let mut batch = Batch::new();
        self.put_finalized(&mut batch, finalized)?;
        self.write_synced(&mut writer, batch)
    }

    fn put_finalized(&self, batch: &mut Batch, finalized: &Finalized) -> Result<(), Error> {
        if let Some(known) = self.get_last_finalized()? {
            let (current, refused) = (known.checkpoint, finalized.checkpoint);
            if refused.number < current.number || (refused.number == current.number && refused != current) {
                return Err(Error::Finality { current: current.number, refused: refused.number });
            }
        }
        StateKey::Finalized.put(batch, &finalized.encode());
        Ok(())
    }

    /// Keeps evidence, for ever. **Synced.**
    pub fn store_evidence(&self, evidence: &Evidence) -> Result<(), Error> {
        let mut writer = self.writer()?;
        let id = evidence.id();
        let mut batch = Batch::new();
        batch.put_sealed(EVIDENCE, tables::evidence_key(&id), ROW, &evidence.encode());
        batch.put_sealed(EVIDENCE, tables::accused_key(evidence.validator, &id), ROW, &[]);
        self.write_synced(&mut writer, batch)?;
        // Rare, and nobody may send it again: it does not wait in the log, whose end is the first thing a failing disk loses.
        self.settle_all(&mut writer)?;
        tracing::warn!(event = "evidence_stored", validator = %evidence.validator, %id, "stored evidence");
        Ok(())
    }

    /// Evidence with ids above `after`, ascending, at most `limit`.
    pub fn evidence_after(&self, after: Option<EvidenceId>, limit: usize) -> Result<Vec<Evidence>, Error> {
        let found = entries(&*self.store, EVIDENCE, tables::evidence_range(after.as_ref()), Order::Ascending);
        found
            .in_pages_of(limit)
            .take(limit)
            .map(|entry| entry.and_then(|(key, value)| tables::evidence(&key, tables::open(EVIDENCE, &key, &value)?)).map_err(Error::from))
            .collect()
    }

    /// Whether there is evidence against a validator.
    pub fn has_evidence_against(&self, validator: ValidatorId) -> Result<bool, Error> {
        Ok(!self.store.scan(EVIDENCE, &tables::accused_range(validator), Order::Ascending, 1)?.entries.is_empty())
    }

    /// Removes what the order names. **Buffered**, atomic. Whatever the order says, these stay: certificates and votes at or above the last
    /// final checkpoint, boundary certificates, own votes at or above the target watermark, evidence, watermarks; and the anchor only
    /// rises. A range delete: the cost does not grow with the height.
    pub fn prune_old_checkpoints(&self, order: &PruneOrder) -> Result<Pruned, Error> {
        let mut writer = self.writer()?;
        let last_final = self.get_last_finalized()?.map_or(CheckpointNumber(0), |finalized| finalized.checkpoint.number);
        let pruned = self.pruned_below()?;
        let below = order.below.min(last_final).max(pruned);
        let max_target = writer.state.as_ref().map_or(CheckpointNumber(0), |state| state.max_target);
        let own_below = order.own_votes_below.min(last_final).min(max_target);
        let moved = below.above(pruned);
        let mut batch = Batch::new();
        if moved > 0 {
            batch.delete_range(SIGNATURES, tables::below(below));
            batch.delete_range(CERTIFICATES, tables::below(below));
            StateKey::Pruned.put(&mut batch, &tables::target_key(below));
        }
        if self.lowest(OWN_VOTES)?.is_some_and(|lowest| lowest < own_below) {
            batch.delete_range(OWN_VOTES, tables::below(own_below));
        }
        if let Some(anchor) = order.anchor
            && self.anchor()?.is_none_or(|known| known.number < anchor.number)
        {
            StateKey::Anchor.put(&mut batch, &Key::new().u64(anchor.number.0).bytes(&anchor.link.0).build());
        }
        if !batch.is_empty() {
            self.write_buffered(&mut writer, batch)?;
        }
        Ok(Pruned { below, checkpoints: moved })
    }

    /// Checkpoints below this number are pruned.
    pub fn pruned_below(&self) -> Result<CheckpointNumber, Error> {
        match StateKey::Pruned.read(&*self.store)? {
            Some(payload) => Ok(tables::number(STATE, &payload)?),
            None => Ok(CheckpointNumber(0)),
        }
    }

    /// The anchor of the last pruning.
    pub fn anchor(&self) -> Result<Option<Anchor>, Error> {
        let Some(payload) = StateKey::Anchor.read(&*self.store)? else { return Ok(None) };
        let mut reader = Reader::new(&payload);
        let anchor = reader.u64().zip(reader.array::<32>()).filter(|_| reader.end().is_some());
        let anchor = anchor.ok_or_else(|| content(StateKey::Anchor, "anchor"))?;
        Ok(Some(Anchor { number: CheckpointNumber(anchor.0), link: LinkDigest(anchor.1) }))
    }

    /// Makes everything written so far durable. **Synced.** Free when there is nothing to sync; now and then it also settles.
    pub fn flush(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        if writer.unsettled >= SETTLE_BYTES {
            self.settle_all(&mut writer)?;
        } else if writer.dirty {
            let mut batch = Batch::new();
            StateKey::Flush.put(&mut batch, &[]);
            self.write(&mut writer, batch, Durability::Synced)?;
            writer.dirty = false;
        }
        Ok(())
    }

    /// Moves what lies in the log into the tables' own files, so that the next start has no log to read. Housekeeping, worth its while before
    /// a planned end of the process.
    pub fn settle(&self) -> Result<(), Error> {
        let mut writer = self.writer()?;
        self.settle_all(&mut writer)
    }

    fn settle_all(&self, writer: &mut Writer) -> Result<(), Error> {
        self.store.flush().map_err(|error| self.stop(writer, error.into()))?;
        (writer.dirty, writer.unsettled) = (false, 0);
        Ok(())
    }

    /// Writes a consistent copy to `path`, which must not exist. To be used as a source of votes, certificates and evidence, never as a
    /// sign-state: what was signed after the copy is not in it, which is why the copy comes without a witness and refuses to sign.
    pub fn backup(&self, path: &Path) -> Result<(), Error> {
        Ok(self.store.backup(path)?)
    }

    /// Counts. Reads every key.
    pub fn get_stats(&self) -> Result<CheckpointDbStats, Error> {
        let count = |table: Table, range: Range, counts: fn(&[u8]) -> bool| -> Result<u64, Error> {
            let mut count = 0;
            for entry in entries(&*self.store, table, range, Order::Ascending) {
                count += u64::from(counts(&entry?.0));
            }
            Ok(count)
        };
        let targets = self.get_all_certificate_checkpoints()?;
        // A link's key is shorter than a signature's.
        let is_signature = |key: &[u8]| key.len() > tables::LINK_KEY_BYTES;
        Ok(CheckpointDbStats {
            last_finalized: self.get_last_finalized()?.map(|finalized| finalized.checkpoint.number),
            total_certificates: targets.len() as u64,
            total_signatures: count(SIGNATURES, Range::all(), is_signature)?,
            oldest_checkpoint: targets.first().copied(),
            newest_checkpoint: targets.last().copied(),
            own_votes: count(OWN_VOTES, Range::all(), |_| true)?,
            evidence: count(EVIDENCE, tables::evidence_range(None), |_| true)?,
            disk_bytes: self.store.stats()?.disk_bytes,
        })
    }

    /// Bytes on the disk, logs included; 0 for an engine in memory.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        Ok(self.store.stats()?.disk_bytes)
    }

    fn lowest(&self, table: Table) -> Result<Option<CheckpointNumber>, Error> {
        let page = self.store.scan(table, &Range::all(), Order::Ascending, 1)?;
        Ok(page.entries.first().map(|(key, _)| tables::number(table, key)).transpose()?)
    }

    /// Exclusion over all writes. What it protects changes only after a write succeeded, so that a panic of the gadget's decision leaves
    /// nothing half done behind the lock.
    pub(crate) fn writer(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &writer.stopped {
            Some(reason) => Err(Error::Stopped { reason: reason.clone() }),
            None => Ok(writer),
        }
    }

    fn write_buffered(&self, writer: &mut Writer, batch: Batch) -> Result<(), Error> {
        self.write(writer, batch, Durability::Buffered)?;
        writer.dirty = true;
        Ok(())
    }

    /// A synced write, told to the witness afterwards: from then on its absence would show.
    pub(crate) fn write_synced(&self, writer: &mut Writer, batch: Batch) -> Result<(), Error> {
        self.write_counted(writer, batch)?;
        self.testify(writer)
    }

    /// A synced write that carries its own count.
    pub(crate) fn write_counted(&self, writer: &mut Writer, mut batch: Batch) -> Result<(), Error> {
        let synced = writer.synced + 1;
        StateKey::Synced.put(&mut batch, &synced.to_be_bytes());
        self.write(writer, batch, Durability::Synced)?;
        (writer.synced, writer.dirty) = (synced, false);
        Ok(())
    }

    fn write(&self, writer: &mut Writer, batch: Batch, durability: Durability) -> Result<(), Error> {
        writer.unsettled += batch.bytes();
        self.store.write(batch, durability).map_err(|error| match error {
            refused @ (milepost_store::Error::TooLarge { .. } | milepost_store::Error::UnknownTable { .. }) => refused.into(),
            failed => self.stop(writer, failed.into()),
        })
    }

    /// Tells the witness where the writer stands.
    pub(crate) fn testify(&self, writer: &mut Writer) -> Result<(), Error> {
        let testimonial = writer.testimonial();
        self.witness.write(&testimonial).map_err(|error| self.stop(writer, error))
    }

    /// Hands on what was read; where it could not be read, leaves word that the next start must look at every row, and rebuild.
    pub(crate) fn noting<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), Some(path)) = (&read, &self.suspicion)
            && error.is_damage()
        {
            let noted = std::fs::write(path, error.to_string());
            tracing::error!(event = "damage_met", %error, ?noted, "an unreadable record was met; the next start sets the database aside and rebuilds it");
        }
        read
    }

    #[allow(clippy::unused_self, reason = "stopping is the database's act")]
    pub(crate) fn stop(&self, writer: &mut Writer, error: Error) -> Error {
        writer.stopped = Some(error.to_string());
        tracing::error!(event = "storage_stopped", %error, "a write failed; nothing more is written or signed until a restart");
        error
    }
}

impl Writer {
    pub(crate) fn testimonial(&self) -> Testimonial {
        Testimonial {
            identity: self.identity,
            synced: self.synced,
            serial: self.serial,
            state: self.state.clone(),
            vote: self.newest_vote.clone(),
        }
    }
}

pub(crate) fn content(key: StateKey, expected: &'static str) -> Error {
    tables::corrupt(STATE, &key.key(), Corruption::Content { expected, version: ROW }).into()
}
