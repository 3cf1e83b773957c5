//! A demo that is right in every figure, and one lie at a time: each must be caught by the check that is there for it.

use milepost_client::abi::Status;
use milepost_client::{Amount, Capture, CapturedTurn, Checkpoint, JobIdentity, SignedReceipt, Wallet};
use milepost_ledger::Positions;
use milepost_prover::IMAGE_ID;
use milepost_statement::{
    Address, ChainId, Digest, JobId, ProofKind, Salt, SigningKey, Statement, TokenCount, TokenId, TokenSeq, TurnReceipt, checkpoint_head,
    encode_proof, open_digest, request_digest, salt_commitment, turns_digest,
};

use super::chain::{Change, Completed, Created, Facts, Landed, Transfer};
use super::evidence::Evidence;
use super::report::{Claim, Client, Model, Payout, Report};
use super::{CheckOutcome, judge};

const DEPOSITOR: Address = Address([0xdd; 20]);
const MARKETPLACE: Address = Address([0x11; 20]);
const EARNINGS: Address = Address([0x22; 20]);
const USDC: Address = Address([0x33; 20]);
const SALT: Salt = Salt([0x55; 32]);
const TOKENS: u64 = 250;

/// Stands in for the STARK: the receipt is the journal behind a tag. The real judge has tests of its own in the prover's crate.
fn stand_in(kind: ProofKind, receipt: &[u8], image: Digest, statement: &Statement) -> Result<String, String> {
    let expected = [kind.to_string().as_bytes(), &image.0, &statement.journal()].concat();
    if receipt == expected { Ok("verified".into()) } else { Err("WrongHeadAfter".into()) }
}

fn host_key() -> SigningKey {
    SigningKey::from_bytes(&[0x42; 32]).expect("a key")
}

fn identity() -> JobIdentity {
    JobIdentity {
        chain_id: ChainId(31337),
        marketplace: MARKETPLACE,
        job_id: JobId(1),
        host: host_key().address(),
        model_digest: Digest([0x77; 32]),
    }
}

/// Ids, checkpoints of 100, 100 and 50 tokens, and the head after each.
fn transcript() -> (Vec<TokenId>, Vec<Checkpoint>) {
    let ids: Vec<TokenId> = (0..TOKENS).map(|seq| u32::try_from(seq * 7 + 1).expect("small")).collect();
    let mut head = identity().genesis(&SALT);
    let mut checkpoints = Vec::new();
    for (number, (from, to)) in [(0, 100), (100, 200), (200, 250)].into_iter().enumerate() {
        let first_seq = TokenSeq(from as u64);
        let turns_digest = turns_digest(&SALT, first_seq, &[]);
        head = checkpoint_head(&head, first_seq, &turns_digest, &ids[from..to]);
        let count = TokenCount((to - from) as u64);
        checkpoints.push(Checkpoint { number: number as u64, first_seq, count, turns_digest, head, turns: None });
    }
    (ids, checkpoints)
}

/// A receipt over the first `end` tokens with `sealed` checkpoints among them.
fn receipt(ids: &[TokenId], checkpoints: &[Checkpoint], sealed: usize, end: usize, request: &str) -> SignedReceipt {
    let job = identity();
    let (at, head) = match sealed.checked_sub(1).map(|last| &checkpoints[last]) {
        Some(last) => (last.first_seq + last.count, last.head),
        None => (TokenSeq::ZERO, job.genesis(&SALT)),
    };
    let open = &ids[usize::try_from(at.0).expect("small")..end];
    let receipt = TurnReceipt {
        job_id: job.job_id,
        request: request_digest(request),
        sealed_head: head,
        sealed_tokens: TokenCount(at.0),
        open_tokens: TokenCount(open.len() as u64),
        open_digest: open_digest(&head, at, open),
    };
    SignedReceipt { receipt, signature: Some(host_key().sign(&receipt.digest(&job.domain())).to_vec()) }
}

