//! What was recovered from a damaged database, and how a new one is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use finality_gadget::persistence::{SignState, Standing};
use finality_gadget::{CheckpointNumber, Finalized};
use milepost_store::key::Reader;
use milepost_store::{Batch, Durability, Entry, Order, Range, Storage, Table};

use crate::Error;
use crate::check::{birth, doubtful, read_schema};
use crate::db::{CheckpointDB, Writer};
use crate::sign::read_sign_state;
use crate::tables::{self, BOUNDARIES, CERTIFICATES, EVIDENCE, LINK_KEY_BYTES, OWN_VOTES, SIGNATURES, STATE, StateKey, TABLES};
use crate::witness::{Reading, Testimonial};

/// Bytes written in one batch while rebuilding.
const BATCH_BYTES: usize = 1 << 20;

/// Rows of the state that a rebuilt database has from the damaged one. Each begins with a number that only rises, or never changes.
const TAKEN_OVER: [StateKey; 4] = [StateKey::Finalized, StateKey::Anchor, StateKey::Pruned, StateKey::Key];

/// What happened to the sign-state of a damaged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignRecovery {
    /// The witness was whole and at least as new as anything in the database: its record stands, and signing goes on where it may.
    Kept,
    /// Nothing was ever signed with this database.
    NeverSigned,
    /// It cannot be known what was signed. The node observes until an operator declares that the old process is stopped.
    Doubtful {
        /// Why.
        reason: String,
    },
}

/// What was found damaged when a database was opened, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What was damaged, and how it showed.
    pub reason: String,
    /// Where the damaged database lies now, whole and untouched; `None` where there was no directory any more.
    pub aside: Option<PathBuf>,
    /// Certificates taken over. What is missing comes from peers again.
    pub certificates: u64,
    /// Rows of votes taken over.
    pub signatures: u64,
    /// Own votes taken over.
    pub own_votes: u64,
    /// Rows of evidence taken over.
    pub evidence: u64,
    /// Rows that could be found and not believed. How many were lost with unreadable blocks is not known.
    pub unreadable: u64,
    /// The sign-state.
    pub sign_state: SignRecovery,
}

/// What could be read of a damaged database.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    identity: Option<[u8; 16]>,
    sign: Option<(u64, SignState)>,
    highest_own: Option<finality_gadget::Vote>,
    max_own_source: CheckpointNumber,
    unreadable: u64,
    counts: [u64; 4],
}

impl Salvage {
    /// Every row that can be read and believed, from both ends of each table towards what is damaged.
    pub(crate) fn read(store: &dyn Storage) -> Self {
        let mut salvage = Self::default();
        for table in TABLES {
            let damaged_at = salvage.take(store, table, Range::all(), Order::Ascending);
            if let Some(reached) = damaged_at {
                salvage.unreadable += 1;
                salvage.take(store, table, Range::from(reached), Order::Descending);
            }
        }
        salvage.identity = StateKey::Schema.read(store).ok().flatten().and_then(|payload| read_schema(&payload).ok());
        salvage.sign = read_sign_state(store).ok().flatten();
        salvage
    }

    /// With what another reading of the same database has beyond this one.
    pub(crate) fn with(mut self, other: Self) -> Self {
        for ((table, key), value) in other.rows {
            self.keep(table, (key, value));
        }
        self.identity = self.identity.or(other.identity);
        let later = |(serial, _): &(u64, SignState)| self.sign.as_ref().is_none_or(|(known, _)| known < serial);
        if let Some(sign) = other.sign.filter(later) {
            self.sign = Some(sign);
        }
        self.unreadable = self.unreadable.max(other.unreadable);
        self
    }

