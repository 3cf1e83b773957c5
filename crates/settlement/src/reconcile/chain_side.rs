//! What the chain says of a job: its state, and its logs added up.

use milepost_ledger::{AccountRecord, ChainStatus, ClaimState, JobId, Phase, TokenCount, TokenSeq, Tx, TxState};
use milepost_ledger_db::LedgerDb;

use super::Findings;
use crate::books::error;
use crate::{Chain, Error};

/// What the chain holds.
pub(super) struct Seen {
    pub(super) used: TokenCount,
    pub(super) completed: bool,
}

pub(super) async fn examine(
    db: &LedgerDb,
    chain: &Chain,
    job: JobId,
    record: &AccountRecord,
    findings: &mut Findings,
) -> Result<Seen, Error> {
    let head = chain.head().await?;
    let Some(found) = chain.job_at(job, crate::chain::at(&head.block)).await? else {
        findings.check("L", false, |_| "the marketplace does not know this job".to_owned());
        return Ok(Seen { used: TokenCount::ZERO, completed: false });
    };
    let positions = &record.positions;
    let agreed = record.terms.as_ref().is_some_and(|terms| *terms == crate::chain::as_recorded(found.terms.clone(), terms));
    findings.check("M", agreed, |holds| {
        if holds {
            format!("funded with {} at {} per token, as recorded", found.terms.deposit, found.terms.price)
        } else {
            "the terms on chain are not those recorded".to_owned()
        }
    });

    // The logs, added up by themselves.
    let landed = chain.landed(job, head.block.number, found.terms.started).await?;
    let claims = db.claims(job).map_err(error)?;
    let txs: Vec<_> = db.txs().map_err(error)?.into_iter().filter(|tx| tx.purpose.concerns(job)).collect();
    let mut at = TokenSeq::ZERO;
    let mut foreign = Vec::new();
    let mut chained = true;
    for log in &landed {
        chained &= at + log.count == log.used;
        at = log.used;
        let ours = claims.iter().any(|claim| {
            claim.statement.end() == log.used
                && claim.statement.count == log.count
                && log.head.is_none_or(|head| head == claim.statement.head_after)
                && carried_by(&txs, &claim.state, log.tx)
        });
        if !ours {
            foreign.push(log.tx);
        }
    }
    findings.check("L", chained && at.0 == found.used.0, |_| {
        format!("{} tokens claimed on chain, {} events of claims add up to {at}", found.used, landed.len())
    });
    findings.check("L", foreign.is_empty(), |holds| {
        if holds {
            "every claim on chain is one of ours".to_owned()
        } else {
            format!("claims on chain that this ledger did not make: {foreign:?}")
        }
    });
    findings.check("L", positions.finalized.0 <= found.used.0 && found.used.0 <= positions.submitted.0.max(positions.landed.0), |_| {
        format!("final {} ≤ on chain {} ≤ submitted {}", positions.finalized, found.used, positions.submitted)
    });

    let completed = found.status == ChainStatus::Completed;
    if completed {
        let paid = chain.completed(job, head.block.number, found.terms.started).await?;
        let expected = found.terms.payout(found.used);
        findings.check("Z", paid.map(|paid| paid.payout) == expected && expected.is_some(), |_| {
            format!("the chain paid {paid:?}, by its own terms {expected:?}")
        });
        if let (Phase::Paid(recorded), Some(paid)) = (&record.phase, paid) {
            findings.check("Z", *recorded == paid.payout, |holds| {
                if holds {
                    "paid on chain as recorded, to the unit".to_owned()
                } else {
                    format!("recorded {recorded:?}, paid {:?}", paid.payout)
                }
            });
        }
    } else {
        findings.check("Z", !matches!(record.phase, Phase::Paid(_)), |holds| {
            if holds { format!("on chain the job is {:?}", found.status) } else { format!("recorded as paid, on chain {:?}", found.status) }
        });
    }
    Ok(Seen { used: found.used, completed })
}

/// Whether a claim's transaction has this hash among its attempts.
fn carried_by(txs: &[Tx], state: &ClaimState, hash: milepost_ledger::Digest) -> bool {
    let (ClaimState::Submitted(id) | ClaimState::Final(id)) = state else { return false };
    txs.iter().any(|tx| tx.id == *id && tx.state != TxState::Replaced && tx.attempts.iter().any(|attempt| attempt.hash == hash))
}
