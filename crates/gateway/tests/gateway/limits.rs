//! Nothing is generated that could not be paid, and free work is bounded.

use milepost_ledger::{AccountId, Event, JobId, TokenAmount, UnixSeconds};
use serde_json::json;

use crate::node::{Node, START, Setup, ask, bearer, key, terms, text, vouched, voucher};
use crate::socket::{Answer, Socket};

#[tokio::test]
async fn generation_ends_where_the_deposit_does() {
    let mut small = terms();
    small.deposit = TokenAmount(25);
    let node = Node::start(Setup::legacy(small).answers(None)).await;
    let (status, answer) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((status, &answer["finish_reason"], &answer["tokens_used"], &answer["left"]), (200, &json!("escrow"), &json!(25), &json!(0)));
    let (status, refused) = node.post("/v1/inference", &ask(7, "y", 5)).await;
    assert_eq!((status, &refused["error_type"], &refused["details"]["bound"]), (402, &json!("escrow_exhausted"), &json!("deposit")));
    assert_eq!((node.metered(7), node.record(7).turns), (25, 1));
    let chat = node.post("/v1/chat/completions", &crate::node::ask_chat(7, "y", 5)).await;
    assert_eq!((chat.0, &chat.1["error"]["type"]), (402, &json!("insufficient_quota")));
}

#[tokio::test]
async fn an_answer_that_fits_the_deposit_exactly_ends_by_itself() {
    let mut small = terms();
    small.deposit = TokenAmount(25);
    let node = Node::start(Setup::legacy(small).answers(24)).await;
    let (_, answer) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((&answer["finish_reason"], &answer["tokens_used"], &answer["left"]), (&json!("stop"), &json!(25), &json!(0)));
}

#[tokio::test]
async fn nothing_is_generated_so_late_that_it_could_not_be_claimed() {
    let mut late = terms();
    late.started = UnixSeconds(START - 86_400);
    let node = Node::start(Setup::legacy(late)).await;
    let (status, refused) = node.post("/v1/inference", &ask(7, "x", 5)).await;
    assert_eq!((status, &refused["details"]["bound"]), (402, &json!("deadline")));
}

#[tokio::test]
async fn a_turn_waits_for_the_client_s_voucher_and_goes_on_with_it() {
    let node = Node::start(Setup::funded(vouched(30)).answers(None)).await;
    let token = node.token(None).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 7, "token": token })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 100 } })).await;
    node.until("the allowance is used up", |node| node.metered(7) == 30).await;
    let mut answer = Answer::default();
    while answer.ids.len() < 30 {
        assert!(!answer.take(socket.next().await));
    }
    for (wrong, words) in [(voucher(&key(5), 20), "signed by"), (voucher(&crate::node::depositor(), 31), "only 30")] {
        socket.send("voucher", wrong).await;
        let error = socket.next().await;
        assert_eq!(error["code"], "INVALID_VOUCHER");
        assert!(error["message"].as_str().expect("text").contains(words), "{error}");
    }
    socket.send("voucher", voucher(&crate::node::depositor(), 20)).await;
    assert_eq!(socket.next().await["type"], "voucher_ack");
    node.until("twenty more", |node| node.metered(7) == 50).await;
    let (status, countersigned) =
        node.post_as("/v1/session/voucher", &voucher(&crate::node::depositor(), 50), &[("authorization", &bearer(&token))]).await;
    assert_eq!((status, &countersigned["tokens"]), (200, &json!(50)));
    node.until("thirty more", |node| node.metered(7) == 80).await;
    let (status, _) =
        node.post_as("/v1/session/voucher", &voucher(&crate::node::depositor(), 80), &[("authorization", &bearer(&token))]).await;
    assert_eq!(status, 200);
    loop {
        let frame = socket.next().await;
        if answer.take(frame) {
            break;
        }
    }
    assert_eq!((answer.ids.len(), &answer.end["finish_reason"]), (100, &json!("length")));
}

