//! Slow readers, lost readers, cancels, engines that fail: others are unaffected, and generation stops within one step.

use std::time::Duration;

use milepost_inference::Engine;
use milepost_inference::scripted::Fault;
use milepost_ledger::{AccountId, EndReason, JobId, TurnState};
use serde_json::json;

use crate::node::{Node, Setup, ask, ids, terms};
use crate::socket::{Answer, Socket};

fn ended(node: &Node, job: u64, request: &str) -> Option<TurnState> {
    node.db.turn_by_request(AccountId::Job(JobId(job)), request).expect("readable").map(|turn| turn.state)
}

#[tokio::test]
async fn a_client_that_never_reads_holds_back_its_own_turn_alone() {
    let node = Node::start(Setup::default().answers(None)).await;
    for (job, acks) in [(1, true), (2, false)] {
        let (mut socket, _) = Socket::init(&node, json!({ "job_id": job, "acks": acks })).await;
        socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 2_000, "request_id": "slow" } })).await;
        // Nothing is read from here on: no ack, and no pong.
        node.until("the window is full", |node| node.metered(job) >= 64).await;
        let (_, fast) = node.post("/v1/inference", &ask(job + 10, "y", 300)).await;
        assert_eq!(fast["tokens_used"], 300);
        assert_eq!(node.metered(job), 64, "generation ran ahead of a client that takes nothing, explicit acks: {acks}");
        // It reads again, and gets everything.
        let mut answer = Answer::default();
        loop {
            let frame = socket.next().await;
            let total = frame["total"].as_u64();
            if answer.take(frame) {
                break;
            }
            if let (true, Some(seq)) = (acks, total) {
                socket.send("ack", json!({ "seq": seq })).await;
            }
        }
        assert_eq!((answer.ids.len(), answer.seals.len()), (2_000, 20));
        assert_eq!(node.tokens(job), answer.ids);
    }
}

#[tokio::test]
async fn an_event_stream_that_nobody_reads_pauses_too() {
    let node = Node::start(Setup::default().answers(None)).await;
    let mut body = ask(1, "x", 8_000);
    (body["stream"], body["request_id"]) = (json!(true), json!("slow"));
    let body = body.to_string();
    // A client with small buffers that reads nothing: they fill, then the host's, then the window.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a smaller buffer");
    let mut client = socket.connect(node.address).await.expect("a connection");
    let request = format!("POST /v1/inference HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.expect("written");
    let mut paused = 0;
    loop {
        // A pause is the absence of progress, which only time can show; the engine makes thousands of tokens in this time.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = node.metered(1);
        if now > 0 && now == paused {
            break;
        }
        paused = now;
    }
    assert!(paused < 1_000, "paused at {paused}");
    let (_, fast) = node.post("/v1/inference", &ask(2, "y", 300)).await;
    assert_eq!(fast["tokens_used"], 300);
    drop(client);
    node.until("the turn ends with its reader", |node| ended(node, 1, "slow") == Some(TurnState::Ended(EndReason::Disconnected))).await;
}

#[tokio::test]
async fn a_client_that_stays_away_too_long_ends_its_turn() {
    let mut setup = Setup::default().answers(None);
    setup.config.stall_seconds = 1;
    let node = Node::start(setup).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1, "acks": true })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 2_000, "request_id": "slow" } })).await;
    node.until("the turn ends", |node| ended(node, 1, "slow") == Some(TurnState::Ended(EndReason::Disconnected))).await;
    assert_eq!(node.metered(1), 64);
    assert_eq!(socket.answer().await.ids.len(), 64, "what is durable arrives all the same");
}

#[tokio::test]
async fn a_cancel_ends_generation_and_everything_durable_is_delivered() {
    let node = Node::start(Setup::default().answers(None).paced(200)).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 4_000, "request_id": "a" }, "id": 5 })).await;
    let mut answer = Answer::default();
    answer.take(socket.next().await);
    socket.send("stream_cancel", json!({ "session_id": "1", "reason": "enough" })).await;
    loop {
        let frame = socket.next().await;
        if answer.take(frame) {
            break;
        }
    }
    assert_eq!(
        (&answer.end["reason"], &answer.end["finish_reason"], &answer.end["id"]),
        (&json!("cancelled"), &json!("cancelled"), &json!(5))
    );
    assert_eq!(node.tokens(1), answer.ids);
    assert!(answer.ids.len() < 200, "{} tokens", answer.ids.len());
    assert_eq!(answer.end["tokens_used"].as_u64(), Some(answer.ids.len() as u64));
    node.until("the engine is idle", |node| node.engine.stats().running == 0).await;
    assert_eq!(socket.prompt(json!({ "prompt": "y", "max_tokens": 3 })).await.ids.len(), 3);
}

