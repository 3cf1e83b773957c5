//! A fault of this program under a turn costs that turn alone.

use milepost_ledger::{AccountId, EndReason, JobId, TurnState};
use serde_json::json;

use crate::node::{Node, Setup, ask, ids, terms};

#[tokio::test]
async fn a_panic_under_a_turn_ends_it_with_its_committed_count_and_frees_the_account() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(200)).await;
    let mut body = ask(7, "hello", 500);
    body["request_id"] = json!("a");
    let (http, url, sent) = (node.http.clone(), node.url("/v1/inference"), body.clone());
    let asked = tokio::spawn(async move { http.post(url).json(&sent).send().await.expect("an answer") });
    node.until("some tokens", |node| node.metered(7) >= 20).await;
    node.clock.panic_when(|| true);
    let response = asked.await.expect("no panic here");
    let status = response.status().as_u16();
    let answer: serde_json::Value = response.json().await.expect("JSON");
    let committed = node.tokens(7);
    assert!((20..500).contains(&committed.len()), "{} tokens", committed.len());
    assert_eq!((status, &answer["error_type"]), (500, &json!("internal_error")), "{answer}");
    assert_eq!(answer["progress"]["tokens_used"], committed.len(), "{answer}");
    let turn = node.db.turn_by_request(AccountId::Job(JobId(7)), "a").expect("readable").expect("begun");
    assert_eq!(turn.state, TurnState::Ended(EndReason::Interrupted));

    let (status, next) = node.post("/v1/inference", &ask(7, "on", 3)).await;
    assert_eq!((status, &next["tokens_used"]), (200, &json!(3)), "{next}");
    let (status, again) = node.post("/v1/inference", &body).await;
    assert_eq!((status, &again["finish_reason"], ids(&again["token_ids"])), (200, &json!("interrupted"), committed), "{again}");
}

#[tokio::test]
async fn a_panic_after_the_end_was_recorded_loses_nothing_of_the_answer() {
    let node = Node::start(Setup::legacy(terms()).answers(None)).await;
    let db = node.db.clone();
    let ended = move || matches!(db.turn(AccountId::Job(JobId(7)), 0), Ok(Some(turn)) if turn.state != TurnState::Active);
    node.clock.panic_when(ended);
    let (status, answer) = node.post("/v1/inference", &ask(7, "hello", 20)).await;
    assert!(node.clock.has_panicked());
    assert_eq!((status, &answer["finish_reason"], ids(&answer["token_ids"])), (200, &json!("length"), node.tokens(7)), "{answer}");
    assert!(answer["receipt"]["signature"].is_string());
    assert_eq!(node.post("/v1/inference", &ask(7, "on", 3)).await.0, 200);
    assert_eq!(node.metered(7), 23);
}

#[tokio::test]
async fn a_panic_in_an_unbilled_request_leaves_no_open_account() {
    let node = Node::start(Setup::default().answers(None)).await;
    let db = node.db.clone();
    node.clock.panic_when(move || db.free_accounts().is_ok_and(|accounts| accounts.iter().any(|account| account.active.is_some())));
    let body = json!({ "model": "scripted", "prompt": "x", "max_tokens": 5 });
    assert_eq!(node.post("/v1/inference", &body).await.0, 500);
    assert!(node.clock.has_panicked());
    let open = node.db.query(|ledger| ledger.accounts().count()).await.expect("readable");
    assert_eq!(open, 0);
}
