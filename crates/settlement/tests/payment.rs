//! Sessions that go well: paid to the unit.

mod common;

use common::{Done, World};
use milepost_ledger::{AccountId, Address, ChainId, Event, Payout, Phase, TokenAmount, TokenCount, WriteOff};
use milepost_settlement::{Chain, Verdict, reconcile, why};
use milepost_test_support::SessionOptions;

#[tokio::test]
async fn two_hundred_tokens_are_paid_to_the_unit() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let settlement = world.start().await?;
    let before = world.deployed.usdc_of(&world.chain, world.deployed.actors.depositor.address).await?;
    world.generate(job, 200).await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    let expected =
        Payout { tokens: TokenCount(200), host: TokenAmount(360_000), treasury: TokenAmount(40_000), refund: TokenAmount(1_600_000) };
    assert_eq!(record.phase, Phase::Paid(expected));
    assert_eq!((record.positions.paid.0, record.positions.written_off.0), (200, 0));
    // What the chain itself holds.
    assert_eq!(world.deployed.earned(&world.chain).await?, 360_000);
    assert_eq!(world.deployed.treasury(&world.chain).await?, 40_000);
    assert_eq!(world.deployed.usdc_of(&world.chain, world.deployed.actors.depositor.address).await? - before, 1_600_000);
    let chain = Chain::new(&world.config)?;
    let report = reconcile(&world.db, Some(&chain)).await?;
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Clean, 0), "{report:#?}");
    assert!(
        why(&world.db, Some(&chain), job).await?.iter().any(|answer| answer.answer.contains("host 360000, treasury 40000, refund 1600000"))
    );
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_tail_below_the_minimum_is_paid_through_the_closing_window() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let settlement = world.start().await?;
    world.generate(job, 120).await?;
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    world.generate(job, 50).await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.positions.paid.0, 170);
    assert_eq!(world.claimed(job).await?, [100, 70]);
    assert_eq!(world.deployed.earned(&world.chain).await?, 170 * 2_000 * 9 / 10);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_without_tokens_gives_the_deposit_back() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let settlement = world.start().await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert!(matches!(record.phase, Phase::Paid(payout) if payout.refund == TokenAmount(2_000_000)));
    assert!(world.claimed(job).await?.is_empty());
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn several_jobs_share_one_key_without_a_gap() -> Done {
    let world = World::new().await?;
    let settlement = world.start().await?;
    let mut jobs = Vec::new();
    for tokens in [100, 130, 210, 40, 300] {
        let job = world.session(SessionOptions { expected_rate: 1_000, ..SessionOptions::default() }).await?;
        world.generate(job, tokens).await?;
        world.end(job).await?;
        jobs.push((job, tokens));
    }
    let mut total = 0;
    for (job, tokens) in jobs {
        let record = world.until_paid(job).await;
        assert_eq!(record.positions.paid.0, tokens as u64, "job {job}");
        total += tokens as u64;
    }
    assert_eq!(world.deployed.earned(&world.chain).await?, total * 2_000 * 9 / 10);
    let mut nonces: Vec<_> = world.db.txs()?.iter().map(|tx| tx.id.nonce).collect();
    nonces.sort_unstable();
    assert_eq!(nonces, (0..nonces.len() as u64).collect::<Vec<_>>(), "nonces follow on");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_claim_that_outruns_the_rate_cap_waits_and_is_paid_whole() -> Done {
    let world = World::new().await?;
    let settlement = world.start().await?;
    // One token per second expected: 2 per second and 200 at once. 500 tokens need 150 seconds.
    let job = world.session(SessionOptions { expected_rate: 1, ..SessionOptions::default() }).await?;
    world.generate(job, 500).await?;
    world.end(job).await?;
    // It is proven ahead of time, but nothing is signed that the contract would refuse.
    world.chain.increase_time(100).await?;
    let proven = world.until(job, "proven", |record| record.positions.proven.0 == 500).await;
    assert_eq!((proven.positions.submitted.0, world.txs(job).len()), (0, 0));
    world.chain.increase_time(60).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.write_off), (500, None));
    assert_eq!(world.claimed(job).await?.iter().sum::<u64>(), 500);
    let reverted = world.db.txs()?.iter().any(|tx| format!("{:?}", tx.state).contains("Reverted"));
    assert!(!reverted, "no claim may revert: {:#?}", world.txs(job));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_closes_early_pays_for_what_it_got() -> Done {
    let world = World::new().await?;
    let settlement = world.start().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 150).await?;
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    world.deployed.depositor_closes(&world.chain, job.0).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.write_off), (150, None));
    assert_eq!(world.claimed(job).await?, [100, 50]);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_vanishes_loses_what_it_did_not_claim_and_the_client_is_refunded() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let before = world.deployed.usdc_of(&world.chain, world.deployed.actors.depositor.address).await?;
    world.generate(job, 250).await?;
    // Nobody claims. After the idle timeout anybody closes, after the window anybody finalizes.
    world.chain.increase_time(1_201).await?;
    world.deployed.stranger_closes(&world.chain, job.0).await?;
    world.chain.increase_time(3_601).await?;
    world.deployed.finalize(&world.chain, world.deployed.actors.stranger.address, job.0).await?;
    assert_eq!(world.deployed.usdc_of(&world.chain, world.deployed.actors.depositor.address).await? - before, 2_000_000);
    // The host comes back and finds it so.
    let settlement = world.start().await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.positions.written_off.0), (0, 250));
    assert!(matches!(record.write_off, Some(WriteOff::ClosedEarly | WriteOff::TimedOut)), "{:?}", record.write_off);
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!((report.verdict, report.exit_code()), (Verdict::Loss, 2), "{report:#?}");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_that_nears_its_deadline_is_ended_and_paid() -> Done {
    let world = World::new().await?;
    let settlement = world.start().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 130).await?;
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    world.chain.increase_time(3_600).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.write_off), (130, None));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn claims_follow_the_clients_vouchers_and_carry_them() -> Done {
    let world = World::new().await?;
    let settlement = world.start().await?;
    let client = world.deployed.actors.depositor;
    let options = SessionOptions { voucher_signer: client.address, voucher_allowance: 50, ..SessionOptions::default() };
    let job = world.session(options).await?;
    world.generate(job, 200).await?;
    world.until(job, "sealed", |record| record.positions.sealed.0 == 200).await;
    // Nothing countersigned: only the allowance could be claimed, and that is less than the minimum.
    assert!(world.claims(job).is_empty());
    let domain = milepost_statement::Domain { chain_id: ChainId(31337), marketplace: Address(world.deployed.marketplace.into_array()) };
    let key = milepost_statement::SigningKey::from_bytes(&client.key.0).expect("a development key is a key");
    let voucher = milepost_statement::Voucher { job_id: job, tokens: TokenCount(150) };
    let signature = key.sign(&voucher.digest(&domain)).to_vec();
    world.db.apply(vec![Event::Voucher { account: AccountId::Job(job), tokens: TokenCount(150), signature }]).await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.write_off), (200, None));
    assert_eq!(world.deployed.session(&world.chain, job.0).await?.voucherTokens, 150);
    settlement.stop().await?;
    Ok(())
}
