//! The doors: thin shapes over [`Host::generate`]. See `DOORS.md` for what each exchanges.

mod info;
mod native;
mod openai;
mod openapi;
mod proofs;
mod quote;
mod session;
pub(crate) mod shape;
mod ws;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use milepost_ledger::JobId;
use serde_json::Value;
use tower_http::cors::CorsLayer;

use crate::config::AuthMode;
use crate::error::Error;
use crate::fields::{self, Object};
use crate::host::Host;

/// Header under which a request's key travels.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header in which OpenAI's clients count their retries.
const RETRY_COUNT: &str = "x-stainless-retry-count";

/// Every door of the host.
pub fn router(host: Arc<Host>) -> Router {
    let cors = host.config.cors;
    let router = Router::new()
        .route("/v1/inference", post(native::inference))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/ws", get(ws::upgrade))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{model}", get(info::model))
        .route("/v1/quote", post(quote::quote))
        .route("/v1/session/challenge", post(session::challenge))
        .route("/v1/session", post(session::open))
        .route("/v1/session/voucher", post(session::voucher))
        .route("/v1/session/close", post(session::close))
        .route("/v1/auth/challenge", post(session::prove_host_key))
        .route("/v1/jobs/{job}", get(info::job))
        .route("/v1/jobs/{job}/checkpoints", get(info::checkpoints))
        .route("/v1/checkpoints/{session}", get(info::checkpoints))
        .route("/v1/proofs/{claim}", get(proofs::bundle))
        .route("/v1/proofs/{claim}/receipt", get(proofs::receipt))
        .route("/ipfs/{id}", get(info::content))
        .route("/v1/version", get(info::version))
        .route("/v1/health", get(info::health))
        .route("/health", get(info::health))
        .route("/ready", get(info::ready))
        .route("/metrics", get(info::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(host);
    if cors { router.layer(CorsLayer::very_permissive().allow_credentials(false)) } else { router }
}

async fn not_found(uri: Uri) -> Failure {
    Failure::native(Error::NotFound { what: format!("path {}", uri.path()) })
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Failure::native(Error::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned() })
}

/// An error in the shape of its door.
pub(crate) struct Failure {
    status: StatusCode,
    retry_after: Option<u64>,
    body: Value,
}

impl Failure {
    #[allow(clippy::needless_pass_by_value)] // used as `map_err(Failure::native)`
    pub(crate) fn native(error: Error) -> Self {
        Self::native_of(&error, None)
    }

    pub(crate) fn native_of(error: &Error, request_id: Option<&str>) -> Self {
        Self { status: error.status(), retry_after: error.retry_after(), body: error.native(request_id) }
    }

    #[allow(clippy::needless_pass_by_value)]
    pub(crate) fn openai(error: Error) -> Self {
        Self::openai_of(&error, None)
    }

    pub(crate) fn openai_of(error: &Error, request_id: Option<&str>) -> Self {
        Self { status: error.status(), retry_after: error.retry_after(), body: error.openai(request_id) }
    }

    /// Adds what was generated before the failure: it is durable, and can be replayed.
    pub(crate) fn with_progress(mut self, tokens_used: u64, seq: u64) -> Self {
        let progress = serde_json::json!({ "tokens_used": tokens_used, "seq": seq });
        let target = if self.body.get("error").is_some_and(Value::is_object) { self.body.get_mut("error") } else { Some(&mut self.body) };
        if let Some(Value::Object(target)) = target {
            target.insert("progress".to_owned(), progress);
        }
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A body as an object, within the host's limit.
pub(crate) async fn read_object(host: &Host, body: Body) -> Result<Object, Error> {
    let limit = host.config.max_body_bytes;
    let bytes = axum::body::to_bytes(body, limit).await.map_err(|error| {
        // axum wraps the limit's own error; everything else is a body that broke off.
        if is_too_large(&error) { Error::TooLarge { limit } } else { Error::MalformedJson { reason: "the body broke off".into() } }
    })?;
    if bytes.is_empty() { Ok(Object::new()) } else { fields::object(&bytes) }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        source = error.source();
    }
    false
}

/// The key after `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The request's key from its header.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    headers.get(IDEMPOTENCY_KEY)?.to_str().ok()
}

/// Whether an OpenAI client sends this again by itself.
pub(crate) fn is_retry(headers: &HeaderMap) -> bool {
    headers.get(RETRY_COUNT).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u32>().ok()).is_some_and(|count| count > 0)
}

/// A `chain_id` that is not this host's is a mistake that would otherwise spend the wrong job.
pub(crate) fn check_chain(host: &Host, object: &Object) -> Result<(), Error> {
    let value = fields::get(object, "chain_id").or_else(|| fields::get(object, "chainId"));
    let Some(value) = value else { return Ok(()) };
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    match number {
        Some(number) if host.config.chain_id == 0 || number == host.config.chain_id => Ok(()),
        Some(_) => Err(fields::bad("chain_id", value, &format!("{}, the chain of this host", host.config.chain_id))),
        None => Err(fields::bad("chain_id", value, "a chain id, as a number or as text")),
    }
}

/// Marks an answer with its request's id, and whether it was given before.
pub(crate) fn mark(headers: &mut HeaderMap, request_id: &str, replayed: bool) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", value);
    }
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
}

impl Host {
    /// Whether what was said in a job may be shown to whoever sends these headers: to its depositor's session, and on hosts that
    /// anybody may use, to anybody. Naming a job is not enough.
    pub(crate) fn opens_to(&self, headers: &HeaderMap, job: JobId) -> Result<bool, Error> {
        let grant = match bearer(headers) {
            Some(token) => self.keys.grant(&token, self.now())?,
            None => None,
        };
        Ok(self.auth == AuthMode::Open || grant.is_some_and(|grant| grant.job == job))
    }
}

type Shared = State<Arc<Host>>;
