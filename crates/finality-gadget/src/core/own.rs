//! Our own side: may this key sign, what did it sign, and what do the others know of it.

use std::collections::{BTreeMap, BTreeSet};

use super::Verdict;
use crate::persistence::{SignState, Standing as Recorded};
use crate::set::Schedule;
use crate::types::{CheckpointNumber, LinkDigest, Millis, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Own votes whose digests are remembered, newest targets. They tell a twin's votes from ours.
const MAX_REMEMBERED: usize = 1024;

/// Whether this node signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has no key or no storage: it follows.
    Observer,
    /// It asks its peers for votes of its own that its table does not know. Until a quorum has answered it follows.
    Asking {
        /// Peers that have answered.
        answers: usize,
        /// Peers that must.
        needed: usize,
    },
    /// It signs.
    Signing,
    /// Its key signs no more until an operator declares.
    Refused {
        /// Why.
        reason: String,
    },
}

#[derive(Debug)]
enum Phase {
    Observer,
    Asking { nonce: u64, answers: BTreeMap<ValidatorId, CheckpointNumber> },
    Signing,
    Refused(String),
}

/// Why a signature was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The voting rule wants this vote.
    Vote,
    /// An earlier process signed it; it is to be sent again.
    Resend,
}

#[derive(Debug)]
pub(super) struct Own {
    pub(super) validator: Option<ValidatorId>,
    phase: Phase,
    /// The table's marks, by which votes made elsewhere are told. They do not decide what is signed: the table does.
    max_source: CheckpointNumber,
    max_target: CheckpointNumber,
    /// Highest target that this process signed, or was told not to sign.
    pub(super) floor: CheckpointNumber,
    /// Lowest source that this process was told it may sign.
    pub(super) mark: CheckpointNumber,
    /// Digests of what the table of own votes holds, by target.
    votes: BTreeMap<CheckpointNumber, LinkDigest>,
    /// The newest own vote.
    pub(super) newest: Option<Vote>,
    /// The same, signed by this process: what is sent again.
    pub(super) signed: Option<SignedVote>,
    /// Votes past the source's child since finality last advanced.
    pub(super) attempts: u32,
    /// When something was last signed, or the process started.
    pub(super) voted_at: Millis,
    /// A vote that is being judged and signed.
    pub(super) requested: Option<Request>,
    /// Not before this moment, since the signer did not answer.
    pub(super) sign_again_at: Option<Millis>,
    /// Whose turn it is to be told what the others said.
    pub(super) rotation: usize,
}

impl Own {
    pub(super) fn new(validator: Option<ValidatorId>) -> Self {
        Self {
            validator,
            phase: Phase::Observer,
            max_source: CheckpointNumber(0),
            max_target: CheckpointNumber(0),
            floor: CheckpointNumber(0),
            mark: CheckpointNumber(0),
            votes: BTreeMap::new(),
            newest: None,
            signed: None,
            attempts: 0,
            voted_at: Millis(0),
            requested: None,
            sign_again_at: None,
            rotation: 0,
        }
    }

    pub(super) fn restore(&mut self, state: Option<&SignState>, votes: Vec<Vote>) {
        match state {
            None if self.validator.is_some() => self.phase = Phase::Refused("there is no record of what this key has signed".to_owned()),
            None => {}
            Some(state) => {
                (self.max_source, self.max_target) = (state.max_source, state.max_target);
                if let Recorded::Refused(refusal) = &state.standing {
                    self.phase = Phase::Refused(refusal.reason.clone());
                }
            }
        }
        for vote in &votes {
            self.remember(vote);
        }
        self.newest = votes.into_iter().max_by_key(|vote| vote.link.target.number);
    }

    pub(super) fn remember(&mut self, vote: &Vote) {
        self.votes.insert(vote.link.target.number, vote.digest());
        while self.votes.len() > MAX_REMEMBERED {
            self.votes.pop_first();
        }
        self.max_source = self.max_source.max(vote.link.source.number);
        self.max_target = self.max_target.max(vote.link.target.number);
    }

