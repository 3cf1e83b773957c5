//! Claims of several jobs in one transaction: each with its own fate, through everything that can happen to a transaction.

mod common;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::primitives::{B256, Bytes, TxKind, U256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall as _;
use common::{Done, World, eventually, now};
use milepost_ledger::{Attempt, Claim, ClaimState, Digest, Event, JobId, Outcome, Phase, Purpose, RevertClass, Tx, TxId, TxState};
use milepost_settlement::bindings::JobMarketplace;
use milepost_settlement::{Chain, Error, Verdict, reconcile, why};
use milepost_test_support::SessionOptions;

/// A world in which claims wait until there are `jobs` of them; blocks are made by hand.
async fn together(jobs: u64, confirmations: u64) -> Result<(World, Vec<JobId>), Box<dyn std::error::Error>> {
    let mut world = World::new().await?;
    world.config.max_batch = jobs;
    world.config.batch_wait_seconds = 30;
    world.config.confirmations = confirmations;
    let mut found = Vec::new();
    for _ in 0..jobs {
        found.push(world.session(SessionOptions::default()).await?);
    }
    world.chain.mine(confirmations + 2).await?;
    for job in &found {
        world.generate(*job, 100).await?;
    }
    world.chain.set_automine(false).await?;
    Ok((world, found))
}

/// The one transaction that carries several claims, once it is as wished.
async fn batch(world: &World, what: &str, wish: impl Fn(&Tx) -> bool) -> Tx {
    eventually(what, || {
        let txs = world.db.txs().expect("readable");
        match txs.iter().find(|tx| tx.purpose.claims().len() > 1) {
            Some(tx) if wish(tx) => Ok(tx.clone()),
            _ => Err(format!("{txs:#?}")),
        }
    })
    .await
}

/// The first transaction of the chain's pool that is as wished. The pool shows what it was given a moment later.
async fn pooled(world: &World, wish: impl Fn(&B256) -> bool) -> B256 {
    for _ in 0..1_000 {
        if let Some(hash) = world.chain.pool().await.ok().and_then(|pool| pool.into_iter().find(&wish)) {
            return hash;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the pool has no such transaction after ten seconds");
}

/// Makes blocks until the jobs are paid.
async fn paid(world: &World, jobs: &[JobId]) -> Done {
    for job in jobs {
        if matches!(world.record(*job).phase, Phase::Open) {
            world.end(*job).await?;
        }
    }
    for _ in 0..1_200 {
        if jobs.iter().all(|job| matches!(world.record(*job).phase, Phase::Paid(_))) {
            return Ok(());
        }
        world.chain.mine(1).await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let stuck: Vec<_> = jobs.iter().filter(|job| !matches!(world.record(**job).phase, Phase::Paid(_))).collect();
    Err(format!("not paid: {stuck:?} {:#?}", world.db.txs()?).into())
}

/// No claim was ever given a second nonce.
fn one_nonce_each(world: &World) {
    let txs = world.db.txs().expect("readable");
    let mut claims: Vec<_> = txs.iter().flat_map(|tx| tx.purpose.claims()).collect();
    let all = claims.len();
    claims.sort_unstable();
    claims.dedup();
    assert_eq!(claims.len(), all, "a claim was given a second nonce: {txs:#?}");
}

#[tokio::test]
async fn claims_of_several_jobs_share_a_transaction_and_each_is_paid() -> Done {
    let (world, jobs) = together(3, 2).await?;
    let settlement = world.start().await?;
    let tx = batch(&world, "signed", |_| true).await;
    assert_eq!((world.db.txs()?.len(), tx.id.nonce, tx.purpose.claims().len()), (1, 0, 3), "one nonce for three claims");
    assert!(jobs.iter().all(|job| world.record(*job).positions.submitted.0 == 100));
    pooled(&world, |_| true).await;
    world.chain.mine(1).await?;
    batch(&world, "included", |tx| matches!(tx.state, TxState::Included { .. })).await;
    assert!(jobs.iter().all(|job| world.record(*job).positions.landed.0 == 100 && world.record(*job).positions.finalized.0 == 0));
    world.chain.mine(1).await?;
    let tx = batch(&world, "final", |tx| matches!(tx.state, TxState::Final { .. })).await;
    for job in &jobs {
        assert_eq!(world.record(*job).positions.finalized.0, 100);
        assert_eq!(world.claimed(*job).await?, [100], "by the chain's own logs");
        let told = why(&world.db, Some(&Chain::new(&world.config)?), *job).await?;
        assert!(told.iter().any(|answer| answer.answer.contains("with 2 of other jobs")), "{told:#?}");
    }
    let gas = tx.outcome().map_or(0, Outcome::gas);
    let parts: u128 = jobs.iter().map(|job| tx.share(u128::from(gas), *job)).sum();
    assert_eq!(parts, u128::from(gas), "the parts of its gas add up to it");
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    assert_eq!(world.deployed.earned(&world.chain).await?, 3 * 100 * 2_000 * 9 / 10, "exactly once");
    Ok(())
}

#[tokio::test]
async fn a_refused_claim_of_a_batch_costs_only_itself() -> Done {
    let (world, jobs) = together(3, 4).await?;
    let settlement = world.start().await?;
    // On its way, and lost; meanwhile the host finalizes one of the jobs by hand.
    let ours = pooled(&world, |_| true).await;
    world.chain.drop_transaction(ours).await?;
    let call = JobMarketplace::finalizeCall { jobId: U256::from(jobs[1].0) };
    let market = TxKind::Call(world.deployed.marketplace);
    world.chain.submit("finalize", world.deployed.actors.host.address, market, call.abi_encode().into(), U256::ZERO).await?;
    world.chain.mine(1).await?;
    assert_eq!(pooled(&world, |_| true).await, ours, "the same bytes");
    world.chain.mine(1).await?;
    let tx = batch(&world, "included", |tx| tx.outcome().is_some()).await;
    let refused = match tx.outcome() {
        Some(Outcome::Partly { refused, .. }) => refused.iter().map(|refused| (refused.claim.job, refused.class)).collect(),
        _ => Vec::new(),
    };
    assert_eq!(refused, [(jobs[1], RevertClass::Replan)], "a claim that the contract refused was taken for landed: {tx:#?}");
    assert_eq!(jobs.iter().map(|job| world.record(*job).positions.landed.0).collect::<Vec<_>>(), [100, 0, 100]);
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    for (job, (claimed, lost)) in jobs.iter().zip([(100, 0), (0, 100), (100, 0)]) {
        let positions = world.record(*job).positions;
        assert_eq!((positions.paid.0, positions.written_off.0), (claimed, lost), "job {job}");
        assert_eq!(world.claimed(*job).await?.iter().sum::<u64>(), claimed, "job {job}: the chain's own logs");
    }
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Loss, "{report:#?}");
    one_nonce_each(&world);
    Ok(())
}

#[tokio::test]
async fn a_reorganisation_takes_every_claim_of_a_batch_back_and_the_same_bytes_are_sent_again() -> Done {
    let (world, jobs) = together(3, 3).await?;
    let settlement = world.start().await?;
    let hash = pooled(&world, |_| true).await;
    world.chain.mine(1).await?;
    let all_landed = |world: &World| jobs.iter().all(|job| world.record(*job).positions.landed.0 == 100);
    eventually("landed", || if all_landed(&world) { Ok(()) } else { Err(String::new()) }).await;
    world.chain.reorg(1).await?;
    batch(&world, "taken back", |tx| matches!(tx.state, TxState::Sent | TxState::Signed)).await;
    for job in &jobs {
        let positions = world.record(*job).positions;
        assert_eq!((positions.landed.0, positions.submitted.0), (0, 100), "job {job}: a claim in a block that is gone");
    }
    assert_eq!(pooled(&world, |_| true).await, hash, "the same bytes");
    world.chain.mine(3).await?;
    let tx = batch(&world, "final", |tx| matches!(tx.state, TxState::Final { .. })).await;
    assert_eq!((tx.attempts.len(), world.db.txs()?.len()), (1, 1));
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [100]);
    }
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_end_at_any_step_of_a_batch_is_continued_and_pays_exactly_once() -> Done {
    let mut world = World::new().await?;
    world.config.max_batch = 2;
    world.config.batch_wait_seconds = 30;
    let mut earned = 0;
    for point in ["proved", "signed", "broadcast", "sent", "included", "final"] {
        let mut jobs = Vec::new();
        for _ in 0..2 {
            let job = world.session(SessionOptions::default()).await?;
            world.generate(job, 100).await?;
            jobs.push(job);
        }
        let mut first = world.start_until(point).await?;
        let ended = tokio::time::timeout(common::PATIENCE, first.ended()).await?;
        assert!(matches!(ended, Err(Error::Interrupted(_))), "{point}: {ended:?}");
        world.lose_power()?;
        let carried = world.txs(jobs[0]);
        assert_eq!(carried.len(), usize::from(point != "proved"), "{point}: a transaction left the process before it was stored");
        assert!(carried.iter().all(|tx| tx.purpose.concerns(jobs[1])), "{point}: {carried:#?}");
        let second = world.start().await?;
        for job in &jobs {
            world.end(*job).await?;
            world.until_paid(*job).await;
            assert_eq!(world.claimed(*job).await?, [100], "{point}: the chain's own logs");
            earned += 100 * 2_000 * 9 / 10;
        }
        second.stop().await?;
        one_nonce_each(&world);
        let claims: Vec<Tx> = world.txs(jobs[0]).into_iter().filter(|tx| !tx.purpose.claims().is_empty()).collect();
        assert!(claims.len() == 1 && claims[0].purpose.claims().len() == 2, "{point}: {claims:#?}");
        assert_eq!(world.deployed.earned(&world.chain).await?, earned, "{point}: exactly once");
    }
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    Ok(())
}

#[tokio::test]
async fn a_batch_that_waits_is_raised_and_every_form_carries_the_same_claims() -> Done {
    let (mut world, jobs) = together(2, 1).await?;
    world.config.bump_seconds = 1;
    let settlement = world.start().await?;
    let tx = batch(&world, "raised", |tx| tx.attempts.len() >= 3).await;
    assert!(tx.attempts.windows(2).all(|pair| pair[1].max_fee * 100 >= pair[0].max_fee * 110));
    world.chain.mine(1).await?;
    batch(&world, "final", |tx| matches!(tx.state, TxState::Final { .. })).await;
    for job in &jobs {
        assert_eq!(world.record(*job).positions.finalized.0, 100);
        assert_eq!(world.claimed(*job).await?, [100]);
    }
    one_nonce_each(&world);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_batch_whose_nonce_somebody_else_used_is_given_up_at_finality_and_each_claim_is_made_anew() -> Done {
    let (world, jobs) = together(2, 3).await?;
    let settlement = world.start().await?;
    let ours = pooled(&world, |_| true).await;
    world.chain.drop_transaction(ours).await?;
    let (key, stranger) = (world.deployed.actors.submitter.address, world.deployed.actors.stranger.address);
    world.chain.submit("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    world.chain.mine(1).await?;
    assert!(jobs.iter().all(|job| matches!(world.claims(*job)[0].state, ClaimState::Submitted(_))), "not before finality depth");
    world.chain.mine(2).await?;
    eventually("replaced", || {
        let states: Vec<_> = jobs.iter().map(|job| world.claims(*job)[0].state.clone()).collect();
        if states.iter().all(|state| *state == ClaimState::Replaced) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await;
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [100]);
    }
    one_nonce_each(&world);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_an_operator_cancels_leaves_every_claim_owed() -> Done {
    let (mut world, jobs) = together(2, 1).await?;
    world.config.bump_seconds = 3_600;
    let settlement = world.start().await?;
    let tx = batch(&world, "signed", |_| true).await;
    settlement.cancel(tx.id);
    let tx = batch(&world, "cancelling", |tx| tx.attempts.len() >= 2).await;
    pooled(&world, |hash| hash.0 == tx.attempts[1].hash.0).await;
    world.chain.mine(1).await?;
    eventually("owed again", || {
        let states: Vec<_> = jobs.iter().map(|job| world.claims(*job)[0].state.clone()).collect();
        let cancelled = |state: &ClaimState| matches!(state, ClaimState::Reverted { reason } if reason.contains("cancelled"));
        if states.iter().all(cancelled) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await;
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [100]);
    }
    Ok(())
}

/// The claims' transaction, with no more gas than this.
fn starved(world: &World, claims: &[Claim], gas_limit: u64) -> Result<Event, Box<dyn std::error::Error>> {
    let calls = claims.iter().map(|claim| {
        let kind = claim.proof.as_ref().expect("proven").kind;
        milepost_settlement::bindings::JobMarketplace::Claim {
            jobId: U256::from(claim.id.job.0),
            tokensClaimed: U256::from(claim.statement.count.0),
            proof: milepost_statement::encode_proof(kind, &claim.statement.journal(), &[], &[]).into(),
        }
    });
    let call = JobMarketplace::submitProofsOfWorkCall { claims: calls.collect() };
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce: 0,
        gas_limit,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(world.deployed.marketplace),
        input: call.abi_encode().into(),
        ..TxEip1559::default()
    };
    let key = PrivateKeySigner::from_bytes(&world.deployed.actors.submitter.key)?;
    let signed = TxEnvelope::from(tx.clone().into_signed(key.sign_hash_sync(&tx.signature_hash())?));
    let attempt = Attempt {
        hash: Digest(signed.tx_hash().0),
        raw: signed.encoded_2718(),
        max_fee: tx.max_fee_per_gas,
        max_tip: tx.max_priority_fee_per_gas,
        at: now(),
    };
    let id = TxId { key: world.key().address(), nonce: 0 };
    Ok(Event::TxSigned { id, purpose: Purpose::Claims(claims.iter().map(|claim| claim.id).collect()), attempt })
}

#[tokio::test]
async fn a_batch_that_runs_out_of_gas_lands_nothing_and_each_claim_is_made_anew_alone() -> Done {
    let (mut world, jobs) = together(3, 1).await?;
    // One more would have to come: none is sent.
    world.config.max_batch = 4;
    let settlement = world.start().await?;
    let proven = || jobs.iter().all(|job| world.claims(*job).first().is_some_and(|claim| claim.state == ClaimState::Proven));
    eventually("proven", || if proven() { Ok(()) } else { Err(format!("{:?}", settlement.status())) }).await;
    assert!(world.db.txs()?.is_empty(), "sent though others were waited for");
    settlement.stop().await?;
    let claims: Vec<_> = jobs.iter().map(|job| world.claims(*job).remove(0)).collect();
    world.db.apply(vec![starved(&world, &claims, 70_000)?]).await?;
    let settlement = world.start().await?;
    pooled(&world, |_| true).await;
    world.chain.mine(1).await?;
    let tx = batch(&world, "final", |tx| matches!(tx.state, TxState::Final { .. })).await;
    assert!(matches!(tx.outcome(), Some(Outcome::Reverted { class: RevertClass::Replan, .. })), "{tx:#?}");
    for job in &jobs {
        assert!(matches!(world.claims(*job)[0].state, ClaimState::Reverted { .. }), "{:#?}", world.claims(*job));
        assert!(world.claimed(*job).await?.is_empty());
    }
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    for job in &jobs {
        assert_eq!(world.claimed(*job).await?, [100]);
        let again = world.txs(*job).into_iter().filter(|tx| matches!(tx.purpose, Purpose::Claim(id) if id.plan == 1)).count();
        assert_eq!(again, 1, "made anew, alone");
    }
    one_nonce_each(&world);
    Ok(())
}

#[tokio::test]
async fn a_job_whose_session_moved_on_is_left_out_of_the_batch_and_the_rest_goes() -> Done {
    let (mut world, jobs) = together(3, 1).await?;
    world.config.max_batch = 4;
    let settlement = world.start().await?;
    let proven = || jobs.iter().all(|job| world.claims(*job).first().is_some_and(|claim| claim.state == ClaimState::Proven));
    eventually("proven", || if proven() { Ok(()) } else { Err(format!("{:?}", settlement.status())) }).await;
    settlement.stop().await?;
    let call = JobMarketplace::finalizeCall { jobId: U256::from(jobs[0].0) };
    let market = TxKind::Call(world.deployed.marketplace);
    world.chain.submit("finalize", world.deployed.actors.host.address, market, call.abi_encode().into(), U256::ZERO).await?;
    world.chain.mine(1).await?;
    world.config.batch_wait_seconds = 0;
    let settlement = world.start().await?;
    let tx = batch(&world, "signed", |_| true).await;
    let carried: Vec<_> = tx.purpose.jobs().collect();
    assert_eq!(carried, jobs[1..], "a claim was signed for a job that had moved on");
    paid(&world, &jobs).await?;
    settlement.stop().await?;
    assert_eq!(jobs.iter().map(|job| world.record(*job).positions.paid.0).collect::<Vec<_>>(), [0, 100, 100]);
    Ok(())
}
