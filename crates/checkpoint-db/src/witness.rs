//! The witness: a second record of the sign-state, beside the database.
//!
//! A database that lost its end looks like one that never had it: a log is replayed up to its first damaged record, and a copy from
//! yesterday is a perfectly good database. For votes and certificates that is harmless, peers have them. A sign-state that silently falls
//! back is how a validator contradicts itself. So each change of the sign-state is written and synced **to the witness first**, then to
//! the database, and only then may anything be signed; and the witness counts the database's synced writes, so that a missing one shows.
//!
//! ```text
//! file     two slots of 4096 bytes, written in turn: a torn write leaves the other slot whole
//! slot     version u8 · generation u64 · identity 16 · synced u64 · serial u64
//!          · sign-state length u32 · sign-state · vote length u32 · vote · crc32 u32 (big-endian throughout)
//! ```
//!
//! It lies beside the database's directory, not in it, so that a directory that is deleted or restored from an old copy is noticed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use finality_gadget::Vote;
use finality_gadget::persistence::SignState;
use milepost_store::key::{Key, Reader};
use milepost_store::{Batch, Durability, Storage, Table};

use crate::Error;

const VERSION: u8 = 1;
/// A sign-state has at most 566 bytes and a vote 282: one slot is one block of the disk.
const SLOT_BYTES: usize = 4096;
const SLOTS: usize = 2;

/// What the witness says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimonial {
    /// Which database it speaks of.
    pub identity: [u8; 16],
    /// Synced writes that the database must hold at least.
    pub synced: u64,
    /// Serial number of the sign-state: how often it was changed.
    pub serial: u64,
    /// The sign-state, if there ever was one.
    pub state: Option<SignState>,
    /// The own vote recorded last.
    pub vote: Option<Vote>,
}

/// What reading a witness gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// There is none.
    Absent,
    /// There is one, and nothing in it can be believed.
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The newest record that is whole.
    Found(Box<Testimonial>),
}

/// Where the witness is kept.
pub trait Witness: Send + Sync {
    /// Reads the newest whole record.
    fn read(&self) -> Result<Reading, Error>;

    /// Writes a record and syncs it. After an error nothing may be signed.
    fn write(&self, testimonial: &Testimonial) -> Result<(), Error>;
}

impl Testimonial {
    fn encode(&self, generation: u64) -> Vec<u8> {
        let state = self.state.as_ref().map(SignState::encode).unwrap_or_default();
        let vote = self.vote.as_ref().map(Vote::encode).unwrap_or_default();
        let key = Key::new().u8(VERSION).u64(generation).bytes(&self.identity).u64(self.synced).u64(self.serial);
        let mut bytes = key.u32(length(&state)).bytes(&state).u32(length(&vote)).bytes(&vote).build();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// Generation and content of a slot; none: it is not whole.
    fn decode(slot: &[u8]) -> Option<(u64, Self)> {
        let mut reader = Reader::new(slot);
        let version = reader.u8()?;
        let (generation, identity) = (reader.u64()?, reader.array::<16>()?);
        let (synced, serial) = (reader.u64()?, reader.u64()?);
        let (state, reader) = take(reader)?;
        let (vote, mut reader) = take(reader)?;
        let read = slot.len() - reader.rest().len();
        if version != VERSION || reader.u32()? != crc32fast::hash(&slot[..read]) {
            return None;
        }
        let state = if state.is_empty() { None } else { Some(SignState::decode(state).ok()?) };
        let vote = if vote.is_empty() { None } else { Some(Vote::decode(vote).ok()?) };
        Some((generation, Self { identity, synced, serial, state, vote }))
    }
}

fn length(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    assert!((length as usize) < SLOT_BYTES / 2, "a sign-state and a vote fit into one slot");
    length
}

fn take(mut reader: Reader<'_>) -> Option<(&[u8], Reader<'_>)> {
    let length = reader.u32()? as usize;
    let (bytes, rest) = reader.rest().split_at_checked(length)?;
    Some((bytes, Reader::new(rest)))
}

/// The newest whole slot among several.
fn newest<'a>(slots: impl Iterator<Item = &'a [u8]>) -> Option<(u64, Testimonial)> {
    slots.filter_map(Testimonial::decode).max_by_key(|(generation, _)| *generation)
}

