//! How a node and `milepost-prover` talk: frames over the worker's stdin and stdout, or over TLS with one on another machine.
//!
//! A frame is `u32le header length ‖ u32le body length ‖ header ‖ body`; the header is one JSON object with a `type`, the body
//! raw bytes (empty unless said otherwise). stderr is free text for people.
//!
//! ```text
//! worker → node   hello {protocol, version, image_id, kinds}
//! node → worker   prove {id, nice, memory_mb, sealed, journal}   body: the guest's input (docs/statement.md)
//! worker → node   heartbeat {}                       once a second from the greeting on
//! worker → node   executed {id, cycles, po2}         the guest ran and committed the journal asked for
//! worker → node   proven {id, segments}              so many segments are proven
//! worker → node   sealing {id}                       all segments are proven; they are wrapped for the chain's verifier
//! worker → node   done {id, cycles, po2, seconds}    body: the receipt file
//! worker → node   failed {id?, code, message}
//! worker → node   out-of-memory {id, ceiling_mb, enough_mb}   from another machine: its worker needed more than it may have
//! ```
//!
//! The node checks the greeting before it asks. One request at a time; a second `prove` is answered when the first is done.
//! To cancel, the node kills the worker. When stdin ends the worker ends at once, so that no worker outlives its node. A
//! worker started with `RISC0_DEV_MODE` set says `failed {code: "dev-mode"}` instead of `hello` and ends.

use std::io::{self, Read, Write};

use milepost_statement::{Digest, ProofKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of this protocol. Anything that changes a frame's meaning raises it.
pub const PROTOCOL: u32 = 2;
/// Version of the program; node and prover are released together.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often a worker gives a sign of life, in milliseconds.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Most bytes of a frame's header: a list of a few thousand segment sizes.
pub const MAX_HEADER: usize = 64 << 10;
/// Most bytes of a frame's body: the largest receipt file.
pub const MAX_BODY: usize = crate::MAX_RECEIPT_BYTES;
/// The code of `failed` where the proof was made and sealing it failed.
pub const SEALING: &str = "sealing";
/// Most bytes of a request's body, the guest's input: every token of the largest claim in a checkpoint of its own.
#[expect(clippy::cast_possible_truncation, reason = "45 MiB")]
pub const MAX_INPUT: usize = 264 + 44 * crate::MAX_CLAIM_TOKENS as usize;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ToWorker {
    /// Prove a claim; the body is the guest's input.
    Prove {
        /// Echoed in every answer.
        id: u64,
        /// Scheduling priority, 0 (normal) to 19 (lowest).
        nice: u8,
        /// Most private writable memory it may have, in MB: it sets the limit itself before it proves.
        memory_mb: u64,
        /// Whether the proof is to be sealed for the chain's verifier.
        sealed: bool,
        /// The journal to be proven, hexadecimal.
        journal: String,
    },
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromWorker {
    /// The greeting.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The program's version.
        version: String,
        /// Image id of the worker's guest.
        image_id: Digest,
        /// Kinds of proof it can make.
        kinds: Vec<ProofKind>,
    },
    /// A sign of life.
    Heartbeat {},
    /// The guest ran.
    Executed {
        /// The request.
        id: u64,
        /// Cycles the guest used.
        cycles: u64,
        /// Each segment's size as a power of two.
        po2: Vec<u32>,
    },
    /// Some segments are proven.
    Proven {
        /// The request.
        id: u64,
        /// How many of them.
        segments: usize,
    },
    /// All segments are proven, and the sealing begins.
    Sealing {
        /// The request.
        id: u64,
    },
    /// The proof; the body is the receipt file.
    Done {
        /// The request.
        id: u64,
        /// Cycles the guest used.
        cycles: u64,
        /// Each segment's size as a power of two.
        po2: Vec<u32>,
        /// Wall-clock seconds spent.
        seconds: f64,
    },
    /// The request, or the start, failed for good.
    Failed {
        /// The request, if it was about one.
        id: Option<u64>,
        /// A short word.
        code: String,
        /// For people.
        message: String,
    },
    /// A worker ran out of the memory that it may have. Said by a prover on another machine, about a process of its own.
    #[serde(rename = "out-of-memory")]
    OutOfMemory {
        /// The request.
        id: u64,
        /// What it may have, in MB.
        ceiling_mb: u64,
        /// What would be enough, in MB.
        enough_mb: u64,
    },
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, header: &impl Serialize, body: &[u8]) -> io::Result<()> {
    to.write_all(&head(header, body)?)?;
    to.write_all(body)?;
    to.flush()
}

/// Reads one frame; `None` at the end of the stream.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    if from.read(&mut lengths[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[1..])?;
    let (header_len, body_len) = bounds(lengths, MAX_BODY)?;
    let mut header = vec![0; header_len];
    from.read_exact(&mut header)?;
    let mut body = vec![0; body_len];
    from.read_exact(&mut body)?;
    Ok(Some((parse(&header)?, body)))
}

/// Writes one frame.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), header: &impl Serialize, body: &[u8]) -> io::Result<()> {
    to.write_all(&head(header, body)?).await?;
    to.write_all(body).await?;
    to.flush().await
}

/// Reads one frame with a body of at most `max_body` bytes; `None` at the end of the stream.
pub(crate) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin), max_body: usize) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    if from.read(&mut lengths[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut lengths[1..]).await?;
    let (header_len, body_len) = bounds(lengths, max_body)?;
    let mut header = vec![0; header_len];
    from.read_exact(&mut header).await?;
    let header = parse(&header)?;
    // Memory follows what arrives, not what is announced.
    let mut body = Vec::new();
    from.take(body_len as u64).read_to_end(&mut body).await?;
    if body.len() < body_len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((header, body)))
}

/// Lengths and header of a frame.
fn head(header: &impl Serialize, body: &[u8]) -> io::Result<Vec<u8>> {
    let header = serde_json::to_vec(header)?;
    if header.len() > MAX_HEADER || body.len() > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"));
    }
    let length = |len: usize| u32::try_from(len).expect("bounded above").to_le_bytes();
    Ok([&length(header.len())[..], &length(body.len()), &header].concat())
}

/// The two lengths, if a frame may have them.
fn bounds(lengths: [u8; 8], max_body: usize) -> io::Result<(usize, usize)> {
    let length = |at: usize| u32::from_le_bytes(lengths[at..at + 4].try_into().expect("four of eight bytes")) as usize;
    let (header, body) = (length(0), length(4));
    if header == 0 || header > MAX_HEADER || body > max_body {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what it writes is not the protocol's frames"));
    }
    Ok((header, body))
}

fn parse<T: DeserializeOwned>(header: &[u8]) -> io::Result<T> {
    serde_json::from_slice(header).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("unknown message: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was_sent() {
        let message = FromWorker::Done { id: 7, cycles: 9_000, po2: vec![14, 13], seconds: 1.5 };
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &message, b"body").unwrap();
        let mut from = &bytes[..];
        let (header, body) = read_frame::<FromWorker>(&mut from).unwrap().unwrap();
        assert_eq!((header, &body[..]), (message, &b"body"[..]));
        assert!(read_frame::<FromWorker>(&mut from).unwrap().is_none());
    }

    #[test]
    fn text_is_not_taken_for_a_frame() {
        let error = read_frame::<FromWorker>(&mut &b"Hello, I am a web server\n"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &FromWorker::Heartbeat {}, b"").unwrap();
        let error = read_frame::<FromWorker>(&mut &bytes[..bytes.len() - 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
