//! The program as it ships against a marketplace of each generation that others have deployed, plain and behind proxies: the doctor
//! names it, claims land and are paid to the unit, and the books are clean. What is claimed and paid is recomputed from the chain.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use alloy::primitives::U256;
use alloy::sol_types::SolEvent as _;
use common::{Node, forget_own_variables, free_port, scripted_on};
use milepost_statement::{Address, ChainId, Digest, Domain, JobId, SessionOpen, SigningKey};
use milepost_test_support::elsewhere::{Around, BytesForm, DEPOSIT, Elsewhere, Generation, HashForm, PRICE, SignedDeltaForm, SignedForm};
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, Mining};
use serde_json::{Value, json};
use sha2::Digest as _;

/// Tokens of the two requests: a claim while the session runs, and one at its end.
const ASKED: [u64; 2] = [200, 50];
/// Seconds by which the chain's clock is moved: what the slowest rate takes for the claims, and until a host may complete.
const LATER: u64 = 60;
/// How long a session may take to be paid; blocks come each second.
const PATIENCE: Duration = Duration::from_secs(40);

/// A chain, with a token and actors; the marketplace comes later.
struct Ground {
    chain: DevChain,
    contracts: Deployment,
}

/// A host's desk before one marketplace.
struct Desk<'a> {
    ground: &'a Ground,
    elsewhere: Elsewhere,
    data: tempfile::TempDir,
    port: u16,
}

impl Ground {
    async fn new() -> Self {
        milepost_test_support::install_tls();
        let chain = DevChain::start(ChainOptions { mining: Mining::Automatic, ..ChainOptions::default() }).await.expect("a chain");
        let contracts = chain.deploy(DeployOptions::default()).await.expect("contracts");
        let _: Value = chain.request("evm_setIntervalMining", (1_u64,)).await.expect("blocks come by themselves");
        Self { chain, contracts }
    }
}

