//! A host (here: somebody between) that changes what it says is found out, and the session stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use milepost_client::file::{ActiveTurn, Door, SessionFile, VoucherState};
use milepost_client::{ChatRequest, Error, Session, Step, transcript};
use milepost_statement::{TokenCount, TokenSeq};

use crate::rig::{Rig, Setup, ask, in_time, wallet};

/// Changes the digit after the first occurrence of a text, once.
fn once_after(text: &'static str) -> crate::proxy::Lie {
    let done = AtomicBool::new(false);
    Arc::new(move |bytes: &mut [u8]| {
        let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
        let Some(at) = found.map(|at| at + text.len()).filter(|at| *at < bytes.len()) else { return };
        if bytes[at].is_ascii_hexdigit() && !done.swap(true, Ordering::SeqCst) {
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        }
    })
}

async fn lied_to(text: &'static str, tokens: u32) -> (Rig, transcript::Error) {
    let mut rig = Rig::start(Setup::default()).await;
    rig.proxy.lie(Some(once_after(text)));
    let error = in_time(rig.session.chat_ws(ask("truth", tokens))).await.expect_err("it is found out");
    rig.proxy.lie(None);
    let Error::Transcript(error) = error else { panic!("{text}: {error}") };
    (rig, error)
}

#[tokio::test]
async fn a_changed_token_stops_the_session_for_good_and_leaves_only_its_end() {
    let (mut rig, error) = lied_to("\"token_ids\":[", 120).await;
    assert!(matches!(error, transcript::Error::WrongHead { number: 0, .. }), "{error}");
    let refused = in_time(rig.session.chat_ws(ask("again", 5))).await.expect_err("it is stopped");
    assert!(matches!(&refused, Error::Stopped { reason } if reason.contains("checkpoint 0")), "{refused}");
    // Also after a restart of the client; ending it is all that is left.
    let path = rig.path.clone();
    drop(rig.session);
    let mut session = Session::load(wallet(), &path).await.expect("it loads");
    assert!(matches!(in_time(session.chat_ws(ask("again", 5))).await, Err(Error::Stopped { .. })));
    in_time(session.close()).await.expect("it can be ended");
}

#[tokio::test]
async fn a_changed_open_token_is_found_by_the_receipt() {
    let (_, error) = lied_to("\"token_ids\":[", 30).await;
    assert!(matches!(error, transcript::Error::ReceiptOpenDigest { .. }), "{error}");
}

#[tokio::test]
async fn a_changed_head_turns_digest_or_receipt_is_found() {
    let (_, error) = lied_to("\"head\":\"0x", 120).await;
    assert!(matches!(error, transcript::Error::WrongHead { .. } | transcript::Error::CheckpointChanged { .. }), "{error}");
    let (_, error) = lied_to("\"turns_digest\":\"0x", 120).await;
    assert!(matches!(error, transcript::Error::WrongHead { .. } | transcript::Error::CheckpointChanged { .. }), "{error}");
    let (_, error) = lied_to("\"open_digest\":\"0x", 20).await;
    assert!(matches!(error, transcript::Error::ReceiptOpenDigest { .. }), "{error}");
}

/// A host that goes on after the last token asked for would be paid for all it likes: the client countersigns what it keeps.
#[tokio::test]
async fn tokens_that_nobody_asked_for_are_neither_kept_nor_countersigned() {
    let mut rig = Rig::start(Setup { allowance: Some(32), ..Setup::default() }).await;
    let turn = in_time(rig.session.chat_ws(ask("x", 90))).await.expect("an answer");
    assert_eq!(turn.count, TokenCount(90));
    // The same client as it was after ten tokens, had it asked for forty: the host sends it eighty more.
    let path = rig.path.clone();
    drop(rig.session);
    let mut file = SessionFile::open(&path).expect("the file of before");
    file.update(|record| {
        record.ids.truncate(10);
        record.turns.clear();
        let request = ChatRequest { request_id: turn.request_id.clone(), ..ask("x", 40) };
        record.active = Some(ActiveTurn { request, start: TokenSeq::ZERO, door: Door::Socket });
        record.voucher = Some(VoucherState { allowance: TokenCount(32), given: TokenCount::ZERO });
    })
    .expect("stored");
    drop(file);
    let mut session = Session::load(wallet(), &path).await.expect("it loads");
    let error = in_time(session.resume(&mut |_| Step::Continue)).await.expect_err("it is found out");
    assert!(matches!(error, Error::Transcript(transcript::Error::NotAskedFor { asked: TokenCount(40) })), "{error}");
    let record = session.record();
    assert!(record.ids.len() <= 40 && record.voucher.expect("it countersigns").given.0 <= 40, "{} tokens kept", record.ids.len());
}
