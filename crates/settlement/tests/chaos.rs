//! Everything goes wrong at once, by seed: faults on the line, reorganisations of up to five blocks, power losses at any instant.
//! At the end each token is paid exactly once, recounted from the chain's logs by another process.
//!
//! `CHAOS_SEEDS` says how many seeds (or `CHAOS_SEED` which one); 200 with `FULL=1`.

mod common;

use std::time::{Duration, Instant};

use common::{Done, World};
use milepost_ledger::{JobId, Phase};
use milepost_settlement::{Chain, Handle, Verdict, reconcile};
use milepost_test_support::{FaultProxy, Return, SessionOptions, Weather};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Seeds unless asked for more: about a minute.
const SEEDS: u64 = 4;
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
    for seed in seeds {
        let begun = Instant::now();
        let tale = storm(seed).await.map_err(|error| format!("CHAOS_SEED={seed}: {error}"))?;
        println!("seed {seed}: {tale}, {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// One seed from its first block to its last payout; what happened.
async fn storm(seed: u64) -> Result<String, Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new().await?;
    let proxy = FaultProxy::to(world.chain.url()).await?;
    world.config.rpc_url = proxy.url().into();
    world.config.confirmations = DEEPEST + 1;
    world.config.rpc_timeout_ms = 2_000;
    world.config.bump_seconds = 1;
    world.config.sweep_seconds = 2;
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

    let mut tokens = 0;
    for job in &jobs {
        let record = world.record(*job);
        let (metered, paid) = (record.positions.metered.0, record.positions.paid.0);
        assert_eq!((paid, record.positions.written_off.0), (metered, 0), "seed {seed}, job {job}: tokens were lost: {record:#?}");
        let recounted = recount(&world, *job)?;
        assert_eq!(recounted, (metered, metered), "seed {seed}, job {job}: claimed and paid by the chain's own logs");
        let mut purposes: Vec<_> = world.txs(*job).iter().map(|tx| tx.purpose).collect();
        let all = purposes.len();
        purposes.sort_unstable();
        purposes.dedup();
        assert_eq!(purposes.len(), all, "seed {seed}, job {job}: a purpose was given a second nonce: {:#?}", world.txs(*job));
        tokens += metered;
    }
    assert_eq!(world.deployed.earned(&world.chain).await?, tokens * 2_000 * 9 / 10, "seed {seed}: exactly once");
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "seed {seed}: {report:#?}");
    Ok(format!(
        "{tokens} tokens, {} faults, {kills} power losses, {reorgs} reorganisations, {taken_back} transactions taken back",
        proxy.done().len()
    ))
}

fn market(world: &World) -> alloy::primitives::TxKind {
    alloy::primitives::TxKind::Call(world.deployed.marketplace)
}

fn close(job: JobId) -> alloy::primitives::Bytes {
    use alloy::sol_types::SolCall as _;
    let call = milepost_test_support::bindings::JobMarketplace::requestCloseCall { jobId: alloy::primitives::U256::from(job.0) };
    call.abi_encode().into()
}

/// What the child process of [`recount`] is told.
const RECOUNT: &str = "MILEPOST_TEST_RECOUNTS";

/// Tokens claimed and tokens paid of a job, counted by another process from the chain's logs alone.
fn recount(world: &World, job: JobId) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let what = format!("{} {} {}", world.chain.url(), world.deployed.marketplace, job.0);
    let mut child = std::process::Command::new(std::env::current_exe()?);
    child.args(["the_logs_are_counted_by_a_process_that_knows_nothing_else", "--exact", "--nocapture"]).env(RECOUNT, what);
    let output = child.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("recounted ")).map(|(_, numbers)| numbers.to_owned());
    let numbers: Vec<u64> = line.unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
    match numbers.as_slice() {
        [claimed, paid] => Ok((*claimed, *paid)),
        _ => Err(format!("the recount says {text}").into()),
    }
}

#[tokio::test]
async fn the_logs_are_counted_by_a_process_that_knows_nothing_else() -> Done {
    use alloy::providers::{Provider as _, RootProvider};
    use alloy::sol_types::SolEventInterface as _;
    use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents as Events;
    // On its own this test has nothing to count; it is what `recount` runs.
    let Ok(told) = std::env::var(RECOUNT) else { return Ok(()) };
    let [url, marketplace, job] = told.split(' ').collect::<Vec<_>>()[..] else { return Err(told.into()) };
    milepost_test_support::install_tls();
    let provider: RootProvider = RootProvider::new_http(url.parse()?);
    let job: u64 = job.parse()?;
    let filter = alloy::rpc::types::Filter::new().address(marketplace.parse::<alloy::primitives::Address>()?).from_block(0);
    let (mut claimed, mut paid) = (0, 0);
    for log in provider.get_logs(&filter.topic1(alloy::primitives::U256::from(job))).await? {
        match Events::decode_log(&log.inner)?.data {
            Events::ProofOfWork(claim) => claimed += u64::try_from(claim.tokensClaimed)?,
            Events::SessionCompleted(completed) => paid += u64::try_from(completed.tokensUsed)?,
            _ => {}
        }
    }
    println!("\nrecounted {claimed} {paid}");
    Ok(())
}
