//! What an operator mends by hand, the whole way with a real node on a real chain: a key that was used elsewhere, a transaction that
//! nobody takes, a job that was stopped.

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use alloy::network::TransactionResponse as _;
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use common::ground::Ground;
use common::{Node, forget_own_variables};
use milepost_client::{ChatRequest, Session};
use milepost_ledger::{AccountId, Event};
use milepost_ledger_db::{LedgerDb, Options};
use milepost_test_support::{Fault, FaultProxy, Script};
use serde_json::Value;

/// Many times what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a command on the ground's settings: its exit code, its JSON and what it said.
fn command(ground: &Ground, arguments: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    forget_own_variables(&mut command);
    for (key, value) in ground.settings() {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let key = format!("0x{}", hex::encode(ground.contracts.actors.submitter.key));
    let output = command.args(arguments).env("HOST_PRIVATE_KEY", key).stdin(Stdio::null()).output().expect("the program runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("it ended by itself"), serde_json::from_slice(&output.stdout).unwrap_or_default(), err)
}

async fn chat(session: &mut Session, tokens: u32) {
    let mut ask = ChatRequest::new("scripted", "walk on");
    ask.max_tokens = tokens;
    assert_eq!(session.chat_ws(ask).await.expect("an answer").count.0, u64::from(tokens));
}

async fn open(ground: &Ground, folder: &tempfile::TempDir) -> Session {
    let mut session = ground.open(&folder.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");
    session
}

/// Closed and paid for every token, each claimed once.
async fn paid(ground: &Ground, mut session: Session) {
    let job = session.job_id().0;
    session.close().await.expect("closed");
    let paid = session.wait_paid(PATIENCE).await.expect("paid");
    assert_eq!(paid.tokens.0, session.transcript().end().0);
    ground.wait_clean().await;
    let (claims, payouts) = ground.claimed(job).await;
    assert_eq!((claims.iter().sum::<u64>(), payouts), (paid.tokens.0, 1), "each token was claimed once: {claims:?}");
}

fn final_claims(node: &Node) -> usize {
    node.logged("claim_final")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_elsewhere_signs_again_when_the_operator_has_looked() {
    let ground = Ground::new(&[("model.scripted_rate", "500"), ("chain.claim_tokens", "100"), ("chain.sweep_seconds", "1")]).await;
    let submitter = ground.contracts.actors.submitter.address;
    let key = format!("0x{}", hex::encode(submitter));
    let folder = tempfile::tempdir().expect("a folder");
    let node = ground.start();
    let mut session = open(&ground, &folder).await;
    chat(&mut session, 100).await;
    node.wait_until("the first claim's finality", PATIENCE, |log| log.iter().any(|event| event["event"] == "claim_final"));
    assert_eq!(
        command(&ground, &["doctor", "--no-proof"]).1["checks"]
            .as_array()
            .map(|checks| { checks.iter().any(|check| check["check"] == "key's use" && check["verdict"] == "ok") }),
        Some(true)
    );

    // A transfer by hand. The node sees it, signs nothing more, and says which command there is.
    let stranger = ground.contracts.actors.stranger.address;
    let by_hand =
        ground.chain.send("a transfer by hand", submitter, TxKind::Call(stranger), Bytes::new(), U256::from(7)).await.expect("sent");
    let words = node.wait_ready("money", false, PATIENCE).await;
    assert!(words.contains("[MP-S-030]") && words.contains("milepost keys accept-nonces"), "{words}");
    let before = node.logged("tx_signed");
    chat(&mut session, 130).await;
    let (code, report, _) = command(&ground, &["doctor", "--no-proof"]);
    let told = report["checks"].as_array().expect("checks").iter().find(|check| check["check"] == "key's use").expect("looked at").clone();
    assert_eq!((code, &told["code"]), (1, &Value::String("MP-S-030".to_owned())), "{told}");
    assert!(told["advice"].as_str().is_some_and(|advice| advice.contains("milepost keys accept-nonces")), "{told}");
    assert_eq!(node.logged("tx_signed"), before, "nothing is signed while the key's use is not explained");

    // Not beside a running node; not unseen; not up to another count than the chain's.
    let (code, _, said) = command(&ground, &["keys", "accept-nonces", &key]);
    assert!(code == 1 && said.contains("stop it first"), "{code}: {said}");
    assert_eq!(node.terminate(PATIENCE), Some(0));
    let (code, shown, _) = command(&ground, &["keys", "accept-nonces", &key]);
    assert_eq!((code, &shown["accepted"]), (3, &Value::Bool(false)), "{shown:#}");
    let (count, known) = (shown["count"].as_u64().expect("a count"), shown["known"].as_u64().expect("a count"));
    assert_eq!(count, known + 1);
    let one = &shown["unexplained"][0];
    assert_eq!((one["nonce"].as_u64(), one["value"].as_str()), (Some(known), Some("7")), "{shown:#}");
    assert_eq!(one["tx"], format!("{}", by_hand.transaction_hash), "it is named");
    let (code, _, said) = command(&ground, &["keys", "accept-nonces", &key, "--yes"]);
    assert!(code == 1 && said.contains("--below"), "{code}: {said}");
    let (code, _, said) = command(&ground, &["keys", "accept-nonces", &key, "--below", &(count + 1).to_string(), "--yes"]);
    assert!(code == 1 && said.contains(&format!("the chain counts {count}")), "{code}: {said}");
    let below = count.to_string();
    let (code, shown, said) = command(&ground, &["keys", "accept-nonces", &key, "--below", &below, "--yes"]);
    assert_eq!((code, &shown["accepted"]), (0, &Value::Bool(true)), "{said}");
    let (code, shown, _) = command(&ground, &["keys", "accept-nonces", &key, "--below", &below, "--yes"]);
    assert_eq!((code, shown["unexplained"].as_array().map(Vec::len)), (0, Some(0)), "a second time there is nothing to accept");

    // It claims again, and everything is paid.
    let node = ground.start();
    node.wait_until("a further claim", PATIENCE, |log| log.iter().any(|event| event["event"] == "claim_final"));
    paid(&ground, session).await;
    assert!(final_claims(&node) > 0);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_key_is_not_ready_until_its_transaction_gets_through() {
    let ground = Ground::new(&[
        ("model.scripted_rate", "500"),
        ("chain.claim_tokens", "100"),
        ("chain.stuck_seconds", "2"),
        ("chain.resend_seconds", "1"),
        ("chain.bump_seconds", "1"),
    ])
    .await;
    let proxy = FaultProxy::to(ground.chain.url()).await.expect("a proxy");
    let node = ground.start_with(&[("chain.rpc_url", proxy.url())]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = open(&ground, &folder).await;
    node.wait_ready("money", true, PATIENCE).await;

    // Taken, as the endpoint says, and never seen again.
    proxy.script(Script::always("eth_sendRawTransaction", Fault::Refuse { code: -32_000, message: "already known".to_owned() }));
    chat(&mut session, 130).await;
    let words = node.wait_ready("money", false, PATIENCE).await;
    assert!(words.contains("[MP-S-029]") && words.contains("nonce 0") && words.contains("milepost claims cancel 0"), "{words}");
    assert_eq!(node.ready().await.0, 503);
    assert_eq!(node.logged("tx_stuck"), 1, "said once");

    // It clears, and nobody does anything.
    proxy.clear_scripts();
    node.wait_ready("money", true, PATIENCE).await;
    paid(&ground, session).await;
    assert_eq!(node.ready().await.0, 200);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_takes_is_cancelled_and_its_tokens_are_claimed_anew() {
    let ground = Ground::new(&[
        ("model.scripted_rate", "500"),
        ("chain.claim_tokens", "100"),
        ("chain.stuck_seconds", "2"),
        ("chain.resend_seconds", "1"),
        ("chain.bump_seconds", "600"),
    ])
    .await;
    let submitter = ground.contracts.actors.submitter.address;
    let proxy = FaultProxy::to(ground.chain.url()).await.expect("a proxy");
    let node = ground.start_with(&[("chain.rpc_url", proxy.url())]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut session = open(&ground, &folder).await;
    proxy.script(Script::always("eth_sendRawTransaction", Fault::Refuse { code: -32_000, message: "already known".to_owned() }));
    chat(&mut session, 130).await;
    node.wait_ready("money", false, PATIENCE).await;

    // Not beside a running node, not a nonce that there is not, and not without a word.
    let (code, _, said) = command(&ground, &["claims", "cancel", "0"]);
    assert!(code == 1 && said.contains("stop it first"), "{code}: {said}");
    assert_eq!(node.terminate(PATIENCE), Some(0));
    let (code, _, said) = command(&ground, &["claims", "cancel", "9", "--yes"]);
    assert!(code == 1 && said.contains("no transaction with nonce 9"), "{code}: {said}");
    let (code, shown, _) = command(&ground, &["claims", "cancel", "0"]);
    assert_eq!((code, &shown["recorded"]), (3, &Value::Bool(false)), "{shown:#}");
    let (code, shown, said) = command(&ground, &["claims", "cancel", "0", "--yes"]);
    assert_eq!((code, &shown["recorded"]), (0, &Value::Bool(true)), "{said}");

    // The node is started, and killed before anything of it is on the chain: the wish outlives that.
    let node = ground.start_with(&[("chain.rpc_url", proxy.url())]);
    node.wait_for("the cancel", PATIENCE, |event| event["event"] == "tx_cancelling");
    node.kill();
    proxy.clear_scripts();
    let node = ground.start_with(&[("chain.rpc_url", proxy.url())]);
    paid(&ground, session).await;
    // The chain says what took the nonce: a transfer of nothing to the key itself.
    let (head, _) = ground.chain.head().await.expect("a head");
    let mut first = None;
    for number in 0..=head {
        let block = ground.chain.provider().get_block_by_number(number.into()).full().await.expect("an answer").expect("a block");
        let found =
            block.transactions.into_transactions().find(|tx| tx.from() == submitter && alloy::consensus::Transaction::nonce(tx) == 0);
        first = first.or(found);
    }
    let first = first.expect("nonce 0 is used");
    assert_eq!(alloy::consensus::Transaction::to(&first), Some(submitter), "the cancel was mined, not the claim");
    assert!(node.wait_ready("money", true, PATIENCE).await.contains("0 unresolved"));
    let (code, _, said) = command(&ground, &["claims", "cancel", "0", "--yes"]);
    assert_eq!(code, 1, "{said}");
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_stopped_goes_on_when_the_operator_says_so() {
    let ground = Ground::new(&[("model.scripted_rate", "500"), ("chain.claim_tokens", "100")]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let node = ground.start();
    let mut session = open(&ground, &folder).await;
    let job = session.job_id();
    let number = job.to_string();
    chat(&mut session, 130).await;
    assert_eq!(node.terminate(PATIENCE), Some(0));
    let ledger = LedgerDb::open_rocks(&ground.ledger(), Options::default()).expect("the ledger");
    let reason = "the chain and the ledger disagreed".to_owned();
    ledger.apply(vec![Event::Halt { account: AccountId::Job(job), reason: reason.clone() }]).await.expect("stopped");
    ledger.close().await;

    let node = ground.start();
    let words = node.wait_ready("money", false, PATIENCE).await;
    assert!(words.contains("milepost jobs resume"), "{words}");
    let (code, _, said) = command(&ground, &["jobs", "resume", &number, "--yes"]);
    assert!(code == 1 && said.contains("stop it first"), "{code}: {said}");
    assert_eq!(node.terminate(PATIENCE), Some(0));
    let (code, shown, _) = command(&ground, &["jobs", "resume", &number]);
    assert_eq!((code, &shown["reason"], &shown["resumed"]), (3, &Value::String(reason), &Value::Bool(false)), "{shown}");
    assert_eq!(command(&ground, &["jobs", "resume", "99", "--yes"]).0, 1, "no such job");
    assert_eq!(command(&ground, &["jobs", "resume", &number, "--yes"]).0, 0);
    let (code, _, said) = command(&ground, &["jobs", "resume", &number, "--yes"]);
    assert!(code == 1 && said.contains("does not wait"), "{code}: {said}");

    let node = ground.start();
    node.wait_ready("money", true, PATIENCE).await;
    paid(&ground, session).await;
    node.kill();
}
