//! The node against a marketplace of each generation that others deployed, proxied and not: it says which it is, and its claims land
//! and are paid to the unit.

mod common;
#[path = "common/markets.rs"]
mod markets;

use alloy::primitives::Address as EvmAddress;
use alloy::sol_types::SolEvent as _;
use common::{Done, World};
use markets::{Around, Generation, HashForm, Market, SignedDeltaForm};
use milepost_ledger::{Address, Bound, ClaimId, JobId, Limits, Payout, Phase, TokenAmount, TokenCount, TokenSeq, WriteOff};
use milepost_ledger_db::ContentPart;
use milepost_settlement::generation::{Content, ContentId, Folder, Hop, Publisher as _, published};
use milepost_settlement::{Chain, Error, Verdict, reconcile, why};
use sha2::{Digest as _, Sha256};

/// Two claims, 100 and 150 tokens, and the split of 250 at 0.002 USDC of a deposit of 2.
const PAID: Payout =
    Payout { tokens: TokenCount(250), host: TokenAmount(450_000), treasury: TokenAmount(50_000), refund: TokenAmount(1_500_000) };

/// A whole session: what is claimed, what is paid, and what an auditor finds.
async fn a_session_is_paid(generation: Generation, around: Around) -> Done {
    let market = Market::new(generation, around).await?;
    let world = &market.world;
    let usdc = world.deployed.usdc;
    let job = market.session().await?;
    let depositor = world.deployed.actors.depositor.address;
    let before = world.deployed.usdc_of(&world.chain, depositor).await?;
    let terms = world.record(job).terms.expect("funded");
    assert_eq!((terms.rate, terms.fee_bps, terms.min_claim.0, terms.claim_window), (generation.rate(), 1_000, 100, 0), "read, not assumed");
    assert_eq!(terms.deployed.map(|rules| rules.price_precision), Some(generation.precision()));
    assert_eq!(terms.affordable(), TokenCount(1_000));

    let settlement = market.start().await?;
    // Time for the slowest rate, and for the host to be let complete.
    world.chain.increase_time(60).await?;
    world.generate(job, 200).await?;
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    world.generate(job, 50).await?;
    world.end(job).await?;
    world.chain.increase_time(60).await?;
    let record = world.until_paid(job).await;
    assert_eq!(record.phase, Phase::Paid(PAID));
    assert_eq!((record.positions.paid.0, record.positions.written_off.0), (250, 0));
    settlement.stop().await?;

    assert_eq!(market.earned(usdc).await?, 450_000);
    assert_eq!(world.deployed.usdc_of(&world.chain, depositor).await? - before, 1_500_000);
    let chain = Chain::new(&world.config)?;
    let landed: Vec<_> = chain.landed(job, world.chain.head().await?.0, terms.started).await?;
    assert_eq!(landed.iter().map(|claim| (claim.count.0, claim.used.0)).collect::<Vec<_>>(), [(100, 100), (150, 250)]);
    let report = reconcile(&world.db, Some(&chain)).await?;
    assert_eq!(report.verdict, Verdict::Clean, "{report:#?}");
    assert!(why(&world.db, Some(&chain), job).await?.iter().any(|answer| answer.answer.contains("no heads kept")));
    Ok(())
}

