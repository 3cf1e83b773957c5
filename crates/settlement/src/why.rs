//! The questions an operator asks when money does not move, each answered from the records and the chain.

use milepost_ledger::{
    AccountId, AccountRecord, ChainStatus, Claim, ClaimId, ClaimState, JobId, Outcome, Phase, Purpose, TokenCount, Tx, TxState,
};
use milepost_ledger_db::LedgerDb;
use serde::Serialize;

use crate::books::error;
use crate::{Chain, Error};

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The question.
    pub question: &'static str,
    /// The answer.
    pub answer: String,
    /// Whether that is as it should be; `None` where that depends.
    pub good: Option<bool>,
}

/// Claims and transactions shown at most, newest last: what matters is at the end.
const SHOWN: usize = 8;

/// Why the money of a job stands where it does.
pub async fn why(db: &LedgerDb, chain: Option<&Chain>, job: JobId) -> Result<Vec<Answer>, Error> {
    let mut answers = Vec::new();
    let mut say = |question, answer: String, good| answers.push(Answer { question, answer, good });
    let Some(record) = db.account(AccountId::Job(job)).map_err(error)? else {
        say("Is the job known here?", "no session was opened for it on this node".to_owned(), Some(false));
        on_chain(chain, job, &mut say).await;
        return Ok(answers);
    };
    let positions = &record.positions;
    say("Is the job known here?", format!("yes, since {} (Unix seconds)", record.opened.0), Some(true));
    match &record.terms {
        Some(terms) => say(
            "Is it funded?",
            format!("{} of token {} at {} per token: {} tokens", terms.deposit, terms.token, terms.price, terms.affordable()),
            Some(true),
        ),
        None => say("Is it funded?", "no terms: log mode, nothing is billed".to_owned(), None),
    }
    say("Is it metered?", format!("{} tokens in {} turns", positions.metered, record.turns), Some(positions.metered.0 > 0));
    say(
        "Is it sealed?",
        format!("{} tokens in {} checkpoints; a checkpoint takes {}", positions.sealed, record.checkpoints, record.threshold),
        Some(positions.sealed.0 > 0),
    );
    let claims = db.claims(job).map_err(error)?;
    say("Is it proven?", proven(&claims, positions.proven.0), Some(positions.proven >= positions.sealed));
    for claim in claims.iter().rev().take(SHOWN).rev() {
        say(
            "How does the claim stand?",
            format!("claim {} of tokens {} to {}: {}", claim.id, claim.statement.first_seq, claim.statement.end(), state(&claim.state)),
            good_claim(&claim.state),
        );
    }
    let txs: Vec<_> = db.txs().map_err(error)?.into_iter().filter(|tx| tx.purpose.concerns(job)).collect();
    if txs.is_empty() {
        say("Which transaction carries it?", "none was signed".to_owned(), None);
    }
    for tx in txs.iter().rev().take(SHOWN).rev() {
        let (text, good) = transaction(tx, job);
        say("Which transaction carries it?", text, good);
        if let (TxState::Included { block, .. }, Some(chain)) = (&tx.state, chain) {
            let waits = chain.waits_for(block.number).await.unwrap_or_else(|error| error.to_string());
            say("What does it wait for?", waits, None);
        }
    }
    on_chain(chain, job, &mut say).await;
    if let Some(reason) = &record.halted {
        say("Is it stopped?", format!("yes: {reason}"), Some(false));
    }
    let (text, good) = paid(&record);
    say("Is it paid?", text, good);
    Ok(answers)
}

