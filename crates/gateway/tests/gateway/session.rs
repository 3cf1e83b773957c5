//! Free labels and requests without any session: counted, sealed, forgotten.

use milepost_ledger::{Account, AccountId, JobId, Phase};
use serde_json::{Value, json};

use crate::node::{Node, Setup, ask, terms};

fn label(name: &str, request: &str) -> Value {
    json!({ "model": "scripted", "prompt": "x", "max_tokens": 5, "temperature": 0, "session_id": name, "request_id": request })
}

fn accounts(node: &Node) -> Vec<milepost_ledger::AccountRecord> {
    node.db.accounts().expect("readable")
}

#[tokio::test]
async fn a_label_keeps_its_transcript_while_it_lives_and_begins_another_after() {
    let node = Node::start(Setup::default()).await;
    assert_eq!(node.post("/v1/inference", &label("mine", "a")).await.1["seq"], 0);
    assert_eq!(node.post("/v1/inference", &label("mine", "b")).await.1["seq"], 5);
    assert_eq!(node.post("/v1/inference", &label("mine", "a")).await.1["replayed"], json!(true));
    assert_eq!(node.post("/v1/inference", &label("yours", "a")).await.1["seq"], 0);
    assert_eq!(accounts(&node).len(), 2);
    node.clock.advance(901);
    node.host.sweep().await.expect("swept");
    assert!(accounts(&node).iter().all(|account| account.phase != Phase::Open));
    for _ in 0..2 {
        let (_, anew) = node.post("/v1/inference", &label("mine", "a")).await;
        assert_eq!(anew["seq"], 0);
    }
    assert_eq!(accounts(&node).len(), 3);
    // A restart finds the life that goes on.
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::default() }).await;
    assert_eq!(node.post("/v1/inference", &label("mine", "c")).await.1["seq"], 5);
    assert_eq!(accounts(&node).len(), 3);
}

#[tokio::test]
async fn a_request_without_any_session_leaves_nothing_behind_in_memory() {
    let node = Node::start(Setup::default()).await;
    for _ in 0..5 {
        assert_eq!(node.post("/v1/inference", &ask(Value::Null, "x", 5)).await.0, 200);
    }
    let found = accounts(&node);
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|account| account.phase != Phase::Open && account.positions.sealed.0 == 5));
    let loaded = node.db.query(|ledger| ledger.accounts().count()).await.expect("asked");
    assert_eq!(loaded, 0);
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::default() }).await;
    let loaded = node.db.query(|ledger| ledger.accounts().map(Account::id).collect::<Vec<AccountId>>()).await.expect("asked");
    assert_eq!(loaded, []);
}

#[tokio::test]
async fn what_nobody_paid_for_is_deleted_some_time_after_its_end() {
    let node = Node::start(Setup::legacy(terms())).await;
    assert_eq!(node.post("/v1/inference", &ask(Value::Null, "x", 5)).await.0, 200);
    assert_eq!(node.post("/v1/inference", &label("mine", "a")).await.0, 200);
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 5)).await.0, 200);
    node.clock.advance(901);
    node.host.sweep().await.expect("swept");
    assert_eq!(accounts(&node).len(), 3, "kept for a while");
    // A restart forgets nothing of when they ended.
    let store = node.store.crash().reopen();
    drop(node);
    let node = Node::start(Setup { store, ..Setup::legacy(terms()) }).await;
    node.clock.advance(3_600);
    node.host.sweep().await.expect("swept");
    assert_eq!(accounts(&node).len(), 2, "the request without a label, which ended first");
    node.clock.advance(901);
    node.host.sweep().await.expect("swept");
    assert_eq!(accounts(&node).iter().map(|account| account.id).collect::<Vec<_>>(), [AccountId::Job(JobId(7))]);
    let (_, anew) = node.post("/v1/inference", &label("mine", "a")).await;
    assert_eq!((&anew["seq"], &anew["replayed"], anew["tokens_used"].as_u64()), (&json!(0), &json!(false), Some(5)));
}

#[tokio::test]
async fn those_who_do_not_pay_cannot_fill_the_disk() {
    let mut setup = Setup::legacy(terms()).answers(None);
    setup.config.max_free_bytes = 50_000;
    let node = Node::start(setup).await;
    let (mut served, mut refused) = (0, 0);
    for number in 0..40 {
        // One label after the other, the same one again and again, and none at all.
        let body = match number % 3 {
            0 => label(&format!("label-{number}"), "a"),
            1 => label("mine", &format!("r-{number}")),
            _ => ask(Value::Null, "x", 5),
        };
        let (status, answer) = node.post("/v1/inference", &body).await;
        if status == 200 {
            served += 1;
        } else {
            assert_eq!((status, &answer["error_type"]), (429, &json!("rate_limit_exceeded")), "{answer}");
            assert!(answer["message"].as_str().expect("a message").contains("fund a job"), "{answer}");
            refused += 1;
        }
    }
    assert!(served >= 8 && refused >= 10, "{served} served, {refused} refused");
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 5)).await.0, 200, "who pays is served");
    // What ended makes room long before its retention is over.
    node.clock.advance(901);
    node.host.sweep().await.expect("swept");
    assert_eq!(node.post("/v1/inference", &label("late", "a")).await.0, 200);
    assert!(node.db.check().expect("readable").is_clean());
}
