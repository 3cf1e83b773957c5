//! What the doors know of an account beside its ledger: who is connected, who waits, how much prefill it cost.
//!
//! All of it is in memory. What a restart loses here costs nobody money: counters of free work begin anew, and idle times run
//! from the restart.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost_ledger::{AccountId, CheckpointRecord, UnixSeconds};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::config::GatewayConfig;
use crate::error::Error;
use crate::sync::lock;

/// Notices a socket may lag behind before it must look the missed ones up. Seals come once per hundred tokens.
const NOTICES: usize = 64;

/// What every socket of an account is told.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// A checkpoint was sealed.
    Sealed(Arc<CheckpointRecord>),
    /// No further tokens will come.
    Ended(&'static str),
}

/// An account that clients are using.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: AccountId,
    /// One generating request at a time.
    slot: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
    told_end: AtomicBool,
    notices: broadcast::Sender<Notice>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The depositor opened it, so that idleness may end it.
    by_depositor: bool,
    sockets: usize,
    /// When the last socket closed.
    abandoned: Option<UnixSeconds>,
    seen: UnixSeconds,
    /// Prompt tokens that had to be evaluated, since the host started.
    uncached: u64,
}

/// Why a session is over without anybody having said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// In use.
    No,
    /// The grace after the last socket, or the idle time, is over.
    Yes,
}

impl Session {
    pub(crate) fn new(id: AccountId, now: UnixSeconds) -> Arc<Self> {
        Arc::new(Self {
            id,
            slot: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State { by_depositor: false, sockets: 0, abandoned: None, seen: now, uncached: 0 }),
            told_end: AtomicBool::new(false),
            notices: broadcast::channel(NOTICES).0,
        })
    }

    /// Waits for the account's turn, for a bounded time behind a bounded number of others.
    pub(crate) async fn enter(&self, config: &GatewayConfig) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(permit) = Arc::clone(&self.slot).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || Error::Busy { account: self.id, retry_after: config.turn_wait_seconds.max(1) };
        let waiting = Waiting::enter(&self.waiting, config.turn_waiters).ok_or_else(busy)?;
        let entered = self.wait(config.turn_wait()).await;
        drop(waiting);
        entered.ok_or_else(busy)
    }

    async fn wait(&self, most: Duration) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(most, Arc::clone(&self.slot).acquire_owned()).await.ok()?.ok()
    }

    /// Whether nothing is generating for it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.slot.available_permits() == 1
    }

    pub(crate) fn touch(&self, now: UnixSeconds) {
        let mut state = lock(&self.state);
        state.seen = state.seen.max(now);
    }

    pub(crate) fn opened_by_depositor(&self) {
        lock(&self.state).by_depositor = true;
    }

    pub(crate) fn is_by_depositor(&self) -> bool {
        lock(&self.state).by_depositor
    }

    /// A socket begins to use the account.
    pub(crate) fn socket_opened(self: &Arc<Self>) -> SocketUse {
        let mut state = lock(&self.state);
        state.sockets += 1;
        state.abandoned = None;
        drop(state);
        SocketUse { session: Arc::clone(self), notices: self.notices.subscribe() }
    }

    pub(crate) fn socket_closed(&self, now: UnixSeconds) {
        let mut state = lock(&self.state);
        state.sockets = state.sockets.saturating_sub(1);
        state.seen = state.seen.max(now);
        if state.sockets == 0 {
            state.abandoned = Some(now);
        }
    }

    pub(crate) fn tell(&self, notice: Notice) {
        // Nobody listening is the usual case for plain HTTP.
        let _ = self.notices.send(notice);
    }

    /// Tells the end, once: an ending account changes many times more while it is claimed and paid.
    pub(crate) fn tell_end(&self, reason: &'static str) {
        if !self.told_end.swap(true, SeqCst) {
            self.tell(Notice::Ended(reason));
        }
    }

    pub(crate) fn has_sockets(&self) -> bool {
        lock(&self.state).sockets > 0
    }

    /// Whether the session is over by the clock.
    pub(crate) fn idle(&self, now: UnixSeconds, config: &GatewayConfig) -> Idle {
        let state = *lock(&self.state);
        if !self.is_quiet() {
            return Idle::No;
        }
        let abandoned = state.abandoned.is_some_and(|since| now.since(since.max(state.seen)) >= config.socket_grace_seconds);
        if abandoned || now.since(state.seen) >= config.idle_seconds { Idle::Yes } else { Idle::No }
    }

    /// Whether the account's free work stays in proportion to what it pays for.
    pub(crate) fn check_prefill(&self, billed: u64, config: &GatewayConfig) -> Result<(), Error> {
        let uncached = lock(&self.state).uncached;
        let allowed = config.prefill_grace.saturating_add(config.prefill_ratio.saturating_mul(billed));
        if uncached <= allowed {
            return Ok(());
        }
        Err(Error::RateLimited {
            reason: format!(
                "{uncached} prompt tokens were evaluated for {}, {billed} tokens were generated; {allowed} prompt tokens are free for that many. \
                 Generate more per request, or continue the conversation instead of beginning anew",
                self.id
            ),
            retry_after: 60,
        })
    }

    pub(crate) fn add_prefill(&self, uncached: u64) {
        let mut state = lock(&self.state);
        state.uncached = state.uncached.saturating_add(uncached);
    }
}

