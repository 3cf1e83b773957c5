//! `milepost why` and `milepost reconcile`: the records and the chain, read without touching either.

use std::process::ExitCode;

use milepost_ledger::JobId;
use milepost_ledger_db::LedgerDb;
use milepost_settlement::Chain;

use crate::config::{Config, StoreKind};

/// Why money does or does not move for a job.
pub(crate) async fn why(config: &Config, job: u64, json: bool) -> Result<ExitCode, String> {
    let (db, chain) = open(config)?;
    let answers = milepost_settlement::why(&db, chain.as_ref(), JobId(job)).await.map_err(|error| error.to_string())?;
    if json {
        println!("{}", serde_json::to_string(&answers).map_err(|error| error.to_string())?);
    } else {
        for answer in &answers {
            let mark = match answer.good {
                Some(true) => "ok",
                Some(false) => "NO",
                None => "··",
            };
            println!("[{mark}] {:<34} {}", answer.question, answer.answer);
        }
    }
    Ok(if answers.iter().any(|answer| answer.good == Some(false)) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Explains every position of every job. The exit code is the verdict.
pub(crate) async fn reconcile(config: &Config, json: bool) -> Result<ExitCode, String> {
    let (db, chain) = open(config)?;
    let report = milepost_settlement::reconcile(&db, chain.as_ref()).await.map_err(|error| error.to_string())?;
    if json {
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        for job in &report.jobs {
            println!("job {:<12} {:?}: {}", job.account, job.verdict, job.positions);
            for finding in &job.findings {
                println!("  [{}] {} {}", if finding.drift { "DRIFT" } else { "ok" }, finding.position, finding.text);
            }
        }
        println!("{:?}: {} accounts{}", report.verdict, report.jobs.len(), if report.with_chain { "" } else { "; no chain was asked" });
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// The database as it is on disk now, also while a node is running on it, and the chain where one is configured.
fn open(config: &Config) -> Result<(LedgerDb, Option<Chain>), String> {
    match config.node.store {
        StoreKind::Memory => Err("node.store is \"memory\": a node that keeps nothing leaves nothing to look at".to_owned()),
        #[cfg(feature = "rocksdb")]
        StoreKind::Rocksdb => {
            let path = config.node.data.join("ledger");
            let chain = config.chain.as_ref().map(Chain::new).transpose().map_err(|error| error.to_string())?;
            let db = LedgerDb::open_rocks_read_only(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok((db, chain))
        }
        #[cfg(not(feature = "rocksdb"))]
        StoreKind::Rocksdb => Err("this build has no RocksDB".to_owned()),
    }
}
