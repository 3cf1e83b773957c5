//! Chains, contracts, provers and keys that do not do what one hopes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use alloy::primitives::{Bytes, TxKind, U256};
use common::{Done, Failing, World, eventually};
use milepost_ledger::{AccountId, ChainId, ClaimState, Event, Outcome, Phase, TokenSeq, TxState, WriteOff};
use milepost_settlement::{Chain, ChainState, Deps, Error, Settlement, SettlementConfig, SubmitterKey, Verdict, reconcile, why};
use milepost_test_support::bindings::{HostRegistry, JobMarketplace};
use milepost_test_support::{ChainOptions, DeployOptions, DevChain, Line, SessionOptions};

#[tokio::test]
async fn a_reorganisation_takes_a_claim_back_and_the_same_bytes_are_sent_again() -> Done {
    let mut world = World::new().await?;
    world.config.confirmations = 3;
    let job = world.session(SessionOptions::default()).await?;
    world.chain.mine(5).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    world.until(job, "submitted", |record| record.positions.submitted.0 == 100).await;
    pooled(&world).await;
    world.chain.mine(1).await?;
    world.until(job, "landed", |record| record.positions.landed.0 == 100).await;
    let hash = world.txs(job)[0].attempts[0].hash;
    world.chain.reorg(1).await?;
    let taken_back = world.comes_to(job, |record| record.positions.landed.0 == 0).await;
    assert!(taken_back, "a claim in a block that is gone still counts as landed");
    assert_eq!(world.record(job).positions.submitted, TokenSeq(100), "what was submitted stays submitted");
    pooled(&world).await;
    world.chain.mine(1).await?;
    world.until(job, "landed again", |record| record.positions.landed.0 == 100).await;
    assert_eq!(world.record(job).positions.finalized, TokenSeq(0), "one block is not three");
    world.chain.mine(2).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    let txs = world.txs(job);
    assert_eq!((txs.len(), txs[0].attempts.len(), txs[0].attempts[0].hash), (1, 1, hash), "one claim, one nonce, the same bytes");
    assert_eq!(world.claimed(job).await?, [100]);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_reorganisation_below_finality_stops_the_job() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.chain.mine(5).await?;
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    // One confirmation was too few: the chain takes back what was final.
    world.chain.reorg(1).await?;
    world.generate(job, 100).await?;
    let record = world.until(job, "stopped", |record| record.halted.is_some()).await;
    assert!(record.halted.unwrap_or_default().contains("below finality"));
    assert_eq!(world.record(job).positions.finalized, TokenSeq(100), "what was final never falls");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_nobody_has_seen_is_neither_lost_nor_failed() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    // The pool forgets it, again and again; nothing is concluded from that, and the same bytes come back.
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let resolved = world.claims(job).first().is_some_and(|claim| !claim.is_unresolved());
        assert_eq!(world.record(job).positions.landed.0, 0, "a transaction that was not seen was taken for a landed one");
        assert!(!resolved, "a transaction that was not seen was taken for a failed one");
        if let Some(hash) = world.chain.pool().await?.first() {
            seen.push(*hash);
            world.chain.drop_transaction(*hash).await?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "one transaction: {seen:?}");
    pooled(&world).await;
    world.chain.mine(1).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_nonce_that_somebody_else_used_is_given_up_only_then_and_the_claim_is_made_anew() -> Done {
    let mut world = World::new().await?;
    world.config.confirmations = 2;
    let job = world.session(SessionOptions::default()).await?;
    // Nothing is signed before the funding is final.
    world.chain.mine(1).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    let ours = pooled(&world).await;
    world.chain.drop_transaction(ours).await?;
    // The same key is used elsewhere and takes the nonce.
    let key = world.deployed.actors.submitter.address;
    let stranger = world.deployed.actors.stranger.address;
    world.chain.submit("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    world.chain.mine(1).await?;
    assert!(matches!(world.claims(job)[0].state, ClaimState::Submitted(_)), "not before finality depth");
    world.chain.set_automine(true).await?;
    world.chain.mine(2).await?;
    eventually("replaced", || match &world.claims(job)[0].state {
        ClaimState::Replaced => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    world.end(job).await?;
    let mining = mine_until_paid(&world, job).await?;
    assert_eq!(mining.positions.paid.0, 100);
    assert_eq!(world.claimed(job).await?, [100]);
    let replaced = world.txs(job).iter().filter(|tx| tx.state == TxState::Replaced).count();
    assert_eq!(replaced, 1);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_claim_that_reverts_is_decoded_stops_the_job_and_goes_on_when_an_operator_says_so() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    let ours = pooled(&world).await;
    world.chain.drop_transaction(ours).await?;
    // Before it is mined, the host takes the key's right away.
    let actors = world.deployed.actors;
    let call = HostRegistry::removeSubmitterCall { key: actors.submitter.address };
    world.chain.submit("removeSubmitter", actors.host.address, TxKind::Call(world.deployed.registry), encode(&call), U256::ZERO).await?;
    world.chain.mine(1).await?;
    world.chain.set_automine(true).await?;
    let record = world.until(job, "stopped", |record| record.halted.is_some()).await;
    let reason = record.halted.clone().unwrap_or_default();
    assert!(reason.contains("NotHost"), "{reason}");
    assert!(matches!(&world.claims(job)[0].state, ClaimState::Reverted { reason } if reason.contains("NotHost")));
    assert_eq!(record.positions.submitted.0, 0, "its tokens are owed again");
    let chain = Chain::new(&world.config)?;
    assert_eq!(reconcile(&world.db, Some(&chain)).await?.verdict, Verdict::Drift);
    assert!(why(&world.db, Some(&chain), job).await?.iter().any(|answer| answer.answer.contains("NotHost")));
    // The operator mends it.
    world
        .chain
        .transact(actors.host.address, world.deployed.registry, HostRegistry::addSubmitterCall { key: actors.submitter.address })
        .await?;
    world.db.apply(vec![Event::Resume { account: AccountId::Job(job) }]).await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.positions.paid.0, 100);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_session_completed_over_our_head_costs_what_was_not_claimed_and_is_explained() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    world.chain.set_automine(false).await?;
    let settlement = world.start().await?;
    let ours = pooled(&world).await;
    world.chain.drop_transaction(ours).await?;
    // The host account finalizes by hand while the claim is on its way.
    let call = JobMarketplace::finalizeCall { jobId: U256::from(job.0) };
    world
        .chain
        .submit("finalize", world.deployed.actors.host.address, TxKind::Call(world.deployed.marketplace), encode(&call), U256::ZERO)
        .await?;
    world.chain.mine(1).await?;
    world.chain.set_automine(true).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, record.positions.written_off.0, record.write_off), (0, 100, Some(WriteOff::ClosedEarly)));
    // The claim's transaction is followed to its end all the same: its nonce is used.
    eventually("the nonce is used up", || {
        let txs = world.txs(job);
        let ended = txs.iter().all(
            |tx| matches!(&tx.state, TxState::Final { outcome: Outcome::Reverted { reason, .. }, .. } if reason.contains("WrongStatus")),
        );
        if ended { Ok(()) } else { Err(format!("{txs:#?}")) }
    })
    .await;
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.exit_code(), 2, "{report:#?}");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_chain_that_is_dead_at_the_start_and_in_the_middle_only_delays() -> Done {
    let mut world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let line = Line::to(world.chain.port(), false)?;
    world.config.rpc_url = line.url().into();
    world.config.rpc_timeout_ms = 2_000;
    let settlement = world.start().await?;
    assert!(matches!(settlement.status().chain, ChainState::Connecting { trouble: Some(trouble) } if trouble.code == "MP-S-001"));
    // Serving goes on meanwhile.
    world.generate(job, 100).await?;
    line.mend();
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    line.cut();
    world.generate(job, 100).await?;
    eventually("seen to be down", || match settlement.status().chain {
        ChainState::Down { trouble, .. } if trouble.code == "MP-S-001" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(!settlement.status().can_settle());
    line.mend();
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert_eq!((record.positions.paid.0, world.claimed(job).await?), (200, vec![100, 100]));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_chain_ahead_of_the_ledger_stops_the_job() -> Done {
    let mut world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let terms = world.record(job).terms.expect("funded");
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    // The disk is lost; an older copy, in which nothing was claimed, takes its place.
    world.db = milepost_ledger_db::LedgerDb::open_memory(milepost_ledger_db::Options::default())?;
    assert!(matches!(Chain::new(&world.config)?.terms_to_open(job, world.host()).await, Err(Error::ChainAhead { used: 100, .. })));
    world.open(job, terms).await?;
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    let record = world.until(job, "stopped", |record| record.halted.is_some()).await;
    assert!(record.halted.unwrap_or_default().contains("100 tokens claimed"));
    assert!(world.txs(job).is_empty(), "nothing was signed");
    assert_eq!(reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?.exit_code(), 1);
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_payout_that_is_not_what_the_ledger_expects_stops_the_job() -> Done {
    let world = World::new().await?;
    let job = milepost_ledger::JobId(world.deployed.create_session(&world.chain, SessionOptions::default()).await?);
    let mut terms = Chain::new(&world.config)?.terms_to_open(job, world.host()).await?.expect("funded");
    // The ledger believes in a smaller fee than the contract takes.
    terms.fee_bps = 500;
    world.open(job, terms).await?;
    world.generate(job, 100).await?;
    world.end(job).await?;
    let settlement = world.start().await?;
    let record = world.until(job, "stopped", |record| record.halted.is_some()).await;
    assert!(record.halted.unwrap_or_default().contains("MP-S-017"));
    assert!(!matches!(world.record(job).phase, Phase::Paid(_)));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_prover_that_fails_is_asked_again_with_pauses_and_the_claim_is_kept() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let asked = Arc::new(AtomicU32::new(0));
    let prover = Arc::new(Failing { inner: world.mock(), failures: AtomicU32::new(3), asked: asked.clone() });
    let settlement = Settlement::start(world.config.clone(), Deps { prover, ..world.deps() }).await?;
    world.generate(job, 100).await?;
    eventually("named", || match settlement.status().trouble {
        Some(trouble) if trouble.code == "MP-S-024" && trouble.message.contains("MP-P-001") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // Further tokens do not ask the prover again.
    for _ in 0..20 {
        world.generate(job, 1).await?;
    }
    world.end(job).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.positions.paid.0, 120);
    assert_eq!(world.claims(job)[0].id.plan, 0, "the first plan was kept");
    assert!(asked.load(Ordering::SeqCst) <= 6, "asked {} times", asked.load(Ordering::SeqCst));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn claims_wait_for_the_provers_self_test() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let (tell, ready) = tokio::sync::watch::channel(milepost_prover::Status::Untested);
    let asked = Arc::new(AtomicU32::new(0));
    let prover = Arc::new(Failing { inner: world.mock(), failures: AtomicU32::new(0), asked: asked.clone() });
    let settlement = Settlement::start(world.config.clone(), Deps { prover, prover_ready: Some(ready), ..world.deps() }).await?;
    world.generate(job, 100).await?;
    world.until(job, "planned", |record| record.claim.is_some()).await;
    world.generate(job, 50).await?;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let test = milepost_prover::SelfTest { kind: milepost_statement::ProofKind::Mock, seconds: 0.0, cached: false };
    tell.send_replace(milepost_prover::Status::Ready(test));
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_key_without_gas_waits_and_says_so() -> Done {
    let world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    let key = world.deployed.actors.submitter.address;
    world.chain.set_balance(key, U256::ZERO).await?;
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    eventually("named", || match settlement.status().trouble {
        Some(trouble) if trouble.code == "MP-S-008" || trouble.message.to_lowercase().contains("insufficient funds") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(world.txs(job).is_empty(), "nothing was signed");
    world.chain.set_balance(key, U256::from(10).pow(U256::from(18))).await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_preflight_names_what_is_wrong_before_anything_is_served() -> Done {
    let world = World::new().await?;
    let refused = |change: &dyn Fn(&mut SettlementConfig)| {
        let mut config = world.config.clone();
        change(&mut config);
        let deps = world.deps();
        async move { Settlement::start(config, deps).await.err().map_or("started", |error| error.code()) }
    };
    assert_eq!(refused(&|config| config.chain_id = ChainId(84532)).await, "MP-S-002");
    assert_eq!(refused(&|config| config.marketplace.0[0] ^= 1).await, "MP-S-003");
    let registry = milepost_ledger::Address(world.deployed.registry.into_array());
    assert_eq!(refused(&|config| config.marketplace = registry).await, "MP-S-040");
    let nobody = milepost_ledger::Address([9; 20]);
    assert_eq!(refused(&|config| config.host = Some(nobody)).await, "MP-S-007");
    assert_eq!(refused(&|config| config.rpc_url = "not a url".into()).await, "MP-S-022");
    let key = SubmitterKey::from_bytes(&world.deployed.actors.stranger.key.0)?;
    let stranger = Settlement::start(world.config.clone(), Deps { key, ..world.deps() }).await;
    assert_eq!(stranger.err().map(|error| error.code()), Some("MP-S-006"));
    Ok(())
}

#[tokio::test]
async fn mock_proofs_are_refused_by_a_marketplace_that_wants_proofs() -> Done {
    let world = World::with(DeployOptions { test_deployment: false, ..DeployOptions::default() }).await?;
    assert_eq!(world.start().await.err().map(|error| error.code()), Some("MP-S-026"));
    Ok(())
}

#[tokio::test]
async fn a_database_of_another_chain_is_refused() -> Done {
    let mut world = World::new().await?;
    world.start().await?.stop().await?;
    // Chains of the same second may have the same first block.
    let chain = DevChain::start(ChainOptions { genesis: Some(1_700_000_000), ..ChainOptions::default() }).await?;
    let other = World::on(chain, DeployOptions::default()).await?;
    // Another development chain has the same id and, by the same deployer, the same addresses; only its first block differs.
    world.config.rpc_url = other.chain.url().into();
    assert_eq!(world.start().await.err().map(|error| error.code()), Some("MP-S-009"));
    Ok(())
}

/// Waits until a transaction is in the pool; its hash.
async fn pooled(world: &World) -> alloy::primitives::B256 {
    for _ in 0..3_000 {
        if let Some(hash) = world.chain.pool().await.ok().and_then(|pool| pool.first().copied()) {
            return hash;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no transaction reached the pool: {:#?}", world.db.txs());
}

/// Blocks for a chain that mines only with transactions, until the job is paid.
async fn mine_until_paid(world: &World, job: milepost_ledger::JobId) -> Result<milepost_ledger::AccountRecord, Box<dyn std::error::Error>> {
    for _ in 0..600 {
        let record = world.record(job);
        if matches!(record.phase, Phase::Paid(_)) {
            return Ok(record);
        }
        world.chain.mine(1).await?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not paid: {:#?} {:#?}", world.record(job), world.txs(job));
}

fn encode(call: &impl alloy::sol_types::SolCall) -> Bytes {
    call.abi_encode().into()
}
