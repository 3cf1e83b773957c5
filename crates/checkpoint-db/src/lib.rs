//! Finality's tables on RocksDB: votes, certificates, own votes and evidence, and what is done when they are damaged.
//!
//! [`CheckpointDB`] keeps, [`CheckpointStorageAdapter`] hands it to the gadget as its
//! [`CheckpointStorage`](finality_gadget::CheckpointStorage). The gadget decides what may be signed; this crate sees to it that what was
//! decided is on the disk before anything is signed, and that a disk which lies is found out.
//!
//! # The protocol
//!
//! **Writing.** Each write is one atomic batch; its durability is the gadget's contract
//! ([`persistence`](finality_gadget::persistence)). A failed write or sync is never tried again: everything after it is refused until a
//! restart has read what the disk really holds.
//!
//! **Signing.** A change of the sign-state goes to the [`witness`] first, then into the database together with the own vote, each synced.
//! Only then does [`CheckpointDB::update_sign_state`] answer `Ok`, and only that lets the gadget sign. At every opening the two are compared:
//!
//! | what is found | what it means | what is done |
//! |---|---|---|
//! | they agree | | go on |
//! | the witness is one decision ahead | the process ended between the two | the decision is taken over |
//! | the database lacks writes that the witness counted | a log lost its end, or the directory is an old copy | set aside, rebuilt; the witness's sign-state stands |
//! | the database is gone, the witness is there | somebody removed it | a new one; the witness's sign-state stands |
//! | the witness is missing, damaged, old or another's | nothing shows that the database is the newest | observe until an operator declares |
//!
//! A record belongs to one key for good ([`CheckpointDB::bind_key`]): where two validators' directories are exchanged, neither signs.
//!
//! **Damage.** Every row is framed with a checksum over table, key and value, and RocksDB checks its blocks. Opening reads every row that
//! signing or finality may rest on; the many votes of other validators are read behind the start ([`CheckpointDB::check`]) or when they
//! are needed, and what is then found unreadable is dealt with at the next start. What is damaged is moved aside whole, never deleted; a
//! new database is made of the rows that can be read and believed. Missing votes and certificates come from peers again.
//!
//! **Pruning** is a range delete below a number. Boundary certificates lie in a table of their own that no range delete names; so does
//! evidence. Watermarks are single values that only rise.
//!
//! # Worked example
//!
//! ```
//! use std::sync::Arc;
//! use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, TABLES, TableWitness, WITNESS_TABLE};
//! use finality_gadget::persistence::{CheckpointStorage as _, Declaration, declare};
//! use finality_gadget::DomainDigest;
//! use milepost_store::Memory;
//!
//! // On a file system this is `CheckpointDB::new(path)`.
//! let engine = Arc::new(Memory::new(&[TABLES.as_slice(), &[WITNESS_TABLE]].concat()));
//! let db = CheckpointDB::over(engine.clone(), Box::new(TableWitness::new(engine.clone())))?;
//! let storage = CheckpointStorageAdapter::new(Arc::new(db));
//!
//! declare(&storage, DomainDigest([1; 32]), Declaration::NeverSigned)?;
//!
//! // The power fails; what was declared is still there.
//! let engine = Arc::new(engine.crash().reopen());
//! let db = CheckpointDB::over(engine.clone(), Box::new(TableWitness::new(engine)))?;
//! assert!(CheckpointStorageAdapter::new(Arc::new(db)).sign_state()?.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod check;
mod db;
mod error;
#[cfg(feature = "rocksdb-any")]
mod files;
#[cfg(feature = "rocksdb-any")]
mod inspect;
pub mod interchange;
mod recovery;
#[cfg(feature = "rocksdb-any")]
mod rocks;
mod sign;
mod tables;
pub mod witness;

pub use adapter::CheckpointStorageAdapter;
pub use db::{CheckpointDB, CheckpointDbStats};
pub use error::Error;
#[cfg(feature = "rocksdb-any")]
pub use inspect::Inspection;
pub use recovery::{Recovery, SignRecovery};
pub use tables::TABLES;
pub use witness::{FileWitness, TableWitness, WITNESS_TABLE};
