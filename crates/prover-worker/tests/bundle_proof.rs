//! A bundle around a real proof, made once and shared: it holds, and whatever is changed is refused by its own name.

#[path = "../../bundle/tests/bundle/sample.rs"]
mod sample;
/// The program for strangers, which knows nothing of our crates.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../examples/verify-bundle/src/main.rs"]
mod stranger;

use std::time::Instant;

use milepost_bundle::{BUNDLE_TAG, Bundle, Class, Error, Expected, Field, FormatError, Options, Report, Verdict, check};
use milepost_prover::{
    CheckpointInput, IMAGE_ID, Options as ProverOptions, Process, ProofRequest, Prover, RECEIPT_TAG, VerifyError, encode_receipt,
};
use milepost_statement::{Address, ChainId, Digest, JobId, ProofKind, Salt, Statement, TokenCount, TokenSeq, checkpoint_head};
use risc0_zkvm::{FakeReceipt, InnerReceipt, Receipt, ReceiptClaim};
use tokio::sync::OnceCell;

static RECEIPT: OnceCell<Vec<u8>> = OnceCell::const_new();

/// The bundle with the shared proof of its claim.
async fn bundle() -> Bundle {
    let receipt = RECEIPT
        .get_or_init(|| async {
            let (statement, checkpoints) = sample::claim();
            let mut rest = &sample::IDS[..];
            let checkpoints = checkpoints
                .into_iter()
                .map(|(turns, checkpoint)| {
                    let (ids, behind) = rest.split_at(usize::try_from(checkpoint.count.0).unwrap());
                    rest = behind;
                    CheckpointInput { turns, ids: ids.to_vec() }
                })
                .collect();
            let prover = Process::new(ProverOptions::new(env!("CARGO_BIN_EXE_milepost-prover")));
            let request = ProofRequest { claim: "7-0-0".into(), statement, checkpoints, sealed: false, deadline: None };
            let proof = prover.prove(request).await.expect("a proof");
            println!("figure proof of 10 tokens in two checkpoints: {:.1} s, {} bytes", proof.seconds, proof.receipt.len());
            proof.receipt
        })
        .await;
    sample::bundle(receipt.clone(), ProofKind::Composite)
}

/// What a check says after `change`.
async fn after(change: impl FnOnce(&mut Bundle)) -> Report {
    let mut bundle = bundle().await;
    change(&mut bundle);
    // As it would arrive: by way of the file.
    let file = bundle.encode().expect("encodes");
    check(&Bundle::decode(&file).expect("decodes"), &Options::default())
}

/// The first refusal after `change`.
async fn refusal(change: impl FnOnce(&mut Bundle)) -> Error {
    let report = after(change).await;
    assert!(!report.proven);
    report.error().expect("refused").clone()
}

/// What the line `proof` refused after `change`, whatever else was refused.
async fn proof_refusal(change: impl FnOnce(&mut Bundle)) -> VerifyError {
    let report = after(change).await;
    let line = report.lines.iter().find(|line| line.name == "proof").unwrap();
    match &line.verdict {
        Verdict::Fails(Error::Receipt(why)) => why.clone(),
        other => panic!("{other:?}"),
    }
}

fn ids(bundle: &mut Bundle) -> &mut Vec<u32> {
    &mut bundle.opening.as_mut().unwrap().ids
}

#[tokio::test]
async fn a_bundle_of_a_real_proof_holds_without_model_chain_or_host() {
    let bundle = bundle().await;
    let file = bundle.encode().unwrap();
    let started = Instant::now();
    let report = check(&Bundle::decode(&file).unwrap(), &Options::default());
    println!("figure bundle of {} bytes read and checked in {:.1} ms", file.len(), started.elapsed().as_secs_f64() * 1e3);
    assert_eq!(report.error(), None, "{report:?}");
    assert!(report.proven);
    let unchecked: Vec<_> = report.lines.iter().filter(|line| line.verdict == Verdict::NotChecked).map(|line| line.name).collect();
    assert_eq!(unchecked, ["finality"], "everything else is there");
}

#[tokio::test]
async fn one_token_changed_is_refused() {
    let refused = refusal(|it| ids(it)[7] ^= 1).await;
    assert!(matches!(refused, Error::Tokens { checkpoint: 1, .. }), "{refused:?}");
    assert_eq!(refused.class(), Class::StatementDiffers);
}

#[tokio::test]
async fn one_token_dropped_is_refused() {
    assert_eq!(refusal(|it| ids(it).retain(|id| *id != 103)).await, Error::MissingTokens { expected: 10, found: 9 });
    // Consistently: from its checkpoint, too, and from the claim.
    let shorter = |it: &mut Bundle| {
        ids(it).remove(3);
        it.checkpoints[0].count = TokenCount(5);
    };
    assert_eq!(refusal(shorter).await, Error::CheckpointTokens { expected: TokenCount(10), found: TokenCount(9) });
    let all = |it: &mut Bundle| {
        shorter(it);
        it.statement.count = TokenCount(9);
    };
    assert_eq!(proof_refusal(all).await, VerifyError::WrongCount { expected: 9, found: 10 });
}

