//! What peers have sent and the node has not taken yet: bounded for each peer, and taken in turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use finality_gadget::{Message, ValidatorId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::MESSAGE_OVERHEAD;

#[derive(Debug, Default)]
struct Turns {
    queues: BTreeMap<ValidatorId, VecDeque<(Message, OwnedSemaphorePermit)>>,
    /// Peers with something in their queue, each once, in the order in which they are served.
    turn: VecDeque<ValidatorId>,
    closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    turns: Mutex<Turns>,
    ready: Notify,
}

impl Shared {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        // Each change is complete before anything in it can panic.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        self.turns().closed = true;
        self.ready.notify_one();
    }
}

/// The way into the inbox for one peer's messages.
#[derive(Debug)]
pub(crate) struct Door {
    from: ValidatorId,
    /// Bytes that this peer may still have waiting.
    room: Arc<Semaphore>,
    size: u32,
    shared: Arc<Shared>,
}

impl Door {
    pub(crate) fn new(from: ValidatorId, bytes: usize, shared: Arc<Shared>) -> Self {
        let size = u32::try_from(bytes.max(MESSAGE_OVERHEAD)).unwrap_or(u32::MAX);
        Self { from, room: Arc::new(Semaphore::new(size as usize)), size, shared }
    }

    /// Waits until there is room and puts a message of `bytes` encoded bytes into its peer's queue. Whoever waits does not read on: that
    /// is how a peer that sends faster than the node works is held back.
    pub(crate) async fn push(&self, message: Message, bytes: usize) {
        let cost = u32::try_from(bytes + MESSAGE_OVERHEAD).unwrap_or(u32::MAX).min(self.size);
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(cost).await else { return };
        let mut turns = self.shared.turns();
        let queue = turns.queues.entry(self.from).or_default();
        let first = queue.is_empty();
        queue.push_back((message, permit));
        if first {
            turns.turn.push_back(self.from);
        }
        drop(turns);
        self.shared.ready.notify_one();
    }
}

/// Messages of authenticated validators.
///
/// # Guarantees
///
/// Each message comes with the validator whose key brought it. Peers are served in turns: one that floods delays the others by one
/// message each time. What waits is bounded for each peer ([`Limits::inbox_bytes`](crate::Limits::inbox_bytes)).
///
/// # Does not
///
/// Look into votes and certificates: whether they hold is the gadget's business, and a validator may pass on the votes of others.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

impl Inbox {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next message, for [`CheckpointFinality::receive`](finality_gadget); `None` after the network has ended and all was taken.
    /// Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Option<(ValidatorId, Message)> {
        loop {
            if let Some(received) = self.try_next() {
                return Some(received);
            }
            if self.shared.turns().closed {
                return None;
            }
            self.shared.ready.notified().await;
        }
    }

    /// A message that is there already.
    pub fn try_next(&mut self) -> Option<(ValidatorId, Message)> {
        let mut turns = self.shared.turns();
        let from = turns.turn.pop_front()?;
        let queue = turns.queues.get_mut(&from)?;
        let (message, _room) = queue.pop_front()?;
        if !queue.is_empty() {
            turns.turn.push_back(from);
        }
        Some((from, message))
    }
}

#[cfg(test)]
mod tests {
    use finality_gadget::CheckpointNumber;
    use futures::FutureExt as _;

    use super::*;

    fn numbered(number: u64) -> Message {
        Message::CertificatesAfter(CheckpointNumber(number))
    }

    #[tokio::test]
    async fn peers_are_served_in_turns() {
        let shared = Arc::new(Shared::default());
        let (loud, quiet) = (Door::new(ValidatorId(1), 1 << 20, shared.clone()), Door::new(ValidatorId(2), 1 << 20, shared.clone()));
        for number in 0..100 {
            loud.push(numbered(number), 10).await;
        }
        quiet.push(numbered(1000), 10).await;
        let mut inbox = Inbox::new(shared);
        let order: Vec<u32> = std::iter::from_fn(|| inbox.try_next()).map(|(from, _)| from.0).take(3).collect();
        assert_eq!(order, [1, 2, 1], "the quiet peer waits for one message of the loud one, not for a hundred");
    }

    #[tokio::test]
    async fn a_full_queue_holds_back_its_own_peer_and_no_other() {
        let shared = Arc::new(Shared::default());
        let (loud, quiet) = (Door::new(ValidatorId(1), 4096, shared.clone()), Door::new(ValidatorId(2), 4096, shared.clone()));
        let mut fitted = 0;
        while loud.push(numbered(fitted), 512).now_or_never().is_some() {
            fitted += 1;
        }
        assert_eq!(fitted, 4, "4096 bytes hold four messages of 512 and as much for their keeping");
        assert!(quiet.push(numbered(9), 512).now_or_never().is_some());
        let mut inbox = Inbox::new(shared);
        assert_eq!(inbox.next().await, Some((ValidatorId(1), numbered(0))));
        assert!(loud.push(numbered(4), 512).now_or_never().is_some(), "what was taken makes room");
    }

    #[tokio::test]
    async fn a_message_larger_than_the_room_goes_alone_rather_than_never() {
        let shared = Arc::new(Shared::default());
        let door = Door::new(ValidatorId(1), 4096, shared.clone());
        assert!(door.push(numbered(0), 1 << 20).now_or_never().is_some());
        assert!(door.push(numbered(1), 1).now_or_never().is_none());
    }

    #[tokio::test]
    async fn after_the_end_what_is_there_is_still_given_out() {
        let shared = Arc::new(Shared::default());
        Door::new(ValidatorId(1), 4096, shared.clone()).push(numbered(0), 1).await;
        shared.close();
        let mut inbox = Inbox::new(shared);
        assert!(inbox.next().await.is_some());
        assert_eq!(inbox.next().await, None);
    }
}
