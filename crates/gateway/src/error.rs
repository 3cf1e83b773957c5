//! Everything a door can answer instead of tokens. Each variant has a stable code, an HTTP status, and a message that says what
//! was wrong and what would be right.

use axum::http::StatusCode;
use milepost_inference as inference;
use milepost_ledger::{AccountId, Bound, JobId, TokenSeq};
use milepost_ledger_db as ledger_db;
use serde_json::{Value, json};

use crate::deps::{JobsError, JobsErrorKind};
use crate::session_id;

/// Why a request was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The body is not JSON.
    #[error("the body is not valid JSON: {reason}")]
    MalformedJson {
        /// Where and why.
        reason: String,
    },
    /// A field is missing.
    #[error("the field `{field}` is missing; it must be {expected}")]
    MissingField {
        /// Which.
        field: String,
        /// What it must be.
        expected: String,
    },
    /// A field has the wrong type or lies outside its range.
    #[error("the field `{field}` is {found}; it must be {expected}")]
    BadField {
        /// Which.
        field: String,
        /// What was sent.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// Something this host does not do, which would change the answer if ignored.
    #[error("`{what}` is not supported by this host; leave it out")]
    Unsupported {
        /// What.
        what: String,
    },
    /// Two names for one thing that differ.
    #[error("{0}")]
    SessionId(#[from] session_id::Error),
    /// The model does not exist here.
    #[error("there is no model {asked:?} here; available: {}", available.join(", "))]
    UnknownModel {
        /// What was asked for.
        asked: String,
        /// What exists.
        available: Vec<String>,
    },
    /// The job is bound to another model.
    #[error("job {job} is bound to another model than {asked:?}; a job is served by one model")]
    WrongModel {
        /// The job.
        job: JobId,
        /// What was asked for.
        asked: String,
    },
    /// The job's account belongs to the other mode.
    #[error(
        "job {job} was opened {opened}, this host now runs {runs}: it cannot be served here. Ask the operator, or fund another session"
    )]
    OtherMode {
        /// The job.
        job: JobId,
        /// Where its account was opened.
        opened: &'static str,
        /// Where the host runs.
        runs: &'static str,
    },
    /// The prompt leaves no room.
    #[error("the prompt has {prompt_tokens} tokens, the context of this model holds {context_window_size}; shorten the prompt")]
    TokenLimitExceeded {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the context.
        context_window_size: u32,
    },
    /// Refused by the engine for a reason the client can mend.
    #[error("{reason}")]
    BadRequest {
        /// Why, and what would be right.
        reason: String,
    },
    /// No token where one is needed.
    #[error("{reason}")]
    Unauthorized {
        /// Which, and how to get one.
        reason: String,
    },
    /// Another's job.
    #[error("this session token is for job {token_job}, not for job {asked}: a job is spent by its depositor alone")]
    NotYourJob {
        /// Whom the token is for.
        token_job: JobId,
        /// What was asked for.
        asked: JobId,
    },
    /// The signature is not the depositor's.
    #[error("the signature is not by the depositor of job {job}: sign SessionOpen with the key that funded it")]
    NotTheDepositor {
        /// The job.
        job: JobId,
    },
    /// A challenge that was not given, is used or too old.
    #[error("the challenge {reason}; ask for a new one")]
    BadChallenge {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The salt does not open the job's commitment.
    #[error("the salt does not match the commitment of job {job}: open the session with the salt the job was funded with")]
    WrongSalt {
        /// The job.
        job: JobId,
    },
    /// A voucher that cannot be taken.
    #[error("voucher refused: {reason}")]
    BadVoucher {
        /// Why.
        reason: String,
    },
    /// Requests without a job are not served.
    #[error("this host serves funded jobs only: {reason}")]
    PaymentRequired {
        /// Why this request has no job.
        reason: String,
    },
    /// Nothing further could be paid.
    #[error("job {job} cannot pay for further tokens (bound: {bound:?}); {left} tokens are left")]
    Escrow {
        /// The job.
        job: JobId,
        /// Which bound.
        bound: Bound,
        /// Tokens left.
        left: u64,
    },
    /// No such job of this host.
    #[error("there is no active job {0} of this host")]
    UnknownJob(JobId),
    /// No such record.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The session is over.
    #[error("the session of {account} is {phase}; no further tokens are generated for it")]
    SessionOver {
        /// Whose.
        account: AccountId,
        /// Where it stands.
        phase: String,
    },
    /// The same key names another request.
    #[error("request id {request:?} was used for a request with another body; use a new id")]
    RequestConflict {
        /// The id.
        request: String,
    },
    /// There is nothing to resume.
    #[error("there is no request {request:?} to resume")]
    UnknownRequest {
        /// The id.
        request: String,
    },
    /// A position outside the turn.
    #[error("resume_from is {asked}; the answer of request {request:?} holds the positions {start} to {end}")]
    BadResume {
        /// The id.
        request: String,
        /// What was asked for.
        asked: TokenSeq,
        /// First position.
        start: TokenSeq,
        /// Position after the last.
        end: TokenSeq,
    },
    /// Another request of the account is generating.
    #[error("another request of {account} is generating; one at a time. Wait for it or cancel it")]
    Busy {
        /// Whose.
        account: AccountId,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// Too much unpaid work.
    #[error("{reason}; try again in {retry_after} s")]
    RateLimited {
        /// Which limit, with its figures.
        reason: String,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The body or frame is too large.
    #[error("the body exceeds {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The path exists with another method.
    #[error("{method} is not allowed on {path}")]
    MethodNotAllowed {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// The client went away, or cancelled, before the first token.
    #[error("the request was cancelled")]
    Cancelled,
    /// The node is going down.
    #[error("the host is draining; try again in a moment")]
    Draining,
    /// The chain cannot be asked.
    #[error("the job's terms cannot be read now: {0}")]
    JobsUnavailable(JobsError),
    /// The job is to be served by another host.
    #[error("{0}; {advice}", advice = .0.advice)]
    JobOfAnotherHost(JobsError),
    /// The job is this host's, but cannot be served.
    #[error("{0}; {advice}", advice = .0.advice)]
    JobNotServed(JobsError),
    /// The engine failed under the request.
    #[error("the engine failed: {reason}. Tokens delivered so far stay valid and can be replayed under the same request id")]
    EngineFailed {
        /// Why.
        reason: String,
    },
    /// The ledger cannot be written or read. Nothing was delivered that is not durable.
    #[error("the ledger cannot be used: {reason}")]
    Storage {
        /// Why.
        reason: String,
    },
    /// A rule of the ledger was broken: a fault in this program.
    #[error("internal fault: {reason}")]
    Internal {
        /// What.
        reason: String,
    },
}

/// Code, upper-case code of the WebSocket door, and status of an error.
struct Class(&'static str, &'static str, StatusCode);

impl Error {
    fn class(&self) -> Class {
        use StatusCode as S;
        match self {
            Self::MalformedJson { .. } => Class("invalid_request", "MALFORMED_FRAME", S::BAD_REQUEST),
            Self::MissingField { .. } | Self::BadField { .. } | Self::Unsupported { .. } => {
                Class("validation_error", "VALIDATION_ERROR", S::BAD_REQUEST)
            }
            Self::SessionId(_) => Class("validation_error", "INVALID_SESSION_ID", S::BAD_REQUEST),
            Self::BadRequest { .. } => Class("invalid_request", "INVALID_REQUEST", S::BAD_REQUEST),
            Self::BadVoucher { .. } => Class("invalid_voucher", "INVALID_VOUCHER", S::BAD_REQUEST),
            Self::BadResume { .. } => Class("invalid_resume", "INVALID_RESUME", S::BAD_REQUEST),
            Self::WrongSalt { .. } => Class("wrong_salt", "WRONG_SALT", S::BAD_REQUEST),
            Self::TokenLimitExceeded { .. } => Class("token_limit_exceeded", "TOKEN_LIMIT_EXCEEDED", S::BAD_REQUEST),
            Self::Unauthorized { .. } => Class("unauthorized", "UNAUTHORIZED", S::UNAUTHORIZED),
            Self::BadChallenge { .. } => Class("invalid_challenge", "INVALID_CHALLENGE", S::UNAUTHORIZED),
            Self::PaymentRequired { .. } => Class("payment_required", "PAYMENT_REQUIRED", S::PAYMENT_REQUIRED),
            Self::Escrow { .. } => Class("escrow_exhausted", "ESCROW_EXHAUSTED", S::PAYMENT_REQUIRED),
            Self::NotYourJob { .. } => Class("not_your_job", "NOT_YOUR_JOB", S::FORBIDDEN),
            Self::NotTheDepositor { .. } => Class("not_the_depositor", "NOT_THE_DEPOSITOR", S::FORBIDDEN),
            Self::UnknownModel { .. } => Class("model_not_found", "MODEL_NOT_FOUND", S::NOT_FOUND),
            Self::UnknownJob(_) => Class("job_not_found", "JOB_NOT_FOUND", S::NOT_FOUND),
            Self::UnknownRequest { .. } => Class("request_not_found", "REQUEST_NOT_FOUND", S::NOT_FOUND),
            Self::NotFound { .. } => Class("not_found", "NOT_FOUND", S::NOT_FOUND),
            Self::MethodNotAllowed { .. } => Class("method_not_allowed", "METHOD_NOT_ALLOWED", S::METHOD_NOT_ALLOWED),
            Self::Cancelled => Class("cancelled", "CANCELLED", S::REQUEST_TIMEOUT),
            Self::WrongModel { .. } => Class("wrong_model", "WRONG_MODEL", S::CONFLICT),
            Self::OtherMode { .. } => Class("other_mode", "OTHER_MODE", S::CONFLICT),
            Self::SessionOver { .. } => Class("session_over", "SESSION_OVER", S::CONFLICT),
            Self::RequestConflict { .. } => Class("request_conflict", "REQUEST_CONFLICT", S::CONFLICT),
            Self::Busy { .. } => Class("busy", "BUSY", S::CONFLICT),
            Self::TooLarge { .. } => Class("body_too_large", "BODY_TOO_LARGE", S::PAYLOAD_TOO_LARGE),
            Self::RateLimited { .. } => Class("rate_limit_exceeded", "RATE_LIMIT_EXCEEDED", S::TOO_MANY_REQUESTS),
            Self::Draining => Class("service_unavailable", "DRAINING", S::SERVICE_UNAVAILABLE),
            // 403 and 422 rather than 409: OpenAI's clients try a 409 again by themselves, which here would never end otherwise.
            Self::JobOfAnotherHost(_) => Class("job_of_another_host", "JOB_OF_ANOTHER_HOST", S::FORBIDDEN),
            Self::JobNotServed(_) => Class("job_not_served", "JOB_NOT_SERVED", S::UNPROCESSABLE_ENTITY),
            Self::JobsUnavailable(_) => Class("service_unavailable", "CHAIN_UNAVAILABLE", S::SERVICE_UNAVAILABLE),
            Self::EngineFailed { .. } => Class("engine_failed", "ENGINE_FAILED", S::INTERNAL_SERVER_ERROR),
            Self::Storage { .. } => Class("storage_failed", "STORAGE_FAILED", S::INTERNAL_SERVER_ERROR),
            Self::Internal { .. } => Class("internal_error", "INTERNAL_ERROR", S::INTERNAL_SERVER_ERROR),
        }
    }

    /// The stable code of the HTTP doors.
    pub fn code(&self) -> &'static str {
        self.class().0
    }

    /// The stable code of the WebSocket door.
    pub fn frame_code(&self) -> &'static str {
        self.class().1
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.class().2
    }

    /// Seconds after which a retry makes sense.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after, .. } | Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::Draining | Self::JobsUnavailable(_) => Some(5),
            _ => None,
        }
    }

    /// The figures behind the message, for programs.
    pub fn details(&self) -> Value {
        match self {
            Self::MissingField { field, expected } => json!({ "field": field, "expected": expected }),
            Self::BadField { field, found, expected } => json!({ "field": field, "found": found, "expected": expected }),
            Self::Unsupported { what } => json!({ "field": what }),
            Self::UnknownModel { available, .. } => json!({ "available_models": available }),
            Self::TokenLimitExceeded { prompt_tokens, context_window_size } => {
                json!({ "prompt_tokens": prompt_tokens, "context_window_size": context_window_size })
            }
            Self::Escrow { bound, left, .. } => json!({ "bound": bound, "left": left }),
            Self::BadResume { start, end, .. } => json!({ "start": start, "end": end }),
            Self::TooLarge { limit } => json!({ "limit": limit }),
            Self::JobsUnavailable(cause) => json!({ "cause": cause.code, "retry_after": self.retry_after() }),
            Self::JobOfAnotherHost(cause) | Self::JobNotServed(cause) => json!({ "cause": cause.code, "advice": cause.advice }),
            _ => match self.retry_after() {
                Some(seconds) => json!({ "retry_after": seconds }),
                None => Value::Null,
            },
        }
    }

    /// The shape of the native doors.
    pub fn native(&self, request_id: Option<&str>) -> Value {
        json!({ "error_type": self.code(), "message": self.to_string(), "request_id": request_id, "details": self.details() })
    }

    /// The shape that OpenAI's clients expect.
    pub fn openai(&self, request_id: Option<&str>) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let param = match self {
            Self::MissingField { field, .. } | Self::BadField { field, .. } => Some(field.as_str()),
            Self::Unsupported { what } => Some(what.as_str()),
            Self::UnknownModel { .. } | Self::WrongModel { .. } => Some("model"),
            _ => None,
        };
        json!({ "error": {
            "message": self.to_string(), "type": kind, "param": param, "code": self.code(),
            "request_id": request_id, "details": self.details(),
        } })
    }

    /// Whether the host, not the client, must do something about it.
    pub fn is_fault(&self) -> bool {
        self.status().is_server_error()
    }
}

