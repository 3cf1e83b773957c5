//! A client that takes tokens and acknowledges none: generation pauses at the allowance, and the host loses at most that.

use std::time::Duration;

use milepost_client::file::SessionFile;
use milepost_client::{Session, Wallet};
use milepost_statement::TokenCount;

use crate::common::ground::{DEPOSITOR, Ground};
use crate::{PRICE, ask, open_vouched};

/// Tokens that may be claimed beyond the last voucher.
const ALLOWANCE: u64 = 120;

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_is_paused_at_the_allowance_and_the_host_is_paid_for_every_token_it_made() {
    let ground = Ground::new(&[("gateway.top_up_seconds", "2")]).await;
    let node = ground.start();
    let url = format!("http://127.0.0.1:{}", ground.port);
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path().join("silent.json");
    let mut session = open_vouched(&ground, &url, ALLOWANCE, &path).await;
    let first = session.chat_ws(ask(90)).await.expect("an answer");
    assert_eq!((first.count.0, session.record().voucher.expect("it countersigns").given.0), (90, 90));

    // From here on it countersigns nothing: as a client that forgot that it should.
    drop(session);
    let mut file = SessionFile::open(&path).expect("the session's file");
    file.update(|record| record.voucher = None).expect("stored");
    drop(file);
    let mut session = Session::load(Wallet::development(DEPOSITOR).expect("a key"), &path).await.expect("it loads");
    let second = session.chat_ws(ask(400)).await.expect("an answer");
    assert_eq!((second.count, second.finish_reason.as_str()), (TokenCount(ALLOWANCE), "escrow"), "the pause is at the allowance exactly");
    let refused = session.chat_ws(ask(10)).await.expect_err("nothing more is made for it");
    assert!(matches!(&refused, milepost_client::Error::Host { code, .. } if code == "ESCROW_EXHAUSTED"), "{refused}");

    // What was made is claimed under the voucher and the allowance: the host is at no loss, and could have lost no more than the latter.
    session.close().await.expect("closed");
    let paid = session.wait_paid(Duration::from_secs(90)).await.expect("paid");
    let made = 90 + ALLOWANCE;
    assert_eq!((paid.tokens.0, paid.host.0 + paid.treasury.0), (made, u128::from(made * PRICE)));
    let books = ground.wait_clean().await;
    println!(
        "figure silent client: 90 countersigned, {ALLOWANCE} more made before the pause of 400 asked for; paid for {} ({} of 10⁻⁶ USDC); at stake were \
         {ALLOWANCE} tokens ({}); books {}",
        paid.tokens,
        made * PRICE,
        ALLOWANCE * PRICE,
        books["verdict"]
    );
    node.kill();
}
