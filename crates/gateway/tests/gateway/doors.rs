//! Every door gives the same tokens, counts them alike, and speaks as its clients expect.

use milepost_ledger::{AccountId, Digest, JobId, Salt, TokenSeq};
use milepost_statement::{TurnReceipt, checkpoint_head, genesis_head, open_digest, recover, request_digest, salt_commitment};
use serde_json::{Value, json};

use crate::node::{CHAIN, MARKETPLACE, Node, Setup, ask, ask_chat, bearer, domain, host_key, ids, salted, terms};
use crate::socket::Socket;

#[tokio::test]
async fn every_door_meters_the_same_tokens_for_the_same_prompt() {
    let node = Node::start(Setup::default().answers(40)).await;
    let prompt = "tell me of the sea";

    let (status, plain) = node.post("/v1/inference", &ask(1, prompt, 100)).await;
    assert_eq!(
        (status, &plain["finish_reason"], &plain["tokens_used"]),
        (200, &json!("stop"), &json!(41)),
        "the end-of-generation token counts"
    );

    let mut request = ask(2, prompt, 100);
    request["stream"] = json!(true);
    let (events, done) = node.events("/v1/inference", &request, &[]).await;
    assert!(!done, "the native stream has no [DONE]");
    let (last, chunks) = events.split_last().expect("events");
    let streamed: Vec<u32> = chunks.iter().flat_map(|chunk| ids(&chunk["token_ids"])).collect();
    let text: String = chunks.iter().map(|chunk| chunk["content"].as_str().expect("text")).collect();
    assert_eq!(chunks.iter().map(|chunk| chunk["tokens"].as_u64().expect("a count")).sum::<u64>(), 41);
    assert_eq!((&last["content"], &last["tokens"], &last["finish_reason"]), (&json!(""), &json!(0), &json!("stop")));

    let (status, chat) = node.post("/v1/chat/completions", &ask_chat(3, prompt, 100)).await;
    assert_eq!((status, &chat["usage"]["completion_tokens"]), (200, &json!(41)));

    let mut request = ask_chat(4, prompt, 100);
    request["stream"] = json!(true);
    let (events, done) = node.events("/v1/chat/completions", &request, &[]).await;
    assert!(done);
    let chat_ids: Vec<u32> =
        events.iter().filter(|event| event["milepost"].is_object()).flat_map(|event| ids(&event["milepost"]["token_ids"])).collect();

    let (mut socket, _) = Socket::init(&node, json!({ "session_id": "5n", "id": 1 })).await;
    let ws = socket.prompt(json!({ "model": "scripted", "prompt": prompt, "max_tokens": 100, "temperature": 0 })).await;
    assert_eq!((&ws.end["reason"], &ws.end["tokens_used"], &ws.end["id"]), (&json!("complete"), &json!(41), &json!("p")));

    let expected = node.tokens(1);
    assert_eq!(expected.len(), 41);
    for (door, found) in [
        ("plain", ids(&plain["token_ids"])),
        ("sse", streamed),
        ("chat", ids(&chat["milepost"]["token_ids"])),
        ("chat stream", chat_ids),
        ("ws", ws.ids),
    ] {
        assert_eq!(found, expected, "{door}");
    }
    for job in 1..=5 {
        assert_eq!(node.tokens(job), expected, "metered for job {job}");
    }
    let content = plain["content"].as_str().expect("text");
    assert_eq!((text.as_str(), ws.text.as_str(), chat["choices"][0]["message"]["content"].as_str()), (content, content, Some(content)));
    assert!(
        !content.contains('\u{fffd}') && content.chars().any(|char| char.len_utf8() == 4),
        "characters of several tokens arrive whole: {content}"
    );

    let before = node.metered(6);
    let (status, text) =
        node.post("/v1/completions", &json!({ "model": "scripted", "prompt": "once", "max_tokens": 9, "job_id": 6 })).await;
    assert_eq!((status, &text["choices"][0]["finish_reason"]), (200, &json!("length")));
    assert_eq!(node.metered(6) - before, text["usage"]["completion_tokens"].as_u64().expect("a count"));
}

#[tokio::test]
async fn the_native_answer_has_the_documented_fields() {
    let node = Node::start(Setup::default()).await;
    let (status, answer) = node.post("/v1/inference", &ask("163n", "hello", 5)).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["model"], &answer["job_id"], &answer["tokens_used"], &answer["finish_reason"], &answer["chain_id"]),
        (&json!("scripted"), &json!("163"), &json!(5), &json!("length"), &json!(0))
    );
    assert_eq!(answer["billed"], json!(false));
    assert!(answer["billed_reason"].as_str().expect("a reason").contains("log mode"));
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens"], 5);
    assert_eq!(usage["total_tokens"].as_u64(), Some(5 + usage["prompt_tokens"].as_u64().expect("a count")));
    assert_eq!(usage["context_window_size"], 8192);
    assert!(answer["request_id"].as_str().is_some_and(|id| id.starts_with("req-")));
    assert_eq!((&answer["seq"], &answer["replayed"], &answer["receipt"]["signature"]), (&json!(0), &json!(false), &Value::Null));

    let label = node
        .post("/v1/inference", &json!({ "model": "scripted", "prompt": "x", "max_tokens": 3, "session_id": "user-session-001" }))
        .await
        .1;
    assert_eq!((&label["billed"], &label["job_id"]), (&json!(false), &Value::Null));
    assert!(label["billed_reason"].as_str().expect("a reason").contains("user-session-001"));
    let nobody = node.post("/v1/inference", &json!({ "model": "scripted", "prompt": "x", "max_tokens": 3 })).await.1;
    assert_eq!((&nobody["billed"], &nobody["tokens_used"]), (&json!(false), &json!(3)));
}