impl From<JobsError> for Error {
    fn from(error: JobsError) -> Self {
        match error.kind {
            JobsErrorKind::Unreachable => Self::JobsUnavailable(error),
            JobsErrorKind::AnotherHost => Self::JobOfAnotherHost(error),
            JobsErrorKind::NotServed => Self::JobNotServed(error),
        }
    }
}

impl From<inference::Error> for Error {
    fn from(error: inference::Error) -> Self {
        match error {
            inference::Error::EmptyPrompt => {
                Self::BadField { field: "prompt".into(), found: "empty".into(), expected: "a text that is not empty".into() }
            }
            inference::Error::PromptTooLong { tokens, context } => {
                Self::TokenLimitExceeded { prompt_tokens: tokens, context_window_size: context }
            }
            inference::Error::Busy { queued, limit } => {
                Self::RateLimited { reason: format!("the engine is busy: {queued} requests wait and {limit} may"), retry_after: 1 }
            }
            inference::Error::EngineFailed { reason } => Self::EngineFailed { reason },
            inference::Error::ModelFile { .. } | inference::Error::BadOptions { .. } => Self::EngineFailed { reason: error.to_string() },
            other => Self::BadRequest { reason: other.to_string() },
        }
    }
}

impl From<ledger_db::Error> for Error {
    fn from(error: ledger_db::Error) -> Self {
        match error {
            ledger_db::Error::Refused(refused) => Self::Internal { reason: refused.to_string() },
            other => Self::Storage { reason: other.to_string() },
        }
    }
}
