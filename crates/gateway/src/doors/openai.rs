//! `POST /v1/chat/completions` and `POST /v1/completions`, plain and streaming, as the public OpenAI clients expect them.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::native::{Events, event_stream};
use super::{Failure, Shared, bearer, check_chain, idempotency_key, is_retry, mark, read_object, shape};
use crate::error::Error;
use crate::fields::{self, Object};
use crate::host::Host;
use crate::receipt::Seal;
use crate::request::{Caller, Door, GenerateRequest, session_of};
use crate::turn::reader::{Acks, TurnEvent, TurnStream};
use crate::turn::{Ended, Started};

pub(crate) async fn chat(state: Shared, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    serve(state, headers, body, Kind::Chat).await
}

pub(crate) async fn completions(state: Shared, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    serve(state, headers, body, Kind::Text).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Text,
}

async fn serve(State(host): Shared, headers: HeaderMap, body: Body, kind: Kind) -> Result<Response, Failure> {
    let object = read_object(&host, body).await.map_err(Failure::openai)?;
    let key = fields::request_id(&object, idempotency_key(&headers)).ok().flatten();
    answer(host, &headers, &object, kind).await.map_err(|error| Failure::openai_of(&error, key.as_deref()))
}

async fn answer(host: Arc<Host>, headers: &HeaderMap, object: &Object, kind: Kind) -> Result<Response, Error> {
    check_chain(&host, object)?;
    let key = idempotency_key(headers);
    let (door, request) = match kind {
        Kind::Chat => (Door::Chat, GenerateRequest::chat(object, key, &host.config)?),
        Kind::Text => (Door::Completions, GenerateRequest::completion(object, key, &host.config)?),
    };
    let request = GenerateRequest { retry: is_retry(headers), ..request };
    let streaming = fields::boolean(object, "stream")?.unwrap_or(false);
    let usage = match fields::get(object, "stream_options") {
        Some(Value::Object(options)) => fields::boolean(options, "include_usage")?.unwrap_or(false),
        Some(other) => return Err(fields::bad("stream_options", other, "an object {include_usage}")),
        None => false,
    };
    let caller = Caller { door, session: session_of(object)?, token: bearer(headers), salt: fields::salt(object)? };
    let created = host.now().0;
    let mut stream = host.generate(caller, request, Acks::ByReading).await?;
    let (id, replayed) = (stream.started().request_id.clone(), stream.is_replayed());
    let frame = Frame { kind, created, model: stream.started().model.clone(), id: format!("{}-{id}", kind.prefix()) };
    let mut response = if streaming {
        let mut ready = VecDeque::new();
        if kind == Kind::Chat {
            let choice = json!({ "index": 0, "delta": { "role": "assistant", "content": "" }, "logprobs": null, "finish_reason": null });
            ready.push_back(shape::sse(&frame.chunk(&[choice], usage, None)));
        }
        event_stream(Chunks { stream, frame, usage, ready, seals: Vec::new(), done: false })
    } else {
        plain(&mut stream, &frame).await?
    };
    mark(response.headers_mut(), &id, replayed);
    Ok(response)
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Text => "cmpl",
        }
    }

    /// A piece of a streamed answer, or its end.
    fn choice(self, text: &str, finish: Option<&str>) -> Value {
        match (self, finish) {
            (Self::Chat, None) => json!({ "index": 0, "delta": { "content": text }, "logprobs": null, "finish_reason": null }),
            (Self::Chat, Some(finish)) => json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": finish }),
            (Self::Text, finish) => json!({ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }),
        }
    }
}

/// What every body and chunk of one answer has in common.
struct Frame {
    kind: Kind,
    created: u64,
    model: String,
    id: String,
}

