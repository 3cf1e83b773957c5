//! Tokens: the capture in itself, against the report, and against the chain's claims.

use milepost_client::Transcript;
use milepost_client::abi::Status;
use milepost_statement::{Digest, TokenCount, TokenSeq, salt_commitment};

use super::evidence::Evidence;
use super::{CheckOutcome, equal, expect};

/// Least tokens of a demo, the end-of-generation tokens included.
const LEAST_TOKENS: u64 = 250;
/// The demo ends in a last checkpoint below the contract's minimum.
const MINIMUM_CLAIM: u64 = 100;

pub(super) fn check(evidence: &Evidence, outcome: &mut CheckOutcome) {
    outcome.note("same job", same_job(evidence));
    outcome.note("model", model(evidence));
    outcome.note("salt", salt(evidence));
    outcome.note("captured ids", captured(evidence));
    outcome.note("turns", turns(evidence));
    outcome.note("receipts of turns", receipts(evidence));
    outcome.note("heads recomputed", heads(evidence));
    outcome.note("tail", tail(evidence));
    outcome.note("claims add up", claims(evidence));
    outcome.note("claims reported", reported(evidence));
    outcome.note("heads on chain", chain_heads(evidence));
    outcome.note("positions", positions(evidence));
}

fn same_job(evidence: &Evidence) -> Result<String, String> {
    let (report, capture, facts) = (&evidence.report, &evidence.capture, &evidence.facts);
    equal("chain id of report and chain", &report.chain_id, &facts.chain_id)?;
    equal("chain id of capture and chain", &capture.chain_id, &facts.chain_id)?;
    equal("marketplace of report and capture", &report.marketplace, &capture.marketplace)?;
    equal("job of report and capture", &report.job_id, &capture.job_id.0)?;
    equal("host of capture and chain", &capture.host, &evidence.created()?.host)?;
    Ok(format!("chain {}, marketplace {}, job {}, host {}", report.chain_id, report.marketplace, report.job_id, capture.host))
}

fn model(evidence: &Evidence) -> Result<String, String> {
    let model = &evidence.report.model;
    equal("model digest of report and chain", &model.sha256, &evidence.created()?.model)?;
    equal("model digest of capture and chain", &evidence.capture.model_digest, &evidence.created()?.model)?;
    Ok(format!("{} {}", model.name, model.sha256))
}

fn salt(evidence: &Evidence) -> Result<String, String> {
    let commitment = salt_commitment(&evidence.capture.salt);
    if commitment == Digest::ZERO {
        return Err("the capture's salt is zero: short answers could be guessed out of public heads".into());
    }
    equal("salt commitment of capture and chain", &commitment, &evidence.created()?.salt_commitment)?;
    Ok(format!("commitment {commitment}"))
}

fn captured(evidence: &Evidence) -> Result<String, String> {
    let count = evidence.captured();
    let reported = &evidence.report.client.captured_ids;
    if *reported != evidence.capture.ids {
        return Err(format!("the report lists {} ids, which are not the {count} that the client captured", reported.len()));
    }
    expect(count.0 >= LEAST_TOKENS, format!("{count} (at least {LEAST_TOKENS})"), format!("{count}, expected at least {LEAST_TOKENS}"))
}

fn turns(evidence: &Evidence) -> Result<String, String> {
    let mut end = TokenSeq::ZERO;
    let mut ids: Vec<&str> = Vec::new();
    for turn in &evidence.capture.turns {
        if turn.start != end {
            return Err(format!("turn {} begins at token {}, the one before it ended at {end}", turn.request_id, turn.start));
        }
        if ids.contains(&turn.request_id.as_str()) {
            return Err(format!("request {} was answered twice", turn.request_id));
        }
        ids.push(&turn.request_id);
        end = turn.start.checked_add(turn.count).ok_or_else(|| format!("turn {} runs past the largest position", turn.request_id))?;
    }
    equal("tokens of the turns and captured ids", &end.0, &evidence.captured().0)?;
    let counts: Vec<String> = evidence.capture.turns.iter().map(|turn| format!("{} ({})", turn.count, turn.finish_reason)).collect();
    Ok(format!("{}: {}", counts.len(), counts.join(" + ")))
}