fn capture() -> Capture {
    let (ids, checkpoints) = transcript();
    let job = identity();
    let turn = |request: &str, start: u64, count: u64, receipt: Option<SignedReceipt>| CapturedTurn {
        request_id: request.into(),
        prompt_ids: None,
        start: TokenSeq(start),
        count: TokenCount(count),
        finish_reason: "length".into(),
        receipt,
    };
    let last = receipt(&ids, &checkpoints, 2, 250, "r-3");
    let turns = vec![
        turn("r-1", 0, 120, Some(receipt(&ids, &checkpoints, 1, 120, "r-1"))),
        turn("r-2", 120, 30, None),
        turn("r-3", 150, 100, Some(last.clone())),
    ];
    Capture {
        job_id: job.job_id,
        salt: SALT,
        chain_id: job.chain_id,
        marketplace: job.marketplace,
        host: job.host,
        model_digest: job.model_digest,
        ids,
        turns,
        checkpoints,
        last_receipt: Some(last),
    }
}

fn statement(first: u64, count: u64, before: Digest, after: Digest) -> Statement {
    let job = identity();
    Statement {
        chain_id: job.chain_id,
        marketplace: job.marketplace,
        job_id: job.job_id,
        host: job.host,
        model_digest: job.model_digest,
        first_seq: TokenSeq(first),
        count: TokenCount(count),
        head_before: before,
        head_after: after,
    }
}

fn landed(statement: &Statement, tx: u8) -> Landed {
    Landed {
        tokens_claimed: statement.count,
        tokens_used: TokenCount(statement.end().0),
        head_after: statement.head_after,
        kind: ProofKind::Composite.code(),
        tx: Digest([tx; 32]),
        block: u64::from(tx),
        gas: 58_000,
        succeeded: true,
        to: Some(MARKETPLACE),
        proof: Some(encode_proof(ProofKind::Composite, &statement.journal(), &[], &[])),
    }
}

/// 250 tokens at 0.002 USDC out of 2.00: 0.45 to the host, 0.05 to the treasury, 1.50 back.
fn facts(capture: &Capture, statements: &[Statement; 2]) -> Facts {
    let (created, paid) = (Digest([0xc0; 32]), Digest([0xc9; 32]));
    let transfer = |from, to, value, tx| Transfer { from, to, value: Amount(value), tx };
    Facts {
        chain_id: capture.chain_id,
        marketplace: MARKETPLACE,
        fee_bps: 1_000,
        submitters: Vec::new(),
        created: vec![Created {
            depositor: DEPOSITOR,
            host: capture.host,
            token: USDC,
            deposit: Amount(2_000_000),
            price: Amount(2_000),
            minimum_charge: Amount(0),
            model: capture.model_digest,
            salt_commitment: salt_commitment(&SALT),
            head: capture.identity().genesis(&SALT),
            tx: created,
            block: 10,
        }],
        claims: vec![landed(&statements[0], 1), landed(&statements[1], 2)],
        completed: vec![Completed {
            host: capture.host,
            depositor: DEPOSITOR,
            tokens_used: TokenCount(TOKENS),
            host_paid: Amount(450_000),
            fee: Amount(50_000),
            refund: Amount(1_500_000),
            tx: paid,
            block: 20,
        }],
        transfers: vec![
            transfer(DEPOSITOR, MARKETPLACE, 2_000_000, created),
            transfer(MARKETPLACE, EARNINGS, 450_000, paid),
            transfer(MARKETPLACE, DEPOSITOR, 1_500_000, paid),
        ],
        status: Status::Completed,
        tokens_used: TokenCount(TOKENS),
        head: statements[1].head_after,
        earnings: EARNINGS,
        host_earned: Change { before: Amount(7), after: Amount(450_007) },
        treasury: Change { before: Amount(0), after: Amount(50_000) },
        depositor: Change { before: Amount(98_000_000), after: Amount(99_500_000) },
        credit: Amount(0),
    }
}

