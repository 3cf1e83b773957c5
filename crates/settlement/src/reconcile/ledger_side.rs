//! What the records underneath a job's positions say.

use milepost_ledger::{AccountRecord, Address, ChainId, Claim, ClaimState, Digest, Phase, TokenSeq};
use milepost_ledger_db::LedgerDb;
use milepost_statement::{checkpoint_head, genesis_head, salt_commitment, turns_digest};

use super::Findings;
use crate::Error;
use crate::books::error;

/// Checkpoints read at once.
const PAGE: usize = 256;

pub(super) fn examine(db: &LedgerDb, record: &AccountRecord, findings: &mut Findings) -> Result<(), Error> {
    transcript(db, record, findings)?;
    if let Some(job) = record.id.job()
        && record.terms.is_some()
    {
        claims(db, record, &db.claims(job).map_err(error)?, findings)?;
    }
    payout(record, findings);
    if let Some(reason) = &record.halted {
        findings.check("F", false, |_| format!("stopped for an operator: {reason}"));
    }
    Ok(())
}

/// M and S: every token is there, and hashing them again gives every head.
fn transcript(db: &LedgerDb, record: &AccountRecord, findings: &mut Findings) -> Result<(), Error> {
    let positions = &record.positions;
    let (chain, marketplace, host, commitment) =
        record.terms.as_ref().map_or((ChainId(0), Address::ZERO, Address::ZERO, salt_commitment(&record.salt)), |terms| {
            (terms.chain, terms.marketplace, terms.host, terms.salt_commitment)
        });
    let mut head = genesis_head(chain, marketplace, record.id.job().unwrap_or_default(), host, record.model, commitment);
    let mut at = TokenSeq::ZERO;
    let mut number = 0;
    let mut broken: Option<String> = None;
    'pages: loop {
        let page = db.checkpoints(record.id, number, PAGE).map_err(error)?;
        if page.is_empty() {
            break;
        }
        for checkpoint in page {
            let ids = db.tokens(record.id, checkpoint.first..checkpoint.first + checkpoint.count).map_err(error)?;
            let turns = turns_digest(&record.salt, checkpoint.first, &checkpoint.turns);
            let again = checkpoint_head(&head, at, &turns, &ids);
            let holds = checkpoint.number == number
                && checkpoint.first == at
                && ids.len() as u64 == checkpoint.count.0
                && checkpoint.turns_digest == turns
                && checkpoint.head_before == head
                && checkpoint.head_after == again;
            if !holds {
                broken = Some(format!(
                    "checkpoint {} of tokens {at} to {} does not follow from its tokens",
                    checkpoint.number,
                    checkpoint.first + checkpoint.count
                ));
                break 'pages;
            }
            head = again;
            at += checkpoint.count;
            number += 1;
        }
    }
    let sealed = broken.is_none() && at == positions.sealed && head == record.head && number == record.checkpoints;
    findings.check("S", sealed, |holds| match (holds, broken) {
        (true, _) => format!("{} tokens in {number} checkpoints, every head hashed again", positions.sealed),
        (false, Some(broken)) => broken,
        (false, None) => format!("S is {}, the checkpoints end at {at}", positions.sealed),
    });
    let open = db.tokens(record.id, positions.sealed..positions.metered).map_err(error)?.len() as u64;
    findings.check("M", positions.sealed.0 + open == positions.metered.0, |holds| {
        if holds {
            format!("{} tokens, {open} of them not sealed yet", positions.metered)
        } else {
            format!("M is {}, but only {open} tokens lie beyond S {}", positions.metered, positions.sealed)
        }
    });
    Ok(())
}

/// P, U, L and F: what the claims and their transactions say.
fn claims(db: &LedgerDb, record: &AccountRecord, claims: &[Claim], findings: &mut Findings) -> Result<(), Error> {
    let positions = &record.positions;
    let mut proven = TokenSeq::ZERO;
    for claim in claims.iter().filter(|claim| claim.proof.is_some()) {
        proven = proven.max(claim.statement.end());
        let receipt = db.receipt(claim.id).map_err(error)?;
        let kept = receipt.as_ref().zip(claim.proof.as_ref()).is_some_and(|(bytes, proof)| sha256(bytes) == proof.receipt);
        if !kept {
            findings.check("P", false, |_| format!("the receipt of claim {} is missing or changed", claim.id));
        }
    }
    findings.check("P", proven == positions.proven, |_| format!("{} tokens proven, the claims' proofs reach {proven}", positions.proven));
    // Final claims follow one another without a gap, and each begins at the head where the one before ended.
    let mut finals: Vec<_> = claims.iter().filter(|claim| matches!(claim.state, ClaimState::Final(_))).collect();
    finals.sort_by_key(|claim| claim.statement.first_seq);
    let mut at = TokenSeq::ZERO;
    let mut head: Option<Digest> = None;
    let mut chained = true;
    for claim in &finals {
        chained &= claim.statement.first_seq == at && head.is_none_or(|head| head == claim.statement.head_before);
        at = claim.statement.end();
        head = Some(claim.statement.head_after);
    }
    let holds = chained && at == positions.finalized && head.is_none_or(|head| head == record.final_head);
    findings.check("F", holds, |_| format!("{} tokens final, {} final claims reach {at}", positions.finalized, finals.len()));
    match claims.iter().find(|claim| claim.is_unresolved()) {
        Some(claim) => {
            let submitted = matches!(claim.state, ClaimState::Submitted(_));
            let reach = if submitted { claim.statement.end() } else { positions.finalized };
            findings.check("U", reach == positions.submitted, |_| {
                format!("{} tokens submitted; claim {} is {:?}", positions.submitted, claim.id, claim.state)
            });
        }
        None => findings.check("U", positions.submitted == positions.finalized, |_| {
            format!("{} tokens submitted, no claim is unresolved", positions.submitted)
        }),
    }
    Ok(())
}

/// Z and W: what is paid and what is given up make up the whole.
fn payout(record: &AccountRecord, findings: &mut Findings) {
    let positions = &record.positions;
    match &record.phase {
        Phase::Paid(payout) => {
            let whole = positions.paid.0 + positions.written_off.0 == positions.metered.0;
            findings.check("Z", whole && positions.paid == positions.finalized && payout.tokens.0 == positions.paid.0, |_| {
                format!("{} tokens paid: host {}, treasury {}, refund {}", positions.paid, payout.host, payout.treasury, payout.refund)
            });
            findings.check("W", (positions.written_off.0 > 0) == record.write_off.is_some(), |_| match record.write_off {
                Some(reason) => format!("{} tokens written off: {reason:?}", positions.written_off),
                None => format!("{} tokens written off", positions.written_off),
            });
        }
        phase => findings.note("Z", format!("not paid yet: {phase:?}")),
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(bytes).into())
}
