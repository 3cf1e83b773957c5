//! Every malformed request gets a typed error that says what would be right; nothing is metered because of it.

use milepost_gateway::{JobsError, JobsErrorKind};
use serde_json::{Value, json};

use crate::node::{CHAIN, Node, Setup, answer, ask, ask_chat, config, depositor, terms};
use crate::socket::Socket;

fn with(mut base: Value, field: &str, value: Value) -> Value {
    base[field] = value;
    base
}

#[tokio::test]
async fn each_wrong_field_is_named_with_what_would_be_right() {
    let node = Node::start(Setup::default()).await;
    let good = || ask(1, "hello", 5);
    let cases = [
        (with(good(), "model", json!(7)), 400, "validation_error", "`model`"),
        (with(good(), "model", Value::Null), 400, "validation_error", "`model` is missing"),
        (with(good(), "model", json!("gpt-9")), 404, "model_not_found", "scripted"),
        (with(good(), "prompt", json!("")), 400, "validation_error", "`prompt` is empty"),
        (with(good(), "prompt", json!(["x"])), 400, "validation_error", "`prompt` is a list of 1"),
        (with(good(), "prompt", Value::Null), 400, "validation_error", "`prompt` is missing"),
        (with(good(), "max_tokens", json!(0)), 400, "validation_error", "from 1 to 32768"),
        (with(good(), "max_tokens", json!(-5)), 400, "validation_error", "from 1 to 32768"),
        (with(good(), "max_tokens", json!(4_000_000_000_u64)), 400, "validation_error", "from 1 to 32768"),
        (with(good(), "max_tokens", json!("12")), 400, "validation_error", "`max_tokens` is a text"),
        (with(good(), "max_tokens", json!(1.5)), 400, "validation_error", "`max_tokens` is 1.5"),
        (with(good(), "max_tokens", Value::Null), 400, "validation_error", "`max_tokens` is missing"),
        (with(good(), "temperature", json!(2.1)), 400, "validation_error", "from 0 to 2"),
        (with(good(), "temperature", json!("hot")), 400, "validation_error", "`temperature`"),
        (with(good(), "top_p", json!(7)), 400, "validation_error", "`top_p`"),
        (with(good(), "stream", json!("yes")), 400, "validation_error", "true or false"),
        (with(good(), "stop", json!([""])), 400, "validation_error", "`stop`"),
        (with(good(), "stop", json!(vec!["a"; 40])), 400, "invalid_request", "stop sequences"),
        (with(good(), "seed", json!("x")), 400, "validation_error", "`seed`"),
        (with(good(), "conversation_context", json!("x")), 400, "validation_error", "conversation_context"),
        (
            with(good(), "conversation_context", json!([{ "role": "judge", "content": "x" }])),
            400,
            "validation_error",
            "conversation_context[0].role",
        ),
        (with(good(), "conversation_context", json!([{ "role": "user" }])), 400, "validation_error", "conversation_context[0].content"),
        (with(good(), "job_id", json!("abc")), 400, "validation_error", "not a job number"),
        (with(good(), "job_id", json!(-1)), 400, "validation_error", "not a job number"),
        (with(good(), "session_id", json!("2")), 400, "validation_error", "they must be equal"),
        (with(good(), "jobId", json!("2")), 400, "validation_error", "differ"),
        (
            with(ask(Value::Null, "x", 1), "session_id", json!("18446744073709551616")),
            400,
            "validation_error",
            "exceeds the largest job number",
        ),
        (with(good(), "request_id", json!("")), 400, "validation_error", "`request_id`"),
        (with(good(), "request_id", json!("x".repeat(129))), 400, "validation_error", "1 to 128 bytes"),
        (with(good(), "resume_from", json!(0)), 400, "validation_error", "`request_id` is missing"),
        (with(good(), "chain_id", json!("base")), 400, "validation_error", "`chain_id`"),
        (with(good(), "salt", json!("0x12")), 400, "validation_error", "64 hexadecimal digits"),
    ];
    for (body, status, code, words) in cases {
        let (found, answer) = node.post("/v1/inference", &body).await;
        assert_eq!((found, answer["error_type"].as_str()), (status, Some(code)), "{body} gave {answer}");
        assert!(answer["message"].as_str().expect("a message").contains(words), "{body} gave {answer}");
    }
    assert_eq!(node.metered(1), 0);
    assert!(node.db.accounts().expect("readable").iter().all(|account| account.turns == 0), "no turn was begun");
}

