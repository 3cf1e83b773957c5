//! A client that never reads: generation pauses at the unacknowledged window, others go on, and the books are clean at the end.

mod common;

use std::time::Duration;

use common::ground::Ground;
use futures::SinkExt;
use milepost_client::ChatRequest;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Tokens that may be durable but not acknowledged, as the node is set.
const WINDOW: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_paused_at_the_window_and_pays_for_no_more() {
    let ground = Ground::new(&[
        ("gateway.unacked_window", "64"),
        ("gateway.stall_seconds", "3"),
        ("gateway.socket_grace_seconds", "1"),
        ("model.scripted_rate", "300"),
    ])
    .await;
    let node = ground.start();
    let files = tempfile::tempdir().expect("a folder");
    let mut silent = ground.open(&files.path().join("silent.json")).await;
    silent.authenticate(None).await.expect("authenticated");
    let job = silent.job_id().to_string();
    let token = silent.access_token().expect("a token").to_owned();

    let (mut socket, _) = tokio_tungstenite::connect_async(format!("{}/v1/ws", node.url.replace("http", "ws"))).await.expect("a socket");
    let frames = [
        json!({"type": "session_init", "job_id": job, "session_id": job, "token": token, "id": "i"}),
        json!({"type": "inference", "id": "p", "request": {"model": "scripted", "prompt": "talk and talk", "max_tokens": 600, "temperature": 0, "stream": true}}),
    ];
    for frame in frames {
        socket.send(Message::text(frame.to_string())).await.expect("sent");
    }
    node.wait_for("the silent client's turn to end", Duration::from_secs(30), |event| event["event"] == "turn_ended");
    let metered = metered(&node.url, &job, &token).await;
    assert!(metered > 0 && metered <= WINDOW, "{metered} tokens were made for a client that acknowledged none");

    // Another client is served meanwhile as if nothing were the matter.
    let mut lively = ground.open(&files.path().join("lively.json")).await;
    lively.authenticate(None).await.expect("authenticated");
    let mut ask = ChatRequest::new("scripted", "say something");
    ask.max_tokens = 120;
    let turn = lively.chat_ws(ask).await.expect("an answer");
    assert_eq!(turn.count.0, 120);
    lively.close().await.expect("closed");
    lively.wait_paid(Duration::from_secs(60)).await.expect("paid");

    // The silent one goes away; its session ends after the grace period and is paid for what was made. Its own client says at
    // once that the chain has tokens which it never took.
    drop(socket);
    let error = silent.wait_paid(Duration::from_secs(90)).await.expect_err("the client holds nothing");
    let milepost_client::Error::Transcript(milepost_client::transcript::Error::ChainBeyond { chain, captured }) = error else {
        panic!("another error: {error}");
    };
    assert_eq!((chain.0, captured.0), (metered, 0));
    let books = ground.wait_clean().await;
    println!("figure {metered} of 600 tokens made for a client that never reads (window {WINDOW}); books: {}", books["verdict"]);
    node.kill();
}

async fn metered(url: &str, job: &str, token: &str) -> u64 {
    let answer = reqwest::Client::new().get(format!("{url}/v1/jobs/{job}")).bearer_auth(token).send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    body["positions"]["metered"].as_u64().expect("a number")
}
