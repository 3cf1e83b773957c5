//! Taking in what peers say: votes and certificates.

use std::sync::Arc;

use super::{Core, Effect};
use crate::certificate::Certificate;
use crate::evidence::{Evidence, Testimony};
use crate::network::{MAX_CERTIFICATES_PER_MESSAGE, MAX_VOTES_PER_MESSAGE, Message, Recipient};
use crate::set::{self, Electorate};
use crate::types::{CheckpointNumber, ValidatorId};
use crate::vote::{Conflict, SignedVote, Vote};

impl Core {
    pub(super) fn receive(&mut self, from: ValidatorId, message: Message) {
        if Some(from) == self.config.validator || !self.schedule.knows(from) || !self.peers.hear(from, self.now) {
            return;
        }
        match message {
            Message::Status(status) => self.take_status(from, status),
            Message::Votes(votes) => votes.into_iter().take(MAX_VOTES_PER_MESSAGE).for_each(|signed| self.take_vote(from, signed)),
            Message::Certificates(certificates) => self.take_certificates(from, certificates),
            Message::CertificatesAfter(after) => self.serve(from, after),
            Message::OwnVotesQuery { nonce } => self.answer_own_votes(from, nonce),
            Message::OwnVotes(answer) => self.take_own_votes(from, answer),
        }
    }

    fn take_certificates(&mut self, from: ValidatorId, certificates: Vec<Certificate>) {
        let more = certificates.get(MAX_CERTIFICATES_PER_MESSAGE - 1).map(|last| last.vote.link.target.number);
        for certificate in certificates.into_iter().take(MAX_CERTIFICATES_PER_MESSAGE) {
            if let Err(set::Error::Signature | set::Error::Quorum { .. } | set::Error::Bitmap { .. }) = self.take_certificate(certificate) {
                self.peers.fault(from, self.now);
                return;
            }
        }
        if let Some(after) = more {
            // There is more where this came from.
            self.send(Recipient::One(from), Message::CertificatesAfter(after));
        }
    }

    /// Verifies and installs a certificate. What is known already, or lies below finality, costs nothing.
    pub(super) fn take_certificate(&mut self, certificate: Certificate) -> Result<(), set::Error> {
        let target = certificate.vote.link.target.number;
        if self.damaged.get(&target) == Some(&certificate.digest()) {
            return self.mend(certificate);
        }
        let news = match self.links.get(target) {
            Some(held) => held.digest != certificate.digest(),
            None => target > self.links.finalized().checkpoint.number,
        };
        if news && self.halted.is_none() {
            let electorate = Arc::clone(self.schedule.verify_certificate(&certificate)?);
            self.install(certificate, &electorate);
        }
        Ok(())
    }

    /// Puts a sound certificate in the place of a damaged one for the same link.
    fn mend(&mut self, certificate: Certificate) -> Result<(), set::Error> {
        let electorate = Arc::clone(self.schedule.verify_certificate(&certificate)?);
        let target = certificate.vote.link.target.number;
        self.damaged.remove(&target);
        tracing::info!(event = "certificate_mended", %target, "a damaged certificate was replaced by a peer's");
        if target > self.links.finalized().checkpoint.number && self.halted.is_none() {
            self.install(certificate, &electorate);
        } else {
            self.links.insert(certificate.clone());
            self.links.bound();
            self.effects.push(Effect::KeepCertificate { certificate: Box::new(certificate), finalized: None });
        }
        Ok(())
    }

