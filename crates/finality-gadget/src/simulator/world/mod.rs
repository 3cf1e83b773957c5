//! The run itself: one queue of events in simulated time.

mod listen;
mod setup;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chain::SimChain;
use super::check::Monitor;
use super::disk::{DiskFault, Disks};
use super::hearing::counts;
use super::liar::Liar;
use super::node::{Kept, Node, Role};
use super::plan::{Reorgs, Scenario};
use super::rng::Rng;
use crate::core::{FinalityRule, Reason, Standing};
use crate::network::{Message, Recipient};
use crate::persistence::Declaration;
use crate::set::Schedule;
use crate::types::{CheckpointNumber, Millis, ValidatorId};

/// Time between two ticks of a node, in ms.
const TICK: u64 = 500;
/// After the trouble everything must be well again within this time, in ms; counted anew while links are still certified.
const PATIENCE: u64 = 300_000;
/// Checkpoints that must become final after the trouble.
const PROGRESS: u64 = 3;
/// A run that takes more events than this runs in circles.
const MAX_EVENTS: u64 = 3_000_000;

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Checkpoints that became final.
    pub finals: usize,
    /// Different votes of honest validators.
    pub votes: usize,
    /// Validators against which evidence was kept.
    pub convicted: usize,
    /// Crashes, disk faults included.
    pub crashes: u64,
    /// Starts with an old or empty disk that led to a refusal to sign.
    pub refused: u64,
    /// Validators that signed on an old backup, since no peer that answered could tell that it was old. What they do is not checked.
    pub unnoticed: u64,
    /// How often a node received two statements of one validator that exclude each other, and had evidence.
    pub witnessed: u64,
    /// Those by twins among them.
    pub witnessed_twins: u64,
    /// Those in runs with false signatures among them.
    pub witnessed_filthy: u64,
    /// Why finality did not go on after the trouble; empty where it did.
    pub halted: Vec<Reason>,
    /// Whether some certificate crossed a set boundary.
    pub crossed_sets: bool,
    /// Simulated milliseconds.
    pub simulated: u64,
}

#[derive(Debug)]
enum Action {
    Tick(usize),
    Deliver { to: usize, from: ValidatorId, message: Arc<Message> },
    Grow,
    Reorganise,
    Crash(usize),
    Fault(usize, u64, DiskFault),
    Start(usize),
    Partition,
    Join,
    Backup(usize),
    Restore(usize),
    Wipe(usize),
    Declare(usize),
    Lie(usize),
    Heal,
}

/// A run in progress.
pub struct World<'a> {
    scenario: Scenario,
    disks: &'a mut dyn Disks,
    rng: Rng,
    now: Millis,
    queue: BTreeMap<(Millis, u64), Action>,
    queued: u64,
    schedule: Schedule,
    chain: SimChain,
    nodes: Vec<Node>,
    liars: Vec<Liar>,
    monitor: Monitor,
    /// Group of each node; `None` while all can talk.
    groups: Option<Vec<bool>>,
    healed: Option<Millis>,
    /// When a link was last certified for the first time.
    progress: Millis,
    goal: CheckpointNumber,
    outcome: Outcome,
}

impl<'a> World<'a> {
    /// Sets everything up.
    ///
    /// # Panics
    ///
    /// If a scenario makes no valid sets, which is a fault of the scenario.
    pub fn new(scenario: Scenario, disks: &'a mut dyn Disks) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let schedule = setup::schedule(&scenario, &mut rng);
        let mut world = Self {
            monitor: Monitor::new(schedule.clone(), scenario.rule),
            scenario,
            disks,
            now: Millis(0),
            queue: BTreeMap::new(),
            queued: 0,
            schedule,
            chain: SimChain::new(),
            nodes: Vec::new(),
            liars: Vec::new(),
            groups: None,
            healed: None,
            progress: Millis(0),
            goal: CheckpointNumber(0),
            outcome: Outcome::default(),
            rng,
        };
        world.populate();
        world.plan();
        world
    }

    fn at(&mut self, millis: u64, action: Action) {
        self.queued += 1;
        self.queue.insert((Millis(millis), self.queued), action);
    }

