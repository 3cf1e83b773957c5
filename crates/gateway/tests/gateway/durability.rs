//! Durable before delivered: at every write of a request, whatever the disk does, the client has nothing that is not on it.

use milepost_gateway::ServeError;
use milepost_ledger::{AccountId, EndReason, JobId, TokenSeq, TurnState};
use milepost_store::{Fault, FaultPlan, Moment, Survival};
use serde_json::{Value, json};

use crate::node::{Node, Setup, ask, faulty, ids, terms};

/// One client: 7 tokens of job 7, streamed; what it has got when the answer ends or breaks off.
async fn delivered(node: &Node) -> Vec<u32> {
    let mut body = ask(7, "hello", 7);
    body["stream"] = json!(true);
    let Ok(response) = node.http.post(node.url("/v1/inference")).json(&body).send().await else { return Vec::new() };
    let text = response.text().await.unwrap_or_default();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["token_ids"].is_array()).flat_map(|event| ids(&event["token_ids"])).collect()
}

fn setup(store: milepost_store::Memory) -> Setup {
    let mut setup = Setup { store, ..Setup::legacy(terms()) }.answers(None).paced(500);
    setup.config.checkpoint_threshold = 3;
    setup
}

#[tokio::test]
async fn whatever_write_fails_the_client_has_nothing_that_is_not_durable() {
    let whole = Node::start(setup(crate::node::store())).await;
    let before = whole.store.operations();
    assert_eq!(delivered(&whole).await.len(), 7);
    let last = whole.store.operations();
    assert!(last - before >= 6, "open, start, tokens, end");
    let (mut broke, mut kept) = (0, 0);
    for operation in before..last {
        for fault in [
            Fault::SyncError,
            Fault::NoSpace,
            Fault::ShortWrite,
            Fault::PowerLoss(Moment::Before),
            Fault::PowerLoss(Moment::During),
            Fault::PowerLoss(Moment::After),
        ] {
            let plan = FaultPlan::none().at(operation, fault).surviving(Survival::Nothing, operation);
            let mut node = Node::start(setup(faulty(plan))).await;
            let have = delivered(&node).await;
            let hit = node.store.operations() > operation;
            if hit {
                let ended = node.ended().await;
                assert!(matches!(ended, Err(ServeError::Ledger(_))), "{fault:?} at {operation}: the host must stop, not {ended:?}");
                broke += 1;
            }
            let store = node.store.crash().reopen();
            drop(node);
            let after = Node::start(setup(store)).await;
            let durable = after.tokens(7);
            assert!(
                durable.starts_with(&have),
                "a token was delivered that is not durable: {fault:?} at {operation}, {have:?} against {durable:?}"
            );
            let turns = after.db.account(AccountId::Job(JobId(7))).expect("readable").map_or(0, |record| record.turns);
            for number in 0..turns {
                let turn = after.db.turn(AccountId::Job(JobId(7)), number).expect("readable").expect("begun");
                assert_ne!(turn.state, TurnState::Active, "{fault:?} at {operation}: recovery ends what was cut");
                assert_eq!(turn.end, TokenSeq(durable.len() as u64));
            }
            kept += have.len();
            // Nothing is stuck: the job is served on, from where it stands.
            assert_eq!(after.post("/v1/inference", &ask(7, "on", 2)).await.0, 200, "{fault:?} at {operation}");
            assert_eq!(after.metered(7), durable.len() as u64 + 2);
        }
    }
    assert!(broke >= 30 && kept > 0, "{broke} faults hit, {kept} tokens delivered beside them");
}

#[tokio::test]
async fn a_turn_cut_by_the_power_ends_as_interrupted_and_its_tail_is_collectable() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(200)).await;
    let mut body = ask(7, "hello", 500);
    (body["request_id"], body["stream"]) = (json!("a"), json!(true));
    let mut response = node.send("/v1/inference", &body, &[]).await;
    let first = response.chunk().await.expect("readable").expect("a chunk");
    assert!(first.starts_with(b"data: "));
    node.until("some tokens", |node| node.metered(7) >= 20).await;
    let store = node.store.crash().reopen();
    drop(node);

    let node = Node::start(Setup { store, ..Setup::legacy(terms()) }.answers(None)).await;
    let durable = node.tokens(7);
    assert!(durable.len() >= 20);
    let turn = node.db.turn_by_request(AccountId::Job(JobId(7)), "a").expect("readable").expect("begun");
    assert_eq!(turn.state, TurnState::Ended(EndReason::Interrupted));
    let (status, tail) = node.post("/v1/inference", &json!({ "request_id": "a", "resume_from": 5, "job_id": 7 })).await;
    assert_eq!((status, ids(&tail["token_ids"]), &tail["finish_reason"]), (200, durable[5..].to_vec(), &json!("interrupted")));
    assert!(tail["receipt"]["signature"].is_string(), "a receipt over what is there now");
    assert_eq!(node.host.recover().await.expect("again"), 0);
    assert_eq!(node.metered(7), durable.len() as u64, "collecting bills nothing");
}

#[tokio::test]
async fn a_host_whose_ledger_has_stopped_says_so_and_serves_nothing() {
    let probe = Node::start(setup(crate::node::store())).await;
    let before = probe.store.operations();
    drop(probe);
    let mut node = Node::start(setup(faulty(FaultPlan::none().at(before, Fault::NoSpace)))).await;
    let (status, answer) = node.post("/v1/inference", &ask(7, "hello", 7)).await;
    assert_eq!((status, &answer["error_type"]), (500, &json!("storage_failed")));
    assert!(matches!(node.ended().await, Err(ServeError::Ledger(reason)) if reason.contains("ENOSPC")));
}
