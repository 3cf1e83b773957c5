//! The certified links that are held in memory, and what is final by them.

use std::collections::BTreeMap;

use super::FinalityRule;
use crate::certificate::{Certificate, Finalized};
use crate::domain::Domain;
use crate::types::{CheckpointNumber, FinalityCheckpoint, Link, LinkDigest};
use crate::vote::Vote;

/// Certified links kept in memory below the last final checkpoint: enough for conflicts that show late. Older ones are in the storage.
pub(crate) const KEPT_BELOW_FINAL: u64 = 256;
/// Most certified links in memory at all. Each takes a quorum, so that only very long halts of finality come near it.
const MAX_LINKS: usize = 8192;

#[derive(Debug, Clone)]
pub(super) struct Certified {
    pub(super) certificate: Certificate,
    pub(super) digest: LinkDigest,
}

/// What is justified, and what is final.
#[derive(Debug)]
pub(super) struct Links {
    rule: FinalityRule,
    root: (FinalityCheckpoint, LinkDigest),
    by_target: BTreeMap<CheckpointNumber, Certified>,
    finalized: Finalized,
}

impl Links {
    pub(super) fn new(rule: FinalityRule, domain: &Domain) -> Self {
        let checkpoint = domain.trusted.checkpoint;
        let finalized = Finalized { checkpoint, by: checkpoint.number };
        Self { rule, root: (checkpoint, domain.root()), by_target: BTreeMap::new(), finalized }
    }

    pub(super) fn finalized(&self) -> Finalized {
        self.finalized
    }

    /// Highest justified number.
    pub(super) fn tip(&self) -> CheckpointNumber {
        self.by_target.keys().next_back().copied().unwrap_or(self.root.0.number).max(self.finalized.by)
    }

    pub(super) fn get(&self, target: CheckpointNumber) -> Option<&Certified> {
        self.by_target.get(&target)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Certified> + '_ {
        self.by_target.values()
    }

    pub(super) fn after(&self, after: CheckpointNumber) -> impl Iterator<Item = &Certified> + '_ {
        self.by_target.range(after.next()..).map(|(_, certified)| certified)
    }

    /// What [`Status::open_links`](crate::network::Status::open_links) says.
    pub(super) fn open_links(&self) -> u64 {
        self.after(self.finalized.checkpoint.number).fold(0, |sum, held| {
            let digest = held.digest.0;
            sum ^ u64::from_be_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
        })
    }

    /// Lowest target held.
    pub(super) fn lowest(&self) -> Option<CheckpointNumber> {
        self.by_target.keys().next().copied()
    }

    /// The justified checkpoints from the last final one up, highest first, each with the digest of the link that justified it.
    pub(super) fn sources(&self) -> impl Iterator<Item = (FinalityCheckpoint, LinkDigest)> + '_ {
        let certified = self.by_target.values().rev().map(|certified| (certified.certificate.vote.link.target, certified.digest));
        certified.chain([self.root]).filter(|(checkpoint, _)| checkpoint.number >= self.finalized.checkpoint.number)
    }

    /// Whether a vote's source is justified by the very link that the vote names.
    pub(super) fn source_is_justified(&self, vote: &Vote) -> bool {
        let (source, previous) = (vote.link.source, vote.previous);
        self.root == (source, previous)
            || self.by_target.get(&source.number).is_some_and(|held| held.certificate.vote.link.target == source && held.digest == previous)
    }

    /// Certificates that no honest quorum could have made beside one of `vote`.
    pub(super) fn conflicting(&self, vote: &Vote) -> Vec<Certificate> {
        self.iter().filter(|held| held.certificate.vote.conflict(vote).is_some()).map(|held| held.certificate.clone()).collect()
    }

    /// What becomes final by a link: its target under `Single`; its source under `Ffg`, if it leads to the direct child.
    pub(super) fn finality_of(&self, link: &Link) -> Option<Finalized> {
        let checkpoint = match self.rule {
            FinalityRule::Single => link.target,
            FinalityRule::Ffg if link.is_direct() => link.source,
            FinalityRule::Ffg => return None,
        };
        (checkpoint.number > self.finalized.checkpoint.number).then_some(Finalized { checkpoint, by: link.target.number })
    }

    pub(super) fn insert(&mut self, certificate: Certificate) {
        let (digest, target) = (certificate.digest(), certificate.vote.link.target.number);
        self.by_target.insert(target, Certified { certificate, digest });
    }

    pub(super) fn set_finalized(&mut self, finalized: Finalized) {
        assert!(finalized.checkpoint.number >= self.finalized.checkpoint.number, "finality moved backwards");
        self.finalized = finalized;
        let keep = finalized.checkpoint.number.minus(KEPT_BELOW_FINAL);
        self.by_target = self.by_target.split_off(&keep);
    }

    /// Takes a certificate out that turned out not to hold.
    pub(super) fn remove(&mut self, target: CheckpointNumber) {
        self.by_target.remove(&target);
    }

    /// Holds the memory's bound: the lowest go, but never what shows the last finality.
    pub(super) fn bound(&mut self) {
        while self.by_target.len() > MAX_LINKS {
            let by = self.finalized.by;
            let Some(lowest) = self.by_target.keys().find(|number| **number != by).copied() else { return };
            self.by_target.remove(&lowest);
        }
    }
}
