//! What is known of each peer, shared by the parts that dial, listen and report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use finality_gadget::network::Hello;
use finality_gadget::{Schedule, ValidatorId};
use tokio::sync::Notify;

use crate::dial::Failure;
use crate::guard::{Connection, Gate};
use crate::inbox::{self, Door};
use crate::limits::{ARRIVALS, Limits};
use crate::outbox::Outbox;
use crate::refusal::Refusal;
use milepost_pinned_tls::Pin;

/// Another validator, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub validator: ValidatorId,
    /// Where it listens, as `host:port`. A name is looked up at each attempt.
    pub address: String,
    /// Its key.
    pub pin: Pin,
}

/// How one peer is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its number.
    pub validator: ValidatorId,
    /// Where it is dialled.
    pub address: String,
    /// Whether our messages reach it.
    pub reached: bool,
    /// Whether it sends to us.
    pub heard: bool,
    /// Why it could last not be reached; stays after it was reached again.
    pub failure: Option<Failure>,
    /// Why it was last refused when it dialled.
    pub refused: Option<Refusal>,
    /// Messages handed to its stream.
    pub sent: u64,
    /// Messages received from it.
    pub received: u64,
    /// Messages dropped because it did not take them.
    pub dropped: u64,
    /// Bytes that wait for it.
    pub waiting: usize,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct PeerState {
    pub(crate) peer: Peer,
    pub(crate) outbox: Outbox,
    pub(crate) door: Door,
    /// Bytes of all its connections.
    pub(crate) bytes: Arc<Gate>,
    /// Its messages.
    pub(crate) messages: Arc<Gate>,
    /// Its connections.
    pub(crate) arrivals: Arc<Gate>,
    /// Told when the peer was heard of, which is a good moment to dial.
    pub(crate) heard_of: Notify,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    reached: AtomicBool,
    accepted: Mutex<Option<Arc<Connection>>>,
    hears: AtomicU64,
    last: Mutex<(Option<Failure>, Option<Refusal>)>,
}

impl PeerState {
    fn new(peer: Peer, limits: &Limits, inbox: Arc<inbox::Shared>, now: Instant) -> Self {
        Self {
            outbox: Outbox::new(limits.outbox_bytes),
            door: Door::new(peer.validator, limits.inbox_bytes, inbox),
            bytes: Gate::new(limits.bytes, now),
            messages: Gate::new(limits.messages, now),
            arrivals: Gate::new(ARRIVALS, now),
            heard_of: Notify::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            accepted: Mutex::new(None),
            hears: AtomicU64::new(0),
            last: Mutex::new((None, None)),
            peer,
        }
    }

    /// Takes a new connection in; the one before it is told to go.
    pub(crate) fn accept(&self, connection: Arc<Connection>) {
        let before = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).replace(connection);
        if let Some(before) = before {
            before.dismiss(Refusal::replaced());
        }
    }

    /// Tells the peer's connection to go.
    pub(crate) fn dismiss(&self, reason: Refusal) {
        if let Some(connection) = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            connection.dismiss(reason);
        }
    }

    /// A stream of the peer is listened to for as long as the answer lives.
    pub(crate) fn hears(self: &Arc<Self>) -> Hearing {
        self.hears.fetch_add(1, Ordering::Relaxed);
        Hearing(Arc::clone(self))
    }

    pub(crate) fn set_reached(&self, reached: bool) {
        self.reached.store(reached, Ordering::Relaxed);
    }

    /// Keeps the reason of a failed attempt; whether it is another one than last time.
    pub(crate) fn failed(&self, failure: &Failure) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.0.replace(failure.clone()).as_ref() != Some(failure)
    }

    /// Keeps the reason of a refusal; whether it is another one than last time.
    pub(crate) fn refused(&self, refusal: &Refusal) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.1.replace(refusal.clone()).as_ref() != Some(refusal)
    }

    fn report(&self) -> PeerReport {
        let (waiting, dropped) = self.outbox.report();
        let (failure, refused) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        PeerReport {
            validator: self.peer.validator,
            address: self.peer.address.clone(),
            reached: self.reached.load(Ordering::Relaxed),
            heard: self.hears.load(Ordering::Relaxed) > 0,
            failure,
            refused,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped,
            waiting,
        }
    }
}

/// Counts a stream that is listened to.
#[derive(Debug)]
pub(crate) struct Hearing(Arc<PeerState>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.hears.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everybody, and what we say of ourselves.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) hello: Hello,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) limits: Limits,
    pub(crate) peers: BTreeMap<ValidatorId, Arc<PeerState>>,
    pub(crate) inbox: Arc<inbox::Shared>,
    /// Connections that did not get through the handshake.
    pub(crate) strangers: AtomicU64,
}

impl Directory {
    pub(crate) fn new(me: ValidatorId, schedule: Arc<Schedule>, peers: Vec<Peer>, limits: Limits) -> Self {
        let (inbox, now) = (Arc::new(inbox::Shared::default()), Instant::now());
        let peers =
            peers.into_iter().map(|peer| (peer.validator, Arc::new(PeerState::new(peer, &limits, Arc::clone(&inbox), now)))).collect();
        Self { hello: Hello::of(&schedule, me), schedule, limits, peers, inbox, strangers: AtomicU64::new(0) }
    }

    pub(crate) fn report(&self) -> Vec<PeerReport> {
        self.peers.values().map(|peer| peer.report()).collect()
    }

    /// Checks what somebody with the key of `shown` says of itself.
    pub(crate) fn check(&self, hello: &Hello, shown: ValidatorId) -> Result<(), Refusal> {
        hello.check(&self.schedule)?;
        if hello.validator == shown { Ok(()) } else { Err(Refusal::identity(hello.validator, shown)) }
    }
}
