//! `milepost doctor`: can this host earn, and if not, what is to be done.
//!
//! Every check is asked of the part that the node itself asks: settlement's preflight, the prover's own greeting and self-test,
//! the ledger's own check, and of a node that runs its `/ready`. Nothing is looked at in a second way.
//!
//! Exit codes: 0 nothing to mend · 1 something must be mended · 3 it works, and something should be looked at.

mod chain;
mod endpoints;
mod finality;
mod local;
mod node;
mod prover;
mod publishing;

use std::process::ExitCode;

use serde::Serialize;

use crate::build_info::build_info;
use crate::cli::DoctorArgs;
use crate::config::Config;
use crate::output::{Output, table};

/// What a check amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Not looked at: something before it failed, or it does not apply.
    Skipped,
    /// It works, and should be looked at.
    Warning,
    /// It must be mended.
    Failure,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// The error's code, where it has one.
    pub(super) code: Option<&'static str>,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Ok, found: found.into(), code: None, advice: None });
    }

    pub(super) fn skipped(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Skipped, found: found.into(), code: None, advice: None });
    }

    pub(super) fn warning(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Warning, found: found.into(), code: None, advice: Some(advice.into()) });
    }

    pub(super) fn failure(&mut self, check: &'static str, found: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Failure, found: found.into(), code: None, advice: Some(advice.into()) });
    }

    /// A failure with a code that stays.
    pub(super) fn coded(&mut self, check: &'static str, found: impl Into<String>, code: &'static str, advice: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Failure, found: found.into(), code: Some(code), advice: Some(advice.into()) });
    }

    /// What a validator that is configured beside the host has found of itself.
    #[cfg(feature = "validator")]
    async fn validator(&mut self, config: &Config) {
        use crate::validator::doctor::Verdict as Theirs;
        let Some(settings) = &config.validator else { return };
        for finding in crate::validator::doctor::check(settings).await {
            let found = format!("validator: {}", finding.found);
            match finding.verdict {
                Theirs::Ok => self.ok(finding.check, found),
                Theirs::Skipped => self.skipped(finding.check, found),
                Theirs::Warning => self.warning(finding.check, found, finding.advice),
                Theirs::Failure => self.failure(finding.check, found, finding.advice),
            }
        }
    }

    fn exit_code(&self) -> u8 {
        let any = |verdict| self.0.iter().any(|finding| finding.verdict == verdict);
        match (any(Verdict::Failure), any(Verdict::Warning)) {
            (true, _) => 1,
            (false, true) => 3,
            (false, false) => 0,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    exit_code: u8,
    version: &'static str,
    commit: &'static str,
    image_id: String,
    checks: &'a [Finding],
}

/// Checks everything. `loaded` is the configuration and its warnings, or why there is none.
pub(crate) async fn run(loaded: Result<(Config, Vec<String>), String>, args: &DoctorArgs, output: Output) -> Result<ExitCode, String> {
    let mut findings = Findings::default();
    local::build(args.expect_commit.as_deref(), &mut findings);
    match loaded {
        Err(error) => findings.failure("configuration", error, "mend it; nothing else can be checked before (docs/configuration.md)"),
        Ok((config, warnings)) => {
            if warnings.is_empty() {
                findings.ok("configuration", "read");
            }
            for warning in warnings {
                findings.warning("configuration", warning, "see docs/configuration.md");
            }
            everything(&config, args, &mut findings).await;
        }
    }
    let build = build_info();
    let exit_code = findings.exit_code();
    output.show(
        || Report { exit_code, version: build.version, commit: build.commit, image_id: build.image_id.clone(), checks: &findings.0 },
        || text(&findings),
    )?;
    Ok(ExitCode::from(exit_code))
}

async fn everything(config: &Config, args: &DoctorArgs, findings: &mut Findings) {
    let model = local::model(config, findings).await;
    let key = local::key(config, findings).await;
    let seen = chain::check(config, key, model, findings).await;
    if let Some(settlement) = &config.chain {
        endpoints::check(settlement, findings).await;
        finality::check(settlement, seen.as_ref(), findings).await;
    }
    publishing::check(config, seen.as_ref(), findings).await;
    prover::check(config, seen.as_ref(), args.no_proof, findings).await;
    local::database(config, seen.as_ref(), key, findings).await;
    local::disk(config, findings);
    chain::clock(seen.as_ref(), findings);
    node::check(config, args.expect_commit.as_deref(), findings).await;
    #[cfg(feature = "validator")]
    findings.validator(config).await;
}

fn text(findings: &Findings) -> String {
    let rows = findings.0.iter().map(|finding| {
        let mark = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Skipped => "--",
            Verdict::Warning => "WARN",
            Verdict::Failure => "FAIL",
        };
        [mark.to_owned(), finding.check.to_owned(), finding.found.clone()]
    });
    let mut lines = vec![table(["", "CHECK", "FOUND"], rows)];
    for finding in &findings.0 {
        lines.extend(finding.advice.as_ref().map(|advice| format!("{}: {advice}", finding.check)));
    }
    let count = |verdict| findings.0.iter().filter(|finding| finding.verdict == verdict).count();
    lines.push(format!(
        "{} ok, {} to mend, {} to look at, {} not looked at",
        count(Verdict::Ok),
        count(Verdict::Failure),
        count(Verdict::Warning),
        count(Verdict::Skipped)
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let mut findings = Findings::default();
        assert_eq!(findings.exit_code(), 0);
        findings.ok("a", "");
        findings.skipped("b", "");
        assert_eq!(findings.exit_code(), 0);
        findings.warning("c", "", "look");
        assert_eq!(findings.exit_code(), 3);
        findings.failure("d", "", "mend");
        assert_eq!(findings.exit_code(), 1);
        assert!(text(&findings).contains("1 ok, 1 to mend, 1 to look at, 1 not looked at"));
    }
}
