//! Who may spend a job, and who may end it.

use milepost_gateway::AuthMode;
use milepost_ledger::{Phase, Salt, SessionEnd};
use serde_json::json;

use crate::node::{Node, Setup, answer, ask, bearer, depositor, key, salted, terms};
use crate::socket::Socket;

#[tokio::test]
async fn naming_a_job_is_not_enough_to_spend_it() {
    let node = Node::start(Setup::funded(terms())).await;
    for body in [ask(7, "x", 3), ask("7n", "x", 3)] {
        let (status, answer) = node.post("/v1/inference", &body).await;
        assert_eq!((status, &answer["error_type"]), (401, &json!("unauthorized")));
    }
    let mut socket = Socket::open(&node).await;
    assert_eq!(socket.ask("session_init", json!({ "job_id": "7" })).await["code"], "UNAUTHORIZED");
    assert_eq!(socket.ask("prompt", json!({ "jobId": "7", "prompt": "x" })).await["code"], "UNAUTHORIZED");
    assert_eq!(node.metered(7), 0);
}

#[tokio::test]
async fn only_the_depositor_opens_a_session_and_a_challenge_serves_once() {
    let node = Node::start(Setup::funded(terms())).await;
    let (status, answer_) = node.open(&key(5), None).await;
    assert_eq!((status, &answer_["error_type"]), (403, &json!("not_the_depositor")), "a stranger opened the depositor's session");
    let (_, challenge) = node.post("/v1/session/challenge", &json!({ "job_id": 7 })).await;
    let good = answer(&challenge, &depositor(), None);
    assert_eq!(node.post("/v1/session", &good).await.0, 200);
    let (status, again) = node.post("/v1/session", &good).await;
    assert_eq!((status, &again["error_type"]), (401, &json!("invalid_challenge")));
    let (_, challenge) = node.post("/v1/session/challenge", &json!({ "job_id": 7 })).await;
    let late = answer(&challenge, &depositor(), None);
    node.clock.advance(121);
    assert_eq!(node.post("/v1/session", &late).await.1["error_type"], "invalid_challenge");
    let unsigned = json!({ "job_id": 7 });
    assert_eq!(node.post("/v1/session", &unsigned).await.1["details"]["field"], "signature");
    assert_eq!(node.post("/v1/session/challenge", &json!({ "job_id": 8 })).await.0, 404);
    assert_eq!(node.post("/v1/session/challenge", &json!({})).await.0, 400);
}

#[tokio::test]
async fn a_token_spends_its_own_job_and_no_other() {
    let mut setup = Setup::funded(terms());
    setup.jobs = Some(vec![(7, terms()), (8, terms())]);
    let node = Node::start(setup).await;
    let token = bearer(&node.token(None).await);
    let (status, answer) = node.post_as("/v1/inference", &ask(8, "x", 3), &[("authorization", &token)]).await;
    assert_eq!((status, &answer["error_type"]), (403, &json!("not_your_job")));
    assert_eq!(node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &token)]).await.0, 200);
    let (status, _) = node.post_as("/v1/session/close", &json!({ "job_id": 8 }), &[("authorization", &token)]).await;
    assert_eq!(status, 403);
    assert_eq!((node.metered(7), node.metered(8)), (3, 0));
    node.clock.advance(86_401);
    assert_eq!(node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &token)]).await.0, 401, "expired");
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = bearer(&node.token(None).await);
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::funded(terms()) }).await;
    assert_eq!(node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &token)]).await.0, 200);
}

#[tokio::test]
async fn the_salt_must_be_the_one_the_job_was_funded_with() {
    let salt = Salt([4; 32]);
    let node = Node::start(Setup::funded(salted(&salt))).await;
    for wrong in [None, Some(Salt([5; 32]))] {
        let (status, answer) = node.open(&depositor(), wrong.as_ref()).await;
        assert_eq!((status, &answer["error_type"]), (400, &json!("wrong_salt")));
    }
    assert_eq!(node.open(&depositor(), Some(&salt)).await.0, 200);
    assert_eq!(node.open(&depositor(), None).await.0, 200, "known by now");
    assert_eq!(node.open(&depositor(), Some(&Salt([5; 32]))).await.0, 400);
}

#[tokio::test]
async fn in_legacy_mode_a_name_spends_a_job_but_never_ends_it() {
    let node = Node::start(Setup::legacy(terms())).await;
    assert_eq!(node.post("/v1/inference", &ask("7n", "x", 3)).await.1["billed"], json!(true));
    assert_eq!(node.post("/v1/session/close", &json!({ "job_id": 7 })).await.0, 401);
    let (mut socket, _) = Socket::init(&node, json!({ "jobId": "7", "id": "a" })).await;
    assert_eq!(socket.ask("session_close", json!({})).await["code"], "UNAUTHORIZED");
    drop(socket);
    node.clock.advance(100_000);
    node.host.sweep().await.expect("swept");
    assert_eq!(node.record(7).phase, Phase::Open);
    let (status, _) = node.open(&key(5), None).await;
    assert_eq!(status, 403, "a token still takes the depositor");
}

