//! `milepost jobs`: every job, where its tokens stand, what is at risk and for how long, and what it left.

use milepost_ledger::{AccountRecord, Payout, Phase, Positions, TokenAmount, Tx, UnixSeconds, WriteOff};
use milepost_ledger_db::LedgerDb;
use milepost_settlement::Chain;
use milepost_statement::{Address, JobId, TokenCount};
use serde::Serialize;

use super::profit::{GasPrices, Profit, Spent, profit, spent};
use super::tokens::Tokens;
use crate::books;
use crate::config::{Config, Costs};
use crate::output::{Output, money, span, table};

/// A job as it is listed.
#[derive(Debug, Serialize)]
struct Line {
    job: JobId,
    phase: &'static str,
    /// Why an operator must look.
    halted: Option<String>,
    positions: Positions,
    /// Payment token; zero for the chain's coin. `None` in log mode.
    token: Option<Address>,
    token_decimals: Option<u8>,
    price: Option<TokenAmount>,
    deposit: Option<TokenAmount>,
    /// The claim under way.
    claim: Option<String>,
    risk: Risk,
    paid: Option<Payout>,
    write_off: Option<WriteOff>,
    spent: Spent,
    /// `None` before the payout, and where `[costs]` does not say what something is worth.
    profit: Option<Profit>,
}

/// Value that was delivered and is not claimed on chain yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Risk {
    /// M − L: delivered, and in no claim on chain.
    pub(super) unclaimed_tokens: u64,
    /// Times the price: smallest unit of the payment token.
    pub(super) amount: TokenAmount,
    /// The last moment for a claim (Unix seconds of the chain). `None` where nothing is at risk.
    pub(super) deadline: Option<UnixSeconds>,
    /// Until then.
    pub(super) seconds_left: Option<u64>,
}

impl Risk {
    /// What a job has at risk at `now`.
    pub(super) fn of(record: &AccountRecord, now: UnixSeconds) -> Self {
        let Some(terms) = &record.terms else { return Self::default() };
        if matches!(record.phase, Phase::Paid(_)) {
            return Self::default();
        }
        let unclaimed = record.positions.metered.0.saturating_sub(record.positions.landed.0);
        let deadline = record.deadline().filter(|_| unclaimed > 0);
        Self {
            unclaimed_tokens: unclaimed,
            amount: terms.charge(TokenCount(unclaimed)).unwrap_or(TokenAmount(u128::MAX)),
            deadline,
            seconds_left: deadline.map(|deadline| deadline.since(now)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    /// The chain's time, or this machine's where the chain does not answer.
    now: UnixSeconds,
    jobs: Vec<Line>,
    /// Jobs that are paid and left out.
    paid_left_out: usize,
    /// Unclaimed value of all jobs, by payment token.
    at_risk: Vec<AtRisk>,
}

#[derive(Debug, Serialize)]
pub(super) struct AtRisk {
    pub(super) token: Address,
    pub(super) amount: TokenAmount,
    /// The nearest deadline.
    pub(super) seconds_left: u64,
}

/// Lists jobs: those that are not paid, or all.
pub(crate) async fn run(config: &Config, all: bool, output: Output) -> Result<(), String> {
    let (db, chain) = books::open(config)?;
    let now = now(chain.as_ref()).await;
    let records = db.accounts().map_err(|error| error.to_string())?;
    let jobs: Vec<_> = records.iter().filter(|record| record.id.job().is_some()).collect();
    let listed: Vec<_> = jobs.iter().copied().filter(|record| all || !matches!(record.phase, Phase::Paid(_))).collect();
    let tokens = Tokens::of(chain.as_ref(), jobs.iter().filter_map(|record| record.terms.as_ref()).map(|terms| terms.token)).await;
    let txs = db.txs().map_err(|error| error.to_string())?;
    let mut lines = Vec::new();
    let mut prices = GasPrices::new(chain.as_ref());
    for record in &listed {
        lines.push(line(&db, &mut prices, record, &txs, &tokens, &config.costs, now).await?);
    }
    let found = Listed { now, paid_left_out: jobs.len() - listed.len(), at_risk: at_risk(jobs.iter().copied(), now), jobs: lines };
    output.show(|| &found, || text(&found, &tokens))
}

async fn line(
    db: &LedgerDb,
    prices: &mut GasPrices<'_>,
    record: &AccountRecord,
    txs: &[Tx],
    tokens: &Tokens,
    costs: &Costs,
    now: UnixSeconds,
) -> Result<Line, String> {
    let job = record.id.job().unwrap_or_default();
    let claims = db.claims(job).map_err(|error| error.to_string())?;
    let own: Vec<_> = txs.iter().filter(|tx| tx.purpose.concerns(job)).collect();
    let spent = spent(prices, job, &own, &claims).await;
    let terms = record.terms.as_ref();
    let decimals = terms.and_then(|terms| tokens.decimals(terms.token));
    let paid = if let Phase::Paid(payout) = &record.phase { Some(*payout) } else { None };
    Ok(Line {
        job,
        phase: phase(record),
        halted: record.halted.clone(),
        positions: record.positions,
        token: terms.map(|terms| terms.token),
        token_decimals: decimals,
        price: terms.map(|terms| terms.price),
        deposit: terms.map(|terms| terms.deposit),
        claim: record.claim.map(|claim| claim.to_string()),
        risk: Risk::of(record, now),
        profit: terms.zip(paid).and_then(|(terms, paid)| profit(terms, decimals, &paid, &spent, costs)),
        paid,
        write_off: record.write_off,
        spent,
    })
}

fn phase(record: &AccountRecord) -> &'static str {
    match (&record.phase, &record.terms) {
        _ if record.halted.is_some() => "halted",
        (_, None) => "unbilled",
        (Phase::Open, _) => "open",
        (Phase::Ending { .. }, _) => "ending",
        (Phase::Paid(_), _) => "paid",
    }
}

/// Unclaimed value by token, with the nearest deadline.
pub(super) fn at_risk<'a>(records: impl Iterator<Item = &'a AccountRecord>, now: UnixSeconds) -> Vec<AtRisk> {
    let mut sums: std::collections::BTreeMap<Address, AtRisk> = std::collections::BTreeMap::new();
    for record in records {
        let (risk, Some(terms)) = (Risk::of(record, now), &record.terms) else { continue };
        let Some(left) = risk.seconds_left else { continue };
        let sum = sums.entry(terms.token).or_insert(AtRisk { token: terms.token, amount: TokenAmount::ZERO, seconds_left: left });
        sum.amount = TokenAmount(sum.amount.0.saturating_add(risk.amount.0));
        sum.seconds_left = sum.seconds_left.min(left);
    }
    sums.into_values().collect()
}

/// The time that deadlines are held against: the chain's, else this machine's.
pub(super) async fn now(chain: Option<&Chain>) -> UnixSeconds {
    if let Some(chain) = chain
        && let Ok(head) = chain.head().await
    {
        return head.next_time;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs()))
}

