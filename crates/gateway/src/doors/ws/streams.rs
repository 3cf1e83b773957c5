//! The answers that run on one connection, and the order in which seals are announced on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::extract::ws::{Message, Utf8Bytes};
use milepost_ledger::{AccountId, CheckpointRecord, TokenSeq};
use serde_json::{Value, json};

use super::frames;
use super::outbox::Outbox;
use crate::doors::shape;
use crate::receipt::Seal;
use crate::sync::lock;
use crate::turn::reader::{TurnEvent, TurnHandle, TurnStream};

/// Answers that may run on one connection at a time; an account has one at a time anyway.
pub(super) const MAX_STREAMS: usize = 8;

/// Seals kept back while their account's answer is still being written; one turn rarely ends with more than one.
const MAX_DEFERRED: usize = 64;

/// Answers that run on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Running>,
    /// Number after the last seal announced, by account.
    announced: HashMap<AccountId, u64>,
    /// Frames that wait for their account's answer to end.
    deferred: Vec<Deferred>,
}

#[derive(Debug)]
struct Deferred {
    account: AccountId,
    /// The checkpoint's number, if it is a seal.
    seal: Option<u64>,
    frame: Utf8Bytes,
}

#[derive(Debug)]
struct Running {
    account: AccountId,
    /// `None` until the turn has started.
    handle: Option<TurnHandle>,
    request: Option<String>,
}

impl Streams {
    /// A place for an answer; `None` if as many run as may.
    pub(super) fn enter(&self, account: AccountId, request: Option<String>) -> Option<Place> {
        let mut state = lock(&self.0);
        if state.running.len() >= MAX_STREAMS {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.running.insert(number, Running { account, handle: None, request });
        Some(Place { streams: self.clone(), number, account })
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).running.is_empty()
    }

    /// An explicit acknowledgement, for every answer of the account.
    pub(super) fn ack(&self, account: AccountId, seq: TokenSeq) {
        for running in lock(&self.0).running.values().filter(|running| running.account == account) {
            if let Some(handle) = &running.handle {
                handle.ack(seq);
            }
        }
    }

    /// The client's side has taken what came before a ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        let Some((number, seq)) = read_ping(payload) else { return };
        if let Some(handle) = lock(&self.0).running.get(&number).and_then(|running| running.handle.as_ref()) {
            handle.ack(seq);
        }
    }

    /// Cancels the answers that fit; says how many.
    pub(super) fn cancel(&self, fits: impl Fn(AccountId, Option<&str>) -> bool) -> usize {
        let state = lock(&self.0);
        let found = state.running.values().filter(|running| fits(running.account, running.request.as_deref()));
        found.filter_map(|running| running.handle.as_ref()).map(TurnHandle::cancel).count()
    }

    /// A seal that somebody else's turn, or the session's end, brought about. Waits for the account's own answer on this connection,
    /// whose tokens it may cover.
    pub(super) fn seal(&self, outbox: &Outbox, account: AccountId, record: &CheckpointRecord) {
        let mut state = lock(&self.0);
        let known = state.announced.get(&account).copied().unwrap_or(0);
        if record.number < known {
            return;
        }
        if state.is_running(account) {
            // Those of the running answer itself come in its own stream, in order.
            if state.deferred.len() < MAX_DEFERRED {
                state.deferred.push(Deferred { account, seal: Some(record.number), frame: seal_frame(account, record) });
            }
            return;
        }
        state.announced.insert(account, record.number + 1);
        outbox.data_now(seal_frame(account, record));
    }

    /// A notice that must follow the account's answer on this connection.
    pub(super) fn notice(&self, outbox: &Outbox, account: AccountId, frame: Utf8Bytes) {
        let mut state = lock(&self.0);
        if !state.is_running(account) {
            outbox.data_now(frame);
        } else if state.deferred.len() < MAX_DEFERRED {
            state.deferred.push(Deferred { account, seal: None, frame });
        }
    }
}

impl State {
    fn is_running(&self, account: AccountId) -> bool {
        self.running.values().any(|running| running.account == account)
    }
}

/// One answer's place among a connection's.
pub(super) struct Place {
    streams: Streams,
    number: u64,
    account: AccountId,
}