    fn later(&mut self, delay: u64, action: Action) {
        self.at(self.now.0 + delay, action);
    }

    /// Runs to the end.
    ///
    /// # Panics
    ///
    /// With the text of the invariant that does not hold.
    pub fn run(mut self) -> Outcome {
        let mut events = 0u64;
        while let Some(((now, _), action)) = self.queue.pop_first() {
            self.now = now;
            events += 1;
            assert!(events < MAX_EVENTS, "the run goes in circles");
            let tick = matches!(action, Action::Tick(_));
            self.act(action);
            if tick && self.healed.is_some() && self.is_well() {
                break;
            }
            if self.healed.is_some_and(|healed| now.since(healed.max(self.progress)) > PATIENCE) {
                self.explain_halt();
                break;
            }
        }
        self.check_evidence();
        self.outcome.finals = self.monitor.finals();
        self.outcome.votes = self.monitor.votes;
        self.outcome.convicted = self.monitor.evidence.len();
        self.outcome.crossed_sets = self.monitor.links.iter().any(crate::Certificate::is_boundary);
        self.outcome.simulated = self.now.0;
        self.outcome
    }

    fn act(&mut self, action: Action) {
        if self.scenario.trace && !matches!(action, Action::Tick(_) | Action::Deliver { .. } | Action::Lie(_)) {
            println!("{:>7} {action:?}", self.now);
        }
        match action {
            Action::Tick(node) => {
                self.later(TICK, Action::Tick(node));
                self.tick(node);
            }
            Action::Deliver { to, from, message } => self.deliver(to, from, &message),
            Action::Grow => {
                self.chain.grow(self.now);
                let tag = self.chain.head().minus(self.rng.between(0, 2));
                self.chain.finalize(self.now, tag);
                self.later(self.scenario.interval, Action::Grow);
            }
            Action::Reorganise => self.reorganise(),
            Action::Crash(node) => self.crash(node),
            Action::Fault(node, writes, fault) => {
                if self.nodes[node].life.is_some() && self.healed.is_none() {
                    self.nodes[node].disk.inject(writes, fault);
                }
            }
            Action::Start(node) => self.start(node),
            Action::Partition => self.groups = Some((0..self.nodes.len() + self.liars.len()).map(|_| self.rng.chance(50)).collect()),
            Action::Join => self.groups = None,
            Action::Backup(node) => self.nodes[node].backup = Some(self.nodes[node].disk.backup()),
            Action::Restore(node) => {
                if let Some(backup) = self.nodes[node].backup.take() {
                    self.replace_disk(node, backup);
                    let (validator, disk) = (self.nodes[node].validator, &self.nodes[node].disk);
                    self.nodes[node].old = self.monitor.has_left_more(validator, &**disk);
                }
            }
            Action::Wipe(node) => {
                let empty = self.disks.empty();
                self.replace_disk(node, empty);
            }
            Action::Declare(node) => {
                // The old process is stopped; nothing eligible is above the head.
                self.nodes[node].crash(&mut self.rng);
                let mark = self.chain.head().plus(1);
                self.nodes[node].declare(&self.schedule, Declaration::OldProcessStopped { mark });
                self.start(node);
            }
            Action::Lie(liar) => self.lie(liar),
            Action::Heal => self.heal(),
        }
    }

    fn tick(&mut self, at: usize) {
        let (now, node) = (self.now, &mut self.nodes[at]);
        let Some(life) = &mut node.life else { return };
        let view = self.chain.view(now, node.delay, |eligible, finalized| life.gadget.wanted(eligible, finalized));
        let done = life
            .gadget
            .tick(now)
            .and_then(|()| life.gadget.observe(view))
            .and_then(|()| life.gadget.perform_periodic_maintenance(now).map(|_| ()));
        if done.is_ok() {
            node.hearing.ticked(now, &*life.storage);
        }
        self.after(at, done.is_err());
    }