#[tokio::test]
async fn a_plain_request_whose_client_leaves_stops() {
    let node = Node::start(Setup::default().answers(None).paced(100)).await;
    let mut body = ask(1, "x", 4_000);
    body["request_id"] = json!("gone");
    let request = node.http.post(node.url("/v1/inference")).json(&body).send();
    tokio::select! {
        answer = request => panic!("not yet: {answer:?}"),
        () = node.until("some tokens", |node| node.metered(1) >= 5) => {}
    }
    node.until("the turn ends", |node| ended(node, 1, "gone") == Some(TurnState::Ended(EndReason::Disconnected))).await;
    node.until("the engine is idle", |node| node.engine.stats().running == 0).await;
    assert!(node.metered(1) < 400);
}

#[tokio::test]
async fn an_engine_that_panics_fails_the_request_with_its_count_and_serves_the_next() {
    let mut setup = Setup::legacy(terms()).answers(None);
    setup.engine.fault = Some(Fault::PanicAt(31));
    let node = Node::start(setup).await;
    let mut body = ask(7, "x", 100);
    body["request_id"] = json!("a");
    let (status, failed) = node.post("/v1/inference", &body).await;
    assert_eq!((status, &failed["error_type"]), (500, &json!("engine_failed")));
    assert_eq!((&failed["progress"]["tokens_used"], node.metered(7)), (&json!(30), 30));
    assert_eq!(ended(&node, 7, "a"), Some(TurnState::Ended(EndReason::EngineFailed)));
    let (status, replayed) = node.post("/v1/inference", &body).await;
    assert_eq!((status, ids(&replayed["token_ids"]), &replayed["finish_reason"]), (200, node.tokens(7), &json!("engine_failed")));
    let (status, next) = node.post("/v1/inference", &ask(7, "y", 20)).await;
    assert_eq!((status, &next["tokens_used"], node.metered(7)), (200, &json!(20), 50));
}

#[tokio::test]
async fn an_engine_that_gives_nothing_more_fails_the_request_in_time() {
    let mut setup = Setup::default().answers(None);
    (setup.engine.fault, setup.config.engine_stall_seconds) = (Some(Fault::StallAt(11)), 1);
    let node = Node::start(setup).await;
    let (status, failed) = node.post("/v1/inference", &ask(1, "x", 100)).await;
    assert_eq!((status, &failed["error_type"], &failed["progress"]["tokens_used"]), (500, &json!("engine_failed"), &json!(10)));
    assert_eq!(node.post("/v1/inference", &ask(1, "y", 20)).await.1["tokens_used"], 20);
}

#[tokio::test]
async fn an_engine_failure_in_a_stream_is_an_error_in_every_shape() {
    for (path, chat) in [("/v1/inference", false), ("/v1/chat/completions", true)] {
        let mut setup = Setup::default().answers(None);
        setup.engine.fault = Some(Fault::PanicAt(11));
        let node = Node::start(setup).await;
        let mut body = if chat { crate::node::ask_chat(1, "x", 50) } else { ask(1, "x", 50) };
        body["stream"] = json!(true);
        let (events, _) = node.events(path, &body, &[]).await;
        let last = events.last().expect("events");
        if chat {
            assert_eq!((&last["error"]["code"], &last["milepost"]["seq"]), (&json!("engine_failed"), &json!(10)));
        } else {
            assert_eq!((&last["error"]["error_type"], &last["tokens_used"]), (&json!("engine_failed"), &json!(10)));
        }
    }
    let mut setup = Setup::default().answers(None);
    setup.engine.fault = Some(Fault::PanicAt(11));
    let node = Node::start(setup).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 50 }, "id": 1 })).await;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &serde_json::Value| frame["type"] != "stream_end") {
        frames.push(socket.next().await);
    }
    let [.., error, end] = &frames[..] else { panic!("two frames at least") };
    assert_eq!((&error["type"], &error["code"], &error["id"]), (&json!("error"), &json!("ENGINE_FAILED"), &json!(1)));
    assert_eq!((&end["reason"], &end["tokens_used"]), (&json!("error"), &json!(10)));
}

#[tokio::test]
async fn a_drain_lets_running_turns_finish_and_admits_nothing_new() {
    let mut node = Node::start(Setup::default().answers(None).paced(200)).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 60 } })).await;
    node.until("it runs", |node| node.metered(1) > 0).await;
    let host = std::sync::Arc::clone(&node.host);
    let drained = tokio::spawn(async move { host.drain().await });
    node.until("the host drains", |node| node.host.live_turns() > 0).await;
    let (status, refused) = node.post("/v1/inference", &ask(2, "y", 5)).await;
    assert_eq!((status, &refused["error_type"]), (503, &json!("service_unavailable")));
    assert_eq!(socket.answer().await.ids.len(), 60);
    assert_eq!(drained.await.expect("no panic"), 0);
    assert!(node.stop().await.is_ok());
}

#[tokio::test]
async fn a_drain_that_takes_too_long_interrupts_and_keeps_every_token() {
    let mut setup = Setup::default().answers(None).paced(100);
    setup.config.drain_seconds = 0;
    let node = Node::start(setup).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 6_000, "request_id": "a" } })).await;
    node.until("it runs", |node| node.metered(1) > 3).await;
    assert_eq!(node.host.drain().await, 1);
    let answer = socket.answer().await;
    assert_eq!((&answer.end["finish_reason"], answer.ids), (&json!("interrupted"), node.tokens(1)));
}
