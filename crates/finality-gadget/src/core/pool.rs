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

    /// Forgets targets below `low`.
    pub(super) fn forget_below(&mut self, low: CheckpointNumber) {
        self.targets = self.targets.split_off(&low);
    }

    pub(super) fn len(&self) -> usize {
        self.targets.values().map(BTreeMap::len).sum()
    }
}
