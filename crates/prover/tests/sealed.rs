//! Sealed receipts, with the seal that RISC Zero published for its release 3.0, and provers that say they seal.
#![cfg(feature = "stark")]

#[macro_use]
mod fake;

use std::time::Duration;

use fake::{Fake, hello};
use milepost_prover::protocol::{FromWorker, PROTOCOL, VERSION};
use milepost_prover::{
    Error, IMAGE_ID, MOCK_RECEIPT_TAG, Options, Patience, Process, ProofRequest, Prover, RECEIPT_TAG, SEAL_BYTES, VerifyError, kind_of,
    sample_request, seal_of, sealed_receipt, self_test, verify,
};
use milepost_statement::{Digest, JournalError, ProofKind};

// From risc0-ethereum-contracts 3.0.1, test/TestReceiptV3_0.sol: a receipt about a program and a journal that are not ours.
const SEAL: &str = "73c457ba2ccb718fd9092cc11546eeded62a44d3ed274076dd3ec154fae8739f3432050b2005be2c5dbe6c08bfd04b30601a462540962bc26a2f38c5cfc0\
                    a4d76d8f1b8015e690a1b230081234867edeedb2f98bcdf33d0471c2aa5e8db63b72333f871527eb5d1fcf0a7af50fb8f42e8699e2c4eda3cd93f4e2a930\
                    096ae78e38bea4020c5c3d963dc453b4b302170e47c0cf53382255143c8fcef474d8b6eaaa8daaaf092c2f650809a3afbd122ef128cb882c2de7a6ccddd2\
                    e544b645fa3fedf6bcc92e09be04876a07778231fd5b93305d35fd8af23f040a11682a8c64130370804f28f07a76fa538755276e42c04b5f7eb97b04b68b\
                    65fa50e3181a0452069a3667";
const IMAGE: &str = "11d264ed8dfdee222b820f0278e4d7f55d4b69a5472253a471c102265a91ea1a";
const JOURNAL: &[u8] = b"just a simple receipt";

fn seal() -> [u8; SEAL_BYTES] {
    hex::decode(SEAL).unwrap().try_into().unwrap()
}

fn image() -> Digest {
    Digest(hex::decode(IMAGE).unwrap().try_into().unwrap())
}

/// What is said of a sealed receipt, whatever it states.
fn judged(seal: &[u8; SEAL_BYTES], image: Digest, journal: &[u8]) -> VerifyError {
    verify(&sealed_receipt(seal, journal), image, &sample_request().statement).unwrap_err()
}

#[test]
fn the_published_seal_holds_and_states_nothing_of_ours() {
    // The statement is read when the seal was found to hold, and not before.
    assert_eq!(judged(&seal(), image(), JOURNAL), VerifyError::NotAStatement(JournalError::Length(JOURNAL.len())));
}

#[test]
fn a_seal_holds_for_one_program_and_one_journal() {
    let bad = |error: VerifyError| assert!(matches!(error, VerifyError::BadSeal(_)), "{error}");
    bad(judged(&seal(), IMAGE_ID, JOURNAL));
    bad(judged(&seal(), image(), b"just a simple receipt."));
    bad(judged(&seal(), image(), &sample_request().statement.journal()));
    for word in 0..8 {
        let mut altered = seal();
        altered[4 + 32 * word + 31] ^= 1;
        bad(judged(&altered, image(), JOURNAL));
    }
}

#[test]
fn seals_of_other_verifiers_and_of_development_mode_are_refused_by_name() {
    let with = |selector: [u8; 4]| {
        let mut seal = seal();
        seal[..4].copy_from_slice(&selector);
        judged(&seal, image(), JOURNAL)
    };
    assert_eq!(with([0xff; 4]), VerifyError::Fake);
    assert_eq!(with([1, 2, 3, 4]), VerifyError::BadSeal("it is for the verifier 01020304, known is 73c457ba".into()));
}

#[test]
fn a_file_is_told_by_its_first_bytes_and_cut_ones_are_refused() {
    let file = sealed_receipt(&seal(), JOURNAL);
    assert_eq!(kind_of(&file), Some(ProofKind::Groth16));
    assert_eq!(kind_of(RECEIPT_TAG), Some(ProofKind::Composite));
    assert_eq!(kind_of(MOCK_RECEIPT_TAG), Some(ProofKind::Mock));
    assert_eq!(kind_of(&file[1..]), None);
    assert_eq!(seal_of(&file), Some((&seal(), JOURNAL)));
    let cut = &file[..file.len() - JOURNAL.len() - 1];
    assert_eq!(seal_of(cut), None);
    assert!(matches!(verify(cut, image(), &sample_request().statement), Err(VerifyError::Format(_))));
}

