//! RocksDB, tuned for many small synced batches and a small footprint.
//!
//! One write-ahead log serves all tables, so that a batch over several of them is one record of one file and one `fdatasync`. Each table is
//! a column family, or they share one: see [`Rocks::open`] and [`Rocks::open_shared`]. Choices that matter:
//!
//! - **Recycled logs.** A log file that is overwritten in place needs no new blocks and no metadata from the file system at
//!   each sync, which is most of what a sync of a growing file costs.
//! - **Small write buffers** (4 MiB per table, 16 MiB in all): short logs, a quick restart, little on the disk after a kill.
//! - **Point-in-time recovery**: a log is replayed to its first damaged record. A torn tail is what a power loss leaves; it
//!   was never acknowledged.
//! - **Recovered writes are made durable before they are served**: opening moves the replayed log into synced table files
//!   (RocksDB's default, `avoid_flush_during_recovery = false`). Otherwise a write that was read back from the page cache
//!   after a kill could be delivered and then lost with the power.

mod layout;
mod log;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, ErrorKind, FlushOptions, IteratorMode,
    Options, ReadOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use self::layout::{Layout, Place};
use crate::scan::PageBuilder;
use crate::{Batch, Durability, Error, Op, Order, Page, Range, Stats, Storage, Table, TableStats};

/// Write buffer of one table; the log is about as long as the buffers it backs.
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Write buffers of all tables together.
const ALL_WRITE_BUFFERS_BYTES: usize = 16 << 20;
/// Logs in all; beyond it the tables that hold the oldest one back are flushed.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Log files kept for reuse. One is in use, one is being flushed.
const RECYCLED_LOGS: usize = 2;
/// Cache of table blocks: the hot data is in the ledger's own memory, reads here are for resumes and proofs.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Open table files: far below the usual limit of 1024 descriptors, which sockets need too.
const MAX_OPEN_FILES: i32 = 256;
/// The manifest is rewritten beyond this size; RocksDB's default of 1 GiB would be most of the database.
const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Space set aside for the manifest at a time; the default of 4 MiB is as much as a thousand checkpoints.
const MANIFEST_PREALLOCATION_BYTES: usize = 64 << 10;

/// The column family that every RocksDB database has.
const DEFAULT_FAMILY: &str = "default";

/// The RocksDB engine.
///
/// Guarantees: what [`Storage`] promises, as far as the kernel and the disk honour `fdatasync`.
/// Does not: share its directory; a second opener gets [`Error::Locked`].
pub struct Rocks {
    db: DB,
    layout: Layout,
    tables: Vec<Table>,
    /// What stands before the keys of each table.
    prefixes: Vec<Vec<u8>>,
    path: PathBuf,
    /// The failure that stopped the engine. Set once, never cleared.
    stopped: OnceLock<String>,
    writes: AtomicU64,
    synced_writes: AtomicU64,
}

