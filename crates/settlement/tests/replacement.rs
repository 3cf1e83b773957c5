//! Transactions that wait: raised, cancelled, unblocked, told about; behind a line that keeps the rules of a real pool.

mod common;

use std::time::Duration;

use alloy::primitives::{B256, Bytes, TxKind, U256};
use common::{Done, World, eventually};
use milepost_ledger::{ClaimState, JobId, Phase, Purpose, Tx, TxState};
use milepost_test_support::{Fault, FaultProxy, Rules, Script, SessionOptions};

/// A world whose settlement reaches the chain through the proxy, and a job with a claim's worth of tokens. Blocks are made by hand.
async fn waiting_world() -> Result<(World, FaultProxy, JobId), Box<dyn std::error::Error>> {
    let mut world = World::new().await?;
    let proxy = FaultProxy::to(world.chain.url()).await?;
    world.config.rpc_url = proxy.url().into();
    world.config.bump_seconds = 1;
    let job = world.session(SessionOptions::default()).await?;
    world.chain.mine(3).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    Ok((world, proxy, job))
}

async fn attempts(world: &World, job: JobId, least: usize) -> Tx {
    eventually("raised", || match world.txs(job).first() {
        Some(tx) if tx.attempts.len() >= least => Ok(tx.clone()),
        other => Err(format!("{other:#?}")),
    })
    .await
}

