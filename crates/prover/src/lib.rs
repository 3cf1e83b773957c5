//! The client side of proving: what a node asks for, who proves it, and what it believes.
//!
//! A [`ProofRequest`] names a [`Statement`](milepost_statement::Statement) and carries the checkpoints behind it. A [`Prover`]
//! answers with a [`Proof`] or with an [`Error`] that says what is wrong and what to do about it. Three provers exist:
//!
//! - [`Process`] runs the program `milepost-prover`, one process for each proof, one proof at a time, at low priority. The
//!   program proves with RISC Zero; this crate does not trust it. Protocol: [`protocol`].
//! - [`Remote`] asks such a program on another machine, over TLS with keys known to both sides.
//! - [`Mock`] proves nothing. It can be made only for a development chain on this machine, and says so loudly.
//!
//! A receipt is *verified before it is returned*: [`verify`] checks the STARK, that the program proven is ours (the image id),
//! and that the journal says what was asked, field by field. Whoever holds a receipt file can do the same with `verify`.
//! Layout of the file, list of errors and what a proof does **not** say: `docs/proofs.md`.
//!
//! Without the feature `stark` only [`Mock`] exists.
//!
//! **Does not** retry, persist or schedule: settlement owns claims and their states. A proof that is not made changes nothing.

#[cfg(feature = "stark")]
mod conversation;
mod error;
mod image;
mod layout;
#[cfg(feature = "stark")]
mod memory;
mod mock;
#[cfg(feature = "stark")]
mod process;
#[cfg(feature = "stark")]
pub mod protocol;
#[cfg(feature = "stark")]
mod receipt;
#[cfg(feature = "stark")]
mod remote;
mod request;
mod self_test;
#[cfg(feature = "stark")]
mod turns;

#[cfg(feature = "stark")]
pub use conversation::Patience;
pub use error::Error;
pub use image::IMAGE_ID;
pub use layout::{MOCK_RECEIPT_TAG, RECEIPT_TAG, SEAL_BYTES, SEALED_TAG, kind_of, seal_of, sealed_receipt};
#[cfg(feature = "stark")]
pub use memory::{MAX_SEGMENT_PO2, enough_for_any_claim_mb, enough_mb, most_segments};
pub use mock::{Mock, NotADevChain};
#[cfg(feature = "stark")]
pub use process::{Identity, Options, PROGRAM, Process, locate};
#[cfg(feature = "stark")]
pub use receipt::{MAX_RECEIPT_BYTES, Verified, VerifyError, dev_mode_is_set, encode_receipt, verify};
#[cfg(feature = "stark")]
pub use remote::{Key, Pin, Remote, RemoteOptions, Server, ServerOptions, Unusable};
pub use request::{BoxFuture, CheckpointInput, MAX_CLAIM_TOKENS, Proof, ProofRequest, Prover};
pub use self_test::{Cache, SelfTest, Status, sample_request, self_test, watch};
