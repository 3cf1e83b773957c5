//! What must survive: the storage trait, its configuration, and the sign-state that stands between a vote and its signature.
//!
//! # Who guarantees what
//!
//! The gadget decides, the storage keeps. Each method of [`CheckpointStorage`] says how durable its write is when it returns:
//!
//! | method | durable when it returns | because |
//! |---|---|---|
//! | [`update_sign_state`](CheckpointStorage::update_sign_state) | synced, together with every write before it | a signature leaves after it |
//! | [`bind_key`](CheckpointStorage::bind_key) | synced | a record is one key's, for good |
//! | [`store_certificate`](CheckpointStorage::store_certificate) | synced | finality is announced after it |
//! | [`store_evidence`](CheckpointStorage::store_evidence) | synced | the peer that sent it may never send it again |
//! | [`store_signatures`](CheckpointStorage::store_signatures) | buffered: survives the process, may be lost with the power | peers resend until certified |
//! | [`prune`](CheckpointStorage::prune) | buffered, atomic | what is pruned twice is pruned once |
//! | [`flush`](CheckpointStorage::flush) | everything before it, synced | housekeeping only |
//!
//! **A failed write is fatal.** After it the gadget signs and announces nothing until the process was restarted and has read what the
//! disk really holds. A storage must then refuse further writes too: an fsync that failed is never tried again.

mod config;
mod sign_state;
mod storage;

pub use config::CheckpointPersistenceConfig;
pub use sign_state::{Declaration, NotSafe, Refusal, Safe, SignRows, SignState, Standing, check_and_insert, declare, refuse};
pub use storage::{Anchor, CheckpointStorage, Decide, Error, PruneOrder, Pruned, SignUpdate, Stats};
