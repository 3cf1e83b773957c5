//! A host on a real socket: scripted engine, ledger on the memory store, a clock that tests move.

use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use milepost_bundle::Inclusion;
use milepost_gateway::{AuthMode, BuildInfo, Check, Clock, Deps, GatewayConfig, Host, Jobs, JobsError, Readiness, ServeError, bind, serve};
use milepost_inference::Engine;
use milepost_inference::scripted::{Options, ScriptedEngine, digest};
use milepost_ledger::{
    AccountId, AccountRecord, Address, BlockRef, ChainId, Digest, JobId, Salt, Statement, Terms, TokenAmount, TokenCount, TokenId,
    TokenSeq, UnixSeconds, VoucherTerms,
};
use milepost_ledger_db::LedgerDb;
use milepost_statement::{Domain, SessionOpen, SigningKey, Voucher, salt_commitment};
use milepost_store::{FaultPlan, Memory};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for something that must happen before it says that it did not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const CHAIN: u64 = 31_337;
pub(crate) const MARKETPLACE: Address = Address([0xaa; 20]);
pub(crate) const START: u64 = 1_800_000_000;

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32]).expect("a small number is a key")
}

pub(crate) fn depositor() -> SigningKey {
    key(1)
}

pub(crate) fn host_key() -> SigningKey {
    key(2)
}

pub(crate) fn domain() -> Domain {
    Domain { chain_id: ChainId(CHAIN), marketplace: MARKETPLACE }
}

/// 1,000 tokens at price 1, a day long, started an hour ago.
pub(crate) fn terms() -> Terms {
    Terms {
        chain: ChainId(CHAIN),
        marketplace: MARKETPLACE,
        host: host_key().address(),
        depositor: depositor().address(),
        token: Address::ZERO,
        deposit: TokenAmount(1_000),
        price: TokenAmount(1),
        model: Digest(digest()),
        rate: 10,
        burst: TokenCount(1_000),
        started: UnixSeconds(START - 3_600),
        max_duration: 86_400,
        idle_timeout: 3_600,
        claim_window: 3_600,
        minimum_charge: TokenAmount(0),
        min_claim: TokenCount(100),
        fee_bps: 1_000,
        voucher: None,
        salt_commitment: Digest::ZERO,
        deployed: None,
    }
}

pub(crate) fn salted(salt: &Salt) -> Terms {
    Terms { salt_commitment: salt_commitment(salt), ..terms() }
}

pub(crate) fn vouched(allowance: u64) -> Terms {
    Terms { voucher: Some(VoucherTerms { signer: depositor().address(), allowance: TokenCount(allowance) }), ..terms() }
}

/// What a test's chain answers.
#[derive(Default)]
pub(crate) struct TestJobs {
    jobs: Mutex<HashMap<u64, Terms>>,
    refuses: Mutex<Option<JobsError>>,
    includes: Mutex<Option<Inclusion>>,
    asked_for_inclusions: AtomicU64,
}

impl TestJobs {
    pub(crate) fn refuse(&self, refusal: Option<JobsError>) {
        *self.refuses.lock().expect("unpoisoned") = refusal;
    }

    /// What the chain shows of any claim's landing.
    pub(crate) fn includes(&self, inclusion: Option<Inclusion>) {
        *self.includes.lock().expect("unpoisoned") = inclusion;
    }

    pub(crate) fn asked_for_inclusions(&self) -> u64 {
        self.asked_for_inclusions.load(SeqCst)
    }
}

impl Jobs for TestJobs {
    fn terms(&self, job: JobId) -> BoxFuture<'_, Result<Option<Terms>, JobsError>> {
        let answer = match self.refuses.lock().expect("unpoisoned").clone() {
            Some(refusal) => Err(refusal),
            None => Ok(self.jobs.lock().expect("unpoisoned").get(&job.0).cloned()),
        };
        Box::pin(async move { answer })
    }

    fn inclusion(&self, _: Digest, _: BlockRef, _: Statement) -> BoxFuture<'_, Result<Option<Inclusion>, JobsError>> {
        self.asked_for_inclusions.fetch_add(1, SeqCst);
        let answer = self.includes.lock().expect("unpoisoned").clone();
        Box::pin(async move { Ok(answer) })
    }
}

type Trap = Box<dyn Fn() -> bool + Send>;

#[derive(Default)]
pub(crate) struct TestClock {
    now: AtomicU64,
    /// Whether the time has come for a look to fail. The first that does is the last.
    trap: Mutex<Option<Trap>>,
}

