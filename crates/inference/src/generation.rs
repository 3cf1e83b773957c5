//! The two ends of one generation's channel.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use tokio::sync::mpsc;

use crate::{Error, Sampled};

/// Sampled tokens that may wait for their reader. As many as a client may leave unacknowledged by default, so that the
/// channel is never what a well-behaved reader waits for; beyond it the sequence pauses.
pub const CHANNEL_TOKENS: usize = 64;

/// What both ends see.
#[derive(Debug)]
struct Shared {
    cancelled: AtomicBool,
    /// The engine found the channel full and wants to be woken when there is room.
    starved: AtomicBool,
    cached: AtomicU64,
    /// Apart from the channel, because a failure must get through when the channel is full.
    failure: OnceLock<Error>,
    engine: Waker,
}

/// A running generation: the caller's end.
///
/// Dropping it cancels.
#[derive(Debug)]
pub struct Generation {
    tokens: mpsc::Receiver<Sampled>,
    shared: Arc<Shared>,
    prompt_tokens: u64,
    /// The last item was handed out.
    ended: bool,
}

impl Generation {
    /// The next token; `None` after the last one, and after a cancel once what was sampled is read. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Sampled, Error>> {
        if self.ended {
            return None;
        }
        let received = self.tokens.recv().await;
        self.hand_out(received)
    }

    /// The next token if one is waiting. `None` means nothing now, or nothing ever again: [`Self::is_ended`] tells.
    pub fn try_next(&mut self) -> Option<Result<Sampled, Error>> {
        if self.ended {
            return None;
        }
        match self.tokens.try_recv() {
            Ok(sampled) => self.hand_out(Some(sampled)),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => self.hand_out(None),
        }
    }

    /// The next token, for callers outside an async runtime.
    pub fn blocking_next(&mut self) -> Option<Result<Sampled, Error>> {
        if self.ended {
            return None;
        }
        let received = self.tokens.blocking_recv();
        self.hand_out(received)
    }

    fn hand_out(&mut self, received: Option<Sampled>) -> Option<Result<Sampled, Error>> {
        let Some(sampled) = received else {
            self.ended = true;
            return self.shared.failure.get().cloned().map(Err);
        };
        self.ended = sampled.finish.is_some();
        // Pairs with the fence in `Outlet::has_room`: either the engine sees the room just made, or we see that it waits.
        fence(SeqCst);
        if self.shared.starved.swap(false, SeqCst) {
            self.shared.engine.wake_by_ref();
        }
        Some(Ok(sampled))
    }

    /// Asks the engine to stop, which it does within one step. Tokens sampled before can still be read.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, SeqCst);
        self.shared.engine.wake_by_ref();
    }

    /// True when nothing will come any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Tokens in the prompt.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Prompt tokens that did not have to be evaluated again. 0 until the request leaves the queue; settled when the
    /// first token arrives.
    pub fn cached_tokens(&self) -> u64 {
        self.shared.cached.load(SeqCst)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The engine's end.
#[derive(Debug)]
pub(crate) struct Outlet {
    tokens: mpsc::Sender<Sampled>,
    shared: Arc<Shared>,
    /// The last token was delivered.
    finished: bool,
}

impl Outlet {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(SeqCst) || self.tokens.is_closed()
    }

    /// Whether a token could be delivered now. If not, the reader wakes the engine when it makes room.
    pub(crate) fn has_room(&self) -> bool {
        if self.tokens.capacity() > 0 {
            return true;
        }
        self.shared.starved.store(true, SeqCst);
        fence(SeqCst);
        self.tokens.capacity() > 0
    }

    /// Delivers a token. Room was seen before and only the engine fills the channel, so the one way to fail is that
    /// the reader is gone, which the next look at [`Self::is_cancelled`] finds.
    pub(crate) fn deliver(&mut self, sampled: Sampled) {
        self.finished = sampled.finish.is_some();
        let sent = self.tokens.try_send(sampled);
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))), "sampled without room in the channel");
    }

    pub(crate) fn set_cached(&self, tokens: u64) {
        self.shared.cached.store(tokens, SeqCst);
    }

    /// Ends the generation with an error, which the reader gets after the tokens that wait.
    pub(crate) fn fail(self, error: Error) {
        // Only one failure can come: the outlet is consumed.
        let _ = self.shared.failure.set(error);
    }
}

impl Drop for Outlet {
    /// A generation must not look cancelled because its engine went away: whoever lets go of an outlet early has failed it.
    fn drop(&mut self) {
        if !self.finished && !self.is_cancelled() {
            let _ = self.shared.failure.set(Error::EngineFailed { reason: "it was shut down".into() });
        }
    }
}

/// A new generation; `engine` is woken when it should look again.
pub(crate) fn generation(prompt_tokens: usize, engine: Waker) -> (Outlet, Generation) {
    let (sender, receiver) = mpsc::channel(CHANNEL_TOKENS);
    let shared = Arc::new(Shared {
        cancelled: AtomicBool::new(false),
        starved: AtomicBool::new(false),
        cached: AtomicU64::new(0),
        failure: OnceLock::new(),
        engine,
    });
    let outlet = Outlet { tokens: sender, shared: Arc::clone(&shared), finished: false };
    (outlet, Generation { tokens: receiver, shared, prompt_tokens: prompt_tokens as u64, ended: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FinishReason;

    fn sampled(id: u32) -> Sampled {
        Sampled { id, bytes: vec![b'x'], finish: None }
    }

    #[test]
    fn a_failure_arrives_after_the_tokens_even_through_a_full_channel() {
        let (mut outlet, mut generation) = generation(3, Waker::noop().clone());
        for id in (0..).take(CHANNEL_TOKENS) {
            assert!(outlet.has_room());
            outlet.deliver(sampled(id));
        }
        assert!(!outlet.has_room());
        let error = Error::EngineFailed { reason: "test".into() };
        outlet.fail(error.clone());
        for id in (0..).take(CHANNEL_TOKENS) {
            assert_eq!(generation.try_next(), Some(Ok(sampled(id))));
        }
        assert_eq!(generation.try_next(), Some(Err(error)));
        assert_eq!(generation.try_next(), None);
        assert!(generation.is_ended());
    }

    #[test]
    fn nothing_follows_the_finish() {
        let (mut outlet, mut generation) = generation(1, Waker::noop().clone());
        let last = Sampled { finish: Some(FinishReason::Length), ..sampled(7) };
        outlet.deliver(last.clone());
        assert_eq!(generation.blocking_next(), Some(Ok(last)));
        assert_eq!(generation.blocking_next(), None);
        assert!(!outlet.is_cancelled());
        drop(generation);
        assert!(outlet.is_cancelled());
    }
}
