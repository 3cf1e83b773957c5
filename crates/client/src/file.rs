//! The session on disk: a killed client loses nothing.
//!
//! Two files, both readable by their owner only. `NAME` holds the whole session as JSON and is replaced atomically (written beside,
//! synced, renamed, directory synced). `NAME.log` holds what happened since, one JSON entry a line, appended and synced before a
//! token is acknowledged: a long session does not rewrite itself for every chunk. Reading applies the log to the snapshot; entries
//! say where they belong, so that a crash between the new snapshot and the emptied log changes nothing. A torn last line is what a
//! crash in the middle of an append leaves: it was never acknowledged and is dropped. Anything else that cannot be read is
//! [`Error::Damaged`] and nothing is overwritten.

mod record;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use milepost_statement::{TokenId, TokenSeq};

pub use record::{ActiveTurn, Door, Entry, Funding, Record, VoucherState};

/// Log length after which a new snapshot is made, bytes: about ten thousand tokens in single chunks.
const MAX_LOG_BYTES: u64 = 256 * 1024;
/// Owner only: the file holds salt, session token, prompts and completions.
const MODE: u32 = 0o600;

/// Why the session file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A session is there already; opening another one would bury its deposit.
    #[error("there is a session in it already: load it, or choose another name")]
    Exists,
    /// Another client has it open.
    #[error("another client has this session open")]
    InUse,
    /// It cannot be read. It is left as it is.
    #[error("it is damaged at {place}: {reason}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Written by a later version.
    #[error("it has format {found}, this version knows {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An earlier write failed: what is on disk is not known.
    #[error("an earlier write failed, load the session anew: {0}")]
    Stopped(String),
}

/// An open session file. Holds a lock: one client at a time.
#[derive(Debug)]
pub struct SessionFile {
    path: PathBuf,
    log: File,
    log_len: u64,
    record: Record,
    failed: Option<String>,
}

impl SessionFile {
    /// Makes a new file; refuses to replace one.
    pub fn create(path: &Path, record: Record) -> Result<Self, Error> {
        let log = lock(path)?;
        if path.try_exists()? {
            return Err(Error::Exists);
        }
        // A log without a snapshot belongs to a session that was never opened.
        log.set_len(0)?;
        let mut file = Self { path: path.to_owned(), log, log_len: 0, record, failed: None };
        file.snapshot()?;
        Ok(file)
    }

    /// Reads a session back.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.try_exists()? {
            return Err(Error::Io(io::ErrorKind::NotFound.into()));
        }
        let mut log = lock(path)?;
        let text = std::fs::read_to_string(path)?;
        let mut record = Record::parse(&text)?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        let good = replay(&bytes, &mut record)?;
        let mut file = Self { path: path.to_owned(), log, log_len: good, record, failed: None };
        file.log.set_len(good)?;
        file.log.seek(SeekFrom::Start(good))?;
        Ok(file)
    }

    /// What is stored.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores tokens of which the first has position `at`, synced. `new` are those that were not there before.
    pub fn append_tokens(&mut self, at: TokenSeq, new: &[TokenId]) -> Result<(), Error> {
        if new.is_empty() {
            return Ok(());
        }
        self.append(Entry::Tokens { at, ids: new.to_vec() })
    }

    /// Stores an entry, synced, before anything that follows from it leaves the process.
    pub fn append(&mut self, entry: Entry) -> Result<(), Error> {
        self.usable()?;
        let mut line = serde_json::to_vec(&entry).map_err(io::Error::from)?;
        line.push(b'\n');
        let written = self.log.write_all(&line).and_then(|()| self.log.sync_data());
        self.written(written)?;
        self.log_len += line.len() as u64;
        self.record.apply(entry).map_err(|reason| Error::Damaged { place: "an entry".into(), reason })?;
        if self.log_len > MAX_LOG_BYTES { self.snapshot() } else { Ok(()) }
    }

    /// Changes the session in another way and stores it whole.
    pub fn update(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        self.usable()?;
        change(&mut self.record);
        self.snapshot()
    }

    fn snapshot(&mut self) -> Result<(), Error> {
        let written = self.write_snapshot();
        self.written(written)?;
        self.log_len = 0;
        Ok(())
    }

    fn write_snapshot(&mut self) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.record)?;
        write_private(&self.path, &bytes)?;
        self.log.set_len(0)?;
        self.log.seek(SeekFrom::Start(0))?;
        self.log.sync_data()
    }

    fn usable(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), |reason| Err(Error::Stopped(reason)))
    }

    /// After a failed write or sync nobody knows what is on disk: this handle writes no more.
    fn written(&mut self, result: io::Result<()>) -> Result<(), Error> {
        result.map_err(|error| {
            self.failed = Some(error.to_string());
            Error::Io(error)
        })
    }
}

/// Writes a file for its owner only, atomically: beside it, synced, renamed, directory synced.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = with_suffix(path, ".new");
    // A leftover of an earlier crash may have another mode: it is made anew.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn lock(path: &Path) -> Result<File, Error> {
    let log = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(with_suffix(path, ".log"))?;
    match log.try_lock() {
        Ok(()) => Ok(log),
        Err(TryLockError::WouldBlock) => Err(Error::InUse),
        Err(TryLockError::Error(error)) => Err(Error::Io(error)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Applies whole lines and answers where they end.
fn replay(bytes: &[u8], record: &mut Record) -> Result<u64, Error> {
    let mut at = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break; // torn by a crash: never synced, never acknowledged
        }
        let damaged = |reason: String| Error::Damaged { place: format!("log line {}", number + 1), reason };
        let entry: Entry = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
        record.apply(entry).map_err(damaged)?;
        at += line.len() as u64;
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