#[tokio::test]
async fn a_body_that_is_not_json_or_too_large_is_refused() {
    let mut setup = Setup::default();
    setup.config.max_body_bytes = 4_096;
    let node = Node::start(setup).await;
    for (body, words) in [
        ("{", "not valid JSON"),
        ("[]", "expected an object"),
        ("\"x\"", "expected an object"),
        ("{\"model\": }", "column"),
        ("\u{0}", "JSON"),
    ] {
        let response = node.http.post(node.url("/v1/inference")).body(body).send().await.expect("an answer");
        assert_eq!(response.status(), 400);
        let answer: Value = response.json().await.expect("JSON");
        assert!(answer["message"].as_str().expect("a message").contains(words), "{body:?} gave {answer}");
    }
    let (status, answer) = node.post("/v1/inference", &ask(1, &"x".repeat(5_000), 5)).await;
    assert_eq!((status, &answer["error_type"], &answer["details"]["limit"]), (413, &json!("body_too_large"), &json!(4_096)));
    assert_eq!(node.post("/v1/nowhere", &json!({})).await.0, 404);
    let (status, answer) = node.get("/v1/inference").await;
    assert_eq!((status, &answer["error_type"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_its_figures() {
    let mut setup = Setup::default();
    setup.engine.context_tokens = 64;
    let node = Node::start(setup).await;
    let (status, answer) = node.post("/v1/inference", &ask(1, &"word ".repeat(200), 5)).await;
    assert_eq!(
        (status, &answer["error_type"], &answer["details"]["context_window_size"]),
        (400, &json!("token_limit_exceeded"), &json!(64))
    );
    assert!(answer["details"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 64));
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    let error = socket.ask("prompt", json!({ "prompt": "word ".repeat(200), "id": "x" })).await;
    assert_eq!(
        (&error["type"], &error["code"], &error["context_window_size"], &error["id"]),
        (&json!("error"), &json!("TOKEN_LIMIT_EXCEEDED"), &json!(64), &json!("x"))
    );
    // What fits the context but not the answer ends when the context is full, and says so.
    let (status, answer) = node.post("/v1/inference", &ask(1, "short", 500)).await;
    assert_eq!((status, &answer["finish_reason"]), (200, &json!("length")));
    assert_eq!(answer["usage"]["total_tokens"], 64);
}

#[tokio::test]
async fn openai_doors_answer_in_openai_s_shape_and_refuse_what_would_change_the_answer() {
    let node = Node::start(Setup::default()).await;
    let good = || ask_chat(1, "hello", 5);
    let cases = [
        (with(good(), "model", json!("gpt-9")), 404, "model_not_found", "model"),
        (with(good(), "messages", json!([])), 400, "validation_error", "messages"),
        (with(good(), "messages", json!([{ "role": "user", "content": "" }])), 400, "validation_error", "messages"),
        (with(good(), "messages", json!("hi")), 400, "validation_error", "messages"),
        (
            with(good(), "messages", json!([{ "role": "user", "content": [{ "type": "image_url" }] }])),
            400,
            "validation_error",
            "messages[0].content of type image_url",
        ),
        (with(good(), "n", json!(2)), 400, "validation_error", "n"),
        (with(good(), "tools", json!([{ "type": "function" }])), 400, "validation_error", "tools"),
        (with(good(), "logprobs", json!(true)), 400, "validation_error", "logprobs"),
        (with(good(), "response_format", json!({ "type": "json_object" })), 400, "validation_error", "response_format"),
        (with(good(), "max_completion_tokens", json!(0)), 400, "validation_error", "max_completion_tokens"),
        (with(good(), "stream_options", json!(true)), 400, "validation_error", "stream_options"),
    ];
    for (body, status, code, param) in cases {
        let (found, answer) = node.post("/v1/chat/completions", &body).await;
        let error = &answer["error"];
        assert_eq!((found, error["code"].as_str(), error["param"].as_str()), (status, Some(code), Some(param)), "{body} gave {answer}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let (status, answer) = node.post("/v1/completions", &json!({ "model": "scripted", "prompt": ["a", "b"] })).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("prompt")));
    // What says nothing is no reason to refuse, and parts of text are text.
    let polite = json!({
        "model": "scripted", "messages": [{ "role": "developer", "content": "be brief" }, { "role": "user", "content": [{ "type": "text", "text": "hi" }] }],
        "n": 1, "tools": [], "logprobs": false, "response_format": { "type": "text" }, "max_completion_tokens": 3, "user": "u", "store": false,
    });
    assert_eq!(node.post("/v1/chat/completions", &polite).await.0, 200);
    assert_eq!(node.metered(1), 0);
}

#[tokio::test]
async fn malformed_frames_get_an_error_and_the_connection_goes_on() {
    let node = Node::start(Setup::default()).await;
    let mut socket = Socket::open(&node).await;
    for text in ["{", "7", "{\"id\":3}", "{\"type\":\"dance\",\"id\":3}"] {
        futures::SinkExt::send(&mut socket.0, tokio_tungstenite::tungstenite::Message::text(text)).await.expect("open");
        let error = socket.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("MALFORMED_FRAME")), "{text}");
    }
    futures::SinkExt::send(&mut socket.0, tokio_tungstenite::tungstenite::Message::binary(vec![1, 2])).await.expect("open");
    assert_eq!(socket.next().await["code"], "MALFORMED_FRAME");
    let encrypted = socket.ask("encrypted_session_init", json!({ "session_id": "1", "id": "e" })).await;
    assert_eq!((&encrypted["code"], &encrypted["id"]), (&json!("ENCRYPTION_NOT_SUPPORTED"), &json!("e")));
    for (kind, frame, code) in [
        ("inference", json!({ "request": 7 }), "VALIDATION_ERROR"),
        ("inference", json!({ "request": { "prompt": "", "max_tokens": 5 } }), "VALIDATION_ERROR"),
        ("inference", json!({ "request": { "prompt": "x", "model": "gpt-9" } }), "MODEL_NOT_FOUND"),
        ("prompt", json!({ "prompt": "x", "jobId": "99999999999999999999" }), "INVALID_SESSION_ID"),
        ("session_init", json!({ "jobId": "abc" }), "INVALID_SESSION_ID"),
        ("session_init", json!({ "job_id": 1, "token": "mps_00" }), "UNAUTHORIZED"),
        ("session_close", json!({ "job_id": 1 }), "UNAUTHORIZED"),
        ("ack", json!({ "seq": "x" }), "VALIDATION_ERROR"),
        ("voucher", json!({ "job_id": 1, "tokens": 3 }), "VALIDATION_ERROR"),
        ("inference", json!({ "request": { "request_id": "never", "resume_from": 0, "job_id": 1 } }), "REQUEST_NOT_FOUND"),
    ] {
        let error = socket.ask(kind, with(frame.clone(), "id", json!(kind))).await;
        assert_eq!(
            (&error["type"], &error["code"], &error["id"]),
            (&json!("error"), &json!(code), &json!(kind)),
            "{kind} {frame} gave {error}"
        );
    }
    assert_eq!(socket.ask("ping", json!({ "id": 9 })).await, json!({ "type": "pong", "id": 9 }));
    let answer = socket.prompt(json!({ "prompt": "still here", "max_tokens": 3, "job_id": "1" })).await;
    assert_eq!(answer.ids.len(), 3);
    assert_eq!(node.metered(1), 3);
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_only() {
    let config = milepost_gateway::GatewayConfig { max_body_bytes: 2_048, ..config() };
    let node = Node::start(Setup { config, ..Setup::default() }).await;
    let mut socket = Socket::open(&node).await;
    socket.send("prompt", json!({ "prompt": "x".repeat(4_000) })).await;
    while socket.try_next().await.is_some() {}
    assert_eq!(node.get("/health").await.0, 200);
}

#[tokio::test]
async fn another_chain_s_id_is_refused_before_it_spends_a_job() {
    let node = Node::start(Setup::legacy(terms())).await;
    let (status, answer) = node.post("/v1/inference", &with(ask(7, "x", 3), "chain_id", json!(84_532))).await;
    assert_eq!((status, &answer["details"]["field"]), (400, &json!("chain_id")));
    for chain in [json!(CHAIN), json!(CHAIN.to_string())] {
        assert_eq!(node.post("/v1/inference", &with(ask(7, "x", 3), "chainId", chain)).await.0, 200);
    }
}

#[tokio::test]
async fn a_job_that_is_not_there_and_a_chain_that_does_not_answer_are_told_apart() {
    let node = Node::start(Setup::legacy(terms())).await;
    let (status, answer) = node.post("/v1/inference", &ask(8, "x", 3)).await;
    assert_eq!((status, &answer["error_type"]), (404, &json!("job_not_found")));
    let dead = jobs_error(JobsErrorKind::Unreachable, "MP-S-001");
    node.jobs.refuse(Some(dead.clone()));
    let response = node.send("/v1/inference", &ask(7, "x", 3), &[]).await;
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
    node.jobs.refuse(None);
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 3)).await.0, 200);
    // Once the job is open here, serving it needs no chain.
    node.jobs.refuse(Some(dead));
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 3)).await.0, 200);
    assert_eq!(node.metered(7), 6);
}

