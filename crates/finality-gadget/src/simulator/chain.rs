//! A chain that grows, forks and is reorganised, seen by each node with a delay of its own.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use crate::chain::ChainView;
use crate::types::{BlockHash, CheckpointNumber, FinalityCheckpoint, Millis};

/// The simulated chain. Position in a version is the checkpoint number; number 0 is the trusted checkpoint.
pub(super) struct SimChain {
    versions: Vec<(Millis, Rc<Vec<BlockHash>>)>,
    parents: HashMap<BlockHash, FinalityCheckpoint>,
    forks: u64,
    /// The chain's own `finalized` tag, with the moments it moved. It never moves back.
    finalized: BTreeMap<Millis, CheckpointNumber>,
}

fn hash(number: u64, fork: u64) -> BlockHash {
    BlockHash(Sha256::new().chain_update(b"block").chain_update(number.to_be_bytes()).chain_update(fork.to_be_bytes()).finalize().into())
}

impl SimChain {
    pub(super) fn new() -> Self {
        let versions = vec![(Millis(0), Rc::new(vec![hash(0, 0)]))];
        Self { versions, parents: HashMap::new(), forks: 0, finalized: BTreeMap::from([(Millis(0), CheckpointNumber(0))]) }
    }

    pub(super) fn genesis() -> FinalityCheckpoint {
        FinalityCheckpoint { number: CheckpointNumber(0), hash: hash(0, 0) }
    }

    fn latest(&self) -> &Rc<Vec<BlockHash>> {
        &self.versions[self.versions.len() - 1].1
    }

    pub(super) fn head(&self) -> CheckpointNumber {
        CheckpointNumber(self.latest().len() as u64 - 1)
    }

    pub(super) fn at(&self, number: CheckpointNumber) -> Option<FinalityCheckpoint> {
        let hash = *self.latest().get(usize::try_from(number.0).unwrap_or(usize::MAX))?;
        Some(FinalityCheckpoint { number, hash })
    }

    pub(super) fn grow(&mut self, now: Millis) {
        let mut next = (**self.latest()).clone();
        self.push(&mut next);
        self.versions.push((now, Rc::new(next)));
    }

    fn push(&mut self, chain: &mut Vec<BlockHash>) {
        let number = chain.len() as u64;
        let parent = FinalityCheckpoint { number: CheckpointNumber(number - 1), hash: chain[chain.len() - 1] };
        let next = hash(number, self.forks);
        self.parents.insert(next, parent);
        chain.push(next);
    }

    /// Everything above `keep` is replaced, up to the same height.
    pub(super) fn reorganise(&mut self, now: Millis, keep: CheckpointNumber) {
        let height = self.latest().len();
        let kept = usize::try_from(keep.0).unwrap_or(usize::MAX).saturating_add(1);
        if kept >= height {
            return;
        }
        self.forks += 1;
        let mut next = self.latest()[..kept].to_vec();
        while next.len() < height {
            self.push(&mut next);
        }
        self.versions.push((now, Rc::new(next)));
    }

    /// The `finalized` tag moves up; everything below it stays for good.
    pub(super) fn finalize(&mut self, now: Millis, number: CheckpointNumber) {
        let last = self.finalized_now();
        self.finalized.insert(now, number.max(last));
    }

    pub(super) fn finalized_now(&self) -> CheckpointNumber {
        self.finalized.values().next_back().copied().unwrap_or_default()
    }

    /// What a node with this delay sees.
    pub(super) fn view(
        &self,
        now: Millis,
        delay: u64,
        wanted: impl FnOnce(CheckpointNumber, Option<CheckpointNumber>) -> Vec<CheckpointNumber>,
    ) -> ChainView {
        let seen = Millis(now.0.saturating_sub(delay));
        let chain = self.versions.iter().rev().find(|(since, _)| *since <= seen).map_or(&self.versions[0].1, |(_, chain)| chain);
        let eligible = CheckpointNumber(chain.len() as u64 - 1);
        let finalized = self.finalized.range(..=seen).next_back().map(|(_, number)| (*number).min(eligible));
        let at = |number: CheckpointNumber| chain.get(usize::try_from(number.0).unwrap_or(usize::MAX)).map(|hash| (number, *hash));
        let hashes = wanted(eligible, finalized).into_iter().filter_map(at).collect();
        ChainView { eligible, finalized, hashes }
    }

    /// Whether `low` is `high` or an ancestor of it, in the tree of everything that was ever on the chain.
    pub(super) fn descends(&self, high: &FinalityCheckpoint, low: &FinalityCheckpoint) -> bool {
        let mut at = *high;
        while at.number > low.number {
            match self.parents.get(&at.hash) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        at == *low
    }
}
