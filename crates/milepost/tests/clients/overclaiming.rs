//! A host that meters and claims more tokens than it delivered, against sessions with vouchers: found out by both clients by name,
//! refused by the contract by name, and never ahead by more than the allowance.

use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::{TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolCall, SolInterface, SolValue};
use milepost_client::{Error, Session, transcript};
use milepost_statement::{Digest, ProofKind, SigningKey, Statement, TokenCount, TokenSeq, encode_proof};
use milepost_test_support::bindings::JobMarketplace::{JobMarketplaceErrors, submitProofOfWorkCall};
use serde_json::Value;

use crate::commands::verify_finds_more_claimed_than_received;
use crate::common::ground::Ground;
use crate::javascript::{node_tests, places};
use crate::skimmer::{Cover, Skimmer};
use crate::{PRICE, ask, open_vouched};

/// Tokens that may be claimed beyond the last voucher.
const ALLOWANCE: u64 = 40;

/// A claim of the first `count` tokens of a session, over any head: who lies about the count lies about the head, too.
fn claim(session: &Session, count: u64, voucher: &(u64, Vec<u8>)) -> submitProofOfWorkCall {
    let job = *session.transcript().job();
    let statement = Statement {
        chain_id: job.chain_id,
        marketplace: job.marketplace,
        job_id: job.job_id,
        host: job.host,
        model_digest: job.model_digest,
        first_seq: TokenSeq::ZERO,
        count: TokenCount(count),
        head_before: job.genesis(&session.record().salt),
        head_after: Digest([9; 32]),
    };
    let voucher = (U256::from(voucher.0), alloy::primitives::Bytes::from(voucher.1.clone())).abi_encode_params();
    let proof = encode_proof(ProofKind::Mock, &statement.journal(), &[], &voucher);
    submitProofOfWorkCall { jobId: U256::from(job.job_id.0), tokensClaimed: U256::from(count), proof: proof.into() }
}

