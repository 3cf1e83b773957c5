//! A host that claims more than it delivers: an honest node behind a door that keeps every tenth token to itself and makes the rest look
//! whole. Exists in tests alone. What the node meters, seals and claims is then more than any client ever held.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{SinkExt, StreamExt};
use milepost_statement::{Address, ChainId, Digest, Domain, JobId, SigningKey, TokenCount, TokenId, TokenSeq, TurnReceipt, open_digest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// Of each run of so many tokens the last is kept back.
const EVERY: u64 = 10;

/// How far it goes to hide it.
#[derive(Clone)]
pub(crate) enum Cover {
    /// The stream is renumbered; the node's own receipt is passed on.
    Stream,
    /// Receipts are written anew over what was delivered, and signed with the host's key.
    Receipts(SigningKey),
}

/// What passed through it.
#[derive(Default)]
pub(crate) struct Seen {
    /// Tokens that the node metered.
    pub(crate) metered: u64,
    /// Tokens delivered.
    pub(crate) delivered: Vec<TokenId>,
    /// The highest voucher.
    pub(crate) voucher: Option<(u64, Vec<u8>)>,
}

#[derive(Clone)]
pub(crate) struct Skimmer {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Skimmer {
    /// Before the node at this port.
    pub(crate) async fn before(port: u16, cover: Cover) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, cover) = (Arc::clone(&shared), cover.clone());
                tokio::spawn(async move { pass(client, target, &seen, &cover).await });
            }
        });
        Self { url, seen }
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Passes requests on as they are. A connection that is used again for the socket's handshake is closed: the client makes another one, which
/// is looked at.
async fn pass_http(client: TcpStream, target: SocketAddr) {
    let Ok(node) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match from_client.read(&mut buffer).await {
                Ok(count) if count > 0 && !buffer[..count].starts_with(b"GET /v1/ws") => {
                    if to_node.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    // Either side's end is the end of both.
    tokio::select! { () = up => {}, _ = tokio::io::copy(&mut from_node, &mut to_client) => {} }
}

async fn pass(client: TcpStream, target: SocketAddr, seen: &Mutex<Seen>, cover: &Cover) {
    let mut head = [0; 10];
    while client.peek(&mut head).await.is_ok_and(|count| count > 0 && count < head.len()) {
        tokio::task::yield_now().await;
    }
    if &head != b"GET /v1/ws" {
        return pass_http(client, target).await;
    }
    let client = tokio_tungstenite::accept_async(client).await.expect("a client's handshake");
    let (node, _) = tokio_tungstenite::connect_async(format!("ws://{target}/v1/ws")).await.expect("the node's door");
    let (mut to_client, mut from_client) = client.split();
    let (mut to_node, mut from_node) = node.split();
    loop {
        tokio::select! {
            frame = from_client.next() => {
                let Some(Ok(Message::Text(text))) = frame else { return };
                let frame: Value = serde_json::from_str(&text).expect("the client's JSON");
                match frame["type"].as_str() {
                    Some("ack") => continue, // it acknowledges itself, below
                    Some("voucher") => keep(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), &frame),
                    _ => {}
                }
                if to_node.send(Message::text(text)).await.is_err() { return }
            }
            frame = from_node.next() => {
                let Some(Ok(message)) = frame else { return };
                let Message::Text(text) = message else { continue };
                let mut frame: Value = serde_json::from_str(&text).expect("the node's JSON");
                let ack = change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), &mut frame, cover);
                if let Some(seq) = ack && to_node.send(Message::text(json!({"type": "ack", "seq": seq}).to_string())).await.is_err() { return }
                if to_client.send(Message::text(frame.to_string())).await.is_err() { return }
            }
        }
    }
}

fn keep(seen: &mut Seen, frame: &Value) {
    let (tokens, signature) = (frame["tokens"].as_u64().expect("a total"), frame["signature"].as_str().expect("a signature"));
    if seen.voucher.as_ref().is_none_or(|(highest, _)| tokens > *highest) {
        seen.voucher = Some((tokens, hex::decode(signature.trim_start_matches("0x")).expect("hexadecimal digits")));
    }
}

/// Skims a frame; answers what the node is to be told is acknowledged.
fn change(seen: &mut Seen, frame: &mut Value, cover: &Cover) -> Option<u64> {
    match frame["type"].as_str() {
        Some("stream_chunk") => {
            let at = frame["seq"].as_u64().expect("a position");
            let ids: Vec<TokenId> = serde_json::from_value(frame["token_ids"].take()).expect("ids");
            let rest: Vec<TokenId> = (at..).zip(&ids).filter(|(seq, _)| seq % EVERY != EVERY - 1).map(|(_, id)| *id).collect();
            frame["seq"] = json!(seen.delivered.len());
            seen.delivered.extend_from_slice(&rest);
            seen.metered = at + ids.len() as u64;
            (frame["tokens"], frame["token_ids"], frame["total"]) = (json!(rest.len()), json!(rest), json!(seen.delivered.len()));
            Some(seen.metered)
        }
        Some("stream_end") => {
            frame["tokens_used"] = json!(seen.delivered.len());
            frame["seq"] = json!(seen.delivered.len());
            if let Cover::Receipts(key) = cover {
                forge(&mut frame["receipt"], &seen.delivered, key);
            }
            None
        }
        _ => None,
    }
}

/// A receipt over what was delivered. Only before the first seal, whose head cannot be forged: it is what the chain will hold.
fn forge(receipt: &mut Value, delivered: &[TokenId], key: &SigningKey) {
    let digest = |name: &str| -> Digest { receipt[name].as_str().expect("a digest").parse().expect("a digest") };
    let marketplace: Address = receipt["marketplace"].as_str().expect("an address").parse().expect("an address");
    let domain = Domain { chain_id: ChainId(receipt["chain_id"].as_u64().expect("a number")), marketplace };
    let (head, job) = (digest("sealed_head"), receipt["job_id"].as_str().expect("text").parse().expect("a number"));
    let forged = TurnReceipt {
        job_id: JobId(job),
        request: digest("request_digest"),
        sealed_head: head,
        sealed_tokens: TokenCount(0),
        open_tokens: TokenCount(delivered.len() as u64),
        open_digest: open_digest(&head, TokenSeq::ZERO, delivered),
    };
    receipt["open_tokens"] = json!(forged.open_tokens);
    receipt["open_digest"] = json!(forged.open_digest);
    receipt["signature"] = json!(format!("0x{}", hex::encode(key.sign(&forged.digest(&domain)))));
}
