//! Answers in the shapes of the native, OpenAI and WebSocket doors, from one turn.

use milepost_ledger::{TokenId, TokenSeq};
use serde_json::{Map, Value, json};

use crate::receipt::Seal;
use crate::turn::reader::{TurnEvent, TurnStream};
use crate::turn::{Ended, Started};

/// What a plain answer gathers.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) text: String,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) seals: Vec<Seal>,
    /// Position of the first token delivered.
    pub(crate) first: Option<TokenSeq>,
}

impl Gathered {
    /// Takes in an event; the end comes back.
    pub(crate) fn take(&mut self, event: TurnEvent) -> Option<std::sync::Arc<Ended>> {
        match event {
            TurnEvent::Tokens { seq, ids, text } => {
                self.first.get_or_insert(seq);
                self.ids.extend(ids);
                self.text.push_str(&text);
                None
            }
            TurnEvent::Sealed(record) => {
                self.seals.push(Seal::from(record.as_ref()));
                None
            }
            TurnEvent::Ended(ended) => Some(ended),
        }
    }
}

/// Reads a turn to its end.
pub(crate) async fn gather(stream: &mut TurnStream) -> Option<(Gathered, std::sync::Arc<Ended>)> {
    let mut gathered = Gathered::default();
    while let Some(event) = stream.next().await {
        if let Some(ended) = gathered.take(event) {
            return Some((gathered, ended));
        }
    }
    None
}

/// Tokens of a turn.
pub(crate) fn tokens_used(started: &Started, ended: &Ended) -> u64 {
    ended.end.since(started.start).map_or(0, |count| count.0)
}

/// `usage` as OpenAI counts it, with the known node's context size.
pub(crate) fn usage(started: &Started, ended: &Ended) -> Value {
    let completion = tokens_used(started, ended);
    let prompt = u64::from(started.prompt_tokens);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "context_window_size": started.context,
        "cached_prompt_tokens": ended.cached,
        "prompt_tokens_details": { "cached_tokens": ended.cached },
    })
}

/// Whose tokens these are, and whether anybody pays.
pub(crate) fn billing(started: &Started) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("request_id".into(), json!(started.request_id));
    out.insert("job_id".into(), json!(started.job.map(|job| job.to_string())));
    out.insert("chain_id".into(), json!(started.chain_id));
    out.insert("billed".into(), json!(started.unbilled.is_none()));
    if let Some(reason) = &started.unbilled {
        out.insert("billed_reason".into(), json!(reason));
    }
    out
}

/// Everything of the native answer but content and ids.
pub(crate) fn closing(started: &Started, ended: &Ended, seals: &[Seal], first: Option<TokenSeq>, replayed: bool) -> Map<String, Value> {
    let mut out = billing(started);
    out.insert("model".into(), json!(started.model));
    out.insert("session_id".into(), json!(started.session));
    out.insert("tokens_used".into(), json!(tokens_used(started, ended)));
    out.insert("finish_reason".into(), json!(ended.finish_reason()));
    out.insert("seq".into(), json!(first.unwrap_or(ended.end)));
    out.insert("usage".into(), usage(started, ended));
    out.insert("receipt".into(), json!(ended.receipt));
    out.insert("checkpoints".into(), json!(seals));
    out.insert("replayed".into(), json!(replayed));
    if let Some(left) = ended.left {
        out.insert("left".into(), json!(left));
    }
    if let Some(error) = &ended.error {
        out.insert("error".into(), error.native(Some(&started.request_id)));
    }
    out
}

/// One event of a server-sent stream.
pub(crate) fn sse(value: &Value) -> axum::body::Bytes {
    format!("data: {value}\n\n").into()
}
