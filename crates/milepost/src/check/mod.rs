//! `milepost check-demo report.json`: recomputes a demo's report, in a process other than the one that wrote it.
//!
//! Three sources, none of them the host's database:
//!
//! - the **client's capture**: salt, token ids, announced checkpoints, receipts;
//! - the **chain**: logs of `SessionCreated`, `ProofOfWork`, `SessionCompleted` and ERC-20 transfers, the claims' transactions, balances
//!   before and after the payout;
//! - the **receipts** on disk, verified against the image id of the committed guest.
//!
//! Where validators certified, a fourth: the **certificates**, verified with the set file alone and held against the chain.
//!
//! Every check prints one line with its figure. The last line is `N passed, N failed`; the exit code is 0 only if none failed.
//!
//! **Does not** say that the model produced the tokens: no proof does (`docs/statement.md`).

mod chain;
mod evidence;
mod finality;
mod money;
mod proofs;
mod report;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

use evidence::Evidence;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    /// The figure it is about; on failure what was expected and what was found.
    pub(crate) figure: String,
}

/// What all checks found.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckOutcome {
    pub(crate) lines: Vec<Line>,
}

impl CheckOutcome {
    /// Notes what a check found.
    pub(crate) fn note(&mut self, name: &'static str, found: Result<String, String>) {
        let passed = found.is_ok();
        let figure = found.unwrap_or_else(|reason| reason);
        self.lines.push(Line { name, passed, figure });
    }

    /// Checks that failed.
    pub(crate) fn failed(&self) -> usize {
        self.lines.iter().filter(|line| !line.passed).count()
    }

    /// Success only if something was checked and nothing failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.lines.is_empty() || self.failed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn print(&self) {
        for line in &self.lines {
            println!("{}  {:<26} {}", if line.passed { "ok  " } else { "FAIL" }, line.name, line.figure);
        }
        println!("{} passed, {} failed", self.lines.len() - self.failed(), self.failed());
    }
}

/// Checks a report and prints what was found.
pub(crate) async fn check(report: &Path) -> CheckOutcome {
    let outcome = match Evidence::gather(report).await {
        Ok(evidence) => judge(&evidence, proofs::verify),
        Err(reason) => {
            let mut outcome = CheckOutcome::default();
            outcome.note("evidence", Err(reason));
            outcome
        }
    };
    outcome.print();
    outcome
}

/// All checks over what was gathered: a pure function of it.
fn judge(evidence: &Evidence, verify: proofs::Verify) -> CheckOutcome {
    let mut outcome = CheckOutcome::default();
    tokens::check(evidence, &mut outcome);
    proofs::check(evidence, verify, &mut outcome);
    money::check(evidence, &mut outcome);
    finality::check(evidence, &mut outcome);
    outcome
}

/// `Ok(figure)` if it holds, else what was expected and what was found.
fn expect(holds: bool, figure: impl Into<String>, otherwise: impl Into<String>) -> Result<String, String> {
    if holds { Ok(figure.into()) } else { Err(otherwise.into()) }
}

/// The same for two values that must be equal.
fn equal<T: PartialEq + std::fmt::Display>(what: &str, left: &T, right: &T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left} and {right} differ")) }
}

#[cfg(test)]
mod tests;
