//! `POST /v1/inference`: plain and as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Failure, Shared, bearer, check_chain, idempotency_key, mark, read_object, shape};
use crate::error::Error;
use crate::fields;
use crate::host::Host;
use crate::receipt::Seal;
use crate::request::{Caller, Door, GenerateRequest, session_of};
use crate::turn::reader::{Acks, TurnEvent, TurnStream};

/// A comment is sent after this long without a token: proxies close silent connections, and a long prompt takes time.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(crate) async fn inference(State(host): Shared, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let object = read_object(&host, body).await.map_err(Failure::native)?;
    let key = fields::request_id(&object, idempotency_key(&headers)).ok().flatten();
    answer(host, &headers, &object).await.map_err(|error| Failure::native_of(&error, key.as_deref()))
}

async fn answer(host: Arc<Host>, headers: &HeaderMap, object: &fields::Object) -> Result<Response, Error> {
    check_chain(&host, object)?;
    let request = GenerateRequest::native(object, idempotency_key(headers), &host.config)?;
    let streaming = fields::boolean(object, "stream")?.unwrap_or(false);
    let caller = Caller { door: Door::Native, session: session_of(object)?, token: bearer(headers), salt: fields::salt(object)? };
    let mut stream = host.generate(caller, request, Acks::ByReading).await?;
    let (id, replayed) = (stream.started().request_id.clone(), stream.is_replayed());
    let mut response = if streaming { streamed(stream) } else { plain(&mut stream).await? };
    mark(response.headers_mut(), &id, replayed);
    Ok(response)
}

async fn plain(stream: &mut TurnStream) -> Result<Response, Error> {
    let (gathered, ended) = shape::gather(stream).await.ok_or(Error::Cancelled)?;
    let started = stream.started();
    if let Some(error) = &ended.error {
        let failure = Failure::native_of(error, Some(&started.request_id));
        return Ok(failure.with_progress(shape::tokens_used(started, &ended), ended.end.0).into_response());
    }
    let mut out = shape::closing(started, &ended, &gathered.seals, gathered.first, stream.is_replayed());
    out.insert("content".into(), json!(gathered.text));
    out.insert("token_ids".into(), json!(gathered.ids));
    Ok(axum::Json(Value::Object(out)).into_response())
}

fn streamed(stream: TurnStream) -> Response {
    event_stream(Sse { stream, seals: Vec::new(), first: None, done: false })
}

/// A body of server-sent events.
pub(crate) fn event_stream(events: impl Events) -> Response {
    let body = futures::stream::unfold(events, |mut events| async move {
        let bytes = match tokio::time::timeout(KEEP_ALIVE, events.next()).await {
            Ok(next) => next?,
            Err(_) => Bytes::from_static(b": keep-alive\n\n"),
        };
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// What a streamed answer is made of. `next` must be cancel safe: it is dropped for every keep-alive.
pub(crate) trait Events: Send + 'static {
    /// The next bytes; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

struct Sse {
    stream: TurnStream,
    seals: Vec<Seal>,
    first: Option<milepost_ledger::TokenSeq>,
    done: bool,
}

impl Events for Sse {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.done {
            match self.stream.next().await? {
                TurnEvent::Tokens { seq, ids, text } => {
                    self.first.get_or_insert(seq);
                    let started = self.stream.started();
                    return Some(shape::sse(&json!({
                        "content": text, "tokens": ids.len(), "finish_reason": null, "token_ids": ids, "seq": seq,
                        "request_id": started.request_id, "job_id": started.job.map(|job| job.to_string()), "chain_id": started.chain_id,
                    })));
                }
                TurnEvent::Sealed(record) => self.seals.push(Seal::from(record.as_ref())),
                TurnEvent::Ended(ended) => {
                    self.done = true;
                    let mut last = shape::closing(self.stream.started(), &ended, &self.seals, self.first, self.stream.is_replayed());
                    last.insert("content".into(), json!(""));
                    last.insert("tokens".into(), json!(0));
                    return Some(shape::sse(&Value::Object(last)));
                }
            }
        }
        None
    }
}
