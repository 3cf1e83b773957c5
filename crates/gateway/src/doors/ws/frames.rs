//! Frames: reading the client's, building ours.

use axum::extract::ws::Utf8Bytes;
use serde_json::{Map, Value, json};

use crate::config::GatewayConfig;
use crate::error::Error;
use crate::fields::{self, Object};

/// What a client asks.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Kind {
    SessionInit,
    SessionChallenge,
    SessionOpen,
    SessionClose,
    Generate,
    Cancel,
    Ack,
    Voucher,
    Ping,
    Pong,
}

/// A frame as far as it is understood without its door.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) object: Object,
    /// The client's own id, echoed in every reply.
    pub(super) id: Option<Value>,
}

/// Why a frame was not understood, with the id to answer under.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) id: Option<Value>,
}

const KNOWN: &str = "session_init, session_challenge, session_open, session_close, inference, prompt, stream_cancel, ack, voucher, ping";

/// Reads a text frame.
pub(super) fn read(text: &str) -> Result<Frame, Unread> {
    let malformed = |message: String, id| Unread { code: "MALFORMED_FRAME", message, id };
    let object = match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(malformed("a frame is a JSON object with a `type`".into(), None)),
        Err(error) => return Err(malformed(format!("the frame is not valid JSON: {error}"), None)),
    };
    let id = object.get("id").cloned();
    let kind = match object.get("type").and_then(Value::as_str) {
        Some("session_init") => Kind::SessionInit,
        Some("session_challenge") => Kind::SessionChallenge,
        Some("session_open") => Kind::SessionOpen,
        Some("session_close") => Kind::SessionClose,
        Some("inference" | "prompt") => Kind::Generate,
        Some("stream_cancel") => Kind::Cancel,
        Some("ack") => Kind::Ack,
        Some("voucher") => Kind::Voucher,
        Some("ping") => Kind::Ping,
        Some("pong") => Kind::Pong,
        Some(encrypted) if encrypted.starts_with("encrypted_") => {
            let message = format!("{encrypted} is not supported by this host: send session_init and inference over TLS");
            return Err(Unread { code: "ENCRYPTION_NOT_SUPPORTED", message, id });
        }
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            return Err(malformed(format!("there is no frame type {other:?}; known: {KNOWN}"), id));
        }
        None => return Err(malformed(format!("the frame has no `type`; known: {KNOWN}"), id)),
    };
    Ok(Frame { kind, object, id })
}

/// The request in an `inference` or `prompt` frame: the inner object, completed by what clients of the known node put beside it.
pub(super) fn request(frame: &Object, model: Option<&str>, config: &GatewayConfig) -> Result<Object, Error> {
    let mut request = match frame.get("request") {
        Some(Value::Object(inner)) => inner.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(fields::bad("request", other, "an object as POST /v1/inference takes it")),
    };
    let beside = [
        "prompt",
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "request_id",
        "resume_from",
        "conversation_context",
        "job_id",
        "jobId",
        "session_id",
        "sessionId",
        "chain_id",
        "chainId",
    ];
    for name in beside {
        if let (None, Some(value)) = (fields::get(&request, name), fields::get(frame, name)) {
            request.insert(name.to_owned(), value.clone());
        }
    }
    if fields::get(&request, "model").is_none()
        && let Some(model) = model
    {
        request.insert("model".into(), json!(model));
    }
    if fields::get(&request, "max_tokens").is_none() {
        request.insert("max_tokens".into(), json!(config.default_max_tokens));
    }
    Ok(request)
}

/// One of our frames, with the client's id.
pub(super) fn frame(kind: &str, id: Option<&Value>, mut body: Value) -> Utf8Bytes {
    if let Some(object) = body.as_object_mut() {
        object.insert("type".into(), json!(kind));
        if let Some(id) = id {
            object.insert("id".into(), id.clone());
        }
    }
    body.to_string().into()
}

/// An `error` frame. `error` beside `message` is what the oldest clients read.
pub(super) fn error(error: &Error, id: Option<&Value>, request_id: Option<&str>) -> Utf8Bytes {
    let message = error.to_string();
    let mut body = json!({
        "code": error.frame_code(), "message": message, "error": message, "error_type": error.code(), "request_id": request_id,
        "details": error.details(),
    });
    // The figures of this one stand beside the code in the known node's frame.
    if let Error::TokenLimitExceeded { prompt_tokens, context_window_size } = error {
        body["prompt_tokens"] = json!(prompt_tokens);
        body["context_window_size"] = json!(context_window_size);
    }
    frame("error", id, body)
}

pub(super) fn unread(unread: &Unread) -> Utf8Bytes {
    let body = json!({ "code": unread.code, "message": unread.message, "error": unread.message, "details": null });
    frame("error", unread.id.as_ref(), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_frame_is_answered_under_its_id_where_it_has_one() {
        for text in ["", "{", "[]", "7", "\"ping\""] {
            let unread = read(text).expect_err(text);
            assert_eq!((unread.code, unread.id), ("MALFORMED_FRAME", None), "{text}");
        }
        for text in [r#"{"id":7}"#, r#"{"type":"dance","id":7}"#, r#"{"type":1,"id":7}"#] {
            let unread = read(text).expect_err(text);
            assert_eq!((unread.code, unread.id), ("MALFORMED_FRAME", Some(json!(7))), "{text}");
        }
        assert_eq!(read(r#"{"type":"encrypted_message"}"#).expect_err("refused").code, "ENCRYPTION_NOT_SUPPORTED");
    }

    #[test]
    fn what_old_clients_put_beside_the_request_completes_it() {
        let config = GatewayConfig::default();
        let frame = json!({ "type": "prompt", "jobId": "7", "prompt": "outer", "request": { "max_tokens": 5, "prompt": "inner" } });
        let request = request(frame.as_object().expect("object"), Some("m"), &config).expect("good");
        assert_eq!(Value::Object(request), json!({ "jobId": "7", "prompt": "inner", "max_tokens": 5, "model": "m" }));
    }
}
