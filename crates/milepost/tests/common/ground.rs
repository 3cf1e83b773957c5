//! A dev chain with the contracts, and the settings of a node that settles on it with the scripted engine and mock proofs.

use std::path::{Path, PathBuf};

use alloy::primitives::U256;
use milepost_client::{Amount, OpenRequest, Session, Wallet};
use milepost_statement::{Address, Digest};
use milepost_test_support::bindings::TestUSDC;
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, Mining};

use super::{Node, free_port, scripted_on};

/// The account that deployment makes the depositor.
pub const DEPOSITOR: u32 = 3;
/// In 10⁻⁶ USDC: enough for a thousand sessions.
const ENDOWMENT: u128 = 2_000_000_000;

/// Where a node, a chain and clients meet.
pub struct Ground {
    pub chain: DevChain,
    pub contracts: Deployment,
    data: tempfile::TempDir,
    pub port: u16,
    own: Vec<(&'static str, &'static str)>,
}

impl Ground {
    /// A chain that mines each second, and a node's settings with `own` over the usual ones.
    pub async fn new(own: &[(&'static str, &'static str)]) -> Self {
        milepost_test_support::install_tls();
        let chain = DevChain::start(ChainOptions { mining: Mining::Automatic, ..ChainOptions::default() }).await.expect("a chain");
        let port = free_port();
        let model = milepost_inference::scripted::digest();
        let options = DeployOptions { model: model.into(), api_url: format!("http://127.0.0.1:{port}"), ..DeployOptions::default() };
        let contracts = chain.deploy(options).await.expect("contracts");
        let _: serde_json::Value = chain.request("evm_setIntervalMining", (1_u64,)).await.expect("blocks come by themselves");
        Self { chain, contracts, data: tempfile::tempdir().expect("a folder"), port, own: own.to_vec() }
    }

    /// Folder of the ledger's database.
    pub fn ledger(&self) -> PathBuf {
        self.data.path().join("ledger")
    }

    /// Folder of everything the node keeps.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = scripted_on(self.data.path());
        settings.extend([
            ("prover.backend", "mock".to_owned()),
            ("chain.rpc_url", self.chain.url().to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("chain.marketplace", self.contracts.marketplace.to_string()),
            ("chain.host", self.contracts.actors.host.address.to_string()),
            ("chain.confirmations", "2".to_owned()),
            ("chain.poll_ms", "100".to_owned()),
        ]);
        settings.extend(self.own.iter().map(|(key, value)| (*key, (*value).to_owned())));
        settings
    }

    /// Starts the node, or starts it again.
    pub fn start(&self) -> Node {
        self.start_with(&[])
    }

    /// Starts the node with these settings over its own.
    pub fn start_with(&self, more: &[(&'static str, String)]) -> Node {
        let mut settings = self.settings();
        settings.extend_from_slice(more);
        Node::start(self.port, &settings, &self.variables())
    }

    /// Starts the node behind a shell that runs `before` first; waits for nothing.
    pub fn start_behind(&self, before: &str) -> Node {
        Node::start_behind(before, self.port, &self.settings(), &self.variables())
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        let key = format!("0x{}", hex::encode(self.contracts.actors.submitter.key));
        [("HOST_PRIVATE_KEY", key), ("MILEPOST_LOG", "info,milepost_gateway=debug".to_owned())]
    }

    /// Funds a session of 2 USDC out of the depositor's account.
    pub async fn open(&self, file: &Path) -> Session {
        self.open_by(DEPOSITOR, file).await
    }

    /// Gives the chain's account of this number the means for many sessions.
    pub async fn endow(&self, account: u32) {
        let (owner, usdc) = (self.contracts.actors.owner.address, self.contracts.usdc);
        let mint = TestUSDC::mintCall { to: self.chain.account(account as usize).address, amount: U256::from(ENDOWMENT) };
        self.chain.transact(owner, usdc, mint).await.expect("minted");
    }

    /// Funds a session of 2 USDC out of this account.
    pub async fn open_by(&self, account: u32, file: &Path) -> Session {
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
        Session::open(Wallet::development(account).expect("a key"), request).await.expect("funded")
    }

    /// A claim's tokens for each that the marketplace took from this job, and how often it was paid out.
    pub async fn claimed(&self, job: u64) -> (Vec<u64>, usize) {
        use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents as Event;
        let events = self.contracts.events(&self.chain, job).await.expect("the job's logs");
        let tokens = |event: &milepost_test_support::JobEvent| match &event.event {
            Event::ProofOfWork(claim) => Some(u64::try_from(claim.tokensClaimed).expect("few")),
            _ => None,
        };
        let paid = events.iter().filter(|event| matches!(event.event, Event::SessionCompleted(_))).count();
        (events.iter().filter_map(tokens).collect(), paid)
    }

    /// The host's books, read from the disk by another process and compared with the chain.
    pub fn reconcile(&self) -> serde_json::Value {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["reconcile", "--json"]);
        super::forget_own_variables(&mut command);
        for (key, value) in self.settings() {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.output().expect("reconcile runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("reconcile: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Waits until the books are clean; answers them.
    pub async fn wait_clean(&self) -> serde_json::Value {
        let mut books = serde_json::Value::Null;
        for _ in 0..60 {
            books = self.reconcile();
            if books["verdict"] == "clean" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(books["verdict"], "clean", "{books:#}");
        books
    }
}
