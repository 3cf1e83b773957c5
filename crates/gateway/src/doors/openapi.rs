//! `GET /openapi.json`.

use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use crate::deps::{BuildInfo, Check};
use crate::receipt::{Receipt, Seal};

/// A message of a conversation.
#[derive(Serialize, Deserialize, ToSchema)]
struct Message {
    /// `system`, `user` or `assistant`.
    role: String,
    content: String,
}

/// Body of `POST /v1/inference`.
#[derive(Serialize, Deserialize, ToSchema)]
struct InferenceRequest {
    model: String,
    prompt: String,
    #[schema(minimum = 1)]
    max_tokens: u32,
    #[schema(minimum = 0, maximum = 2, default = 0.7)]
    temperature: Option<f32>,
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f32>,
    top_k: Option<u32>,
    seed: Option<u64>,
    stop: Option<Vec<String>>,
    #[schema(default = false)]
    stream: Option<bool>,
    /// The request's key in its job; the header `Idempotency-Key` is the same.
    request_id: Option<String>,
    /// Deliver only what lies at or after this position of the transcript.
    resume_from: Option<u64>,
    /// The last ten are used.
    conversation_context: Option<Vec<Message>>,
    /// Number or decimal text; also `jobId`.
    job_id: Option<String>,
    /// A job's number as text, or a free label; also `sessionId`.
    session_id: Option<String>,
    chain_id: Option<u64>,
}

/// Tokens of a request.
#[derive(Serialize, Deserialize, ToSchema)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    context_window_size: u32,
    cached_prompt_tokens: u64,
}

/// Answer of `POST /v1/inference`.
#[derive(Serialize, ToSchema)]
struct InferenceAnswer {
    model: String,
    content: String,
    tokens_used: u64,
    /// `stop`, `length`, `cancelled`, `disconnected`, `escrow`, `interrupted`, `engine_failed`, `session_ended`.
    finish_reason: String,
    request_id: String,
    chain_id: u64,
    job_id: Option<String>,
    billed: bool,
    billed_reason: Option<String>,
    /// Position of the first token.
    seq: u64,
    token_ids: Vec<u32>,
    /// Tokens the job can still pay for.
    left: Option<u64>,
    usage: Usage,
    receipt: Option<Receipt>,
    checkpoints: Vec<Seal>,
    replayed: bool,
}

/// The native doors' error.
#[derive(Serialize, ToSchema)]
struct NativeError {
    error_type: String,
    message: String,
    request_id: Option<String>,
    #[schema(value_type = Object)]
    details: Value,
}

/// Body of `POST /v1/session/challenge`.
#[derive(Serialize, Deserialize, ToSchema)]
struct ChallengeRequest {
    job_id: String,
}

/// A challenge to be signed as `SessionOpen`.
#[derive(Serialize, ToSchema)]
#[allow(clippy::struct_field_names)] // the doors' own names
struct Challenge {
    job_id: String,
    challenge: String,
    expires_at: u64,
    chain_id: u64,
    marketplace: String,
}

/// Body of `POST /v1/session`.
#[derive(Serialize, Deserialize, ToSchema)]
struct OpenRequest {
    job_id: String,
    challenge: String,
    expires_at: u64,
    /// The depositor's, 65 bytes in hexadecimal digits.
    signature: String,
    /// The salt the job was funded with.
    salt: Option<String>,
}

/// What to quote for; `model` by name or `model_digest`.
#[derive(Serialize, Deserialize, ToSchema)]
struct QuoteRequest {
    model_digest: Option<String>,
    model: Option<String>,
    token: String,
    expected_rate: Option<u32>,
    voucher_allowance: Option<u64>,
}

/// A countersigned running total.
#[derive(Serialize, Deserialize, ToSchema)]
struct VoucherRequest {
    tokens: u64,
    signature: String,
}

/// Answer of `GET /ready`.
#[derive(Serialize, ToSchema)]
struct Ready {
    ready: bool,
    checks: Vec<Check>,
}

/// The paths. Each function only carries its documentation; the doors themselves take the body as it comes, to name every mistake.
mod paths {
    #![allow(dead_code, clippy::unused_async)]
    use super::{
        BuildInfo, Challenge, ChallengeRequest, InferenceAnswer, InferenceRequest, NativeError, OpenRequest, QuoteRequest, Ready,
        VoucherRequest,
    };

