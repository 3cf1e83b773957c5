//! Proofs: how many, of which kind, and whether each says what the captured ids give.

use milepost_prover::IMAGE_ID;
use milepost_statement::{Digest, JobId, ProofKind, Statement, TokenSeq, decode_proof};

use super::evidence::Evidence;
use super::{CheckOutcome, equal, expect};

/// Most proofs of a demo: each takes about half a minute on two cores.
const MOST_PROOFS: usize = 3;

/// Judges a receipt file against an image id and a statement: a figure, or the reason for refusing it.
pub(super) type Verify = fn(ProofKind, &[u8], Digest, &Statement) -> Result<String, String>;

pub(super) fn check(evidence: &Evidence, verify: Verify, outcome: &mut CheckOutcome) {
    outcome.note("image id", image(evidence));
    outcome.note("number of proofs", number(evidence));
    outcome.note("kind of proofs", kinds(evidence));
    outcome.note("journals on chain", journals(evidence));
    outcome.note("proofs verified", receipts(evidence, verify));
}

/// The kind that this demo must have: real proofs, except in the tour, which says so.
fn expected_kind(evidence: &Evidence) -> ProofKind {
    if evidence.report.tour { ProofKind::Mock } else { ProofKind::Composite }
}

fn image(evidence: &Evidence) -> Result<String, String> {
    let reported: Digest = evidence.report.image_id.parse().map_err(|error| format!("{:?}: {error}", evidence.report.image_id))?;
    equal("image id of the report and of the committed guest", &reported, &IMAGE_ID)?;
    Ok(reported.to_string())
}

fn number(evidence: &Evidence) -> Result<String, String> {
    let count = evidence.facts.claims.len();
    expect((1..=MOST_PROOFS).contains(&count), format!("{count} (at most {MOST_PROOFS})"), format!("{count}, expected 1 to {MOST_PROOFS}"))
}

fn kinds(evidence: &Evidence) -> Result<String, String> {
    let expected = expected_kind(evidence);
    for (number, claim) in evidence.report.claims.iter().enumerate() {
        equal(&format!("kind of claim {number} as reported, and {expected}"), &claim.proof_kind.to_string(), &expected.to_string())?;
    }
    for (number, claim) in evidence.facts.claims.iter().enumerate() {
        equal(&format!("kind of claim {number} on chain, and {expected}"), &claim.kind, &expected.code())?;
    }
    Ok(match expected {
        ProofKind::Mock => "each mock: the tour proves NOTHING".to_owned(),
        kind => format!("each {kind}"),
    })
}

/// What each claim must state, from captured ids and the chain's claims.
fn statements(evidence: &Evidence) -> Result<Vec<Statement>, String> {
    let heads = evidence.heads()?;
    let at = |position: TokenSeq| {
        let found = heads.iter().find(|(end, _)| *end == position).map(|(_, head)| *head);
        found.ok_or_else(|| format!("a claim's boundary at token {position} is the end of no checkpoint"))
    };
    let capture = &evidence.capture;
    let mut first_seq = TokenSeq::ZERO;
    let mut statements = Vec::new();
    for claim in &evidence.facts.claims {
        let end = first_seq.checked_add(claim.tokens_claimed).ok_or("a claim runs past the largest position")?;
        statements.push(Statement {
            chain_id: evidence.facts.chain_id,
            marketplace: evidence.facts.marketplace,
            job_id: JobId(evidence.report.job_id),
            host: capture.host,
            model_digest: capture.model_digest,
            first_seq,
            count: claim.tokens_claimed,
            head_before: at(first_seq)?,
            head_after: at(end)?,
        });
        first_seq = end;
    }
    Ok(statements)
}

/// The journal in each transaction is the statement that the captured ids give.
fn journals(evidence: &Evidence) -> Result<String, String> {
    let statements = statements(evidence)?;
    for (number, (claim, statement)) in evidence.facts.claims.iter().zip(&statements).enumerate() {
        let proof = claim.proof.as_deref().ok_or_else(|| format!("transaction {} submits no proof for this job", claim.tx))?;
        let (kind, journal, _, _) = decode_proof(proof).map_err(|error| format!("claim {number}: {error}"))?;
        equal(&format!("kind in the proof bytes of claim {number} and in its event"), &kind.code(), &claim.kind)?;
        if journal != statement.journal() {
            let found = Statement::from_journal(&journal).map_or_else(|error| error.to_string(), |found| format!("{found:?}"));
            return Err(format!("the journal of claim {number} says {found}, the captured ids give {statement:?}"));
        }
    }
    Ok(format!("{} equal to the recomputed statements", statements.len()))
}

fn receipts(evidence: &Evidence, verify: Verify) -> Result<String, String> {
    let statements = statements(evidence)?;
    equal("receipts and claims", &evidence.receipts.len(), &statements.len())?;
    let kind = expected_kind(evidence);
    let mut figures = Vec::new();
    for (number, ((claim, receipt), statement)) in evidence.report.claims.iter().zip(&evidence.receipts).zip(&statements).enumerate() {
        let bytes = receipt.as_ref().map_err(|reason| format!("claim {number}: {reason}"))?;
        equal(&format!("bytes of receipt {number} as reported and on disk"), &claim.receipt_bytes, &(bytes.len() as u64))?;
        let figure = verify(kind, bytes, IMAGE_ID, statement).map_err(|reason| format!("claim {number}: {reason}"))?;
        figures.push(format!("{} bytes, {figure}, proven in {:.1} s", bytes.len(), claim.prove_seconds));
    }
    Ok(figures.join("; "))
}

/// The real judge.
pub(super) fn verify(kind: ProofKind, receipt: &[u8], image: Digest, statement: &Statement) -> Result<String, String> {
    match kind {
        ProofKind::Mock => {
            let expected = [milepost_prover::MOCK_RECEIPT_TAG, &statement.journal()].concat();
            expect(receipt == expected, "mock", "the mock receipt holds another journal")
        }
        ProofKind::Composite => composite(receipt, image, statement),
        ProofKind::Groth16 => Err("a demo has no Groth16 proofs".into()),
    }
}

#[cfg(feature = "stark")]
fn composite(receipt: &[u8], image: Digest, statement: &Statement) -> Result<String, String> {
    let started = std::time::Instant::now();
    let verified = milepost_prover::verify(receipt, image, statement).map_err(|error| error.to_string())?;
    Ok(format!("{} segment(s), STARK verified in {} ms", verified.segments, started.elapsed().as_millis()))
}

#[cfg(not(feature = "stark"))]
fn composite(_: &[u8], _: Digest, _: &Statement) -> Result<String, String> {
    Err("this build cannot verify a STARK (feature `stark`)".into())
}
