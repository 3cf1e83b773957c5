//! The same request is answered, and billed, once.

use milepost_ledger::{AccountId, EndReason, JobId, TurnState};
use serde_json::{Value, json};

use crate::node::{Node, Setup, ask, ask_chat, bearer, ids, terms};
use crate::socket::Socket;

fn keyed(key: &str, prompt: &str, max_tokens: u32) -> Value {
    let mut body = ask(7, prompt, max_tokens);
    body["request_id"] = json!(key);
    body
}

#[tokio::test]
async fn a_retry_replays_the_stored_answer_and_bills_nothing() {
    let node = Node::start(Setup::legacy(terms()).answers(None)).await;
    let response = node.send("/v1/inference", &keyed("a", "hello", 120), &[]).await;
    assert!(!response.headers().contains_key("idempotent-replayed"));
    let first: Value = response.json().await.expect("JSON");
    node.post("/v1/inference", &keyed("b", "something else", 30)).await;
    let response = node.send("/v1/inference", &keyed("a", "hello", 120), &[]).await;
    assert_eq!(response.headers()["idempotent-replayed"], "true");
    let mut again: Value = response.json().await.expect("JSON");
    assert_eq!(again["replayed"], json!(true));
    assert_eq!(first["receipt"], again["receipt"], "the receipt of the turn's end, not of today");
    assert_eq!(first["checkpoints"], again["checkpoints"]);
    for changed in ["replayed", "left", "usage"] {
        again[changed] = first[changed].clone();
    }
    assert_eq!(first, again);
    assert_eq!((node.metered(7), node.record(7).turns), (150, 2));

    // Through any door, by the header as well, and streaming.
    let mut chat = ask_chat(7, "hello", 120);
    let key = [("idempotency-key", "a")];
    let (status, answer) = node.post_as("/v1/chat/completions", &chat, &key).await;
    assert_eq!((status, ids(&answer["milepost"]["token_ids"])), (200, ids(&first["token_ids"])));
    chat["stream"] = json!(true);
    let (events, done) = node.events("/v1/chat/completions", &chat, &key).await;
    let streamed: Vec<u32> =
        events.iter().filter(|event| event["milepost"].is_object()).flat_map(|event| ids(&event["milepost"]["token_ids"])).collect();
    assert_eq!((done, streamed), (true, ids(&first["token_ids"])));
    assert_eq!(node.metered(7), 150);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_a_conflict() {
    let node = Node::start(Setup::legacy(terms())).await;
    node.post("/v1/inference", &keyed("a", "hello", 12)).await;
    for other in [keyed("a", "hello!", 12), keyed("a", "hello", 13)] {
        let (status, answer) = node.post("/v1/inference", &other).await;
        assert_eq!((status, &answer["error_type"], &answer["request_id"]), (409, &json!("request_conflict"), &json!("a")));
    }
    let (status, answer) = node.post_as("/v1/inference", &keyed("a", "hello", 12), &[("idempotency-key", "b")]).await;
    assert_eq!((status, &answer["error_type"]), (400, &json!("invalid_request")));
    assert_eq!(node.metered(7), 12);
}

#[tokio::test]
async fn duplicates_that_come_at_once_share_one_answer() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(400)).await;
    let body = keyed("a", "hello", 60);
    let answers = futures::future::join_all((0..12).map(|_| node.post("/v1/inference", &body))).await;
    let first = ids(&answers[0].1["token_ids"]);
    assert_eq!(first.len(), 60);
    for (status, answer) in &answers {
        assert_eq!((*status, ids(&answer["token_ids"])), (200, first.clone()));
    }
    assert_eq!(answers.iter().filter(|(_, answer)| answer["replayed"] == json!(false)).count(), 1);
    assert_eq!((node.metered(7), node.record(7).turns), (60, 1));
    assert_eq!(milepost_inference::Engine::stats(node.engine.as_ref()).sampled, 60, "generated once, too");
}

#[tokio::test]
async fn an_openai_client_s_own_retry_finds_its_first_attempt() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = bearer(&node.token(None).await);
    let body = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 9 });
    let auth = ("authorization", token.as_str());
    let (_, first) = node.post_as("/v1/chat/completions", &body, &[auth, ("x-stainless-retry-count", "0")]).await;
    let (_, again) = node.post_as("/v1/chat/completions", &body, &[auth, ("x-stainless-retry-count", "1")]).await;
    assert_eq!(first["milepost"]["request_id"], again["milepost"]["request_id"]);
    assert_eq!(first["choices"], again["choices"]);
    assert_eq!(node.metered(7), 9);
    // The same words said anew are a new request.
    let (_, anew) = node.post_as("/v1/chat/completions", &body, &[auth, ("x-stainless-retry-count", "0")]).await;
    assert_ne!(first["milepost"]["request_id"], anew["milepost"]["request_id"]);
    assert_eq!(node.metered(7), 18);
    node.clock.advance(901);
    node.post_as("/v1/chat/completions", &body, &[auth, ("x-stainless-retry-count", "1")]).await;
    assert_eq!(node.metered(7), 27, "a retry after a quarter of an hour is none");
}

