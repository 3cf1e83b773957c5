//! The trait both engines implement.

use std::path::Path;

use crate::{Batch, Error, Order, Page, Range, Table};

/// How durable a batch must be before `write` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk: this batch and every one before it survive a power loss.
    Synced,
    /// With the kernel: survives the end of the process, may be lost with the power.
    Buffered,
}

/// Tables of bytes with atomic, explicitly durable batches.
///
/// Guarantees: see the crate's documentation. A write that answered an error may still be found after a restart (its bytes
/// may have reached the disk); it is then there as a whole.
/// Does not: check records ([`crate::frame`] does), give snapshots across calls, or resume after a failed write.
pub trait Storage: Send + Sync {
    /// The tables the store was opened with.
    fn tables(&self) -> &[Table];

    /// Writes a batch as a whole. An error other than [`Error::TooLarge`] and [`Error::UnknownTable`] stops the store.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error>;

    /// Reads one record.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Reads at most `limit` records of a range in order. `limit` is bounded by [`crate::MAX_PAGE_ENTRIES`], the page by
    /// [`crate::MAX_PAGE_BYTES`]; it holds at least one record if there is one.
    fn scan(&self, table: Table, range: &Range, order: Order, limit: usize) -> Result<Page, Error>;

    /// Moves what lies in logs and memory into the tables' own files, and syncs. Housekeeping: it adds nothing to the
    /// durability of a synced write. A failure stops the store like a failed write.
    fn flush(&self) -> Result<(), Error>;

    /// Writes a consistent copy of everything to `path`, which must not exist. It can be opened by the same engine.
    fn backup(&self, path: &Path) -> Result<(), Error>;

    /// Figures about the store.
    fn stats(&self) -> Result<Stats, Error>;
}

/// Figures about a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// One line for each table that the engine counts apart.
    pub tables: Vec<TableStats>,
    /// Bytes on the disk, logs included. 0 for the memory engine.
    pub disk_bytes: u64,
    /// Batches written since the store was opened.
    pub writes: u64,
    /// Of those, how many were synced.
    pub synced_writes: u64,
}

/// Figures about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableStats {
    /// Which.
    pub table: Table,
    /// Records in it: exact for the memory engine, an estimate for RocksDB.
    pub records: u64,
}
