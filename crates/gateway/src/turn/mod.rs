//! One turn: from an admitted request to its receipt.
//!
//! ```text
//!  run  ── engine ─▶ samples ─▶ ONE apply(Metered) ─▶ durable ─▶ Log ◀── Reader (HTTP body, SSE, socket)
//!   ▲                                                           │
//!   └── Budget ◀── min(admission, acknowledged + window, max_tokens) ◀── acknowledgements
//! ```
//!
//! - [`run`] is the only place that reports tokens to the ledger. A token enters the [`live::Log`] after its commit, and nothing
//!   is delivered that is not in the log: *durable before delivered* is one line of code.
//! - The log keeps the whole turn, so a second reader (a retry, a resumed socket) sees the same tokens, and a slow one holds
//!   back nothing but its own turn. It is bounded by the request's `max_tokens`.
//! - A turn without readers is cancelled. What is durable by then stays collectable under the request's id.
//! - [`replay`] builds an ended turn from the database: a retry after the end is read by the very same reader.

pub(crate) mod ending;
pub(crate) mod live;
pub(crate) mod reader;
pub(crate) mod replay;
pub(crate) mod run;

use milepost_inference::FinishReason;
use milepost_ledger::{EndReason, JobId, TokenSeq};

use crate::error::Error;
use crate::receipt::Receipt;

/// What is known when a turn starts.
#[derive(Clone, Debug)]
pub struct Started {
    /// The request's id, given or drawn.
    pub request_id: String,
    /// The job, unless the account is free.
    pub job: Option<JobId>,
    /// Name of the session as clients see it: the job's number, or the free account.
    pub session: String,
    /// The model.
    pub model: String,
    /// Tokens its context holds.
    pub context: u32,
    /// Position of the turn's first token.
    pub start: TokenSeq,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Why nothing is billed, if so.
    pub unbilled: Option<String>,
    /// Chain id of the job's terms, or the configured one.
    pub chain_id: u64,
}

/// How a turn ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// What failed, if something did.
    pub error: Option<Error>,
    /// Position after its last token.
    pub end: TokenSeq,
    /// Prompt tokens that did not have to be evaluated again.
    pub cached: u64,
    /// Tokens the job could still pay for; `None` where nothing is billed.
    pub left: Option<u64>,
    /// The host's word; `None` if it could not be written.
    pub receipt: Option<Receipt>,
}

impl Ended {
    /// The exact reason, as the native doors say it.
    pub fn finish_reason(&self) -> &'static str {
        match self.reason {
            EndReason::Stop | EndReason::StopSequence => "stop",
            EndReason::Length | EndReason::Context => "length",
            EndReason::Cancelled => "cancelled",
            EndReason::Disconnected => "disconnected",
            EndReason::Escrow => "escrow",
            EndReason::Interrupted => "interrupted",
            EndReason::EngineFailed => "engine_failed",
            EndReason::SessionEnded => "session_ended",
        }
    }

    /// The nearest reason that OpenAI's clients know.
    pub fn openai_finish_reason(&self) -> &'static str {
        if matches!(self.reason, EndReason::Stop | EndReason::StopSequence) { "stop" } else { "length" }
    }

    /// The known node's word for it.
    pub fn stream_reason(&self) -> &'static str {
        match self.reason {
            _ if self.error.is_some() => "error",
            EndReason::Cancelled => "cancelled",
            EndReason::EngineFailed => "error",
            _ => "complete",
        }
    }
}

pub(crate) fn end_reason(finish: FinishReason) -> EndReason {
    match finish {
        FinishReason::Stop => EndReason::Stop,
        FinishReason::StopSequence => EndReason::StopSequence,
        FinishReason::Length => EndReason::Length,
        FinishReason::Context => EndReason::Context,
    }
}
