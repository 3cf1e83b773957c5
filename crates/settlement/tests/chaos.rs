//! Everything goes wrong at once, by seed: faults on the line, reorganisations of up to five blocks, power losses at any instant.
//! At the end each token is paid exactly once, recounted from the chain's logs by another process.
//!
//! `CHAOS_SEEDS` says how many seeds (or `CHAOS_SEED` which one); 200 with `FULL=1`.

mod common;

use std::time::{Duration, Instant};

use common::{Done, World};
use milepost_ledger::{JobId, Phase, Purpose};
use milepost_settlement::{Chain, Handle, Verdict, reconcile};
use milepost_test_support::recount::Question;
use milepost_test_support::{FaultProxy, Return, SessionOptions, Weather};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Seeds unless asked for more: about a minute.
const SEEDS: u64 = 4;
/// Seeds from which on some of them must have shared a transaction among claims.
const MANY: u64 = 20;
/// Blocks of storm per seed.
const STORM: u32 = 200;
/// Between two blocks.
const BLOCK: Duration = Duration::from_millis(40);
/// Jobs per seed.
const JOBS: usize = 3;
/// How long the calm after the storm may take until all is paid.
const CALM: Duration = Duration::from_mins(2);
/// The deepest reorganisation; one block less than what counts as final.
const DEEPEST: u64 = 5;

#[tokio::test]
async fn whatever_goes_wrong_each_token_is_paid_exactly_once() -> Done {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let many = number("CHAOS_SEEDS").unwrap_or(if std::env::var_os("FULL").is_some() { 200 } else { SEEDS });
    let seeds = number("CHAOS_SEED").map_or(0..many, |seed| seed..seed + 1);
    let (count, mut batches) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        let begun = Instant::now();
        let (tale, several) = storm(seed).await.map_err(|error| format!("CHAOS_SEED={seed}: {error}"))?;
        println!("figure seed {seed} (power losses in process): {tale}, {:.1} s", begun.elapsed().as_secs_f64());
        batches += several;
    }
    println!("figure {count} seeds (power losses in process): {batches} transactions with several claims");
    assert!(count < MANY || batches > 0, "in {count} seeds no transaction carried several claims");
    Ok(())
}

