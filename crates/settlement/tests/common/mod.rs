//! A whole world for one test: chain, contracts, ledger on a store that can lose its power, mock prover, settlement.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use milepost_ledger::{
    AccountId, AccountRecord, Address, ChainId, Claim, Digest, EndReason, Event, JobId, OpenAccount, Phase, Salt, Sampler, SessionEnd,
    StartTurn, Terms, Tx, UnixSeconds,
};
use milepost_ledger_db::{LedgerDb, Options};
use milepost_prover::{BoxFuture, Mock, Proof, ProofRequest, Prover};
use milepost_settlement::{Chain, Clock, Deps, Error, Handle, Probe, Settlement, SettlementConfig, SubmitterKey};
use milepost_statement::ProofKind;
use milepost_store::Memory;
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, SessionOptions};

pub type Done = Result<(), Box<dyn std::error::Error>>;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Looks at something that should come to pass: 20 s, many times what a busy machine needs.
const SOON: u32 = 2_000;
/// Between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(10);

pub struct World {
    pub chain: DevChain,
    pub deployed: Deployment,
    pub config: SettlementConfig,
    pub db: LedgerDb,
    store: Option<Memory>,
}

impl World {
    pub async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        Self::with(DeployOptions::default()).await
    }

    pub async fn with(options: DeployOptions) -> Result<Self, Box<dyn std::error::Error>> {
        Self::on(DevChain::start(ChainOptions::default()).await?, options).await
    }

    pub async fn on(chain: DevChain, options: DeployOptions) -> Result<Self, Box<dyn std::error::Error>> {
        let deployed = chain.deploy(options).await?;
        let mut config = SettlementConfig::new(chain.url(), ChainId(31337), Address(deployed.marketplace.into_array()));
        config.host = Some(Address(deployed.actors.host.address.into_array()));
        config.confirmations = 1;
        config.poll_ms = 30;
        config.claim_tokens = 100;
        config.claim_seconds = 60;
        config.resend_seconds = 1;
        // What happens must be noticed by itself, not found by the sweep.
        config.sweep_seconds = 3_600;
        let store = Memory::new(LedgerDb::tables());
        let db = LedgerDb::open(Arc::new(store.clone()), Options::default())?;
        Ok(Self { chain, deployed, config, db, store: Some(store) })
    }

    pub fn key(&self) -> SubmitterKey {
        SubmitterKey::from_bytes(&self.deployed.actors.submitter.key.0).expect("a development key is a key")
    }

    pub fn host(&self) -> Address {
        Address(self.deployed.actors.host.address.into_array())
    }

    pub fn mock(&self) -> Arc<dyn Prover> {
        Arc::new(Mock::for_dev_chain(ChainId(31337), self.chain.url()).expect("a development chain"))
    }

    /// The power fails: what was not synced is gone, every handle is dead; then the database is opened again.
    pub fn lose_power(&mut self) -> Done {
        let store = self.store.take().expect("the store is always there").crash().reopen();
        self.db = LedgerDb::open(Arc::new(store.clone()), Options::default())?;
        self.store = Some(store);
        Ok(())
    }

    pub fn deps(&self) -> Deps {
        Deps { clock: Clock::system(), ..Deps::new(self.db.clone(), self.mock(), self.key()) }
    }

    pub async fn start(&self) -> Result<Handle, Error> {
        Settlement::start(self.config.clone(), self.deps()).await
    }

    /// Settlement that ends, as a crash would end it, the first time it reaches `point`.
    pub async fn start_until(&self, point: &'static str) -> Result<Handle, Error> {
        let reached = AtomicBool::new(false);
        let probe: Probe = Arc::new(move |at| at == point && !reached.swap(true, Ordering::SeqCst));
        Settlement::start(self.config.clone(), Deps { probe: Some(probe), ..self.deps() }).await
    }

    /// Funds a session and opens its account.
    pub async fn session(&self, options: SessionOptions) -> Result<JobId, Box<dyn std::error::Error>> {
        let job = JobId(self.deployed.create_session(&self.chain, options).await?);
        let terms = Chain::new(&self.config)?.terms_to_open(job, self.host()).await?.expect("a job that was just funded");
        self.open(job, terms).await?;
        Ok(job)
    }

    pub async fn open(&self, job: JobId, terms: Terms) -> Done {
        let open =
            OpenAccount { id: AccountId::Job(job), model: terms.model, terms: Some(terms), salt: no_salt(), threshold: 100, at: now() };
        self.db.apply(vec![Event::Open(Box::new(open))]).await?;
        Ok(())
    }

    /// A turn of so many tokens.
    pub async fn generate(&self, job: JobId, tokens: usize) -> Done {
        let account = AccountId::Job(job);
        let record = self.record(job);
        let at = record.positions.metered;
        let start = StartTurn {
            account,
            request: format!("request-{}", record.turns),
            body: Digest([1; 32]),
            prompt: Digest([2; 32]),
            prompt_tokens: 5,
            sampler: Sampler { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0, max_tokens: 4096 },
            at: now(),
        };
        let ids = (0..tokens).map(|n| u32::try_from(n).unwrap_or(0)).collect();
        let end = Event::EndTurn { account, reason: EndReason::Stop, at: now() };
        self.db.apply(vec![Event::StartTurn(Box::new(start)), Event::Metered { account, at, ids }, end]).await?;
        Ok(())
    }

    pub async fn end(&self, job: JobId) -> Done {
        let event = Event::EndSession { account: AccountId::Job(job), reason: SessionEnd::ByClient, at: now() };
        self.db.apply(vec![event]).await?;
        Ok(())
    }

    pub fn record(&self, job: JobId) -> AccountRecord {
        self.db.account(AccountId::Job(job)).expect("readable").expect("opened")
    }

    pub fn claims(&self, job: JobId) -> Vec<Claim> {
        self.db.claims(job).expect("readable")
    }

    pub fn txs(&self, job: JobId) -> Vec<Tx> {
        self.db.txs().expect("readable").into_iter().filter(|tx| tx.purpose.concerns(job)).collect()
    }

    /// Waits until the account's record is as wished. Panics with the record if that takes too long.
    pub async fn until(&self, job: JobId, what: &str, wish: impl Fn(&AccountRecord) -> bool) -> AccountRecord {
        eventually(what, || {
            let record = self.record(job);
            if wish(&record) { Ok(record) } else { Err(format!("{record:#?}\n{:#?}\n{:#?}", self.claims(job), self.txs(job))) }
        })
        .await
    }

    /// Whether the account's record comes to be as wished, soon.
    pub async fn comes_to(&self, job: JobId, wish: impl Fn(&AccountRecord) -> bool) -> bool {
        for _ in 0..SOON {
            if wish(&self.record(job)) {
                return true;
            }
            tokio::time::sleep(GLANCE).await;
        }
        false
    }

    pub async fn until_paid(&self, job: JobId) -> AccountRecord {
        self.until(job, "paid", |record| matches!(record.phase, Phase::Paid(_))).await
    }

    /// Numbers of tokens of each accepted claim, as the chain logged them.
    pub async fn claimed(&self, job: JobId) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
        use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents as Events;
        let events = self.deployed.events(&self.chain, job.0).await?;
        let claims = events.into_iter().filter_map(|event| match event.event {
            Events::ProofOfWork(claim) => u64::try_from(claim.tokensClaimed).ok(),
            _ => None,
        });
        Ok(claims.collect())
    }
}

/// Waits until `look` is content; panics with its last complaint.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(complaint) if begun.elapsed() > PATIENCE => panic!("not {what} within {PATIENCE:?}: {complaint}"),
            Err(_) => tokio::time::sleep(GLANCE).await,
        }
    }
}

pub fn no_salt() -> Salt {
    Salt::default()
}

pub fn now() -> UnixSeconds {
    Clock::system().now()
}

/// A prover that fails so many times before it proves.
pub struct Failing {
    pub inner: Arc<dyn Prover>,
    pub failures: std::sync::atomic::AtomicU32,
    pub asked: Arc<std::sync::atomic::AtomicU32>,
}

impl Prover for Failing {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, milepost_prover::Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            return Box::pin(async { Err(milepost_prover::Error::Absent { path: "/nowhere/milepost-prover".into() }) });
        }
        self.inner.prove(request)
    }

    fn kind(&self) -> ProofKind {
        self.inner.kind()
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, milepost_prover::Error>> {
        self.inner.fingerprint()
    }
}
