//! When to vote, and for what.

use super::own::Request;
use super::{Core, Effect, Reason};
use crate::network::{Message, Recipient};
use crate::types::{CheckpointNumber, FinalityCheckpoint, Link, LinkDigest, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Justified checkpoints whose place on the chain is asked for, highest first. More than a few are justified above the last final one
/// only while finality is in trouble.
const MAX_SOURCES_ASKED: usize = 32;
/// Patience is doubled at most this often: from 15 s to 4 minutes.
const MAX_DOUBLINGS: u32 = 4;

impl Core {
    pub(super) fn numbers_wanted(&self, limit: CheckpointNumber) -> Vec<CheckpointNumber> {
        let sources = self.links.sources().take(MAX_SOURCES_ASKED).map(|(checkpoint, _)| checkpoint.number);
        let mut numbers: Vec<CheckpointNumber> =
            sources.flat_map(|number| [number, number.next()]).filter(|number| *number <= limit).collect();
        numbers.extend(roundest(self.own.floor, limit));
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Asks for a signature when the rule allows a vote.
    pub(super) fn vote_if_due(&mut self) {
        if !self.own.may_sign()
            || self.own.requested.is_some()
            || self.halted.is_some()
            || self.own.sign_again_at.is_some_and(|at| self.now < at)
        {
            return;
        }
        // What was signed before a restart is signed again, to be sent again.
        if let (None, Some(newest)) = (&self.own.signed, &self.own.newest)
            && newest.link.target.number > self.links.tip()
            && newest.domain == self.schedule.domain_digest()
        {
            self.own.requested = Some(Request::Resend);
            self.effects.push(Effect::Sign(newest.clone()));
            return;
        }
        if let Ok(vote) = self.next_vote() {
            self.own.requested = Some(Request::Vote);
            self.effects.push(Effect::Sign(vote));
        }
    }

    /// The vote that the rule allows now, or why there is none.
    pub(super) fn next_vote(&self) -> Result<Vote, Reason> {
        let own = self.config.validator.ok_or(Reason::Observer)?;
        let chain = self.chain.as_ref().ok_or(Reason::NoChain)?;
        let limit = self.limit(chain.eligible, chain.finalized);
        let (source, previous) = self.source()?;
        if source.number < self.own.mark {
            return Err(Reason::SourceBelowMark { source: source.number, mark: self.own.mark });
        }
        let target = self.target(own, source, limit)?;
        let target = chain.at(target).ok_or(Reason::NoChain)?;
        let link = Link { source, target };
        let electorate = self.schedule.electorate(&link).map_err(|_| Reason::TooManySets)?;
        electorate.index(own).ok_or(Reason::NotAMember)?;
        Ok(Vote { domain: self.schedule.domain_digest(), set: electorate.id(), sets: electorate.digests(), link, previous })
    }

    /// The highest justified checkpoint on this node's chain, not below the last final one.
    fn source(&self) -> Result<(FinalityCheckpoint, LinkDigest), Reason> {
        let chain = self.chain.as_ref().ok_or(Reason::NoChain)?;
        let finalized = self.links.finalized().checkpoint;
        let canonical = self.links.sources().take(MAX_SOURCES_ASKED).find(|(checkpoint, _)| chain.has(checkpoint));
        canonical.ok_or(Reason::FinalNotCanonical { finalized: finalized.number })
    }

    /// The direct child of the source, unless its number is known to be used up: whether it is, the table knows. Otherwise, after a time
    /// of patience, the roundest number above everything signed: validators whose heads and clocks differ then meet at the same number. The
    /// patience doubles with each such vote until finality advances, so that at last it exceeds whatever separates them: who sees
    /// the chain late must find the early ones still waiting.
    fn target(&self, own: ValidatorId, source: FinalityCheckpoint, limit: CheckpointNumber) -> Result<CheckpointNumber, Reason> {
        let child = source.number.next();
        // Who joins with the next set votes on the first link into it, whichever that is.
        let link = Link { source, target: FinalityCheckpoint { number: child, ..source } };
        let patience = self.config.patience.saturating_mul(1 << self.own.attempts.min(MAX_DOUBLINGS));
        let votes = self.schedule.electorate(&link).is_ok_and(|electorate| electorate.index(own).is_some());
        if child > limit {
            Err(Reason::NothingToVoteFor)
        } else if votes && child > self.own.floor {
            Ok(child)
        } else if self.now.since(self.own.voted_at.max(self.progress_at)) < patience {
            Err(Reason::Waiting { target: self.own.floor })
        } else {
            roundest(self.own.floor.max(source.number), limit).ok_or(Reason::Waiting { target: self.own.floor })
        }
    }

    /// Takes the signature it asked for.
    pub(super) fn signed(&mut self, signed: SignedVote) {
        if self.own.requested.take() == Some(Request::Vote) {
            self.own.voted_at = self.now;
            self.own.attempts = self.own.attempts.saturating_add(u32::from(!signed.vote.link.is_direct()));
            self.own.floor = self.own.floor.max(signed.vote.link.target.number);
        }
        self.own.remember(&signed.vote);
        self.own.newest = Some(signed.vote.clone());
        self.own.signed = Some(signed.clone());
        self.resent_at = self.now;
        let (target, digest) = (signed.vote.link.target.number, signed.vote.digest());
        self.pool.insert(signed.clone(), digest, true);
        // Its record is synced: it may leave. That it is also kept among everybody's votes is for later starts.
        self.send(Recipient::All, Message::Votes(vec![signed.clone()]));
        self.effects.push(Effect::KeepVotes(vec![signed]));
        self.try_certify(target, digest);
    }
}

/// The number above `floor` and up to `limit` that the highest power of two divides; the highest such.
pub(super) fn roundest(floor: CheckpointNumber, limit: CheckpointNumber) -> Option<CheckpointNumber> {
    if limit <= floor {
        return None;
    }
    // Everything below the highest bit in which the two differ can be cleared: that still lies above the floor.
    let bit = (floor.0 ^ limit.0).ilog2();
    Some(CheckpointNumber(limit.0 >> bit << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roundest_number_is_the_one_with_most_trailing_zeros() {
        for floor in 0..70u64 {
            for limit in 0..70u64 {
                let found = roundest(CheckpointNumber(floor), CheckpointNumber(limit)).map(|number| number.0);
                let most = (floor + 1..=limit).map(u64::trailing_zeros).max();
                assert_eq!(found.map(u64::trailing_zeros), most, "floor {floor}, limit {limit}");
                assert!(found.is_none_or(|number| number > floor && number <= limit));
            }
        }
    }
}