    /// Generates. `stream: true` answers as server-sent events.
    #[utoipa::path(post, path = "/v1/inference", request_body = InferenceRequest, responses(
        (status = 200, body = InferenceAnswer), (status = 400, body = NativeError), (status = 401, body = NativeError),
        (status = 402, body = NativeError), (status = 403, body = NativeError), (status = 404, body = NativeError),
        (status = 409, body = NativeError), (status = 413, body = NativeError), (status = 422, body = NativeError), (status = 429, body = NativeError),
        (status = 503, body = NativeError)), security((), ("session" = [])))]
    fn inference() {}

    /// As OpenAI's; the session token is the API key.
    #[utoipa::path(post, path = "/v1/chat/completions", request_body = Object, responses((status = 200, body = Object)), security((), ("session" = [])))]
    fn chat() {}

    /// As OpenAI's.
    #[utoipa::path(post, path = "/v1/completions", request_body = Object, responses((status = 200, body = Object)), security((), ("session" = [])))]
    fn completions() {}

    /// WebSocket; see DOORS.md for its frames.
    #[utoipa::path(get, path = "/v1/ws", responses((status = 101, description = "upgraded")))]
    fn ws() {}

    /// Models served.
    #[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Object)))]
    fn models() {}

    /// What this host offers before a session is funded, signed.
    #[utoipa::path(post, path = "/v1/quote", request_body = QuoteRequest, responses((status = 200, body = Object), (status = 400, body = NativeError), (status = 404, body = NativeError), (status = 429, body = NativeError), (status = 503, body = NativeError)))]
    fn quote() {}

    /// Begins opening a session.
    #[utoipa::path(post, path = "/v1/session/challenge", request_body = ChallengeRequest, responses((status = 200, body = Challenge), (status = 403, body = NativeError), (status = 404, body = NativeError), (status = 422, body = NativeError), (status = 503, body = NativeError)))]
    fn challenge() {}

    /// Opens a session; answers with its token.
    #[utoipa::path(post, path = "/v1/session", request_body = OpenRequest, responses((status = 200, body = Object), (status = 401, body = NativeError), (status = 403, body = NativeError), (status = 422, body = NativeError), (status = 503, body = NativeError)))]
    fn open() {}

    /// Takes a voucher.
    #[utoipa::path(post, path = "/v1/session/voucher", request_body = VoucherRequest, responses((status = 200, body = Object), (status = 400, body = NativeError)), security(("session" = [])))]
    fn voucher() {}

    /// Ends the session.
    #[utoipa::path(post, path = "/v1/session/close", responses((status = 200, body = Object), (status = 401, body = NativeError)), security(("session" = [])))]
    fn close() {}

    /// Proves the host's key.
    #[utoipa::path(post, path = "/v1/auth/challenge", request_body = Object, responses((status = 200, body = Object)))]
    fn auth() {}

    /// A job's positions and claims.
    #[utoipa::path(get, path = "/v1/jobs/{job}", params(("job" = String, Path)), responses((status = 200, body = Object), (status = 404, body = NativeError)))]
    fn job() {}

    /// A job's checkpoints.
    #[utoipa::path(get, path = "/v1/jobs/{job}/checkpoints", params(("job" = String, Path), ("from" = Option<u64>, Query), ("limit" = Option<u64>, Query)), responses((status = 200, body = Object), (status = 404, body = NativeError)))]
    fn checkpoints() {}

    /// The same, under the known node's path.
    #[utoipa::path(get, path = "/v1/checkpoints/{session}", params(("session" = String, Path)), responses((status = 200, body = Object), (status = 404, body = NativeError)))]
    fn session_checkpoints() {}

    /// A claim's proof bundle: to anybody what is public, to the session of the job's depositor also token ids and turns.
    #[utoipa::path(get, path = "/v1/proofs/{claim}", params(("claim" = String, Path, description = "job-first-plan, as in 163-200-0"), ("salt" = Option<String>, Query, description = "include: the salt too, for the depositor's session")), responses((status = 200, content_type = "application/octet-stream"), (status = 401, body = NativeError), (status = 404, body = NativeError)))]
    fn proof() {}

    /// What a claim names by content id.
    #[utoipa::path(get, path = "/ipfs/{id}", params(("id" = String, Path, description = "a content id, bafkrei…")), responses((status = 200, content_type = "application/vnd.ipld.raw"), (status = 404, body = NativeError)))]
    fn content() {}

    /// The receipt of a claim's proof alone.
    #[utoipa::path(get, path = "/v1/proofs/{claim}/receipt", params(("claim" = String, Path, description = "job-first-plan, as in 163-200-0")), responses((status = 200, content_type = "application/octet-stream"), (status = 404, body = NativeError)))]
    fn receipt() {}

    /// Live.
    #[utoipa::path(get, path = "/health", responses((status = 200, body = Object), (status = 503, body = Object)))]
    fn health() {}

    /// Live, under the known node's path.
    #[utoipa::path(get, path = "/v1/health", responses((status = 200, body = Object), (status = 503, body = Object)))]
    fn health_v1() {}

    /// Can it earn.
    #[utoipa::path(get, path = "/ready", responses((status = 200, body = Ready), (status = 503, body = Ready)))]
    fn ready() {}

    /// Which code runs.
    #[utoipa::path(get, path = "/v1/version", responses((status = 200, body = BuildInfo)))]
    fn version() {}

    /// Prometheus.
    #[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain")))]
    fn metrics() {}
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Milepost", description = "Paid, provable LLM inference: every token metered, sealed and claimed once."),
    paths(
        paths::inference, paths::chat, paths::completions, paths::ws, paths::models, paths::quote, paths::challenge, paths::open, paths::voucher,
        paths::close, paths::auth, paths::job, paths::checkpoints, paths::session_checkpoints, paths::proof, paths::receipt, paths::content, paths::health, paths::health_v1,
        paths::ready, paths::version, paths::metrics
    ),
    components(schemas(Seal, Receipt)),
    modifiers(&SessionToken)
)]
struct Document;

struct SessionToken;

impl utoipa::Modify for SessionToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        openapi.components.get_or_insert_default().add_security_scheme("session", scheme);
    }
}

pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
