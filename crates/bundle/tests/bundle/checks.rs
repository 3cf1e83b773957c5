//! Everything beside the receipt, over a mock proof. The same refusals over a real one: `crates/prover-worker/tests/bundle.rs`.

use milepost_bundle::{Bundle, Class, Error, Expected, Field, Options, Report, Verdict, check};
use milepost_statement::{Digest, JobId, Salt, TokenCount, TokenSeq};

use crate::sample;

fn accepting() -> Options {
    Options { accept_mock: true, ..Options::default() }
}

fn after(change: impl FnOnce(&mut Bundle)) -> Report {
    let mut bundle = sample::mock();
    change(&mut bundle);
    check(&bundle, &accepting())
}

fn refusal(change: impl FnOnce(&mut Bundle)) -> Error {
    after(change).error().expect("refused").clone()
}

fn opening(bundle: &mut Bundle) -> &mut milepost_bundle::Opening {
    bundle.opening.as_mut().expect("opened")
}

fn held(report: &Report) -> Vec<&str> {
    report.lines.iter().filter(|line| line.verdict == Verdict::Holds).map(|line| line.name).collect()
}

#[test]
fn a_whole_bundle_answers_every_question() {
    let report = after(|_| {});
    assert_eq!(report.error(), None);
    let names = [
        "program",
        "proof",
        "about",
        "checkpoints",
        "token ids",
        "settings of turns",
        "salt",
        "turns",
        "transaction",
        "voucher",
        "block",
        "event",
    ];
    assert_eq!(held(&report), names);
    assert!(!report.proven, "a mock proof proves nothing, whoever accepts it");
}

#[test]
fn a_public_bundle_says_what_it_leaves_open() {
    let report = after(|it| it.opening = None);
    assert_eq!(report.error(), None);
    let open: Vec<_> = report.lines.iter().filter(|line| line.verdict == Verdict::NotChecked).map(|line| line.name).collect();
    assert_eq!(open, ["token ids", "salt", "turns", "finality"]);
    let early = after(|it| it.landing = None);
    assert_eq!(early.error(), None);
    assert!(early.lines.iter().any(|line| line.name == "event" && line.verdict == Verdict::NotChecked));
}

#[test]
fn a_mock_proof_is_refused_unless_asked_for_and_always_outside_the_dev_chain() {
    let mut bundle = sample::mock();
    assert_eq!(check(&bundle, &Options::default()).error(), Some(&Error::Mock));
    assert_eq!(Error::Mock.class(), Class::FakeRefused);
    bundle.statement.chain_id.0 = 84532;
    for options in [Options::default(), accepting()] {
        assert_eq!(check(&bundle, &options).error(), Some(&Error::MockElsewhere(84532)));
    }
    assert_eq!(refusal(|it| *it.receipt.last_mut().expect("bytes") ^= 1), Error::MockJournal);
}

#[test]
fn checkpoints_must_add_up_and_lead_to_the_claims_head() {
    assert_eq!(
        refusal(|it| it.checkpoints[0].count = TokenCount(7)),
        Error::CheckpointTokens { expected: TokenCount(10), found: TokenCount(11) }
    );
    assert_eq!(refusal(|it| it.checkpoints[1].count = TokenCount(0)), Error::CheckpointSize { checkpoint: 1, found: TokenCount(0) });
    assert!(matches!(refusal(|it| it.checkpoints[1].head = Digest([1; 32])), Error::LastHead { .. }));
    assert!(matches!(refusal(|it| it.checkpoints[0].head = Digest([1; 32])), Error::Tokens { checkpoint: 0, .. }));
}

#[test]
fn the_first_claim_begins_where_the_jobs_terms_say() {
    assert!(matches!(refusal(|it| it.salt_commitment = Digest([1; 32])), Error::Genesis { .. }));
    // A later claim begins at the head of the one before, which this file does not know.
    let later = after(|it| {
        it.statement.first_seq = TokenSeq(5);
        it.receipt = [milepost_prover::MOCK_RECEIPT_TAG, &it.statement.journal()].concat();
        it.opening = None;
        it.landing = None;
    });
    assert_eq!(later.error(), None);
}

#[test]
fn turns_must_be_those_that_the_heads_stand_on() {
    assert_eq!(refusal(|it| opening(it).turns[0].sampler.seed = 9), Error::Settings(TokenSeq(0)));
    let other_settings = refusal(|it| {
        let turn = &mut opening(it).turns[0];
        turn.sampler.seed = 9;
        turn.turn.sampler = turn.sampler.digest();
    });
    assert!(matches!(other_settings, Error::Turns { checkpoint: 0, .. }));
    assert!(matches!(refusal(|it| opening(it).turns[1].turn.prompt = Digest([1; 32])), Error::Turns { checkpoint: 1, .. }));
    assert!(matches!(refusal(|it| opening(it).turns[1].turn.start = TokenSeq(8)), Error::Turns { checkpoint: 1, .. }));
    assert!(matches!(refusal(|it| opening(it).turns.truncate(1)), Error::Turns { checkpoint: 1, .. }));
    assert_eq!(refusal(|it| opening(it).turns[1].turn.start = TokenSeq(10)), Error::TurnPlace(TokenSeq(10)));
    assert_eq!(refusal(|it| opening(it).turns.reverse()), Error::TurnPlace(TokenSeq(0)));
    assert_eq!(refusal(|it| opening(it).turns_digests.truncate(1)), Error::TurnsDigests { expected: 2, found: 1 });
}

#[test]
fn a_salt_may_come_from_elsewhere_and_must_open_the_commitment() {
    let mut bundle = sample::mock();
    opening(&mut bundle).salt = None;
    let open = check(&bundle, &accepting());
    assert_eq!(open.error(), None);
    assert!(open.lines.iter().any(|line| line.name == "turns" && line.verdict == Verdict::NotChecked));
    let given = check(&bundle, &Options { salt: Some(sample::SALT), ..accepting() });
    assert!(given.error().is_none() && held(&given).contains(&"turns"));
    let wrong = check(&bundle, &Options { salt: Some(Salt([1; 32])), ..accepting() });
    assert!(matches!(wrong.error(), Some(Error::Salt { .. })));
}

#[test]
fn expectations_are_named_by_their_field() {
    let expecting = |expected: Expected| check(&sample::mock(), &Options { expected, ..accepting() }).error().cloned();
    assert_eq!(expecting(Expected { job_id: Some(JobId(7)), ..Expected::default() }), None);
    let other = expecting(Expected { job_id: Some(JobId(8)), ..Expected::default() });
    assert_eq!(other, Some(Error::Expected { field: Field::Job, expected: "8".into(), found: "7".into() }));
}

#[test]
fn every_question_is_answered_though_another_failed() {
    let report = after(|it| {
        opening(it).ids[3] ^= 1;
        it.landing.as_mut().expect("landed").transaction[0] = 3;
    });
    let failed: Vec<_> = report.lines.iter().filter(|line| matches!(line.verdict, Verdict::Fails(_))).map(|line| line.name).collect();
    assert_eq!(failed, ["token ids", "transaction"]);
    assert_eq!(report.class(), Some(Class::StatementDiffers), "the first decides");
}