#[tokio::test]
async fn a_transaction_that_waits_is_raised_by_a_tenth_and_every_form_is_stored_before_it_is_sent() -> Done {
    let (world, proxy, job) = waiting_world().await?;
    let settlement = world.start().await?;
    let tx = attempts(&world, job, 3).await;
    for pair in tx.attempts.windows(2) {
        assert!(pair[1].max_fee * 100 >= pair[0].max_fee * 110, "{} after {}", pair[1].max_fee, pair[0].max_fee);
        assert!(pair[1].max_tip * 100 >= pair[0].max_tip * 110, "{} after {}", pair[1].max_tip, pair[0].max_tip);
    }
    // The pool of a real node takes every one of them.
    eventually("the last form replaced the others", || {
        if proxy.forwarded().len() >= 3 { Ok(()) } else { Err(format!("{:?}", proxy.forwarded())) }
    })
    .await;
    let stored: Vec<_> = world.txs(job).iter().flat_map(|tx| tx.attempts.clone()).map(|attempt| B256::from(attempt.hash.0)).collect();
    assert!(proxy.forwarded().iter().all(|(hash, _)| stored.contains(hash)), "a form was sent that is not stored");
    world.chain.mine(1).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    let txs = world.txs(job);
    assert_eq!(txs.len(), 1, "one claim, one nonce, all its attempts: {txs:#?}");
    assert_eq!(world.claimed(job).await?, [100]);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_earlier_form_that_is_mined_instead_is_found() -> Done {
    let (world, _proxy, job) = waiting_world().await?;
    let settlement = world.start().await?;
    let tx = attempts(&world, job, 2).await;
    settlement.stop().await?;
    // Some miner has the first form and nobody else's pool has any.
    for hash in world.chain.pool().await? {
        world.chain.drop_transaction(hash).await?;
    }
    let raw = Bytes::from(tx.attempts[0].raw.clone());
    let _: B256 = world.chain.request("eth_sendRawTransaction", (raw,)).await?;
    world.chain.mine(1).await?;
    let settlement = world.start().await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    let first = tx.attempts[0].hash;
    assert!(matches!(world.txs(job)[0].state, TxState::Final { hash, .. } if hash == first));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_ceiling_holds_and_the_operator_is_told_what_is_stuck() -> Done {
    let (mut world, proxy, job) = waiting_world().await?;
    world.config.max_fee_gwei = 3;
    world.config.stuck_seconds = 2;
    let settlement = world.start().await?;
    let stuck = eventually("told", || match settlement.status().stuck {
        Some(stuck) if stuck.reason.is_some() => Ok(stuck),
        other => Err(format!("{other:?} {:#?}", world.txs(job))),
    })
    .await;
    assert!(stuck.reason.as_deref().unwrap_or_default().contains("MP-S-019"), "{stuck:?}");
    assert_eq!(stuck.job, job);
    assert!(!settlement.status().can_settle());
    assert!(world.txs(job)[0].attempts.iter().all(|attempt| attempt.max_fee <= 3_000_000_000), "above the ceiling");
    // It waits, and lands when it can.
    world.chain.mine(1).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    eventually("no longer told", || if settlement.status().stuck.is_none() { Ok(()) } else { Err(String::new()) }).await;
    assert!(proxy.heard("eth_sendRawTransaction") > 0);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_explicit_cancel_uses_the_nonce_up_and_the_claim_is_made_anew() -> Done {
    let (mut world, _proxy, job) = waiting_world().await?;
    world.config.bump_seconds = 3_600;
    let settlement = world.start().await?;
    let tx = attempts(&world, job, 1).await;
    settlement.cancel(tx.id);
    let tx = attempts(&world, job, 2).await;
    // Stored first, in the pool soon after.
    while !world.chain.pool().await?.contains(&B256::from(tx.attempts[1].hash.0)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.chain.mine(1).await?;
    eventually("given up", || match &world.claims(job)[0].state {
        ClaimState::Reverted { reason } if reason.contains("cancelled") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(matches!(world.txs(job)[0].state, TxState::Final { hash, .. } if hash == tx.attempts[1].hash));
    world.chain.set_automine(true).await?;
    world.end(job).await?;
    for _ in 0..600 {
        if matches!(world.record(job).phase, Phase::Paid(_)) {
            break;
        }
        world.chain.mine(1).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.until_paid(job).await;
    assert_eq!(world.claimed(job).await?, [100]);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_nonce_that_nobody_uses_is_filled_and_what_waits_behind_it_lands() -> Done {
    let (mut world, _proxy, job) = waiting_world().await?;
    world.config.bump_seconds = 3_600;
    world.config.confirmations = 1;
    let key = world.deployed.actors.submitter.address;
    let stranger = world.deployed.actors.stranger.address;
    // The key was used elsewhere just before this node's first start, and a reorganisation takes that away.
    world.chain.submit("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    world.chain.mine(1).await?;
    let settlement = world.start().await?;
    let tx = attempts(&world, job, 1).await;
    assert_eq!(tx.id.nonce, 1);
    world.chain.reorg(1).await?;
    eventually("filled", || {
        let txs = world.txs(job);
        if txs.iter().any(|tx| matches!(tx.purpose, Purpose::Fill(_)) && tx.id.nonce == 0) { Ok(()) } else { Err(format!("{txs:#?}")) }
    })
    .await;
    for _ in 0..600 {
        if world.record(job).positions.finalized.0 == 100 {
            break;
        }
        world.chain.mine(1).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    assert_eq!(world.claimed(job).await?, [100]);
    assert!(matches!(world.claims(job)[0].state, ClaimState::Final(id) if id == tx.id), "the claim kept its nonce");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_nonce_that_is_used_up_is_not_offered_for_ever_and_decides_nothing_before_finality() -> Done {
    let (mut world, proxy, job) = waiting_world().await?;
    // The funding is final, and nothing after it will be.
    world.config.confirmations = 1_000;
    world.chain.mine(1_000).await?;
    let key = world.deployed.actors.submitter.address;
    let stranger = world.deployed.actors.stranger.address;
    // The first send is lost; meanwhile the key is used elsewhere.
    proxy.script(Script::always("eth_sendRawTransaction", Fault::DropBefore));
    let settlement = world.start().await?;
    attempts(&world, job, 1).await;
    world.chain.submit("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    world.chain.mine(1).await?;
    proxy.clear_scripts();
    let before = proxy.heard("eth_sendRawTransaction");
    // Many looks later.
    let looks = proxy.heard("eth_getTransactionReceipt") + 200;
    eventually("looked at often", || {
        if proxy.heard("eth_getTransactionReceipt") >= looks { Ok(()) } else { Err(proxy.heard("eth_getTransactionReceipt").to_string()) }
    })
    .await;
    let offered = proxy.heard("eth_sendRawTransaction") - before;
    assert!((1..=4).contains(&offered), "offered {offered} times");
    assert!(matches!(world.claims(job)[0].state, ClaimState::Submitted(_)), "decided before finality");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_nonce_used_elsewhere_is_found_without_the_state_of_old_blocks() -> Done {
    let (mut world, proxy, job) = waiting_world().await?;
    world.config.bump_seconds = 3_600;
    world.config.confirmations = 20;
    world.chain.mine(20).await?;
    // Finality lies far behind what a node that is no archive keeps.
    proxy.set_rules(Rules { state_blocks: Some(4), ..Rules::default() });
    proxy.script(Script::always("eth_sendRawTransaction", Fault::DropBefore));
    let settlement = world.start().await?;
    attempts(&world, job, 1).await;
    let key = world.deployed.actors.submitter.address;
    let stranger = world.deployed.actors.stranger.address;
    world.chain.submit("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    for _ in 0..600 {
        if world.claims(job)[0].state == ClaimState::Replaced {
            break;
        }
        world.chain.mine(1).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.claims(job)[0].state, ClaimState::Replaced, "nobody noticed that the nonce is used up: {:#?}", world.txs(job));
    settlement.stop().await?;
    Ok(())
}

/// The base fee from the next block on, which is made.
async fn base_fee(world: &World, gwei_tenths: u64) -> Done {
    let _: serde_json::Value = world.chain.request("anvil_setNextBlockBaseFeePerGas", (U256::from(gwei_tenths * 100_000_000),)).await?;
    world.chain.mine(1).await?;
    Ok(())
}

#[tokio::test]
async fn a_cancel_that_must_wait_does_not_keep_the_next_transaction_from_being_raised() -> Done {
    let (mut world, _proxy, job) = waiting_world().await?;
    world.chain.set_automine(true).await?;
    let other = world.session(SessionOptions::default()).await?;
    world.chain.set_automine(false).await?;
    world.config.max_fee_gwei = 20;
    // The steps up to the cancel take a fraction of it.
    world.config.bump_seconds = 5;
    let settlement = world.start().await?;
    let first = attempts(&world, job, 1).await;
    // Too dear for the first, so that it stays; the second offers as much as it may, so that its cancel would exceed the ceiling.
    base_fee(&world, 98).await?;
    world.generate(other, 100).await?;
    let second = attempts(&world, other, 1).await;
    assert!(second.id.nonce > first.id.nonce && second.attempts[0].max_fee > 18_200_000_000, "{second:#?}");
    base_fee(&world, 35).await?;
    settlement.cancel(second.id);
    assert_eq!(world.txs(job)[0].attempts.len(), 1, "the machine was too slow for this test");
    attempts(&world, job, 2).await;
    assert_eq!(world.txs(other)[0].attempts.len(), 1, "a cancel above the ceiling");
    settlement.stop().await?;
    Ok(())
}