#[tokio::test]
async fn resuming_delivers_exactly_what_is_missing() {
    let node = Node::start(Setup::legacy(terms()).answers(None)).await;
    node.post("/v1/inference", &keyed("before", "x", 50)).await;
    let (_, whole) = node.post("/v1/inference", &keyed("a", "hello", 120)).await;
    let all = ids(&whole["token_ids"]);
    assert_eq!(whole["seq"], 50);
    for from in [50, 51, 99, 100, 149, 150, 169, 170] {
        let (status, rest) = node.post("/v1/inference", &json!({ "request_id": "a", "resume_from": from, "job_id": 7 })).await;
        let have = from - 50;
        assert_eq!((status, ids(&rest["token_ids"]), &rest["seq"]), (200, all[have..].to_vec(), &json!(from)), "from {from}");
        assert_eq!((&rest["tokens_used"], &rest["finish_reason"]), (&json!(120), &json!("length")));
        let seals: Vec<_> = rest["checkpoints"].as_array().expect("a list").iter().map(|seal| seal["number"].as_u64()).collect();
        let expected: Vec<_> = if from <= 100 { vec![Some(0)] } else { vec![] };
        assert_eq!(seals, expected, "from {from}");
    }
    let content = whole["content"].as_str().expect("text");
    let (_, tail) = node.post("/v1/inference", &json!({ "request_id": "a", "resume_from": 100, "job_id": 7 })).await;
    assert!(content.ends_with(tail["content"].as_str().expect("text")));
    for from in [49, 171] {
        let (status, answer) = node.post("/v1/inference", &json!({ "request_id": "a", "resume_from": from, "job_id": 7 })).await;
        assert_eq!(
            (status, &answer["error_type"], &answer["details"]["start"], &answer["details"]["end"]),
            (400, &json!("invalid_resume"), &json!(50), &json!(170))
        );
    }
    assert_eq!(node.metered(7), 170);
}

#[tokio::test]
async fn a_cut_socket_resumes_without_losing_or_paying_a_token_twice() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(500)).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 7, "acks": true })).await;
    let request = json!({ "prompt": "hello", "max_tokens": 400, "request_id": "a", "temperature": 0 });
    socket.send("inference", json!({ "request": request })).await;
    let mut have = Vec::new();
    while have.len() < 80 {
        let frame = socket.next().await;
        have.extend(ids(&frame["token_ids"]));
        socket.send("ack", json!({ "seq": have.len() })).await;
    }
    drop(socket);
    node.until("generation stops with its reader", |node| node.host.live_turns() == 0).await;
    let durable = node.tokens(7);
    assert!(durable.len() >= have.len() && durable.len() <= have.len() + 64 + 64, "{} durable, {} delivered", durable.len(), have.len());
    let turn = node.db.turn_by_request(AccountId::Job(JobId(7)), "a").expect("readable").expect("begun");
    assert_eq!(turn.state, TurnState::Ended(EndReason::Disconnected));

    let (mut socket, ack) = Socket::init(&node, json!({ "job_id": 7 })).await;
    assert_eq!(ack["metered"].as_u64(), Some(durable.len() as u64));
    let rest = socket.prompt(json!({ "request_id": "a", "resume_from": have.len() })).await;
    have.extend(&rest.ids);
    assert_eq!(have, durable);
    assert_eq!((&rest.end["finish_reason"], &rest.end["replayed"]), (&json!("disconnected"), &json!(true)));
    assert_eq!(
        rest.end["receipt"]["open_tokens"].as_u64().expect("a count") + rest.end["receipt"]["sealed_tokens"].as_u64().expect("a count"),
        have.len() as u64
    );
    // The same request in full gives the same tokens again, still unbilled.
    let again = socket.prompt(request).await;
    assert_eq!(again.ids, have);
    assert_eq!(node.metered(7), durable.len() as u64);
}

#[tokio::test]
async fn a_second_socket_joins_a_turn_that_still_runs() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(300)).await;
    let (mut one, _) = Socket::init(&node, json!({ "job_id": 7 })).await;
    let (mut two, _) = Socket::init(&node, json!({ "job_id": 7 })).await;
    one.send("inference", json!({ "request": { "prompt": "hello", "max_tokens": 120, "request_id": "a" } })).await;
    let first = one.next().await;
    assert_eq!(first["type"], "stream_chunk");
    two.send("inference", json!({ "request": { "request_id": "a", "resume_from": 0 } })).await;
    let joined = two.answer().await;
    let mut own = crate::socket::Answer::default();
    own.take(first);
    loop {
        let frame = one.next().await;
        if own.take(frame) {
            break;
        }
    }
    assert_eq!(own.ids, joined.ids);
    assert_eq!((own.ids.len(), node.metered(7)), (120, 120));
    assert_eq!((&own.end["replayed"], &joined.end["replayed"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn what_is_replayed_after_the_session_s_end_is_still_all_there() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = bearer(&node.token(None).await);
    let auth = [("authorization", token.as_str())];
    let (_, first) = node.post_as("/v1/inference", &keyed("a", "hello", 12), &auth).await;
    assert_eq!(node.post_as("/v1/session/close", &json!({}), &auth).await.1["phase"], "ending");
    let (status, again) = node.post_as("/v1/inference", &keyed("a", "hello", 12), &auth).await;
    assert_eq!((status, &again["token_ids"]), (200, &first["token_ids"]));
    assert_eq!(node.post_as("/v1/inference", &keyed("b", "hello", 12), &auth).await.0, 409);
}