impl Frame {
    fn chunk(&self, choices: &[Value], usage: bool, milepost: Option<Map<String, Value>>) -> Value {
        let object = if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut out = json!({ "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices });
        if usage {
            out["usage"] = Value::Null;
        }
        if let Some(milepost) = milepost {
            out["milepost"] = Value::Object(milepost);
        }
        out
    }
}

/// The last word of the object beside `choices`.
fn extension(started: &Started, ended: &Ended, seals: &[Seal], replayed: bool) -> Map<String, Value> {
    let mut out = shape::billing(started);
    out.insert("receipt".into(), json!(ended.receipt));
    out.insert("checkpoints".into(), json!(seals));
    out.insert("finish_reason".into(), json!(ended.finish_reason()));
    out.insert("left".into(), json!(ended.left));
    out.insert("replayed".into(), json!(replayed));
    out.insert("seq".into(), json!(ended.end));
    out.insert("token_ids".into(), json!([]));
    out
}

async fn plain(stream: &mut TurnStream, frame: &Frame) -> Result<Response, Error> {
    let (gathered, ended) = shape::gather(stream).await.ok_or(Error::Cancelled)?;
    let started = stream.started();
    if let Some(error) = &ended.error {
        let failure = Failure::openai_of(error, Some(&started.request_id));
        return Ok(failure.with_progress(shape::tokens_used(started, &ended), ended.end.0).into_response());
    }
    let finish = ended.openai_finish_reason();
    let choice = match frame.kind {
        Kind::Chat => json!({
            "index": 0, "message": { "role": "assistant", "content": gathered.text, "refusal": null }, "logprobs": null, "finish_reason": finish,
        }),
        Kind::Text => json!({ "index": 0, "text": gathered.text, "logprobs": null, "finish_reason": finish }),
    };
    let mut milepost = extension(started, &ended, &gathered.seals, stream.is_replayed());
    milepost.insert("seq".into(), json!(gathered.first.unwrap_or(ended.end)));
    milepost.insert("token_ids".into(), json!(gathered.ids));
    let object = if frame.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
    let body = json!({
        "id": frame.id, "object": object, "created": frame.created, "model": frame.model, "choices": [choice],
        "usage": shape::usage(started, &ended), "milepost": milepost,
    });
    Ok(axum::Json(body).into_response())
}

struct Chunks {
    stream: TurnStream,
    frame: Frame,
    usage: bool,
    /// Chunks that are made but not yet sent.
    ready: VecDeque<Bytes>,
    seals: Vec<Seal>,
    done: bool,
}

impl Events for Chunks {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.done {
                return None;
            }
            match self.stream.next().await? {
                TurnEvent::Tokens { seq, ids, text } => {
                    let mut milepost = shape::billing(self.stream.started());
                    milepost.insert("seq".into(), json!(seq));
                    milepost.insert("token_ids".into(), json!(ids));
                    let chunk = self.frame.chunk(&[self.frame.kind.choice(&text, None)], self.usage, Some(milepost));
                    return Some(shape::sse(&chunk));
                }
                TurnEvent::Sealed(record) => self.seals.push(Seal::from(record.as_ref())),
                TurnEvent::Ended(ended) => self.end(&ended),
            }
        }
    }
}

impl Chunks {
    fn end(&mut self, ended: &Ended) {
        self.done = true;
        let started = self.stream.started();
        let milepost = extension(started, ended, &self.seals, self.stream.is_replayed());
        if let Some(error) = &ended.error {
            let mut body = error.openai(Some(&started.request_id));
            body["milepost"] = Value::Object(milepost);
            self.ready.push_back(shape::sse(&body));
        } else {
            let choice = self.frame.kind.choice("", Some(ended.openai_finish_reason()));
            self.ready.push_back(shape::sse(&self.frame.chunk(&[choice], self.usage, Some(milepost))));
            if self.usage {
                let mut last = self.frame.chunk(&[], false, None);
                last["usage"] = shape::usage(started, ended);
                self.ready.push_back(shape::sse(&last));
            }
        }
        self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
    }
}