/// A demo that is right in every figure.
pub(super) fn evidence() -> Evidence {
    let capture = capture();
    let heads: Vec<Digest> = capture.checkpoints.iter().map(|checkpoint| checkpoint.head).collect();
    let statements = [statement(0, 200, capture.identity().genesis(&SALT), heads[1]), statement(200, 50, heads[1], heads[2])];
    let facts = facts(&capture, &statements);
    let receipts: Vec<Vec<u8>> =
        statements.iter().map(|statement| [&b"composite"[..], &IMAGE_ID.0, &statement.journal()].concat()).collect();
    let claim = |number: usize| Claim {
        first_seq: statements[number].first_seq,
        count: statements[number].count,
        proof_kind: ProofKind::Composite,
        prove_seconds: 31.5,
        receipt_bytes: receipts[number].len() as u64,
        receipt: format!("receipt-{number}.bin").into(),
        tx: facts.claims[number].tx,
        gas: 58_000,
    };
    let at = TokenSeq(TOKENS);
    let report = Report {
        tour: false,
        chain_id: capture.chain_id,
        rpc_url: String::new(),
        marketplace: MARKETPLACE,
        job_id: 1,
        model: Model { name: "smol".into(), sha256: capture.model_digest },
        image_id: IMAGE_ID.to_string(),
        positions: Positions {
            metered: at,
            sealed: at,
            proven: at,
            submitted: at,
            landed: at,
            finalized: at,
            paid: at,
            written_off: TokenCount::ZERO,
        },
        client: Client {
            captured_ids: capture.ids.clone(),
            last_receipt: capture.last_receipt.clone(),
            capture: "client-capture.json".into(),
        },
        claims: vec![claim(0), claim(1)],
        payout: Payout { fee_bps: 1_000, host: Amount(450_000), treasury: Amount(50_000), refund: Amount(1_500_000) },
        finality: None,
    };
    Evidence { report, capture, facts, receipts: receipts.into_iter().map(Ok).collect(), certified: None }
}

fn failures(outcome: &CheckOutcome) -> Vec<&str> {
    outcome.lines.iter().filter(|line| !line.passed).map(|line| line.name).collect()
}

/// One lie, and the check that must catch it.
fn caught(by: &str, lie: impl FnOnce(&mut Evidence)) {
    let mut evidence = evidence();
    lie(&mut evidence);
    let outcome = judge(&evidence, stand_in);
    let failed = failures(&outcome);
    assert!(failed.contains(&by), "expected {by:?} among {failed:?}");
}

#[test]
fn an_honest_demo_passes_every_check() {
    let outcome = judge(&evidence(), stand_in);
    assert_eq!(failures(&outcome), Vec::<&str>::new(), "{:#?}", outcome.lines);
    assert_eq!(outcome.lines.len(), 25);
    assert_eq!(outcome.exit_code(), std::process::ExitCode::SUCCESS);
    let split = outcome.lines.iter().find(|line| line.name == "split").expect("it is there");
    assert_eq!(split.figure, "250 × 2000 → host 450000 + treasury 50000 + refund 1500000 = deposit 2000000");
}

#[test]
fn nothing_checked_is_no_success() {
    assert_eq!(CheckOutcome::default().exit_code(), std::process::ExitCode::FAILURE);
}

#[test]
fn a_report_of_another_job_is_caught() {
    caught("same job", |e| e.report.job_id = 2);
    caught("same job", |e| e.report.marketplace = Address([9; 20]));
    caught("same job", |e| e.capture.chain_id = ChainId(84532));
    caught("same job", |e| e.facts.created[0].host = Address([9; 20]));
    caught("model", |e| e.report.model.sha256 = Digest([1; 32]));
    caught("model", |e| e.facts.created[0].model = Digest([1; 32]));
    caught("salt", |e| e.facts.created[0].salt_commitment = Digest([1; 32]));
    caught("salt", |e| {
        e.capture.salt = Salt::default();
        e.facts.created[0].salt_commitment = Digest::ZERO;
    });
}

