//! How a validator is doing, and if finality stands still, why.

use super::{Core, FinalityRule, Standing};
use crate::types::{CheckpointNumber, SetId};

/// Heard from within so many status intervals counts as alive.
const ALIVE_INTERVALS: u64 = 3;

/// How far finality is behind the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lag {
    /// At most 2 checkpoints: what voting itself takes.
    Current,
    /// At most 16.
    Behind,
    /// More.
    Far,
}

/// Why nothing is being certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This node does not vote.
    Observer,
    /// There was no look at the chain yet, or it did not include what was needed.
    NoChain,
    /// Everything the chain offers is certified.
    NothingToVoteFor,
    /// The chain's own `finalized` tag has not moved on; `Single` waits for it.
    WaitingForTheChain,
    /// An own vote is out and waits for others.
    Waiting {
        /// Its target.
        target: CheckpointNumber,
    },
    /// Too few validators are heard from.
    TooFewPeers {
        /// The set that needs them.
        set: SetId,
        /// Heard from, this node included.
        heard: usize,
        /// A quorum.
        needed: usize,
    },
    /// Votes for a target disagree: the chain was reorganised under the voters.
    Split {
        /// The target.
        target: CheckpointNumber,
        /// Most votes for one link.
        leading: usize,
        /// A quorum.
        needed: usize,
    },
    /// Peers have not yet told enough about what this key signed before.
    Asking {
        /// Answers so far.
        answers: usize,
        /// Answers needed.
        needed: usize,
    },
    /// The key does not sign.
    Refused(String),
    /// More validators are faulty than finality outlives.
    Halted(String),
    /// The chain was reorganised below what is final. Only operators can resolve it: a new trusted checkpoint with a new set id.
    FinalNotCanonical {
        /// The last final number.
        finalized: CheckpointNumber,
    },
    /// What is justified on this chain lies below a source this key has signed or declared. The others must justify more first.
    SourceBelowMark {
        /// Highest justified on this chain.
        source: CheckpointNumber,
        /// Lowest source allowed.
        mark: CheckpointNumber,
    },
    /// Checkpoints are certified, but none from its direct parent, which is what makes the parent final.
    NoDirectChild {
        /// Highest certified number.
        justified: CheckpointNumber,
    },
    /// The next link would span more validator sets than may vote together.
    TooManySets,
    /// No set that votes now names this validator.
    NotAMember,
}

/// Finality has stood still for longer than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// For how many milliseconds.
    pub for_ms: u64,
    /// Everything that may be the cause, the likeliest first.
    pub reasons: Vec<Reason>,
}

/// How a validator is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it signs.
    pub standing: Standing,
    /// Last final number.
    pub finalized: CheckpointNumber,
    /// Highest certified number.
    pub justified: CheckpointNumber,
    /// Highest number that may be voted for.
    pub eligible: CheckpointNumber,
    /// How far finality is behind.
    pub lag: Lag,
    /// Set when there is something to certify and nothing was for too long.
    pub stuck: Option<Stuck>,
    /// Other validators heard from lately.
    pub peers: usize,
    /// False signatures seen.
    pub faults: u64,
    /// Pieces of evidence kept.
    pub evidence: usize,
    /// Votes held in memory.
    pub votes: usize,
}

impl Core {
    /// How this validator is doing.
    pub fn health(&self) -> Health {
        let status = self.status();
        let limit = self.chain.as_ref().map(|chain| self.limit(chain.eligible, chain.finalized)).unwrap_or_default();
        let behind = limit.above(status.finalized);
        let lag = match behind {
            0..=2 => Lag::Current,
            3..=16 => Lag::Behind,
            _ => Lag::Far,
        };
        // A certificate is progress only as long as certificates lead to finality now and then.
        let halts = self.now.since(self.advanced_at) >= self.config.stuck_after && behind > 2;
        let still = self.now.since(if halts { self.advanced_at } else { self.progress_at });
        let waits = halts || limit > self.links.tip() || self.chain.is_none() || self.halted.is_some() || status.eligible.above(limit) > 16;
        let stuck = (waits && still >= self.config.stuck_after).then(|| Stuck { for_ms: still, reasons: self.reasons(limit) });
        Health {
            standing: self.own.standing(&self.schedule, self.links.tip().next()),
            finalized: status.finalized,
            justified: status.justified,
            eligible: status.eligible,
            lag,
            stuck,
            peers: self.peers.heard_within(self.now, ALIVE_INTERVALS * self.config.status_every).count(),
            faults: self.peers.faults(),
            evidence: self.evidence.len(),
            votes: self.pool.len(),
        }
    }

    fn reasons(&self, limit: CheckpointNumber) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if let Some(reason) = &self.halted {
            reasons.push(Reason::Halted(reason.clone()));
        }
        let next = self.links.tip().next();
        match self.own.standing(&self.schedule, next) {
            Standing::Refused { reason } => reasons.push(Reason::Refused(reason)),
            Standing::Asking { answers, needed } => reasons.push(Reason::Asking { answers, needed }),
            Standing::Observer | Standing::Signing => {}
        }
        let set = self.schedule.set_at(next);
        let window = ALIVE_INTERVALS * self.config.status_every;
        let peers = self.peers.heard_within(self.now, window).filter(|peer| set.contains(*peer)).count();
        let heard = peers + usize::from(self.config.validator.is_some_and(|own| set.contains(own)));
        if heard < set.quorum() {
            reasons.push(Reason::TooFewPeers { set: set.id(), heard, needed: set.quorum() });
        }
        if self.config.rule == FinalityRule::Single && limit <= self.links.tip() {
            reasons.push(Reason::WaitingForTheChain);
        }
        let target = self.own.floor;
        let leading = self.pool.largest_camp(target);
        if target > self.links.tip() && self.pool.at(target).count() >= set.quorum() && leading < set.quorum() {
            reasons.push(Reason::Split { target, leading, needed: set.quorum() });
        }
        if let Err(reason) = self.next_vote()
            && !reasons.contains(&reason)
        {
            reasons.push(reason);
        }
        let justified = self.links.tip();
        if self.config.rule == FinalityRule::Ffg
            && self.now.since(self.progress_at) < self.config.stuck_after
            && justified.above(self.links.finalized().checkpoint.number) > 1
        {
            reasons.push(Reason::NoDirectChild { justified });
        }
        reasons
    }
}
