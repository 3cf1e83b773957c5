//! JSON shapes of the host's doors, as far as the client uses them. Unknown fields are ignored, unknown frames too: a newer host
//! may say more.

use milepost_statement::{Digest, JobId, TokenCount, TokenId, TokenSeq};
use serde::{Deserialize, Serialize};

use crate::transcript::{Checkpoint, SignedReceipt};

/// `POST /v1/session/challenge` answers this.
#[derive(Debug, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) challenge: Digest,
    pub(crate) expires_at: u64,
}

/// `POST /v1/session` answers this.
#[derive(Debug, Deserialize)]
pub(crate) struct Opened {
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) position: Option<TokenSeq>,
}

/// `GET /v1/jobs/{id}/checkpoints` answers this.
#[derive(Debug, Deserialize)]
pub(crate) struct Checkpoints {
    pub(crate) checkpoints: Vec<Checkpoint>,
}

/// What a host sends over `/v1/ws`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerFrame {
    Connected {},
    SessionInitAck {
        #[serde(default)]
        status: Option<String>,
        #[serde(default)]
        position: Option<TokenSeq>,
    },
    StreamChunk(Chunk),
    CheckpointSealed(Checkpoint),
    StreamEnd(StreamEnd),
    Error(HostError),
    Pong {},
    #[serde(other)]
    Unknown,
}

/// A piece of the stream.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk {
    #[serde(default)]
    pub(crate) content: String,
    /// How many tokens; must be the number of ids.
    pub(crate) tokens: TokenCount,
    #[serde(default)]
    pub(crate) token_ids: Vec<TokenId>,
    /// Position of the first of them in the job's transcript.
    #[serde(default)]
    pub(crate) seq: Option<TokenSeq>,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// The end of a turn.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamEnd {
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
    #[serde(default)]
    pub(crate) tokens_used: Option<TokenCount>,
    #[serde(default)]
    pub(crate) receipt: Option<SignedReceipt>,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// The host's refusal over WebSocket.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HostError {
    #[serde(default)]
    pub(crate) code: Option<String>,
    #[serde(default, alias = "error")]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// What the client sends over `/v1/ws`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ClientFrame<'a> {
    SessionInit {
        id: &'a str,
        // Job numbers travel as text: a JavaScript number ends at 2^53.
        job_id: String,
        session_id: String,
        chain_id: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
    },
    Inference {
        id: &'a str,
        request: InferenceRequest<'a>,
    },
    StreamCancel {
        id: &'a str,
    },
    Ack {
        /// Position after the last token stored.
        seq: TokenSeq,
    },
    Voucher {
        tokens: TokenCount,
        signature: String,
    },
}

/// The request inside an `inference` frame.
#[derive(Debug, Serialize)]
pub(crate) struct InferenceRequest<'a> {
    pub(crate) model: &'a str,
    pub(crate) prompt: &'a str,
    pub(crate) max_tokens: u32,
    pub(crate) temperature: f32,
    pub(crate) stream: bool,
    pub(crate) request_id: &'a str,
    #[serde(skip_serializing_if = "<[crate::session::Message]>::is_empty")]
    pub(crate) conversation_context: &'a [crate::session::Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume_from: Option<TokenSeq>,
}

/// A job as text, for path and query.
pub(crate) fn job_text(job: JobId) -> String {
    job.0.to_string()
}

/// Bytes as `0x…`, absent as absent.
pub(crate) mod optional_hex {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option)] // serde's `with` hands the field by reference
    pub(crate) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_str(&format!("0x{}", hex::encode(bytes))),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        match Option::<String>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) => hex::decode(text.strip_prefix("0x").unwrap_or(&text)).map(Some).map_err(serde::de::Error::custom),
        }
    }
}

/// A salt as `0x…`.
pub(crate) mod salt_hex {
    use milepost_statement::{Digest, Salt};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(salt: &Salt, serializer: S) -> Result<S::Ok, S::Error> {
        Digest(salt.0).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Salt, D::Error> {
        Digest::deserialize(deserializer).map(|digest| Salt(digest.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientFrame, ServerFrame};
    use milepost_statement::{TokenCount, TokenSeq};

    #[test]
    fn a_chunk_carries_ids_count_and_position() {
        let text = r#"{"type":"stream_chunk","content":"Hi","tokens":2,"token_ids":[5,6],"seq":100,"id":"r","new_field":1}"#;
        let ServerFrame::StreamChunk(chunk) = serde_json::from_str(text).expect("a chunk") else { panic!("not a chunk") };
        assert_eq!((chunk.tokens, chunk.token_ids, chunk.seq), (TokenCount(2), vec![5, 6], Some(TokenSeq(100))));
    }

    #[test]
    fn frames_of_a_newer_host_are_no_error() {
        assert!(matches!(serde_json::from_str(r#"{"type":"rate_hint","x":1}"#), Ok(ServerFrame::Unknown)));
        assert!(matches!(serde_json::from_str(r#"{"type":"pong","t":1}"#), Ok(ServerFrame::Pong {})));
    }

    #[test]
    fn both_forms_of_an_error_are_read() {
        for text in [r#"{"type":"error","error":"no"}"#, r#"{"type":"error","code":"X","message":"no"}"#] {
            let Ok(ServerFrame::Error(error)) = serde_json::from_str(text) else { panic!("{text} is an error") };
            assert_eq!(error.message, "no");
        }
    }

    #[test]
    fn job_numbers_travel_as_text() {
        let frame = ClientFrame::SessionInit { id: "a", job_id: "163".into(), session_id: "163".into(), chain_id: 31337, token: None };
        let text = serde_json::to_string(&frame).expect("serialises");
        assert_eq!(text, r#"{"type":"session_init","id":"a","job_id":"163","session_id":"163","chain_id":31337}"#);
    }
}
