//! The node process with its disk or its chain failing under it: a clear end or a clear wait, every durable token delivered,
//! billed once and paid.

mod common;

use std::path::Path;
use std::time::Duration;

use common::ground::Ground;
use common::{Node, free_port, scripted_on};
use milepost_client::{ChatRequest, Error, Session, Turn};
use milepost_test_support::Line;
use serde_json::Value;

/// Many times what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Tokens of an answer that is long enough to be cut.
const LONG: u32 = 300;
/// Tokens that are durable when the disk fills up.
const BEFORE: u64 = 60;
/// Ends of a node in a row: one in ten went wrong when the database was closed beside the end of the process.
const STOPS: usize = 30;
/// What is left on the disk then, in bytes: less than a step's record, so that the record is torn as a full disk tears it.
const ROOM: u64 = 100;

fn ask(prompt: &str, tokens: u32) -> ChatRequest {
    let mut ask = ChatRequest::new("scripted", prompt);
    ask.max_tokens = tokens;
    ask
}

/// Begins a long answer; the client takes it up again by itself, however often it is cut.
fn begin(mut session: Session, prompt: &'static str) -> tokio::task::JoinHandle<(Session, Result<Turn, Error>)> {
    tokio::spawn(async move {
        let turn = session.chat_ws(ask(prompt, LONG)).await;
        (session, turn)
    })
}

/// Closes the session: paid for exactly what the client holds, once, and the host's books agree.
async fn close(ground: &Ground, mut session: Session) -> u64 {
    let job = session.job_id().0;
    session.close().await.expect("closed");
    let paid = session.wait_paid(PATIENCE).await.expect("paid");
    let held = session.transcript().end().0;
    assert_eq!(paid.tokens.0, held, "paid for exactly the tokens that the client holds");
    ground.wait_clean().await;
    let (claims, payouts) = ground.claimed(job).await;
    assert_eq!((claims.iter().sum::<u64>(), payouts), (held, 1), "each token was claimed once: {claims:?}");
    held
}

fn events<'a>(log: &'a [Value], name: &str) -> Vec<&'a Value> {
    log.iter().filter(|event| event["event"] == name).collect()
}

/// What the node said last, to people.
fn last_words(log: &[Value]) -> String {
    log.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

/// A node whose disk can be filled: the signal of a write beyond the limit on file sizes is ignored, so that such a write
/// fails with an error. For the program that is what a full disk is: `write` takes a part of the record or none, and an errno
/// comes back (`EFBIG` in place of `ENOSPC`), from the kernel, on real files, at any size that is wanted; and no right to mount
/// a small disk is needed.
const FILLABLE: &str = "trap '' XFSZ";

/// From now on no file of the node grows further than the ledger's write-ahead log is, and [`ROOM`].
fn fill_the_disk(node: &Node, ledger: &Path) {
    let files = std::fs::read_dir(ledger).expect("the ledger's folder").flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "log"));
    let longest = logs.filter_map(|file| file.metadata().ok()).map(|file| file.len()).max().expect("a log");
    let (pid, limit) = (node.pid().to_string(), format!("--fsize={}", longest + ROOM));
    let set = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status().expect("prlimit runs");
    assert!(set.success(), "the limit is set: {set}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_the_middle_of_an_answer_ends_the_node_and_loses_no_token() {
    let ground = Ground::new(&[("model.scripted_rate", "100"), ("chain.claim_tokens", "100")]).await;
    let mut node = ground.start_behind(FILLABLE);
    node.wait_for_doors();
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");
    let answer = begin(session, "walk on");
    node.wait_for("a part of the answer", PATIENCE, |event| event["event"] == "tokens_tracked" && event["total"].as_u64() >= Some(BEFORE));
    fill_the_disk(&node, &ground.ledger());

    let (code, log) = node.end(PATIENCE);
    assert_eq!(code, Some(1), "a node that cannot write its ledger ends as failed");
    let failed = events(&log, "storage_failed");
    assert_eq!(failed.len(), 1, "said once: {failed:?}");
    assert_eq!(failed[0]["code"], "MP-L-001");
    let words = last_words(&log);
    assert!(words.contains("[MP-L-001]") && words.contains("File too large"), "{words}");
    assert!(words.contains("start the node again"), "what to do is said: {words}");

    // As long as the disk is full it does not start, says so, and harms nothing.
    let (code, log) = ground.start_behind("trap '' XFSZ; ulimit -f 0").end(PATIENCE);
    let words = last_words(&log);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("[MP-L-00") && words.contains("File too large"), "{words}");

    // There is room again. The client, which went on trying, gets the rest of what was durable.
    let node = ground.start();
    let (mut session, turn) = answer.await.expect("the client's task");
    let turn = turn.expect("every durable token");
    assert_eq!(turn.finish_reason, "interrupted");
    assert!((BEFORE..u64::from(LONG)).contains(&turn.count.0), "{} tokens", turn.count);
    let after = session.chat_ws(ask("and on", 45)).await.expect("an answer");
    assert_eq!(after.count.0, 45);
    let held = close(&ground, session).await;
    assert_eq!(held, turn.count.0 + 45);
    println!("figure the disk was full after {} tokens of {LONG}; {held} tokens paid once", turn.count);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_alone_stops_nothing() {
    let ground = Ground::new(&[("model.scripted_rate", "300"), ("chain.claim_tokens", "100")]).await;
    // Each line of the log is refused with ENOSPC; the ledger lies elsewhere.
    let mut node = ground.start_behind("exec 2>/dev/full");
    node.wait_for_doors();
    node.wait_ready("money", true, PATIENCE).await;
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");
    let turn = session.chat_ws(ask("walk on", 130)).await.expect("an answer");
    assert_eq!(turn.count.0, 130);
    assert_eq!(close(&ground, session).await, 130);
    assert_eq!(node.terminate(PATIENCE), Some(0), "in order to the end");
}

