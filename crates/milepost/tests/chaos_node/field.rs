//! One seed's world: a chain whose blocks are made by hand, the line to it that fails, and a node behind that line.

use std::path::Path;
use std::process::{Command, Stdio};

use milepost_client::{Amount, OpenRequest, Session, Wallet};
use milepost_statement::{Address, Digest};
use milepost_test_support::recount::Question;
use milepost_test_support::{ChainOptions, DeployOptions, Deployment, DevChain, FaultProxy};

use crate::common::{self, Node, free_port, scripted_on};
use crate::{DEEPEST, Proofs};

/// The account that deployment makes the depositor.
const DEPOSITOR: u32 = 3;

pub(crate) struct Field {
    pub(crate) chain: DevChain,
    pub(crate) contracts: Deployment,
    pub(crate) proxy: FaultProxy,
    pub(crate) port: u16,
    data: tempfile::TempDir,
    proofs: Proofs,
}

impl Field {
    pub(crate) async fn new(proofs: Proofs) -> Self {
        let chain = DevChain::start(ChainOptions::default()).await.expect("a chain");
        let port = free_port();
        let model = milepost_inference::scripted::digest();
        let image = milepost_prover::IMAGE_ID;
        let options = DeployOptions {
            model: model.into(),
            api_url: format!("http://127.0.0.1:{port}"),
            test_deployment: proofs == Proofs::Mock,
            image_id: image.0.into(),
            ..DeployOptions::default()
        };
        let contracts = chain.deploy(options).await.expect("contracts");
        let proxy = FaultProxy::to(chain.url()).await.expect("a proxy");
        Self { chain, contracts, proxy, port, data: tempfile::tempdir().expect("a folder"), proofs }
    }

    /// Funds a session of 2 USDC.
    pub(crate) async fn open(&self, file: &Path) -> Session {
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
        Session::open(Wallet::development(DEPOSITOR).expect("a key"), request).await.expect("funded")
    }

    /// The node's settings; the chain is reached at `rpc`.
    fn settings(&self, rpc: &str) -> Vec<(&'static str, String)> {
        let mut settings = scripted_on(self.data.path());
        let backend = if self.proofs == Proofs::Mock { "mock" } else { "stark" };
        settings.extend([
            ("prover.backend", backend.to_owned()),
            ("model.scripted_rate", "300".to_owned()),
            ("chain.rpc_url", rpc.to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("chain.marketplace", self.contracts.marketplace.to_string()),
            ("chain.host", self.contracts.actors.host.address.to_string()),
            ("chain.confirmations", (DEEPEST + 1).to_string()),
            ("chain.poll_ms", "40".to_owned()),
            ("chain.rpc_timeout_ms", "2000".to_owned()),
            ("chain.claim_tokens", "100".to_owned()),
            ("chain.claim_seconds", "60".to_owned()),
            ("chain.resend_seconds", "1".to_owned()),
            ("chain.bump_seconds", self.proofs.bump_seconds().to_string()),
            ("chain.sweep_seconds", "2".to_owned()),
            // Long enough for the claims of several sessions to meet.
            ("chain.batch_wait_seconds", "1".to_owned()),
        ]);
        settings
    }

    /// Starts the node behind the failing line, and waits for nothing: it may be killed before its doors are open.
    pub(crate) fn start(&self) -> Node {
        let key = format!("0x{}", hex::encode(self.contracts.actors.submitter.key));
        let variables = [("HOST_PRIVATE_KEY", key), ("MILEPOST_LOG", "info".to_owned())];
        Node::start_behind(":", self.port, &self.settings(&self.proxy.url()), &variables)
    }

    /// `milepost reconcile`, which reads the node's own database and asks the chain itself: exit code and everything it says.
    pub(crate) fn reconcile(&self) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["reconcile", "--json"]).stdin(Stdio::null());
        common::forget_own_variables(&mut command);
        for (key, value) in self.settings(self.chain.url()) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.output().expect("reconcile runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    }

    pub(crate) fn question(&self) -> Question {
        Question::new(self.chain.url(), &self.contracts)
    }
}