/// One seed from its first block to its last payout; what happened, and how many transactions carried several claims.
async fn storm(seed: u64) -> Result<(String, usize), Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await?;
    let proxy = FaultProxy::to(world.chain.url()).await?;
    world.config.rpc_url = proxy.url().into();
    world.config.confirmations = DEEPEST + 1;
    world.config.rpc_timeout_ms = 2_000;
    world.config.bump_seconds = 1;
    world.config.sweep_seconds = 2;
    // Long enough for claims to meet.
    world.config.batch_wait_seconds = 1;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let options = SessionOptions { expected_rate: 1_000, max_duration: 50_000, timeout_seconds: 40_000, ..SessionOptions::default() };
        jobs.push(world.session(options).await?);
    }
    // The sessions themselves are not what is at stake.
    world.chain.mine(DEEPEST + 2).await?;
    world.chain.set_automine(false).await?;
    proxy.weather(Some(Weather::stormy(seed)));

    let (mut kills, mut reorgs, mut taken_back) = (0, 0, 0);
    let mut settlement: Option<Handle> = None;
    for _ in 0..STORM {
        tokio::time::sleep(BLOCK).await;
        world.chain.mine(1).await?;
        if settlement.is_none() && rng.random_bool(0.3) {
            settlement = world.start().await.ok();
        }
        if rng.random_bool(0.12) {
            let job = jobs[rng.random_range(0..JOBS)];
            if matches!(world.record(job).phase, Phase::Open) && world.record(job).positions.metered.0 < 900 {
                world.generate(job, rng.random_range(1..90)).await?;
            }
        }
        // Most of all when something has landed that is not final: that is what a reorganisation can take back.
        let fresh = jobs.iter().map(|job| world.record(*job).positions).any(|positions| positions.landed > positions.finalized);
        if rng.random_bool(if fresh { 0.25 } else { 0.03 }) {
            let fate = if rng.random_bool(0.5) { Return::Lost } else { Return::ToPool };
            taken_back += proxy.reorg(&world.chain, rng.random_range(1..=DEEPEST), fate).await?;
            reorgs += 1;
        }
        if rng.random_bool(0.03) && settlement.take().is_some() {
            world.lose_power()?;
            kills += 1;
        }
    }

    proxy.weather(None);
    for (index, job) in jobs.iter().enumerate() {
        if index == 0 {
            let _ = world
                .chain
                .submit("requestClose", world.deployed.actors.depositor.address, market(&world), close(*job), alloy::primitives::U256::ZERO)
                .await?;
        } else if matches!(world.record(*job).phase, Phase::Open) {
            world.end(*job).await?;
        }
    }
    let settlement = match settlement {
        Some(running) => running,
        None => world.start().await?,
    };
    let begun = Instant::now();
    while !jobs.iter().all(|job| matches!(world.record(*job).phase, Phase::Paid(_))) {
        if begun.elapsed() > CALM {
            let left: Vec<_> = jobs.iter().filter(|job| !matches!(world.record(**job).phase, Phase::Paid(_))).collect();
            let job = *left[0];
            return Err(format!(
                "not paid: {left:?} {:#?} {:#?} {:#?} {:?}",
                world.record(job),
                world.claims(job),
                world.txs(job),
                settlement.status()
            )
            .into());
        }
        tokio::time::sleep(BLOCK).await;
        world.chain.mine(1).await?;
    }
    settlement.stop().await?;
    world.config.rpc_url = world.chain.url().into();

    let question = Question::new(world.chain.url(), &world.deployed);
    let counted = tokio::task::spawn_blocking(move || question.ask(COUNTER)).await?.map_err(|wrong| wrong.to_string())?;
    let mut tokens = 0;
    for job in &jobs {
        let record = world.record(*job);
        let (metered, paid) = (record.positions.metered.0, record.positions.paid.0);
        assert_eq!((paid, record.positions.written_off.0), (metered, 0), "seed {seed}, job {job}: tokens were lost: {record:#?}");
        let found = counted.jobs.iter().find(|found| found.job == job.0).ok_or("a job that is not on chain")?;
        let (claimed, payouts) = (found.claimed(), found.paid.as_slice());
        assert_eq!((claimed, payouts), (metered, &[metered][..]), "seed {seed}, job {job}: claimed and paid by the chain's own logs");
        tokens += metered;
    }
    let txs = world.db.txs()?;
    // A purpose, and each claim of one, has one nonce.
    let mut purposes: Vec<_> = txs.iter().filter(|tx| tx.purpose.claims().is_empty()).map(|tx| tx.purpose.clone()).collect();
    purposes.extend(txs.iter().flat_map(|tx| tx.purpose.claims()).map(|claim| Purpose::Claim(*claim)));
    purposes.retain(|purpose| !matches!(purpose, Purpose::Fill(_)));
    let all = purposes.len();
    purposes.sort_unstable();
    purposes.dedup();
    assert_eq!(purposes.len(), all, "seed {seed}: a purpose was given a second nonce: {txs:#?}");
    let batches = txs.iter().filter(|tx| tx.purpose.claims().len() > 1).count();
    assert_eq!(counted.earned, tokens * 2_000 * 9 / 10, "seed {seed}: exactly once");
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "seed {seed}: {report:#?}");
    let tale = format!(
        "{tokens} tokens, {batches} transactions with several claims, {} faults, {kills} power losses, {reorgs} reorganisations, {taken_back} transactions taken back",
        proxy.done().len()
    );
    Ok((tale, batches))
}

fn market(world: &World) -> alloy::primitives::TxKind {
    alloy::primitives::TxKind::Call(world.deployed.marketplace)
}

fn close(job: JobId) -> alloy::primitives::Bytes {
    use alloy::sol_types::SolCall as _;
    let call = milepost_test_support::bindings::JobMarketplace::requestCloseCall { jobId: alloy::primitives::U256::from(job.0) };
    call.abi_encode().into()
}

/// The test that counts in another process.
const COUNTER: &str = "the_logs_are_counted_by_a_process_that_knows_nothing_else";

/// Not a test by itself: what counts in the child process of a recount.
#[tokio::test]
async fn the_logs_are_counted_by_a_process_that_knows_nothing_else() {
    milepost_test_support::recount::answer().await.expect("counted");
}
