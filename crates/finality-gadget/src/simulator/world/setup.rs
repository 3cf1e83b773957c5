//! Who takes part in a run, and what will go wrong when.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::chain::SimChain;
use super::super::disk::DiskFault;
use super::super::keys::Key;
use super::super::liar::Liar;
use super::super::node::{Node, Role};
use super::super::plan::{Reorgs, Scenario};
use super::super::rng::Rng;
use super::{Action, TICK, World};
use crate::domain::{Domain, TrustedCheckpoint};
use crate::persistence::Declaration;
use crate::set::{Schedule, ValidatorSet, faults};
use crate::types::{ChainId, CheckpointNumber, SetId, ValidatorId};

impl World<'_> {
    pub(super) fn populate(&mut self) {
        let scenario = self.scenario.clone();
        let everyone: BTreeSet<ValidatorId> =
            self.schedule.sets().flat_map(|(_, set)| set.members().map(|(id, _)| id).collect::<Vec<_>>()).collect();
        // Those that misbehave sit in the middle, where they are members of every set.
        let middle: Vec<ValidatorId> =
            everyone.iter().copied().filter(|id| self.schedule.sets().all(|(_, set)| set.contains(*id))).collect();
        let liars = scenario.liars as usize;
        let twins = scenario.twins as usize;
        let doubtful = scenario.doubtful as usize;
        for validator in everyone {
            let key = Arc::new(Key::of(scenario.scheme, validator));
            let rank = middle.iter().position(|id| *id == validator);
            if rank.is_some_and(|rank| rank < liars) {
                self.liars.push(Liar { validator, key, filthy: scenario.filthy });
                continue;
            }
            let twin = rank.is_some_and(|rank| rank >= liars && rank < liars + twins);
            for _ in 0..=usize::from(twin) {
                let delay = self.rng.between(0, scenario.interval * 2);
                let role = if twin { Role::Twin } else { Role::Honest };
                let mut node = Node::new(validator, role, self.disks.empty(), delay, Arc::clone(&key));
                node.declare(&self.schedule, Declaration::NeverSigned);
                node.doubtful = rank.is_some_and(|rank| rank >= liars + twins && rank < liars + twins + doubtful);
                self.nodes.push(node);
            }
        }
    }

    pub(super) fn plan(&mut self) {
        let scenario = self.scenario.clone();
        let chaos = scenario.chaos;
        for node in 0..self.nodes.len() {
            let at = self.rng.between(0, 2_000);
            self.at(at, Action::Start(node));
            let tick = self.rng.between(1, TICK);
            self.at(tick, Action::Tick(node));
        }
        self.at(scenario.interval, Action::Grow);
        for liar in 0..self.liars.len() {
            self.at(1_000, Action::Lie(liar));
        }
        let honest = self.nodes.len();
        for _ in 0..scenario.crashes {
            let (at, node) = (self.rng.between(0, chaos), self.rng.index(honest));
            self.at(at, Action::Crash(node));
        }
        for _ in 0..scenario.disk_faults {
            let (at, node, writes) = (self.rng.between(0, chaos), self.rng.index(honest), self.rng.between(0, 12));
            let fault = [DiskFault::Full, DiskFault::SyncFails, DiskFault::SyncFails, DiskFault::DiesAfterWrite][self.rng.index(4)];
            self.at(at, Action::Fault(node, writes, fault));
        }
        for _ in 0..scenario.partitions {
            let at = self.rng.between(0, chaos);
            let length = self.rng.between(1_000, chaos / 2);
            self.at(at, Action::Partition);
            self.at((at + length).min(chaos), Action::Join);
        }
        if scenario.reorgs != Reorgs::None {
            for _ in 0..self.rng.between(1, 6) {
                let at = self.rng.between(0, chaos);
                self.at(at, Action::Reorganise);
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].doubtful {
                let at = self.rng.between(chaos / 4, chaos * 3 / 4);
                if self.rng.chance(50) {
                    self.at(at, Action::Wipe(node));
                } else {
                    let taken = self.rng.between(0, at);
                    self.at(taken, Action::Backup(node));
                    self.at(at, Action::Restore(node));
                }
            }
        }
        self.at(chaos, Action::Heal);
    }
}

/// One set after another; each change replaces no more members than may be faulty.
pub(super) fn schedule(scenario: &Scenario, rng: &mut Rng) -> Schedule {
    let scheme = scenario.scheme.scheme();
    let set = |id: u32, first: u32| {
        let registrations: Vec<_> = (first..first + scenario.validators)
            .map(|id| {
                let id = ValidatorId(id);
                Key::of(scenario.scheme, id).registration(id)
            })
            .collect();
        ValidatorSet::new(SetId(u64::from(id)), &*scheme, &registrations).expect("simulated keys are registered with their proofs")
    };
    let first = set(1, 0);
    let trusted = TrustedCheckpoint { checkpoint: SimChain::genesis(), set: first.digest() };
    let domain = Domain { chain: ChainId(31_337), trusted };
    let mut schedule = Schedule::new(domain, Arc::clone(&scheme), first).expect("the trusted checkpoint names the first set");
    let mut boundary = CheckpointNumber(0);
    let mut first = 0;
    for change in 0..scenario.set_changes {
        boundary = boundary.plus(rng.between(2, 8));
        first += u32::try_from(rng.between(1, faults(scenario.validators as usize).max(1) as u64)).unwrap_or(1);
        schedule.add(boundary, set(2 + change, first)).expect("ids and boundaries ascend");
    }
    schedule
}
