//! The paying client: funds a session, chats, follows every token, closes, sees the refund.
//!
//! # The way of a session
//!
//! | | client | other side |
//! |---|---|---|
//! | find | [`find_offers`], [`Host::quote`], [`Chain::check_quote`] | the registry; the host signs what it promises |
//! | fund | [`Session::open`]: draws a salt, approves the token, `createSession` | the marketplace derives the first head |
//! | authenticate | [`Session::authenticate`]: signs `SessionOpen` over the host's challenge, hands over the salt | the host answers with a session token |
//! | chat | [`Session::chat_ws`], [`Session::chat_http`]: every token id is checked, stored and synced, then acknowledged | the host streams ids, announces seals, ends with a signed receipt |
//! | end | [`Session::close`]: asks the host, or the chain where the host is gone | the host claims the rest and finalizes |
//! | see | [`Session::wait_paid`], [`Session::refund`] | the deposit is split |
//!
//! A session that was cut, by a lost connection, a killed host or a killed client, goes on where it stood:
//! [`Session::load`], [`Session::resume`].
//!
//! # What is checked as the stream goes
//!
//! [`Transcript`] holds the client's own copy of the token ids, numbered from 0. Each announced checkpoint is recomputed from
//! those ids, the previous head and the announced turns digest; each receipt must be signed by the job's host (or one of its
//! submitter keys) and name exactly the captured tokens, the recomputed head and the recomputed open digest. At the end the
//! chain's head must be one of the recomputed ones. The first thing that does not fit is a named [`transcript::Error`] and stops
//! the session: the client pays for nothing that it has not got.
//!
//! **Guarantees.** Every token that was acknowledged or countersigned is in the synced session file. A voucher is signed only for
//! tokens held. **Does not** say that the model produced the tokens, nor that the prompt's digest inside a turns digest is the
//! prompt that was sent: the client has no tokenizer.

mod amount;
mod capture;
mod error;
mod job_ref;
mod openai;
mod quote;
mod wallet;
mod wire;

pub mod abi;
pub mod chain;
pub mod file;
pub mod host;
pub mod session;
pub mod transcript;

pub use amount::Amount;
pub use capture::{Capture, CapturedTurn};
pub use chain::{Chain, Offer, find_offers};
pub use error::Error;
pub use host::Host;
pub use job_ref::{JobRefError, parse_job};
pub use quote::QuoteRequest;
pub use session::{
    ChatRequest, CloseOutcome, Escrow, Event, Message, Observer, OpenRequest, Outcome, Paid, Refund, RefundState, Session, Step, Turn,
};
pub use transcript::{Checkpoint, JobIdentity, SignedReceipt, Transcript};
pub use wallet::Wallet;

/// Installs the TLS provider that HTTP and WebSocket connections need. Harmless when one is installed already.
pub fn init_tls() {
    // An error says that a provider is there: which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
