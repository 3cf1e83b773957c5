//! The process ends at every step, with the power, and another one takes over: each token is paid exactly once.

mod common;

use common::{Done, World};
use milepost_ledger::{JobId, Phase};
use milepost_settlement::{Chain, Error, Verdict, reconcile};
use milepost_test_support::SessionOptions;

/// Every durable step, and the one effect outside (`broadcast`: handed to the endpoint, not recorded yet).
const POINTS: [&str; 13] = [
    "broadcast",
    "planned",
    "proving",
    "proved",
    "signed",
    "sent",
    "included",
    "final",
    "closing_seen",
    "paid",
    "retired",
    "belongs",
    "never",
];

#[tokio::test]
async fn an_end_at_any_step_is_continued_and_pays_exactly_once() -> Done {
    let mut world = World::new().await?;
    let mut earned = 0;
    for point in POINTS {
        let job = world.session(SessionOptions { expected_rate: 1_000, ..SessionOptions::default() }).await?;
        // 230 tokens: a claim of 200, then the close and a tail of 30: every kind of transaction.
        world.generate(job, 200).await?;
        let mut first = world.start_until(point).await?;
        if !matches!(point, "planned" | "proving" | "proved" | "signed" | "broadcast" | "sent" | "included" | "final" | "belongs") {
            world.until(job, "first claim final", |record| record.positions.finalized.0 == 200).await;
            world.generate(job, 30).await?;
            world.end(job).await?;
        }
        let ended = if point == "never" {
            world.until_paid(job).await;
            first.stop().await
        } else if point == "belongs" {
            // Written once, at the very first start.
            first.stop().await
        } else {
            tokio::time::timeout(common::PATIENCE, first.ended()).await?
        };
        assert!(matches!((point, &ended), ("never" | "belongs", Ok(())) | (_, Err(Error::Interrupted(_)))), "{point}: {ended:?}");
        world.lose_power()?;
        if matches!(point, "signed" | "broadcast" | "sent") {
            assert!(!world.txs(job).is_empty(), "{point}: a transaction left the process before it was stored");
        }

        let second = world.start().await?;
        if matches!(world.record(job).phase, Phase::Open) {
            world.until(job, "first claim final", |record| record.positions.finalized.0 == 200).await;
            world.generate(job, 30).await?;
            world.end(job).await?;
        }
        let record = world.until_paid(job).await;
        second.stop().await?;
        assert_eq!((record.positions.paid.0, record.positions.written_off.0), (230, 0), "{point}");
        assert_eq!(world.claimed(job).await?.iter().sum::<u64>(), 230, "{point}: the chain's own logs");
        one_nonce_each(&world, job, point);
        earned += 230 * 2_000 * 9 / 10;
        assert_eq!(world.deployed.earned(&world.chain).await?, earned, "{point}: exactly once");
    }
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    Ok(())
}

/// Twice in a row at the steps where a double payment would be made: each restart ends at the same step again.
#[tokio::test]
async fn repeated_ends_at_the_dangerous_steps_pay_exactly_once() -> Done {
    let mut world = World::new().await?;
    let mut earned = 0;
    for point in ["broadcast", "signed", "sent"] {
        let job = world.session(SessionOptions { expected_rate: 1_000, ..SessionOptions::default() }).await?;
        world.generate(job, 100).await?;
        world.end(job).await?;
        let mut ends = 0;
        // A claim and a finalize are signed; each start ends at the first of them that it meets.
        while !matches!(world.record(job).phase, Phase::Paid(_)) {
            let mut settlement = world.start_until(point).await?;
            tokio::select! {
                ended = settlement.ended() => {
                    assert!(matches!(ended, Err(Error::Interrupted(_))), "{ended:?}");
                    ends += 1;
                    assert!(ends < 20, "{point}: no progress over restarts");
                }
                _ = world.until_paid(job) => {}
            }
            drop(settlement);
            world.lose_power()?;
        }
        assert!(ends >= 2, "{point} was met {ends} times");
        assert_eq!(world.claimed(job).await?, [100], "{point}");
        one_nonce_each(&world, job, point);
        earned += 100 * 2_000 * 9 / 10;
        assert_eq!(world.deployed.earned(&world.chain).await?, earned, "{point}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reorganisation_and_an_end_at_once_pay_exactly_once() -> Done {
    let mut world = World::new().await?;
    world.config.confirmations = 3;
    let job = world.session(SessionOptions::default()).await?;
    world.chain.mine(5).await?;
    world.generate(job, 100).await?;
    world.end(job).await?;
    let mut first = world.start_until("reorged").await?;
    world.until(job, "landed", |record| record.positions.landed.0 == 100).await;
    world.chain.reorg(1).await?;
    assert!(matches!(first.ended().await, Err(Error::Interrupted("reorged"))));
    world.lose_power()?;
    let second = world.start().await?;
    world.until(job, "landed again", |record| record.positions.landed.0 == 100).await;
    world.chain.mine(2).await?;
    world.until(job, "final, and finalize signed", |record| record.positions.finalized.0 == 100 && record.finalize.is_some()).await;
    // The payout is included, and taken back before it is final.
    settled_on_chain(&world, job, 3).await?;
    world.chain.reorg(1).await?;
    assert!(!matches!(world.record(job).phase, Phase::Paid(_)), "a payout that is not final is not counted");
    settled_on_chain(&world, job, 3).await?;
    world.chain.mine(2).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.positions.paid.0, 100);
    assert_eq!(world.claimed(job).await?, [100]);
    one_nonce_each(&world, job, "reorged");
    assert_eq!(world.deployed.earned(&world.chain).await?, 100 * 2_000 * 9 / 10);
    second.stop().await?;
    Ok(())
}

/// Waits until the contract has the job in this status (3: completed).
async fn settled_on_chain(world: &World, job: JobId, status: u8) -> Done {
    for _ in 0..6_000 {
        if world.deployed.session(&world.chain, job.0).await?.status == status {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(format!("job {job} never got status {status}: {:#?}", world.txs(job)).into())
}

/// No purpose was ever given a second nonce.
fn one_nonce_each(world: &World, job: JobId, point: &str) {
    let mut purposes: Vec<_> = world.txs(job).into_iter().map(|tx| tx.purpose).collect();
    let all = purposes.len();
    purposes.sort_unstable();
    purposes.dedup();
    assert_eq!(purposes.len(), all, "{point}: a purpose was given a second nonce: {:#?}", world.txs(job));
}