    /// Reports and sends on what a process has done, and buries it if it has stopped.
    fn after(&mut self, at: usize, stopped: bool) {
        let node = &mut self.nodes[at];
        let Some(life) = &mut node.life else { return };
        let kept: Vec<Kept> = life.kept.try_iter().collect();
        let sent: Vec<(Recipient, Message)> = life.outbox.try_iter().collect();
        let finals = life.gadget.advance_finality();
        let (validator, role) = (node.validator, node.role);
        for (_, message) in &sent {
            if let Message::Votes(votes) = message {
                for own in votes.iter().filter(|signed| signed.validator == validator) {
                    assert!(!node.warned, "a validator signed although a peer had shown it a newer vote of its own");
                    match role {
                        Role::Honest if node.is_unnoticed() => {
                            if self.monitor.unnoticed.insert(validator) {
                                self.outcome.unnoticed += 1;
                            }
                            self.monitor.signed(validator, &own.vote);
                        }
                        Role::Twin => self.monitor.signed(validator, &own.vote),
                        Role::Honest => {
                            if self.scenario.trace {
                                let link = own.vote.link;
                                println!(
                                    "{:>7} {validator} votes {}→{} ({:?}→{:?})",
                                    self.now, link.source.number, link.target.number, link.source.hash, link.target.hash
                                );
                            }
                            // Certificates of sources are kept before votes leave; those of targets after.
                            for kept in &kept {
                                if let Some(certificate) = kept.certificate() {
                                    self.monitor.certified.insert(certificate.digest(), certificate.vote.link.target);
                                }
                            }
                            self.monitor.vote_left(&self.chain, &*node.disk, own);
                        }
                    }
                }
            }
        }
        let known = self.monitor.links.len();
        for kept in &kept {
            // A vote that was signed just before a crash may leave within a certificate first. One that has left before is judged by then.
            if let (Some(certificate), Role::Honest) = (kept.certificate(), role)
                && !self.monitor.has_stated(validator, &certificate.vote)
                && self.nodes[at].disk.survives(&certificate.vote)
                && counts(&self.schedule, certificate, validator)
            {
                if self.nodes[at].is_unnoticed() {
                    self.monitor.signed(validator, &certificate.vote);
                } else {
                    self.monitor.statement_left(&self.chain, &*self.nodes[at].disk, validator, &certificate.vote);
                }
            }
            if let (Kept::Certificate(certificate), true) = (kept, self.scenario.trace) {
                let link = certificate.vote.link;
                println!(
                    "{:>7} {validator} keeps {}→{} ({:?}→{:?})",
                    self.now, link.source.number, link.target.number, link.source.hash, link.target.hash
                );
            }
            match kept {
                Kept::Certificate(certificate) => {
                    self.monitor.certificate_kept(certificate);
                    self.nodes[at].has_kept(&self.schedule, certificate);
                }
                Kept::Found(certificate) => self.monitor.certificate_kept(certificate),
                Kept::Evidence(evidence) => {
                    let nodes = &self.nodes;
                    let honest = |id| nodes.iter().any(|node| node.validator == id && node.role == Role::Honest && !node.doubtful);
                    self.monitor.evidence_kept(evidence, honest);
                }
            }
        }
        if self.monitor.links.len() > known {
            self.progress = self.now;
        }
        let node = &self.nodes[at];
        for finalized in &finals {
            self.monitor.finalized(&self.chain, &*node.disk, validator, finalized);
        }
        for (to, message) in sent {
            self.send(at, to, message);
        }
        if stopped {
            self.crash(at);
        } else {
            self.judge_hearing(at);
        }
    }

    fn send(&mut self, from: usize, to: Recipient, message: Message) {
        let sender = self.nodes[from].validator;
        let message = if self.scenario.encoded {
            let read = Message::decode(&message.encode());
            assert_eq!(read.as_ref(), Ok(&message), "a message changed on its way through its encoding");
            message
        } else {
            message
        };
        let message = Arc::new(message);
        for node in 0..self.nodes.len() {
            let meant = match to {
                Recipient::All => self.nodes[node].validator != sender,
                Recipient::One(validator) => self.nodes[node].validator == validator,
            };
            if node != from && meant {
                self.carry(from, node, sender, &message);
            }
        }
    }