impl Clock for TestClock {
    fn now(&self) -> UnixSeconds {
        let sprung = match &mut *self.trap.lock().expect("never held over the panic") {
            // Others look at the clock as well: who asks stands on the stack.
            trap @ Some(_) => trap.take_if(|now| now() && from_the_metering_task()).is_some(),
            None => false,
        };
        assert!(!sprung, "the clock broke, as a test asked for");
        UnixSeconds(self.now.load(SeqCst))
    }
}

fn from_the_metering_task() -> bool {
    let stack = Backtrace::force_capture().to_string();
    // What ends a turn in the ledger looks at the clock as well, but from its own file.
    stack.contains("turn/run.rs") && !stack.contains("turn/ending.rs")
}

impl TestClock {
    /// The first look at the clock by a task that runs a turn panics, once `now` holds.
    pub(crate) fn panic_when(&self, now: impl Fn() -> bool + Send + 'static) {
        *self.trap.lock().expect("unpoisoned") = Some(Box::new(now));
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.trap.lock().expect("unpoisoned").is_none()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.now.fetch_add(seconds, SeqCst);
    }
}

struct Ready;

impl Readiness for Ready {
    fn checks(&self) -> Vec<Check> {
        vec![Check { name: "prover".into(), ok: false, message: "the self-test has not ended yet".into() }]
    }
}

/// What a node is made of.
pub(crate) struct Setup {
    pub(crate) config: GatewayConfig,
    pub(crate) engine: Options,
    /// Terms by job; `None`: log mode.
    pub(crate) jobs: Option<Vec<(u64, Terms)>>,
    pub(crate) store: Memory,
}

impl Default for Setup {
    fn default() -> Self {
        Self { config: config(), engine: Options::default(), jobs: None, store: store() }
    }
}

/// Defaults with the answers to time that suit a test: nothing waits for long that should not.
pub(crate) fn config() -> GatewayConfig {
    GatewayConfig { turn_wait_seconds: 10, top_up_seconds: 10, drain_seconds: 10, ..GatewayConfig::default() }
}

pub(crate) fn store() -> Memory {
    Memory::new(LedgerDb::tables())
}

pub(crate) fn faulty(plan: FaultPlan) -> Memory {
    Memory::with_faults(LedgerDb::tables(), plan)
}

impl Setup {
    /// A chain with job 7, whose depositor is [`depositor`].
    pub(crate) fn funded(terms: Terms) -> Self {
        Self { config: GatewayConfig { chain_id: CHAIN, ..config() }, jobs: Some(vec![(7, terms)]), ..Self::default() }
    }

    pub(crate) fn legacy(terms: Terms) -> Self {
        let mut setup = Self::funded(terms);
        setup.config.auth = Some(AuthMode::Legacy);
        setup
    }

    pub(crate) fn answers(mut self, tokens: impl Into<Option<u32>>) -> Self {
        self.engine.answer_tokens = tokens.into();
        self
    }

    pub(crate) fn paced(mut self, tokens_per_second: u32) -> Self {
        self.engine.tokens_per_second = Some(tokens_per_second);
        self
    }
}

pub(crate) struct Node {
    pub(crate) host: Arc<Host>,
    pub(crate) db: LedgerDb,
    pub(crate) store: Memory,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) jobs: Arc<TestJobs>,
    pub(crate) http: reqwest::Client,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
}

static TLS: Once = Once::new();

