//! One thread, many sequences: the scheduler that every engine runs on.
//!
//! An engine brings a [`Backend`]: slots that hold evaluated tokens, and a step that evaluates some more and samples.
//! The scheduler owns it on one thread and does everything else: the queue, budgets, channels, stop sequences, reuse of
//! prefixes, failures. A turn of its loop:
//!
//! 1. take new requests from the queue, drop what was cancelled, put waiting requests into free slots;
//! 2. plan: one token for each sequence that may sample (room in its channel first, then one from its budget), then the
//!    prompts, oldest first, up to the batch limit;
//! 3. step, and deliver what was sampled. Nothing to step: sleep until the doorbell rings.
//!
//! A panic or an error in a step ends the running generations with [`Error::EngineFailed`] and the backend is made anew;
//! requests still waiting do not notice. [`MAX_FAILED_REBUILDS`] failures without a step between them end the engine.

mod doorbell;
mod slot;
mod stop;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::JoinHandle;

use crate::generation::{Outlet, generation};
use crate::{EngineStats, Error, Generation, ModelInfo, Request, SamplerSettings, TokenId};
use doorbell::Doorbell;
use worker::Worker;

/// Failures in a row, without one step between them, after which an engine is given up: a context that cannot be made
/// three times will not be made the fourth time, and each attempt costs memory and seconds.
const MAX_FAILED_REBUILDS: u32 = 3;

/// What evaluates and samples. Lives on the scheduler's thread; a panic in it is caught.
pub(crate) trait Backend {
    /// Prepares a slot for a request, keeping the first `keep` tokens evaluated there, which equal the prompt's. Answers
    /// how many were kept: `keep`, or 0 where the cache cannot be cut.
    fn open(&mut self, slot: usize, prompt: &[TokenId], sampler: &SamplerSettings, keep: usize) -> Result<usize, String>;

    /// Evaluates each item's tokens and samples where asked, in the order of the items.
    fn step(&mut self, work: &[Work<'_>], outcomes: &mut Vec<Outcome>) -> Result<(), String>;
}

/// Makes backends: the first, and one after each failure.
pub(crate) trait Maker: Send + 'static {
    /// May borrow from its maker what outlives a failure, as the model's weights do.
    type Backend<'a>: Backend
    where
        Self: 'a;

    /// A new backend with empty slots.
    fn make(&self) -> Result<Self::Backend<'_>, String>;
}

/// A share of a step.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) slot: usize,
    /// Tokens evaluated in this slot before.
    pub(crate) position: usize,
    /// Never empty.
    pub(crate) tokens: &'a [TokenId],
    /// Whether to sample what follows the last of them.
    pub(crate) sample: bool,
}

/// What a sampling item came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A token; `end` for an end of generation, whose piece is empty.
    Token { id: TokenId, bytes: Vec<u8>, end: bool },
    /// The sequence will never yield another token (a fault for tests; the caller's time limits must end it).
    Stalled,
}

/// Bounds of a scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Sequences that run at once.
    pub(crate) slots: usize,
    /// Tokens evaluated in one step; at least `slots`.
    pub(crate) batch: usize,
    /// Requests that may wait for a slot.
    pub(crate) queue: usize,
    /// Tokens of prompt and answer in one slot.
    pub(crate) context: usize,
}

/// What the handle and the thread both see.
#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    /// Set when the thread gave up; why.
    dead: OnceLock<String>,
    waiting: AtomicUsize,
    running: AtomicU64,
    steps: AtomicU64,
    sampled: AtomicU64,
    rebuilt: AtomicU64,
    prompt_tokens: AtomicU64,
    reused: AtomicU64,
    /// Turns of the loop, steps or not: shows that a paused engine sleeps.
    turns: AtomicU64,
}

/// A request on its way to a slot.
#[derive(Debug)]
struct Queued {
    request: Request,
    outlet: Outlet,
}

/// A running scheduler. Dropping it stops the thread and waits for the step in progress.
#[derive(Debug)]
pub(crate) struct Handle {
    queue: Option<SyncSender<Queued>>,
    shared: Arc<Shared>,
    doorbell: Arc<Doorbell>,
    limit: usize,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts the thread and waits until the first backend is made.
    pub(crate) fn spawn<M: Maker>(name: &str, maker: M, limits: Limits) -> Result<Self, String> {
        assert!(limits.slots > 0 && limits.batch >= limits.slots, "each running sequence must fit into a step");
        let shared = Arc::new(Shared::default());
        let doorbell = Arc::new(Doorbell::default());
        // `waiting` admits to the channel, so this bound is never met; it is the same number to say so.
        let (queue, requests) = sync_channel(limits.queue.max(1));
        let (made, ready) = sync_channel(1);
        let worker = Worker::new(limits, requests, Arc::clone(&shared), Arc::clone(&doorbell));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.run(&maker, &made))
            .map_err(|error| format!("its thread does not start: {error}"))?;
        let handle = Self { queue: Some(queue), shared, doorbell, limit: limits.queue, thread: Some(thread) };
        match ready.recv() {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err("its thread ended while starting".into()),
        }
    }

    pub(crate) fn start(&self, request: Request, model: &ModelInfo) -> Result<Generation, Error> {
        request.check(model)?;
        if let Some(reason) = self.shared.dead.get() {
            return Err(Error::EngineFailed { reason: reason.clone() });
        }
        self.shared
            .waiting
            .fetch_update(SeqCst, SeqCst, |waiting| (waiting < self.limit).then_some(waiting + 1))
            .map_err(|queued| Error::Busy { queued, limit: self.limit })?;
        let (outlet, generation) = generation(request.prompt.len(), Waker::from(Arc::clone(&self.doorbell)));
        let queue = self.queue.as_ref().expect("the sender is taken only in drop");
        match queue.try_send(Queued { request, outlet }) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(generation)
            }
            Err(TrySendError::Full(_)) => {
                self.shared.waiting.fetch_sub(1, SeqCst);
                Err(Error::Busy { queued: self.limit, limit: self.limit })
            }
            Err(TrySendError::Disconnected(_)) => {
                self.shared.waiting.fetch_sub(1, SeqCst);
                let reason = self.shared.dead.get().cloned().unwrap_or_else(|| "its thread ended".into());
                Err(Error::EngineFailed { reason })
            }
        }
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let shared = &self.shared;
        EngineStats {
            running: shared.running.load(SeqCst),
            queued: shared.waiting.load(SeqCst) as u64,
            steps: shared.steps.load(SeqCst),
            sampled: shared.sampled.load(SeqCst),
            rebuilt: shared.rebuilt.load(SeqCst),
            prompt_tokens: shared.prompt_tokens.load(SeqCst),
            reused_prefix_tokens: shared.reused.load(SeqCst),
        }
    }

    #[cfg(test)]
    pub(crate) fn turns(&self) -> u64 {
        self.shared.turns.load(SeqCst)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.store(true, SeqCst);
        self.queue.take();
        self.doorbell.ring();
        if let Some(thread) = self.thread.take() {
            // The thread catches its backend's panics; if its own code panicked, its generations have failed and the
            // panic was reported where it happened.
            let _ = thread.join();
        }
    }
}