/// Each receipt over the tokens up to its turn's end, signed by the host or a submitter key of the registry.
fn receipts(evidence: &Evidence) -> Result<String, String> {
    let capture = &evidence.capture;
    if capture.last_receipt != evidence.report.client.last_receipt {
        return Err("the report's last receipt is not the client's".into());
    }
    let last = capture.turns.iter().rev().find_map(|turn| turn.receipt.as_ref());
    if last.is_none() || last != capture.last_receipt.as_ref() {
        return Err("the capture's last receipt is not that of a turn".into());
    }
    let mut signed = 0;
    for turn in &capture.turns {
        let Some(receipt) = &turn.receipt else { continue };
        let end = turn.start.checked_add(turn.count).ok_or("a turn runs past the largest position")?;
        let ids = capture.ids.get(..usize::try_from(end.0).unwrap_or(usize::MAX));
        let ids = ids.ok_or_else(|| format!("turn {} ends at token {end}, {} were captured", turn.request_id, capture.ids.len()))?;
        let mut transcript = Transcript::new(capture.identity(), capture.salt, &evidence.facts.submitters);
        let checked = transcript.receive(TokenSeq::ZERO, ids).map(|_| ()).and_then(|()| {
            let sealed = capture.checkpoints.iter().filter(|checkpoint| checkpoint.end().is_some_and(|sealed| sealed <= end));
            // The turns that a checkpoint lists are checked where the heads are.
            sealed.cloned().try_for_each(|checkpoint| transcript.announce(milepost_client::Checkpoint { turns: None, ..checkpoint }))
        });
        checked
            .and_then(|()| transcript.check_receipt(&turn.request_id, receipt))
            .map_err(|error| format!("turn {}: {error}", turn.request_id))?;
        signed += 1;
    }
    Ok(format!("{signed} of {} turns, each over the captured ids", capture.turns.len()))
}

fn heads(evidence: &Evidence) -> Result<String, String> {
    let heads = evidence.heads()?;
    equal("genesis head and SessionCreated", &heads[0].1, &evidence.created()?.head)?;
    for (checkpoint, (_, head)) in evidence.capture.checkpoints.iter().zip(&heads[1..]) {
        equal(&format!("head of checkpoint {} as announced and recomputed", checkpoint.number), &checkpoint.head, head)?;
    }
    let (end, head) = heads[heads.len() - 1];
    equal("end of the last checkpoint and captured ids", &end.0, &evidence.captured().0)?;
    Ok(format!("{} checkpoints, last {head}", heads.len() - 1))
}

fn tail(evidence: &Evidence) -> Result<String, String> {
    let last = evidence.capture.checkpoints.last().ok_or("no checkpoint was captured")?;
    let claim = evidence.facts.claims.last().ok_or("no claim is on chain")?;
    expect(
        last.count.0 < MINIMUM_CLAIM && claim.tokens_used == evidence.captured(),
        format!("{} tokens, below {MINIMUM_CLAIM}, claimed with the last {}", last.count, claim.tokens_claimed),
        format!("the last checkpoint has {} tokens, and {} of {} were claimed", last.count, claim.tokens_used, evidence.captured()),
    )
}

