//! SIGKILL of the node at random instants and at chosen ones: positions intact, every billed id in the client's hands, nothing
//! paid twice. What was hit is recorded; with `MILEPOST_KILLS` of 50 or more each state must have been hit three times.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Node;
use common::ground::Ground;
use milepost_client::ChatRequest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Mutex;

/// Kills of a quick run; `MILEPOST_KILLS` sets another number.
const QUICK_KILLS: usize = 10;
/// From this number on every state must have been hit.
const THOROUGH_KILLS: usize = 50;
/// Hits that each state needs then.
const HITS: usize = 3;
/// A thorough run goes on past its number for states not hit often enough, but not for ever.
const MOST_KILLS: usize = 400;
/// Longest wait for a chosen state; a session without kills passes through all of them in less.
const STATE_LIMIT: Duration = Duration::from_secs(12);
/// How often the reaper looks whether a chosen instant has come.
const LOOK: Duration = Duration::from_millis(2);
/// Accounts of the clients, which live one session after another side by side.
const CLIENTS: [u32; 3] = [3, 6, 7];

/// The states of request, seal, proof, claim and session, each by the log event that tells of it. Something is in a state until the
/// next event of its own kind.
const STATES: &[&[&str]] = &[
    &["turn_started", "tokens_tracked", "turn_ended"],
    &["checkpoint_triggered"],
    &["claim_planned", "proof_started", "proof_made"],
    &["tx_signed", "tx_sent", "tx_included", "tx_final", "claim_final"],
    &["session_ended", "closing_seen", "session_paid"],
];

/// The state that a node died in: the one aimed at, if nothing of its kind came after it, else the last one logged.
fn state(log: &[serde_json::Value], aim: Option<&'static str>) -> &'static str {
    let last = |kind: &[&'static str]| {
        let named = |event: &serde_json::Value| kind.iter().find(|name| event["event"] == **name).copied();
        log.iter().rev().find_map(named)
    };
    let of_its_kind = STATES.iter().find(|kind| aim.is_some_and(|aim| kind.contains(&aim)));
    match of_its_kind.and_then(|kind| last(kind)) {
        Some(name) if Some(name) == aim => name,
        _ => last(&STATES.concat()).unwrap_or("idle"),
    }
}

/// The node, taken away while it is dead.
type Shared = Arc<Mutex<Option<Node>>>;

/// A paid session through whatever happens to the node: funded, two turns, closed, paid.
async fn session(ground: &Ground, account: u32, number: usize, file: &Path) -> u64 {
    let mut session = ground.open_by(account, file).await;
    while let Err(error) = session.authenticate(None).await {
        assert!(matches!(error, milepost_client::Error::HostUnreachable { .. }), "session {number}: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (turn, tokens) in [(0, 130), (1, 45)] {
        let mut ask = ChatRequest::new("scripted", &format!("session {number}, turn {turn}: walk on"));
        ask.max_tokens = tokens;
        session.chat_ws(ask).await.unwrap_or_else(|error| panic!("session {number}, turn {turn}: {error}"));
    }
    session.close().await.unwrap_or_else(|error| panic!("session {number}: close: {error}"));
    let paid = session.wait_paid(Duration::from_secs(180)).await.unwrap_or_else(|error| panic!("session {number}: payout: {error}"));
    let held = session.transcript().end().0;
    assert_eq!(paid.tokens.0, held, "session {number}: paid for exactly the tokens that the client holds");
    held
}

/// One session after another until there are no more kills; answers how many there were and their tokens.
async fn client(ground: Arc<Ground>, account: u32, over: Arc<AtomicBool>) -> (usize, u64) {
    let files = tempfile::tempdir().expect("a folder");
    let (mut sessions, mut tokens) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        tokens += session(&ground, account, sessions, &files.path().join(format!("session-{sessions}.json"))).await;
        sessions += 1;
    }
    (sessions, tokens)
}

/// Kills the node at chosen and at random instants until told to stop, starting it again each time; answers what was hit.
async fn reap(ground: Arc<Ground>, node: Shared, wanted: usize, seed: u64) -> BTreeMap<&'static str, usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut hits: BTreeMap<&'static str, usize> = BTreeMap::new();
    let thorough = wanted >= THOROUGH_KILLS;
    for kill in 0..MOST_KILLS {
        let lacking: Vec<_> = STATES.concat().into_iter().filter(|state| hits.get(*state).copied().unwrap_or(0) < HITS).collect();
        if kill >= wanted && (!thorough || lacking.is_empty()) {
            break;
        }
        let mut aim = None;
        // Half of the kills aim at a state that still lacks hits, the others fall anywhere.
        if random.random_bool(0.5) && !lacking.is_empty() {
            let chosen = lacking[random.random_range(0..lacking.len())];
            aim = Some(chosen);
            if let Some(node) = node.lock().await.as_ref() {
                node.kill_at(chosen);
            }
            let begin = tokio::time::Instant::now();
            while begin.elapsed() < STATE_LIMIT && !node.lock().await.as_mut().is_none_or(Node::has_ended) {
                tokio::time::sleep(LOOK).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..2_500))).await;
        }
        let Some(victim) = node.lock().await.take() else { break };
        let state = state(&victim.kill_and_read(), aim);
        *hits.entry(state).or_default() += 1;
        println!("kill {kill} at {state}");
        let again = Arc::clone(&ground);
        let started = tokio::task::spawn_blocking(move || again.start()).await.expect("started");
        *node.lock().await = Some(started);
    }
    hits
}

#[test]
fn every_state_is_an_event_that_the_page_of_logs_lists() {
    let page = include_str!("../../../docs/logs.md");
    for state in STATES.concat() {
        assert!(page.contains(&format!("`{state}`")), "{state} is no event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_any_instant_loses_nothing_and_is_paid_once() {
    let wanted = std::env::var("MILEPOST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(QUICK_KILLS);
    let seed = std::env::var("MILEPOST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let ground = Arc::new(Ground::new(&[("model.scripted_rate", "150"), ("chain.claim_tokens", "100")]).await);
    let node: Shared = Arc::new(Mutex::new(Some(ground.start())));
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for account in CLIENTS {
        ground.endow(account).await;
        clients.spawn(client(Arc::clone(&ground), account, Arc::clone(&over)));
    }
    let mut reaper = tokio::spawn(reap(Arc::clone(&ground), Arc::clone(&node), wanted, seed));
    let hits = tokio::select! {
        hits = &mut reaper => hits.expect("the reaper ends well"),
        early = clients.join_next() => panic!("a client ended before the kills did: {early:?}"),
    };
    over.store(true, Ordering::Relaxed);
    let ended = clients.join_all().await;
    let (sessions, tokens) = ended.iter().fold((0, 0), |(sessions, tokens), client| (sessions + client.0, tokens + client.1));
    let kills: usize = hits.values().sum();
    println!("{kills} kills (seed {seed}), {sessions} sessions, {tokens} tokens, each paid once; hit: {hits:?}");
    assert!(kills >= wanted, "{kills} of {wanted} kills");
    if wanted >= THOROUGH_KILLS {
        for state in STATES.concat() {
            assert!(hits.get(state).copied().unwrap_or(0) >= HITS, "state {state} was hit less than {HITS} times: {hits:?}");
        }
    }

    // The host's own books, read from the disk by another process and compared with the chain.
    let last = node.lock().await.take().expect("a node");
    let books = ground.wait_clean().await;
    assert_eq!(books["jobs"].as_array().map(Vec::len), Some(sessions));
    last.kill();
}