/// The contract recovers signers by `ecrecover`, which knows v as 27 and 28 alone: a voucher kept with another v would have every
/// claim that carries it refused.
#[tokio::test]
async fn a_voucher_is_kept_in_the_form_that_the_contract_reads() {
    let node = Node::start(Setup::funded(vouched(30)).answers(None)).await;
    let token = bearer(&node.token(None).await);
    let auth = [("authorization", token.as_str())];
    assert_eq!(node.post_as("/v1/inference", &ask(7, "x", 20), &auth).await.0, 200);
    for tokens in [10, 20] {
        let mut signed = voucher(&crate::node::depositor(), tokens);
        let mut signature = hex::decode(&signed["signature"].as_str().expect("text")[2..]).expect("hexadecimal");
        let as_the_contract_reads_it = signature.clone();
        signature[64] -= 27;
        signed["signature"] = json!(text(&signature));
        assert_eq!(node.post_as("/v1/session/voucher", &signed, &auth).await.0, 200);
        let record = node.record(7);
        assert_eq!((record.voucher.0, record.voucher_signature), (tokens, as_the_contract_reads_it));
    }
}

#[tokio::test]
async fn a_turn_whose_voucher_never_comes_ends_as_escrow() {
    let mut setup = Setup::legacy(vouched(30)).answers(None);
    setup.config.top_up_seconds = 0;
    let node = Node::start(setup).await;
    let (_, answer) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((&answer["finish_reason"], &answer["tokens_used"], &answer["left"]), (&json!("escrow"), &json!(30), &json!(0)));
    let (status, refused) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((status, &refused["details"]["bound"]), (402, &json!("voucher")));
}

#[tokio::test]
async fn what_is_at_risk_is_bounded_where_the_operator_says_so() {
    let mut setup = Setup::legacy(terms()).answers(None);
    (setup.config.max_at_risk, setup.config.top_up_seconds) = (Some(TokenAmount(40)), 0);
    let node = Node::start(setup).await;
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 100)).await.1["tokens_used"], 40);
    let (status, refused) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((status, &refused["error_type"]), (429, &json!("rate_limit_exceeded")));
}

#[tokio::test]
async fn jobs_that_share_a_prover_leave_it_no_more_than_a_closing_window_has_time_for() {
    let mut setup = Setup::legacy(terms()).answers(None);
    setup.jobs = Some(vec![(7, terms()), (8, terms())]);
    setup.config.top_up_seconds = 0;
    // 3,600 s of window less 900 of reserve are three quarters of an hour's proof: 300 tokens.
    (setup.config.max_claim_tokens, setup.config.proof_seconds) = (Some(400), Some(3_600));
    let node = Node::start(setup).await;
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 600)).await.1["tokens_used"], 300);
    let (status, refused) = node.post("/v1/inference", &ask(7, "x", 100)).await;
    assert_eq!((status, &refused["error_type"]), (429, &json!("rate_limit_exceeded")));
    assert!(refused["message"].as_str().is_some_and(|message| message.contains("Proving")), "{refused}");
    // The prover is taken; another job may still run for one claim.
    node.until("the first job's part is counted", |node| node.metered(7) == 300).await;
    assert_eq!(node.post("/v1/inference", &ask(8, "x", 600)).await.1["tokens_used"], 100);
    // A job that is stopped is not proven: its part goes to others.
    let stop = Event::Halt { account: AccountId::Job(JobId(7)), reason: "for a test".to_owned() };
    node.db.apply(vec![stop]).await.expect("stopped");
    node.host.sweep().await.expect("swept");
    // Heard of a moment later; until then the request is refused and costs nothing.
    let mut answer = node.post("/v1/inference", &ask(8, "x", 600)).await;
    for _ in 0..500 {
        if answer.0 != 429 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        answer = node.post("/v1/inference", &ask(8, "x", 600)).await;
    }
    assert_eq!(answer.1["tokens_used"], 200);
}

