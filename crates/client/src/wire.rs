//! JSON shapes of the host's doors, as far as the client uses them. Unknown fields are ignored, unknown frames too: a newer host
//! may say more.

use milepost_statement::{Digest, JobId, TokenCount, TokenId, TokenSeq, TurnReceipt};
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
    /// Tokens the host has metered for the job.
    #[serde(default)]
    pub(crate) metered: Option<TokenSeq>,
}

/// `GET /v1/jobs/{id}/checkpoints` answers this, a page at a time.
#[derive(Debug, Deserialize)]
pub(crate) struct Checkpoints {
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Number to ask from next, if there are more.
    #[serde(default)]
    pub(crate) next: Option<u64>,
}

/// A receipt as the doors write it; further fields (signer, domain) are not believed and so not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReceiptForm {
    #[serde(with = "job_as_text")]
    job_id: JobId,
    #[serde(alias = "request")]
    request_digest: Digest,
    sealed_head: Digest,
    sealed_tokens: TokenCount,
    open_tokens: TokenCount,
    open_digest: Digest,
    #[serde(default, with = "optional_hex")]
    signature: Option<Vec<u8>>,
}

impl From<ReceiptForm> for SignedReceipt {
    fn from(form: ReceiptForm) -> Self {
        let receipt = TurnReceipt {
            job_id: form.job_id,
            request: form.request_digest,
            sealed_head: form.sealed_head,
            sealed_tokens: form.sealed_tokens,
            open_tokens: form.open_tokens,
            open_digest: form.open_digest,
        };
        Self { receipt, signature: form.signature }
    }
}

impl From<SignedReceipt> for ReceiptForm {
    fn from(signed: SignedReceipt) -> Self {
        let SignedReceipt { receipt, signature } = signed;
        Self {
            job_id: receipt.job_id,
            request_digest: receipt.request,
            sealed_head: receipt.sealed_head,
            sealed_tokens: receipt.sealed_tokens,
            open_tokens: receipt.open_tokens,
            open_digest: receipt.open_digest,
            signature,
        }
    }
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
        metered: Option<TokenSeq>,
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
    /// Those sealed during the turn.
    #[serde(default)]
    pub(crate) checkpoints: Vec<Checkpoint>,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// The host's refusal over WebSocket.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HostError {
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// The oldest hosts send the words as `error`, newer ones send both.
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

impl HostError {
    /// As the client's error.
    pub(crate) fn refusal(self) -> crate::Error {
        let code = self.code.unwrap_or_else(|| "unknown".into());
        crate::Error::Host { status: 0, code, message: self.message.or(self.error).unwrap_or_default() }
    }
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
        /// We acknowledge what is stored; the host's window counts from there.
        acks: bool,
    },
    Inference {
        id: &'a str,
        request: InferenceRequest<'a>,
    },
    StreamCancel {
        request_id: &'a str,
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
    pub(crate) request_id: &'a str,
    /// Absent where an answer is taken up again: its key and position say it all.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) ask: Option<Ask<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resume_from: Option<TokenSeq>,
}

/// What is asked.
#[derive(Debug, Serialize)]
pub(crate) struct Ask<'a> {
    pub(crate) model: &'a str,
    pub(crate) prompt: &'a str,
    pub(crate) max_tokens: u32,
    pub(crate) temperature: f32,
    pub(crate) stream: bool,
    #[serde(skip_serializing_if = "<[crate::session::Message]>::is_empty")]
    pub(crate) conversation_context: &'a [crate::session::Message],
}

/// A job as text, for path and query.
pub(crate) fn job_text(job: JobId) -> String {
    job.0.to_string()
}

/// A job as decimal text, read from a number too.
pub(crate) mod job_as_text {
    use milepost_statement::JobId;
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's `with` hands the field by reference
    pub(crate) fn serialize<S: Serializer>(job: &JobId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(job)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(JobId(number)),
            Form::Text(text) => crate::parse_job(&text).map_err(serde::de::Error::custom),
        }
    }
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
    use super::{ClientFrame, InferenceRequest, ServerFrame};
    use crate::transcript::SignedReceipt;
    use milepost_statement::{JobId, TokenCount, TokenSeq};

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
        for text in [r#"{"type":"error","error":"no"}"#, r#"{"type":"error","code":"X","message":"no","error":"no"}"#] {
            let Ok(ServerFrame::Error(error)) = serde_json::from_str(text) else { panic!("{text} is an error") };
            assert!(error.refusal().to_string().ends_with(": no"));
        }
    }

    #[test]
    fn a_receipt_is_read_as_the_doors_write_it() {
        let digest = "0x2222222222222222222222222222222222222222222222222222222222222222";
        let text = format!(
            r#"{{"job_id":"163","request_id":"r","request_digest":"{digest}","sealed_head":"{digest}","sealed_tokens":100,"open_tokens":3,
            "open_digest":"{digest}","chain_id":31337,"marketplace":"0x1111111111111111111111111111111111111111","signer":null,"signature":null}}"#
        );
        let receipt: SignedReceipt = serde_json::from_str(&text).expect("a receipt");
        assert_eq!((receipt.receipt.job_id, receipt.receipt.open_tokens, &receipt.signature), (JobId(163), TokenCount(3), &None));
        let again = serde_json::to_string(&SignedReceipt { signature: Some(vec![0xab; 65]), ..receipt.clone() }).expect("text");
        let again: SignedReceipt = serde_json::from_str(&again).expect("a receipt");
        assert_eq!((again.receipt, again.signature.map(|bytes| bytes.len())), (receipt.receipt, Some(65)));
    }

    #[test]
    fn a_resumed_request_says_only_where_to_go_on() {
        let request = InferenceRequest { request_id: "r", ask: None, resume_from: Some(TokenSeq(41)) };
        let text = serde_json::to_string(&ClientFrame::Inference { id: "r", request }).expect("serialises");
        assert_eq!(text, r#"{"type":"inference","id":"r","request":{"request_id":"r","resume_from":41}}"#);
    }

    #[test]
    fn job_numbers_travel_as_text() {
        let frame =
            ClientFrame::SessionInit { id: "a", job_id: "163".into(), session_id: "163".into(), chain_id: 31337, token: None, acks: true };
        let text = serde_json::to_string(&frame).expect("serialises");
        assert_eq!(text, r#"{"type":"session_init","id":"a","job_id":"163","session_id":"163","chain_id":31337,"acks":true}"#);
    }
}