/// Why the contract refuses a claim of the host's; `None` where it takes it.
async fn refusal(ground: &Ground, call: &submitProofOfWorkCall) -> Option<JobMarketplaceErrors> {
    let request = TransactionRequest {
        from: Some(ground.contracts.actors.host.address),
        to: Some(TxKind::Call(ground.contracts.marketplace)),
        input: call.abi_encode().into(),
        ..Default::default()
    };
    let error = ground.chain.provider().call(request).block(BlockId::latest()).await.err()?;
    let data = error.as_error_resp().and_then(alloy::rpc::json_rpc::ErrorPayload::as_revert_data).expect("a revert with its reason");
    Some(JobMarketplaceErrors::abi_decode(&data).expect("an error of the contract"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_claims_more_than_it_delivered_is_found_out_and_refused_by_name() {
    let ground = Ground::new(&[("gateway.top_up_seconds", "2")]).await;
    let node = ground.start();
    let skimmer = Skimmer::before(ground.port, Cover::Stream).await;
    let files = tempfile::tempdir().expect("a folder");

    // Ninety tokens are metered, eighty-one delivered; the receipt, which the host signs, says ninety.
    let mut session = open_vouched(&ground, &skimmer.url, ALLOWANCE, &files.path().join("short.json")).await;
    let error = session.chat_ws(ask(90)).await.expect_err("it is found out");
    let expected = transcript::Error::ReceiptCount { receipt: TokenCount(90), captured: TokenCount(81) };
    assert!(matches!(&error, Error::Transcript(found) if *found == expected), "{error}");
    let given = session.record().voucher.expect("it countersigns").given.0;
    let (metered, voucher) = skimmer.seen(|seen| (seen.metered, seen.voucher.clone().expect("a voucher")));
    assert!(metered == 90 && given <= 81 && voucher.0 == given, "{metered} metered, {given} countersigned, {} seen", voucher.0);

    // At the contract the host gets what was countersigned and the allowance, and not one token more.
    node.kill();
    session.close_on_chain().await.expect("the depositor's right");
    let most = given + ALLOWANCE;
    let refused = refusal(&ground, &claim(&session, most + 1, &voucher)).await.expect("it is refused");
    let JobMarketplaceErrors::VoucherExceeded(why) = refused else { panic!("another error: {refused:?}") };
    assert_eq!((why.allowed, why.asked), (U256::from(most), U256::from(most + 1)));
    // A voucher for more than was countersigned is nobody's signature.
    let forged = refusal(&ground, &claim(&session, most + 1, &(given + 1, voucher.1.clone()))).await.expect("it is refused");
    assert!(matches!(forged, JobMarketplaceErrors::WrongVoucherSignature(_)), "{forged:?}");
    let host = ground.contracts.actors.host.address;
    ground.chain.transact(host, ground.contracts.marketplace, claim(&session, most, &voucher)).await.expect("within the allowance");
    ground.contracts.finalize(&ground.chain, host, session.job_id().0).await.expect("the host may");

    // What it took beyond what it delivered is bounded by the allowance, and the client says so.
    let error = session.wait_paid(Duration::from_secs(20)).await.expect_err("the chain has more than was delivered");
    let beyond = transcript::Error::ChainBeyond { chain: TokenCount(most), captured: TokenCount(81) };
    assert!(matches!(&error, Error::Transcript(found) if *found == beyond), "{error}");
    let charged =
        ground.contracts.earned(&ground.chain).await.expect("read") + ground.contracts.treasury(&ground.chain).await.expect("read");
    assert_eq!(charged, most * PRICE);
    let stolen = (most - 81) * PRICE;
    assert!(stolen <= ALLOWANCE * PRICE, "{stolen}");
    println!(
        "figure metered {metered}, delivered 81, countersigned {given}, allowance {ALLOWANCE}: a claim of {} is VoucherExceeded({most}, {}), {most} \
         are paid: 0.{stolen:06} USDC taken beyond what was delivered, the allowance is worth 0.{:06}",
        most + 1,
        most + 1,
        ALLOWANCE * PRICE
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_kept_back_is_found_at_the_next_seal() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    let skimmer = Skimmer::before(ground.port, Cover::Stream).await;
    let files = tempfile::tempdir().expect("a folder");
    let mut session = open_vouched(&ground, &skimmer.url, ALLOWANCE, &files.path().join("long.json")).await;
    let error = session.chat_ws(ask(150)).await.expect_err("it is found out");
    assert!(matches!(&error, Error::Transcript(transcript::Error::WrongHead { number: 0, .. })), "{error}");
    assert!(session.record().voucher.expect("it countersigns").given.0 <= session.transcript().end().0);
    node.kill();
}

/// The host's own key signs what suits it: then the stream alone shows nothing until the first seal, or the chain.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_signs_forged_receipts_is_found_out_by_the_chain_and_took_no_more_than_the_allowance() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    let key = SigningKey::from_bytes(&ground.contracts.actors.submitter.key.into()).expect("a key");
    let skimmer = Skimmer::before(ground.port, Cover::Receipts(key)).await;
    let files = tempfile::tempdir().expect("a folder");
    let mut session = open_vouched(&ground, &skimmer.url, ALLOWANCE, &files.path().join("forged.json")).await;
    let turn = session.chat_ws(ask(90)).await.expect("nothing shows yet");
    assert_eq!(turn.count, TokenCount(81));
    // The seal at the session's end is over ninety tokens, and so is the claim.
    let error = match session.close().await {
        Ok(_) => session.wait_paid(Duration::from_secs(60)).await.expect_err("the chain has more than was delivered"),
        Err(error) => error,
    };
    let found = matches!(&error, Error::Transcript(transcript::Error::ChainBeyond { chain: TokenCount(90), captured: TokenCount(81) }));
    assert!(found, "{error}");
    let (claims, _) = ground.claimed(session.job_id().0).await;
    assert_eq!(claims, [90]);
    drop(session);
    let told = verify_finds_more_claimed_than_received(&ground, &files.path().join("forged.json")).await;
    assert_eq!(
        (&told["received"], &told["claimed"], &told["claims"][0]["received"]),
        (&Value::from(81), &Value::from(90), &Value::Bool(false))
    );
    println!("figure forged receipts: 81 delivered and countersigned, 90 claimed: 9 tokens taken, the allowance is {ALLOWANCE}");
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_finds_the_same_host_out() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    for (tokens, code) in [(90, "ReceiptCount"), (150, "WrongHead")] {
        let skimmer = Skimmer::before(ground.port, Cover::Stream).await;
        let mut variables = places(&ground, &skimmer.url);
        variables.extend([("TOKENS", tokens.to_string()), ("EXPECTED", code.to_owned())]);
        let told = node_tests(&["node/overclaimed.mjs"], &variables, 1).await;
        let held = told.lines().find_map(|line| line.split_once("held ").map(|(_, json)| json)).expect("what it holds");
        let held: Value = serde_json::from_str(held).expect("JSON");
        let (tokens, given) = (held["tokens"].as_u64().expect("a number"), held["given"].as_u64().expect("a number"));
        let metered = skimmer.seen(|seen| seen.metered);
        assert!(given <= tokens && tokens < metered, "{given} countersigned of {tokens} held, {metered} metered");
        println!("figure JavaScript: {code}; {metered} metered, {tokens} held, {given} countersigned");
    }
    node.kill();
}