#[tokio::test]
async fn the_openai_stream_is_what_its_clients_read() {
    let node = Node::start(Setup::default().answers(6)).await;
    let mut request = ask_chat(1, "hello", 50);
    request["stream"] = json!(true);
    request["stream_options"] = json!({ "include_usage": true });
    let (events, done) = node.events("/v1/chat/completions", &request, &[]).await;
    assert!(done);
    let (first, last) = (&events[0], &events[events.len() - 1]);
    assert_eq!((&first["object"], &first["choices"][0]["delta"]["role"]), (&json!("chat.completion.chunk"), &json!("assistant")));
    assert!(events.iter().all(|event| event["id"] == first["id"] && event["model"] == "scripted"));
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(7)));
    let finish: Vec<_> = events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finish, ["stop"]);
    let closing = &events[events.len() - 2];
    assert_eq!(closing["milepost"]["finish_reason"], "stop");
    assert_eq!(closing["milepost"]["receipt"]["open_tokens"], 7);

    let (status, models) = node.get("/v1/models").await;
    assert_eq!(
        (status, &models["object"], &models["data"][0]["id"], &models["models"][0]["name"]),
        (200, &json!("list"), &json!("scripted"), &json!("scripted"))
    );
    assert_eq!(node.get("/v1/models/scripted").await.1["object"], "model");
    assert_eq!(node.get("/v1/models/other").await.0, 404);
}

#[tokio::test]
async fn stop_sequences_end_the_answer_and_are_not_shown() {
    let node = Node::start(Setup::default().answers(60)).await;
    let whole = node.post("/v1/inference", &ask(1, "hello", 60)).await.1["content"].as_str().expect("text").to_owned();
    let stop: String = whole.chars().skip(20).take(3).collect();
    let mut request = ask(2, "hello", 60);
    request["stop"] = json!([stop]);
    let (_, cut) = node.post("/v1/inference", &request).await;
    assert_eq!(cut["finish_reason"], "stop");
    assert_eq!(cut["content"].as_str(), whole.split(&stop).next());
    assert_eq!(cut["tokens_used"].as_u64().expect("a count"), node.metered(2));
    assert!(node.metered(2) < 60);
}

