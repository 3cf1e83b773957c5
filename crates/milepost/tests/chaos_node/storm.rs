//! One seed, from its first block to its last payout.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use milepost_client::{ChatRequest, CloseOutcome, Error, Session, Step};
use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents as Event;
use milepost_test_support::{Return, Weather};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::common::Node;
use crate::field::Field;
use crate::{DEEPEST, Proofs};

/// How long the calm after the storm may take until all is paid: many times what it takes on a busy machine.
const CALM: Duration = Duration::from_mins(3);
/// How long the prover's self-test may take: one proof on a busy machine.
const PROVER: Duration = Duration::from_mins(3);
/// How likely a reorganisation is while transactions of the node are in a block and not final: that is what it can take back.
const FRESH: f64 = 0.2;
/// Blocks between two looks at the books.
const GLANCE: u64 = 4;
/// The test that counts in another process.
const COUNTER: &str = "the_logs_are_counted_by_a_process_that_knows_nothing_else";
/// Instants at which the process is killed on purpose: right after the log tells of them.
const INSTANTS: &[&str] = &[
    "settlement_ready",
    "claim_planned",
    "proof_started",
    "proof_made",
    "tx_signed",
    "tx_sent",
    "tx_unknown",
    "tx_bumped",
    "tx_included",
    "tx_reorged",
    "tx_final",
    "claim_final",
    "session_ended",
    "closing_seen",
    "session_paid",
];

/// How a storm is made of blocks.
struct Script {
    /// Between two blocks.
    block: Duration,
    /// Blocks of storm.
    blocks: u32,
    /// Sessions.
    jobs: usize,
    /// Least and most tokens of a turn.
    turn: (u32, u32),
    /// Kills at most.
    kills: u64,
    /// How likely a kill is at each block.
    kill: f64,
    /// How likely a reorganisation is at each block; [`FRESH`] where it has something to take.
    reorg: f64,
}

impl Script {
    fn of(proofs: Proofs) -> Self {
        match proofs {
            Proofs::Mock => {
                Self { block: Duration::from_millis(40), blocks: 110, jobs: 3, turn: (40, 130), kills: 6, kill: 0.05, reorg: 0.04 }
            }
            // Long enough for two proofs, and for one that is begun again after a kill.
            Proofs::Stark => {
                Self { block: Duration::from_millis(300), blocks: 200, jobs: 1, turn: (60, 90), kills: 2, kill: 0.025, reorg: 0.04 }
            }
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tale {
    tokens: u64,
    claims: usize,
    faults: usize,
    kills: u64,
    reorgs: u64,
    taken_back: usize,
    raised: usize,
    reverts: u64,
    jobs: u64,
    /// Transactions that were signed for claims of several jobs.
    batches: usize,
}

impl Tale {
    /// Whether so many seeds met each kind of thing that they are for.
    pub(crate) fn covers_everything(&self, seeds: u64) -> bool {
        let stormy = [self.faults as u64, self.kills, self.reorgs, self.taken_back as u64].iter().all(|each| *each >= seeds);
        (seeds < MANY || stormy) && (seeds < VERY_MANY || self.jobs <= seeds || self.batches > 0)
    }
}

impl std::ops::AddAssign<&Tale> for Tale {
    fn add_assign(&mut self, other: &Tale) {
        self.tokens += other.tokens;
        self.claims += other.claims;
        self.faults += other.faults;
        self.kills += other.kills;
        self.reorgs += other.reorgs;
        self.taken_back += other.taken_back;
        self.raised += other.raised;
        self.reverts += other.reverts;
        self.jobs += other.jobs;
        self.batches += other.batches;
    }
}

impl fmt::Display for Tale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, claims, faults, kills, reorgs, taken_back, raised, reverts, jobs, batches } = self;
        write!(
            f,
            "{tokens} tokens of {jobs} jobs in {claims} claims, {batches} transactions with several claims, {faults} faults, {kills} SIGKILLs, {reorgs} reorganisations that took {taken_back} transactions back, {raised} fees raised, {reverts} reverts"
        )
    }
}

/// Seeds from which on it must be so.
const MANY: u64 = 10;
/// Seeds from which on claims of several jobs must have met in a transaction, where a seed has several jobs.
const VERY_MANY: u64 = 20;

/// Who ends a session, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// The client at the host's door, in the middle of the storm.
    AtTheDoor,
    /// The depositor on chain, once the storm is over: nobody repeats that transaction if a reorganisation takes it.
    OnChain,
}