    /// How many rows of this reading `store` lacks, or has of an earlier time. What was pruned is not missing.
    pub(crate) fn missing_from(&self, db: &CheckpointDB) -> Result<usize, Error> {
        let pruned = db.pruned_below()?;
        let own_votes_from = db.own_votes(&Range::all(), 1)?.first().map(|vote| vote.link.target.number);
        let mut missing = 0;
        for ((table, key), value) in &self.rows {
            let target = Reader::new(key).u64().map(CheckpointNumber);
            let held = db.store.get(*table, key)?;
            missing += usize::from(match (*table, &held) {
                (STATE, _) if !TAKEN_OVER.iter().any(|state| state.key() == key[..]) => false,
                (STATE, Some(held)) => tables::open(STATE, key, value)? > tables::open(STATE, key, held)?,
                (_, Some(_)) => false,
                (SIGNATURES | CERTIFICATES, None) if target < Some(pruned) => false,
                (OWN_VOTES, None) if target < own_votes_from => false,
                // It became the other kind.
                (CERTIFICATES | BOUNDARIES, None) => target.map(|target| db.get_certificate(target)).transpose()?.flatten().is_none(),
                (_, None) => true,
            });
        }
        let serial = |sign: Option<(u64, SignState)>| sign.map(|(serial, _)| serial);
        Ok(missing + usize::from(serial(self.sign.clone()) > serial(read_sign_state(&*db.store)?)))
    }

    fn payload(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        let value = self.rows.get(&(table, key.to_vec()))?;
        tables::open(table, key, value).ok()
    }

    /// Whether the certificate is there that shows the recorded finality. Without it, what certificates show is found again.
    fn finality_is_shown(&self) -> bool {
        let recorded = self.payload(STATE, &StateKey::Finalized.key()).and_then(|payload| Finalized::decode(payload).ok());
        let shows = |by| [CERTIFICATES, BOUNDARIES].iter().any(|table| self.rows.contains_key(&(*table, tables::target_key(by))));
        recorded.is_some_and(|finalized| shows(finalized.by))
    }

    /// Answers the key behind the last row that could be read, where the engine itself failed.
    fn take(&mut self, store: &dyn Storage, table: Table, range: Range, order: Order) -> Option<Vec<u8>> {
        let (mut rest, mut after) = (Some(range), Vec::new());
        while let Some(range) = rest.take() {
            // One row at a time: a page that ends in a damaged block would take the whole rows before it along.
            let Ok(page) = store.scan(table, &range, order, 1) else { return Some(after) };
            rest = page.next;
            for entry in page.entries {
                after = [entry.0.as_slice(), &[0]].concat();
                self.keep(table, entry);
            }
        }
        None
    }

    /// Keeps a row that holds. Where another reading had it already they mean the same by it, but for the state: of that the later is kept.
    fn keep(&mut self, table: Table, (key, value): Entry) {
        if tables::verify(table, &key, &value).is_err() {
            self.unreadable += 1;
            return;
        }
        if let Some(held) = self.payload(table, &key) {
            if table == STATE && tables::open(table, &key, &value).is_ok_and(|payload| payload > held) {
                self.rows.insert((table, key), value);
            }
            return;
        }
        if table == OWN_VOTES
            && let Ok(vote) = tables::open(table, &key, &value).and_then(|payload| tables::own_vote(&key, payload))
        {
            self.max_own_source = self.max_own_source.max(vote.link.source.number);
            let higher = self.highest_own.as_ref().is_none_or(|known| known.link.target.number < vote.link.target.number);
            self.highest_own = if higher { Some(vote) } else { self.highest_own.take() };
        }
        let count = match table {
            STATE => None,
            SIGNATURES => Some(1),
            OWN_VOTES => Some(2),
            EVIDENCE => Some(3),
            _ => Some(0),
        };
        if let Some(count) = count {
            self.counts[count] += 1;
        }
        self.rows.insert((table, key), value);
    }

