//! Proof bundles: what anybody gets, what only the depositor gets, and what the chain is asked for.

use milepost_bundle::{Bundle, Error as Refusal, Inclusion, Landing, Options, Verdict, check};
use milepost_gateway::AuthMode;
use milepost_ledger::{
    Attempt, BlockRef, ClaimId, Digest, Event, JobId, Outcome, ProofKind, ProofMeta, Purpose, Salt, TokenSeq, TxId, UnixSeconds,
};
use milepost_ledger_db::Blob;
use milepost_statement::request_digest;
use serde_json::{Value, json};

use crate::node::{Node, START, Setup, ask, bearer, salted};
use crate::sample;

const SALT: Salt = Salt([9; 32]);
const CLAIM: ClaimId = ClaimId { job: JobId(7), first: TokenSeq(0), plan: 0 };
const TX: TxId = TxId { key: milepost_ledger::Address([0xbb; 20]), nonce: 0 };
const HASH: Digest = Digest([0xcc; 32]);
const BLOCK: BlockRef = BlockRef { number: 5, hash: Digest([0xdd; 32]) };

/// A node with a job of 110 tokens in three turns, of which 100 are sealed, claimed and proven (mock), and the depositor's token.
async fn proven() -> (Node, String) {
    let node = Node::start(Setup::funded(salted(&SALT)).answers(None)).await;
    let token = bearer(&node.token(Some(&SALT)).await);
    for (request, tokens) in [("one", 40), ("two", 50), ("three", 20)] {
        let mut body = ask(7, request, tokens);
        body["request_id"] = json!(request);
        assert_eq!(node.post_as("/v1/inference", &body, &[("authorization", &token)]).await.0, 200);
    }
    let plan = Event::PlanClaim { job: JobId(7), until: TokenSeq(100), at: UnixSeconds(START) };
    node.db.apply(vec![plan]).await.expect("planned");
    let statement = node.db.claim(CLAIM).expect("readable").expect("planned").statement;
    let bytes = [milepost_prover::MOCK_RECEIPT_TAG, &statement.journal()].concat();
    let proof = ProofMeta { kind: ProofKind::Mock, receipt: Digest([1; 32]), receipt_bytes: bytes.len() as u64, seconds: 0.0 };
    let events = vec![Event::Proving { claim: CLAIM }, Event::Proved { claim: CLAIM, proof }];
    node.db.apply_with(events, vec![Blob::Receipt { claim: CLAIM, bytes }]).await.expect("proven");
    (node, token)
}

async fn fetch(node: &Node, path: &str, token: Option<&str>) -> (u16, Vec<u8>) {
    let mut request = node.http.get(node.url(path));
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec())
}

async fn bundle(node: &Node, path: &str, token: Option<&str>) -> Bundle {
    let (status, bytes) = fetch(node, path, token).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    Bundle::decode(&bytes).expect("a bundle")
}

fn accepting() -> Options {
    Options { accept_mock: true, ..Options::default() }
}

#[tokio::test]
async fn the_depositor_gets_what_was_said_and_it_fits_the_heads() {
    let (node, token) = proven().await;
    let found = bundle(&node, "/v1/proofs/7-0-0", Some(&token)).await;
    let opening = found.opening.clone().expect("opened");
    assert_eq!((opening.ids.len(), opening.turns.len(), opening.salt), (100, 3, None), "the salt only where it is asked for");
    let requests: Vec<Digest> = opening.turns.iter().map(|open| open.turn.request).collect();
    assert_eq!(requests, ["one", "two", "three"].map(request_digest));
    let report = check(&found, &Options { salt: Some(SALT), ..accepting() });
    assert_eq!(report.error(), None, "{report:?}");
    assert!(report.lines.iter().any(|line| line.name == "turns" && line.verdict == Verdict::Holds));

    let salted = bundle(&node, "/v1/proofs/7-0-0?salt=include", Some(&token)).await;
    assert_eq!(salted.opening.expect("opened").salt, Some(SALT));
}

#[tokio::test]
async fn a_second_claim_opens_with_the_turns_that_begin_in_it() {
    let (node, token) = proven().await;
    let landed = vec![signed(transaction(&node)), included(), Event::TxFinal { id: TX }];
    node.db.apply(landed).await.expect("landed");
    let mut body = ask(7, "four", 90);
    body["request_id"] = json!("four");
    assert_eq!(node.post_as("/v1/inference", &body, &[("authorization", &token)]).await.0, 200);
    node.db.apply(vec![Event::PlanClaim { job: JobId(7), until: TokenSeq(200), at: UnixSeconds(START) }]).await.expect("planned");
    let claim = ClaimId { first: TokenSeq(100), ..CLAIM };
    let statement = node.db.claim(claim).expect("readable").expect("planned").statement;
    let bytes = [milepost_prover::MOCK_RECEIPT_TAG, &statement.journal()].concat();
    let proof = ProofMeta { kind: ProofKind::Mock, receipt: Digest([1; 32]), receipt_bytes: bytes.len() as u64, seconds: 0.0 };
    node.db
        .apply_with(vec![Event::Proving { claim }, Event::Proved { claim, proof }], vec![Blob::Receipt { claim, bytes }])
        .await
        .expect("proven");
    let found = bundle(&node, "/v1/proofs/7-100-0?salt=include", Some(&token)).await;
    let opening = found.opening.clone().expect("opened");
    assert_eq!(opening.turns.iter().map(|open| open.turn.start).collect::<Vec<_>>(), [TokenSeq(110)]);
    assert_eq!(check(&found, &accepting()).error(), None);
}