#[tokio::test]
async fn one_token_added_is_refused() {
    assert_eq!(refusal(|it| ids(it).push(5)).await, Error::ExtraTokens { expected: 10, found: 11 });
    let all = |it: &mut Bundle| {
        ids(it).push(5);
        it.checkpoints[1].count = TokenCount(5);
        it.statement.count = TokenCount(11);
    };
    assert_eq!(proof_refusal(all).await, VerifyError::WrongCount { expected: 11, found: 10 });
}

#[tokio::test]
async fn tokens_reordered_are_refused() {
    let refused = refusal(|it| ids(it).swap(1, 2)).await;
    assert!(matches!(refused, Error::Tokens { checkpoint: 0, .. }), "{refused:?}");
    // Over the border of two checkpoints: the first of them says so.
    let refused = refusal(|it| ids(it).swap(5, 6)).await;
    assert!(matches!(refused, Error::Tokens { checkpoint: 0, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_forger_who_recomputes_every_head_is_refused_by_the_proof() {
    let forged = |it: &mut Bundle| {
        ids(it)[0] ^= 1;
        let opening = it.opening.clone().unwrap();
        let head = checkpoint_head(&it.statement.head_before, TokenSeq::ZERO, &opening.turns_digests[0], &opening.ids[..6]);
        it.checkpoints[0].head = head;
        it.checkpoints[1].head = checkpoint_head(&head, TokenSeq(6), &opening.turns_digests[1], &opening.ids[6..]);
        it.statement.head_after = it.checkpoints[1].head;
    };
    assert!(matches!(proof_refusal(forged).await, VerifyError::WrongHeadAfter { .. }));
}

#[tokio::test]
async fn another_job_host_chain_model_or_marketplace_is_refused_by_its_name() {
    let changed = async |change: fn(&mut Statement)| proof_refusal(|it| change(&mut it.statement)).await;
    assert_eq!(changed(|it| it.job_id = JobId(8)).await, VerifyError::WrongJob { expected: 8, found: 7 });
    assert!(matches!(changed(|it| it.host = Address([1; 20])).await, VerifyError::WrongHost { .. }));
    assert_eq!(changed(|it| it.chain_id = ChainId(84532)).await, VerifyError::WrongChain { expected: 84532, found: 31337 });
    assert!(matches!(changed(|it| it.model_digest = Digest([1; 32])).await, VerifyError::WrongModel { .. }));
    assert!(matches!(changed(|it| it.marketplace = Address([1; 20])).await, VerifyError::WrongMarketplace { .. }));
}

#[tokio::test]
async fn a_true_bundle_about_something_else_than_expected_is_refused() {
    let bundle = bundle().await;
    let expecting = |expected: Expected| match check(&bundle, &Options { expected, ..Options::default() }).error() {
        Some(Error::Expected { field, .. }) => *field,
        other => panic!("{other:?}"),
    };
    let nothing = Expected::default();
    assert_eq!(expecting(Expected { job_id: Some(JobId(8)), ..nothing }), Field::Job);
    assert_eq!(expecting(Expected { host: Some(Address([1; 20])), ..nothing }), Field::Host);
    assert_eq!(expecting(Expected { chain_id: Some(ChainId(84532)), ..nothing }), Field::Chain);
    assert_eq!(expecting(Expected { marketplace: Some(Address([1; 20])), ..nothing }), Field::Marketplace);
    assert_eq!(expecting(Expected { model_digest: Some(Digest([1; 32])), ..nothing }), Field::Model);
}

#[tokio::test]
async fn another_program_is_refused() {
    assert_eq!(refusal(|it| it.image_id = Digest([1; 32])).await, Error::ImageId { expected: IMAGE_ID, found: Digest([1; 32]) });
    // Whoever believes in another program hears from the receipt itself that it is not of that one.
    let mut bundle = bundle().await;
    bundle.image_id = Digest([1; 32]);
    let report = check(&bundle, &Options { image_id: Digest([1; 32]), ..Options::default() });
    let refused = report.error().unwrap();
    assert_eq!(*refused, Error::Receipt(VerifyError::WrongImage { expected: Digest([1; 32]), found: IMAGE_ID }));
    assert_eq!(refused.class(), Class::ProofFalse);
}

#[tokio::test]
async fn another_salt_is_refused() {
    let refused = refusal(|it| it.opening.as_mut().unwrap().salt = Some(Salt([1; 32]))).await;
    assert!(matches!(refused, Error::Salt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_receipt_of_another_claim_is_refused() {
    // The job's next claim, whole in itself, with the receipt of this one.
    let next = |it: &mut Bundle| {
        let head = it.statement.head_after;
        it.statement.first_seq = TokenSeq(10);
        it.statement.head_before = head;
        it.opening = None;
        it.landing = None;
        it.checkpoints.truncate(1);
        it.checkpoints[0].count = it.statement.count;
        it.checkpoints[0].head = checkpoint_head(&head, TokenSeq(10), &Digest([3; 32]), &sample::IDS);
        it.statement.head_after = it.checkpoints[0].head;
    };
    assert_eq!(refusal(next).await, Error::Receipt(VerifyError::WrongFirstSeq { expected: 10, found: 0 }));
}

#[tokio::test]
async fn a_fake_receipt_is_refused() {
    let refused = refusal(|it| it.receipt = fake(&it.statement)).await;
    assert_eq!(refused, Error::Receipt(VerifyError::Fake));
    assert_eq!((refused.class(), refused.class().exit_code()), (Class::FakeRefused, 5));
}

/// What RISC Zero's development mode makes of a statement.
fn fake(statement: &Statement) -> Vec<u8> {
    let claim = ReceiptClaim::ok(risc0_zkvm::Digest::from(IMAGE_ID.0), statement.journal().to_vec());
    let fake = Receipt::new(InnerReceipt::Fake(FakeReceipt::new(claim)), statement.journal().to_vec());
    encode_receipt(&fake).unwrap()
}

#[tokio::test]
async fn a_mock_in_place_of_the_receipt_is_refused() {
    assert_eq!(refusal(|it| it.receipt = sample::mock().receipt).await, Error::Mock);
    let elsewhere = |it: &mut Bundle| {
        it.statement.chain_id = ChainId(84532);
        it.receipt = [milepost_prover::MOCK_RECEIPT_TAG, &it.statement.journal()].concat();
    };
    assert_eq!(refusal(elsewhere).await, Error::MockElsewhere(84532));
}

#[tokio::test]
async fn an_altered_seal_is_refused() {
    let middle = |it: &Bundle| it.receipt.len() / 2;
    let refused = refusal(|it| {
        let at = middle(it);
        it.receipt[at] ^= 1;
    })
    .await;
    assert!(matches!(refused, Error::Receipt(VerifyError::BadSeal(_) | VerifyError::Format(_))), "{refused:?}");
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let file = bundle().await.encode().unwrap();
    for length in [BUNDLE_TAG.len() + 3, 200, 10_000, file.len() / 2, file.len() - 1] {
        let refused = Bundle::decode(&file[..length]).unwrap_err();
        assert!(matches!(refused, FormatError::Truncated { .. }), "{length}: {refused:?}");
        assert_eq!(Error::from(refused).class(), Class::Unreadable);
    }
    // A receipt that was cut before it was put into a bundle.
    let refused = refusal(|it| it.receipt.truncate(RECEIPT_TAG.len() + 100_000)).await;
    assert!(matches!(refused, Error::Receipt(VerifyError::Format(_))), "{refused:?}");
}

#[tokio::test]
async fn a_bundle_of_two_claims_is_refused() {
    let file = bundle().await.encode().unwrap();
    assert_eq!(Bundle::decode(&[&file[..], &file].concat()), Err(FormatError::TwoClaims));
    assert_eq!(Bundle::decode(&[&file[..], &file[BUNDLE_TAG.len()..]].concat()), Err(FormatError::TwoClaims));
}

/// A way of altering a bundle.
type Change = fn(&mut Bundle);

#[tokio::test]
async fn a_program_without_our_crates_comes_to_the_same_verdicts() {
    let verdict = |bundle: &Bundle| stranger::verify(&bundle.encode().unwrap(), &IMAGE_ID.to_string());
    let bundle = bundle().await;
    let words = verdict(&bundle).unwrap();
    assert!(
        words.contains("N = 10: tokens 0 to 9 of job 7, chain 31337") && words.contains("are those that the host committed to"),
        "{words}"
    );
    let mut public = bundle.clone();
    public.opening = None;
    assert!(verdict(&public).unwrap().contains("not opened here"));

    let refusal = |change: Change| {
        let mut bundle = bundle.clone();
        change(&mut bundle);
        verdict(&bundle).unwrap_err()
    };
    let cases: [(Change, &str); 9] = [
        (|it| ids(it)[7] ^= 1, "from 6 on are not those"),
        (|it| ids(it).swap(1, 2), "from 0 on are not those"),
        (|it| ids(it).truncate(9), "more or fewer"),
        (|it| ids(it).push(1), "more or fewer"),
        (|it| it.checkpoints[0].count = TokenCount(5), "do not add up"),
        (|it| it.statement.job_id = JobId(8), "says something else"),
        (|it| it.receipt = fake(&it.statement), "not a composite STARK"),
        (|it| it.receipt = sample::mock().receipt, "a mock proof proves nothing"),
        (|it| it.receipt[100_000] ^= 1, "the proof does not hold"),
    ];
    for (change, expected) in cases {
        let refused = refusal(change);
        assert!(refused.contains(expected), "{refused}, not {expected}");
    }
    let file = bundle.encode().unwrap();
    assert!(stranger::verify(&file, &Digest([1; 32]).to_string()).unwrap_err().contains("the proof does not hold"));
    assert_eq!(stranger::verify(&file[..file.len() - 1], &IMAGE_ID.to_string()).unwrap_err(), "the file is cut");
    assert!(stranger::verify(&[&file[..], &file].concat(), &IMAGE_ID.to_string()).is_err());
}