fn sealing_hello() -> FromWorker {
    let mut greeting = hello(PROTOCOL, VERSION, IMAGE_ID);
    if let FromWorker::Hello { kinds, .. } = &mut greeting {
        kinds.push(ProofKind::Groth16);
    }
    greeting
}

fn sealed() -> ProofRequest {
    ProofRequest { sealed: true, ..sample_request() }
}

#[tokio::test]
async fn a_prover_without_seals_is_named_at_its_self_test_and_at_a_claim() {
    let fake = Fake::new("say hello; exec sleep 60");
    let prover = Process::new(Options { seals: true, ..Options::new(fake.path()) });
    let error = self_test(&prover, None).await.unwrap_err();
    assert!(error.code() == "MP-P-019" && !error.is_transient(), "{error}");
    assert_error!(error, Error::NoSeals { .. });
    assert_error!(prover.prove(sealed()).await.unwrap_err(), Error::NoSeals { .. });
}

#[tokio::test]
async fn sealing_has_its_time_and_its_turn() {
    let executed = FromWorker::Executed { id: 1, cycles: 1, po2: vec![14] };
    let proven = FromWorker::Proven { id: 1, segments: 1 };
    let outcome = async |script: &str, request: ProofRequest| {
        let fake = Fake::new(&format!("say sealing-hello; {script}; while say beat; do sleep 0.05; done"))
            .with("sealing-hello", &sealing_hello(), b"")
            .with("executed", &executed, b"")
            .with("proven", &proven, b"")
            .with("sealing", &FromWorker::Sealing { id: 1 }, b"");
        // Segments may take as good as no time, sealing a little.
        let patience = Patience { segment: Duration::from_millis(75), sealing: Duration::from_secs(1), ..Patience::default() };
        Process::new(Options { seals: true, patience, ..Options::new(fake.path()) }).prove(request).await.unwrap_err()
    };
    let hung = outcome("say executed; say proven; say sealing", sealed()).await;
    assert_error!(hung, Error::Hung { what: "the sealing did not end", silent } if *silent > Duration::from_secs(1));
    for (script, request) in [
        ("say executed; say sealing", sealed()),
        ("say executed; say proven; say sealing; say sealing", sealed()),
        ("say executed; say proven; say sealing", sample_request()),
    ] {
        let refused = outcome(script, request).await;
        assert_error!(refused, Error::NotAProver { why, .. } if why.contains("Sealing"));
    }
}

#[tokio::test]
async fn a_failed_sealing_is_named_and_may_succeed_later() {
    let failed = FromWorker::Failed { id: Some(1), code: "sealing".into(), message: "docker does not answer".into() };
    let fake =
        Fake::new("say sealing-hello; say failed; exec sleep 60").with("sealing-hello", &sealing_hello(), b"").with("failed", &failed, b"");
    let error = Process::new(Options { seals: true, ..Options::new(fake.path()) }).prove(sealed()).await.unwrap_err();
    assert!(error.code() == "MP-P-020" && error.is_transient(), "{error}");
    assert_error!(error, Error::Sealing { why } if why.contains("docker"));
}

#[tokio::test]
async fn a_success_with_other_proofs_is_no_success_with_seals() {
    let fake = Fake::new("say sealing-hello; exec sleep 60").with("sealing-hello", &sealing_hello(), b"");
    let fingerprint = async |seals| {
        let prover = Process::new(Options { seals, ..Options::new(fake.path()) });
        prover.fingerprint().await.unwrap()
    };
    assert_ne!(fingerprint(true).await, fingerprint(false).await);
}

#[tokio::test]
async fn a_seal_about_something_else_and_none_are_refused() {
    let done = FromWorker::Done { id: 1, cycles: 1, po2: vec![14], seconds: 1.0 };
    for body in [sealed_receipt(&seal(), JOURNAL), [MOCK_RECEIPT_TAG, b"x"].concat()] {
        let fake =
            Fake::new("say sealing-hello; say done; exec sleep 60").with("sealing-hello", &sealing_hello(), b"").with("done", &done, &body);
        let refused = Process::new(Options { seals: true, ..Options::new(fake.path()) }).prove(sealed()).await.unwrap_err();
        assert_error!(refused, Error::Invalid(VerifyError::BadSeal(_) | VerifyError::Mock));
    }
}