impl Node {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::try_start(setup).await.expect("the host starts")
    }

    pub(crate) async fn try_start(setup: Setup) -> Result<Self, milepost_gateway::Error> {
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let db =
            LedgerDb::open(Arc::new(setup.store.clone()), milepost_ledger_db::Options { raise_priority: false }).expect("the store opens");
        let engine = Arc::new(ScriptedEngine::new(setup.engine).expect("the engine starts"));
        let clock = Arc::new(TestClock { now: AtomicU64::new(START), ..TestClock::default() });
        let jobs = Arc::new(TestJobs::default());
        let settling = setup.jobs.is_some();
        jobs.jobs.lock().expect("unpoisoned").extend(setup.jobs.unwrap_or_default());
        let deps = Deps {
            db: db.clone(),
            engines: vec![Arc::clone(&engine) as Arc<dyn Engine>],
            jobs: settling.then(|| Arc::clone(&jobs) as Arc<dyn Jobs>),
            signer: settling.then(host_key),
            readiness: Arc::new(Ready),
            build: BuildInfo { version: "0.1.0".into(), commit: "abc".into(), built: "2026-11-21".into(), ..BuildInfo::default() },
            metrics: Arc::new(|| "milepost_up 1\n".to_owned()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let host = Host::new(setup.config, deps).await?;
        host.recover().await.expect("recovery");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, Arc::clone(&host), async move {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Ok(Self { host, db, store: setup.store, clock, engine, jobs, http, address, stop: Some(stop), served })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Posts JSON; the answer's status and body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_as(path, body, &[]).await
    }

    pub(crate) async fn post_as(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let response = self.send(path, body, headers).await;
        let status = response.status().as_u16();
        (status, response.json().await.expect("a JSON body"))
    }

    pub(crate) async fn send(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> reqwest::Response {
        let mut request = self.http.post(self.url(path)).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        tokio::time::timeout(PATIENCE, request.send()).await.expect("an answer in time").expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    /// Events of a server-sent answer, without the `[DONE]`, and whether that came.
    pub(crate) async fn events(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> (Vec<Value>, bool) {
        let text = self.send(path, body, headers).await.text().await.expect("a body");
        let mut done = false;
        let mut events = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if line == "[DONE]" { done = true } else { events.push(serde_json::from_str(line).expect("JSON")) }
        }
        (events, done)
    }

    pub(crate) fn record(&self, job: u64) -> AccountRecord {
        self.db.account(AccountId::Job(JobId(job))).expect("readable").expect("opened")
    }

    pub(crate) fn metered(&self, job: u64) -> u64 {
        self.db.account(AccountId::Job(JobId(job))).expect("readable").map_or(0, |record| record.positions.metered.0)
    }

    pub(crate) fn tokens(&self, job: u64) -> Vec<TokenId> {
        let end = TokenSeq(self.metered(job));
        self.db.tokens(AccountId::Job(JobId(job)), TokenSeq::ZERO..end).expect("readable")
    }

    /// A session token for job 7, opened by its depositor over HTTP.
    pub(crate) async fn token(&self, salt: Option<&Salt>) -> String {
        let (status, opened) = self.open(&depositor(), salt).await;
        assert_eq!(status, 200, "{opened}");
        opened["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn open(&self, signer: &SigningKey, salt: Option<&Salt>) -> (u16, Value) {
        let (status, challenge) = self.post("/v1/session/challenge", &json!({ "job_id": "7" })).await;
        assert_eq!(status, 200, "{challenge}");
        self.post("/v1/session", &answer(&challenge, signer, salt)).await
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.host.open_sockets()
    }

    /// Waits until something holds; panics with its name if it does not in time.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Asks the server to end, and says how it did.
    pub(crate) async fn stop(&mut self) -> Result<(), ServeError> {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, &mut self.served).await.expect("an end in time").expect("no panic")
    }

    /// How the server ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), ServeError> {
        tokio::time::timeout(PATIENCE, &mut self.served).await.expect("an end in time").expect("no panic")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.served.abort();
    }
}

/// A signed answer to a challenge.
pub(crate) fn answer(challenge: &Value, signer: &SigningKey, salt: Option<&Salt>) -> Value {
    let digest: Digest = challenge["challenge"].as_str().expect("a challenge").parse().expect("a digest");
    let expires_at = challenge["expires_at"].as_u64().expect("an expiry");
    let job_id = JobId(challenge["job_id"].as_str().expect("text").parse().expect("a number"));
    let signature = signer.sign(&SessionOpen { job_id, challenge: digest, expires_at }.digest(&domain()));
    let mut body = json!({
        "job_id": job_id.to_string(), "challenge": digest, "expires_at": expires_at, "signature": text(&signature),
    });
    if let Some(salt) = salt {
        body["salt"] = json!(Digest(salt.0));
    }
    body
}

/// Bytes as `0x` and hexadecimal digits.
pub(crate) fn text(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

pub(crate) fn voucher(signer: &SigningKey, tokens: u64) -> Value {
    let signature = signer.sign(&Voucher { job_id: JobId(7), tokens: TokenCount(tokens) }.digest(&domain()));
    json!({ "tokens": tokens, "signature": text(&signature) })
}

/// A greedy request for the native door.
pub(crate) fn ask(job: impl Into<Value>, prompt: &str, max_tokens: u32) -> Value {
    json!({ "model": "scripted", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "job_id": job.into() })
}

/// The same for the chat door.
pub(crate) fn ask_chat(job: impl Into<Value>, prompt: &str, max_tokens: u32) -> Value {
    json!({
        "model": "scripted", "messages": [{ "role": "user", "content": prompt }], "max_tokens": max_tokens, "temperature": 0, "top_p": 0.95,
        "top_k": 40, "job_id": job.into(),
    })
}

pub(crate) fn ids(value: &Value) -> Vec<TokenId> {
    serde_json::from_value(value.clone()).expect("token ids")
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
