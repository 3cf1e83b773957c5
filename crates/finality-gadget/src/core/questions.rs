//! Catching up, and asking for what this key signed elsewhere.

use super::{Core, Effect};
use crate::network::{MAX_CERTIFICATES_PER_MESSAGE, MAX_MESSAGE_BYTES, Message, OwnVotes, Recipient, Status};
use crate::types::{CheckpointNumber, ValidatorId};
use crate::vote::SignedVote;

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
        let mut votes: Vec<SignedVote> = Vec::new();
        let newest = self.pool.of(to).next_back();
        let highest_source = self.pool.of(to).max_by_key(|held| held.signed.vote.link.source.number);
        for held in newest.into_iter().chain(highest_source) {
            if !votes.contains(&held.signed) {
                votes.push(held.signed.clone());
            }
        }
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
            if self.own.is_foreign(&signed.vote) && self.schedule.verify_vote(&signed).is_ok() {
                self.foreign_vote(&signed.vote);
            }
        }
        if let Some(certificate) = answer.certificate
            && self.own.is_foreign(&certificate.vote)
            && let Ok(electorate) = self.schedule.verify_certificate(&certificate)
            && electorate.index(own).is_some_and(|index| certificate.signers.has(index))
        {
            self.foreign_vote(&certificate.vote);
        }
        self.own.answer(from, answer.nonce, answer.finalized);
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