impl Place {
    /// Writes an answer to its end.
    pub(super) async fn forward(self, outbox: &Outbox, mut stream: TurnStream, id: Option<Value>, pings: Option<u64>) {
        if let Some(running) = lock(&self.streams.0).running.get_mut(&self.number) {
            running.handle = Some(stream.handle());
            running.request = Some(stream.started().request_id.clone());
        }
        let mut since_ping = 0;
        let mut seals = Vec::new();
        let mut first = None;
        while let Some(event) = stream.next().await {
            let started = stream.started();
            let frame = match event {
                TurnEvent::Tokens { seq, ids, text } => {
                    first.get_or_insert(seq);
                    let total = seq.0 + ids.len() as u64;
                    let body = json!({
                        "content": text, "tokens": ids.len(), "token_ids": ids, "seq": seq, "total": total,
                        "request_id": started.request_id, "session_id": started.session,
                    });
                    if !outbox.data(Message::Text(frames::frame("stream_chunk", id.as_ref(), body))).await {
                        return;
                    }
                    since_ping += ids.len() as u64;
                    match pings {
                        Some(every) if since_ping >= every => {
                            since_ping = 0;
                            Message::Ping(write_ping(self.number, TokenSeq(total)).into())
                        }
                        _ => continue,
                    }
                }
                TurnEvent::Sealed(record) => {
                    seals.push(Seal::from(record.as_ref()));
                    let mut state = lock(&self.streams.0);
                    let announced = state.announced.entry(self.account).or_default();
                    *announced = (*announced).max(record.number + 1);
                    Message::Text(seal_frame(self.account, &record))
                }
                TurnEvent::Ended(ended) => {
                    let mut body = shape::closing(started, &ended, &seals, first, stream.is_replayed());
                    body.insert("reason".into(), json!(ended.stream_reason()));
                    body.insert("seq".into(), json!(ended.end));
                    if let Some(error) = &ended.error {
                        let frame = frames::error(error, id.as_ref(), Some(&started.request_id));
                        if !outbox.data(Message::Text(frame)).await {
                            return;
                        }
                    }
                    Message::Text(frames::frame("stream_end", id.as_ref(), Value::Object(body)))
                }
            };
            if !outbox.data(frame).await {
                return;
            }
        }
        let waiting = self.leave();
        for frame in waiting {
            if !outbox.data(Message::Text(frame)).await {
                return;
            }
        }
    }

    /// Gives the place back; what waited for this answer's end comes out, unless the stream itself has announced it since.
    fn leave(self) -> Vec<Utf8Bytes> {
        let mut state = lock(&self.streams.0);
        state.running.remove(&self.number);
        if state.is_running(self.account) {
            return Vec::new();
        }
        let account = self.account;
        let (mine, others): (Vec<_>, Vec<_>) = state.deferred.drain(..).partition(|deferred| deferred.account == account);
        state.deferred = others;
        let mut out = Vec::new();
        for deferred in mine {
            let announced = state.announced.entry(account).or_default();
            match deferred.seal {
                Some(number) if number < *announced => continue,
                Some(number) => *announced = number + 1,
                None => {}
            }
            out.push(deferred.frame);
        }
        out
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.streams.0).running.remove(&self.number);
    }
}

fn seal_frame(account: AccountId, record: &CheckpointRecord) -> Utf8Bytes {
    let mut body = json!(Seal::from(record));
    body["job_id"] = json!(account.job().map(|job| job.to_string()));
    body["session_id"] = json!(account.to_string());
    frames::frame("checkpoint_sealed", None, body)
}

const PING_LEN: usize = 16;

fn write_ping(number: u64, seq: TokenSeq) -> Vec<u8> {
    [number.to_be_bytes(), seq.0.to_be_bytes()].concat()
}

fn read_ping(payload: &[u8]) -> Option<(u64, TokenSeq)> {
    let payload: &[u8; PING_LEN] = payload.try_into().ok()?;
    let word = |at: usize| payload[at..at + 8].try_into().map(u64::from_be_bytes).ok();
    Some((word(0)?, TokenSeq(word(8)?)))
}
