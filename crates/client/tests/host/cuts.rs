//! Lost connections, killed clients, killed hosts: nothing is lost, nothing comes twice.

use milepost_client::{Event, Outcome, Session, Step};
use milepost_statement::{TokenCount, TokenSeq};

use crate::rig::{Node, Rig, Setup, ask, in_time, wallet};

#[tokio::test]
async fn a_cut_stream_is_taken_up_again_without_losing_or_repeating_a_token() {
    let mut rig = Rig::start(Setup::paced(400)).await;
    let proxy = rig.proxy.clone();
    let (mut reconnects, mut seen, mut cut) = (0, Vec::new(), false);
    let outcome = in_time(rig.session.chat_ws_observed(ask("long", 300), &mut |event| {
        match event {
            Event::Tokens { ids, .. } => seen.extend_from_slice(ids),
            Event::Reconnecting { .. } => reconnects += 1,
            _ => {}
        }
        if seen.len() >= 30 && !cut {
            cut = true;
            proxy.cut();
        }
        Step::Continue
    }))
    .await;
    let Outcome::Ended(turn) = outcome.expect("it goes on") else { panic!("nobody dropped it") };
    assert!(reconnects >= 1 && turn.count.0 >= 30, "{reconnects} reconnects, {} tokens", turn.count);
    assert!(turn.receipt.is_some());
    assert_eq!(seen, rig.node.tokens(), "each token was shown once, in order");
    rig.assert_same();
    let next = in_time(rig.session.chat_ws(ask("next", 20))).await.expect("an answer");
    assert_eq!((next.start, next.count), (TokenSeq(turn.count.0), TokenCount(20)));
}

#[tokio::test]
async fn a_cut_answer_of_the_openai_door_is_asked_for_again_under_its_key() {
    let mut rig = Rig::start(Setup::paced(400)).await;
    let proxy = rig.proxy.clone();
    let (mut reconnects, mut seen, mut cut) = (0, Vec::new(), false);
    let outcome = in_time(rig.session.chat_http_observed(ask("long", 300), &mut |event| {
        match event {
            Event::Tokens { ids, .. } => seen.extend_from_slice(ids),
            Event::Reconnecting { .. } => reconnects += 1,
            _ => {}
        }
        if seen.len() >= 30 && !cut {
            cut = true;
            proxy.cut();
        }
        Step::Continue
    }))
    .await;
    let Outcome::Ended(turn) = outcome.expect("it goes on") else { panic!("nobody dropped it") };
    assert!(reconnects >= 1 && turn.receipt.is_some());
    assert_eq!(seen, rig.node.tokens(), "each token was shown once, in order");
    rig.assert_same();
}

#[tokio::test]
async fn a_client_that_ended_in_mid_stream_collects_the_rest_from_its_file() {
    let mut rig = Rig::start(Setup::paced(400)).await;
    let mut count = 0;
    let outcome = in_time(rig.session.chat_ws_observed(ask("long", 200), &mut |event| {
        if let Event::Tokens { ids, .. } = event {
            count += ids.len();
        }
        if count >= 20 { Step::Disconnect } else { Step::Continue }
    }))
    .await;
    let Outcome::Detached { request_id } = outcome.expect("it was dropped") else { panic!("it was dropped") };
    assert_eq!(rig.session.unfinished(), Some(request_id.as_str()));
    let refused = in_time(rig.session.chat_ws(ask("another", 5))).await.expect_err("one at a time");
    assert!(matches!(refused, milepost_client::Error::TurnOpen { .. }), "{refused}");

    // The process ends here: only the file is left.
    let path = rig.path.clone();
    let held = rig.session.record().ids.len();
    drop(rig.session);
    rig.session = Session::load(wallet(), &path).await.expect("it loads");
    assert_eq!(rig.session.transcript().end(), TokenSeq(held as u64));
    let resumed = in_time(rig.session.resume(&mut |_| Step::Continue)).await.expect("it goes on");
    let Some(Outcome::Ended(turn)) = resumed else { panic!("it was unfinished") };
    assert_eq!((turn.request_id, turn.start), (request_id, TokenSeq(0)));
    assert!(turn.receipt.is_some());
    rig.assert_same();
    assert!(in_time(rig.session.resume(&mut |_| Step::Continue)).await.expect("nothing to do").is_none());
}

