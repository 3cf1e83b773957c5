//! Catching up, and asking for what this key signed elsewhere.

use super::{Core, Effect};
use crate::network::{MAX_CERTIFICATES_PER_MESSAGE, MAX_MESSAGE_BYTES, Message, OwnVotes, Recipient, Status};
use crate::set;
use crate::types::LinkDigest;
use crate::types::{CheckpointNumber, ValidatorId};

/// Damaged certificates that are asked for again; with more the disk is the trouble, and the lowest are history.
const MAX_DAMAGED: usize = 1024;

impl Core {
    /// A peer that is further is asked, one that is behind is helped.
    pub(super) fn take_status(&mut self, from: ValidatorId, theirs: Status) {
        self.peers.set_status(from, theirs);
        let ours = self.status();
        let differ = theirs.finalized == ours.finalized && theirs.open_links != ours.open_links;
        if theirs.finalized > ours.finalized || theirs.justified > ours.justified || differ {
            let after = ours.finalized;
            if self.peers.may_ask(from, self.now, self.config.resend_every) {
                self.send(Recipient::One(from), Message::CertificatesAfter(after));
            }
        }
        if theirs.finalized < ours.finalized || theirs.justified < ours.justified {
            self.serve(from, theirs.finalized);
        }
    }

    /// Sends certificates above a number, from memory where it reaches so far down.
    pub(super) fn serve(&mut self, to: ValidatorId, after: CheckpointNumber) {
        if after >= self.links.tip() || !self.peers.may_answer(to, self.now) {
            return;
        }
        if self.links.lowest().is_some_and(|lowest| lowest <= after.next()) {
            let mut room = MAX_MESSAGE_BYTES;
            let held = self.links.after(after).take(MAX_CERTIFICATES_PER_MESSAGE).map(|held| held.certificate.clone());
            let certificates = held.take_while(|certificate| fits(&mut room, certificate.aggregate.0.len())).collect();
            self.send(Recipient::One(to), Message::Certificates(certificates));
        } else {
            self.effects.push(Effect::Serve { to, after });
        }
    }

    /// A vote came again: its author does not know the certificate.
    pub(super) fn answer_resent(&mut self, to: ValidatorId, target: CheckpointNumber) {
        if let Some(certificate) = self.links.get(target).map(|held| held.certificate.clone())
            && self.peers.may_answer(to, self.now)
        {
            self.send(Recipient::One(to), Message::Certificates(vec![certificate]));
        }
    }

    /// Asks every peer, again and again, until enough have answered.
    pub(super) fn ask_for_own_votes(&mut self) {
        let Some(nonce) = self.own.question() else { return };
        if self.asked_at.is_none_or(|asked| self.now.since(asked) >= self.config.resend_every) {
            self.asked_at = Some(self.now);
            self.send(Recipient::All, Message::OwnVotesQuery { nonce });
        }
    }

    /// Tells a peer the newest of what it signed, as far as this node knows. The peer checks the signatures.
    pub(super) fn answer_own_votes(&mut self, to: ValidatorId, nonce: u64) {
        if !self.peers.may_answer(to, self.now) {
            return;
        }
        let votes = self.pool.newest(to);
        let certificate = self.links.iter().rev().map(|held| &held.certificate).find(|certificate| {
            let electorate = self.schedule.electorate(&certificate.vote.link).ok();
            electorate.and_then(|electorate| electorate.index(to)).is_some_and(|index| certificate.signers.has(index))
        });
        let finalized = self.links.finalized().checkpoint.number;
        let answer = OwnVotes { nonce, finalized, votes, certificate: certificate.cloned() };
        self.send(Recipient::One(to), Message::OwnVotes(answer));
    }

    /// Judges an answer: a single signature of ours that the table does not know ends signing, whoever brings it, now or later.
    pub(super) fn take_own_votes(&mut self, from: ValidatorId, answer: OwnVotes) {
        let Some(own) = self.config.validator else { return };
        for signed in answer.votes.into_iter().take(OwnVotes::MAX_VOTES).filter(|signed| signed.validator == own) {
            if self.own.is_foreign(&signed.vote) {
                match self.schedule.verify_vote(&signed) {
                    Ok(_) => self.foreign_vote(&signed.vote),
                    // Nobody keeps a vote in another's name without having verified it.
                    Err(set::Error::Signature) => return self.peers.fault(from, self.now),
                    // Its schedule is another one.
                    Err(_) => {}
                }
            }
        }
        if let Some(certificate) = answer.certificate
            && self.own.is_foreign(&certificate.vote)
        {
            match self.schedule.verify_certificate(&certificate) {
                Ok(electorate) if electorate.index(own).is_some_and(|index| certificate.signers.has(index)) => {
                    self.foreign_vote(&certificate.vote);
                }
                Err(set::Error::Signature | set::Error::Quorum { .. } | set::Error::Bitmap { .. }) => {
                    return self.peers.fault(from, self.now);
                }
                _ => {}
            }
        }
        self.own.answer(from, answer.nonce, answer.finalized);
    }

    /// Takes out what the verification behind the start has shown not to hold. What is final stays final: the digests below the newest
    /// certificate show it.
    pub(super) fn distrust(&mut self, damaged: Vec<(CheckpointNumber, LinkDigest)>) {
        for (target, link) in damaged {
            if self.links.get(target).is_some_and(|held| held.digest == link) {
                self.links.remove(target);
            }
            self.damaged.insert(target, link);
        }
        while self.damaged.len() > MAX_DAMAGED {
            self.damaged.pop_first();
        }
    }

    /// Whether the stored certificate of a target does not hold, and no better one has come yet.
    pub fn is_damaged(&self, target: CheckpointNumber) -> bool {
        self.damaged.contains_key(&target)
    }

    /// Asks one peer after another for the lowest certificate that does not hold.
    pub(super) fn ask_for_damaged(&mut self) {
        let Some(lowest) = self.damaged.keys().next().copied() else { return };
        let peers: Vec<ValidatorId> =
            self.schedule.set_at(self.links.tip()).members().map(|(id, _)| id).filter(|id| Some(*id) != self.config.validator).collect();
        if let Some(peer) = peers.get(self.own.rotation % peers.len().max(1)).copied() {
            self.own.rotation = self.own.rotation.wrapping_add(1);
            self.send(Recipient::One(peer), Message::CertificatesAfter(lowest.minus(1)));
        }
    }

    /// Begins to sign when the answers suffice.
    pub(super) fn conclude_asking(&mut self) {
        let (next, finalized) = (self.links.tip().next(), self.links.finalized().checkpoint.number);
        let settled = self.started_at.is_some_and(|started| self.now.since(started) >= self.config.settle);
        if self.own.conclude(&self.schedule, next, finalized, settled) {
            self.own.voted_at = self.now;
            tracing::info!(event = "signing", max_target = %self.own.highest_target(), "peers know no newer vote of this key; it signs");
        }
    }
}

fn fits(room: &mut usize, aggregate: usize) -> bool {
    // The rest of a certificate is below 1 KiB plus a bit a member.
    let next = room.checked_sub(aggregate + 4096);
    *room = next.unwrap_or(0);
    next.is_some()
}