    fn carry(&mut self, from: usize, to: usize, sender: ValidatorId, message: &Arc<Message>) {
        let troubled = self.healed.is_none();
        if self.groups.as_ref().is_some_and(|groups| groups[from] != groups[to]) || (troubled && self.rng.chance(self.scenario.loss)) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(self.scenario.duplicates));
        for _ in 0..copies {
            let most = if troubled { self.scenario.delay } else { self.scenario.delay.min(200) };
            let delay = self.rng.between(5, 5 + most);
            self.later(delay, Action::Deliver { to, from: sender, message: Arc::clone(message) });
        }
    }

    fn lie(&mut self, at: usize) {
        let pause = self.rng.between(300, 1_500);
        self.later(pause, Action::Lie(at));
        let liar = &self.liars[at];
        let lies = liar.lie(&self.chain, &self.monitor, &mut self.rng);
        let validator = liar.validator;
        for message in &lies {
            if let Message::Votes(votes) = message {
                votes.iter().filter(|signed| signed.validator == validator).for_each(|signed| self.monitor.signed(validator, &signed.vote));
            }
        }
        let lies: Vec<Arc<Message>> = lies.into_iter().map(Arc::new).collect();
        let from = self.nodes.len() + at;
        for node in 0..self.nodes.len() {
            // Some peers hear one thing, some the other, some both.
            let choice = self.rng.between(0, 2);
            for (which, lie) in lies.iter().enumerate() {
                if lies.len() < 2 || choice == 2 || choice == which as u64 {
                    self.carry(from, node, validator, lie);
                }
            }
        }
    }

    fn crash(&mut self, at: usize) {
        if self.nodes[at].life.is_some() {
            if self.scenario.trace {
                println!("{:>7} {} crashes", self.now, self.nodes[at].validator);
            }
            self.outcome.crashes += 1;
            self.nodes[at].crash(&mut self.rng);
            let pause = self.rng.between(200, 8_000);
            self.later(pause, Action::Start(at));
        }
    }

    fn start(&mut self, at: usize) {
        if self.nodes[at].life.is_none() {
            let started = self.nodes[at].start(&self.schedule, self.scenario.rule, &mut self.rng);
            assert!(started.is_ok(), "a node does not start from a disk that lost power: {started:?}");
            self.after(at, false);
            let standing = self.nodes[at].life.as_ref().map(|life| life.gadget.health().standing);
            if let Some(Standing::Refused { .. }) = standing {
                self.refusal(at);
            }
        }
    }

    /// An operator notices a refusal and declares after a while.
    fn refusal(&mut self, at: usize) {
        if self.nodes[at].doubtful {
            self.outcome.refused += 1;
            let pause = self.rng.between(1_000, 10_000);
            self.later(pause, Action::Declare(at));
        }
    }

    fn replace_disk(&mut self, at: usize, disk: Box<dyn super::disk::Disk>) {
        if self.nodes[at].life.is_some() {
            self.outcome.crashes += 1;
        }
        self.nodes[at].replace_disk(disk);
        self.later(500, Action::Start(at));
    }

    fn reorganise(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let head = self.chain.head();
        let certified = self.monitor.certified.values().filter(|checkpoint| self.chain.at(checkpoint.number) == Some(**checkpoint));
        let certified = certified.map(|checkpoint| checkpoint.number).max().unwrap_or_default();
        let free = self.scenario.reorgs == Reorgs::Free;
        let depth = self.rng.between(1, if free { 6 } else { 3 });
        let mut keep = head.minus(depth);
        if !free {
            keep = keep.max(certified);
        }
        if self.scenario.rule == FinalityRule::Single {
            keep = keep.max(self.chain.finalized_now());
        }
        self.chain.reorganise(self.now, keep);
    }

    fn heal(&mut self) {
        self.healed = Some(self.now);
        self.groups = None;
        self.goal = self.chain.head().plus(PROGRESS);
        for node in 0..self.nodes.len() {
            // Whoever writes little would meet its fault long after the trouble, and be missing when a halt is judged.
            self.nodes[node].disk.mend();
            if self.nodes[node].life.is_none() {
                self.start(node);
            }
        }
    }
}