/// What a paying client does with what it is told: recompute every head from its own ids, and check the host's signature.
#[tokio::test]
async fn receipts_and_announced_checkpoints_can_be_checked_by_the_client() {
    let salt = Salt([9; 32]);
    let node = Node::start(Setup::funded(salted(&salt)).answers(None)).await;
    let token = node.token(Some(&salt)).await;
    let (mut socket, ack) = Socket::init(&node, json!({ "job_id": "7", "token": token, "acks": true })).await;
    assert_eq!((&ack["status"], &ack["left"]), (&json!("success"), &json!(1000)));
    let (mut ids, mut seals, mut last) = (Vec::new(), Vec::new(), Value::Null);
    for turn in 0..3 {
        let request = json!({ "model": "scripted", "prompt": format!("turn {turn}"), "max_tokens": 90, "request_id": format!("r{turn}") });
        socket.send("inference", json!({ "request": request })).await;
        let mut answer = crate::socket::Answer::default();
        loop {
            let frame = socket.next().await;
            let ack = frame["total"].as_u64();
            if answer.take(frame) {
                break;
            }
            if let Some(seq) = ack {
                socket.send("ack", json!({ "seq": seq })).await;
            }
        }
        assert_eq!((&answer.end["billed"], &answer.end["finish_reason"]), (&json!(true), &json!("length")));
        ids.extend(answer.ids);
        seals.extend(answer.seals);
        last = answer.end;
    }
    assert_eq!((ids.len(), seals.len(), &last["left"]), (270, 2, &json!(730)));

    let mut head =
        genesis_head(milepost_ledger::ChainId(CHAIN), MARKETPLACE, JobId(7), host_key().address(), terms().model, salt_commitment(&salt));
    for (number, seal) in seals.iter().enumerate() {
        let digest = |field: &str| seal[field].as_str().expect("text").parse::<Digest>().expect("a digest");
        let first = number * 100;
        assert_eq!(
            (seal["number"].as_u64(), seal["first_seq"].as_u64(), seal["count"].as_u64()),
            (Some(number as u64), Some(first as u64), Some(100))
        );
        assert_eq!(digest("head_before"), head);
        head = checkpoint_head(&head, TokenSeq(first as u64), &digest("turns_digest"), &ids[first..first + 100]);
        assert_eq!(digest("head"), head);
    }
    let receipt = &last["receipt"];
    let signed = TurnReceipt {
        job_id: JobId(7),
        request: request_digest("r2"),
        sealed_head: head,
        sealed_tokens: milepost_ledger::TokenCount(200),
        open_tokens: milepost_ledger::TokenCount(70),
        open_digest: open_digest(&head, TokenSeq(200), &ids[200..]),
    };
    let signature = hex::decode(&receipt["signature"].as_str().expect("signed")[2..]).expect("hexadecimal");
    assert_eq!(recover(&signed.digest(&domain()), &signature), Ok(host_key().address()));
    assert_eq!(receipt["signer"], json!(host_key().address()));
    let wrong = TurnReceipt { open_tokens: milepost_ledger::TokenCount(69), ..signed };
    assert_ne!(recover(&wrong.digest(&domain()), &signature), Ok(host_key().address()));

    let (_, shown) = node.get("/v1/jobs/7/checkpoints").await;
    assert_eq!((&shown["total"], &shown["checkpoints"][1]["head"]), (&json!(2), &json!(head)));
    let (_, page) = node.get("/v1/checkpoints/7?from=0&limit=1").await;
    assert_eq!((&page["checkpoints"][0]["number"], &page["next"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn tokens_are_counted_alike_in_bulk_and_one_by_one_across_requests_and_doors() {
    let node = Node::start(Setup::default().answers(None)).await;
    node.post("/v1/inference", &ask(1, "a", 60)).await;
    node.post("/v1/chat/completions", &ask_chat(1, "b", 30)).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 1 })).await;
    let answer = socket.prompt(json!({ "prompt": "c", "max_tokens": 30 })).await;
    assert_eq!(answer.seals.len(), 1, "the hundredth token seals, whichever door it left through");
    let record = node.record(1);
    assert_eq!((record.positions.metered, record.positions.sealed, record.turns), (TokenSeq(120), TokenSeq(100), 3));
    let checkpoint = &node.db.checkpoints(AccountId::Job(JobId(1)), 0, 9).expect("readable")[0];
    assert_eq!(checkpoint.turns.len(), 3);
}

#[tokio::test]
async fn what_anybody_may_ask_is_answered() {
    let node = Node::start(Setup::legacy(terms())).await;
    node.post("/v1/inference", &ask(7, "hello", 5)).await;
    assert_eq!(node.get("/health").await, (200, json!({ "status": "healthy" })));
    assert_eq!(node.get("/v1/health").await.0, 200);
    let (status, ready) = node.get("/ready").await;
    assert_eq!((status, &ready["ready"], &ready["checks"][0]["name"]), (503, &json!(false), &json!("prover")));
    let (_, version) = node.get("/v1/version").await;
    assert_eq!((&version["version"], &version["build"], &version["date"]), (&json!("0.1.0"), &json!("abc"), &json!("2026-11-21")));
    let (_, job) = node.get("/v1/jobs/7").await;
    assert_eq!((&job["positions"]["metered"], &job["phase"], &job["left"]), (&json!(5), &json!("open"), &json!(995)));
    assert_eq!(node.get("/v1/jobs/8").await.0, 404);
    assert_eq!(node.get("/v1/jobs/seven").await.0, 400);
    assert_eq!(node.get("/v1/proofs/7-0-0").await.0, 404);
    assert_eq!(node.get("/v1/proofs/nonsense").await.0, 400);
    assert_eq!(node.get("/ipfs/bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").await.0, 404);
    assert_eq!(node.get("/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG").await.0, 400);
    let (_, openapi) = node.get("/openapi.json").await;
    assert!(openapi["paths"]["/v1/inference"]["post"].is_object() && openapi["components"]["schemas"]["InferenceRequest"].is_object());
    let metrics = node.http.get(node.url("/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert_eq!(metrics, "milepost_up 1\n");

    let (_, proof) = node.post("/v1/auth/challenge", &json!({ "challenge": "prove it" })).await;
    let mut signature = hex::decode(&proof["signature"].as_str().expect("text")[2..]).expect("hexadecimal");
    signature.push(u8::try_from(proof["recid"].as_u64().expect("a number")).expect("0 or 1"));
    let digest = Digest(<sha2::Sha256 as sha2::Digest>::digest(b"prove it").into());
    assert_eq!(recover(&digest, &signature), Ok(host_key().address()));
}

#[tokio::test]
async fn a_session_token_is_an_openai_api_key() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = node.token(None).await;
    let request = json!({ "model": "scripted", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 4 });
    let (status, answer) = node.post_as("/v1/chat/completions", &request, &[("authorization", &bearer(&token))]).await;
    assert_eq!((status, &answer["milepost"]["job_id"], &answer["milepost"]["billed"]), (200, &json!("7"), &json!(true)));
    assert_eq!(node.metered(7), 4);
    // Any other key is somebody else's, as OpenAI's clients must send one: nobody's job, nothing billed.
    let (status, answer) = node.post_as("/v1/chat/completions", &request, &[("authorization", "Bearer sk-none")]).await;
    assert_eq!((status, &answer["milepost"]["billed"]), (200, &json!(false)));
    assert_eq!(node.metered(7), 4);
}
