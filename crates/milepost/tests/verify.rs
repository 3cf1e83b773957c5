//! `milepost verify` as a process, on bundles that a node serves: offline, against the chain, and with its turns run again. The
//! proofs are mock ones (real ones: `crates/prover-worker/tests/bundle_proof.rs`, and `make demo`).
#![cfg(feature = "stark")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::ground::Ground;
use milepost_bundle::Bundle;
use milepost_client::ChatRequest;
use milepost_prover::{IMAGE_ID, encode_receipt};
use milepost_statement::{ChainId, Digest, Statement};
use milepost_test_support::{ChainOptions, DevChain};
use risc0_zkvm::sha::Digestible as _;
use risc0_zkvm::{
    CompositeReceipt, CompositeReceiptVerifierParameters, FakeReceipt, InnerReceipt, Receipt, ReceiptClaim,
    SegmentReceiptVerifierParameters,
};
use serde_json::{Value, json};

/// Of 60 tokens each: two turns begin in the first claim of 100.
const PROMPTS: [&str; 3] = ["say something", "and something more", "and the rest"];

/// A landed claim's bundles, and everything to hold them against.
struct Scene {
    ground: Ground,
    files: tempfile::TempDir,
    requests: Vec<String>,
    /// For anybody; for the depositor; for the depositor, with the salt.
    public: PathBuf,
    opened: PathBuf,
    salted: PathBuf,
}

impl Scene {
    /// Plays a session whose claims land.
    async fn play() -> Self {
        let ground = Ground::new(&[("model.scripted_rate", "400"), ("chain.claim_tokens", "100")]).await;
        let node = ground.start();
        let files = tempfile::tempdir().expect("a folder");
        let mut session = ground.open(&files.path().join("session.json")).await;
        session.authenticate(None).await.expect("authenticated");
        for prompt in PROMPTS {
            session.chat_ws(ChatRequest { max_tokens: 60, ..ChatRequest::new("scripted", prompt) }).await.expect("an answer");
        }
        let requests = session.capture().turns.iter().map(|turn| turn.request_id.clone()).collect();
        let token = session.access_token().expect("a token").to_owned();
        session.close().await.expect("closed");
        session.wait_paid(Duration::from_mins(2)).await.expect("paid");
        ground.wait_clean().await;
        let keep = async |name: &str, query: &str, token: Option<&str>| {
            let mut request = reqwest::Client::new().get(format!("{}/v1/proofs/{}-0-0{query}", node.url, session.job_id()));
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await.expect("an answer").error_for_status().expect("a bundle");
            let path = files.path().join(name);
            std::fs::write(&path, answer.bytes().await.expect("a body")).expect("written");
            path
        };
        let public = keep("public.bundle", "", None).await;
        let opened = keep("opened.bundle", "", Some(&token)).await;
        let salted = keep("salted.bundle", "?salt=include", Some(&token)).await;
        node.kill();
        Self { ground, files, requests, public, opened, salted }
    }

    /// The salted bundle after `change`, as another file.
    fn altered(&self, change: impl FnOnce(&mut Bundle)) -> PathBuf {
        let mut bundle = Bundle::decode(&std::fs::read(&self.salted).expect("there")).expect("a bundle");
        change(&mut bundle);
        self.file("altered.bundle", &bundle.encode().expect("encodes"))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn prompts(&self, name: &str, prompts: &[&str]) -> PathBuf {
        let all: Vec<Value> = (self.requests.iter().zip(prompts))
            .map(|(id, prompt)| json!({ "request_id": id, "messages": [{ "role": "user", "content": prompt }] }))
            .collect();
        self.file(name, Value::Array(all).to_string().as_bytes())
    }
}

/// Runs `milepost verify` in an empty environment; its exit code and what it printed.
fn verify(file: &Path, arguments: &[&str]) -> (i32, Value) {
    verify_in(Command::new(env!("CARGO_BIN_EXE_milepost")), &[], file, arguments)
}

fn verify_in(mut command: Command, variables: &[(&str, &str)], file: &Path, arguments: &[&str]) -> (i32, Value) {
    command.env_clear().envs(variables.iter().copied()).arg("verify").arg(file).arg("--json").args(arguments);
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let said = || format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let code = status.code().unwrap_or_else(|| panic!("killed: {}", said()));
    let printed = serde_json::from_slice(&stdout).unwrap_or(Value::Null);
    if printed.is_object() {
        assert_eq!(printed["exit_code"], code, "what is printed is what is meant: {}", said());
    }
    (code, printed)
}

/// What a line of the report came to.
fn line<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let lines = report["checks"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let line = lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("no line {name}: {report:#}"));
    (line["result"].as_str().expect("text"), line["words"].as_str().expect("text"))
}