/// The witness of a database on a file system: `<path>.witness`.
#[derive(Debug)]
pub struct FileWitness {
    path: PathBuf,
    /// Generation of the newest record, once known. Held while writing, so that slots alternate.
    generation: Mutex<Option<u64>>,
}

impl FileWitness {
    /// The witness of the database at `database`.
    pub fn beside(database: &Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(".witness");
        Self { path: name.into(), generation: Mutex::new(None) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn slots(&self) -> std::io::Result<Option<Vec<u8>>> {
        match File::open(&self.path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take((SLOT_BYTES * SLOTS) as u64 + 1).read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put(&self, generation: u64, record: &[u8]) -> std::io::Result<()> {
        let mut slot = vec![0; SLOT_BYTES];
        slot[..record.len()].copy_from_slice(record);
        let created = !self.path.try_exists()?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        if file.metadata()?.len() != (SLOT_BYTES * SLOTS) as u64 {
            file.set_len((SLOT_BYTES * SLOTS) as u64)?;
        }
        file.seek(SeekFrom::Start((generation % SLOTS as u64) * SLOT_BYTES as u64))?;
        file.write_all(&slot)?;
        file.sync_data()?;
        if created { sync_directory_of(&self.path) } else { Ok(()) }
    }
}

/// Makes a file's name durable.
pub(crate) fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

impl Witness for FileWitness {
    fn read(&self) -> Result<Reading, Error> {
        let failed = |error: std::io::Error| Error::Witness { doing: "reading it", reason: error.to_string() };
        let Some(bytes) = self.slots().map_err(failed)? else { return Ok(Reading::Absent) };
        Ok(match newest(bytes.chunks(SLOT_BYTES)) {
            Some((generation, testimonial)) => {
                *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = Some(generation);
                Reading::Found(Box::new(testimonial))
            }
            None => Reading::Unreadable { reason: format!("no whole record in {}", self.path.display()) },
        })
    }

    fn write(&self, testimonial: &Testimonial) -> Result<(), Error> {
        let mut known = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = known.map_or(0, |generation| generation + 1);
        // The generation is used up even if this fails: the slot may be torn, and the other one must not be touched.
        *known = Some(generation);
        self.put(generation, &testimonial.encode(generation))
            .map_err(|error| Error::Witness { doing: "writing it", reason: error.to_string() })
    }
}

/// A witness in a table of its own of some engine. For engines without a file system, such as the one that simulates power loss.
///
/// # Does not
///
/// Notice that the whole engine was lost or set back: it goes with it.
#[derive(Clone)]
pub struct TableWitness {
    store: Arc<dyn Storage>,
    generation: Arc<Mutex<u64>>,
}

/// The table of a [`TableWitness`].
pub const WITNESS_TABLE: Table = Table::new("witness");

impl TableWitness {
    /// In an engine that was opened with [`WITNESS_TABLE`].
    pub fn new(store: Arc<dyn Storage>) -> Self {
        Self { store, generation: Arc::new(Mutex::new(0)) }
    }
}

impl Witness for TableWitness {
    fn read(&self) -> Result<Reading, Error> {
        let slots: Vec<_> = (0..SLOTS).map(|slot| self.store.get(WITNESS_TABLE, &slot.to_be_bytes())).collect::<Result<_, _>>()?;
        if slots.iter().all(Option::is_none) {
            return Ok(Reading::Absent);
        }
        Ok(match newest(slots.iter().flatten().map(Vec::as_slice)) {
            Some((generation, testimonial)) => {
                *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = generation;
                Reading::Found(Box::new(testimonial))
            }
            None => Reading::Unreadable { reason: "no whole record in its table".to_owned() },
        })
    }

    fn write(&self, testimonial: &Testimonial) -> Result<(), Error> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        let mut batch = Batch::new();
        let slot = usize::try_from(*generation % SLOTS as u64).unwrap_or(0);
        batch.put(WITNESS_TABLE, slot.to_be_bytes(), testimonial.encode(*generation));
        Ok(self.store.write(batch, Durability::Synced)?)
    }
}
