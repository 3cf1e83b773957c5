//! The rules as a pure state machine: [`Event`]s in, [`Effect`]s out. No clock, no disk, no network, no thread.

mod certify;
mod event;
mod health;
mod links;
mod own;
mod peers;
mod pool;
mod questions;
mod take;
mod voting;

pub use event::{Effect, Event, Verdict};
pub use health::{Health, Lag, Reason, Stuck};
pub use own::Standing;

pub(crate) use links::KEPT_BELOW_FINAL;

use links::Links;
use own::Own;
use peers::Peers;
use pool::Pool;

use std::collections::BTreeMap;

use crate::certificate::{Certificate, Finalized};
use crate::chain::ChainView;
use crate::evidence::Evidence;
use crate::network::{Message, Recipient, Status};
use crate::persistence::SignState;
use crate::scheme::Entropy;
use crate::set::Schedule;
use crate::types::{CheckpointNumber, EvidenceId, LinkDigest, Millis, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Votes for targets this far above what this node's chain offers are not held: a peer may be ahead by a little.
pub(crate) const FAR: u64 = 64;
/// Targets below the last final one whose votes are held in memory, to notice contradictions that come late.
pub(crate) const HISTORY: u64 = 128;
/// Targets above the last final one whose votes are held; when finality halts for longer, the lowest are forgotten.
pub(crate) const MAX_OPEN_TARGETS: u64 = 512;
/// Pieces of evidence kept for one validator. One is enough to convict; the bound keeps a liar from filling the disk.
pub(crate) const MAX_EVIDENCE_PER_VALIDATOR: usize = 16;

/// When a certificate makes something final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalityRule {
    /// A certificate finalises its target. Votes are cast only for targets at or below the chain's own `finalized` tag.
    Single,
    /// A certificate justifies its target; a justified checkpoint is final when its direct child is justified from it.
    Ffg,
}

/// Settings of the core. Times in milliseconds of the clock that [`Event::Tick`] brings.
#[derive(Debug, Clone)]
pub struct Config {
    /// When something is final.
    pub rule: FinalityRule,
    /// Who this node is; `None` for an observer.
    pub validator: Option<ValidatorId>,
    /// An own vote is sent again this often, until it is certified. At least 1.
    pub resend_every: u64,
    /// Peers are told where this node stands this often. At least 1.
    pub status_every: u64,
    /// So long an own vote may stay without a certificate before a higher target is tried.
    pub patience: u64,
    /// A start that not all peers have answered waits so long before a quorum of answers is enough: one that knows a newer own vote may be
    /// among the slow ones.
    pub settle: u64,
    /// So long finality may stand still, while there is something to vote for, before health says `stuck`.
    pub stuck_after: u64,
}

impl Config {
    /// What suits validators on one continent: resend 2 s, status 5 s, patience 15 s, settle 5 s, stuck after 2 min.
    pub fn new(rule: FinalityRule, validator: Option<ValidatorId>) -> Self {
        Self { rule, validator, resend_every: 2_000, status_every: 5_000, patience: 15_000, settle: 5_000, stuck_after: 120_000 }
    }
}

/// What a restart found in the storage.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Certificates, verified, in any order.
    pub certificates: Vec<Certificate>,
    /// What was final.
    pub finalized: Option<Finalized>,
    /// Votes of all validators for live targets. They need not be verified.
    pub votes: Vec<SignedVote>,
    /// The sign-state.
    pub sign_state: Option<SignState>,
    /// The table of own votes, at least its newest rows.
    pub own_votes: Vec<Vote>,
    /// Evidence that is already kept.
    pub evidence: Vec<(ValidatorId, EvidenceId)>,
    /// Stored certificates that do not hold: their targets, and the links they stand for.
    pub damaged: Vec<(CheckpointNumber, LinkDigest)>,
    /// Why nothing more may be signed or called final, if two certificates that contradict each other are among the evidence.
    pub halted: Option<String>,
}