#[test]
fn a_node_that_is_told_to_stop_ends_in_order_every_time() {
    let data = tempfile::tempdir().expect("a folder");
    for _ in 0..STOPS {
        let node = Node::start(free_port(), &scripted_on(data.path()), &[]);
        node.wait_for("serving", PATIENCE, |event| event["event"] == "serving");
        assert_eq!(node.terminate(PATIENCE), Some(0), "no signal, no abort: the database is closed before the process ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_dead_at_the_start_is_named_and_waited_for() {
    let ground = Ground::new(&[("model.scripted_rate", "300"), ("chain.claim_tokens", "100"), ("chain.rpc_timeout_ms", "1000")]).await;
    let line = Line::to(ground.chain.port(), false).expect("a line");
    let node = ground.start_with(&[("chain.rpc_url", line.url())]);
    let endpoint = line.url();

    // Said in the log, at `/ready` and to a client that wants to open a session; the node lives.
    let words = node.wait_ready("chain", false, PATIENCE).await;
    assert!(words.contains("[MP-S-001]") && words.contains(&endpoint) && words.contains("refused"), "{words}");
    assert!(words.contains("check the endpoint's address"), "what to do is said: {words}");
    let down = node.wait_for("the dead chain", PATIENCE, |event| event["event"] == "chain_down");
    assert!(down["error"].as_str().is_some_and(|error| error.contains("[MP-S-001]")), "{down}");
    let health = reqwest::get(format!("{}/health", node.url)).await.expect("an answer");
    assert_eq!(health.status(), 200, "alive, though not ready");
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    match session.authenticate(None).await {
        Err(Error::Host { status: 503, code, message }) => {
            assert!(code == "service_unavailable" && message.contains("[MP-S-001]"), "{code}: {message}");
        }
        other => panic!("a session on a job that nobody can read: {other:?}"),
    }

    // The chain comes; nobody restarts anything.
    line.mend();
    node.wait_ready("chain", true, PATIENCE).await;
    assert_eq!(node.logged("settlement_ready"), 1, "checked before money depends on it");
    session.authenticate(None).await.expect("authenticated");
    session.chat_ws(ask("walk on", 130)).await.expect("an answer");

    // A node that starts without its chain serves the jobs that it knows.
    node.kill();
    line.cut();
    let node = ground.start_with(&[("chain.rpc_url", line.url())]);
    node.wait_ready("chain", false, PATIENCE).await;
    let turn = session.chat_ws(ask("and on", 130)).await.expect("an answer without a chain");
    assert_eq!(turn.count.0, 130);
    line.mend();
    let held = close(&ground, session).await;
    assert_eq!(held, 260);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_dies_under_a_session_delays_its_claims_and_nothing_else() {
    let ground = Ground::new(&[("model.scripted_rate", "100"), ("chain.claim_tokens", "100"), ("chain.rpc_timeout_ms", "1000")]).await;
    let line = Line::to(ground.chain.port(), true).expect("a line");
    let node = ground.start_with(&[("chain.rpc_url", line.url())]);
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");

    // It dies when the first claim is signed, on its way or just there, in the middle of an answer.
    let answer = begin(session, "walk on");
    node.wait_for("the first claim", PATIENCE, |event| event["event"] == "tx_signed");
    line.cut();
    let words = node.wait_ready("chain", false, PATIENCE).await;
    assert!(words.contains("[MP-S-001]") && words.contains(&line.url()), "{words}");
    assert_eq!(node.logged("chain_down"), 1, "said once, not at each attempt");
    let (session, turn) = answer.await.expect("the client's task");
    assert_eq!(turn.expect("an answer").count.0, u64::from(LONG), "not a token fewer without a chain");
    line.mend();
    node.wait_ready("chain", true, PATIENCE).await;
    node.wait_for("the first claim's finality", PATIENCE, |event| event["event"] == "claim_final");

    // Then it hangs, which is worse than being gone, while a further claim is made and the client leaves.
    let answer = begin(session, "and on");
    let signed = node.logged("tx_signed");
    node.wait_until("another claim", PATIENCE, |log| events(log, "tx_signed").len() > signed);
    line.freeze();
    let words = node.wait_ready("chain", false, PATIENCE).await;
    assert!(words.contains("[MP-S-001]"), "{words}");
    let (mut session, turn) = answer.await.expect("the client's task");
    assert_eq!(turn.expect("an answer").count.0, u64::from(LONG));
    session.close().await.expect("the host takes the close without its chain");
    node.wait_for("the end of the session", PATIENCE, |event| event["event"] == "session_ended");
    assert_eq!((node.logged("chain_down"), node.logged("chain_back")), (2, 1));
    // Told to stop, it does not wait for a chain that hangs; started again, it finishes what it began.
    assert_eq!(node.terminate(PATIENCE), Some(0));
    line.mend();
    let node = ground.start_with(&[("chain.rpc_url", line.url())]);
    let held = close(&ground, session).await;
    assert_eq!(held, 2 * u64::from(LONG));
    node.kill();
}
