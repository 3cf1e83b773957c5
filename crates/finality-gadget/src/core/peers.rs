//! What is known of the other validators, and how much of each is put up with.

use std::collections::BTreeMap;

use crate::network::Status;
use crate::types::{Millis, ValidatorId};

/// How long a peer is not listened to after its first false signature, in ms; doubled with each further one.
const FIRST_MUTE: u64 = 1_000;
/// The doubling ends here: about nine minutes.
const MOST_DOUBLINGS: u32 = 9;
/// Answers that cost more than the question (certificates), for each peer and second.
const ANSWERS_PER_SECOND: u32 = 20;

#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    pub(super) heard: Option<Millis>,
    pub(super) status: Option<Status>,
    /// The second in which answers are counted, and their number.
    answered: (u64, u32),
    asked: Option<Millis>,
    faults: u32,
    muted_until: Millis,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<ValidatorId, Peer>,
}

impl Peers {
    /// Notes a message; `false` where it must not be listened to.
    pub(super) fn hear(&mut self, from: ValidatorId, now: Millis) -> bool {
        let peer = self.known.entry(from).or_default();
        peer.heard = Some(now);
        now >= peer.muted_until
    }

    /// A signature of this peer's, or one it passed on, is false. No honest node sends such a thing.
    pub(super) fn fault(&mut self, from: ValidatorId, now: Millis) {
        let peer = self.known.entry(from).or_default();
        peer.muted_until = Millis(now.0.saturating_add(FIRST_MUTE << peer.faults.min(MOST_DOUBLINGS)));
        peer.faults = peer.faults.saturating_add(1);
        tracing::warn!(event = "false_signature", validator = %from, faults = peer.faults, "a peer sent a signature that does not hold");
    }

    pub(super) fn set_status(&mut self, from: ValidatorId, status: Status) {
        self.known.entry(from).or_default().status = Some(status);
    }

    /// Whether a costly answer to this peer is due; notes it as given.
    pub(super) fn may_answer(&mut self, to: ValidatorId, now: Millis) -> bool {
        let answered = &mut self.known.entry(to).or_default().answered;
        let second = now.0 / 1_000;
        *answered = if answered.0 == second { (second, answered.1.saturating_add(1)) } else { (second, 1) };
        answered.1 <= ANSWERS_PER_SECOND
    }

    /// Whether this peer may be asked again; notes it as asked.
    pub(super) fn may_ask(&mut self, whom: ValidatorId, now: Millis, every: u64) -> bool {
        due(&mut self.known.entry(whom).or_default().asked, now, every)
    }

    /// Peers heard from within the last `window` ms.
    pub(super) fn heard_within(&self, now: Millis, window: u64) -> impl Iterator<Item = ValidatorId> + '_ {
        self.known.iter().filter(move |(_, peer)| peer.heard.is_some_and(|heard| now.since(heard) <= window)).map(|(id, _)| *id)
    }

    pub(super) fn faults(&self) -> u64 {
        self.known.values().map(|peer| u64::from(peer.faults)).sum()
    }
}

fn due(last: &mut Option<Millis>, now: Millis, every: u64) -> bool {
    let due = last.is_none_or(|last| now.since(last) >= every);
    if due {
        *last = Some(now);
    }
    due
}
