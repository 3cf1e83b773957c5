//! Many jobs through one key.

mod common;

use std::time::{Duration, Instant};

use common::{Done, World};
use milepost_ledger::{Outcome, TxState};
use milepost_test_support::SessionOptions;

/// Jobs that claim at once.
const JOBS: usize = 100;
/// Claims of a transaction, where they share one: the default.
const TOGETHER: usize = 25;
/// Most gas of a claim that goes alone on our own marketplace: the design's goal.
const ALONE_GAS: u64 = 60_000;
/// The same, for each further one of a transaction.
const FURTHER_GAS: u64 = 25_000;
/// Tokens of each.
const TOKENS: usize = 100;

/// What a hundred claims took.
struct Taken {
    transactions: u64,
    gas: u64,
    blocks: u64,
    seconds: f64,
}

impl Taken {
    fn show(&self, how: &str) {
        let (claims, tokens) = (JOBS as u64, (JOBS * TOKENS) as u64);
        println!("figure {JOBS} claims of {TOKENS} tokens through one key, {how}: {} transactions, no gap, all final", self.transactions);
        println!(
            "figure {how}: {} gas per claim, {} gas per token, one transaction per {} tokens",
            self.gas / claims,
            self.gas / tokens,
            tokens / self.transactions
        );
        println!("figure {how}: {:.1} s from the start to the last finality, {} blocks", self.seconds, self.blocks);
    }
}

/// A hundred jobs claim at once through one key, with no more than so many claims in a transaction.
async fn claim(max_batch: usize) -> Result<Taken, Box<dyn std::error::Error>> {
    let mut world = World::new().await?;
    world.config.confirmations = 2;
    world.config.max_batch = max_batch as u64;
    // Proofs come two at a time here; claims wait for a full transaction.
    world.config.claim_seconds = 600;
    world.config.batch_wait_seconds = if max_batch > 1 { 300 } else { 0 };
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
    assert_eq!(nonces, (0..JOBS.div_ceil(max_batch) as u64).collect::<Vec<_>>(), "nonces follow on, one for each {max_batch} claims");
    assert!(txs.iter().all(|tx| tx.purpose.claims().len() == max_batch && tx.attempts.len() == 1));
    let mut gas = 0;
    for tx in &txs {
        let TxState::Final { outcome: Outcome::Done { gas: used }, .. } = &tx.state else { panic!("not one revert: {tx:#?}") };
        gas += used;
    }
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [TOKENS as u64]);
    }
    Ok(Taken { transactions: txs.len() as u64, gas, blocks, seconds })
}

#[tokio::test]
async fn a_hundred_jobs_claim_at_once_through_one_key_without_a_gap() -> Done {
    let alone = claim(1).await?;
    alone.show("each claim alone");
    let together = claim(TOGETHER).await?;
    together.show(&format!("{TOGETHER} claims in a transaction"));
    let single = alone.gas / JOBS as u64;
    let further = (together.gas - together.transactions * single) / (JOBS as u64 - together.transactions);
    println!(
        "figure a claim alone takes {single} gas (goal: at most {ALONE_GAS}), each further one of a transaction {further} (goal: at most {FURTHER_GAS})"
    );
    assert!(single <= ALONE_GAS && further <= FURTHER_GAS, "{single} gas alone, {further} for each further claim");
    Ok(())
}

#[tokio::test]
async fn a_second_claim_takes_the_next_nonce_while_the_first_waits() -> Done {
    let mut world = World::new().await?;
    world.config.max_batch = 1;
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
