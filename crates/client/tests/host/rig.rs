//! A host in this process, a proxy before it, and a client whose session was funded on a chain that nobody needs any more.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use milepost_client::file::{Funding, Record, SessionFile, VoucherState};
use milepost_client::{Amount, ChatRequest, Session, Wallet, init_tls};
use milepost_gateway::{BuildInfo, Check, Deps, GatewayConfig, Host, Jobs, JobsError, Readiness, SystemClock, bind, serve};
use milepost_inference::Engine;
use milepost_inference::scripted::{NAME, Options, ScriptedEngine, digest};
use milepost_ledger::{AccountId, Terms, TokenAmount, UnixSeconds, VoucherTerms};
use milepost_ledger_db::LedgerDb;
use milepost_statement::{Address, ChainId, Digest, JobId, Salt, SigningKey, TokenCount, TokenId, TokenSeq, salt_commitment};
use milepost_store::Memory;
use tokio::sync::oneshot;

use crate::proxy::Proxy;

pub(crate) const JOB: JobId = JobId(7);
const CHAIN: ChainId = ChainId(31337);
const MARKETPLACE: Address = Address([0xaa; 20]);
const SALT: Salt = Salt([0x5a; 32]);

/// What a rig is made of.
pub(crate) struct Setup {
    pub(crate) engine: Options,
    pub(crate) allowance: Option<u64>,
}

impl Default for Setup {
    /// Answers of 400 tokens at most, at full speed, no vouchers.
    fn default() -> Self {
        Self { engine: Options { answer_tokens: None, ..Options::default() }, allowance: None }
    }
}

impl Setup {
    pub(crate) fn paced(tokens_per_second: u32) -> Self {
        let mut setup = Self::default();
        setup.engine.tokens_per_second = Some(tokens_per_second);
        setup
    }
}

/// A running host.
pub(crate) struct Node {
    pub(crate) db: LedgerDb,
    pub(crate) store: Memory,
    pub(crate) address: SocketAddr,
    served: tokio::task::JoinHandle<()>,
    _stop: oneshot::Sender<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.served.abort();
    }
}

struct OneJob(Terms);

impl Jobs for OneJob {
    fn terms(&self, job: JobId) -> futures::future::BoxFuture<'_, Result<Option<Terms>, JobsError>> {
        let terms = (job == JOB).then(|| self.0.clone());
        Box::pin(async move { Ok(terms) })
    }
}

struct Ready;

impl Readiness for Ready {
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

pub(crate) fn wallet() -> Wallet {
    Wallet::from_bytes(&[1; 32]).expect("a key")
}

fn host_key() -> SigningKey {
    SigningKey::from_bytes(&[2; 32]).expect("a key")
}

fn terms(allowance: Option<u64>) -> Terms {
    let voucher = allowance.map(|tokens| VoucherTerms { signer: wallet().address(), allowance: TokenCount(tokens) });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    Terms {
        chain: CHAIN,
        marketplace: MARKETPLACE,
        host: host_key().address(),
        depositor: wallet().address(),
        token: Address::ZERO,
        deposit: TokenAmount(10_000),
        price: TokenAmount(1),
        model: Digest(digest()),
        rate: 10,
        burst: TokenCount(10_000),
        started: UnixSeconds(now - 3_600),
        max_duration: 86_400,
        idle_timeout: 3_600,
        claim_window: 3_600,
        minimum_charge: TokenAmount(0),
        min_claim: TokenCount(100),
        fee_bps: 1_000,
        voucher,
        salt_commitment: salt_commitment(&SALT),
        deployed: None,
    }
}

impl Node {
    pub(crate) async fn start(store: Memory, engine: Options, allowance: Option<u64>) -> Self {
        init_tls();
        let db = LedgerDb::open(Arc::new(store.clone()), milepost_ledger_db::Options { raise_priority: false }).expect("the store opens");
        let deps = Deps {
            db: db.clone(),
            engines: vec![Arc::new(ScriptedEngine::new(engine).expect("the engine starts")) as Arc<dyn Engine>],
            jobs: Some(Arc::new(OneJob(terms(allowance)))),
            signer: Some(host_key()),
            readiness: Arc::new(Ready),
            build: BuildInfo::default(),
            metrics: Arc::new(String::new),
            clock: Arc::new(SystemClock),
        };
        let config = GatewayConfig { chain_id: CHAIN.0, top_up_seconds: 10, ..GatewayConfig::default() };
        let host = Host::new(config, deps).await.expect("the host starts");
        host.recover().await.expect("recovery");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let _ = serve(listener, host, async move {
                let _ = stopped.await;
            })
            .await;
        });
        Self { db, store, address, served, _stop: stop }
    }

    /// Every token that the host has metered.
    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        let end = self.db.account(AccountId::Job(JOB)).expect("readable").map_or(TokenSeq::ZERO, |record| record.positions.metered);
        self.db.tokens(AccountId::Job(JOB), TokenSeq::ZERO..end).expect("readable")
    }

    pub(crate) fn voucher(&self) -> TokenCount {
        self.db.account(AccountId::Job(JOB)).expect("readable").expect("opened").voucher
    }
}

/// Host, proxy and an authenticated client.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) proxy: Proxy,
    pub(crate) session: Session,
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start(setup: Setup) -> Self {
        let node = Node::start(Memory::new(LedgerDb::tables()), setup.engine, setup.allowance).await;
        let proxy = Proxy::start(node.address).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("session.json");
        fund(&path, &proxy.url, setup.allowance);
        let mut session = Session::load(wallet(), &path).await.expect("it loads");
        session.authenticate(None).await.expect("the depositor may open");
        Self { node, proxy, session, path, _folder: folder }
    }

    /// Client and host hold the same tokens.
    pub(crate) fn assert_same(&self) {
        assert_eq!(self.session.transcript().ids(), self.node.tokens());
        assert_eq!(self.session.record().ids, self.node.tokens(), "and so does the session file");
    }
}

/// A session file as `Session::open` leaves it.
fn fund(path: &Path, url: &str, allowance: Option<u64>) {
    let record = Record {
        format: Record::FORMAT,
        rpc: "http://127.0.0.1:1".into(),
        chain_id: CHAIN,
        marketplace: MARKETPLACE,
        host: host_key().address(),
        host_url: url.into(),
        model_digest: Digest(digest()),
        token: Address::ZERO,
        deposit: Amount(10_000),
        price: Amount(1),
        minimum_charge: Amount(0),
        depositor: wallet().address(),
        salt: SALT,
        funding: Funding::Funded { job_id: JOB, block: 1 },
        access: None,
        quote: None,
        ceiling: None,
        voucher: allowance.map(|tokens| VoucherState { allowance: TokenCount(tokens), given: TokenCount::ZERO }),
        ids: Vec::new(),
        checkpoints: Vec::new(),
        turns: Vec::new(),
        active: None,
        stopped: None,
    };
    SessionFile::create(path, record).expect("a new file");
}

pub(crate) fn ask(prompt: &str, max_tokens: u32) -> ChatRequest {
    ChatRequest { max_tokens, ..ChatRequest::new(NAME, prompt) }
}

/// Fails a test that would hang.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it ends in time")
}
