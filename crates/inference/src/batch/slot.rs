//! A slot: a place in the backend's cache, and the sequence that runs in it.

use super::stop::StopMatcher;
use super::{Outcome, Queued};
use crate::generation::Outlet;
use crate::{Budget, FinishReason, Sampled, TokenId};

/// One place in the backend's cache.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Whose tokens are cached here; 0 nobody's.
    session: u64,
    /// What is evaluated here while no sequence runs.
    cached: Vec<TokenId>,
    /// When the last sequence ended, in turns of the loop.
    last_used: u64,
    pub(super) sequence: Option<Sequence>,
}

/// A running generation.
#[derive(Debug)]
pub(super) struct Sequence {
    /// Prompt and answer.
    pub(super) tokens: Vec<TokenId>,
    /// How many of them the backend has evaluated.
    pub(super) evaluated: usize,
    /// Admission number: prompts are evaluated in this order.
    pub(super) admitted: u64,
    pub(super) outlet: Outlet,
    pub(super) budget: Budget,
    session: u64,
    sampled: u32,
    max_tokens: u32,
    stop: StopMatcher,
    pub(super) stalled: bool,
}

impl Sequence {
    pub(super) fn new(queued: Queued, admitted: u64) -> Self {
        let Queued { request, outlet } = queued;
        Self {
            tokens: request.prompt,
            evaluated: 0,
            admitted,
            outlet,
            budget: request.budget,
            session: request.session,
            sampled: 0,
            max_tokens: request.max_tokens,
            stop: StopMatcher::new(&request.stop),
            stalled: false,
        }
    }

    /// Tokens to evaluate before the next can be sampled; at least one.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.evaluated
    }

    /// Takes in what a step sampled and delivers it. True when the generation ended by it.
    pub(super) fn accept(&mut self, outcome: Outcome, context: usize) -> bool {
        let Outcome::Token { id, bytes, end } = outcome else {
            self.stalled = true;
            return false;
        };
        self.tokens.push(id);
        self.sampled += 1;
        let stopped = self.stop.push(&bytes);
        let finish = if end {
            Some(FinishReason::Stop)
        } else if stopped {
            Some(FinishReason::StopSequence)
        } else if self.sampled >= self.max_tokens {
            Some(FinishReason::Length)
        } else if self.tokens.len() >= context {
            Some(FinishReason::Context)
        } else {
            None
        };
        self.outlet.deliver(Sampled { id, bytes, finish });
        finish.is_some()
    }
}

impl Slot {
    pub(super) fn is_free(&self) -> bool {
        self.sequence.is_none()
    }

    /// Ends the sequence, keeps what is evaluated for the session's next request, and hands out the outlet, whose drop
    /// tells the reader.
    #[must_use]
    pub(super) fn release(&mut self, turn: u64) -> Option<Outlet> {
        let sequence = self.sequence.take()?;
        self.session = sequence.session;
        self.cached = sequence.tokens;
        self.cached.truncate(sequence.evaluated);
        self.last_used = turn;
        Some(sequence.outlet)
    }

    /// How many tokens of this prompt need not be evaluated here. The last one always must be, to sample after it.
    pub(super) fn reusable(&self, session: u64, prompt: &[TokenId]) -> usize {
        if session == 0 || session != self.session {
            return 0;
        }
        let common = self.cached.iter().zip(prompt).take_while(|(cached, asked)| cached == asked).count();
        common.min(prompt.len() - 1)
    }

    /// Order in which free slots are given away when nothing can be reused: empty ones, then those that no session can
    /// come back to, then the one unused for longest.
    pub(super) fn worth(&self) -> (bool, bool, u64) {
        (!self.cached.is_empty(), self.session != 0, self.last_used)
    }

    pub(super) fn occupy(&mut self, sequence: Sequence) {
        self.cached.clear();
        self.session = 0;
        self.sequence = Some(sequence);
    }
}