#[tokio::test]
async fn two_clients_on_one_job_take_turns_or_are_told_to_wait() {
    let node = Node::start(Setup::legacy(terms()).answers(None).paced(400)).await;
    let (one, two) = (ask(7, "a", 40), ask(7, "b", 40));
    let (first, second) = tokio::join!(node.post("/v1/inference", &one), node.post("/v1/inference", &two));
    assert_eq!((first.0, second.0), (200, 200));
    let mut starts = [first.1["seq"].as_u64(), second.1["seq"].as_u64()];
    starts.sort_unstable();
    assert_eq!((starts, node.metered(7)), ([Some(0), Some(40)], 80));

    let mut setup = Setup::legacy(terms()).answers(None);
    setup.config.turn_wait_seconds = 0;
    let node = Node::start(setup).await;
    let (mut socket, _) = Socket::init(&node, json!({ "job_id": 7, "acks": true })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 500 } })).await;
    node.until("it is paused", |node| node.metered(7) == 64).await;
    let (status, refused) = node.post("/v1/inference", &ask(7, "y", 5)).await;
    assert_eq!((status, &refused["error_type"]), (409, &json!("busy")));
    assert_eq!(node.post("/v1/inference", &ask(7, "y", 5)).await.0, 409);
}

#[tokio::test]
async fn free_prefill_is_bounded_by_what_is_paid_for() {
    let mut setup = Setup::legacy(terms()).answers(4);
    (setup.config.prefill_grace, setup.config.prefill_ratio) = (100, 10);
    let node = Node::start(setup).await;
    let mut refused = None;
    for round in 0..40 {
        let (status, answer) = node.post("/v1/inference", &ask(7, &format!("{round} {}", "word ".repeat(60)), 1)).await;
        if status != 200 {
            refused = Some((status, answer));
            break;
        }
    }
    let (status, answer) = refused.expect("refused at some time");
    assert_eq!((status, &answer["error_type"], &answer["details"]["retry_after"]), (429, &json!("rate_limit_exceeded"), &json!(60)));
    assert!(node.metered(7) < 40);
}

#[tokio::test]
async fn a_host_may_refuse_what_nobody_pays_for() {
    let mut setup = Setup::legacy(terms());
    setup.config.unbilled = false;
    let node = Node::start(setup).await;
    for body in
        [ask(serde_json::Value::Null, "x", 5), json!({ "model": "scripted", "prompt": "x", "max_tokens": 5, "session_id": "TEST_SESSION" })]
    {
        let (status, refused) = node.post("/v1/inference", &body).await;
        assert_eq!((status, &refused["error_type"]), (402, &json!("payment_required")));
    }
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 5)).await.0, 200);
}

#[tokio::test]
async fn those_who_do_not_pay_cannot_crowd_out_those_who_do() {
    let mut setup = Setup::legacy(terms()).answers(None);
    (setup.config.max_unbilled_running, setup.config.max_free_accounts) = (1, 1);
    let node = Node::start(setup).await;
    let (mut socket, _) = Socket::init(&node, json!({ "session_id": "free", "acks": true })).await;
    socket.send("inference", json!({ "request": { "prompt": "x", "max_tokens": 500 } })).await;
    assert_eq!(socket.next().await["type"], "stream_chunk");
    let label = |name: &str| json!({ "model": "scripted", "prompt": "x", "max_tokens": 5, "session_id": name });
    let (status, refused) = node.post("/v1/inference", &ask(serde_json::Value::Null, "x", 5)).await;
    assert_eq!((status, &refused["error_type"]), (429, &json!("rate_limit_exceeded")));
    let loaded = node.db.query(|ledger| ledger.accounts().count()).await.expect("asked");
    assert_eq!(loaded, 1, "a refused request opens no account");
    assert_eq!(node.post("/v1/inference", &label("another")).await.0, 429, "as many labels as may be");
    assert_eq!(node.post("/v1/inference", &ask(7, "x", 5)).await.0, 200);
}