fn claims(evidence: &Evidence) -> Result<String, String> {
    let mut used = TokenCount::ZERO;
    for claim in &evidence.facts.claims {
        let next = used.0.checked_add(claim.tokens_claimed.0);
        if claim.tokens_claimed.0 == 0 || next != Some(claim.tokens_used.0) {
            return Err(format!("a claim of {} after {used} stands at {} in all", claim.tokens_claimed, claim.tokens_used));
        }
        used = claim.tokens_used;
    }
    equal("claimed and captured tokens", &used, &evidence.captured())?;
    equal("claimed tokens and the job's tokensUsed", &used, &evidence.facts.tokens_used)?;
    let deltas: Vec<String> = evidence.facts.claims.iter().map(|claim| claim.tokens_claimed.to_string()).collect();
    Ok(format!("{} = {used}, no gap, no overlap", deltas.join(" + ")))
}

fn reported(evidence: &Evidence) -> Result<String, String> {
    let (reported, landed) = (&evidence.report.claims, &evidence.facts.claims);
    equal("claims reported and on chain", &reported.len(), &landed.len())?;
    let mut gas = 0;
    for (number, (said, seen)) in reported.iter().zip(landed).enumerate() {
        let what = |field: &str| format!("{field} of claim {number}");
        equal(&what("first token"), &said.first_seq.0, &seen.tokens_used.0.saturating_sub(seen.tokens_claimed.0))?;
        equal(&what("tokens"), &said.count, &seen.tokens_claimed)?;
        equal(&what("transaction"), &said.tx, &seen.tx)?;
        equal(&what("gas"), &said.gas, &seen.gas)?;
        if !seen.succeeded || seen.to != Some(evidence.facts.marketplace) {
            return Err(format!("transaction {} did not succeed at the marketplace", seen.tx));
        }
        gas += seen.gas;
    }
    Ok(format!("{} transactions, {gas} gas in all", landed.len()))
}

fn chain_heads(evidence: &Evidence) -> Result<String, String> {
    let heads = evidence.heads()?;
    let at = |tokens: TokenCount| heads.iter().find(|(end, _)| end.0 == tokens.0).map(|(_, head)| *head);
    for claim in &evidence.facts.claims {
        let head = at(claim.tokens_used).ok_or_else(|| format!("a claim ends at token {}, where no checkpoint ends", claim.tokens_used))?;
        equal(&format!("head after token {} on chain and recomputed", claim.tokens_used), &claim.head_after, &head)?;
    }
    let head = at(evidence.facts.tokens_used).ok_or("the job's tokensUsed is the end of no checkpoint")?;
    equal("the job's head and the recomputed one", &evidence.facts.head, &head)?;
    Ok(format!("{} claims, the job's head is {head}", evidence.facts.claims.len()))
}

fn positions(evidence: &Evidence) -> Result<String, String> {
    let p = &evidence.report.positions;
    let created = evidence.created()?;
    let affordable = created.deposit.0.checked_div(created.price.0).and_then(|tokens| u64::try_from(tokens).ok()).map(TokenCount);
    p.check(affordable).map_err(|broken| broken.to_string())?;
    if evidence.facts.status != Status::Completed {
        return Err(format!("the job is {:?} on chain, not completed", evidence.facts.status));
    }
    let captured = evidence.captured().0;
    let paid = evidence.facts.tokens_used.0;
    for (name, position, expected) in [
        ("metered", p.metered.0, captured),
        ("sealed", p.sealed.0, captured),
        ("proven", p.proven.0, paid),
        ("submitted", p.submitted.0, paid),
        ("landed", p.landed.0, paid),
        ("final", p.finalized.0, paid),
        ("paid", p.paid.0, paid),
    ] {
        equal(&format!("position {name} and what was recomputed"), &position, &expected)?;
    }
    equal("written off and what was recomputed", &p.written_off.0, &(captured - paid.min(captured)))?;
    Ok(format!(
        "Z {} ≤ F {} ≤ L {} ≤ U {} ≤ P {} ≤ S {} ≤ M {} ≤ {}; written off {}",
        p.paid,
        p.finalized,
        p.landed,
        p.submitted,
        p.proven,
        p.sealed,
        p.metered,
        affordable.unwrap_or_default(),
        p.written_off
    ))
}
