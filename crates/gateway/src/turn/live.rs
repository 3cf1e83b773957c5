//! A turn's log: what is durable of it, for any number of readers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use milepost_ledger::{AccountId, CheckpointRecord, Digest, EndReason, TokenId, TokenSeq};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Ended, Started};
use crate::error::Error;
use crate::sync::lock;

/// One durable token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) id: TokenId,
    pub(crate) piece: Vec<u8>,
}

/// A checkpoint that was sealed during the turn, and after how many of the turn's tokens.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) after: usize,
    pub(crate) record: Arc<CheckpointRecord>,
}

/// How far a turn got.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) started: Option<Arc<Started>>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) seals: Vec<Sealed>,
    pub(crate) outcome: Option<Outcome>,
}

/// How a turn ended, or why it never started.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It ran.
    Ended(Arc<Ended>),
    /// It was refused before anything was recorded.
    Refused(Error),
    /// Its id turned out to be answered already: ask again.
    Superseded,
}

/// A turn that is queued, running, or replayed.
#[derive(Debug)]
pub(crate) struct LiveTurn {
    pub(crate) account: AccountId,
    pub(crate) request: String,
    pub(crate) body: Digest,
    log: Mutex<Log>,
    version: watch::Sender<u64>,
    acked: AtomicU64,
    readers: AtomicUsize,
    /// Wakes the running task: something was acknowledged, or the account changed.
    pub(crate) poke: Notify,
    /// The account changed by somebody else's hand.
    dirty: AtomicBool,
    /// Position L of the account as last heard.
    landed: AtomicU64,
    cancelled: CancellationToken,
    reason: OnceLock<EndReason>,
}

impl LiveTurn {
    pub(crate) fn new(account: AccountId, request: String, body: Digest) -> Arc<Self> {
        Self::with_log(account, request, body, Log::default())
    }

    pub(crate) fn with_log(account: AccountId, request: String, body: Digest, log: Log) -> Arc<Self> {
        Arc::new(Self {
            account,
            request,
            body,
            log: Mutex::new(log),
            version: watch::channel(0).0,
            acked: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            poke: Notify::new(),
            dirty: AtomicBool::new(false),
            landed: AtomicU64::new(0),
            cancelled: CancellationToken::new(),
            reason: OnceLock::new(),
        })
    }

    /// Looks at the log.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Log) -> R) -> R {
        look(&lock(&self.log))
    }

    /// Changes the log and wakes its readers.
    pub(crate) fn record(&self, change: impl FnOnce(&mut Log)) {
        change(&mut lock(&self.log));
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn refuse(&self, error: Error) {
        self.record(|log| log.outcome = Some(Outcome::Refused(error)));
    }

    /// Ends a turn whose task is gone without having said how. Does nothing to one that has ended.
    pub(crate) fn abandon(&self) {
        if self.look(|log| log.outcome.is_some()) {
            return;
        }
        let error = Error::Internal { reason: "the task that ran this request is gone; what was delivered stays valid".into() };
        self.record(|log| {
            log.outcome = Some(match &log.started {
                None => Outcome::Refused(error),
                Some(started) => Outcome::Ended(Arc::new(Ended {
                    reason: EndReason::EngineFailed,
                    error: Some(error),
                    end: TokenSeq(started.start.0 + log.tokens.len() as u64),
                    cached: 0,
                    left: None,
                    receipt: None,
                })),
            });
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Tokens of the turn that the client has.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(SeqCst)
    }

    /// The client has the first `count` tokens of the turn. More than was delivered cannot be had.
    pub(crate) fn ack(&self, count: u64) {
        let durable = self.look(|log| log.tokens.len() as u64);
        let count = count.min(durable);
        if self.acked.fetch_max(count, SeqCst) < count {
            self.poke.notify_one();
        }
    }

    /// The account changed by another hand: look at it anew.
    pub(crate) fn account_changed(&self) {
        self.dirty.store(true, SeqCst);
        self.poke.notify_one();
    }

    /// Whether position L of the account has moved since the last call.
    pub(crate) fn landed(&self, position: TokenSeq) -> bool {
        self.landed.swap(position.0, SeqCst) != position.0
    }

    pub(crate) fn take_dirty(&self) -> bool {
        self.dirty.swap(false, SeqCst)
    }

    /// Ends the turn within one step. The first reason stands.
    pub(crate) fn cancel(&self, reason: EndReason) {
        let _ = self.reason.set(reason);
        self.cancelled.cancel();
    }

    /// Resolves with the reason once the turn is cancelled.
    pub(crate) async fn cancelled(&self) -> EndReason {
        self.cancelled.cancelled().await;
        self.reason.get().copied().unwrap_or(EndReason::Cancelled)
    }

    pub(super) fn reader_came(&self) {
        self.readers.fetch_add(1, SeqCst);
    }

    pub(super) fn reader_went(&self) {
        if self.readers.fetch_sub(1, SeqCst) == 1 && self.look(|log| log.outcome.is_none()) {
            self.cancel(EndReason::Disconnected);
        }
    }
}
