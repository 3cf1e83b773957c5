//! Two extremes of a real node on a real chain: a session that is ten times as fast as the contract pays for, and a ledger that was
//! restored from an old backup.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy::providers::Provider as _;
use common::ground::Ground;
use common::{Node, forget_own_variables};
use milepost_client::{ChatRequest, Error, Event, Session, Step};
use milepost_test_support::recount::{Question, Recount};
use serde_json::Value;

/// Many times what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// The test that counts in another process.
const COUNTER: &str = "the_logs_are_counted_by_a_process_that_knows_nothing_else";
/// Tokens per second of the engine.
const ENGINE_RATE: f64 = 200.0;
/// Tokens per second that the contract pays for in the long run, and at once: 2 × 10, and its burst.
const CAP: (f64, f64) = (20.0, 200.0);
/// Tokens of the fast session: the burst, the ten seconds that a close would leave, and twenty seconds at the cap.
const FAST: u32 = 800;
/// Seconds of the closing window that claims may count on, as the node is set here: the window's 3,600 less the reserve.
const AHEAD: f64 = 10.0;
/// Blocks in which a node that must not sign could have signed.
const SILENCE: u64 = 10;

fn ask(prompt: &str, tokens: u32) -> ChatRequest {
    let mut ask = ChatRequest::new("scripted", prompt);
    ask.max_tokens = tokens;
    ask
}

/// Seconds since 1970, as the chain counts them.
fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

fn recount(ground: &Ground) -> Recount {
    Question::new(ground.chain.url(), &ground.contracts).ask(COUNTER).expect("the chain's logs add up")
}

/// Not a test by itself: what counts in the child process of a recount.
#[tokio::test]
async fn the_logs_are_counted_by_a_process_that_knows_nothing_else() {
    milepost_test_support::recount::answer().await.expect("counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ten_times_faster_than_the_cap_is_throttled_by_admission_and_fully_paid_without_a_revert() {
    let ground = Ground::new(&[("model.scripted_rate", "200"), ("chain.claim_tokens", "100"), ("gateway.reserve_seconds", "3590")]).await;
    let node = ground.start();
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");

    // When the client got how many tokens.
    let (begun, clock, mut came) = (Instant::now(), unix(), Vec::new());
    let mut observer = |event: Event<'_>| {
        if let Event::Tokens { seq, ids, .. } = event {
            came.push((begun.elapsed().as_secs_f64(), seq.0 + ids.len() as u64));
        }
        Step::Continue
    };
    session.chat_ws_observed(ask("as fast as you can", FAST), &mut observer).await.expect("an answer");
    let held = session.transcript().end().0;
    assert_eq!(held, u64::from(FAST), "throttled, and not cut");

    #[allow(clippy::cast_precision_loss)] // hundreds of tokens
    let rate = |from: f64, to: f64| {
        let within = |at: f64| came.iter().take_while(|(when, _)| *when <= at).last().map_or(0, |(_, tokens)| *tokens) as f64;
        (within(to) - within(from)) / (to - from)
    };
    let seconds = came.last().expect("tokens came").0;
    let (first, rest) = (rate(0.0, 1.0), rate(seconds / 2.0, seconds));
    println!(
        "figure engine {ENGINE_RATE} tokens/s, cap {} tokens/s and a burst of {}: {first:.0} tokens in the first second, {rest:.1} tokens/s in the second half, {held} tokens in {seconds:.1} s",
        CAP.0, CAP.1
    );
    assert!(first > 3.0 * CAP.0, "the engine is faster than the cap: {first:.0} tokens/s");
    assert!(rest < 1.2 * CAP.0, "throttled to the cap: {rest:.1} tokens/s");
    // Never further ahead than a close at that moment would leave time for.
    let opened = ground.contracts.session(&ground.chain, session.job_id().0).await.expect("a job").startTime;
    #[allow(clippy::cast_precision_loss)] // a few seconds, hundreds of tokens
    let beyond = came.iter().find(|(at, tokens)| *tokens as f64 > CAP.1 + CAP.0 * (clock + at - opened as f64 + AHEAD));
    assert_eq!(beyond, None, "tokens were made that the cap does not pay for in time");

    session.close().await.expect("closed");
    let paid = session.wait_paid(PATIENCE).await.expect("paid");
    assert_eq!(paid.tokens.0, held);
    ground.wait_clean().await;
    let counted = recount(&ground);
    assert_eq!((counted.jobs[0].claimed(), counted.jobs[0].paid.as_slice(), counted.reverts), (held, &[held][..], 0), "{counted:?}");
    assert_eq!((node.logged("tx_reverted"), node.logged("tx_replaced"), node.logged("job_halted")), (0, 0, 0));
    println!(
        "figure {held} tokens paid in {} claims, 0 reverts, {} claims tried too early",
        counted.jobs[0].claims.len(),
        node.logged("claim_paced")
    );
    node.kill();
}

/// Copies the ledger's folder: what an operator's backup of a stopped node is.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("a folder").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

