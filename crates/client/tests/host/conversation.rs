//! Conversations that nobody disturbs.

use milepost_client::file::SessionFile;
use milepost_client::{Error, Event as Seen, Outcome, Session, Step, Wallet};
use milepost_ledger::{AccountId, Event, SessionEnd, UnixSeconds};
use milepost_statement::{TokenCount, TokenSeq};

use crate::rig::{JOB, Rig, Setup, ask, in_time, wallet};

#[tokio::test]
async fn a_conversation_over_both_doors_ends_with_every_token_sealed_and_signed_for() {
    let mut rig = Rig::start(Setup::default()).await;
    let mut seals = 0;
    let outcome = in_time(rig.session.chat_ws_observed(ask("one", 120), &mut |event| {
        seals += u64::from(matches!(event, Seen::Sealed(_)));
        Step::Continue
    }))
    .await;
    let Outcome::Ended(first) = outcome.expect("an answer") else { panic!("nobody dropped it") };
    assert_eq!((first.start, first.count, first.finish_reason.as_str(), seals), (TokenSeq(0), TokenCount(120), "length", 1));
    assert!(!first.text.is_empty());
    let second = in_time(rig.session.chat_http(ask("two", 85))).await.expect("an answer");
    assert_eq!((second.start, second.count, second.finish_reason.as_str()), (TokenSeq(120), TokenCount(85), "length"));
    assert_eq!(rig.session.transcript().sealed(), TokenSeq(200));
    let third = in_time(rig.session.chat_ws(ask("three", 50))).await.expect("an answer");
    assert_eq!(third.start, TokenSeq(205));
    for turn in [&first, &second, &third] {
        let receipt = turn.receipt.as_ref().expect("a receipt");
        assert_eq!(receipt.receipt.sealed_tokens.0 + receipt.receipt.open_tokens.0, turn.start.0 + turn.count.0);
    }
    rig.assert_same();

    in_time(rig.session.close()).await.expect("the host closes");
    assert_eq!((rig.session.transcript().sealed(), rig.session.transcript().end()), (TokenSeq(255), TokenSeq(255)));
    let capture = rig.session.capture();
    assert_eq!((capture.job_id, capture.checkpoints.len(), capture.turns.len()), (JOB, 3, 3));
    assert_eq!(capture.last_receipt, third.receipt);
    let refused = in_time(rig.session.chat_ws(ask("four", 5))).await.expect_err("it is over");
    assert!(matches!(&refused, Error::Host { code, .. } if code == "SESSION_OVER"), "{refused}");
}

#[tokio::test]
async fn the_text_is_the_same_through_both_doors_and_in_pieces() {
    let mut rig = Rig::start(Setup::default()).await;
    let mut pieces = String::new();
    let request = milepost_client::ChatRequest { temperature: 0.0, ..ask("the same", 60) };
    let outcome = in_time(rig.session.chat_ws_observed(request.clone(), &mut |event| {
        if let Seen::Tokens { text, .. } = event {
            pieces.push_str(text);
        }
        Step::Continue
    }))
    .await;
    let Outcome::Ended(socket) = outcome.expect("an answer") else { panic!("nobody dropped it") };
    assert_eq!(socket.text, pieces);
    let http = in_time(rig.session.chat_http(request)).await.expect("an answer");
    assert_eq!((http.text, http.count), (socket.text, socket.count));
    let ids = rig.session.transcript().ids();
    assert_eq!(ids[..60], ids[60..]);
}

#[tokio::test]
async fn a_cancelled_answer_ends_with_a_receipt_over_what_came() {
    let mut rig = Rig::start(Setup::paced(300)).await;
    let mut count = 0;
    let outcome = in_time(rig.session.chat_ws_observed(ask("long", 400), &mut |event| {
        if let Seen::Tokens { ids, .. } = event {
            count += ids.len();
        }
        if count >= 10 { Step::Cancel } else { Step::Continue }
    }))
    .await;
    let Outcome::Ended(turn) = outcome.expect("an answer") else { panic!("nobody dropped it") };
    assert_eq!(turn.finish_reason, "cancelled");
    assert!(turn.receipt.is_some() && turn.count.0 >= 10 && turn.count.0 < 400, "{} tokens", turn.count);
    rig.assert_same();
}

#[tokio::test]
async fn vouchers_keep_pace_with_a_small_allowance_through_both_doors() {
    let mut rig = Rig::start(Setup { allowance: Some(16), ..Setup::default() }).await;
    let socket = in_time(rig.session.chat_ws(ask("one", 150))).await.expect("an answer");
    assert_eq!((socket.count, socket.finish_reason.as_str()), (TokenCount(150), "length"));
    assert_eq!(rig.session.record().voucher.expect("it countersigns").given, TokenCount(150));
    let http = in_time(rig.session.chat_http(ask("two", 60))).await.expect("an answer");
    assert_eq!((http.count, http.finish_reason.as_str()), (TokenCount(60), "length"));
    assert_eq!(rig.node.voucher(), TokenCount(210), "the host holds the voucher of the turn's end");
    rig.assert_same();
}

#[tokio::test]
async fn a_refused_request_leaves_nothing_unfinished() {
    let mut rig = Rig::start(Setup::default()).await;
    let unknown = milepost_client::ChatRequest { model: "gpt-9".into(), ..ask("x", 5) };
    let socket = in_time(rig.session.chat_ws(unknown.clone())).await.expect_err("there is no such model");
    assert!(matches!(&socket, Error::Host { code, .. } if code == "MODEL_NOT_FOUND"), "{socket}");
    let http = in_time(rig.session.chat_http(unknown)).await.expect_err("there is no such model");
    assert!(matches!(&http, Error::Host { status: 404, .. }), "{http}");
    assert_eq!(rig.session.unfinished(), None);
    assert_eq!(in_time(rig.session.chat_ws(ask("y", 5))).await.expect("an answer").count, TokenCount(5));
}

#[tokio::test]
async fn checkpoints_are_fetched_also_by_a_session_whose_token_is_gone_or_void() {
    for token in [None, Some("mps_00".to_owned())] {
        let mut rig = Rig::start(Setup::default()).await;
        in_time(rig.session.chat_ws(ask("one", 120))).await.expect("an answer");
        drop(rig.session);
        let end = Event::EndSession { account: AccountId::Job(JOB), reason: SessionEnd::Idle, at: UnixSeconds(0) };
        rig.node.db.apply(vec![end]).await.expect("the host seals the rest while nobody is there");
        let mut file = SessionFile::open(&rig.path).expect("the session's file");
        file.update(|record| record.access = token).expect("written");
        drop(file);
        let mut session = Session::load(wallet(), &rig.path).await.expect("our own");
        assert_eq!(session.transcript().sealed(), TokenSeq(100));
        in_time(session.sync_checkpoints()).await.expect("the depositor may ask");
        assert_eq!(session.transcript().sealed(), TokenSeq(120));
    }
}

#[tokio::test]
async fn a_session_belongs_to_its_depositor_alone() {
    let rig = Rig::start(Setup::default()).await;
    let path = rig.path.clone();
    drop(rig.session);
    let stranger = Wallet::from_bytes(&[9; 32]).expect("a key");
    let refused = Session::load(stranger, &path).await.expect_err("another wallet");
    assert!(matches!(refused, Error::WrongWallet { .. }), "{refused}");
    let mut session = Session::load(wallet(), &path).await.expect("our own");
    assert!(session.access_token().is_some(), "the token was kept");
    assert_eq!(in_time(session.chat_ws(ask("x", 5))).await.expect("an answer").count, TokenCount(5));
}