fn jobs_error(kind: JobsErrorKind, code: &'static str) -> JobsError {
    JobsError { kind, code, message: format!("[{code}] job 7 is as it is"), advice: "fund another one" }
}

#[tokio::test]
async fn a_refusal_that_is_for_good_says_so_at_every_door() {
    let node = Node::start(Setup::legacy(terms())).await;
    let (status, challenge) = node.post("/v1/session/challenge", &json!({ "job_id": "7" })).await;
    assert_eq!(status, 200, "{challenge}");
    let cases = [
        (JobsErrorKind::AnotherHost, "MP-S-013", 403, "job_of_another_host", "JOB_OF_ANOTHER_HOST"),
        (JobsErrorKind::NotServed, "MP-S-027", 422, "job_not_served", "JOB_NOT_SERVED"),
        (JobsErrorKind::Unreachable, "MP-S-001", 503, "service_unavailable", "CHAIN_UNAVAILABLE"),
    ];
    for (kind, cause, status, code, frame_code) in cases {
        node.jobs.refuse(Some(jobs_error(kind, cause)));
        let for_good = kind != JobsErrorKind::Unreachable;
        let said = |text: &Value| {
            let text = text.as_str().expect("a message");
            text.contains(&format!("[{cause}] job 7")) && text.contains("fund another one") == for_good
        };
        let doors = [
            ("/v1/inference", ask(7, "x", 3)),
            ("/v1/chat/completions", ask_chat(7, "x", 3)),
            ("/v1/session/challenge", json!({ "job_id": "7" })),
            ("/v1/session", answer(&challenge, &depositor(), None)),
        ];
        for (path, body) in doors {
            let response = node.send(path, &body, &[]).await;
            let (found, retried) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
            let body: Value = response.json().await.expect("JSON");
            let (found_code, message, details) = if path.contains("chat") {
                (&body["error"]["code"], &body["error"]["message"], &body["error"]["details"])
            } else {
                (&body["error_type"], &body["message"], &body["details"])
            };
            assert_eq!((found, retried, found_code), (status, !for_good, &json!(code)), "{path}: {body}");
            assert_eq!((said(message), &details["cause"]), (true, &json!(cause)), "{path}: {body}");
        }
        let mut socket = Socket::open(&node).await;
        let frame = socket.ask("session_init", json!({ "job_id": 7, "id": 1 })).await;
        assert_eq!((&frame["code"], &frame["id"], said(&frame["message"])), (&json!(frame_code), &json!(1), true), "{frame}");
        socket.send("inference", json!({ "request": ask(7, "x", 3), "id": 2 })).await;
        let frame = socket.next().await;
        assert_eq!((&frame["code"], &frame["id"], said(&frame["message"])), (&json!(frame_code), &json!(2), true), "{frame}");
    }
    assert_eq!(node.metered(7), 0);
}