impl Desk<'_> {
    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = scripted_on(self.data.path());
        settings.extend([
            ("prover.backend", "mock".to_owned()),
            ("chain.rpc_url", self.ground.chain.url().to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("chain.marketplace", Address(self.elsewhere.market.into_array()).to_string()),
            ("chain.confirmations", "1".to_owned()),
            ("chain.poll_ms", "50".to_owned()),
            ("chain.claim_tokens", "100".to_owned()),
            ("chain.deployed.min_price", (PRICE * self.elsewhere.generation.precision()).to_string()),
        ]);
        settings
    }

    /// The host's own key: these marketplaces know no other.
    fn key(&self) -> String {
        format!("0x{}", hex::encode(self.ground.contracts.actors.host.key))
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        forget_own_variables(&mut command);
        for (key, value) in self.settings() {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.args(arguments).env("HOST_PRIVATE_KEY", self.key()).stdin(Stdio::null()).output().expect("it runs");
        let shown = serde_json::from_slice(&output.stdout);
        let shown = shown.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().expect("it ended by itself"), shown)
    }

    fn start(&self) -> Node {
        Node::start(self.port, &self.settings(), &[("HOST_PRIVATE_KEY", self.key()), ("MILEPOST_LOG", "info".to_owned())])
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Value {
        let mut request = reqwest::Client::new().post(format!("http://127.0.0.1:{}{path}", self.port)).json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        let (status, body) = (answer.status(), answer.json().await.expect("JSON"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// The depositor's signature over the host's challenge, and the token that it yields.
    async fn open_session(&self, job: u64) -> String {
        let challenge = self.post("/v1/session/challenge", None, json!({ "job_id": job })).await;
        let expires_at = challenge["expires_at"].as_u64().expect("a time");
        let said: Digest = serde_json::from_value(challenge["challenge"].clone()).expect("a digest");
        let domain = Domain { chain_id: ChainId(31_337), marketplace: Address(self.elsewhere.market.into_array()) };
        let open = SessionOpen { job_id: JobId(job), challenge: said, expires_at };
        let key = SigningKey::from_bytes(&self.ground.contracts.actors.depositor.key.0).expect("a key");
        let signature = format!("0x{}", hex::encode(key.sign(&open.digest(&domain))));
        let body = json!({ "job_id": job, "challenge": said, "expires_at": expires_at, "signature": signature });
        let opened = self.post("/v1/session", None, body).await;
        opened["token"].as_str().expect("a token").to_owned()
    }

    /// Waits until the host's own books explain everything; read from the disk by another process.
    async fn wait_clean(&self, node: &Node) {
        let begin = Instant::now();
        loop {
            let (code, books) = self.run(&["reconcile"]);
            if code == 0 {
                assert_eq!(books["verdict"], "clean", "{books:#}");
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "not paid within {PATIENCE:?}: {books:#}\n{}", node.log_text());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for the first claim: the rate of the next counts from it, and by the moved clock it is allowed at once.
    async fn wait_claimed(&self, job: u64, node: &Node) {
        let begin = Instant::now();
        while self.claimed(job).await.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "nothing claimed within {PATIENCE:?}:\n{}", node.log_text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Tokens of each claim that the chain took, by the generation's own event.
    async fn claimed(&self, job: u64) -> Vec<u64> {
        let signature = match self.elsewhere.generation {
            Generation::Bytes => BytesForm::ProofSubmitted::SIGNATURE,
            Generation::Hash | Generation::PreciseHash => HashForm::ProofSubmitted::SIGNATURE,
            Generation::Signed => SignedForm::ProofSubmitted::SIGNATURE,
            Generation::SignedDelta | Generation::Timeout => SignedDeltaForm::ProofSubmitted::SIGNATURE,
        };
        let logs = self.elsewhere.logs(&self.ground.chain, job, signature).await.expect("logs");
        // Host and job are indexed; the tokens are the first word in all of them.
        logs.iter().map(|log| U256::from_be_slice(&log.data().data[..32]).to()).collect()
    }

    /// What the last claim names is answered by the node, and hashes to what the chain was told.
    async fn named_content_is_served(&self, job: u64) {
        let logs = self.elsewhere.logs(&self.ground.chain, job, SignedDeltaForm::ProofSubmitted::SIGNATURE).await.expect("logs");
        let told = SignedDeltaForm::ProofSubmitted::decode_log(&logs.last().expect("a claim").inner).expect("an event");
        let url = format!("http://127.0.0.1:{}/ipfs/{}", self.port, told.proofCID);
        let receipt = reqwest::get(url).await.expect("an answer").bytes().await.expect("bytes");
        assert_eq!(sha2::Sha256::digest(&receipt)[..], told.proofHash[..]);
    }
}

/// The finding of a doctor's check.
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().expect("checks").iter();
    checks.find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}: {report:#}"))
}

fn name(generation: Generation) -> &'static str {
    match generation {
        Generation::Bytes => "bytes form (September 2025)",
        Generation::Hash => "hash form (October 2025)",
        Generation::PreciseHash => "hash form with price precision (December 2025)",
        Generation::Signed => "signed form (January 2026)",
        Generation::SignedDelta => "signed form with two content ids (January 2026)",
        Generation::Timeout => "hash form with two content ids (February 2026)",
    }
}

async fn a_host_earns(ground: &Ground, generation: Generation, around: Around) {
    let actors = &ground.contracts.actors;
    let elsewhere = Elsewhere::deploy(&ground.chain, actors.owner.address, generation, around).await.expect("a marketplace");
    let desk = Desk { ground, elsewhere, data: tempfile::tempdir().expect("a folder"), port: free_port() };
    let case = format!("{generation:?} in {around:?}");

    let begin = Instant::now();
    let (code, report) = desk.run(&["doctor", "--no-proof"]);
    assert_eq!(code, 3, "{case}: nothing to mend, and a test ground to look at: {report:#}");
    let named = finding(&report, "generation");
    let text = named["found"].as_str().expect("words");
    assert_eq!(named["verdict"], "ok", "{case}: {named}");
    assert!(text.contains(&format!("deployed marketplace, {}", name(generation))), "{case}: {text}");
    let hop = match around {
        Around::Nothing => None,
        Around::StorageProxy => Some("EIP-1967 proxy"),
        _ => Some("EIP-1167 clone"),
    };
    match hop {
        Some(hop) => assert!(text.contains(hop), "{case}: {text}"),
        None => assert!(!text.contains("behind"), "{case}: {text}"),
    }
    for (check, verdict) in [("functions", "ok"), ("submitter", "ok"), ("offer", "ok"), ("host", "skipped"), ("guest image id", "skipped")]
    {
        assert_eq!(finding(&report, check)["verdict"], verdict, "{case}: {check}: {report:#}");
    }
    let publishing = report["checks"].as_array().expect("checks").iter().any(|finding| finding["check"] == "publishing");
    assert_eq!(publishing, generation.wants_content(), "{case}");

    let node = desk.start();
    let earned = a_session_is_paid(&desk, &node, &case).await;
    assert_eq!(node.terminate(Duration::from_secs(20)), Some(0), "{case}");

    // The host's own key also withdraws, and the ledger knows of it: a node that signs with the same key goes on.
    let before = ground.contracts.usdc_of(&ground.chain, actors.host.address).await.expect("a balance");
    let (code, moved) = desk.run(&["earnings", "withdraw"]);
    assert_eq!((code, moved[0]["amount"].as_str()), (0, Some(earned.to_string().as_str())), "{case}: {moved:#}");
    let after = ground.contracts.usdc_of(&ground.chain, actors.host.address).await.expect("a balance");
    assert_eq!(after - before, earned, "{case}");
    println!("{case}: named, paid and taken home in {:.1} s", begin.elapsed().as_secs_f64());
    if generation == Generation::Hash {
        let node = desk.start();
        a_session_is_paid(&desk, &node, &format!("{case}, after a withdrawal")).await;
        assert_eq!(node.logged("key_ahead"), 0, "{case}: {}", node.log_text());
    }
}

/// A session of two requests, opened by the depositor's signature, closed on request: claimed and paid to the unit. What the host
/// earned.
async fn a_session_is_paid(desk: &Desk<'_>, node: &Node, case: &str) -> u64 {
    let (ground, elsewhere) = (desk.ground, &desk.elsewhere);
    let (depositor, host) = (ground.contracts.actors.depositor.address, ground.contracts.actors.host.address);
    let usdc = ground.contracts.usdc;
    let job = elsewhere.fund(&ground.chain, depositor, host, usdc).await.expect("funded");
    let before = ground.contracts.usdc_of(&ground.chain, depositor).await.expect("a balance");
    let token = desk.open_session(job).await;
    let mut generated = 0;
    for (turn, most) in ASKED.into_iter().enumerate() {
        ground.chain.increase_time(LATER).await.expect("later");
        let ask = json!({ "model": "scripted", "prompt": "walk on", "max_tokens": most, "request_id": format!("turn-{turn}") });
        let answer = desk.post("/v1/inference", Some(&token), ask).await;
        assert_eq!((answer["billed"].as_bool(), answer["job_id"].to_string().trim_matches('"')), (Some(true), job.to_string().as_str()));
        generated += answer["tokens_used"].as_u64().expect("a count");
        desk.wait_claimed(job, node).await;
    }
    assert_eq!(generated, ASKED.iter().sum::<u64>(), "{case}: the engine goes on for as long as it is asked");
    desk.post("/v1/session/close", Some(&token), json!({ "job_id": job })).await;
    desk.wait_clean(node).await;

    let claimed = desk.claimed(job).await;
    assert_eq!(claimed.iter().sum::<u64>(), generated, "{case}: each token claimed once: {claimed:?}");
    assert!(claimed.iter().all(|tokens| *tokens >= 100), "{case}: {claimed:?}");
    let charge = generated * PRICE;
    let earned = elsewhere.earned(&ground.chain, host, usdc).await.expect("a balance");
    assert_eq!(earned, charge - charge / 10, "{case}: a tenth is the treasury's");
    let after = ground.contracts.usdc_of(&ground.chain, depositor).await.expect("a balance");
    assert_eq!(after - before, DEPOSIT - charge, "{case}: the rest went back");
    if matches!(elsewhere.generation, Generation::SignedDelta | Generation::Timeout) {
        desk.named_content_is_served(job).await;
    }
    earned
}

async fn a_host_earns_on_every_generation(around: Around) {
    for generation in Generation::ALL {
        // A chain for each: its clock is moved, and must not run away from this machine's.
        a_host_earns(&Ground::new().await, generation, around).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_earns_on_every_generation_of_the_marketplace() {
    a_host_earns_on_every_generation(Around::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_earns_on_every_generation_behind_an_eip_1967_proxy() {
    a_host_earns_on_every_generation(Around::StorageProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_earns_on_every_generation_behind_an_eip_1167_clone() {
    a_host_earns_on_every_generation(Around::Clone).await;
}
