//! What waits for one peer: bounded, and the oldest goes first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::MESSAGE_OVERHEAD;

/// Encoded messages for one peer. What is sent to all is held once and shared.
#[derive(Debug)]
pub(crate) struct Outbox {
    most_bytes: usize,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
}

impl Outbox {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, state: Mutex::default(), ready: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; drops the oldest ones where they do not all fit. The newest matter most: votes for old targets are certified or
    /// given up by then, and what is still needed is sent again.
    pub(crate) fn push(&self, message: Bytes) {
        let mut state = self.state();
        state.bytes += cost(&message);
        state.queue.push_back(message);
        while state.bytes > self.most_bytes {
            let Some(oldest) = state.queue.pop_front() else { break };
            state.bytes -= cost(&oldest);
            state.dropped += 1;
        }
        drop(state);
        self.ready.notify_one();
    }

    pub(crate) fn try_pop(&self) -> Option<Bytes> {
        let mut state = self.state();
        let message = state.queue.pop_front()?;
        state.bytes -= cost(&message);
        Some(message)
    }

    /// Waits for a message. Nothing is lost when the wait is given up.
    pub(crate) async fn pop(&self) -> Bytes {
        loop {
            if let Some(message) = self.try_pop() {
                return message;
            }
            self.ready.notified().await;
        }
    }

    /// Bytes that wait, and messages that were dropped since the start.
    pub(crate) fn report(&self) -> (usize, u64) {
        let state = self.state();
        (state.bytes, state.dropped)
    }
}

fn cost(message: &Bytes) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_pushes_the_oldest_out() {
        let outbox = Outbox::new(3 * (100 + MESSAGE_OVERHEAD));
        for number in 0..10u8 {
            outbox.push(Bytes::from(vec![number; 100]));
        }
        let kept: Vec<u8> = std::iter::from_fn(|| outbox.try_pop()).map(|message| message[0]).collect();
        assert_eq!(kept, [7, 8, 9]);
        assert_eq!(outbox.report(), (0, 7));
    }

    #[test]
    fn many_empty_messages_are_bounded_too() {
        let outbox = Outbox::new(10 * MESSAGE_OVERHEAD);
        (0..1000).for_each(|_| outbox.push(Bytes::new()));
        assert_eq!(std::iter::from_fn(|| outbox.try_pop()).count(), 10);
    }

    #[tokio::test]
    async fn a_message_that_came_before_the_wait_is_not_missed() {
        let outbox = Outbox::new(10_000);
        outbox.push(Bytes::from_static(b"one"));
        outbox.push(Bytes::from_static(b"two"));
        assert_eq!(outbox.pop().await, "one");
        assert_eq!(outbox.pop().await, "two");
    }
}
