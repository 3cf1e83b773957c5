//! Log mode: the doors of SPEC §2.1 without a chain; checkpoints printed as they would be submitted.

mod common;

use std::time::Duration;

use common::{Node, free_port, scripted};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

async fn post(node: &Node, path: &str, body: Value) -> (u16, Value) {
    let answer = reqwest::Client::new().post(format!("{}{path}", node.url)).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn get(node: &Node, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{}{path}", node.url)).await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Text and JSON payloads of a server-sent-events answer.
async fn sse(node: &Node, path: &str, body: Value) -> Vec<Value> {
    let answer = reqwest::Client::new().post(format!("{}{path}", node.url)).json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("a body");
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("JSON in an event"))
        .collect()
}

async fn metered(node: &Node, job: u64) -> u64 {
    let (status, body) = get(node, &format!("/v1/jobs/{job}")).await;
    assert_eq!(status, 200, "{body}");
    body["positions"]["metered"].as_u64().expect("a number")
}

fn install_tls() {
    milepost_test_support::install_tls();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_meters_the_same_tokens_and_seals_checkpoints_that_are_printed() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let prompt = "Count to a hundred, please.";

    let (status, plain) = post(
        &node,
        "/v1/inference",
        json!({"model": "scripted", "prompt": prompt, "max_tokens": 130, "temperature": 0, "job_id": "7", "request_id": "a"}),
    )
    .await;
    assert_eq!(status, 200, "{plain}");
    let tokens = plain["tokens_used"].as_u64().expect("a count");
    assert!(tokens > 0 && tokens <= 130);
    assert_eq!(plain["job_id"].to_string().trim_matches('"'), "7");
    assert_eq!(metered(&node, 7).await, tokens, "plain HTTP is metered");

    let events = sse(
        &node,
        "/v1/inference",
        json!({"model": "scripted", "prompt": prompt, "max_tokens": 130, "temperature": 0, "jobId": 8, "stream": true}),
    )
    .await;
    let streamed: u64 = events.iter().filter_map(|event| event["tokens"].as_u64()).sum();
    assert_eq!(streamed, tokens, "the stream tells every token");
    assert_eq!(metered(&node, 8).await, tokens, "SSE is metered");
    let content: String = events.iter().filter_map(|event| event["content"].as_str()).collect();
    assert_eq!(content, plain["content"].as_str().expect("text"));

    let messages = json!([{"role": "user", "content": prompt}]);
    let (status, chat) = post(
        &node,
        "/v1/chat/completions",
        json!({"model": "scripted", "messages": messages, "max_tokens": 130, "temperature": 0, "session_id": "9n"}),
    )
    .await;
    assert_eq!(status, 200, "{chat}");
    assert_eq!(metered(&node, 9).await, chat["usage"]["completion_tokens"].as_u64().expect("usage"), "OpenAI is metered");

    let (mut socket, _) = tokio_tungstenite::connect_async(format!("{}/v1/ws", node.url.replace("http", "ws"))).await.expect("a socket");
    let connected: Value = next_json(&mut socket).await;
    assert_eq!(connected["type"], "connected");
    send(&mut socket, json!({"type": "session_init", "session_id": "10", "job_id": "10", "chain_id": 31337, "id": "i1"})).await;
    let ack = next_json(&mut socket).await;
    assert_eq!((ack["type"].as_str(), ack["id"].as_str()), (Some("session_init_ack"), Some("i1")), "{ack}");
    send(&mut socket, json!({"type": "inference", "id": "p1", "request": {"model": "scripted", "prompt": prompt, "max_tokens": 130, "temperature": 0, "stream": true}})).await;
    let (mut ids, mut seals) = (Vec::new(), 0);
    let end = loop {
        let frame = next_json(&mut socket).await;
        match frame["type"].as_str() {
            Some("stream_chunk") => {
                let chunk = frame["token_ids"].as_array().expect("ids");
                assert_eq!(frame["tokens"].as_u64(), Some(chunk.len() as u64));
                ids.extend(chunk.iter().map(|id| id.as_u64().expect("an id")));
                send(&mut socket, json!({"type": "ack", "seq": frame["seq"]})).await;
            }
            Some("checkpoint_sealed") => seals += 1,
            Some("stream_end") => break frame,
            other => panic!("unexpected {other:?}: {frame}"),
        }
    };
    assert_eq!(ids.len() as u64, tokens, "WebSocket delivers every id");
    assert_eq!(end["tokens_used"].as_u64(), Some(tokens));
    assert_eq!(metered(&node, 10).await, tokens, "WebSocket is metered");
    assert_eq!(seals, tokens / 100);

    let (_, checkpoints) = get(&node, "/v1/jobs/10/checkpoints").await;
    assert_eq!(checkpoints["checkpoints"].as_array().map(Vec::len), usize::try_from(tokens / 100).ok(), "{checkpoints}");
    if tokens >= 100 {
        node.wait_for("a checkpoint printed as it would be submitted", Duration::from_secs(5), |event| {
            let text = event.to_string();
            text.contains("would_submit") && text.contains("\"10\"") | text.contains(":10")
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_label_is_answered_unbilled_and_says_why() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let (status, body) =
        post(&node, "/v1/inference", json!({"model": "scripted", "prompt": "hello", "max_tokens": 5, "session_id": "user-session-001"}))
            .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["billed"], false);
    assert!(body.to_string().contains("user-session-001"), "the reason names the label: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_numbers_are_read_exactly() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let ask = |session: &str, job: Value| json!({"model": "scripted", "prompt": "hello", "max_tokens": 3, "temperature": 0, "session_id": session, "job_id": job});
    assert_eq!(post(&node, "/v1/inference", ask("163n", Value::Null)).await.0, 200);
    assert!(metered(&node, 163).await > 0);
    let (status, error) = post(&node, "/v1/inference", ask("163", json!(164))).await;
    assert_eq!(status, 400, "{error}");
    let (status, error) = post(&node, "/v1/inference", ask("18446744073709551616", Value::Null)).await;
    assert_eq!(status, 400, "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("18446744073709551616")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named_and_cost_nothing() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let cases = [
        (json!({"model": "scripted", "prompt": "", "max_tokens": 5, "job_id": 1}), 400, "prompt"),
        (json!({"model": "scripted", "prompt": 5, "max_tokens": 5, "job_id": 1}), 400, "prompt"),
        (json!({"model": "scripted", "prompt": "x", "max_tokens": 0, "job_id": 1}), 400, "max_tokens"),
        (json!({"model": "scripted", "prompt": "x", "max_tokens": 4_000_000_000_u64, "job_id": 1}), 400, "max_tokens"),
        (json!({"model": "scripted", "prompt": "x", "max_tokens": 5, "temperature": 3, "job_id": 1}), 400, "temperature"),
        (json!({"model": "gpt-unknown", "prompt": "x", "max_tokens": 5, "job_id": 1}), 404, "scripted"),
        (json!({"model": "scripted", "prompt": "x", "max_tokens": 5, "job_id": -1}), 400, "job_id"),
    ];
    for (body, expected, names) in cases {
        let (status, error) = post(&node, "/v1/inference", body.clone()).await;
        assert_eq!(status, expected, "{body}: {error}");
        assert!(error.to_string().contains(names), "{body}: {error}");
        assert!(error["error_type"].is_string() && error["message"].is_string() && error.get("request_id").is_some(), "{error}");
    }
    let raw = reqwest::Client::new()
        .post(format!("{}/v1/inference", node.url))
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .expect("an answer");
    assert_eq!(raw.status(), 400);
    assert_eq!(get(&node, "/v1/jobs/1").await.0, 404, "nothing was opened or billed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_again_and_never_billed_twice() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let ask =
        |prompt: &str| json!({"model": "scripted", "prompt": prompt, "max_tokens": 40, "temperature": 0, "job_id": 5, "request_id": "r-1"});
    let (_, first) = post(&node, "/v1/inference", ask("hello")).await;
    let count = metered(&node, 5).await;
    let (status, again) = post(&node, "/v1/inference", ask("hello")).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!((&again["content"], &again["tokens_used"]), (&first["content"], &first["tokens_used"]));
    assert_eq!(metered(&node, 5).await, count, "the retry cost nothing");
    assert_eq!(post(&node, "/v1/inference", ask("something else")).await.0, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_health_version_and_openapi_answer() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let (_, models) = get(&node, "/v1/models").await;
    assert_eq!(models["data"][0]["id"], "scripted");
    assert_eq!(models["models"][0]["id"], "scripted");
    for page in ["/health", "/v1/health"] {
        assert_eq!(get(&node, page).await.0, 200);
    }
    let (_, version) = get(&node, "/v1/version").await;
    assert!(version["version"].is_string() && version.to_string().contains("commit"), "{version}");
    let (_, openapi) = get(&node, "/openapi.json").await;
    assert!(openapi["paths"]["/v1/inference"].is_object());
    let metrics = reqwest::get(format!("{}/metrics", node.url)).await.expect("an answer");
    assert_eq!(metrics.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_frame_gets_an_error_and_pings_are_answered() {
    install_tls();
    let node = Node::start(free_port(), &scripted(), &[]);
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("{}/v1/ws", node.url.replace("http", "ws"))).await.expect("a socket");
    assert_eq!(next_json(&mut socket).await["type"], "connected");
    for bad in ["{", "[]", "{\"type\":\"nonsense\",\"id\":\"x\"}", "{\"id\":\"y\"}"] {
        socket.send(Message::text(bad)).await.expect("sent");
        let answer = next_json(&mut socket).await;
        assert_eq!(answer["type"], "error", "{bad}: {answer}");
        assert!(answer["code"].is_string() && answer["message"].is_string(), "{answer}");
    }
    send(&mut socket, json!({"type": "ping"})).await;
    assert_eq!(next_json(&mut socket).await["type"], "pong");
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn send(socket: &mut Socket, frame: Value) {
    socket.send(Message::text(frame.to_string())).await.expect("sent");
}

async fn next_json(socket: &mut Socket) -> Value {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(20), socket.next())
            .await
            .expect("a frame in time")
            .expect("a frame")
            .expect("a good frame");
        if let Message::Text(text) = frame {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}
