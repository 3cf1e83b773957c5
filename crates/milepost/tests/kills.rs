//! SIGKILL of the node at random instants and at chosen ones: positions intact, every billed id in the client's hands, nothing
//! paid twice. What was hit is recorded; with `MILEPOST_KILLS` of 50 or more each state must have been hit three times.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Node, free_port, scripted_on};
use milepost_client::{Amount, ChatRequest, OpenRequest, Session, Wallet};
use milepost_statement::{Address, Digest};
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, Mining};
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

struct Ground {
    chain: DevChain,
    contracts: Deployment,
    data: tempfile::TempDir,
    port: u16,
}

impl Ground {
    async fn new() -> Self {
        let chain = DevChain::start(ChainOptions { mining: Mining::Automatic, ..ChainOptions::default() }).await.expect("a chain");
        let port = free_port();
        let model = milepost_inference::scripted::digest();
        let options = DeployOptions { model: model.into(), api_url: format!("http://127.0.0.1:{port}"), ..DeployOptions::default() };
        let contracts = chain.deploy(options).await.expect("contracts");
        let _: serde_json::Value = chain.request("evm_setIntervalMining", (1_u64,)).await.expect("blocks come by themselves");
        Self { chain, contracts, data: tempfile::tempdir().expect("a folder"), port }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = scripted_on(self.data.path());
        settings.extend([
            ("model.scripted_rate", "150".to_owned()),
            ("prover.backend", "mock".to_owned()),
            ("chain.rpc_url", self.chain.url().to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("chain.marketplace", self.contracts.marketplace.to_string()),
            ("chain.host", self.contracts.actors.host.address.to_string()),
            ("chain.confirmations", "2".to_owned()),
            ("chain.poll_ms", "100".to_owned()),
            ("chain.claim_tokens", "100".to_owned()),
        ]);
        settings
    }

    fn start(&self) -> Node {
        let key = format!("0x{}", hex::encode(self.contracts.actors.submitter.key));
        Node::start(self.port, &self.settings(), &[("HOST_PRIVATE_KEY", key), ("MILEPOST_LOG", "info,milepost_gateway=debug".to_owned())])
    }

    /// A paid session through whatever happens to the node: funded, two turns, closed, paid.
    async fn session(&self, number: usize, file: &Path) -> u64 {
        let wallet = Wallet::development(3).expect("a key");
        let mut request = OpenRequest::new(
            self.chain.url(),
            Address(self.contracts.marketplace.into()),
            Address(self.contracts.actors.host.address.into()),
            Address(self.contracts.usdc.into()),
            Amount(2_000_000),
            Digest(milepost_inference::scripted::digest()),
            file.to_owned(),
        );
        request.host_url = Some(format!("http://127.0.0.1:{}", self.port));
        let mut session = Session::open(wallet, request).await.expect("funded");
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
    milepost_test_support::install_tls();
    let wanted = std::env::var("MILEPOST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(QUICK_KILLS);
    let seed = std::env::var("MILEPOST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let ground = Arc::new(Ground::new().await);
    let node: Shared = Arc::new(Mutex::new(Some(ground.start())));
    let mut reaper = tokio::spawn(reap(Arc::clone(&ground), Arc::clone(&node), wanted, seed));
    let files = tempfile::tempdir().expect("a folder");
    let (mut sessions, mut tokens) = (0, 0);
    while !reaper.is_finished() {
        tokens += ground.session(sessions, &files.path().join(format!("session-{sessions}.json"))).await;
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
    let mut verdict = serde_json::Value::Null;
    for _ in 0..60 {
        verdict = ground.reconcile();
        if verdict["verdict"] == "clean" {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(verdict["verdict"], "clean", "{verdict:#}");
    assert_eq!(verdict["jobs"].as_array().map(Vec::len), Some(sessions));
    last.kill();
}

impl Ground {
    fn reconcile(&self) -> serde_json::Value {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["reconcile", "--json"]);
        for (key, value) in self.settings() {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.output().expect("reconcile runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("reconcile: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