    /// The sign-state of the rebuilt database: the witness's, if it can be believed, with every mark at least as high as anything seen.
    fn judge(&self, reading: &Reading, reason: &str) -> (Writer, SignRecovery, Option<String>) {
        let seen = self.seen();
        let newer = |testimonial: &Testimonial| {
            let marks = |state: Option<&SignState>| state.map_or_else(Default::default, |state| (state.max_source, state.max_target));
            let (known, found) = (marks(testimonial.state.as_ref()), marks(seen.as_ref()));
            self.sign.as_ref().is_some_and(|(serial, _)| *serial > testimonial.serial) || found.0 > known.0 || found.1 > known.1
        };
        match reading {
            Reading::Found(testimonial) if self.identity.is_none_or(|identity| identity == testimonial.identity) && !newer(testimonial) => {
                let verdict = if testimonial.state.is_some() { SignRecovery::Kept } else { SignRecovery::NeverSigned };
                (writer_of(testimonial), verdict, None)
            }
            _ => {
                let witness = match reading {
                    Reading::Found(_) => "its witness does not fit it",
                    Reading::Absent => "its witness is missing",
                    Reading::Unreadable { .. } => "its witness is damaged too",
                };
                let reason = format!("the checkpoint database was damaged and {witness} ({reason})");
                let state = doubtful(seen.as_ref(), &reason);
                let doubt = state.is_none().then(|| reason.clone());
                let serial = self.sign.as_ref().map_or(1, |(serial, _)| serial + 1);
                let serial = if state.is_some() { serial } else { 0 };
                let identity = self.identity.unwrap_or_else(rand::random);
                let newest_vote = self.highest_own.clone();
                let writer = Writer { identity, synced: 1, serial, state, newest_vote, stopped: None, dirty: false, unsettled: 0 };
                (writer, SignRecovery::Doubtful { reason }, doubt)
            }
        }
    }

    /// The highest marks that anything readable shows.
    fn seen(&self) -> Option<SignState> {
        let recorded = self.sign.as_ref().map(|(_, state)| state.clone());
        let Some(vote) = &self.highest_own else { return recorded };
        let mut state = recorded.unwrap_or(SignState {
            domain: vote.domain,
            max_source: CheckpointNumber(0),
            max_target: CheckpointNumber(0),
            standing: Standing::Clear,
        });
        state.max_target = state.max_target.max(vote.link.target.number);
        state.max_source = state.max_source.max(self.max_own_source);
        Some(state)
    }

    /// Fills an empty engine with what was salvaged. Answers the report, and what the witness must say from now on.
    pub(crate) fn rebuild(self, store: &dyn Storage, reading: &Reading, reason: &str) -> Result<(Recovery, Testimonial), Error> {
        let (writer, sign_state, doubt) = self.judge(reading, reason);
        let shown = self.finality_is_shown();
        // A signature whose vote was lost says nothing.
        let links: BTreeSet<Vec<u8>> = self
            .rows
            .keys()
            .filter(|(table, key)| *table == SIGNATURES && key.len() == LINK_KEY_BYTES)
            .map(|(_, key)| key.clone())
            .collect();
        let mut batch = Batch::new();
        for ((table, key), value) in self.rows {
            if table == SIGNATURES && !links.contains(&key[..LINK_KEY_BYTES]) {
                continue;
            }
            if table == STATE && *key == StateKey::Finalized.key() && !shown {
                continue;
            }
            let kept = table != STATE || TAKEN_OVER.iter().any(|state| state.key() == *key);
            if kept {
                batch.put(table, key, value);
            }
            if batch.bytes() >= BATCH_BYTES {
                store.write(std::mem::take(&mut batch), Durability::Buffered)?;
            }
        }
        batch.append(birth(&writer));
        if let Some(doubt) = doubt {
            StateKey::Doubt.put(&mut batch, doubt.as_bytes());
        }
        store.write(batch, Durability::Synced)?;
        store.flush()?;
        let [certificates, signatures, own_votes, evidence] = self.counts;
        let (reason, unreadable) = (reason.to_owned(), self.unreadable);
        let recovery = Recovery { reason, aside: None, certificates, signatures, own_votes, evidence, unreadable, sign_state };
        Ok((recovery, writer.testimonial()))
    }
}

fn writer_of(testimonial: &Testimonial) -> Writer {
    Writer {
        identity: testimonial.identity,
        synced: testimonial.synced,
        serial: testimonial.serial,
        state: testimonial.state.clone(),
        newest_vote: testimonial.vote.clone(),
        stopped: None,
        dirty: false,
        unsettled: 0,
    }
}