/// A client that goes on until it has what it asked for, whatever happens to the host; then it ends its session.
async fn client(mut session: Session, prompts: Vec<u32>, close: Close, mut calm: watch::Receiver<bool>) -> Session {
    let job = session.job_id();
    for (turn, tokens) in prompts.into_iter().enumerate() {
        let mut ask = ChatRequest::new("scripted", &format!("turn {turn}: walk on"));
        ask.max_tokens = tokens;
        let mut answer = session.chat_ws(ask).await.map(|_| ());
        // While blocks are being replaced, the client's own look at the chain may find none.
        while matches!(answer, Err(Error::Rpc(_))) && session.unfinished().is_some() {
            answer = session.resume(&mut |_| Step::Continue).await.map(|_| ());
        }
        answer.unwrap_or_else(|error| panic!("job {job}, turn {turn}: {error}"));
    }
    let by_host = close == Close::AtTheDoor
        && match session.close().await {
            Ok(outcome) => outcome == CloseOutcome::ByHost,
            // In a storm the client's own transaction may vanish while it waits for it.
            Err(Error::HostUnreachable { .. } | Error::Rpc(_) | Error::Unknown { .. } | Error::Reverted { .. }) => false,
            Err(error) => panic!("job {job}: {error}"),
        };
    if !by_host {
        calm.wait_for(|calm| *calm).await.expect("the storm ends");
        session.close_on_chain().await.unwrap_or_else(|error| panic!("job {job}: closing on chain: {error}"));
    }
    session
}

/// The host: a process that is killed, and whoever starts it again.
struct Host {
    field: Arc<Field>,
    node: Option<Node>,
    raised: usize,
    batches: usize,
}

impl Host {
    /// The process, if it runs. One that was killed as aimed is taken away.
    fn alive(&mut self) -> Option<&mut Node> {
        if self.node.as_mut().is_some_and(Node::has_ended) {
            self.bury();
        }
        self.node.as_mut()
    }

    fn start(&mut self) {
        if self.alive().is_none() {
            self.node = Some(self.field.start());
        }
    }

    /// SIGKILL at the instant when it next logs this.
    fn kill_at(&mut self, instant: &'static str) {
        if let Some(node) = &self.node {
            node.kill_at(instant);
        }
    }

    /// SIGKILL now.
    fn kill(&mut self) {
        if let Some(node) = self.node.take() {
            self.read(&node.kill_and_read());
        }
    }

    /// The end of a process, by a kill if it still runs; what it said. One that ended by itself is a fault.
    fn bury(&mut self) -> String {
        let Some(mut node) = self.node.take() else { return String::new() };
        let log = if node.has_ended() {
            let (code, log) = node.end(Duration::from_secs(10));
            assert_eq!(code, None, "the node ended by itself:\n{}", text(&log));
            log
        } else {
            node.kill_and_read()
        };
        self.read(&log);
        text(&log)
    }

    fn read(&mut self, log: &[Value]) {
        self.raised += log.iter().filter(|event| event["event"] == "tx_bumped").count();
        let several =
            |event: &&Value| event["event"] == "tx_signed" && event["purpose"].as_str().is_some_and(|what| what.starts_with("Claims("));
        self.batches += log.iter().filter(several).count();
        assert!(!text(log).contains("panicked at"), "the node panicked:\n{}", text(log));
    }
}

