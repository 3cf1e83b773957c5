//! JSON-RPC over HTTP: two questions, bounded answers, and the many words for one failure.

use std::time::Duration;

use finality_gadget::{BlockHash, BlockNumber, ChainId};
use serde_json::{Value, json};

use crate::Error;

/// Longest answer in bytes. A block with hashes of 50,000 transactions has 4 MB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Characters of an endpoint's words that are kept.
const MAX_WORDS: usize = 200;

/// What matters of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: BlockNumber,
    pub(crate) hash: BlockHash,
    pub(crate) parent: BlockHash,
}

/// Which block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Number(BlockNumber),
    Tag(&'static str),
}

pub(crate) struct Rpc {
    client: reqwest::Client,
    url: reqwest::Url,
}

impl Rpc {
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Error> {
        // The HTTP client is built without a TLS provider of its own. An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url: reqwest::Url = url.parse().map_err(|_| Error::Options("the URL is none".to_owned()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Options(format!("the URL must begin with http:// or https://, not {}://", url.scheme())));
        }
        let client = reqwest::Client::builder().timeout(timeout).connect_timeout(timeout).build();
        Ok(Self { client: client.map_err(|error| Error::Options(error.without_url().to_string()))?, url })
    }

    pub(crate) async fn chain_id(&self) -> Result<ChainId, Error> {
        let answer = self.ask("eth_chainId", &json!([])).await?;
        quantity(&answer).map(ChainId).ok_or_else(|| nonsense("a chain id", &answer))
    }

    /// A block; `None` where there is none. A tag that names nothing is [`Error::NoTag`], however the client says it.
    pub(crate) async fn block(&self, which: Which) -> Result<Option<Block>, Error> {
        let name = match which {
            Which::Number(number) => format!("{:#x}", number.0),
            Which::Tag(tag) => tag.to_owned(),
        };
        let answer = match (self.ask("eth_getBlockByNumber", &json!([name, false])).await, which) {
            (Ok(Value::Null), Which::Tag(tag)) => return Err(Error::NoTag { tag, words: "null".to_owned() }),
            (Ok(Value::Null), Which::Number(_)) => return Ok(None),
            (Err(Error::Refused { code, words }), Which::Tag(tag)) if no_tag(code, &words) => return Err(Error::NoTag { tag, words }),
            (Err(Error::Refused { code, words }), Which::Number(_)) if no_block(code, &words) => return Ok(None),
            (answer, _) => answer?,
        };
        let block = block(&answer).ok_or_else(|| nonsense("a block", &answer))?;
        match which {
            Which::Number(number) if block.number != number => {
                Err(Error::Nonsense(format!("asked for block {number}, answered with block {}", block.number)))
            }
            _ => Ok(Some(block)),
        }
    }

    async fn ask(&self, method: &str, params: &Value) -> Result<Value, Error> {
        let unreachable = |error: reqwest::Error| Error::Unreachable(chain_of_causes(&error.without_url()));
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.client.post(self.url.clone()).header("content-type", "application/json").body(body);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Nonsense(format!("an answer of more than {MAX_ANSWER} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        // Some endpoints send a JSON-RPC error under an HTTP error; the former says more.
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(mut answer)) if answer.get("error").is_some_and(|error| !error.is_null()) => {
                Err(refused(&answer["error"].take()))
            }
            Ok(Value::Object(mut answer)) if status.is_success() && answer.contains_key("result") => Ok(answer["result"].take()),
            _ if status.as_u16() == 429 => Err(Error::Limited("HTTP 429".to_owned())),
            _ if !status.is_success() => Err(Error::Unreachable(format!("HTTP {}", status.as_u16()))),
            _ => Err(Error::Nonsense("not a JSON-RPC answer".to_owned())),
        }
    }
}

/// An HTTP client's error says little; its causes say more.
fn chain_of_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        words = format!("{words}: {source}");
        cause = source.source();
    }
    cut(&words)
}

