//! SIGKILL of the node at random instants and at chosen ones: positions intact, every billed id in the client's hands, nothing
//! paid twice. What was hit is recorded; with `MILEPOST_KILLS` of 50 or more each state must have been hit three times.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
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
/// Longest wait for a chosen state; a session passes through all of them in less.
const STATE_LIMIT: Duration = Duration::from_secs(12);

/// The states of request, seal, proof and claim, by the log event that tells of each.
const STATES: &[&str] = &[
    "turn_started",
    "tokens_tracked",
    "checkpoint_triggered",
    "turn_ended",
    "claim_planned",
    "proof_started",
    "proof_done",
    "tx_signed",
    "tx_sent",
    "tx_included",
    "tx_final",
    "claim_final",
    "session_ending",
];

/// The node, taken away while it is dead.
type Shared = Arc<Mutex<Option<Node>>>;

/// A paid session through whatever happens to the node: funded, two turns, closed, paid.
async fn session(ground: &Ground, number: usize, file: &Path) -> u64 {
    let mut session = ground.open(file).await;
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

/// Kills the node at chosen and at random instants until told to stop, starting it again each time; answers what was hit.
async fn reap(ground: Arc<Ground>, node: Shared, wanted: usize, seed: u64) -> BTreeMap<String, usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let thorough = wanted >= THOROUGH_KILLS;
    for kill in 0..MOST_KILLS {
        let lacking: Vec<_> = STATES.iter().filter(|state| hits.get(**state).copied().unwrap_or(0) < HITS).collect();
        if kill >= wanted && (!thorough || lacking.is_empty()) {
            break;
        }
        // Half of the kills aim at a state that still lacks hits, the others fall anywhere.
        if random.random_bool(0.5) && !lacking.is_empty() {
            let aim = *lacking[random.random_range(0..lacking.len())];
            let begin = tokio::time::Instant::now();
            while begin.elapsed() < STATE_LIMIT {
                let reached = node.lock().await.as_ref().is_some_and(|node| node.log().iter().any(|event| event["event"] == *aim));
                if reached {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..2_500))).await;
        }
        let Some(victim) = node.lock().await.take() else { break };
        let log = victim.kill_and_read();
        let state = log.iter().rev().filter_map(|event| event["event"].as_str()).find(|name| STATES.contains(name)).unwrap_or("idle");
        *hits.entry(state.to_owned()).or_default() += 1;
        let again = Arc::clone(&ground);
        let started = tokio::task::spawn_blocking(move || again.start()).await.expect("started");
        *node.lock().await = Some(started);
    }
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_at_any_instant_loses_nothing_and_is_paid_once() {
    let wanted = std::env::var("MILEPOST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(QUICK_KILLS);
    let seed = std::env::var("MILEPOST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let ground = Arc::new(Ground::new(&[("model.scripted_rate", "150"), ("chain.claim_tokens", "100")]).await);
    let node: Shared = Arc::new(Mutex::new(Some(ground.start())));
    let mut reaper = tokio::spawn(reap(Arc::clone(&ground), Arc::clone(&node), wanted, seed));
    let files = tempfile::tempdir().expect("a folder");
    let (mut sessions, mut tokens) = (0, 0);
    while !reaper.is_finished() {
        tokens += session(&ground, sessions, &files.path().join(format!("session-{sessions}.json"))).await;
        sessions += 1;
    }
    let hits = (&mut reaper).await.expect("the reaper ends well");
    let kills: usize = hits.values().sum();
    println!("{kills} kills (seed {seed}), {sessions} sessions, {tokens} tokens, each paid once; hit: {hits:?}");
    assert!(kills >= wanted, "{kills} of {wanted} kills");
    if wanted >= THOROUGH_KILLS {
        for state in STATES {
            assert!(hits.get(*state).copied().unwrap_or(0) >= HITS, "state {state} was hit less than {HITS} times: {hits:?}");
        }
    }

    // The host's own books, read from the disk by another process and compared with the chain.
    let last = node.lock().await.take().expect("a node");
    let books = ground.wait_clean().await;
    assert_eq!(books["jobs"].as_array().map(Vec::len), Some(sessions));
    last.kill();
}
