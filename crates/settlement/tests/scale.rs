//! Many jobs through one key.

mod common;

use std::time::{Duration, Instant};

use common::{Done, World};
use milepost_ledger::{Outcome, Purpose, TxState};
use milepost_test_support::SessionOptions;

/// Jobs that claim at once.
const JOBS: usize = 100;
/// Tokens of each.
const TOKENS: usize = 100;

#[tokio::test]
async fn a_hundred_jobs_claim_at_once_through_one_key_without_a_gap() -> Done {
    let mut world = World::new().await?;
    world.config.confirmations = 2;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let job = world.session(SessionOptions::default()).await?;
        world.generate(job, TOKENS).await?;
        jobs.push(job);
    }
    world.chain.set_automine(false).await?;
    let first = world.chain.head().await?.0;
    let begun = Instant::now();
    let settlement = world.start().await?;
    while !jobs.iter().all(|job| world.record(*job).positions.finalized.0 == TOKENS as u64) {
        assert!(begun.elapsed() < 2 * common::PATIENCE, "{:?}", settlement.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.chain.mine(1).await?;
    }
    let (seconds, blocks) = (begun.elapsed().as_secs_f64(), world.chain.head().await?.0 - first);
    settlement.stop().await?;

    let txs = world.db.txs()?;
    let nonces: Vec<_> = txs.iter().map(|tx| tx.id.nonce).collect();
    assert_eq!(nonces, (0..JOBS as u64).collect::<Vec<_>>(), "nonces follow on, one for each claim");
    assert!(txs.iter().all(|tx| matches!(tx.purpose, Purpose::Claim(_)) && tx.attempts.len() == 1));
    let mut gas = 0;
    for tx in &txs {
        let TxState::Final { outcome: Outcome::Done { gas: used }, .. } = &tx.state else { panic!("not one revert: {tx:#?}") };
        gas += used;
    }
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [TOKENS as u64]);
    }
    let tokens = (JOBS * TOKENS) as u64;
    println!("figure {JOBS} claims of {TOKENS} tokens through one key: {} transactions, no gap, all final", txs.len());
    println!(
        "figure {} gas per claim, {} gas per token, one transaction per {} tokens",
        gas / JOBS as u64,
        gas / tokens,
        tokens / txs.len() as u64
    );
    println!("figure {seconds:.1} s from the start to the last finality, {blocks} blocks");
    Ok(())
}

#[tokio::test]
async fn a_second_claim_takes_the_next_nonce_while_the_first_waits() -> Done {
    let world = World::new().await?;
    let jobs = [world.session(SessionOptions::default()).await?, world.session(SessionOptions::default()).await?];
    for job in jobs {
        world.generate(job, 100).await?;
    }
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    world.comes_to(jobs[0], |record| record.positions.submitted.0 == 100).await;
    let both = world.comes_to(jobs[1], |record| record.positions.submitted.0 == 100).await;
    assert!(both, "the second claim was not given the next nonce: {:?}", settlement.status().trouble);
    assert_eq!(world.db.txs()?.iter().map(|tx| tx.id.nonce).collect::<Vec<_>>(), [0, 1]);
    settlement.stop().await?;
    Ok(())
}
