//! The OpenAI-style stream: server-sent events, and the chunks in them.

use milepost_statement::{TokenCount, TokenId, TokenSeq};
use serde::Deserialize;

use crate::Error;
use crate::transcript::{Checkpoint, SignedReceipt};

/// Longest event, bytes. A chunk is a few hundred; the bound is against a host that never ends a line.
const MAX_EVENT: usize = 1024 * 1024;

/// Cuts a byte stream into the data of its events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    buffer: Vec<u8>,
    data: String,
}

impl Events {
    /// Takes bytes as they come and answers the events that are whole now.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Error> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = std::str::from_utf8(&line).map_err(|error| protocol(format!("not UTF-8: {error}")))?.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            } // comments, ids and event names mean nothing here
            self.bounded()?;
        }
        self.bounded()?;
        Ok(events)
    }

    fn bounded(&self) -> Result<(), Error> {
        if self.buffer.len() + self.data.len() > MAX_EVENT {
            return Err(protocol(format!("an event longer than {MAX_EVENT} bytes")));
        }
        Ok(())
    }
}

fn protocol(reason: String) -> Error {
    Error::Protocol { what: "event stream", reason }
}

/// One chunk. `milepost` is the host's extension beside OpenAI's fields; official clients ignore it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChatChunk {
    #[serde(default)]
    pub(crate) choices: Vec<Choice>,
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
    #[serde(default)]
    pub(crate) milepost: Option<Extension>,
    #[serde(default)]
    pub(crate) error: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Choice {
    #[serde(default)]
    pub(crate) delta: Delta,
    #[serde(default)]
    pub(crate) text: Option<String>,
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
    #[serde(default)]
    pub(crate) token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Delta {
    #[serde(default)]
    pub(crate) content: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Usage {
    pub(crate) completion_tokens: TokenCount,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Extension {
    #[serde(default)]
    pub(crate) token_ids: Option<Vec<TokenId>>,
    #[serde(default)]
    pub(crate) seq: Option<TokenSeq>,
    #[serde(default)]
    pub(crate) receipt: Option<SignedReceipt>,
    /// The exact reason, where OpenAI's word for it is broader.
    #[serde(default)]
    pub(crate) finish_reason: Option<String>,
    /// Those sealed during the turn, in the last chunk.
    #[serde(default)]
    pub(crate) checkpoints: Vec<Checkpoint>,
}

impl ChatChunk {
    /// Its text.
    pub(crate) fn content(&self) -> &str {
        let Some(choice) = self.choices.first() else { return "" };
        choice.delta.content.as_deref().or(choice.text.as_deref()).unwrap_or("")
    }

    /// Its token ids, from the extension or from the field that vLLM made known.
    pub(crate) fn token_ids(&self) -> Option<&[TokenId]> {
        let extension = self.milepost.as_ref().and_then(|extension| extension.token_ids.as_deref());
        extension.or_else(|| self.choices.first().and_then(|choice| choice.token_ids.as_deref()))
    }

    /// Why the turn ended, if it says so.
    pub(crate) fn finish_reason(&self) -> Option<&str> {
        let exact = self.milepost.as_ref().and_then(|extension| extension.finish_reason.as_deref());
        exact.or_else(|| self.choices.first().and_then(|choice| choice.finish_reason.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatChunk, Events, MAX_EVENT};

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let text = b": hello\nevent: x\ndata: {\"a\":1}\r\n\r\ndata: two\ndata: lines\n\ndata: \xc3\xa9\n\ndata: [DONE]\n\n";
        let whole = Events::default().feed(text).expect("well formed");
        assert_eq!(whole, ["{\"a\":1}", "two\nlines", "é", "[DONE]"]);
        for cut in 0..text.len() {
            let mut events = Events::default();
            let mut got = events.feed(&text[..cut]).expect("well formed");
            got.extend(events.feed(&text[cut..]).expect("well formed"));
            assert_eq!(got, whole, "cut at {cut}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::default();
        assert!(events.feed(b"data: ").is_ok());
        let error = events.feed(&vec![b'x'; MAX_EVENT + 1]).expect_err("too long");
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn ids_come_from_the_extension_or_from_the_choice() {
        let extension: ChatChunk = serde_json::from_str(
            r#"{"object":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"milepost":{"token_ids":[1,2],"seq":7}}"#,
        )
        .expect("a chunk");
        assert_eq!((extension.content(), extension.token_ids()), ("a", Some(&[1, 2][..])));
        let choice: ChatChunk = serde_json::from_str(r#"{"choices":[{"delta":{},"token_ids":[3]}],"usage":null}"#).expect("a chunk");
        assert_eq!(choice.token_ids(), Some(&[3][..]));
        assert_eq!(serde_json::from_str::<ChatChunk>(r#"{"choices":[]}"#).expect("a chunk").token_ids(), None);
    }
}
