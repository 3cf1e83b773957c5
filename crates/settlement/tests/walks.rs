//! Random walks of the planner and of admission against the real contracts: sessions of any terms, metered as far as they are
//! admitted, closed by anybody at any moment. No plan reverts, everything admitted is claimed and paid, and the last claim lands
//! with the time of a proof and two raises to spare.
//!
//! `WALKS` says how many walks (or `WALK` which one).

mod common;

use std::time::Instant;

use common::{Done, PATIENCE, World};
use milepost_ledger::{AccountId, ClaimPace, Event, JobId, Limits, OpenAccount, Outcome, Phase, TokenCount, TxState, UnixSeconds};
use milepost_settlement::{Chain, Handle};
use milepost_test_support::bindings::JobMarketplace::JobMarketplaceEvents as Logged;
use milepost_test_support::recount::{JobCount, Question};
use milepost_test_support::{DeployOptions, SessionOptions};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;

/// Walks unless asked for more: about half a minute.
const WALKS: u64 = 6;
/// Walks at a time.
const ABREAST: usize = 3;
/// Steps in which sessions run; what is open then is ended.
const STEPS: usize = 40;
/// Steps after that until all must be paid: a closing window and a rate cap in steps of the time that passes.
const LAST_STEPS: usize = 400;
/// Sessions of a walk.
const JOBS: usize = 3;
/// Most seconds that pass in a step: nobody looks at the chain in between.
const STRIDE: u64 = 20;
/// Seconds of a claim from plan to inclusion, as settlement is set.
const CLAIM_SECONDS: u64 = 30;
/// Seconds of one claim after the other: it may be planned a step late and land a step late.
const ROUND: u64 = CLAIM_SECONDS + 2 * STRIDE;
/// Seconds kept free at the end of a window: noticing the close, and one round, with a claim's time to spare after it.
const RESERVE: u64 = STRIDE + ROUND + CLAIM_SECONDS;
/// Looks in a row at which nothing may be under way.
const CALM: u32 = 3;
/// Price of a token in 10⁻⁶ USDC.
const PRICE: u64 = 2_000;
/// The test that counts in another process.
const COUNTER: &str = "the_logs_are_counted_by_a_process_that_knows_nothing_else";

/// A session, and whether somebody has ended it.
struct Session {
    job: JobId,
    closed: bool,
}

struct Walk {
    world: World,
    random: StdRng,
    limits: Limits,
    sessions: Vec<Session>,
}

impl Walk {
    async fn new(seed: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let mut random = StdRng::seed_from_u64(seed);
        let claim_window = random.random_range(RESERVE + 2 * ROUND..=1_200);
        let mut world = World::with(DeployOptions { claim_window, price: PRICE, ..DeployOptions::default() }).await?;
        let max_claim = random.random_range(100..=2_000);
        world.config.max_claim_tokens = max_claim;
        world.config.claim_tokens = random.random_range(1..=max_claim);
        world.config.claim_seconds = CLAIM_SECONDS;
        let pace = Some(ClaimPace { max_claim_tokens: TokenCount(max_claim), seconds: ROUND });
        let limits = Limits { reserve_seconds: RESERVE, max_at_risk: None, pace, shared: None };
        let mut sessions = Vec::new();
        for _ in 0..JOBS {
            let options = SessionOptions {
                deposit: PRICE * random.random_range(100..=3_000),
                expected_rate: random.random_range(1..=60),
                max_duration: random.random_range(300..=4_000),
                timeout_seconds: random.random_range(60..=1_000),
                minimum_charge: if random.random_bool(0.3) { 50 * PRICE } else { 0 },
                ..SessionOptions::default()
            };
            let job = JobId(world.deployed.create_session(&world.chain, options).await?);
            let terms = Chain::new(&world.config)?.terms_to_open(job, world.host()).await?.ok_or("a job that was just funded")?;
            let threshold = random.random_range(1..=300);
            let id = AccountId::Job(job);
            let model = terms.model;
            let open = OpenAccount { id, model, terms: Some(terms), salt: common::no_salt(), threshold, at: common::now() };
            world.db.apply(vec![Event::Open(Box::new(open))]).await?;
            sessions.push(Session { job, closed: false });
        }
        Ok(Self { world, random, limits, sessions })
    }

    async fn now(&self) -> Result<UnixSeconds, Box<dyn std::error::Error>> {
        Ok(UnixSeconds(self.world.chain.head().await?.1))
    }

    /// Whatever happens to a session within a step.
    async fn happen(&mut self, index: usize) -> Done {
        let job = self.sessions[index].job;
        let record = self.world.record(job);
        if record.phase == Phase::Open && self.random.random_bool(0.7) {
            let admitted = record.admissible(self.now().await?, &self.limits).tokens.0;
            let tokens = self.random.random_range(1..=400).min(admitted);
            if tokens > 0 {
                self.world.generate(job, usize::try_from(tokens)?).await?;
            }
        }
        if !self.sessions[index].closed && record.phase == Phase::Open && self.random.random_bool(0.04) {
            self.sessions[index].closed = true;
            if self.random.random_bool(0.5) {
                self.world.deployed.depositor_closes(&self.world.chain, job.0).await?;
            } else {
                self.world.end(job).await?;
            }
        }
        Ok(())
    }

    /// Waits until settlement has seen the newest block and nothing is under way.
    async fn rest(&self, settlement: &Handle) -> Done {
        let mut status = settlement.watch();
        let mut calm = 0;
        while calm < CALM {
            tokio::time::timeout(PATIENCE, status.changed()).await??;
            let seen = status.borrow_and_update().clone();
            let height = self.world.chain.head().await?.0;
            let at_rest = seen.head.is_some_and(|head| head.number == height) && seen.unresolved_transactions == 0 && seen.proving == 0;
            calm = if at_rest { calm + 1 } else { 0 };
        }
        Ok(())
    }

