//! Votes of all validators around the point where votes are cast.

use std::collections::BTreeMap;

use crate::types::{CheckpointNumber, LinkDigest, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// A vote as it is held. At most one for each target and validator; a second, different one becomes evidence.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) signed: SignedVote,
    pub(super) digest: LinkDigest,
    /// Whether the signature was checked. Votes that agree are checked together, when they are enough.
    pub(super) verified: bool,
    /// Whether it was passed on to all, as a vote that contradicts a certificate is.
    pub(super) passed_on: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    targets: BTreeMap<CheckpointNumber, BTreeMap<ValidatorId, Held>>,
    /// Of each validator whose votes were forgotten: the one with the highest target and the one with the highest source. A validator that
    /// runs on an old backup asks for exactly these.
    last: BTreeMap<ValidatorId, [SignedVote; 2]>,
}

impl Pool {
    pub(super) fn get(&self, target: CheckpointNumber, validator: ValidatorId) -> Option<&Held> {
        self.targets.get(&target)?.get(&validator)
    }

    pub(super) fn get_mut(&mut self, target: CheckpointNumber, validator: ValidatorId) -> Option<&mut Held> {
        self.targets.get_mut(&target)?.get_mut(&validator)
    }

    pub(super) fn insert(&mut self, signed: SignedVote, digest: LinkDigest, verified: bool) {
        let held = Held { digest, verified, passed_on: false, signed };
        self.targets.entry(held.signed.vote.link.target.number).or_default().insert(held.signed.validator, held);
    }

    pub(super) fn remove(&mut self, target: CheckpointNumber, validator: ValidatorId) {
        if let Some(votes) = self.targets.get_mut(&target) {
            votes.remove(&validator);
        }
    }

    /// All votes for a target.
    pub(super) fn at(&self, target: CheckpointNumber) -> impl Iterator<Item = &Held> + '_ {
        self.targets.get(&target).into_iter().flat_map(BTreeMap::values)
    }

    /// Votes for a target that say exactly the same.
    pub(super) fn agreeing(&self, target: CheckpointNumber, digest: LinkDigest) -> impl Iterator<Item = &Held> + '_ {
        self.at(target).filter(move |held| held.digest == digest)
    }

    /// All votes of a validator.
    pub(super) fn of(&self, validator: ValidatorId) -> impl DoubleEndedIterator<Item = &Held> + '_ {
        self.targets.values().filter_map(move |votes| votes.get(&validator))
    }

    /// Targets of a validator's votes that break the rules together with `vote`.
    pub(super) fn conflicting(&self, validator: ValidatorId, vote: &Vote) -> Vec<CheckpointNumber> {
        let conflicting = self.of(validator).filter(|held| held.signed.vote.conflict(vote).is_some());
        conflicting.map(|held| held.signed.vote.link.target.number).collect()
    }

    /// Everything held, ascending by target.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> + '_ {
        self.targets.values().flat_map(BTreeMap::values)
    }

    /// Targets up to `last` that have votes.
    pub(super) fn targets_up_to(&self, last: CheckpointNumber) -> Vec<CheckpointNumber> {
        self.targets.range(..=last).map(|(target, _)| *target).collect()
    }

    /// The largest number of validators that say the same about a target.
    pub(super) fn largest_camp(&self, target: CheckpointNumber) -> usize {
        let mut camps: BTreeMap<LinkDigest, usize> = BTreeMap::new();
        self.at(target).for_each(|held| *camps.entry(held.digest).or_default() += 1);
        camps.into_values().max().unwrap_or(0)
    }

    /// Forgets targets below `low`, but not who said what last.
    pub(super) fn forget_below(&mut self, low: CheckpointNumber) {
        let kept = self.targets.split_off(&low);
        for held in std::mem::replace(&mut self.targets, kept).into_values().flat_map(BTreeMap::into_values) {
            self.remember(held.signed);
        }
    }

    /// Notes a vote that is not held, if it is its author's newest in one way or the other.
    pub(super) fn remember(&mut self, signed: SignedVote) {
        match self.last.get_mut(&signed.validator) {
            None => _ = self.last.insert(signed.validator, [signed.clone(), signed]),
            Some([target, source]) => {
                if signed.vote.link.source.number > source.vote.link.source.number {
                    *source = signed.clone();
                }
                if signed.vote.link.target.number > target.vote.link.target.number {
                    *target = signed;
                }
            }
        }
    }

    /// A validator's votes with the highest target and with the highest source, forgotten ones included; each once.
    pub(super) fn newest(&self, validator: ValidatorId) -> Vec<SignedVote> {
        let known = || self.of(validator).map(|held| &held.signed).chain(self.last.get(&validator).into_iter().flatten());
        let target = known().max_by_key(|signed| signed.vote.link.target.number);
        let source = known().max_by_key(|signed| signed.vote.link.source.number);
        let mut votes: Vec<SignedVote> = target.into_iter().chain(source).cloned().collect();
        votes.dedup();
        votes
    }

    pub(super) fn len(&self) -> usize {
        self.targets.values().map(BTreeMap::len).sum()
    }
}
