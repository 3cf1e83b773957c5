//! Whether a run ended as it should.

use std::collections::BTreeSet;

use super::super::node::{Node, Role};
use super::super::plan::Reorgs;
use super::{Action, World};
use crate::core::{Health, Reason, Standing};
use crate::types::CheckpointNumber;

impl World<'_> {
    pub(super) fn healths(&self) -> impl Iterator<Item = (&Node, Health)> + '_ {
        self.nodes.iter().filter(|node| node.role == Role::Honest).filter_map(|node| Some((node, node.life.as_ref()?.gadget.health())))
    }

    /// Every honest node is up and has made progress.
    pub(super) fn is_well(&mut self) -> bool {
        if self.chain.head() < self.goal {
            return false;
        }
        let refused: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].doubtful)
            .filter(|at| {
                let life = self.nodes[*at].life.as_ref();
                life.is_some_and(|life| matches!(life.gadget.health().standing, Standing::Refused { .. }))
            })
            .filter(|at| !self.queue.values().any(|action| matches!(action, Action::Declare(node) if node == at)))
            .collect();
        for at in refused {
            self.refusal(at);
        }
        self.nodes.iter().filter(|node| node.role == Role::Honest).all(|node| node.life.is_some())
            && self.healths().all(|(_, health)| health.finalized >= self.goal)
    }

    /// Finality did not go on: then somebody must say why, and it must be one of the reasons for which a halt is right.
    pub(super) fn explain_halt(&mut self) {
        let mut blocked = BTreeSet::new();
        let mut reasons = Vec::new();
        let mut lowest = CheckpointNumber(u64::MAX);
        for (node, health) in self.healths() {
            lowest = lowest.min(health.finalized);
            let Some(stuck) = health.stuck else { continue };
            assert!(!stuck.reasons.is_empty(), "a halt without a reason at validator {}", node.validator);
            if stuck.reasons.iter().any(|reason| matches!(reason, Reason::FinalNotCanonical { .. } | Reason::SourceBelowMark { .. })) {
                blocked.insert(node.validator);
            }
            reasons.extend(stuck.reasons);
        }
        // A set that votes from here on has no quorum without those that rightly wait.
        let honest = |id| self.nodes.iter().any(|node| node.validator == id && node.role == Role::Honest);
        let sets: Vec<_> = self.schedule.sets().collect();
        let needed = sets.iter().enumerate().filter(|(at, _)| sets.get(at + 1).is_none_or(|(ends, _)| *ends >= lowest));
        let explained = needed.into_iter().any(|(_, (_, set))| {
            let waiting = set.members().filter(|(id, _)| blocked.contains(id)).count();
            let faulty = set.members().filter(|(id, _)| !honest(*id)).count();
            waiting > 0 && waiting + faulty > set.members().len() - set.quorum()
        });
        let everyone: Vec<String> = self.healths().map(|(node, health)| format!("  {}: {health:?}", node.validator)).collect();
        assert!(explained, "no progress after the network healed, and no right reason:\n{}", everyone.join("\n"));
        assert!(self.scenario.reorgs != Reorgs::None, "finality halted although the chain was never reorganised: {reasons:?}");
        self.outcome.halted = reasons;
    }
}
