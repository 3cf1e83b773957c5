//! What must hold, checked by other means than the gadget's own: every assertion has a text of its own, by which mutants are told apart.

use std::collections::{BTreeMap, BTreeSet};

use super::chain::SimChain;
use super::disk::Disk;
use crate::certificate::{Certificate, Finalized};
use crate::core::FinalityRule;
use crate::evidence::Evidence;
use crate::set::Schedule;
use crate::types::{FinalityCheckpoint, LinkDigest, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Sees everything that leaves anybody.
pub(super) struct Monitor {
    pub(super) schedule: Schedule,
    rule: FinalityRule,
    /// What each honest validator signed, in the order in which it left.
    wire: BTreeMap<ValidatorId, Vec<Vote>>,
    /// Who signed what, liars included.
    statements: BTreeMap<LinkDigest, BTreeSet<ValidatorId>>,
    /// What some node holds a certificate of.
    pub(super) certified: BTreeMap<LinkDigest, FinalityCheckpoint>,
    pub(super) links: Vec<Certificate>,
    finals: BTreeMap<FinalityCheckpoint, ValidatorId>,
    pub(super) votes: usize,
    pub(super) evidence: BTreeSet<ValidatorId>,
    pub(super) unnoticed: BTreeSet<ValidatorId>,
}

impl Monitor {
    pub(super) fn new(schedule: Schedule, rule: FinalityRule) -> Self {
        let root = (schedule.domain().root(), schedule.domain().trusted.checkpoint);
        Self {
            schedule,
            rule,
            wire: BTreeMap::new(),
            statements: BTreeMap::new(),
            certified: BTreeMap::from([root]),
            links: Vec::new(),
            finals: BTreeMap::new(),
            votes: 0,
            evidence: BTreeSet::new(),
            unnoticed: BTreeSet::new(),
        }
    }

    /// Somebody signed something, and it is out.
    pub(super) fn signed(&mut self, validator: ValidatorId, vote: &Vote) {
        self.statements.entry(vote.digest()).or_default().insert(validator);
    }

    /// Whether its signature of this vote is out.
    pub(super) fn has_stated(&self, validator: ValidatorId, vote: &Vote) -> bool {
        self.statements.get(&vote.digest()).is_some_and(|signers| signers.contains(&validator))
    }

    /// An honest validator's own vote leaves it.
    pub(super) fn vote_left(&mut self, chain: &SimChain, disk: &dyn Disk, signed: &SignedVote) {
        assert!(self.schedule.verify_vote(signed).is_ok(), "an honest validator sent a vote that does not verify");
        self.statement_left(chain, disk, signed.validator, &signed.vote);
    }

    /// An honest validator's signature leaves it, alone or within a certificate that it made.
    pub(super) fn statement_left(&mut self, chain: &SimChain, disk: &dyn Disk, validator: ValidatorId, vote: &Vote) {
        self.statements.entry(vote.digest()).or_default().insert(validator);
        let link = vote.link;
        let earlier = self.wire.entry(validator).or_default();
        let new = !earlier.contains(vote);
        for other in earlier.iter().filter(|_| new) {
            assert!(
                vote.conflict(other).is_none(),
                "an honest validator made slashable votes: {validator} signed {:?} after {:?}",
                vote.link,
                other.link
            );
            assert!(link.target.number > other.link.target.number, "an honest validator signed a target that is not above all its targets");
            assert!(link.source.number >= other.link.source.number, "an honest validator signed a source below an earlier one");
        }
        assert!(disk.survives(vote), "a vote left validator {validator} that its disk does not hold: {vote:?}");
        if !new {
            return;
        }
        self.votes += 1;
        assert!(
            self.certified.get(&vote.previous) == Some(&link.source),
            "an honest validator voted from a source that nobody has justified: {link:?}"
        );
        assert!(chain.descends(&link.target, &link.source), "an honest validator voted for a target that does not descend from its source");
        if self.rule == FinalityRule::Single {
            assert!(link.target.number <= chain.finalized_now(), "an honest validator voted above the chain's finalized tag");
        }
        earlier.push(vote.clone());
    }

    /// A node keeps a certificate. Votes that left in the same moment must have been reported before.
    pub(super) fn certificate_kept(&mut self, certificate: &Certificate) {
        let link = certificate.vote.link;
        let none = BTreeSet::new();
        let signed = self.statements.get(&certificate.digest()).unwrap_or(&none);
        // Counted anew: every set in force from source to target, each with n − ⌊(n − 1) / 3⌋ of its members.
        let sets: Vec<_> = self.schedule.sets().map(|(boundary, set)| (boundary, set.clone())).collect();
        let in_force = sets.iter().enumerate().filter(|(at, (boundary, _))| {
            let ends = sets.get(at + 1).map(|(next, _)| *next);
            let starts_in_time = *boundary < link.target.number;
            let lasts = ends.is_none_or(|ends| ends >= link.source.number);
            starts_in_time && lasts
        });
        for (_, (_, set)) in in_force {
            let members = set.members().len();
            let signers = set.members().filter(|(id, _)| signed.contains(id)).count();
            assert!(
                signers >= members - (members - 1) / 3,
                "a certificate lacks a quorum of one of its sets: {link:?} has {signers} of {members}"
            );
        }
        self.certified.insert(certificate.digest(), link.target);
        if !self.links.iter().any(|known| known.vote == certificate.vote) {
            self.links.push(certificate.clone());
        }
    }

    /// A node tells its host that something is final.
    pub(super) fn finalized(&mut self, chain: &SimChain, disk: &dyn Disk, validator: ValidatorId, finalized: &Finalized) {
        let checkpoint = finalized.checkpoint;
        assert!(
            disk.durable_finalized().is_some_and(|durable| durable.checkpoint.number >= checkpoint.number),
            "finality was announced that the disk does not hold"
        );
        if self.finals.contains_key(&checkpoint) {
            return;
        }
        for (other, by) in &self.finals {
            let (low, high) = if other.number <= checkpoint.number { (other, &checkpoint) } else { (&checkpoint, other) };
            assert!(
                chain.descends(high, low),
                "two conflicting checkpoints are final: {other} at validator {by}, {checkpoint} at {validator}"
            );
        }
        self.finals.insert(checkpoint, validator);
    }

    /// A node keeps evidence: a third party that has nothing but the schedule must be convinced, and the accused be guilty.
    pub(super) fn evidence_kept(&mut self, evidence: &Evidence, honest: impl Fn(ValidatorId) -> bool) {
        let judged = Evidence::decode(&evidence.encode()).map(|read| read.verify(&self.schedule).is_ok());
        assert_eq!(judged, Ok(true), "evidence that convinces no third party");
        assert!(!honest(evidence.validator), "evidence against an honest validator");
        self.evidence.insert(evidence.validator);
    }

    /// Whether a vote of this validator is out that its disk does not hold.
    pub(super) fn has_left_more(&self, validator: ValidatorId, disk: &dyn Disk) -> bool {
        self.wire.get(&validator).is_some_and(|votes| votes.last().is_some_and(|newest| !disk.survives(newest)))
    }

    pub(super) fn finals(&self) -> usize {
        self.finals.len()
    }
}