/// The state machine.
///
/// # Guarantees
///
/// - It never asks for a signature that the rules of the crate's documentation forbid, whatever it is told.
/// - Memory is bounded, whatever peers send.
/// - The same events in the same order give the same effects, given the same entropy.
///
/// # Does not
///
/// Protect against lost memory of its own votes: that is [`check_and_insert`](crate::persistence::check_and_insert)'s part.
pub struct Core {
    config: Config,
    schedule: Schedule,
    entropy: Box<dyn Entropy>,
    now: Millis,
    chain: Option<ChainView>,
    links: Links,
    pool: Pool,
    own: Own,
    peers: Peers,
    evidence: Vec<(ValidatorId, EvidenceId)>,
    /// Stored certificates that do not hold, until sound ones come from peers.
    damaged: BTreeMap<CheckpointNumber, LinkDigest>,
    halted: Option<String>,
    progress_at: Millis,
    /// When something last became final.
    advanced_at: Millis,
    resent_at: Millis,
    status_at: Millis,
    asked_at: Option<Millis>,
    /// When the first tick after a start came.
    started_at: Option<Millis>,
    effects: Vec<Effect>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("validator", &self.config.validator)
            .field("finalized", &self.links.finalized())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Begins at the trusted checkpoint, or where `restored` left off.
    pub fn new(config: Config, schedule: Schedule, entropy: Box<dyn Entropy>, restored: Restored) -> Self {
        let mut core = Self {
            links: Links::new(config.rule, schedule.domain()),
            own: Own::new(config.validator),
            config,
            schedule,
            entropy,
            now: Millis(0),
            chain: None,
            pool: Pool::default(),
            peers: Peers::default(),
            evidence: restored.evidence,
            damaged: restored.damaged.into_iter().collect(),
            halted: restored.halted,
            progress_at: Millis(0),
            advanced_at: Millis(0),
            resent_at: Millis(0),
            status_at: Millis(0),
            asked_at: None,
            started_at: None,
            effects: Vec::new(),
        };
        restored.certificates.into_iter().for_each(|certificate| core.links.insert(certificate));
        if let Some(finalized) = restored.finalized
            && finalized.checkpoint.number > core.links.finalized().checkpoint.number
        {
            core.links.set_finalized(finalized);
        }
        core.links.bound();
        core.own.restore(restored.sign_state.as_ref(), restored.own_votes);
        restored.votes.into_iter().for_each(|signed| core.restore_vote(signed));
        if let Some(reason) = &core.halted {
            core.own.refuse(reason.clone());
        }
        core
    }