impl Rocks {
    /// Opens the database at `path`, each table in a column family of its own, and creates it and its missing tables if need be. Tables on
    /// the disk that are not named are left alone.
    ///
    /// Does not: recognise a database that [`Rocks::open_shared`] made; its tables look empty.
    pub fn open(path: &Path, tables: &[Table]) -> Result<Self, Error> {
        refuse_headless(path)?;
        let options = database_options();
        let mut names = Layout::Families.families(tables);
        let db = match open_families(&options, path, &names) {
            // A database must be opened with every family it has. Which those are is written in a file that takes a millisecond to read: it
            // is asked only where there are more than were named.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                let existing = DB::list_cf(&options, path).map_err(|error| opening(path, error))?;
                let unnamed: Vec<String> = existing.into_iter().filter(|name| !names.contains(name)).collect();
                names.extend(unnamed);
                open_families(&options, path, &names)
            }
            opened => opened,
        };
        Ok(Self::new(db.map_err(|error| opening(path, error))?, Layout::Families, path, tables))
    }

    /// Opens the database at `path`, all tables in one column family, and creates it if need be. For a database of some megabytes that must
    /// open and flush fast. One that [`Rocks::open`] made is refused with [`Error::Layout`] and left as it is.
    pub fn open_shared(path: &Path, tables: &[Table]) -> Result<Self, Error> {
        refuse_headless(path)?;
        let options = database_options();
        let db = open_families(&options, path, &Layout::Shared.families(tables)).map_err(|error| {
            let families =
                error.kind() == ErrorKind::InvalidArgument && layout_of(path, tables).is_ok_and(|found| found == Layout::Families);
            if families { Error::Layout { path: path.to_owned() } } else { opening(path, error) }
        })?;
        Ok(Self::new(db, Layout::Shared, path, tables))
    }

    /// Opens the database as it is on the disk now, in whichever layout, also while another process writes to it. Every write answers
    /// [`Error::Stopped`]; what is written elsewhere afterwards is not seen.
    pub fn open_read_only(path: &Path, tables: &[Table]) -> Result<Self, Error> {
        let layout = layout_of(path, tables)?;
        let names = layout.families(tables);
        let db = DB::open_cf_for_read_only(&Options::default(), path, names, false).map_err(|error| opening(path, error))?;
        let opened = Self::new(db, layout, path, tables);
        Ok(Self { stopped: OnceLock::from("it was opened for reading only".to_owned()), ..opened })
    }

    fn new(db: DB, layout: Layout, path: &Path, tables: &[Table]) -> Self {
        Self {
            db,
            layout,
            tables: tables.to_vec(),
            prefixes: tables.iter().map(|table| layout.prefix(*table)).collect(),
            path: path.to_owned(),
            stopped: OnceLock::new(),
            writes: AtomicU64::new(0),
            synced_writes: AtomicU64::new(0),
        }
    }

    /// Makes a database that does not open readable again from its table files and logs, as far as they can be read. What they lack is
    /// gone, so that this is for a copy, from which rows are then taken one by one.
    pub fn repair(path: &Path) -> Result<(), Error> {
        DB::repair(&database_options(), path).map_err(|error| failed("repairing a copy", error))
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the table files that the manifest names now, those of other tables included.
    pub fn table_files(&self) -> Result<BTreeSet<String>, Error> {
        let files = self.db.live_files().map_err(|error| failed("listing its table files", error))?;
        Ok(files.into_iter().map(|file| file.name.trim_start_matches('/').to_owned()).collect())
    }

    fn place(&self, table: Table) -> Result<Place<'_>, Error> {
        let at = self.tables.iter().position(|known| *known == table);
        let place = at.and_then(|at| Some(Place { family: self.db.cf_handle(self.layout.family(table))?, prefix: &self.prefixes[at] }));
        place.ok_or(Error::UnknownTable { table })
    }

    fn running(&self) -> Result<(), Error> {
        match self.stopped.get() {
            Some(reason) => Err(Error::Stopped { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Stops the engine because of a failed write.
    ///
    /// A write of another thread that was under way meanwhile cannot slip through behind the failed one: RocksDB itself
    /// refuses writes from the moment its log failed, before it answers the writer whose write that was.
    fn stop(&self, doing: &'static str, error: rocksdb::Error) -> Error {
        let error = failed(doing, error);
        // Only the first failure is the reason.
        let _ = self.stopped.set(error.to_string());
        error
    }

    fn disk_bytes(&self) -> u64 {
        // Files come and go while the directory is read; one that went is not on the disk.
        let Ok(files) = std::fs::read_dir(&self.path) else { return 0 };
        files.flatten().filter_map(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
    }
}

impl Storage for Rocks {
    fn tables(&self) -> &[Table] {
        &self.tables
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        batch.validate(&self.tables)?;
        self.running()?;
        let mut native = WriteBatch::default();
        for op in batch.ops() {
            let place = self.place(op.table())?;
            match op {
                Op::Put { key, value, .. } => native.put_cf(place.family, place.key(key), value),
                Op::Delete { key, .. } => native.delete_cf(place.family, place.key(key)),
                Op::DeleteRange { range, .. } => native.delete_range_cf(place.family, place.key(range.start()), place.end(range)),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.db.write_opt(native, &options).map_err(|error| self.stop("writing a batch", error))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        if durability == Durability::Synced {
            self.synced_writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let place = self.place(table)?;
        self.db.get_cf(place.family, place.key(key)).map_err(|error| failed("reading a record", error))
    }

    fn scan(&self, table: Table, range: &Range, order: Order, limit: usize) -> Result<Page, Error> {
        let place = self.place(table)?;
        let mut page = PageBuilder::new(range, order, limit);
        if range.is_empty() {
            return Ok(page.finish());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(place.key(range.start()));
        options.set_iterate_upper_bound(place.end(range));
        let mode = match order {
            Order::Ascending => IteratorMode::Start,
            Order::Descending => IteratorMode::End,
        };
        for record in self.db.iterator_cf_opt(place.family, options, mode) {
            let (key, value) = record.map_err(|error| failed("scanning a table", error))?;
            if !page.push(place.strip(&key), &value) {
                break;
            }
        }
        Ok(page.finish())
    }

    fn flush(&self) -> Result<(), Error> {
        self.running()?;
        let names = self.layout.families(&self.tables);
        let families: Vec<_> = names.iter().filter_map(|name| self.db.cf_handle(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let flushed = self.db.flush_wal(true).and_then(|()| self.db.flush_cfs_opt(&families.iter().collect::<Vec<_>>(), &options));
        flushed.map_err(|error| self.stop("flushing", error))
    }

    fn backup(&self, path: &Path) -> Result<(), Error> {
        let copied = Checkpoint::new(&self.db).and_then(|copier| copier.create_checkpoint(path));
        copied.map_err(|error| failed("making a backup", error))
    }

    fn stats(&self) -> Result<Stats, Error> {
        // Tables that share a column family are not counted apart.
        let counted = self.tables.iter().filter(|_| self.layout == Layout::Families);
        let tables = counted.map(|table| {
            let records = self.db.property_int_value_cf(self.place(*table)?.family, "rocksdb.estimate-num-keys");
            let records = records.map_err(|error| failed("reading statistics", error))?.unwrap_or(0);
            Ok(TableStats { table: *table, records })
        });
        Ok(Stats {
            tables: tables.collect::<Result<_, Error>>()?,
            disk_bytes: self.disk_bytes(),
            writes: self.writes.load(Ordering::Relaxed),
            synced_writes: self.synced_writes.load(Ordering::Relaxed),
        })
    }
}

/// Refuses a directory that has data and no `CURRENT`: RocksDB would take it for a new database and remove the files that it does not know.
fn refuse_headless(path: &Path) -> Result<(), Error> {
    let current = path.join("CURRENT");
    // What cannot be read here cannot be opened either, and says so then.
    let Ok(files) = std::fs::read_dir(path) else { return Ok(()) };
    let holds_data = |file: std::fs::DirEntry| {
        let is_data = file.path().extension().is_some_and(|ending| ending == "sst" || ending == "log");
        is_data && file.metadata().is_ok_and(|metadata| metadata.len() > 0)
    };
    if current.exists() || !files.flatten().any(holds_data) {
        return Ok(());
    }
    Err(Error::Damaged { path: path.to_owned(), reason: format!("{} is missing", current.display()) })
}

fn open_families(options: &Options, path: &Path, names: &[String]) -> Result<DB, rocksdb::Error> {
    let of_tables = table_options(&Cache::new_lru_cache(BLOCK_CACHE_BYTES));
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, of_tables.clone()));
    DB::open_cf_descriptors(options, path, families)
}

/// The layout of the database at `path`.
fn layout_of(path: &Path, tables: &[Table]) -> Result<Layout, Error> {
    let families = DB::list_cf(&Options::default(), path).map_err(|error| opening(path, error))?;
    let shared = !tables.iter().any(|table| families.iter().any(|name| name == table.name()));
    Ok(if shared { Layout::Shared } else { Layout::Families })
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_use_fsync(false);
    options.set_recycle_log_file_num(RECYCLED_LOGS);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(MAX_LOG_BYTES);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(MAX_OPEN_FILES);
    // A handful of small files: sixteen threads to open them, and reading their statistics before anything else, is most of a start.
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    log::set(&mut options);
    options.set_stats_dump_period_sec(0);
    options.set_max_manifest_file_size(MAX_MANIFEST_BYTES);
    options.set_manifest_preallocation_size(MANIFEST_PREALLOCATION_BYTES);
    options
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::None);
    options
}

fn opening(path: &Path, error: rocksdb::Error) -> Error {
    let kind = error.kind();
    let reason = error.into_string();
    match kind {
        ErrorKind::Corruption => Error::Damaged { path: path.to_owned(), reason },
        // Held by another process, or twice by this one; RocksDB tells both in words only.
        ErrorKind::IOError if reason.contains("While lock file") || reason.contains("lock hold by current process") => {
            Error::Locked { path: path.to_owned() }
        }
        _ => failed_with("opening the database", reason),
    }
}

fn failed(doing: &'static str, error: rocksdb::Error) -> Error {
    failed_with(doing, error.into_string())
}

fn failed_with(doing: &'static str, reason: String) -> Error {
    if reason.contains("No space left on device") { Error::NoSpace { doing, reason } } else { Error::Io { doing, reason } }
}