#[test]
fn a_changed_capture_is_caught() {
    caught("captured ids", |e| e.report.client.captured_ids[17] ^= 1);
    caught("heads recomputed", |e| {
        e.capture.ids[17] ^= 1;
        e.report.client.captured_ids[17] ^= 1;
    });
    caught("heads on chain", |e| {
        e.capture.ids[17] ^= 1;
        e.report.client.captured_ids[17] ^= 1;
    });
    caught("proofs verified", |e| {
        e.capture.ids[17] ^= 1;
        e.report.client.captured_ids[17] ^= 1;
    });
    caught("receipts of turns", |e| {
        e.capture.ids[230] ^= 1;
        e.report.client.captured_ids[230] ^= 1;
    });
    caught("captured ids", |e| e.capture.ids.truncate(249));
    caught("claims add up", |e| e.capture.ids.truncate(249));
    caught("heads recomputed", |e| e.capture.checkpoints[1].turns_digest = Digest([1; 32]));
    caught("heads recomputed", |e| e.capture.checkpoints[2].head = Digest([1; 32]));
    caught("heads recomputed", |e| e.capture.checkpoints[1].first_seq = TokenSeq(101));
    caught("heads recomputed", |e| e.facts.created[0].head = Digest([1; 32]));
}

#[test]
fn changed_turns_and_receipts_are_caught() {
    caught("turns", |e| e.capture.turns[1].count = TokenCount(29));
    caught("turns", |e| e.capture.turns[2].start = TokenSeq(151));
    caught("turns", |e| e.capture.turns[1].request_id = "r-1".into());
    caught("receipts of turns", |e| {
        if let Some(receipt) = &mut e.capture.turns[0].receipt {
            receipt.receipt.open_tokens = TokenCount(21);
        }
    });
    caught("receipts of turns", |e| e.report.client.last_receipt = None);
    caught("receipts of turns", |e| e.capture.last_receipt = e.capture.turns[0].receipt.clone());
    caught("receipts of turns", |e| {
        let stranger = SigningKey::from_bytes(&[0x43; 32]).expect("a key");
        if let Some(receipt) = &mut e.capture.turns[0].receipt {
            receipt.signature = Some(stranger.sign(&receipt.receipt.digest(&identity().domain())).to_vec());
        }
    });
}

#[test]
fn a_receipt_by_a_submitter_key_of_the_registry_passes() {
    let stranger = SigningKey::from_bytes(&[0x43; 32]).expect("a key");
    let mut evidence = evidence();
    let receipt = evidence.capture.turns[0].receipt.as_mut().expect("it has one");
    receipt.signature = Some(stranger.sign(&receipt.receipt.digest(&identity().domain())).to_vec());
    evidence.facts.submitters.push(stranger.address());
    assert_eq!(failures(&judge(&evidence, stand_in)), Vec::<&str>::new());
}

#[test]
fn too_few_tokens_or_no_tail_are_caught() {
    caught("captured ids", |e| {
        e.capture.ids.truncate(240);
        e.report.client.captured_ids.truncate(240);
    });
    caught("tail", |e| e.capture.checkpoints[2].count = TokenCount(100));
    caught("tail", |e| e.facts.claims[1].tokens_used = TokenCount(249));
    caught("tail", |e| e.capture.checkpoints.clear());
}

#[test]
fn claims_that_do_not_add_up_are_caught() {
    caught("claims add up", |e| e.facts.claims[1].tokens_claimed = TokenCount(250));
    caught("claims add up", |e| e.facts.claims[0].tokens_claimed = TokenCount(199));
    caught("claims add up", |e| {
        e.facts.claims.pop();
    });
    caught("claims add up", |e| e.facts.claims.push(e.facts.claims[1].clone()));
    caught("claims add up", |e| e.facts.tokens_used = TokenCount(200));
    caught("claims reported", |e| e.report.claims[1].first_seq = TokenSeq(199));
    caught("claims reported", |e| e.report.claims[0].count = TokenCount(201));
    caught("claims reported", |e| e.report.claims[0].tx = Digest([8; 32]));
    caught("claims reported", |e| e.report.claims[0].gas = 1);
    caught("claims reported", |e| {
        e.report.claims.pop();
    });
    caught("claims reported", |e| e.facts.claims[0].succeeded = false);
    caught("claims reported", |e| e.facts.claims[0].to = Some(EARNINGS));
    caught("heads on chain", |e| e.facts.claims[0].head_after = Digest([1; 32]));
    caught("heads on chain", |e| e.facts.head = Digest([1; 32]));
}