#[tokio::test]
async fn anybody_gets_what_is_public_and_nothing_that_tells_what_was_said() {
    let (node, token) = proven().await;
    let public = bundle(&node, "/v1/proofs/7-0-0", None).await;
    assert_eq!(public.opening, None);
    assert_eq!(check(&public, &accepting()).error(), None);
    assert_eq!(check(&public, &Options::default()).error(), Some(&Refusal::Mock));
    // Another API key is nobody's; a token of another job opens nothing either.
    assert_eq!(bundle(&node, "/v1/proofs/7-0-0", Some("Bearer sk-anything")).await.opening, None);
    let (status, refused) = fetch(&node, "/v1/proofs/7-0-0?salt=include", None).await;
    assert_eq!(status, 401, "{}", String::from_utf8_lossy(&refused));
    assert_eq!(fetch(&node, "/v1/proofs/7-0-0?salt=yes", Some(&token)).await.0, 400);
    assert_eq!(fetch(&node, "/v1/proofs/7-0-0", Some("Bearer mps_00")).await.0, 401, "a damaged token of ours is said to be one");
    assert_eq!(fetch(&node, "/v1/proofs/7-100-0", None).await.0, 404);
    let (status, receipt) = fetch(&node, "/v1/proofs/7-0-0/receipt", None).await;
    assert_eq!((status, receipt), (200, public.receipt));
}

#[tokio::test]
async fn digests_of_turns_are_not_shown_to_strangers_for_they_blind_the_heads() {
    let (node, token) = proven().await;
    let shown = async |headers: Option<&str>| {
        let (_, body) = fetch(&node, "/v1/jobs/7/checkpoints", headers).await;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(body["checkpoints"][0]["head"].is_string());
        body["checkpoints"][0].get("turns_digest").is_some()
    };
    assert!(!shown(None).await, "with it, public heads could be searched for short answers");
    assert!(!shown(Some("Bearer sk-anything")).await);
    assert!(shown(Some(&token)).await);
}

#[tokio::test]
async fn naming_a_job_opens_nothing_on_a_legacy_host() {
    let mut setup = Setup::legacy(salted(&SALT)).answers(None);
    setup.config.auth = Some(AuthMode::Legacy);
    let node = Node::start(setup).await;
    let mut body = ask(7, "x", 100);
    body["salt"] = json!(Digest(SALT.0));
    assert_eq!(node.post("/v1/inference", &body).await.0, 200);
    let (_, page) = node.get("/v1/jobs/7/checkpoints").await;
    assert!(page["checkpoints"][0]["head"].is_string() && page["checkpoints"][0].get("turns_digest").is_none(), "{page}");
}

/// The claim's transaction, as a host signs it.
fn transaction(node: &Node) -> Vec<u8> {
    let statement = node.db.claim(CLAIM).expect("readable").expect("planned").statement;
    sample::sign(statement.chain_id.0, statement.marketplace, &sample::call(&statement, ProofKind::Mock))
}

fn signed(raw: Vec<u8>) -> Event {
    let attempt = Attempt { hash: HASH, raw, max_fee: 1, max_tip: 1, at: UnixSeconds(START) };
    Event::TxSigned { id: TX, purpose: Purpose::Claim(CLAIM), attempt }
}

fn included() -> Event {
    Event::TxIncluded { id: TX, hash: HASH, block: BLOCK, outcome: Outcome::Done { gas: 1 } }
}

#[tokio::test]
async fn the_chain_is_asked_until_the_block_is_final_and_then_never_again() {
    let (node, _) = proven().await;
    let transaction = transaction(&node);
    node.db.apply(vec![signed(transaction.clone())]).await.expect("signed");
    assert_eq!(bundle(&node, "/v1/proofs/7-0-0", None).await.landing, None, "what was only sent has not landed");
    node.db.apply(vec![included()]).await.expect("included");
    assert_eq!(
        bundle(&node, "/v1/proofs/7-0-0", None).await.landing,
        Some(Landing { transaction, inclusion: None }),
        "a chain that does not show it is no reason to serve nothing"
    );
    let inclusion =
        Inclusion { header: vec![1], receipt: vec![2], transaction_index: 3, log_position: 4, proof: vec![vec![5], vec![6; 40]] };
    node.jobs.includes(Some(inclusion.clone()));
    let shown = async || bundle(&node, "/v1/proofs/7-0-0", None).await.landing.expect("landed").inclusion;
    for _ in 0..2 {
        assert_eq!(shown().await, Some(inclusion.clone()));
    }
    assert_eq!(node.jobs.asked_for_inclusions(), 3, "a block that may still be reorganised away is asked for anew");
    node.db.apply(vec![Event::TxFinal { id: TX }]).await.expect("final");
    assert_eq!(shown().await, Some(inclusion.clone()));
    node.jobs.includes(None);
    assert_eq!(shown().await, Some(inclusion), "kept, though the endpoint has forgotten the block");
    assert_eq!(node.jobs.asked_for_inclusions(), 4);
}

#[tokio::test]
async fn a_claim_that_was_sent_in_another_form_is_served_without_its_transaction() {
    let (node, _) = proven().await;
    node.db.apply(vec![signed(b"of another generation".to_vec()), included()]).await.expect("included");
    let found = bundle(&node, "/v1/proofs/7-0-0", None).await;
    assert_eq!(found.landing, None);
    assert_eq!(check(&found, &accepting()).error(), None, "it says less, and nothing wrong");
    assert_eq!(node.jobs.asked_for_inclusions(), 0);
}