fn composite(statement: &Statement) -> Vec<u8> {
    // The types cannot be constructed outside their crate, but deserialised: a composite receipt whose seal is made up.
    let claim = ReceiptClaim::ok(risc0_zkvm::Digest::from(IMAGE_ID.0), statement.journal().to_vec());
    let seal: Vec<u32> = (0..1_000).collect();
    let segment = (seal, 0_u32, "poseidon2", SegmentReceiptVerifierParameters::default().digest(), claim);
    let fields = (vec![segment], Vec::<()>::new(), CompositeReceiptVerifierParameters::default().digest());
    let composite: CompositeReceipt = postcard::from_bytes(&postcard::to_allocvec(&fields).expect("encodes")).expect("decodes");
    encode_receipt(&Receipt::new(InnerReceipt::Composite(composite), statement.journal().to_vec())).expect("encodes")
}

fn fake(statement: &Statement) -> Vec<u8> {
    let claim = ReceiptClaim::ok(risc0_zkvm::Digest::from(IMAGE_ID.0), statement.journal().to_vec());
    let fake = Receipt::new(InnerReceipt::Fake(FakeReceipt::new(claim)), statement.journal().to_vec());
    encode_receipt(&fake).expect("encodes")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_bundle_is_checked_offline_on_chain_and_by_running_it_again() {
    let scene = Scene::play().await;
    each_class_has_its_exit_code(&scene);
    the_chain_is_compared(&scene).await;
    turns_are_run_again(&scene);
}

fn each_class_has_its_exit_code(scene: &Scene) {
    // 0: with neither variables nor network, where the machine lets one be shut out of it.
    let mut alone = Command::new("unshare");
    alone.args(["-n", env!("CARGO_BIN_EXE_milepost")]);
    let can_shut_out = Command::new("unshare").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    let program = if can_shut_out { alone } else { Command::new(env!("CARGO_BIN_EXE_milepost")) };
    let (code, report) = verify_in(program, &[("PATH", "/usr/bin:/bin")], &scene.salted, &["--accept-mock"]);
    assert_eq!((code, &report["verdict"], &report["proven"]), (0, &json!("test-only"), &json!(false)), "{report:#}");
    for name in ["checkpoints", "token ids", "settings of turns", "salt", "turns", "transaction", "block", "event"] {
        assert_eq!(line(&report, name).0, "holds", "{report:#}");
    }
    // The dev chain computed that root, not we.
    assert!(line(&report, "event").1.contains("under the block's receiptsRoot"), "{report:#}");
    println!("figure network shut out: {can_shut_out}");
    let (code, public) = verify(&scene.public, &["--accept-mock"]);
    assert_eq!((code, line(&public, "token ids").0, line(&public, "event").0), (0, "not-checked", "holds"));
    let (code, opened) = verify(&scene.opened, &["--accept-mock"]);
    assert_eq!((code, line(&opened, "token ids").0, line(&opened, "salt").0), (0, "holds", "not-checked"));
    let salt = scene.files.path().join("session.json");
    assert_eq!(line(&verify(&scene.opened, &["--accept-mock", "--salt-file", salt.to_str().expect("text")]).1, "turns").0, "holds");

    // 1: a receipt of the right kind, program and journal, whose seal is made up.
    let (code, report) = verify(&scene.altered(|it| it.receipt = composite(&it.statement)), &[]);
    assert_eq!((code, &report["verdict"]), (1, &json!("proof-false")), "{report:#}");
    assert!(line(&report, "proof").1.contains("the seal does not verify"), "{report:#}");
    // 2: one token.
    let (code, report) = verify(&scene.altered(|it| it.opening.as_mut().expect("opened").ids[5] ^= 1), &["--accept-mock"]);
    assert_eq!((code, &report["verdict"], line(&report, "token ids").0), (2, &json!("statement-differs"), "fails"), "{report:#}");
    let (code, report) = verify(&scene.salted, &["--accept-mock", "--expect-job", "99"]);
    assert_eq!((code, line(&report, "about").0), (2, "fails"));
    let (code, _) = verify(&scene.salted, &["--accept-mock", "--image-id", &Digest([1; 32]).to_string()]);
    assert_eq!(code, 2, "the bundle says another program");
    // 3: an event that is not in the block.
    let moved = scene.altered(|it| {
        it.landing.as_mut().and_then(|landing| landing.inclusion.as_mut()).expect("landed").transaction_index += 1;
    });
    let (code, report) = verify(&moved, &["--accept-mock"]);
    assert_eq!((code, &report["verdict"], line(&report, "event").0), (3, &json!("chain-differs"), "fails"), "{report:#}");
    // 4: cut, and two in one.
    let file = std::fs::read(&scene.salted).expect("there");
    let (code, report) = verify(&scene.file("cut.bundle", &file[..file.len() - 1]), &["--accept-mock"]);
    assert_eq!((code, &report["verdict"]), (4, &json!("unreadable")), "{report:#}");
    let (code, report) = verify(&scene.file("two.bundle", &[&file[..], &file].concat()), &["--accept-mock"]);
    assert!(code == 4 && line(&report, "file").1.contains("second claim"), "{report:#}");
    // 5: a mock that nobody accepts, one of another chain, a fake, and any proof at all in development mode.
    assert_eq!(verify(&scene.salted, &[]).0, 5);
    let elsewhere = scene.altered(|it| {
        it.statement.chain_id = ChainId(84532);
        it.receipt = [milepost_prover::MOCK_RECEIPT_TAG, &it.statement.journal()].concat();
    });
    let (code, report) = verify(&elsewhere, &["--accept-mock"]);
    assert!(code == 5 && line(&report, "proof").1.contains("not accepted for any chain but 31337"), "{report:#}");
    let program = || Command::new(env!("CARGO_BIN_EXE_milepost"));
    let faked = scene.altered(|it| it.receipt = fake(&it.statement));
    let (code, report) = verify(&faked, &["--accept-mock"]);
    assert!(code == 5 && line(&report, "proof").1.contains("fake receipt"), "{report:#}");
    for receipt in [fake, composite] {
        let file = scene.altered(|it| it.receipt = receipt(&it.statement));
        let (code, report) = verify_in(program(), &[("RISC0_DEV_MODE", "1")], &file, &[]);
        assert!(code == 5 && line(&report, "proof").1.contains("RISC0_DEV_MODE is set"), "{report:#}");
    }
    // 64 and 69: nothing was looked at.
    assert_eq!(verify(&scene.salted, &["--nonsense"]).0, 64);
    assert_eq!(verify(Path::new("/nowhere/at/all"), &[]).0, 69);
}

async fn the_chain_is_compared(scene: &Scene) {
    let rpc = scene.ground.chain.url().to_owned();
    let (code, report) = verify(&scene.public, &["--accept-mock", "--rpc", &rpc]);
    assert_eq!(code, 0, "{report:#}");
    for name in ["terms on chain", "block on chain", "event on chain", "tokensUsed on chain"] {
        assert_eq!(line(&report, name).0, "holds", "{report:#}");
    }
    // A bundle from before the claim landed finds its event by itself.
    let early = scene.altered(|it| it.landing = None);
    assert_eq!(verify(&early, &["--accept-mock", "--rpc", &rpc]).0, 0);
    // The same id, but not the same chain: nothing of it is there.
    let other = DevChain::start(ChainOptions::default()).await.expect("a chain");
    let (code, report) = verify(&scene.public, &["--accept-mock", "--rpc", other.url()]);
    assert_eq!((code, line(&report, "job on chain").0), (3, "fails"), "{report:#}");
    let (code, report) = verify(&scene.public, &["--accept-mock", "--rpc", "http://127.0.0.1:1"]);
    assert_eq!((code, &report["verdict"], line(&report, "chain").0), (69, &json!("cannot-look"), "fails"), "{report:#}");
}

fn turns_are_run_again(scene: &Scene) {
    let prompts = scene.prompts("prompts.json", &PROMPTS);
    let replay = |bundle: &Path, prompts: &Path| {
        verify(bundle, &["--accept-mock", "--replay", prompts.to_str().expect("text"), "--model", "scripted"])
    };
    let (code, report) = replay(&scene.salted, &prompts);
    assert_eq!(code, 0, "{report:#}");
    let turns = report["replay"]["turns"].as_array().expect("turns");
    assert!(turns.len() == 2 && turns.iter().all(|turn| turn["result"] == "same"), "{report:#}");
    assert!(report["replay"]["conclusion"].as_str().expect("text").contains("no proof that the host ran it"));

    // Another prompt is not this turn's: nothing is run, nothing concluded.
    let (code, report) = replay(&scene.salted, &scene.prompts("others.json", &["something else", "entirely", "and more"]));
    assert_eq!((code, &report["verdict"]), (69, &json!("not-replayed")), "{report:#}");
    // Without salt or ids nothing ties a prompt to a turn.
    assert_eq!(replay(&scene.opened, &prompts).0, 69);
    assert_eq!(replay(&scene.public, &prompts).0, 69);

    // A host that answered otherwise than the model: consistent in itself, and found out where it begins to differ.
    let forged = scene.altered(forge);
    let (code, report) = replay(&forged, &prompts);
    assert_eq!((code, &report["verdict"]), (6, &json!("replay-differs")), "{report:#}");
    let first = &report["replay"]["turns"][0];
    assert_eq!((&first["result"], &first["first_difference"]["at"]), (&json!("differs"), &json!(50)), "{report:#}");
    assert!(report["replay"]["conclusion"].as_str().expect("text").contains("no fraud"), "{report:#}");
}

/// Another token 50, with every head, the statement and the mock proof made to fit.
fn forge(bundle: &mut Bundle) {
    let opening = bundle.opening.as_mut().expect("opened");
    opening.ids[50] ^= 1;
    let (mut head, mut first, mut rest) = (bundle.statement.head_before, bundle.statement.first_seq, opening.ids.as_slice());
    for (checkpoint, turns) in bundle.checkpoints.iter_mut().zip(&opening.turns_digests) {
        let (ids, behind) = rest.split_at(usize::try_from(checkpoint.count.0).expect("few"));
        head = milepost_statement::checkpoint_head(&head, first, turns, ids);
        checkpoint.head = head;
        (first, rest) = (first + checkpoint.count, behind);
    }
    bundle.statement.head_after = head;
    bundle.receipt = [milepost_prover::MOCK_RECEIPT_TAG, &bundle.statement.journal()].concat();
    bundle.landing = None;
}