#[test]
fn positions_that_are_not_so_are_caught() {
    caught("positions", |e| e.report.positions.metered = TokenSeq(251));
    caught("positions", |e| e.report.positions.sealed = TokenSeq(249));
    caught("positions", |e| e.report.positions.paid = TokenSeq(200));
    caught("positions", |e| e.report.positions.written_off = TokenCount(1));
    caught("positions", |e| e.facts.created[0].price = Amount(2_000_000 / 249));
    caught("positions", |e| e.facts.status = Status::Closing);
}

#[test]
fn proofs_that_are_not_real_are_caught() {
    caught("image id", |e| e.report.image_id = Digest([0xee; 32]).to_string());
    caught("image id", |e| e.report.image_id = "none".into());
    caught("kind of proofs", |e| e.report.claims[1].proof_kind = ProofKind::Mock);
    caught("kind of proofs", |e| e.facts.claims[1].kind = 255);
    caught("kind of proofs", |e| e.report.tour = true);
    caught("proofs verified", |e| e.receipts[0] = Ok(b"something else".to_vec()));
    caught("proofs verified", |e| e.receipts[0] = Err("no such file".into()));
    caught("proofs verified", |e| e.receipts.swap(0, 1));
    caught("proofs verified", |e| {
        e.receipts.pop();
    });
    caught("proofs verified", |e| e.report.claims[0].receipt_bytes = 1);
    caught("journals on chain", |e| e.facts.claims[0].proof = None);
    caught("journals on chain", |e| e.facts.claims[0].proof = e.facts.claims[1].proof.clone());
    caught("journals on chain", |e| {
        let journal = statement(0, 200, Digest([1; 32]), e.facts.claims[0].head_after).journal();
        e.facts.claims[0].proof = Some(encode_proof(ProofKind::Composite, &journal, &[], &[]));
    });
}

#[test]
fn more_than_three_proofs_are_caught() {
    caught("number of proofs", |e| e.facts.claims.extend([e.facts.claims[1].clone(), e.facts.claims[1].clone()]));
    caught("number of proofs", |e| e.facts.claims.clear());
}

#[test]
fn money_that_is_a_unit_off_is_caught() {
    caught("paid once", |e| e.facts.completed.push(e.facts.completed[0].clone()));
    caught("paid once", |e| e.facts.completed.clear());
    caught("paid once", |e| e.facts.completed[0].tokens_used = TokenCount(249));
    caught("paid once", |e| e.facts.completed[0].depositor = Address([9; 20]));
    caught("fee", |e| e.report.payout.fee_bps = 999);
    caught("split", |e| e.facts.fee_bps = 999);
    caught("split", |e| {
        e.facts.completed[0].host_paid = Amount(450_001);
        e.facts.completed[0].refund = Amount(1_499_999);
    });
    caught("split", |e| e.facts.completed[0].fee = Amount(49_999));
    caught("payout reported", |e| e.report.payout.host = Amount(450_001));
    caught("payout reported", |e| e.report.payout.treasury = Amount(50_001));
    caught("payout reported", |e| e.report.payout.refund = Amount(1_500_001));
    caught("deposit taken", |e| e.facts.transfers[0].value = Amount(1_999_999));
    caught("deposit taken", |e| e.facts.transfers[0].tx = Digest([8; 32]));
    caught("host's share moved", |e| e.facts.transfers[1].value = Amount(449_999));
    caught("host's share moved", |e| e.facts.host_earned.after = Amount(450_008));
    caught("host's share moved", |e| e.facts.host_earned.after = Amount(0));
    caught("treasury's fee kept", |e| e.facts.treasury.after = Amount(49_999));
    caught("refund moved", |e| e.facts.transfers[2].value = Amount(1_499_999));
    caught("refund moved", |e| e.facts.depositor.after = Amount(99_499_999));
    caught("refund moved", |e| e.facts.credit = Amount(1));
}

