//! Every position of every job, explained: recomputed from the records underneath it and from the chain, without asking the
//! loop that moved it.

mod chain_side;
mod ledger_side;

use milepost_ledger::{AccountId, AccountRecord, JobId, Phase, Positions, TokenCount, WriteOff};
use milepost_ledger_db::LedgerDb;
use serde::Serialize;

use crate::{Chain, Error};

/// Looks at a job that moves while it is looked at.
const MAX_LOOKS: usize = 5;

/// What a job's books amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is explained and nothing is owed.
    Clean,
    /// Something does not add up, or an operator must look.
    Drift,
    /// Everything is explained; tokens were written off.
    Loss,
    /// Everything is explained so far; something is under way.
    Pending,
}

impl Verdict {
    /// The exit code that stands for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Drift => 1,
            Self::Loss => 2,
            Self::Pending => 3,
        }
    }

    /// Which of two verdicts decides for both: drift first; then what is not over yet, so that a script which waits for the end
    /// does not stop early; then loss.
    fn rank(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Loss => 1,
            Self::Pending => 2,
            Self::Drift => 3,
        }
    }
}

/// One statement about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The position it is about: `M`, `S`, `P`, `U`, `L`, `F`, `Z` or `W`.
    pub position: &'static str,
    /// What was found.
    pub text: String,
    /// It does not add up.
    pub drift: bool,
}

/// A job's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobReport {
    /// Whose.
    pub account: String,
    /// The job, unless the account is a free label.
    pub job: Option<JobId>,
    /// Where it stands.
    pub positions: Positions,
    /// Tokens claimed on chain, if it was asked.
    pub on_chain: Option<TokenCount>,
    /// Why tokens were written off.
    pub write_off: Option<WriteOff>,
    /// Every finding.
    pub findings: Vec<Finding>,
    /// What they amount to.
    pub verdict: Verdict,
}

/// The books of all jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the chain was asked.
    pub with_chain: bool,
    /// Every account ever opened.
    pub jobs: Vec<JobReport>,
    /// What they amount to together.
    pub verdict: Verdict,
}

impl Report {
    /// 0 clean, 1 drift, 2 explained loss, 3 pending.
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }
}

/// Findings as they are gathered.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn note(&mut self, position: &'static str, text: String) {
        self.0.push(Finding { position, text, drift: false });
    }

    /// Drift unless `holds`.
    fn check(&mut self, position: &'static str, holds: bool, text: impl FnOnce(bool) -> String) {
        self.0.push(Finding { position, text: text(holds), drift: !holds });
    }
}

/// Recomputes every job. Without a chain, or for jobs without terms, only this side is looked at.
pub async fn reconcile(db: &LedgerDb, chain: Option<&Chain>) -> Result<Report, Error> {
    let mut jobs = Vec::new();
    for record in db.accounts().map_err(crate::books::error)? {
        jobs.push(settled_look(db, chain, record).await?);
    }
    let verdict = jobs.iter().map(|job| job.verdict).max_by_key(|verdict| verdict.rank()).unwrap_or(Verdict::Clean);
    Ok(Report { with_chain: chain.is_some(), jobs, verdict })
}

/// A node may be writing meanwhile: what looks like drift is looked at again as long as the record moves.
async fn settled_look(db: &LedgerDb, chain: Option<&Chain>, mut record: AccountRecord) -> Result<JobReport, Error> {
    let mut report = reconcile_account(db, chain, &record).await?;
    for _ in 0..MAX_LOOKS {
        let now = db.account(record.id).map_err(crate::books::error)?;
        match now {
            Some(now) if report.verdict == Verdict::Drift && now != record => record = now,
            _ => break,
        }
        report = reconcile_account(db, chain, &record).await?;
    }
    Ok(report)
}

async fn reconcile_account(db: &LedgerDb, chain: Option<&Chain>, record: &AccountRecord) -> Result<JobReport, Error> {
    let mut findings = Findings::default();
    ledger_side::examine(db, record, &mut findings)?;
    let mut on_chain = None;
    let mut settled_on_chain = false;
    if let (Some(chain), Some(job), Some(_)) = (chain, record.id.job(), &record.terms) {
        let seen = chain_side::examine(db, chain, job, record, &mut findings).await?;
        on_chain = Some(seen.used);
        settled_on_chain = seen.completed;
    }
    Ok(JobReport {
        account: record.id.to_string(),
        job: record.id.job(),
        positions: record.positions,
        on_chain,
        write_off: record.write_off,
        verdict: verdict(record, &findings, settled_on_chain),
        findings: findings.0,
    })
}

fn verdict(record: &AccountRecord, findings: &Findings, settled_on_chain: bool) -> Verdict {
    if record.halted.is_some() || findings.0.iter().any(|finding| finding.drift) {
        return Verdict::Drift;
    }
    let billed = record.terms.is_some() && matches!(record.id, AccountId::Job(_));
    match &record.phase {
        Phase::Paid(_) if record.positions.written_off > TokenCount::ZERO => Verdict::Loss,
        Phase::Paid(_) => Verdict::Clean,
        _ if billed || settled_on_chain => Verdict::Pending,
        _ => Verdict::Clean,
    }
}
