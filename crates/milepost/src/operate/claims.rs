//! `milepost claims`: every claim and the transaction that carries it.

use milepost_ledger::{AccountId, Claim, ClaimState, Digest, Phase, Tx, TxState};
use milepost_statement::{JobId, TokenCount, TokenSeq};
use serde::Serialize;

use crate::books;
use crate::config::Config;
use crate::output::{Output, table};

/// A claim as it is listed.
#[derive(Debug, Serialize)]
struct Line {
    claim: String,
    job: JobId,
    first: TokenSeq,
    count: TokenCount,
    state: &'static str,
    /// What happened, or what it waits for.
    detail: Option<String>,
    proof: Option<String>,
    proving_seconds: Option<f64>,
    key: Option<milepost_statement::Address>,
    nonce: Option<u64>,
    /// Hashes of every attempt, oldest first.
    attempts: Vec<Digest>,
    /// The attempt that is in a block.
    mined: Option<Digest>,
    block: Option<u64>,
    gas: Option<u64>,
    /// Most wei per gas that the newest attempt offers.
    max_fee_wei: Option<String>,
}

/// Lists claims: of one job, of all unpaid jobs, or all.
pub(crate) fn run(config: &Config, job: Option<u64>, all: bool, output: Output) -> Result<(), String> {
    let db = books::ledger(config)?;
    let fault = |error: milepost_ledger_db::Error| error.to_string();
    let jobs: Vec<JobId> = if let Some(job) = job {
        let known = db.account(AccountId::Job(JobId(job))).map_err(fault)?;
        known.ok_or_else(|| format!("no session was opened for job {job} on this node"))?;
        vec![JobId(job)]
    } else {
        let records = db.accounts().map_err(fault)?;
        let listed = records.iter().filter(|record| all || !matches!(record.phase, Phase::Paid(_)));
        listed.filter_map(|record| record.id.job()).collect()
    };
    let txs = db.txs().map_err(fault)?;
    let mut lines = Vec::new();
    for job in jobs {
        let claims = db.claims(job).map_err(fault)?;
        lines.extend(claims.iter().map(|claim| line(claim, &txs)));
    }
    output.show(|| &lines, || text(&lines))
}

fn line(claim: &Claim, txs: &[Tx]) -> Line {
    // A claim that was resolved without landing no longer names its transaction; the transaction still names the claim.
    let tx = txs.iter().rfind(|tx| tx.purpose.claims().contains(&claim.id));
    let (state, detail) = state(claim, tx);
    let (mined, block, gas) = match tx.map(|tx| &tx.state) {
        Some(TxState::Included { block, hash, outcome } | TxState::Final { block, hash, outcome }) => {
            // Of a transaction that carries several claims, this one's part.
            let gas = tx.and_then(|tx| u64::try_from(tx.share(u128::from(outcome.gas()), claim.id.job)).ok());
            (Some(*hash), Some(block.number), gas)
        }
        _ => (None, None, None),
    };
    Line {
        claim: claim.id.to_string(),
        job: claim.id.job,
        first: claim.statement.first_seq,
        count: claim.statement.count,
        state,
        detail,
        proof: claim.proof.as_ref().map(|proof| proof.kind.to_string()),
        proving_seconds: claim.proof.as_ref().map(|proof| proof.seconds),
        key: tx.map(|tx| tx.id.key),
        nonce: tx.map(|tx| tx.id.nonce),
        attempts: tx.map(|tx| tx.attempts.iter().map(|attempt| attempt.hash).collect()).unwrap_or_default(),
        max_fee_wei: tx.and_then(|tx| tx.attempts.last()).map(|attempt| attempt.max_fee.to_string()),
        mined,
        block,
        gas,
    }
}

/// One word for where a claim stands (its transaction's word once it is signed), and why.
fn state(claim: &Claim, tx: Option<&Tx>) -> (&'static str, Option<String>) {
    match &claim.state {
        ClaimState::Planned => ("planned", None),
        ClaimState::Proving => ("proving", None),
        ClaimState::Proven => ("proven", None),
        ClaimState::Submitted(_) => match tx.map(|tx| &tx.state) {
            Some(TxState::Signed) | None => ("signed", None),
            Some(TxState::Sent) => ("sent", Some("its outcome is unknown until the chain shows it".to_owned())),
            Some(TxState::Included { outcome, .. } | TxState::Final { outcome, .. }) => match outcome.refusal_of(claim.id) {
                Some((reason, _)) => ("reverting", Some(reason.to_owned())),
                None => ("included", None),
            },
            Some(TxState::Replaced) => ("replaced", None),
        },
        ClaimState::Final(_) => ("final", None),
        ClaimState::Reverted { reason } => ("reverted", Some(reason.clone())),
        ClaimState::Replaced => ("replaced", Some("its nonce was used by a transaction that is not ours".to_owned())),
        ClaimState::Abandoned { reason } => ("abandoned", Some(reason.clone())),
    }
}

fn text(lines: &[Line]) -> String {
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = lines.iter().map(|line| {
        let proof = line.proof.as_ref().zip(line.proving_seconds).map(|(kind, seconds)| format!("{kind} {seconds:.1} s"));
        let tx = line.mined.or(line.attempts.last().copied()).map(|hash| hash.to_string());
        [
            line.claim.clone(),
            format!("{}..{}", line.first, line.first + line.count),
            line.state.to_owned(),
            or(proof),
            or(line.nonce.map(|nonce| nonce.to_string())),
            line.attempts.len().to_string(),
            or(line.block.map(|block| block.to_string())),
            or(line.gas.map(|gas| gas.to_string())),
            or(tx),
            line.detail.clone().unwrap_or_default(),
        ]
    });
    table(["CLAIM", "TOKENS", "STATE", "PROOF", "NONCE", "ATTEMPTS", "BLOCK", "GAS", "TRANSACTION", ""], rows)
}