#[tokio::test]
async fn a_host_that_loses_power_in_mid_stream_still_has_what_it_delivered() {
    let mut rig = Rig::start(Setup::paced(400)).await;
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let mut tell = Some(tell);
    let proxy = rig.proxy.clone();
    let node = std::mem::replace(
        &mut rig.node,
        Node::start(milepost_store::Memory::new(milepost_ledger_db::LedgerDb::tables()), Setup::default().engine, None).await,
    );
    let restart = tokio::spawn(async move {
        told.await.expect("enough tokens");
        let store = node.store.crash().reopen();
        drop(node);
        let again = Node::start(store, Setup::default().engine, None).await;
        proxy.point_to(again.address);
        proxy.cut();
        again
    });
    let mut count = 0;
    let outcome = in_time(rig.session.chat_ws_observed(ask("storm", 300), &mut |event| {
        if let Event::Tokens { ids, .. } = event {
            count += ids.len();
        }
        if count >= 30
            && let Some(tell) = tell.take()
        {
            tell.send(()).expect("somebody waits");
        }
        Step::Continue
    }))
    .await;
    let Outcome::Ended(turn) = outcome.expect("it goes on") else { panic!("nobody dropped it") };
    rig.node = restart.await.expect("it restarted");
    assert_eq!(turn.finish_reason, "interrupted");
    assert!(turn.count.0 >= 30 && turn.receipt.is_some());
    rig.assert_same();
    let next = in_time(rig.session.chat_ws(ask("calm", 80))).await.expect("an answer");
    assert_eq!(next.start, TokenSeq(turn.count.0));
    in_time(rig.session.close()).await.expect("the host closes");
    assert_eq!(rig.session.transcript().sealed(), rig.session.transcript().end());
    rig.assert_same();
}

#[tokio::test]
async fn a_host_that_is_gone_is_not_waited_for_when_the_observer_does_not_want_to() {
    let mut rig = Rig::start(Setup::default()).await;
    rig.session.authenticate(Some("http://127.0.0.1:1")).await.expect_err("nobody is there");
    let outcome = in_time(rig.session.chat_ws_observed(ask("x", 5), &mut |event| match event {
        Event::Reconnecting { .. } => Step::Disconnect,
        _ => Step::Continue,
    }))
    .await;
    assert!(matches!(outcome, Ok(Outcome::Detached { .. })));
    // Back at its place, the same request is answered, once.
    let url = rig.proxy.url.clone();
    rig.session.authenticate(Some(&url)).await.expect("it is back");
    let resumed = in_time(rig.session.resume(&mut |_| Step::Continue)).await.expect("it goes on");
    assert!(matches!(resumed, Some(Outcome::Ended(turn)) if turn.count == TokenCount(5)));
    rig.assert_same();
}

#[tokio::test]
async fn an_engine_that_fails_in_mid_stream_ends_the_turn_with_a_receipt_over_what_came() {
    for http in [false, true] {
        let mut setup = Setup::default();
        setup.engine.fault = Some(milepost_inference::scripted::Fault::PanicAt(30));
        let mut rig = Rig::start(setup).await;
        let asked = ask("long", 100);
        let turn = if http { in_time(rig.session.chat_http(asked)).await } else { in_time(rig.session.chat_ws(asked)).await };
        let turn = turn.expect("it ends");
        assert_eq!(turn.finish_reason, "engine_failed", "http: {http}");
        assert!(turn.count.0 < 30 && turn.receipt.is_some(), "{} tokens", turn.count);
        rig.assert_same();
        // The engine was made anew.
        assert_eq!(in_time(rig.session.chat_ws(ask("next", 10))).await.expect("an answer").count, TokenCount(10));
    }
}
