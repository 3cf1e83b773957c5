//! `milepost why` and `milepost reconcile`: the records and the chain, read without touching either.

use std::process::ExitCode;

use milepost_ledger::{AccountId, JobId};
use milepost_settlement::Answer;

use crate::books;
use crate::config::Config;
use crate::operate::jobs::risk_in_words;
use crate::output::Output;

/// Why money does or does not move for a job.
pub(crate) async fn why(config: &Config, job: u64, output: Output) -> Result<ExitCode, String> {
    let (db, chain) = books::open(config)?;
    let mut answers = milepost_settlement::why(&db, chain.as_ref(), JobId(job)).await.map_err(|error| error.to_string())?;
    if let (Some(chain), Some(settlement)) = (&chain, &config.chain) {
        match milepost_settlement::next_step(&db, chain, settlement, JobId(job)).await {
            Ok(next) => answers.extend(next),
            // That the chain does not answer was said above.
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some(record) = db.account(AccountId::Job(JobId(job))).map_err(|error| error.to_string())? {
        let (answer, good) = risk_in_words(&record, chain.as_ref()).await;
        answers.push(Answer { question: "What is at risk?", answer, good });
    }
    output.show(
        || &answers,
        || {
            let line = |answer: &Answer| {
                let mark = match answer.good {
                    Some(true) => "ok",
                    Some(false) => "NO",
                    None => "··",
                };
                format!("[{mark}] {:<34} {}\n", answer.question, answer.answer)
            };
            answers.iter().map(line).collect()
        },
    )?;
    Ok(if answers.iter().any(|answer| answer.good == Some(false)) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Explains every position of every job. The exit code is the verdict.
pub(crate) async fn reconcile(config: &Config, output: Output) -> Result<ExitCode, String> {
    let (db, chain) = books::open(config)?;
    let report = milepost_settlement::reconcile(&db, chain.as_ref()).await.map_err(|error| error.to_string())?;
    output.show(
        || &report,
        || {
            let mut lines = Vec::new();
            for job in &report.jobs {
                lines.push(format!("job {:<12} {:?}: {}", job.account, job.verdict, job.positions));
                for finding in &job.findings {
                    lines.push(format!("  [{}] {} {}", if finding.drift { "DRIFT" } else { "ok" }, finding.position, finding.text));
                }
            }
            let asked = if report.with_chain { "" } else { "; no chain was asked" };
            lines.push(format!("{:?}: {} accounts{asked}", report.verdict, report.jobs.len()));
            lines.join("\n")
        },
    )?;
    Ok(ExitCode::from(report.exit_code()))
}