fn cut(words: &str) -> String {
    words.chars().take(MAX_WORDS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn nonsense(wanted: &str, answer: &Value) -> Error {
    Error::Nonsense(cut(&format!("wanted {wanted}, got {answer}")))
}

fn refused(error: &Value) -> Error {
    let code = error["code"].as_i64().unwrap_or_default();
    let words = cut(error["message"].as_str().unwrap_or("without a message"));
    let lower = words.to_lowercase();
    let limited = ["rate limit", "too many requests", "request limit", "limit exceeded", "compute units", "quota"];
    if code == -32005 || code == 429 || limited.iter().any(|limited| lower.contains(limited)) {
        Error::Limited(words)
    } else {
        Error::Refused { code, words }
    }
}

/// Whether an error says that a tag names no block. What clients say before there is one, and what those say that never have one:
/// go-ethereum -32000 "finalized block not found" and, before it knew tags, -32602 "hex string without 0x prefix"; Besu and Erigon
/// -39001 "Unknown block"; later Erigon "block "finalized" not available"; others "not supported" in some form. Reth and Nethermind
/// answer null.
fn no_tag(code: i64, words: &str) -> bool {
    let words = words.to_lowercase();
    let said = [
        "not found",
        "unknown block",
        "not available",
        "not supported",
        "unsupported",
        "not a supported",
        "invalid block",
        "without 0x prefix",
    ];
    code == -39001 || code == -32001 || said.iter().any(|said| words.contains(said))
}

/// Whether an error says that there is no block of a number, for which most clients answer null.
fn no_block(code: i64, words: &str) -> bool {
    let words = words.to_lowercase();
    let said =
        ["block not found", "unknown block", "header not found", "requested a future", "greater than latest", "after last accepted block"];
    code == -39001 || said.iter().any(|said| words.contains(said))
}

fn quantity(value: &Value) -> Option<u64> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, 16).ok() }
}

fn hash(value: &Value) -> Option<BlockHash> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(BlockHash(hash))
}

fn block(value: &Value) -> Option<Block> {
    let (number, own, parent) = (quantity(&value["number"])?, hash(&value["hash"])?, hash(&value["parentHash"])?);
    Some(Block { number: BlockNumber(number), hash: own, parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clients_words_for_a_tag_without_a_block_are_understood() {
        for (code, words) in [
            (-32000, "finalized block not found"),
            (-32000, "safe block not found"),
            (-39001, "Unknown block"),
            (-39001, ""),
            (-32000, "block \"finalized\" not available (head block: 21459236)"),
            (-32602, "unsupported block tag: finalized"),
            (-32602, "TAG finalized not supported"),
            (-32602, "invalid argument 0: hex string without 0x prefix"),
            (-32001, "resource not found"),
        ] {
            assert!(no_tag(code, words), "{code} {words:?}");
        }
        for (code, words) in
            [(-32603, "internal error"), (-32000, "missing trie node"), (-32700, "parse error"), (-32601, "method does not exist")]
        {
            assert!(!no_tag(code, words), "{code} {words:?}");
        }
    }

    #[test]
    fn limits_are_told_from_refusals() {
        for error in [
            json!({ "code": -32005, "message": "daily request count exceeded" }),
            json!({ "code": 429, "message": "slow down" }),
            json!({ "code": -32000, "message": "Too Many Requests" }),
            json!({ "code": -32016, "message": "over rate limit" }),
        ] {
            assert!(matches!(refused(&error), Error::Limited(_)), "{error}");
        }
        assert!(matches!(refused(&json!({ "code": -32603, "message": "internal" })), Error::Refused { code: -32603, .. }));
        assert!(matches!(refused(&json!("no object at all")), Error::Refused { code: 0, .. }));
    }

    #[test]
    fn a_block_is_one_only_with_number_hash_and_parent() {
        let whole =
            json!({ "number": "0x10", "hash": format!("0x{}", "ab".repeat(32)), "parentHash": format!("0x{}", "cd".repeat(32)), "x": 1 });
        let expected = Block { number: BlockNumber(16), hash: BlockHash([0xab; 32]), parent: BlockHash([0xcd; 32]) };
        assert_eq!(block(&whole), Some(expected));
        for (field, wrong) in [
            ("number", json!("16")),
            ("number", json!(16)),
            ("number", json!("0x")),
            ("number", json!("0x+1")),
            ("hash", json!("0xab")),
            ("hash", json!(null)),
            ("parentHash", json!(format!("0x{}", "+d".repeat(32)))),
        ] {
            let mut broken = whole.clone();
            broken[field] = wrong;
            assert_eq!(block(&broken), None, "{broken}");
        }
    }
}