async fn proxied_and_not(generation: Generation) -> Done {
    for around in [Around::Nothing, Around::StorageProxy, Around::Clone] {
        a_session_is_paid(generation, around).await.map_err(|error| format!("{generation:?} in {around:?}: {error}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn claims_of_the_bytes_form_are_paid() -> Done {
    proxied_and_not(Generation::Bytes).await
}

#[tokio::test]
async fn claims_of_the_hash_form_are_paid() -> Done {
    proxied_and_not(Generation::Hash).await
}

#[tokio::test]
async fn claims_of_the_hash_form_with_price_precision_are_paid() -> Done {
    proxied_and_not(Generation::PreciseHash).await
}

#[tokio::test]
async fn claims_of_the_signed_form_are_paid() -> Done {
    proxied_and_not(Generation::Signed).await
}

#[tokio::test]
async fn claims_of_the_signed_form_with_two_content_ids_are_paid() -> Done {
    proxied_and_not(Generation::SignedDelta).await
}

#[tokio::test]
async fn claims_of_the_form_with_a_timeout_are_paid() -> Done {
    proxied_and_not(Generation::Timeout).await
}

#[tokio::test]
async fn every_generation_is_named_through_every_proxy() -> Done {
    let named = |generation, around| async move {
        let market = Market::new(generation, around).await?;
        let found = Chain::new(&market.world.config)?.generation().await?.clone();
        assert!(!found.is_ours());
        Ok::<_, Box<dyn std::error::Error>>((found, market.world.config.marketplace))
    };
    for (generation, name) in [
        (Generation::Bytes, "bytes form (September 2025)"),
        (Generation::Hash, "hash form (October 2025)"),
        (Generation::PreciseHash, "price precision (December 2025)"),
        (Generation::Signed, "signed form (January 2026)"),
        (Generation::SignedDelta, "signed form with two content ids (January 2026)"),
        (Generation::Timeout, "two content ids (February 2026)"),
    ] {
        let (found, at) = named(generation, Around::Nothing).await?;
        assert!(found.name().ends_with(name), "{generation:?}: {}", found.name());
        assert_eq!((found.route.len(), found.implementation), (0, at));
    }
    let (found, at) = named(Generation::Hash, Around::BeaconProxy).await?;
    assert!(matches!(found.route[..], [Hop::Beacon { proxy, .. }] if proxy == at), "{:?}", found.route);
    let (found, at) = named(Generation::Hash, Around::CloneOfProxy).await?;
    assert!(matches!(found.route[..], [Hop::Clone { proxy }, Hop::Storage { .. }] if proxy == at), "{:?}", found.route);
    assert!(found.implementation != at && found.name().ends_with("hash form (October 2025)"));
    let ours = World::new().await?;
    assert!(Chain::new(&ours.config)?.generation().await?.is_ours());
    Ok(())
}

#[tokio::test]
async fn a_contract_of_no_generation_is_refused_before_anything_is_served() -> Done {
    let mut world = World::new().await?;
    world.config.marketplace = Address(world.deployed.earnings.into_array());
    let refused = world.start().await.err().expect("a purse is no marketplace");
    let Error::UnknownGeneration { found, missing, .. } = &refused else { panic!("{refused}") };
    assert_eq!(found, "getBalance(address,address), withdraw(uint256,address), withdrawAll(address)");
    assert!(missing.contains("sessionJobs(uint256)"), "{missing}");
    assert!(refused.is_fatal() && refused.code() == "MP-S-040");
    Ok(())
}

#[tokio::test]
async fn a_submitter_key_is_refused_where_only_the_host_claims() -> Done {
    let market = Market::new(Generation::Hash, Around::Nothing).await?;
    let refused = market.world.start().await.err().expect("the submitter's key is not the host's");
    assert!(matches!(refused, Error::HostKeyOnly { .. }), "{refused}");
    Ok(())
}

#[tokio::test]
async fn what_a_claim_names_can_be_fetched_and_hashes_to_what_the_chain_was_told() -> Done {
    let market = Market::new(Generation::SignedDelta, Around::StorageProxy).await?;
    let world = &market.world;
    let job = market.session().await?;
    let settlement = market.start().await?;
    world.chain.increase_time(60).await?;
    world.generate(job, 100).await?;
    world.end(job).await?;
    world.until_paid(job).await;
    settlement.stop().await?;
    let logs = market.logs(job, "ProofSubmitted(uint256,address,uint256,bytes32,string,string)").await?;
    let [log] = &logs[..] else { panic!("{logs:?}") };
    let told = SignedDeltaForm::ProofSubmitted::decode_log(&log.inner)?;
    let receipt = published(&world.db, told.proofCID.parse()?)?.expect("served by the node");
    assert_eq!(Sha256::digest(&receipt)[..], told.proofHash[..]);
    let claim = &world.claims(job)[0];
    assert_eq!(Some(receipt), world.db.receipt(claim.id)?);
    let statement = published(&world.db, told.deltaCID.parse()?)?.expect("served by the node");
    assert_eq!(statement, claim.statement.journal());
    assert_eq!(published(&world.db, ContentId::of(b"something else"))?, None);
    Ok(())
}

#[tokio::test]
async fn content_in_a_folder_is_whole_and_named_by_its_id() -> Done {
    let folder = std::env::temp_dir().join(format!("milepost-content-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let publisher = Folder::new(&folder);
    let claim = ClaimId { job: JobId(7), first: TokenSeq(0), plan: 0 };
    let content = Content { claim, part: ContentPart::Receipt, bytes: b"hello world".to_vec() };
    let id = publisher.publish(content.clone()).await?;
    assert_eq!(id.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", "the id that IPFS gives");
    // Half of it, as a crash of something without our care would leave it, is replaced.
    std::fs::write(folder.join(id.to_string()), b"hello")?;
    assert_eq!(publisher.publish(content).await?, id);
    assert_eq!(std::fs::read(folder.join(id.to_string()))?, b"hello world");
    assert_eq!(std::fs::read_dir(&folder)?.count(), 1);
    std::fs::remove_dir_all(&folder)?;
    let gone = Content { claim, part: ContentPart::Receipt, bytes: vec![1] };
    assert_eq!(publisher.publish(gone).await.map_err(|error| error.code()), Err("MP-S-042"), "a claim without its receipt is not sent");
    Ok(())
}

#[tokio::test]
async fn a_session_in_the_chains_coin_is_paid() -> Done {
    let market = Market::new(Generation::Hash, Around::StorageProxy).await?;
    let world = &market.world;
    let job = market.session_in_coin().await?;
    let settlement = market.start().await?;
    world.chain.increase_time(60).await?;
    world.generate(job, 100).await?;
    world.end(job).await?;
    let record = world.until_paid(job).await;
    let expected =
        Payout { tokens: TokenCount(100), host: TokenAmount(180_000), treasury: TokenAmount(20_000), refund: TokenAmount(1_800_000) };
    assert_eq!(record.phase, Phase::Paid(expected));
    assert_eq!(market.earned(EvmAddress::ZERO).await?, 180_000);
    // Both overloads of the event were logged, and only one payout is known.
    assert_eq!(market.logs(job, "SessionCompleted(uint256,uint256,uint256,uint256)").await?.len(), 1);
    let by = market.logs(job, "SessionCompleted(uint256,address,uint256,uint256,uint256)").await?;
    assert_eq!(HashForm::SessionCompleted_1::decode_log(&by[0].inner).map(|event| event.tokensUsed.to::<u64>()).ok(), Some(100));
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_was_not_claimed_when_a_stranger_timed_the_session_out_is_written_off() -> Done {
    let market = Market::new(Generation::Timeout, Around::Nothing).await?;
    let world = &market.world;
    let job = market.session().await?;
    let settlement = market.start().await?;
    world.chain.increase_time(60).await?;
    world.generate(job, 250).await?;
    world.until(job, "first claim final", |record| record.positions.finalized.0 == 100).await;
    // The host is away for longer than the session may go without a proof.
    settlement.stop().await?;
    world.chain.increase_time(1_001).await?;
    market.time_out(job).await?;
    let settlement = market.start().await?;
    let record = world.until_paid(job).await;
    let expected =
        Payout { tokens: TokenCount(100), host: TokenAmount(180_000), treasury: TokenAmount(20_000), refund: TokenAmount(1_800_000) };
    assert_eq!(record.phase, Phase::Paid(expected));
    assert_eq!((record.positions.written_off.0, record.write_off), (150, Some(WriteOff::ClosedEarly)));
    let report = reconcile(&world.db, Some(&Chain::new(&world.config)?)).await?;
    assert_eq!(report.verdict, Verdict::Loss, "{report:#?}");
    settlement.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_the_depositor_could_take_is_bounded_where_no_window_protects_it() -> Done {
    let market = Market::new(Generation::PreciseHash, Around::Nothing).await?;
    let world = &market.world;
    let job = market.session().await?;
    let limits = |risk: Option<u128>| Limits { reserve_seconds: 300, max_at_risk: risk.map(TokenAmount), pace: None, shared: None };
    let record = world.record(job);
    let now = record.terms.as_ref().expect("funded").started.plus(60);
    let admitted = |limits| record.admissible(now, &limits);
    assert_eq!((admitted(limits(Some(600_000))).tokens.0, admitted(limits(Some(600_000))).bound), (300, Bound::AtRisk));
    assert_eq!(admitted(limits(None)).bound, Bound::Deposit, "a thousand tokens are fewer than what may be unclaimed");
    Ok(())
}
