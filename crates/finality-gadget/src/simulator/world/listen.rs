//! What reaches a node, and what it must make of that.

use super::super::hearing::{convicts, warns, window};
use super::super::node::Role;
use super::World;
use crate::network::Message;
use crate::types::ValidatorId;

impl World<'_> {
    pub(super) fn deliver(&mut self, to: usize, from: ValidatorId, message: &Message) {
        let liar = self.liars.iter().any(|liar| liar.validator == from);
        let node = &mut self.nodes[to];
        let Some(life) = &mut node.life else { return };
        let (mut news, mut warned) = (Vec::new(), false);
        if !liar || node.hearing.listens_to_liars() {
            let mut own = matches!(message, Message::OwnVotes(_));
            if let Message::Votes(votes) = message {
                news = node.hearing.news(node.validator, votes);
                own = votes.iter().any(|signed| signed.validator == node.validator);
            }
            if own || !news.is_empty() {
                let health = life.gadget.health();
                let (low, high) = window(&health);
                news.retain(|signed| (low..=high).contains(&signed.vote.link.target.number));
                warned = own && warns(&*life.storage, &self.schedule, node.validator, &health, message);
            }
        }
        let stopped = life.gadget.receive(from, message.clone()).is_err();
        if !stopped {
            node.hearing.heard(news);
            node.warned |= warned;
        }
        self.after(to, stopped);
    }

    /// Whoever said two things to one node is convicted there, at once.
    pub(super) fn judge_hearing(&mut self, at: usize) {
        let (node, filthy) = (&mut self.nodes[at], self.scenario.filthy && !self.liars.is_empty());
        let Some(life) = &node.life else { return };
        if filthy {
            node.hearing.count_faults(self.now, life.gadget.health().faults);
        }
        if !node.hearing.has_news() {
            return;
        }
        let mut convicted = Vec::new();
        for found in node.hearing.contradictions(&self.schedule, &life.gadget.health()) {
            assert!(
                convicts(&*life.storage, &self.schedule, found.validator),
                "an equivocation before the eyes of an honest validator yielded no evidence: {} at {}: {:?} and {:?}",
                found.validator,
                node.validator,
                found.one.link,
                found.other.link
            );
            node.hearing.convicted.insert(found.validator);
            convicted.push(found.validator);
        }
        for validator in convicted {
            let twin = self.nodes.iter().any(|node| node.validator == validator && node.role == Role::Twin);
            self.outcome.witnessed += 1;
            self.outcome.witnessed_twins += u64::from(twin);
            self.outcome.witnessed_filthy += u64::from(filthy);
        }
    }

    /// What has convicted somebody once does so for as long as the disk lasts.
    pub(super) fn check_evidence(&mut self) {
        for node in &mut self.nodes {
            node.crash(&mut self.rng);
            let storage = node.disk.open();
            for validator in &node.hearing.convicted {
                assert!(convicts(&*storage, &self.schedule, *validator), "evidence against {validator} was lost at {}", node.validator);
            }
        }
    }
}