#[test]
fn every_check_is_shown_to_fail() {
    // The names above and the checks that exist are the same set: a check without a lie that it catches is no check.
    let source = include_str!("tests.rs");
    for line in judge(&evidence(), stand_in).lines {
        assert!(source.contains(&format!("caught(\"{}\"", line.name)), "no test shows {:?} to fail", line.name);
    }
}

#[test]
fn a_tour_says_that_it_proves_nothing() {
    let mut evidence = evidence();
    evidence.report.tour = true;
    for claim in &mut evidence.report.claims {
        claim.proof_kind = ProofKind::Mock;
    }
    for (number, claim) in evidence.facts.claims.iter_mut().enumerate() {
        claim.kind = ProofKind::Mock.code();
        let (_, journal, _, _) = milepost_statement::decode_proof(claim.proof.as_deref().expect("a proof")).expect("canonical");
        claim.proof = Some(encode_proof(ProofKind::Mock, &journal, &[], &[]));
        let receipt = [milepost_prover::MOCK_RECEIPT_TAG, &journal].concat();
        evidence.report.claims[number].receipt_bytes = receipt.len() as u64;
        evidence.receipts[number] = Ok(receipt);
    }
    let outcome = judge(&evidence, super::proofs::verify);
    assert_eq!(failures(&outcome), Vec::<&str>::new(), "{:#?}", outcome.lines);
    let kinds = outcome.lines.iter().find(|line| line.name == "kind of proofs").expect("it is there");
    assert!(kinds.figure.contains("proves NOTHING"), "{}", kinds.figure);
    // A mock receipt passes for no real proof.
    let statement = statement(0, 200, Digest([1; 32]), Digest([2; 32]));
    let mock = [milepost_prover::MOCK_RECEIPT_TAG, &statement.journal()].concat();
    assert!(super::proofs::verify(ProofKind::Composite, &mock, IMAGE_ID, &statement).is_err());
    assert!(super::proofs::verify(ProofKind::Mock, &mock, IMAGE_ID, &statement).is_ok());
}

#[tokio::test]
async fn a_missing_report_is_a_failure_with_its_reason() {
    let outcome = super::check(std::path::Path::new("/nonexistent/report.json")).await;
    assert_eq!(failures(&outcome), ["evidence"]);
    assert!(outcome.lines[0].figure.contains("report.json"), "{}", outcome.lines[0].figure);
    assert_eq!(outcome.exit_code(), std::process::ExitCode::FAILURE);
}

#[test]
fn the_report_is_read_as_the_demo_writes_it() {
    let wallet = Wallet::from_bytes(&[0x42; 32]).expect("a key");
    let digest = Digest([0x77; 32]);
    let text = serde_json::json!({
        "tour": false, "chain_id": 31337, "rpc_url": "http://127.0.0.1:8545", "marketplace": wallet.address(), "job_id": 1,
        "contracts": {}, "host": wallet.address(), "depositor": wallet.address(),
        "model": { "name": "smol", "sha256": digest }, "image_id": "00".repeat(32),
        "positions": { "metered": 250, "sealed": 250, "proven": 250, "submitted": 250, "landed": 250, "final": 250, "paid": 250, "written_off": 0 },
        "client": { "captured_ids": [1, 2, 3], "last_receipt": null, "capture": "client-capture.json" },
        "claims": [{
            "claim": "1-0", "first_seq": 0, "count": 250, "proof_kind": "composite", "prove_seconds": 31.5, "receipt_bytes": 221_000,
            "receipt": "receipt-1-0.bin", "tx": digest, "gas": 58_000
        }],
        "payout": { "fee_bps": 1000, "host": "450000", "treasury": "50000", "refund": "1500000" },
        "kills": 1, "reconnects": 2, "versions": {},
    });
    let report: Report = serde_json::from_value(text).expect("it is read");
    assert_eq!((report.claims[0].gas, report.payout.host, report.positions.finalized), (58_000, Amount(450_000), TokenSeq(250)));
}