/// What a job has at risk, in a sentence, and whether that is as it should be (`None` where it depends).
pub(crate) async fn risk_in_words(record: &AccountRecord, chain: Option<&Chain>) -> (String, Option<bool>) {
    let risk = Risk::of(record, now(chain).await);
    let Some((terms, left)) = record.terms.as_ref().zip(risk.seconds_left) else {
        return ("nothing: every token that was delivered is claimed, paid, or not billed".to_owned(), Some(true));
    };
    let tokens = Tokens::of(chain, [terms.token]).await;
    let value = tokens.show(risk.amount.0, terms.token);
    match left {
        0 => (format!("{} tokens worth {value}: the last moment for a claim has passed", risk.unclaimed_tokens), Some(false)),
        left => {
            (format!("{} tokens worth {value} are in no claim on chain yet; {} are left for it", risk.unclaimed_tokens, span(left)), None)
        }
    }
}

fn text(found: &Listed, tokens: &Tokens) -> String {
    let rows = found.jobs.iter().map(|line| {
        let p = &line.positions;
        let amount = |amount: TokenAmount| line.token.map_or_else(String::new, |token| tokens.show(amount.0, token));
        let at_risk = if line.risk.unclaimed_tokens > 0 { amount(line.risk.amount) } else { "-".to_owned() };
        let left = line.risk.seconds_left.map_or_else(|| "-".to_owned(), span);
        let earned = line.paid.map_or_else(|| "-".to_owned(), |paid| amount(paid.host));
        let about = if line.spent.gas_exact { "" } else { "≤ " };
        let gas = format!("{about}{}", money(line.spent.gas_wei, Some(18)));
        let profit = line.profit.as_ref().map_or_else(|| "-".to_owned(), |profit| profit.left.clone());
        let lost = if p.written_off > TokenCount::ZERO { format!(" W {}", p.written_off) } else { String::new() };
        [
            line.job.to_string(),
            line.phase.to_owned(),
            format!("{}/{}/{}/{}/{}/{}/{}{lost}", p.metered, p.sealed, p.proven, p.submitted, p.landed, p.finalized, p.paid),
            line.claim.clone().unwrap_or_else(|| "-".to_owned()),
            at_risk,
            left,
            earned,
            gas,
            format!("{:.0} s", line.spent.proving_seconds),
            profit,
        ]
    });
    let columns = ["JOB", "PHASE", "M/S/P/U/L/F/Z", "CLAIM", "AT RISK", "LEFT", "EARNED", "GAS", "PROVING", "PROFIT"];
    let mut lines = vec![table(columns, rows)];
    for line in found.jobs.iter().filter(|line| line.halted.is_some()) {
        lines.push(format!("job {} waits for you: {}; milepost why {}", line.job, line.halted.as_deref().unwrap_or_default(), line.job));
    }
    for risk in &found.at_risk {
        lines.push(format!("at risk: {}, the nearest deadline in {}", tokens.show(risk.amount.0, risk.token), span(risk.seconds_left)));
    }
    if found.paid_left_out > 0 {
        lines.push(format!("{} paid jobs are left out (--all lists them)", found.paid_left_out));
    }
    lines.join("\n")
}
