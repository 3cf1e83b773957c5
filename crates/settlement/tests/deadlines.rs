//! Claims whose last moment draws near are raised sooner and by more, up to the ceiling, and so is whatever stands before them in
//! the key's queue.

mod common;

use common::{Done, World, eventually};
use milepost_ledger::{JobId, Tx};
use milepost_settlement::Handle;
use milepost_test_support::{Fault, FaultProxy, Script, SessionOptions};

/// Wei of one gwei.
const GWEI: u128 = 1_000_000_000;
/// The ceiling of these tests, in gwei.
const CEILING: u64 = 20;
/// Looks at the chain in which nothing may happen while the deadline is far: a few seconds' worth.
const LOOKS: u64 = 100;
/// Seconds before the deadline at which these tests stand when it has become near.
const LEFT: u64 = 22;

/// A world in which no endpoint takes a transaction, and a key that raises what waits after an hour.
async fn deaf() -> Result<(World, FaultProxy), Box<dyn std::error::Error>> {
    let mut world = World::new().await?;
    let proxy = FaultProxy::to(world.chain.url()).await?;
    world.config.rpc_url = proxy.url().into();
    (world.config.bump_seconds, world.config.stuck_seconds) = (3_600, 3_600);
    world.config.claim_seconds = 300;
    world.config.max_fee_gwei = CEILING;
    proxy.script(Script::always("eth_sendRawTransaction", Fault::DropBefore));
    Ok((world, proxy))
}

/// A session of 130 tokens that its depositor closes: the claim's last moment is the end of the window.
async fn closing(world: &World) -> Result<JobId, Box<dyn std::error::Error>> {
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 130).await?;
    world.deployed.depositor_closes(&world.chain, job.0).await?;
    Ok(job)
}

async fn signed(world: &World, job: JobId, least: usize) -> Tx {
    eventually("signed", || match world.txs(job).first() {
        Some(tx) if tx.attempts.len() >= least => Ok(tx.clone()),
        other => Err(format!("fewer than {least} forms: {other:#?}")),
    })
    .await
}

/// The chain is looked at so many times more.
async fn looks(proxy: &FaultProxy) {
    let enough = proxy.heard("eth_getTransactionReceipt") + LOOKS;
    eventually("looked at", || match proxy.heard("eth_getTransactionReceipt") {
        heard if heard >= enough => Ok(()),
        heard => Err(heard.to_string()),
    })
    .await;
}

/// Lets time pass until [`LEFT`] seconds before the end of the job's window.
async fn late(world: &World, job: JobId) -> Done {
    let until = world.until(job, "closing seen", |record| record.claim_until.is_some()).await.claim_until.expect("closing").0;
    world.chain.set_time(until - LEFT).await?;
    Ok(())
}

/// The line is mended: the claims land and the session is paid.
async fn paid(world: &World, proxy: &FaultProxy, job: JobId, settlement: Handle) -> Done {
    proxy.clear_scripts();
    world.until_paid(job).await;
    assert_eq!(world.claimed(job).await?, [130], "claimed before its last moment");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_claim_near_its_deadline_is_raised_faster_and_by_more_up_to_the_ceiling() -> Done {
    let (world, proxy) = deaf().await?;
    let job = closing(&world).await?;
    let settlement = world.start().await?;
    signed(&world, job, 1).await;
    looks(&proxy).await;
    assert_eq!(world.txs(job)[0].attempts.len(), 1, "an hour's pause, and the deadline is far");

    late(&world, job).await?;
    let tx = signed(&world, job, 4).await;
    assert_eq!(world.txs(job).len(), 1, "one claim, one nonce");
    for pair in tx.attempts.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert!(after.max_fee <= u128::from(CEILING) * GWEI, "above the ceiling");
        assert!(after.max_fee * 100 >= before.max_fee * 150 || after.max_fee == u128::from(CEILING) * GWEI, "raised by half: {pair:#?}");
        assert!(after.max_tip * 100 >= before.max_tip * 110, "both fields: {pair:#?}");
    }
    paid(&world, &proxy, job, settlement).await
}

#[tokio::test]
async fn what_stands_before_a_claim_near_its_deadline_is_raised_for_it() -> Done {
    let (world, proxy) = deaf().await?;
    // A claim of a running session has all the time of the world.
    let first = world.session(SessionOptions { max_duration: 80_000, timeout_seconds: 70_000, ..SessionOptions::default() }).await?;
    world.generate(first, 100).await?;
    let settlement = world.start().await?;
    signed(&world, first, 1).await;
    let second = closing(&world).await?;
    let behind = signed(&world, second, 1).await;
    looks(&proxy).await;
    assert_eq!(world.txs(first)[0].attempts.len(), 1, "nobody is in a hurry");

    late(&world, second).await?;
    let before = signed(&world, first, 2).await;
    assert!(before.id.nonce < behind.id.nonce);
    assert_eq!(world.txs(second)[0].attempts.len(), 1, "it cannot be mined before the other: its own fee is not what is short");
    paid(&world, &proxy, second, settlement).await
}

#[tokio::test]
async fn claims_that_share_a_transaction_are_raised_for_the_most_urgent_of_them() -> Done {
    let (mut world, proxy) = deaf().await?;
    world.config.max_batch = 2;
    world.config.batch_wait_seconds = 150;
    let first = world.session(SessionOptions { max_duration: 80_000, timeout_seconds: 70_000, ..SessionOptions::default() }).await?;
    world.generate(first, 100).await?;
    let second = closing(&world).await?;
    let settlement = world.start().await?;
    let tx = signed(&world, first, 1).await;
    assert!(tx.purpose.concerns(second), "{tx:#?}");
    looks(&proxy).await;
    assert_eq!(world.txs(first)[0].attempts.len(), 1, "nobody is in a hurry");

    late(&world, second).await?;
    let tx = signed(&world, first, 3).await;
    assert!(
        tx.attempts.windows(2).all(|pair| pair[1].max_fee * 100 >= pair[0].max_fee * 150 || pair[1].max_fee == u128::from(CEILING) * GWEI)
    );
    paid(&world, &proxy, second, settlement).await?;
    assert_eq!(world.claimed(first).await?, [100]);
    Ok(())
}
