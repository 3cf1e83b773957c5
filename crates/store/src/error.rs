//! What can go wrong in a store.

use std::fmt;
use std::path::PathBuf;

use crate::Table;

/// An error of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An earlier write failed. Nothing is written any more: only a restart, which reads what the disk holds, can go on.
    #[error("the store stopped after a failed write ({reason}); restart to recover from what the disk holds")]
    Stopped {
        /// The failure that stopped it.
        reason: String,
    },
    /// The disk is full. The store has stopped.
    #[error("no space left on the device while {doing}: free some and restart ({reason})")]
    NoSpace {
        /// What the store was doing.
        doing: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// The engine or the disk failed. After a failed write the store has stopped.
    #[error("I/O failed while {doing}: {reason}")]
    Io {
        /// What the store was doing.
        doing: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// A record is not what was written under its key.
    #[error("damaged record in table `{table}` under key {}: {reason}", Hex(key))]
    Corrupt {
        /// The record's table.
        table: Table,
        /// The record's key.
        key: Vec<u8>,
        /// What is wrong with it.
        reason: Corruption,
    },
    /// The engine's own files are damaged.
    #[error("the database at {} is damaged: {reason}; it was left as it is", path.display())]
    Damaged {
        /// Where the database lies.
        path: PathBuf,
        /// The engine's own words.
        reason: String,
    },
    /// The database was made with a column family for each table, and was to be opened with one for all. It was left as it is.
    #[error("the database at {} has a column family for each of its tables, as earlier versions laid it out", path.display())]
    Layout {
        /// Where the database lies.
        path: PathBuf,
    },
    /// Another process holds the database.
    #[error("another milepost has this database open: {}", path.display())]
    Locked {
        /// Where the database lies.
        path: PathBuf,
    },
    /// The caller named a table that the store was not opened with.
    #[error("the store was opened without the table `{table}`")]
    UnknownTable {
        /// The table asked for.
        table: Table,
    },
    /// A key, a value or a batch is larger than the store takes. Nothing was written and the store goes on.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The most the store takes.
        limit: usize,
    },
    /// A dump could not be read.
    #[error("not a usable dump: {reason}")]
    Dump {
        /// What is wrong with it.
        reason: String,
    },
    /// The simulated power is off: this process is dead, and only [`crate::Survivor`] goes on. Memory engine only.
    #[error("the simulated power is off")]
    PowerLost,
}

/// What is wrong with a damaged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// Too short to hold a version and a checksum.
    #[error("only {bytes} bytes, too short for a frame")]
    Truncated {
        /// Its length.
        bytes: usize,
    },
    /// The checksum over table, key, version and payload does not match.
    #[error("checksum is {found:08x}, its content has {computed:08x}")]
    Checksum {
        /// What the record says.
        found: u32,
        /// What its content amounts to.
        computed: u32,
    },
    /// The frame is whole, but its content cannot be read as what belongs there.
    #[error("whole, but its content is not a {expected} of a version this program knows (version {version})")]
    Content {
        /// What was expected.
        expected: &'static str,
        /// The version the frame names.
        version: u8,
    },
    /// The key is not one that belongs in the table.
    #[error("its key is not one of this table's")]
    Key,
}

/// Shows bytes as hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
