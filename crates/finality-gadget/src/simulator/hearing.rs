//! What a process was told while it listened, and whom it must therefore have evidence against.
//!
//! Whoever receives two statements of one validator that exclude each other owes evidence, at once and for as long as its disk lasts. A
//! statement is a vote that was delivered, whoever brought it, or a certificate that was kept. Three things excuse a node, and nothing else:
//!
//! - It did not listen: a peer that sent a false signature is muted for a while. Only filthy liars send any. Which of several it was cannot
//!   be seen from outside: all count as muted for as long as the worst of them may be.
//! - The vote lay outside the window of targets whose votes are held.
//! - It has restarted since, and its disk lost the vote: votes are not synced, and pruned below finality.

use std::collections::{BTreeMap, BTreeSet};

use crate::certificate::Certificate;
use crate::core::{FAR, HISTORY, Health, MAX_OPEN_TARGETS};
use crate::network::{Message, OwnVotes};
use crate::persistence::CheckpointStorage;
use crate::set::Schedule;
use crate::types::{CheckpointNumber, Millis, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// A first false signature may mute its sender so long, in ms; each further one twice as long, nine times at most.
const MUTE: u64 = 1_000;
const MOST_DOUBLINGS: u64 = 9;
/// Votes and pieces of evidence read from a disk in one go. No run keeps more; what were beyond would not be checked.
const ROWS: usize = 2_048;

/// Targets of votes that a node in this state of health holds.
pub(super) fn window(health: &Health) -> (CheckpointNumber, CheckpointNumber) {
    let high = health.justified.max(health.eligible).plus(FAR);
    (health.finalized.minus(HISTORY).max(high.minus(MAX_OPEN_TARGETS)), high)
}

/// Two statements of one validator that exclude each other.
pub(super) struct Contradiction {
    pub(super) validator: ValidatorId,
    pub(super) one: Vote,
    pub(super) other: Vote,
}

#[derive(Default)]
pub(super) struct Hearing {
    votes: BTreeMap<ValidatorId, Vec<SignedVote>>,
    certificates: Vec<Certificate>,
    /// Came since they were last judged.
    new_votes: Vec<SignedVote>,
    new_certificates: Vec<Certificate>,
    /// Heard by an earlier process and still on the disk: the gadget reads them behind its start.
    stored: Vec<SignedVote>,
    /// False signatures that this process has counted.
    faults: u64,
    /// Liars may be muted until then.
    muted_until: Millis,
    /// What the process takes for the time.
    ticked: Millis,
    /// Whom its disk holds evidence against, once and for all.
    pub(super) convicted: BTreeSet<ValidatorId>,
}

impl Hearing {
    /// A new process on the same disk. What the disk has lost nobody remembers.
    pub(super) fn restart(&mut self, storage: &dyn CheckpointStorage) {
        let mut heard: Vec<SignedVote> = std::mem::take(&mut self.stored);
        heard.append(&mut self.new_votes);
        heard.extend(std::mem::take(&mut self.votes).into_values().flatten());
        still_stored(storage, &mut heard);
        *self = Self { stored: heard, convicted: std::mem::take(&mut self.convicted), ..Self::default() };
    }

    /// What the gadget holds right after its start.
    pub(super) fn restarted(&mut self, health: &Health) {
        let (low, high) = window(health);
        self.stored.retain(|signed| (low..=high).contains(&signed.vote.link.target.number));
    }

    /// A tick went well: by now everything is read back that the tick has not pruned before.
    pub(super) fn ticked(&mut self, now: Millis, storage: &dyn CheckpointStorage) {
        self.ticked = now;
        still_stored(storage, &mut self.stored);
        self.new_votes.append(&mut self.stored);
    }

    /// Whether a liar is surely listened to.
    pub(super) fn listens_to_liars(&self) -> bool {
        self.ticked >= self.muted_until
    }

    /// Notes how many false signatures the process has counted by now.
    pub(super) fn count_faults(&mut self, now: Millis, faults: u64) {
        if faults > self.faults {
            let mute = MUTE << (faults - 1).min(MOST_DOUBLINGS);
            (self.faults, self.muted_until) = (faults, self.muted_until.max(Millis(now.0 + mute)));
        }
    }

    /// Which of these votes, whoever brings them, are news of others.
    pub(super) fn news(&self, own: ValidatorId, votes: &[SignedVote]) -> Vec<SignedVote> {
        let known = |signed: &SignedVote| self.votes.get(&signed.validator).is_some_and(|heard| heard.contains(signed));
        let news = |signed: &&SignedVote| signed.validator != own && !self.convicted.contains(&signed.validator) && !known(signed);
        votes.iter().filter(news).cloned().collect()
    }

    pub(super) fn heard(&mut self, votes: Vec<SignedVote>) {
        self.new_votes.extend(votes);
    }

    pub(super) fn kept(&mut self, certificate: &Certificate) {
        self.new_certificates.push(certificate.clone());
    }

    pub(super) fn has_news(&self) -> bool {
        !self.new_votes.is_empty() || !self.new_certificates.is_empty()
    }

    /// Judges what has come: one proven contradiction of each validator that was not convicted yet.
    pub(super) fn contradictions(&mut self, schedule: &Schedule, health: &Health) -> Vec<Contradiction> {
        let mut found: BTreeMap<ValidatorId, (Vote, Vote)> = BTreeMap::new();
        let (low, _) = window(health);
        let proven = |signed: &SignedVote| schedule.verify_vote(signed).is_ok();
        for signed in std::mem::take(&mut self.new_votes) {
            let author = signed.validator;
            let heard = self.votes.entry(author).or_default();
            let open = !self.convicted.contains(&author) && !found.contains_key(&author);
            if open && signed.vote.link.target.number >= low {
                let votes =
                    heard.iter().filter(|other| other.vote.link.target.number >= low && other.vote.conflict(&signed.vote).is_some());
                let certificates = self.certificates.iter().filter(|held| accuses(schedule, held, &signed));
                let others = votes.filter(|other| proven(other)).map(|other| &other.vote).chain(certificates.map(|held| &held.vote));
                if let Some(other) = others.take(1).find(|_| proven(&signed)) {
                    found.insert(author, (other.clone(), signed.vote.clone()));
                }
            }
            heard.push(signed);
        }
        for certificate in std::mem::take(&mut self.new_certificates) {
            for (author, heard) in self.votes.iter().filter(|(author, _)| !self.convicted.contains(author)) {
                let open = heard.iter().filter(|signed| signed.vote.link.target.number >= low);
                if let Some(signed) = open.filter(|signed| accuses(schedule, &certificate, signed)).find(|signed| proven(signed)) {
                    found.entry(*author).or_insert_with(|| (signed.vote.clone(), certificate.vote.clone()));
                }
            }
            self.certificates.push(certificate);
        }
        found.into_iter().map(|(validator, (one, other))| Contradiction { validator, one, other }).collect()
    }
}

fn still_stored(storage: &dyn CheckpointStorage, votes: &mut Vec<SignedVote>) {
    if !votes.is_empty() {
        let stored = storage.signatures_after(CheckpointNumber(0), ROWS).unwrap_or_default();
        votes.retain(|signed| stored.contains(signed));
    }
}

/// Whether a certificate counts a vote's author among its signers and excludes the vote.
fn accuses(schedule: &Schedule, certificate: &Certificate, signed: &SignedVote) -> bool {
    certificate.vote.conflict(&signed.vote).is_some() && counts(schedule, certificate, signed.validator)
}

/// Whether a certificate counts this validator among its signers.
pub(super) fn counts(schedule: &Schedule, certificate: &Certificate, validator: ValidatorId) -> bool {
    let seat = schedule.electorate(&certificate.vote.link).ok().and_then(|electorate| electorate.index(validator));
    seat.is_some_and(|seat| certificate.signers.has(seat))
}

/// Whether this disk holds evidence against a validator that convinces a third party.
pub(super) fn convicts(storage: &dyn CheckpointStorage, schedule: &Schedule, validator: ValidatorId) -> bool {
    let kept = storage.evidence_after(None, ROWS).unwrap_or_default();
    kept.iter().any(|evidence| evidence.validator == validator && evidence.verify(schedule).is_ok())
}

/// Whether the record of own votes does not know this one although it is newer than all, or knows another in its place.
pub(super) fn is_unrecorded(storage: &dyn CheckpointStorage, vote: &Vote) -> bool {
    let (source, target) = (vote.link.source.number, vote.link.target.number);
    let recorded = storage.own_votes_after(target.minus(1), 1).unwrap_or_default();
    match recorded.first().filter(|recorded| recorded.link.target.number == target) {
        Some(recorded) => recorded != vote,
        None => match storage.sign_state() {
            Ok(Some(state)) => target > state.max_target || source > state.max_source,
            Ok(None) => true,
            Err(_) => false,
        },
    }
}

/// Whether a message shows a node a signature of its own key that its record does not know. From then on the key must not sign there.
pub(super) fn warns(storage: &dyn CheckpointStorage, schedule: &Schedule, own: ValidatorId, health: &Health, message: &Message) -> bool {
    let newer =
        |signed: &SignedVote| signed.validator == own && is_unrecorded(storage, &signed.vote) && schedule.verify_vote(signed).is_ok();
    match message {
        Message::OwnVotes(answer) => {
            let certificate = answer.certificate.as_ref().filter(|certificate| {
                counts(schedule, certificate, own)
                    && is_unrecorded(storage, &certificate.vote)
                    && schedule.verify_certificate(certificate).is_ok()
            });
            answer.votes.iter().take(OwnVotes::MAX_VOTES).any(newer) || certificate.is_some()
        }
        Message::Votes(votes) => {
            // What lies below the last final checkpoint may leave the window while the message is read.
            let (_, high) = window(health);
            votes.iter().filter(|signed| (health.finalized..=high).contains(&signed.vote.link.target.number)).any(newer)
        }
        _ => false,
    }
}