    /// Takes a verified certificate over: looks for whoever it convicts, and advances finality.
    pub(super) fn install(&mut self, certificate: Certificate, electorate: &Electorate) {
        let vote = &certificate.vote;
        let signers: Vec<ValidatorId> = certificate.signers.iter().filter_map(|index| electorate.validator(index)).collect();
        let conflicting = self.links.conflicting(vote);
        if let Some(other) = conflicting.first() {
            let both = Testimony::Certificate(other.clone());
            // What a start confirmed by its digest alone does not yet speak for each of its signers.
            if let Ok(theirs) = self.schedule.verify_certificate(other).cloned() {
                for validator in signers.iter().filter(|signer| theirs.index(**signer).is_some_and(|index| other.signers.has(index))) {
                    self.keep_proven(Evidence::new(*validator, Testimony::Certificate(certificate.clone()), both.clone()));
                }
            }
            self.halt(format!(
                "two certificates contradict each other at targets {} and {}",
                other.vote.link.target.number, vote.link.target.number
            ));
            return;
        }
        for validator in &signers {
            for target in self.pool.conflicting(*validator, vote) {
                if let Some(signed) = self.verified(target, *validator) {
                    self.keep_evidence(Evidence::new(*validator, Testimony::Vote(signed), Testimony::Certificate(certificate.clone())));
                }
            }
        }
        if self.config.validator.is_some_and(|own| signers.contains(&own)) && self.own.is_foreign(vote) {
            let vote = vote.clone();
            self.foreign_vote(&vote);
        }
        let (target, finalized) = (vote.link.target.number, self.links.finality_of(&vote.link));
        self.links.insert(certificate.clone());
        self.links.bound();
        self.progress_at = self.now;
        self.damaged.remove(&target);
        self.effects.push(Effect::KeepCertificate { certificate: Box::new(certificate), finalized });
        self.pass_on(target, Recipient::All, true);
        if let Some(finalized) = finalized {
            self.links.set_finalized(finalized);
            self.own.attempts = 0;
            self.advanced_at = self.now;
            self.effects.push(Effect::Finalized(finalized));
            for passed in self.pool.targets_up_to(finalized.checkpoint.number) {
                self.pass_on(passed, Recipient::All, true);
            }
            self.pool.forget_below(self.window_low());
        }
        self.certify_from(target);
    }

    /// Takes one vote, from its author or passed on by another.
    pub(super) fn take_vote(&mut self, from: ValidatorId, signed: SignedVote) {
        let (target, author) = (signed.vote.link.target.number, signed.validator);
        let Ok(electorate) = self.schedule.check(&signed.vote).cloned() else { return };
        if electorate.index(author).is_none() || !self.in_window(target) {
            return;
        }
        if Some(author) == self.config.validator {
            if self.own.is_foreign(&signed.vote) {
                if self.schedule.verify_vote(&signed).is_ok() { self.foreign_vote(&signed.vote) } else { self.peers.fault(from, self.now) }
            }
            return;
        }
        let digest = signed.vote.digest();
        if let Some(held) = self.pool.get(target, author)
            && held.digest == digest
            && (held.verified || held.signed.signature == signed.signature)
        {
            // Said before: the author does not know that it is certified.
            if from == author {
                self.answer_resent(from, target);
            }
            return;
        }
        let suspects = self.pool.conflicting(author, &signed.vote);
        let convicting = self.convicting(author, &signed.vote);
        // What has convicted its author already costs nothing more, however often it comes.
        let accusations =
            suspects.iter().filter_map(|target| self.pool.get(*target, author)).map(|held| Testimony::Vote(held.signed.clone()));
        let contradicts = !suspects.is_empty() || !convicting.is_empty();
        let news = accusations
            .chain(convicting.iter().cloned().map(Testimony::Certificate))
            .any(|other| !self.is_kept(&Evidence::new(author, Testimony::Vote(signed.clone()), other)));
        if contradicts && !news {
            return;
        }
        // Votes of their authors wait for others that agree and are verified with them. What is passed on, or contradicts something,
        // is verified by itself.
        let known = self.pool.get(target, author).is_some();
        let verify_now = from != author || known || contradicts;
        if verify_now && self.schedule.verify_vote(&signed).is_err() {
            self.peers.fault(from, self.now);
            return;
        }
        self.accuse(&signed, suspects, convicting);
        match self.pool.get(target, author) {
            // The first stays where it is; both are in the evidence.
            Some(held) if held.verified && held.digest != digest => return,
            _ => self.pool.insert(signed.clone(), digest, verify_now),
        }
        // Whoever had it from its author passes it on; once around is enough.
        if from != author
            && let Some(held) = self.pool.get_mut(target, author)
        {
            held.passed_on = true;
        }
        self.effects.push(Effect::KeepVotes(vec![signed]));
        if self.links.get(target).is_some() {
            self.pass_on(target, Recipient::All, true);
        }
        self.try_certify(target, digest);
    }