#[tokio::test]
async fn the_depositor_s_close_seals_the_rest_and_everybody_on_the_job_is_told() {
    let node = Node::start(Setup::funded(terms()).answers(None)).await;
    let token = node.token(None).await;
    let (mut watcher, _) = Socket::init(&node, json!({ "job_id": 7, "token": token })).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 7, "token": token })).await;
    let answer = socket.prompt(json!({ "prompt": "x", "max_tokens": 130 })).await;
    assert_eq!((answer.ids.len(), answer.seals.len()), (130, 1));
    let closed = socket.ask("session_close", json!({ "id": "c" })).await;
    assert_eq!(
        (&closed["type"], &closed["id"], &closed["phase"], &closed["sealed"], &closed["checkpoints"]),
        (&json!("session_closed"), &json!("c"), &json!("ending"), &json!(130), &json!(2))
    );
    let told: Vec<_> = [watcher.next().await, watcher.next().await, watcher.next().await].into();
    assert_eq!(told[0]["type"], "checkpoint_sealed");
    assert_eq!((&told[1]["number"], &told[1]["count"]), (&json!(1), &json!(30)));
    assert_eq!((&told[2]["type"], &told[2]["reason"]), (&json!("session_ended"), &json!("by_client")));
    assert!(matches!(node.record(7).phase, Phase::Ending { reason: SessionEnd::ByClient, .. }));
    let (status, refused) = node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &bearer(&token))]).await;
    assert_eq!((status, &refused["error_type"]), (409, &json!("session_over")));
}

#[tokio::test]
async fn sessions_open_over_the_socket_too() {
    let node = Node::start(Setup::funded(terms())).await;
    let mut socket = Socket::open(&node).await;
    let challenge = socket.ask("session_challenge", json!({ "job_id": "7", "id": 1 })).await;
    assert_eq!((&challenge["type"], &challenge["id"]), (&json!("session_challenge"), &json!(1)));
    let ack = socket.ask("session_open", answer(&challenge, &depositor(), None)).await;
    assert_eq!((&ack["type"], &ack["status"], &ack["job_id"]), (&json!("session_init_ack"), &json!("success"), &json!("7")));
    assert!(ack["token"].as_str().is_some_and(|token| token.starts_with("mps_")));
    let answer = socket.prompt(json!({ "prompt": "x", "max_tokens": 3 })).await;
    assert_eq!((&answer.end["billed"], answer.ids.len()), (&json!(true), 3));
    // Old clients repeat it before every prompt.
    for _ in 0..3 {
        assert_eq!(socket.ask("session_init", json!({ "sessionId": "7", "jobId": "7", "id": 2 })).await["status"], "success");
    }
    assert_eq!(node.metered(7), 3);
}

#[tokio::test]
async fn a_depositor_s_idle_session_ends_after_the_socket_s_grace() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = node.token(None).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 7, "token": token })).await;
    socket.prompt(json!({ "prompt": "x", "max_tokens": 3 })).await;
    node.clock.advance(100);
    node.host.sweep().await.expect("swept");
    assert_eq!(node.record(7).phase, Phase::Open, "the socket is open");
    drop(socket);
    node.until("the socket's end is noticed", |node| node.open_sockets() == 0).await;
    node.clock.advance(59);
    node.host.sweep().await.expect("swept");
    assert_eq!(node.record(7).phase, Phase::Open, "within the grace");
    node.clock.advance(2);
    node.host.sweep().await.expect("swept");
    assert!(matches!(node.record(7).phase, Phase::Ending { reason: SessionEnd::Idle, .. }));
    assert_eq!(node.record(7).positions.sealed.0, 3);
}

/// A node that lost its chain's settings starts in log mode, where anybody may name a job: not one that has a depositor.
#[tokio::test]
async fn a_funded_job_is_not_spent_or_ended_by_its_name_where_the_chain_s_settings_are_gone() {
    let node = Node::start(Setup::funded(terms())).await;
    let token = bearer(&node.token(None).await);
    assert_eq!(node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &token)]).await.0, 200);
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::default() }).await;
    let (status, refused) = node.post("/v1/inference", &ask(7, "x", 3)).await;
    assert_eq!((status, &refused["error_type"]), (409, &json!("other_mode")), "a stranger spent a funded job: {refused}");
    let (status, refused) = node.post("/v1/session", &json!({ "job_id": 7 })).await;
    assert_eq!((status, &refused["error_type"]), (409, &json!("other_mode")), "a stranger got a token for a funded job: {refused}");
    assert_eq!((node.metered(7), &node.record(7).phase), (3, &Phase::Open));
}

/// In log mode anybody opens any number of jobs. None of them may later be served for nothing under the number of a funded one.
#[tokio::test]
async fn a_job_that_log_mode_counted_is_not_served_for_nothing_once_a_chain_is_there() {
    let node = Node::start(Setup::default()).await;
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 3)).await.1["billed"], json!(false));
    let (_, opened) = node.post("/v1/session", &json!({ "job_id": 7 })).await;
    let token = bearer(opened["token"].as_str().expect("a token"));
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::funded(terms()) }).await;
    let (status, answer) = node.post_as("/v1/inference", &ask(7, "x", 3), &[("authorization", &token)]).await;
    assert_eq!((status, &answer["error_type"]), (409, &json!("other_mode")), "served for nothing: {answer}");
    assert_eq!(node.metered(7), 3);
}

#[tokio::test]
async fn jobs_of_a_real_chain_are_never_open_to_anybody() {
    for (chain, starts) in [(84_532, false), (31_337, true)] {
        let mut setup = Setup::funded(terms());
        (setup.config.auth, setup.config.chain_id) = (Some(AuthMode::Open), chain);
        assert_eq!(Node::try_start(setup).await.is_ok(), starts, "chain {chain}");
    }
}
