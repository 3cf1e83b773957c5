//! Proof bundles: everything that speaks for one claim, in one file that is checked without model, chain or host.
//!
//! # What is in a bundle, and who can tell what from it
//!
//! | part | for whom | what it shows |
//! |---|---|---|
//! | statement, receipt | anybody | the STARK says exactly this statement, of this program |
//! | checkpoints (counts and heads) | anybody | the claim's tokens are sealed in these steps; a job's first claim follows from the job's terms |
//! | token ids, turns digests, turns, salt ([`Opening`]) | whom the depositor lets see them | exactly these tokens in this order, asked for in this way |
//! | transaction, header, receipt, proof ([`Landing`]) | anybody | this key submitted this claim; the marketplace logged it in the block of this hash |
//! | certificate ([`Certificate`]) | who knows the validators | a block was certified, and the claim's is it or an ancestor of it: final |
//!
//! [`Bundle::decode`] reads strictly: one form, every length bounded, nothing behind the end. [`check`] answers every question by
//! its name in a [`Report`]; [`check_on_chain`] adds what a chain says, which it is told by a [`Reader`]. Each refusal is an
//! [`Error`] of its own, and of a [`Class`], which is the exit code of `milepost verify`. Layout: `docs/bundle.md`.
//!
//! **Guarantees.** A report without a refusal, and `proven`, means: [`PROVEN`]. **Does not** mean: [`NOT_PROVEN`]

mod chain;
mod check;
mod error;
mod format;
mod landing;
pub mod link;
pub mod rlp;
pub mod rpc;
mod transcript;
pub mod trie;
mod words;

pub use chain::{Error as ChainError, Event, Facts, Job, Reader};
pub use check::{Expected, Line, Options, Report, Verdict, certified_block, check, check_on_chain};
pub use error::{Class, Error, Field};
pub use format::{
    BUNDLE_TAG, Bundle, Certificate, Checkpoint, Error as FormatError, MAX_BUNDLE_BYTES, MAX_CERTIFICATE_BYTES, MAX_CHECKPOINTS,
    MAX_INCLUSION_BYTES, MAX_TRANSACTION_BYTES, MAX_TURNS, OpenTurn, Opening,
};
pub use landing::{Countersigned, Error as LandingError, Header, Inclusion, Landing, Submission};
pub use words::{NOT_PROVEN, PROVEN};