/// A socket's use of an account.
#[derive(Debug)]
pub(crate) struct SocketUse {
    pub(crate) session: Arc<Session>,
    pub(crate) notices: broadcast::Receiver<Notice>,
}

/// One place in the queue, given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        count.fetch_update(SeqCst, SeqCst, |now| (now < most).then_some(now + 1)).ok().map(|_| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::JobId;

    const T0: UnixSeconds = UnixSeconds(1_000);

    fn session() -> Arc<Session> {
        Session::new(AccountId::Job(JobId(1)), T0)
    }

    #[tokio::test]
    async fn a_third_request_is_refused_when_one_may_wait() {
        let config = GatewayConfig { turn_waiters: 1, ..GatewayConfig::default() };
        let session = session();
        let first = session.enter(&config).await.expect("free");
        let mut second = Box::pin(session.enter(&config));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(matches!(session.enter(&config).await, Err(Error::Busy { .. })));
        drop(first);
        assert!(second.await.is_ok());
        assert!(session.is_quiet());
    }

    #[tokio::test]
    async fn a_waiting_request_gives_up_after_its_time_and_leaves_the_queue() {
        let config = GatewayConfig { turn_wait_seconds: 0, ..GatewayConfig::default() };
        let session = session();
        let _first = session.enter(&config).await.expect("free");
        assert!(matches!(session.enter(&config).await, Err(Error::Busy { .. })));
        assert_eq!(session.waiting.load(SeqCst), 0);
    }

    #[test]
    fn the_grace_runs_from_the_last_socket_and_any_use_renews_it() {
        let config = GatewayConfig::default();
        let session = session();
        let (one, two) = (session.socket_opened(), session.socket_opened());
        assert_eq!(session.idle(T0.plus(59), &config), Idle::No);
        session.socket_closed(T0.plus(100));
        drop(one);
        assert_eq!(session.idle(T0.plus(800), &config), Idle::No, "one socket is left");
        session.socket_closed(T0.plus(800));
        drop(two);
        assert_eq!(session.idle(T0.plus(859), &config), Idle::No);
        assert_eq!(session.idle(T0.plus(860), &config), Idle::Yes);
        session.touch(T0.plus(850));
        assert_eq!(session.idle(T0.plus(860), &config), Idle::No);
        let _three = session.socket_opened();
        assert_eq!(session.idle(T0.plus(1_700), &config), Idle::No);
        assert_eq!(session.idle(T0.plus(1_750), &config), Idle::Yes, "idle, though a socket is open");
    }

    #[test]
    fn free_prefill_is_bounded_by_what_is_paid_for() {
        let config = GatewayConfig { prefill_grace: 1_000, prefill_ratio: 10, ..GatewayConfig::default() };
        let session = session();
        session.add_prefill(1_000);
        assert!(session.check_prefill(0, &config).is_ok());
        session.add_prefill(1);
        assert!(matches!(session.check_prefill(0, &config), Err(Error::RateLimited { .. })));
        assert!(session.check_prefill(1, &config).is_ok());
    }
}
