//! Durable records for money: atomic batches with an explicit durability, over two engines.
//!
//! # The protocol
//!
//! A store holds a fixed set of [`Table`]s, each an ordered map from bytes to bytes. Everything that changes goes through
//! [`Storage::write`], which takes one [`Batch`] and says how durable it must be before it returns:
//!
//! - [`Durability::Synced`]: when `write` answers `Ok`, the batch *and every batch before it* survive a power loss.
//! - [`Durability::Buffered`]: the batch survives the end of the process, and may be lost with the power.
//!
//! A batch is atomic: after any crash it is there as a whole or not at all. One log carries all batches, so that what
//! survives is always a prefix that holds at least everything up to the last acknowledged synced write.
//!
//! **A failed write stops the engine for good.** After a failed `fsync` the kernel may have dropped the very pages it was
//! asked to keep, and a second `fsync` would report success for them. So nothing is retried: each later write answers
//! [`Error::Stopped`], and only a restart, which reads what the disk really holds, can go on.
//!
//! # Records
//!
//! Engines store bytes. What they mean is the caller's business, with two helpers that every caller shares: [`frame`] puts
//! a version and a checksum around a value (the checksum covers the record's table and key, so that a value found under
//! another's key is noticed), and [`key`] builds keys whose byte order is their numeric order.
//!
//! # Engines
//!
//! - [`Rocks`] (feature `rocksdb-any`, or `rocksdb` with our choice of its build): RocksDB tuned for small synced batches.
//! - [`Memory`]: ordered maps over a simulated disk, with a [`FaultPlan`] that can cut the power at any write and fail
//!   writes and syncs. SIGKILL cannot show a missing sync, because the page cache outlives the process; this engine can.
//!
//! # Worked example
//!
//! ```
//! use milepost_store::{Batch, Durability, Memory, Range, Order, Storage, Table, frame, key};
//!
//! const JOBS: Table = Table::new("jobs");
//! let store = Memory::new(&[JOBS]);
//!
//! let mut batch = Batch::new();
//! let id = key::Key::new().u64(7).build();
//! batch.put_sealed(JOBS, id.clone(), 1, b"funded");
//! store.write(batch, Durability::Synced)?;
//!
//! // The power fails; what was acknowledged is still there.
//! let store = store.crash().reopen();
//! let value = store.get(JOBS, &id)?.expect("a synced write survives");
//! assert_eq!(frame::open(JOBS, &id, &value)?, (1, b"funded".as_slice()));
//! assert_eq!(store.scan(JOBS, &Range::all(), Order::Ascending, 10)?.entries.len(), 1);
//! # Ok::<(), milepost_store::Error>(())
//! ```

mod batch;
pub mod dump;
mod error;
pub mod frame;
pub mod key;
mod memory;
mod quarantine;
#[cfg(feature = "rocksdb-any")]
mod rocks;
mod scan;
mod storage;
mod table;

pub use batch::{Batch, MAX_BATCH_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Op};
pub use error::{Corruption, Error};
pub use memory::{Fault, FaultPlan, Memory, Moment, Survival, Survivor};
pub use quarantine::quarantine;
#[cfg(feature = "rocksdb-any")]
pub use rocks::Rocks;
pub use scan::{Entries, Entry, MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, Order, Page, Range, entries};
pub use storage::{Durability, Stats, Storage, TableStats};
pub use table::Table;