    fn all_paid(&self) -> bool {
        self.sessions.iter().all(|session| matches!(self.world.record(session.job).phase, Phase::Paid(_)))
    }
}

/// One walk; what was claimed in how many claims, and the least time that was to spare.
async fn walk(seed: u64) -> Result<(u64, usize, Option<u64>), Box<dyn std::error::Error>> {
    let mut walk = Walk::new(seed).await?;
    let settlement = walk.world.start().await?;
    for step in 0..STEPS + LAST_STEPS {
        if walk.all_paid() {
            break;
        }
        walk.rest(&settlement).await?;
        for index in 0..JOBS {
            if step < STEPS {
                walk.happen(index).await?;
            } else if walk.world.record(walk.sessions[index].job).phase == Phase::Open {
                walk.world.end(walk.sessions[index].job).await?;
            }
        }
        let stride = walk.random.random_range(1..=STRIDE);
        walk.world.chain.increase_time(stride).await?;
    }
    let status = settlement.status();
    settlement.stop().await?;
    for session in &walk.sessions {
        let record = walk.world.record(session.job);
        let Phase::Paid(_) = record.phase else { return Err(format!("job {} is not paid: {record:#?} {status:?}", session.job).into()) };
        assert_eq!(
            (record.positions.paid.0, record.positions.written_off.0),
            (record.positions.metered.0, 0),
            "walk {seed}: what was admitted was not paid: {record:#?}"
        );
    }
    for tx in walk.world.db.txs()? {
        assert!(matches!(tx.state, TxState::Final { outcome: Outcome::Done { .. }, .. }), "walk {seed}: a plan reverted: {tx:#?}");
    }
    let question = Question::new(walk.world.chain.url(), &walk.world.deployed);
    let counted = tokio::task::spawn_blocking(move || question.ask(COUNTER)).await?.map_err(|wrong| wrong.to_string())?;
    assert_eq!(counted.reverts, 0, "walk {seed}: by the chain's own receipts");
    let mut spare: Option<u64> = None;
    for session in &walk.sessions {
        let metered = walk.world.record(session.job).positions.metered.0;
        let found = counted.jobs.iter().find(|found| found.job == session.job.0).ok_or("a job that is not on chain")?;
        assert_eq!((found.claimed(), found.paid.as_slice()), (metered, &[metered][..]), "walk {seed}, job {}", session.job);
        if let Some(left) = left_at_the_last_claim(&walk.world, session.job).await? {
            assert!(left >= CLAIM_SECONDS, "walk {seed}, job {}: {left} s before the end of its window", session.job);
            spare = Some(spare.map_or(left, |least| least.min(left)));
        }
    }
    Ok((counted.jobs.iter().map(JobCount::claimed).sum(), counted.jobs.iter().map(|job| job.claims.len()).sum(), spare))
}

/// Seconds from the last claim in a closing window to the window's end, by the chain's own blocks.
async fn left_at_the_last_claim(world: &World, job: JobId) -> Result<Option<u64>, Box<dyn std::error::Error>> {
    use alloy::consensus::BlockHeader as _;
    use alloy::providers::Provider as _;
    let events = world.deployed.events(&world.chain, job.0).await?;
    let closed = events.iter().find_map(|event| match &event.event {
        Logged::CloseRequested(close) => Some((event.block, close.claimUntil)),
        _ => None,
    });
    let Some((closed, until)) = closed else { return Ok(None) };
    let claims = events.iter().filter(|event| matches!(event.event, Logged::ProofOfWork(_)) && event.block > closed);
    let Some(last) = claims.last() else { return Ok(None) };
    let block = world.chain.provider().get_block_by_number(last.block.into()).await?.ok_or("a claim without a block")?;
    Ok(Some(u64::try_from(until)?.saturating_sub(block.header.timestamp())))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_admitted_is_claimed_by_plans_that_never_revert_with_time_to_spare() -> Done {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut seeds = number("WALK").map_or(0..number("WALKS").unwrap_or(WALKS), |seed| seed..seed + 1);
    let (mut running, mut tokens, mut claims, mut spare) = (JoinSet::new(), 0, 0, u64::MAX);
    let count = seeds.end - seeds.start;
    let begun = Instant::now();
    loop {
        while running.len() < ABREAST
            && let Some(seed) = seeds.next()
        {
            running.spawn(async move { (seed, walk(seed).await.map_err(|error| error.to_string())) });
        }
        let Some(walked) = running.join_next().await else { break };
        let (seed, walked) = walked?;
        let (walked_tokens, walked_claims, least) = walked.map_err(|error| format!("WALK={seed}: {error}"))?;
        (tokens, claims, spare) = (tokens + walked_tokens, claims + walked_claims, spare.min(least.unwrap_or(u64::MAX)));
    }
    println!(
        "figure {count} walks in {:.0} s: {tokens} tokens in {claims} claims, no revert, nothing written off; at least {spare} s to spare in a window, of {CLAIM_SECONDS} s that a claim takes",
        begun.elapsed().as_secs_f64()
    );
    assert!(tokens > count * 100, "the walks went nowhere: {tokens} tokens");
    Ok(())
}

/// Not a test by itself: what counts in the child process of a recount.
#[tokio::test]
async fn the_logs_are_counted_by_a_process_that_knows_nothing_else() {
    milepost_test_support::recount::answer().await.expect("counted");
}