    /// Takes one event; answers what to do, in order.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Started { nonce } => {
                self.own.start(nonce);
                self.started_at = None;
                self.ask_for_own_votes();
            }
            Event::Tick(now) => self.tick(now),
            Event::Chain(view) => self.chain = Some(view),
            Event::History(votes) => self.restore_history(votes),
            Event::Damaged(damaged) => self.distrust(damaged),
            Event::Received { from, message } => self.receive(from, message),
            Event::Signed(signed) => self.signed(signed),
            Event::Unsigned => {
                self.own.requested = None;
                self.own.sign_again_at = Some(Millis(self.now.0.saturating_add(self.config.resend_every)));
            }
            Event::NotSafe { verdict } => self.own.learn(verdict),
        }
        self.conclude_asking();
        self.vote_if_due();
        std::mem::take(&mut self.effects)
    }

    /// Which canonical hashes a look at the chain must include, when the chain offers checkpoints up to `eligible`, of which those up to
    /// `finalized` are final by the chain's own word. Ascending.
    pub fn wanted(&self, eligible: CheckpointNumber, finalized: Option<CheckpointNumber>) -> Vec<CheckpointNumber> {
        self.numbers_wanted(self.limit(eligible, finalized))
    }

    /// Chain, trust and sets.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Adds a set that is agreed to vote above `boundary`. Refused at or below anything this node has seen certified or signed: such a
    /// link would have needed the new set's quorum too.
    pub fn add_set(&mut self, boundary: CheckpointNumber, set: crate::set::ValidatorSet) -> Result<(), crate::set::Error> {
        if boundary < self.links.tip().max(self.own.highest_target()) {
            return Err(crate::set::Error::Set { set: set.id(), reason: "takes over below what was already voted for" });
        }
        self.schedule.add(boundary, set)
    }

    /// What is final, and by which certificate.
    pub fn finalized(&self) -> Finalized {
        self.links.finalized()
    }

    /// Highest number with a certificate.
    pub fn justified(&self) -> CheckpointNumber {
        self.links.tip()
    }

    /// A recent certificate, as far as memory goes.
    pub fn certificate(&self, target: CheckpointNumber) -> Option<&Certificate> {
        self.links.get(target).map(|held| &held.certificate)
    }

    /// Bounds for pruning: the lower of the last final number and the oldest source still in use.
    pub fn prune_bound(&self) -> CheckpointNumber {
        let finalized = self.links.finalized().checkpoint.number;
        let open = self.links.after(finalized).map(|held| held.certificate.vote.link.source.number);
        let own = self.own.newest.iter().filter(|vote| vote.link.target.number > self.links.tip()).map(|vote| vote.link.source.number);
        open.chain(own).fold(finalized, CheckpointNumber::min)
    }

    fn limit(&self, eligible: CheckpointNumber, finalized: Option<CheckpointNumber>) -> CheckpointNumber {
        match self.config.rule {
            FinalityRule::Ffg => eligible,
            FinalityRule::Single => eligible.min(finalized.unwrap_or_default()),
        }
    }

    fn send(&mut self, to: Recipient, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    fn status(&self) -> Status {
        Status {
            finalized: self.links.finalized().checkpoint.number,
            justified: self.links.tip(),
            eligible: self.chain.as_ref().map(|chain| chain.eligible).unwrap_or_default(),
            open_links: self.links.open_links(),
        }
    }

    /// Targets whose votes are held: from a little below finality to a little above what this node's chain offers.
    fn in_window(&self, target: CheckpointNumber) -> bool {
        target >= self.window_low() && target <= self.window_high()
    }

    fn window_high(&self) -> CheckpointNumber {
        let offered = self.chain.as_ref().map(|chain| chain.eligible).unwrap_or_default();
        offered.max(self.links.tip()).plus(FAR)
    }

    fn window_low(&self) -> CheckpointNumber {
        let finalized = self.links.finalized().checkpoint.number;
        finalized.minus(HISTORY).max(self.window_high().minus(MAX_OPEN_TARGETS))
    }

    fn tick(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.started_at = self.started_at.or(Some(self.now));
        self.pool.forget_below(self.window_low());
        if self.now.since(self.status_at) >= self.config.status_every {
            self.status_at = self.now;
            self.send(Recipient::All, Message::Status(self.status()));
            self.ask_for_damaged();
        }
        if self.now.since(self.resent_at) >= self.config.resend_every {
            self.resent_at = self.now;
            self.resend();
        }
        self.ask_for_own_votes();
    }

    /// Sends the own vote again, byte for byte, until it is certified or finality has passed it. When that takes long, what the others
    /// said about the target goes to one peer after another: whoever said two things is found out.
    fn resend(&mut self) {
        let Some(signed) = self.own.signed.clone() else { return };
        let target = signed.vote.link.target.number;
        if !self.own.may_sign() || self.links.get(target).is_some() || target <= self.links.finalized().checkpoint.number {
            return;
        }
        self.send(Recipient::All, Message::Votes(vec![signed]));
        if self.now.since(self.own.voted_at) >= self.config.patience {
            let set = self.schedule.set_at(target);
            let others: Vec<ValidatorId> = set.members().map(|(id, _)| id).filter(|id| Some(*id) != self.config.validator).collect();
            if let Some(peer) = others.get(self.own.rotation % others.len().max(1)).copied() {
                self.own.rotation = self.own.rotation.wrapping_add(1);
                self.pass_on(target, Recipient::One(peer), false);
            }
        }
    }

    /// Whether this evidence is kept already, or enough against the same validator.
    fn is_kept(&self, evidence: &Evidence) -> bool {
        let mut kept = self.evidence.iter().filter(|(validator, _)| *validator == evidence.validator).map(|(_, id)| id).peekable();
        if kept.peek().is_none() {
            return false;
        }
        let (id, kept): (_, Vec<_>) = (evidence.id(), kept.collect());
        kept.len() >= MAX_EVIDENCE_PER_VALIDATOR || kept.contains(&&id)
    }

    /// Keeps evidence that would convince a third party. What was read back at a start and is not verified yet may not.
    fn keep_evidence(&mut self, evidence: Evidence) {
        if !self.is_kept(&evidence) && evidence.verify(&self.schedule).is_ok() {
            self.keep_proven(evidence);
        }
    }

    fn keep_proven(&mut self, evidence: Evidence) {
        if !self.is_kept(&evidence) {
            tracing::warn!(event = "evidence_found", validator = %evidence.validator, kind = ?evidence.conflict(), "a validator contradicted itself");
            self.evidence.push((evidence.validator, evidence.id()));
            self.effects.push(Effect::KeepEvidence(Box::new(evidence)));
        }
    }

    /// More validators are faulty than the rules outlive. Nothing more is signed or called final.
    fn halt(&mut self, reason: String) {
        if self.halted.is_none() {
            tracing::error!(event = "halted", reason, "more validators are faulty than finality outlives");
            self.effects.push(Effect::RefuseToSign { reason: reason.clone() });
            self.own.refuse(reason.clone());
            self.halted = Some(reason);
        }
    }

    /// A valid signature of this node's key that its table does not know: another process uses the key, or the table is old.
    fn foreign_vote(&mut self, vote: &Vote) {
        if self.config.validator.is_some() && !self.own.is_refused() {
            let reason = format!(
                "this key signed {}→{} elsewhere: another process uses it, or its table of own votes is old",
                vote.link.source.number, vote.link.target.number
            );
            tracing::error!(event = "foreign_vote", source = %vote.link.source.number, target = %vote.link.target.number, "this key was used elsewhere");
            self.effects.push(Effect::RefuseToSign { reason: reason.clone() });
            self.own.refuse(reason);
        }
    }
}
