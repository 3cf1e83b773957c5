//! The scheduler's thread.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, SyncSender};
use std::task::Waker;

use super::doorbell::Doorbell;
use super::slot::{Sequence, Slot};
use super::{Backend, Limits, MAX_FAILED_REBUILDS, Maker, Outcome, Queued, Shared, Work};
use crate::Error;

pub(super) struct Worker {
    limits: Limits,
    requests: Receiver<Queued>,
    shared: Arc<Shared>,
    doorbell: Arc<Doorbell>,
    waker: Waker,
    slots: Vec<Slot>,
    waiting: VecDeque<Queued>,
    admitted: u64,
}

/// One slot's share of a step.
struct Share {
    slot: usize,
    tokens: usize,
    sample: bool,
}

impl Worker {
    pub(super) fn new(limits: Limits, requests: Receiver<Queued>, shared: Arc<Shared>, doorbell: Arc<Doorbell>) -> Self {
        let waker = Waker::from(Arc::clone(&doorbell));
        let slots = (0..limits.slots).map(|_| Slot::default()).collect();
        Self { limits, requests, shared, doorbell, waker, slots, waiting: VecDeque::new(), admitted: 0 }
    }

    pub(super) fn run<M: Maker>(mut self, maker: &M, made: &SyncSender<Result<(), String>>) {
        self.doorbell.attend();
        let mut first = true;
        let mut failures = 0;
        loop {
            let steps_before = self.shared.steps.load(SeqCst);
            // A panicking backend is dropped here and never looked at again; what it held is in `self`, which is
            // brought back to a known state below.
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let mut backend = maker.make()?;
                if std::mem::take(&mut first) {
                    // Nobody listens if the handle's owner went away meanwhile; `closing` then ends the loop.
                    let _ = made.send(Ok(()));
                } else {
                    self.shared.rebuilt.fetch_add(1, SeqCst);
                }
                self.serve(&mut backend)
            }));
            let reason = match ended {
                Ok(Ok(())) => return,
                Ok(Err(reason)) => reason,
                Err(panic) => panic_text(panic.as_ref()),
            };
            if first {
                let _ = made.send(Err(reason));
                return;
            }
            tracing::error!(%reason, "the engine failed and is made anew; running generations end");
            self.fail_running(&reason);
            failures = if self.shared.steps.load(SeqCst) > steps_before { 1 } else { failures + 1 };
            if failures >= MAX_FAILED_REBUILDS {
                tracing::error!(%reason, failures, "the engine is given up");
                let _ = self.shared.dead.set(reason.clone());
                self.fail_waiting(&reason);
                return;
            }
        }
    }

    /// Turns until the handle is dropped or the backend fails.
    fn serve<B: Backend>(&mut self, backend: &mut B) -> Result<(), String> {
        let mut outcomes = Vec::with_capacity(self.limits.slots);
        loop {
            if self.shared.closing.load(SeqCst) {
                // Outlets dropped on the way out tell their readers.
                return Ok(());
            }
            let turn = self.shared.turns.fetch_add(1, SeqCst);
            self.waiting.extend(self.requests.try_iter());
            self.drop_cancelled(turn);
            self.admit(backend)?;
            let shares = self.plan();
            if shares.is_empty() {
                self.doorbell.wait();
                continue;
            }
            let work: Vec<Work<'_>> = shares.iter().map(|share| self.work(share)).collect();
            outcomes.clear();
            backend.step(&work, &mut outcomes)?;
            drop(work);
            let asked = shares.iter().filter(|share| share.sample).count();
            assert_eq!(outcomes.len(), asked, "a step answers every sequence that was to sample");
            self.shared.steps.fetch_add(1, SeqCst);
            let sampled = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Token { .. })).count();
            self.shared.sampled.fetch_add(sampled as u64, SeqCst);
            self.settle(&shares, &mut outcomes, turn);
        }
    }

    fn drop_cancelled(&mut self, turn: u64) {
        let (cancelled, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|queued| queued.outlet.is_cancelled());
        self.waiting = waiting;
        self.shared.waiting.fetch_sub(cancelled.len(), SeqCst);
        let is_cancelled = |slot: &&mut Slot| slot.sequence.as_ref().is_some_and(|it| it.outlet.is_cancelled());
        let released: Vec<_> = self.slots.iter_mut().filter(is_cancelled).map(|slot| slot.release(turn)).collect();
        self.count_running();
        // Counted first: whoever sees the end of a generation sees it in the numbers too.
        drop((cancelled, released));
    }

    /// Puts waiting requests into free slots, first come first served.
    fn admit<B: Backend>(&mut self, backend: &mut B) -> Result<(), String> {
        while let Some(queued) = self.waiting.front() {
            let (session, prompt) = (queued.request.session, &queued.request.prompt);
            let free = || self.slots.iter().enumerate().filter(|(_, slot)| slot.is_free());
            let reusing = free().map(|(index, slot)| (slot.reusable(session, prompt), index)).max().filter(|(reusable, _)| *reusable > 0);
            let Some((keep, index)) = reusing.or_else(|| free().min_by_key(|(_, slot)| slot.worth()).map(|(index, _)| (0, index))) else {
                return Ok(());
            };
            let queued = self.waiting.pop_front().expect("its front was just seen");
            self.shared.waiting.fetch_sub(1, SeqCst);
            let sampler = queued.request.sampler;
            self.admitted += 1;
            // In its slot before the backend is asked, so that a failure there ends it like any running one.
            self.slots[index].occupy(Sequence::new(queued, self.admitted));
            self.count_running();
            let sequence = self.slots[index].sequence.as_mut().expect("just occupied");
            let kept = backend.open(index, &sequence.tokens, &sampler, keep)?;
            assert!(kept == keep || kept == 0, "a backend keeps what it was asked to or nothing");
            sequence.evaluated = kept;
            sequence.outlet.set_cached(kept as u64);
            self.shared.prompt_tokens.fetch_add(sequence.tokens.len() as u64, SeqCst);
            self.shared.reused.fetch_add(kept as u64, SeqCst);
        }
        Ok(())
    }

    /// Who takes part in the next step. Takes from the budgets of those that will sample.
    fn plan(&self) -> Vec<Share> {
        let mut shares = Vec::with_capacity(self.limits.slots);
        let mut room = self.limits.batch;
        let mut prompts: Vec<(usize, &Sequence)> = Vec::new();
        for (slot, sequence) in self.running() {
            if sequence.pending() > 1 {
                prompts.push((slot, sequence));
            } else if self.may_sample(sequence) {
                shares.push(Share { slot, tokens: 1, sample: true });
                room -= 1;
            }
        }
        prompts.sort_by_key(|(_, sequence)| sequence.admitted);
        for (slot, sequence) in prompts {
            let pending = sequence.pending();
            let last = pending <= room;
            let sample = last && self.may_sample(sequence);
            // A prompt that may not sample yet is evaluated up to its last token, which the sampling step then brings.
            let tokens = if last && !sample { pending - 1 } else { pending.min(room) };
            if tokens == 0 {
                continue;
            }
            shares.push(Share { slot, tokens, sample });
            room -= tokens;
        }
        shares
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Sequence)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| slot.sequence.as_ref().map(|sequence| (index, sequence)))
            .filter(|(_, sequence)| !sequence.stalled)
    }

    fn may_sample(&self, sequence: &Sequence) -> bool {
        if !sequence.outlet.has_room() {
            return false;
        }
        if sequence.budget.try_take() {
            return true;
        }
        // Asked again after registering: a raise in between would have woken nobody.
        sequence.budget.wake_on_raise(&self.waker);
        sequence.budget.try_take()
    }

    fn work(&self, share: &Share) -> Work<'_> {
        let sequence = self.slots[share.slot].sequence.as_ref().expect("planned slots are occupied");
        let position = sequence.evaluated;
        Work { slot: share.slot, position, tokens: &sequence.tokens[position..position + share.tokens], sample: share.sample }
    }

    fn settle(&mut self, shares: &[Share], outcomes: &mut Vec<Outcome>, turn: u64) {
        let mut outcomes = outcomes.drain(..);
        for share in shares {
            let slot = &mut self.slots[share.slot];
            let sequence = slot.sequence.as_mut().expect("planned slots are occupied");
            sequence.evaluated += share.tokens;
            if !share.sample {
                continue;
            }
            let outcome = outcomes.next().expect("as many outcomes as samples");
            if sequence.accept(outcome, self.limits.context) {
                drop(slot.release(turn));
            }
        }
        self.count_running();
    }

    fn count_running(&self) {
        let running = self.slots.iter().filter(|slot| !slot.is_free()).count();
        self.shared.running.store(running as u64, SeqCst);
    }

    /// Empties all slots: what a failed backend had evaluated is gone with it.
    fn fail_running(&mut self, reason: &str) {
        for slot in &mut self.slots {
            if let Some(sequence) = std::mem::take(slot).sequence {
                sequence.outlet.fail(Error::EngineFailed { reason: reason.to_owned() });
            }
        }
        self.count_running();
    }

    fn fail_waiting(&mut self, reason: &str) {
        self.waiting.extend(self.requests.try_iter());
        self.shared.waiting.fetch_sub(self.waiting.len(), SeqCst);
        for queued in self.waiting.drain(..) {
            queued.outlet.fail(Error::EngineFailed { reason: reason.to_owned() });
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("without a message"))
}