    /// Takes the table's answer to a vote that it forbids.
    pub(super) fn learn(&mut self, verdict: Verdict) {
        self.requested = None;
        self.newest = None;
        match verdict {
            Verdict::TargetsUpTo(target) => self.floor = self.floor.max(target),
            Verdict::SourcesBelow(source) => self.mark = self.mark.max(source),
            Verdict::Never(reason) => self.refuse(reason),
        }
    }

    pub(super) fn highest_target(&self) -> CheckpointNumber {
        self.max_target
    }

    /// Begins to ask, unless this node does not sign anyway.
    pub(super) fn start(&mut self, nonce: u64) {
        if self.validator.is_some() && !matches!(self.phase, Phase::Refused(_)) {
            self.phase = Phase::Asking { nonce, answers: BTreeMap::new() };
        }
    }

    pub(super) fn refuse(&mut self, reason: String) {
        self.phase = Phase::Refused(reason);
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.phase, Phase::Refused(_))
    }

    pub(super) fn may_sign(&self) -> bool {
        matches!(self.phase, Phase::Signing)
    }

    /// The question to ask, while it is open.
    pub(super) fn question(&self) -> Option<u64> {
        match &self.phase {
            Phase::Asking { nonce, .. } => Some(*nonce),
            _ => None,
        }
    }

    /// Takes an answer. Where the answering peer stands is noted too.
    pub(super) fn answer(&mut self, from: ValidatorId, nonce: u64, finalized: CheckpointNumber) {
        if let Phase::Asking { nonce: asked, answers } = &mut self.phase
            && *asked == nonce
        {
            answers.insert(from, finalized);
        }
    }

    /// Ends the asking once all others of the set in force have answered, or after a while (`settled`) a quorum, and this node has caught up with what
    /// at least one honest validator among them calls final: what is older than their memory can then no longer be contradicted.
    pub(super) fn conclude(&mut self, schedule: &Schedule, next: CheckpointNumber, finalized: CheckpointNumber, settled: bool) -> bool {
        let (needed, counted) = self.count(schedule, next);
        let set = schedule.set_at(next);
        let others = set.members().filter(|(id, _)| Some(*id) != self.validator).count();
        let Phase::Asking { answers, .. } = &self.phase else { return false };
        let mut claims: Vec<CheckpointNumber> =
            answers.iter().filter(|(peer, _)| counted.contains(*peer)).map(|(_, claim)| *claim).collect();
        claims.sort_unstable_by(|a, b| b.cmp(a));
        let honest = claims.get(set.faults()).copied().unwrap_or_default();
        let enough = counted.len() == others || settled;
        let concluded = enough && counted.len() >= needed && finalized >= honest;
        if concluded {
            self.phase = Phase::Signing;
        }
        concluded
    }

    fn count(&self, schedule: &Schedule, next: CheckpointNumber) -> (usize, BTreeSet<ValidatorId>) {
        let set = schedule.set_at(next);
        let counted = match &self.phase {
            Phase::Asking { answers, .. } => answers.keys().copied().filter(|peer| set.contains(*peer)).collect(),
            _ => BTreeSet::new(),
        };
        let own = usize::from(self.validator.is_some_and(|validator| set.contains(validator)));
        (set.quorum() - own, counted)
    }

    pub(super) fn standing(&self, schedule: &Schedule, next: CheckpointNumber) -> Standing {
        match &self.phase {
            Phase::Observer => Standing::Observer,
            Phase::Signing => Standing::Signing,
            Phase::Refused(reason) => Standing::Refused { reason: reason.clone() },
            Phase::Asking { .. } => {
                let (needed, counted) = self.count(schedule, next);
                Standing::Asking { answers: counted.len(), needed }
            }
        }
    }

    /// Whether a vote that carries our signature was not made by this table: it is newer, or differs from what the table holds.
    pub(super) fn is_foreign(&self, vote: &Vote) -> bool {
        let (source, target) = (vote.link.source.number, vote.link.target.number);
        match self.votes.get(&target) {
            Some(known) => *known != vote.digest(),
            None => target > self.max_target || source > self.max_source,
        }
    }
}
