//! The doors: HTTP, WebSocket and OpenAI-compatible, thin shapes over one pipeline.
//!
//! # The pipeline
//!
//! ```text
//!  authenticate ──▶ resolve account ──▶ admit ──▶ generate ──▶ meter ──▶ deliver
//!  session token    job or free label    deposit,   engine,      ONE       log of durable
//!  or its lack      opened on first use  cap, slot   budget      commit    tokens, any readers
//! ```
//!
//! Every door calls [`Host::generate`] and reads the [`TurnStream`] it gets. There is no other way to a token, so a door that
//! produces an unmetered one does not exist. `DOORS.md` says what each door exchanges.
//!
//! # Worked example
//!
//! A client asks for 250 tokens of job 7 under the key `a`. The turn's start is made durable, then the engine may sample up to
//! `min(deposit and deadline, acknowledged + 64, 250)` tokens. Three lie in the engine's channel: one commit, then all three are
//! in the turn's log, and the door sends them. The client's connection is cut at token 90: the turn ends as `disconnected` with
//! 97 durable tokens. The client comes back with key `a` and `resume_from: 90` and gets the seven it lacks, and a receipt over
//! 97; nothing is billed for that. A third request under `a` with another prompt is refused.
//!
//! # Guarantees
//!
//! - A token is durable before it is delivered, and billed once: by its position in the job's transcript.
//! - At most `unacked_window` tokens are durable beyond what the client is known to have.
//! - Each account has one generating request; cancelling or leaving ends it within one step.
//! - Who names a job spends it only in the modes `legacy` and `open`; only a session token ends it.
//!
//! # Does not
//!
//! Does not know a chain ([`Jobs`] answers for it), does not claim or settle, does not log prompts, answers or token ids. Counters
//! of unpaid work (prefill) live in memory and begin anew with the process.

mod accounts;
mod auth;
mod config;
mod deps;
mod doors;
mod error;
mod fields;
mod free;
mod host;
mod housekeeping;
mod opening;
mod prover_load;
mod quote;
mod receipt;
mod request;
mod serve;
mod session;
mod session_id;
mod sync;
mod turn;

pub use auth::{CHALLENGE_SECONDS, TOKEN_PREFIX};
pub use config::{AuthMode, GatewayConfig};
pub use deps::{Asked, BuildInfo, Check, Clock, Deps, Jobs, JobsError, JobsErrorKind, Readiness, SystemClock};
pub use doors::router;
pub use error::Error;
pub use host::Host;
pub use quote::is_quoted;
pub use receipt::{Receipt, Seal};
pub use request::{CONTEXT_MESSAGES, Caller, Door, GenerateRequest, Input};
pub use serve::{Error as ServeError, bind, serve};
pub use session_id::{Error as SessionIdError, MAX_LABEL_BYTES, SessionRef};
pub use turn::reader::{Acks, MAX_EVENT_TOKENS, TurnEvent, TurnHandle, TurnStream};
pub use turn::{Ended, Started};