/// A command of the operator's on the node's settings: its exit code and what it prints.
fn operate(ground: &Ground, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.args(arguments).stdin(Stdio::null());
    forget_own_variables(&mut command);
    for (key, value) in ground.settings() {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = command.output().expect("the program runs");
    let printed = serde_json::from_slice(&output.stdout);
    (output.status.code(), printed.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&output.stdout).into_owned())))
}

async fn opened(ground: &Ground, files: &tempfile::TempDir, name: &str) -> Session {
    let mut session = ground.open(&files.path().join(name)).await;
    session.authenticate(None).await.expect("authenticated");
    session
}

/// Waits until so many claims of the node are final.
fn claims(node: &Node, count: usize) {
    node.wait_until("final claims", PATIENCE, |log| log.iter().filter(|event| event["event"] == "claim_final").count() >= count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_restored_from_an_old_backup_claims_nothing_twice_and_the_operator_is_told() {
    let ground = Ground::new(&[("model.scripted_rate", "300"), ("chain.claim_tokens", "100"), ("chain.sweep_seconds", "1")]).await;
    let files = tempfile::tempdir().expect("a folder");
    let node = ground.start();
    let mut first = opened(&ground, &files, "first.json").await;
    first.chat_ws(ask("walk on", 130)).await.expect("an answer");
    claims(&node, 1);
    assert_eq!(node.terminate(PATIENCE), Some(0));
    let backup = files.path().join("backup");
    copy(&ground.ledger(), &backup);

    // Life goes on: the same job claims again, and another one that the backup does not know at all.
    let node = ground.start();
    first.chat_ws(ask("and on", 130)).await.expect("an answer");
    claims(&node, 1);
    let mut second = opened(&ground, &files, "second.json").await;
    second.chat_ws(ask("walk on", 110)).await.expect("an answer");
    claims(&node, 2);
    node.kill();
    let before = recount(&ground);
    let submitter = ground.contracts.actors.submitter.address;
    let signed = ground.chain.provider().get_transaction_count(submitter).await.expect("a count");
    assert_eq!(signed, 3);

    // The disk is lost, and the old backup is all there is.
    std::fs::remove_dir_all(ground.ledger()).expect("removed");
    copy(&backup, &ground.ledger());
    let node = ground.start();

    // In the log, at `/ready`, in the metrics, and by each command's exit code: the chain is ahead, and what to do.
    let halted = node.wait_for("the job that is ahead", PATIENCE, |event| event["event"] == "job_halted");
    assert!(halted["reason"].as_str().is_some_and(|reason| reason.contains("another copy of this host claims")), "{halted}");
    let ahead = node.wait_for("the key that is ahead", PATIENCE, |event| event["event"] == "key_ahead");
    assert!(ahead["error"].as_str().is_some_and(|error| error.contains("[MP-S-030]")), "{ahead}");
    assert!(ahead["advice"].as_str().is_some_and(|advice| advice.contains("restore the newest backup")), "{ahead}");
    let words = node.wait_ready("money", false, PATIENCE).await;
    assert!(words.contains("MP-S-030") && words.contains("restore the newest backup"), "{words}");
    let job = first.job_id().to_string();
    let (code, books) = operate(&ground, &["reconcile", "--json"]);
    assert_eq!((code, &books["verdict"]), (Some(1), &Value::from("drift")), "{books:#}");
    let (_, why) = operate(&ground, &["why", &job, "--json"]);
    assert!(why.to_string().contains("another copy of this host claims"), "{why:#}");

    // A client that holds more than the host remembers does not go on; one that is new is served, and nothing is signed for it.
    assert!(matches!(first.chat_ws(ask("and on", 10)).await, Err(Error::Transcript(_) | Error::Host { .. } | Error::Stopped { .. })));
    let mut third = opened(&ground, &files, "third.json").await;
    third.chat_ws(ask("walk on", 130)).await.expect("an answer");
    node.wait_for("its claim's proof", PATIENCE, |event| event["event"] == "proof_made" && event["job"] == third.job_id().to_string());
    let (from, _) = ground.chain.head().await.expect("a head");
    while ground.chain.head().await.expect("a head").0 < from + SILENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let now = ground.chain.provider().get_transaction_count(submitter).await.expect("a count");
    assert_eq!((now, node.logged("tx_signed")), (signed, 0), "something was signed while the chain is ahead of the ledger");
    let after = recount(&ground);
    assert_eq!(after.jobs[..2], before.jobs[..], "nothing was claimed twice");
    assert_eq!((after.jobs[2].claimed(), after.reverts), (0, 0));
    let metrics = reqwest::get(format!("{}/metrics", node.url)).await.expect("an answer").text().await.expect("text");
    let shown = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    assert_eq!((shown("milepost_key_ahead "), shown("milepost_jobs_halted ")), (Some(1.0), Some(1.0)), "{metrics}");
    println!(
        "figure restored from a backup that lacks 2 of 3 claims: 0 transactions in {SILENCE} blocks, reconcile exits 1, /ready 503 with MP-S-030"
    );
    node.kill();
}
