//! What is looked at before anything is signed: the job, the key, the money, the endpoints.

mod common;

use alloy::primitives::{Bytes, TxKind, U256, address};
use common::{Done, World, eventually};
use milepost_ledger::{Address, ChainId, TokenAmount};
use milepost_settlement::{Chain, Endpoint, Error, PROFILES, SettlementConfig, accept_nonces, profile};
use milepost_test_support::{ChainOptions, DevChain, Fault, FaultProxy, Script, SessionOptions};

#[tokio::test]
async fn a_job_that_moved_on_since_it_was_planned_is_read_again_and_not_signed_for() -> Done {
    let mut world = World::new().await?;
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    // The process ends with the claim proven.
    let mut first = world.start_until("proved").await?;
    assert!(first.ended().await.is_err());
    world.lose_power()?;
    // The host finalizes by hand, and the first look of the next start is at a block from before that.
    world.deployed.finalize(&world.chain, world.deployed.actors.host.address, job.0).await?;
    let proxy = FaultProxy::to(world.chain.url()).await?;
    world.config.rpc_url = proxy.url().into();
    // One question for the first block, then the newest and the pending one of the first round.
    proxy.script(Script::next("eth_getBlockByNumber", Fault::Stale(1)).after(1).times(2));
    let second = world.start().await?;
    world.until_paid(job).await;
    assert!(proxy.done().len() == 2, "the look into the past was not taken: {:?}", proxy.done());
    assert!(world.txs(job).is_empty(), "a claim was signed for a job that had moved on");
    second.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_restored_old_backup_signs_nothing_until_the_operator_says_so() -> Done {
    let world = World::new().await?;
    let (old, new) = (world.session(SessionOptions::default()).await?, world.session(SessionOptions::default()).await?);
    world.generate(old, 100).await?;
    let settlement = world.start().await?;
    world.until(old, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    // Since the backup, the key has claimed elsewhere what this ledger does not know.
    let (key, stranger) = (world.deployed.actors.submitter.address, world.deployed.actors.stranger.address);
    world.chain.send("a foreign transaction", key, TxKind::Call(stranger), Bytes::new(), U256::from(1)).await?;
    world.generate(new, 100).await?;
    let settlement = world.start().await?;
    let told = eventually("told", || settlement.status().key_ahead.ok_or(format!("{:?}", settlement.status()))).await;
    assert_eq!(told.code, "MP-S-030");
    assert!(!settlement.status().can_settle());
    eventually("refused", || match settlement.status().trouble {
        Some(trouble) if trouble.code == "MP-S-030" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(world.txs(new).is_empty(), "something was signed while the chain is ahead of the ledger");
    // The operator has looked.
    assert_eq!(accept_nonces(&world.db, settlement.chain(), world.key().address()).await?, 2);
    world.until(new, "final", |record| record.positions.finalized.0 == 100).await;
    assert_eq!((world.txs(new)[0].id.nonce, world.claimed(old).await?, world.claimed(new).await?), (2, vec![100], vec![100]));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_key_is_used_by_one_process_of_the_deployment() -> Done {
    let mut world = World::new().await?;
    let folder = std::env::temp_dir().join(format!("milepost-guards-{}", std::process::id()));
    world.config.key_lock_folder = Some(folder.clone());
    let first = world.start().await?;
    assert_eq!(world.start().await.err().map(|error| error.code()), Some("MP-S-031"));
    first.stop().await?;
    world.start().await?.stop().await?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

#[tokio::test]
async fn a_claim_that_costs_more_than_it_earns_waits() -> Done {
    let mut world = World::new().await?;
    // At this price of the coin no claim of 100 tokens is worth its gas.
    world.config.coin_price = Some(TokenAmount(1_000_000_000_000_000));
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    eventually("told", || match settlement.status().trouble {
        Some(trouble) if trouble.code == "MP-S-032" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(world.txs(job).is_empty());
    settlement.stop().await?;
    world.config.coin_price = Some(TokenAmount(3_000_000));
    let settlement = world.start().await?;
    world.until(job, "final", |record| record.positions.finalized.0 == 100).await;
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_rollup_of_the_op_stack_is_asked_for_its_data_fee_and_others_are_not() -> Done {
    assert_eq!(PROFILES.map(|profile| profile.chain.0), [84_532, 5_611, 31_337]);
    for known in PROFILES {
        assert_eq!(profile(known.chain), Some(&PROFILES[PROFILES.iter().position(|other| *other == known).unwrap_or(9)]));
        let chain = DevChain::start(ChainOptions { chain_id: Some(known.chain.0), ..ChainOptions::default() }).await?;
        // PUSH2 12345, stored and returned, whatever is asked.
        let code = Bytes::from_static(&[0x61, 0x30, 0x39, 0x60, 0, 0x52, 0x60, 0x20, 0x60, 0, 0xf3]);
        chain.set_code(address!("420000000000000000000000000000000000000F"), code).await?;
        let asked = Chain::new(&SettlementConfig::new(chain.url(), known.chain, Address([1; 20])))?;
        assert_eq!(asked.data_fee(&[2; 100]).await?, if known.data_fee { 12_345 } else { 0 }, "{}", known.name);
    }
    Ok(())
}

#[tokio::test]
async fn endpoints_that_fail_lag_or_serve_another_chain_do_not_keep_claims_from_landing() -> Done {
    let mut world = World::new().await?;
    let (lagging, refusing) = (FaultProxy::to(world.chain.url()).await?, FaultProxy::to(world.chain.url()).await?);
    let other = DevChain::start(ChainOptions { chain_id: Some(5), ..ChainOptions::default() }).await?;
    let good = FaultProxy::to(world.chain.url()).await?;
    lagging.script(Script::always("eth_getTransactionReceipt", Fault::LostReceipt));
    lagging.script(Script::always("eth_call", Fault::Refuse { code: -32000, message: "header not found".to_owned() }));
    lagging.script(Script::always("eth_sendRawTransaction", Fault::Refuse { code: -32000, message: "txpool is full".to_owned() }));
    refusing.script(Script::everything(Fault::Status(429)));
    world.config.rpc_url = lagging.url().into();
    world.config.rpc_urls = [(refusing.url(), 5), (other.url().to_owned(), 5), ("http://127.0.0.1:9".to_owned(), 5), (good.url(), 1)]
        .map(|(url, weight)| Endpoint { url: url.into(), weight })
        .to_vec();
    let job = world.session(SessionOptions::default()).await?;
    world.generate(job, 100).await?;
    let settlement = world.start().await?;
    world.end(job).await?;
    world.until_paid(job).await;
    assert_eq!(world.claimed(job).await?, [100]);
    let health = settlement.status().endpoints;
    assert_eq!(health.len(), 5);
    let other = health.iter().find(|one| one.endpoint == other.url()).expect("listed");
    assert!(other.failures == 0 || other.last_error.as_deref().unwrap_or_default().contains("chain"), "{other:?}");
    assert!(good.heard("eth_sendRawTransaction") > 0, "what one refuses is offered to the next");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_single_endpoint_that_refuses_says_so_and_one_list_may_stand_for_it() -> Done {
    let mut config = SettlementConfig::new("", ChainId(31_337), Address([1; 20]));
    assert!(matches!(Chain::new(&config), Err(Error::Config(_))), "no endpoint at all");
    config.rpc_urls = vec![Endpoint { url: "http://127.0.0.1:8545/key".into(), weight: 1 }];
    assert_eq!(Chain::new(&config)?.endpoint(), "http://127.0.0.1:8545");
    Ok(())
}
