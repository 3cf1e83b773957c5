//! Free labels and requests without any session: counted, sealed, forgotten.

use milepost_ledger::{Account, AccountId, Phase};
use serde_json::{Value, json};

use crate::node::{Node, Setup, ask};

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