    /// Certificates that count the author of a vote among their signers and exclude the vote.
    fn convicting(&self, author: ValidatorId, vote: &Vote) -> Vec<Certificate> {
        let counts = |certificate: &Certificate| {
            let seat = self.schedule.electorate(&certificate.vote.link).ok().and_then(|electorate| electorate.index(author));
            seat.is_some_and(|seat| certificate.signers.has(seat))
        };
        let conflicting = self.links.iter().map(|held| &held.certificate).filter(|held| held.vote.conflict(vote).is_some());
        conflicting.filter(|held| counts(held)).cloned().collect()
    }

    /// Keeps a verified vote together with everything of its author's that excludes it.
    fn accuse(&mut self, signed: &SignedVote, suspects: Vec<CheckpointNumber>, convicting: Vec<Certificate>) {
        let author = signed.validator;
        for suspect in suspects {
            if let Some(other) = self.verified(suspect, author) {
                self.keep_evidence(Evidence::new(author, Testimony::Vote(signed.clone()), Testimony::Vote(other)));
            }
        }
        for certificate in convicting {
            self.keep_evidence(Evidence::new(author, Testimony::Vote(signed.clone()), Testimony::Certificate(certificate)));
        }
    }

    /// Takes votes of before the start back in. What has come since may exclude them; among themselves they were judged as they came.
    pub(super) fn restore_history(&mut self, votes: Vec<SignedVote>) {
        for signed in &votes {
            let author = signed.validator;
            let (suspects, convicting) = (self.pool.conflicting(author, &signed.vote), self.convicting(author, &signed.vote));
            let contradicts = !suspects.is_empty() || !convicting.is_empty();
            if contradicts && Some(author) != self.config.validator && self.schedule.verify_vote(signed).is_ok() {
                self.accuse(signed, suspects, convicting);
            }
        }
        for signed in votes {
            self.restore_vote(signed);
        }
    }

    /// Takes a vote back in; what has come since stays. Of several for one target only one can hold, and it is found out which.
    pub(super) fn restore_vote(&mut self, signed: SignedVote) {
        let (target, author) = (signed.vote.link.target.number, signed.validator);
        if !self.in_window(target) {
            return self.pool.remember(signed);
        }
        let rival = self.pool.get(target, author).map(|held| held.signed == signed);
        if rival.is_none() || (rival == Some(false) && self.verified(target, author).is_none()) {
            let digest = signed.vote.digest();
            self.pool.insert(signed, digest, false);
        }
    }

    /// A held vote, if its signature holds; one that does not is dropped.
    fn verified(&mut self, target: CheckpointNumber, validator: ValidatorId) -> Option<SignedVote> {
        let held = self.pool.get_mut(target, validator)?;
        if held.verified {
            return Some(held.signed.clone());
        }
        if self.schedule.verify_vote(&held.signed).is_ok() {
            held.verified = true;
            return Some(held.signed.clone());
        }
        self.pool.remove(target, validator);
        self.peers.fault(validator, self.now);
        None
    }

    /// Passes votes for a target on. With `contradicting` only those that say something else than its certificate, once each, so that
    /// two halves of a contradiction meet wherever they arrived; without it all of them.
    pub(super) fn pass_on(&mut self, target: CheckpointNumber, to: Recipient, contradicting: bool) {
        let certified = self.links.get(target).map(|held| held.digest);
        if contradicting && certified.is_none() && target > self.links.finalized().checkpoint.number {
            return;
        }
        let chosen = self.pool.at(target).filter(|held| !contradicting || (certified != Some(held.digest) && !held.passed_on));
        let authors: Vec<ValidatorId> = chosen.map(|held| held.signed.validator).collect();
        let mut votes = Vec::new();
        for author in authors {
            if Some(author) == self.config.validator {
                continue;
            }
            if let Some(signed) = self.verified(target, author) {
                votes.push(signed);
                if contradicting && let Some(held) = self.pool.get_mut(target, author) {
                    held.passed_on = true;
                }
            }
        }
        for some in votes.chunks(MAX_VOTES_PER_MESSAGE) {
            self.send(to, Message::Votes(some.to_vec()));
        }
    }
}

/// Names the conflict in logs.
impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SameTarget => "two votes for one target",
            Self::Surround => "one vote surrounds another",
        })
    }
}