async fn on_chain(chain: Option<&Chain>, job: JobId, say: &mut impl FnMut(&'static str, String, Option<bool>)) {
    let question = "What does the chain say?";
    let Some(chain) = chain else { return say(question, "no chain is configured".to_owned(), None) };
    match chain.job(job).await {
        Ok(Some(found)) => {
            let status = match found.status {
                ChainStatus::Active => "active".to_owned(),
                ChainStatus::Closing { until } => format!("closing, claims until {} (Unix seconds)", until.0),
                ChainStatus::Completed => "completed".to_owned(),
            };
            let head = found.head.map_or_else(|| "no heads kept".to_owned(), |head| format!("head {head}"));
            say(question, format!("{status}; {} tokens claimed, {head}", found.used), Some(true));
        }
        Ok(None) => say(question, format!("the marketplace {} has no such job", chain.marketplace()), Some(false)),
        Err(error) => say(question, format!("{error}; {}", error.advice()), Some(false)),
    }
}

fn proven(claims: &[Claim], reach: u64) -> String {
    match claims.iter().rfind(|claim| claim.proof.is_some()).and_then(|claim| claim.proof.as_ref()) {
        Some(proof) => {
            format!("{reach} tokens; the last proof is {} of {} bytes, made in {:.1} s", proof.kind, proof.receipt_bytes, proof.seconds)
        }
        None => "nothing yet".to_owned(),
    }
}

fn state(state: &ClaimState) -> String {
    match state {
        ClaimState::Planned => "planned, a prover is still to be asked".to_owned(),
        ClaimState::Proving => "being proven".to_owned(),
        ClaimState::Proven => "proven, waiting to be signed (rate cap, gas, or the chain)".to_owned(),
        ClaimState::Submitted(id) => format!("submitted with nonce {}", id.nonce),
        ClaimState::Final(id) => format!("final with nonce {}", id.nonce),
        ClaimState::Reverted { reason } => format!("reverted: {reason}; its tokens are owed again"),
        ClaimState::Replaced => "its nonce was used by somebody else; its tokens are owed again".to_owned(),
        ClaimState::Abandoned { reason } => format!("given up: {reason}"),
    }
}

fn good_claim(state: &ClaimState) -> Option<bool> {
    match state {
        ClaimState::Final(_) => Some(true),
        ClaimState::Reverted { .. } | ClaimState::Replaced | ClaimState::Abandoned { .. } => Some(false),
        _ => None,
    }
}

fn transaction(tx: &Tx, job: JobId) -> (String, Option<bool>) {
    let claim = tx.purpose.claim_of(job);
    let what = match &tx.purpose {
        Purpose::Claim(claim) => format!("claim {claim}"),
        Purpose::Claims(claims) => {
            let own = claim.map_or_else(|| "no claim".to_owned(), |claim| format!("claim {claim}"));
            format!("{own}, with {} of other jobs", claims.len().saturating_sub(1))
        }
        Purpose::RequestClose(_) => "requestClose".to_owned(),
        Purpose::Finalize(_) => "finalize".to_owned(),
        Purpose::Fill(_) => "a filled gap".to_owned(),
    };
    let last = tx.attempts.last().map_or_else(|| "none".to_owned(), |attempt| attempt.hash.to_string());
    let (fate, good) = match &tx.state {
        TxState::Signed => ("signed and stored; not known to have been taken by the endpoint".to_owned(), None),
        TxState::Sent => ("sent; the chain has not shown it yet, so its outcome is unknown".to_owned(), None),
        TxState::Included { block, outcome, .. } => (format!("in block {}, not final yet: {}", block.number, done(outcome, claim)), None),
        TxState::Final { block, outcome, .. } => {
            let good = match claim {
                Some(claim) => outcome.refusal_of(claim).is_none(),
                None => matches!(outcome, Outcome::Done { .. }),
            };
            (format!("final in block {}: {}", block.number, done(outcome, claim)), Some(good))
        }
        TxState::Replaced => ("its nonce was used by a transaction that is not ours".to_owned(), Some(false)),
    };
    (format!("{what}: nonce {} of {}, {last}: {fate}", tx.id.nonce, tx.id.key), good)
}

fn done(outcome: &Outcome, claim: Option<ClaimId>) -> String {
    match outcome {
        Outcome::Partly { gas, .. } => match claim.and_then(|claim| outcome.refusal_of(claim)) {
            Some((reason, _)) => format!("this claim was refused, others landed, with {gas} gas: {reason}"),
            None => format!("this claim landed, others were refused, with {gas} gas"),
        },
        Outcome::Done { gas } => format!("done with {gas} gas"),
        Outcome::Reverted { reason, gas, .. } => format!("reverted with {gas} gas: {reason}"),
    }
}

fn paid(record: &AccountRecord) -> (String, Option<bool>) {
    match &record.phase {
        Phase::Open => ("the session is open; it is paid when it ends".to_owned(), None),
        Phase::Ending { reason, .. } => (format!("the session is ending ({reason:?}); the last claim and finalize come first"), None),
        Phase::Paid(payout) => {
            let lost = record.positions.written_off;
            let rest = if lost > TokenCount::ZERO { format!("; {lost} tokens written off: {:?}", record.write_off) } else { String::new() };
            (
                format!("{} tokens: host {}, treasury {}, refund {}{rest}", payout.tokens, payout.host, payout.treasury, payout.refund),
                Some(true),
            )
        }
    }
}