fn text(log: &[Value]) -> String {
    log.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One seed; what happened. Panics where money is lost, doubled, or not accounted for.
pub(crate) async fn storm(seed: u64, proofs: Proofs) -> Tale {
    let mut random = StdRng::seed_from_u64(seed);
    let script = Script::of(proofs);
    let field = Arc::new(Field::new(proofs).await);
    let mut host = Host { field: Arc::clone(&field), node: None, raised: 0, batches: 0 };
    host.start();
    if let Some(node) = host.alive() {
        node.wait_for_doors();
        node.wait_ready("prover", true, PROVER).await;
    }
    let files = tempfile::tempdir().expect("a folder");
    let (over, calm) = watch::channel(false);
    let mut sessions = Vec::new();
    for index in 0..script.jobs {
        let mut session = field.open(&files.path().join(format!("session-{index}.json"))).await;
        session.authenticate(None).await.expect("authenticated");
        sessions.push(session);
    }
    // The sessions' funding is not what is at stake.
    field.chain.mine(DEEPEST + 2).await.expect("mined");
    field.chain.set_automine(false).await.expect("set");
    field.proxy.weather(Some(Weather::stormy(seed)));
    let mut clients = JoinSet::new();
    for (index, session) in sessions.into_iter().enumerate() {
        let turns = random.random_range(1..=2);
        let prompts = (0..turns).map(|_| random.random_range(script.turn.0..=script.turn.1)).collect();
        let close = if index == 0 && script.jobs > 1 { Close::OnChain } else { Close::AtTheDoor };
        clients.spawn(client(session, prompts, close, calm.clone()));
    }

    let mut tale = Tale::default();
    // Blocks with something to take, until it is taken for certain: each storm meets that, the rest is luck. Where nothing has landed in
    // time, it lasts longer.
    let mut patience = random.random_range(0..DEEPEST);
    let mut blocks = 0;
    while blocks < script.blocks || (tale.taken_back == 0 && blocks < 3 * script.blocks) {
        blocks += 1;
        tokio::time::sleep(script.block).await;
        field.chain.mine(1).await.expect("mined");
        // Each block draws the same number of times, whatever comes of it.
        let (back, reorg, depth, lost) =
            (random.random_bool(0.3), random.random_range(0.0..1.0), random.random_range(1..=DEEPEST), random.random_bool(0.5));
        let (kill, aimed, instant) =
            (random.random_bool(script.kill), random.random_bool(0.5), INSTANTS[random.random_range(0..INSTANTS.len())]);
        if back {
            host.start();
        }
        let fresh = field.proxy.landed(&field.chain, DEEPEST).await.expect("counted") > 0;
        let certain = fresh && tale.taken_back == 0 && patience == 0;
        patience -= u64::from(fresh && patience > 0);
        if certain || reorg < if fresh { FRESH } else { script.reorg } {
            let depth = if certain { DEEPEST } else { depth };
            let fate = if lost { Return::Lost } else { Return::ToPool };
            tale.taken_back += field.proxy.reorg(&field.chain, depth, fate).await.expect("reorganised");
            tale.reorgs += 1;
        }
        if kill && tale.kills < script.kills && host.alive().is_some() {
            tale.kills += 1;
            if aimed { host.kill_at(instant) } else { host.kill() }
        }
    }

    // The line is mended; what was begun is finished.
    field.proxy.weather(None);
    over.send_replace(true);
    let mut sessions = Vec::new();
    let begun = Instant::now();
    let mut settled_for = 0;
    let (code, books) = loop {
        tokio::time::sleep(script.block).await;
        field.chain.mine(1).await.expect("mined");
        // A kill may have been aimed at what happens only now.
        host.start();
        while let Some(ended) = clients.try_join_next() {
            sessions.push(ended.expect("a client gets what it asked for"));
        }
        settled_for = if clients.is_empty() && all_paid(&field, &sessions).await { settled_for + 1 } else { 0 };
        let late = begun.elapsed() > CALM;
        // Final, and then a little longer: looking costs a process each time.
        if late || (settled_for > DEEPEST && settled_for.is_multiple_of(GLANCE)) {
            let books = field.reconcile();
            if late || books.0 == Some(0) {
                break books;
            }
        }
    };
    assert_eq!(code, Some(0), "the books are not clean within {CALM:?}, {} clients are left:\n{books}\n{}", clients.len(), host.bury());
    judge(&field, sessions, &mut tale).await;
    host.bury();
    tale.faults = field.proxy.done().len();
    tale.raised = host.raised;
    tale.batches = host.batches;
    tale
}

/// Whether the chain says of every job that it is paid.
async fn all_paid(field: &Field, sessions: &[Session]) -> bool {
    for session in sessions {
        let events = field.contracts.events(&field.chain, session.job_id().0).await.expect("the job's logs");
        if !events.iter().any(|event| matches!(event.event, Event::SessionCompleted(_))) {
            return false;
        }
    }
    true
}

/// Holds what the clients have against what another process finds on the chain.
async fn judge(field: &Field, sessions: Vec<Session>, tale: &mut Tale) {
    let question = field.question();
    let counted = tokio::task::spawn_blocking(move || question.ask(COUNTER)).await.expect("asked").expect("the chain's logs add up");
    assert_eq!(counted.jobs.len(), sessions.len(), "jobs on chain: {counted:?}");
    for mut session in sessions {
        let job = session.job_id().0;
        let held = session.transcript().end().0;
        let found = counted.jobs.iter().find(|found| found.job == job).unwrap_or_else(|| panic!("job {job} is not on chain"));
        assert_eq!(
            (found.claimed(), found.paid.as_slice()),
            (held, &[held][..]),
            "job {job}: each token that the client holds is claimed once and paid once: {found:?}"
        );
        let paid =
            session.wait_paid(Duration::ZERO).await.unwrap_or_else(|error| panic!("job {job}: the client disputes its payout: {error}"));
        assert_eq!(paid.tokens.0, held);
        tale.tokens += held;
        tale.jobs += 1;
        tale.claims += found.claims.len();
    }
    assert_eq!(counted.earned, tale.tokens * field.contracts.price * 9 / 10, "the host's earnings");
    tale.reverts = counted.reverts;
}
