//! The ledger's tables, and the one thread that commits them.
//!
//! # The protocol
//!
//! One operating-system thread owns the [`Ledger`](milepost_ledger::Ledger) and is the only writer of its store. Callers
//! hand it lists of [`Event`](milepost_ledger::Event)s through a bounded queue. A round of that thread:
//!
//! 1. takes every caller that waits (up to a bound);
//! 2. applies each caller's events to the ledger. A refusal answers that caller alone, and undoes what its list had changed;
//! 3. writes the effects of all callers as **one batch, synced**;
//! 4. answers everybody, and announces what changed ([`Change`]).
//!
//! So one `fdatasync` serves all callers of a round, and whatever a caller learns is durable: a token that
//! [`LedgerDb::apply`] has answered for may be delivered.
//!
//! **A failed write ends it.** The thread stops for good, everybody who waits gets [`Error::Stopped`], and
//! [`LedgerDb::stopped`] resolves: the process must end, and read at its next start what the disk really holds.
//!
//! # Tables
//!
//! Keys are big-endian and sorted by account; each value is framed with a version and a checksum that covers table and key
//! ([`milepost_store::frame`]). An *account key* is `0x01 ‖ job u64` or `0x02 ‖ label digest`.
//!
//! | table | key | value |
//! |---|---|---|
//! | `account` | account key | `AccountRecord` |
//! | `live` | account key | nothing: the account is not finished and is loaded at start |
//! | `tokens` | account key ‖ first position u64 | token ids of one commit, u32 LE each |
//! | `turn` | account key ‖ number u32 | `TurnRecord` |
//! | `request` | account key ‖ digest of the request id | the turn's number |
//! | `checkpoint` | account key ‖ number u64 | `CheckpointRecord` |
//! | `claim` | job u64 ‖ first position u64 ‖ plan u32 | `Claim` |
//! | `tx` | key address ‖ nonce u64 | `Tx` |
//! | `pending-tx` | key address ‖ nonce u64 | nothing: the transaction is unresolved and is loaded at start |
//! | `receipt` | as `claim` | the proof's receipt |
//! | `meta` | name | bytes |
//! | `schema` | `version` | u32 |
//!
//! # Start
//!
//! The ledger is rebuilt from `live`, `pending-tx` and what they point at, so that finished business costs nothing. Rows that
//! do not fit together, or fail their checksum, stop the start and are named. An active turn found there is left active:
//! whoever serves ends it as interrupted.
//!
//! # Does not
//!
//! Does not deliver tokens, send transactions or watch chains; does not retry a write; does not repair a damaged record.

mod answer;
mod check;
mod codec;
mod commit;
mod content;
mod error;
mod handle;
mod priority;
mod recover;
mod rows;
mod schema;
mod seam;
mod tables;
mod writes;

pub use answer::{Blob, Change, Committed, Forget};
pub use check::{CheckReport, MAX_PROBLEMS, Problem};
pub use content::ContentPart;
pub use error::Error;
pub use handle::{CHANGES, LedgerDb, Options, QUEUE};
pub use rows::MAX_TOKENS_READ;
pub use schema::SCHEMA_VERSION;
pub use seam::{Append, LedgerStore};
