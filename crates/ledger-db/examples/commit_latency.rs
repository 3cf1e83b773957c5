//! Durable commits against the disk they go to, in one run on one disk:
//!
//! - raw: 4 KiB overwritten in place and `fdatasync`;
//! - one caller that meters one token at a time, and is answered when it is durable;
//! - sixteen callers at once, each with a job of its own.
//!
//! `cargo run -p milepost-ledger-db --features rocksdb --example commit_latency [directory]`

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use milepost_ledger::{AccountId, Digest, Event, JobId, OpenAccount, Salt, Sampler, StartTurn, TokenSeq, UnixSeconds};
use milepost_ledger_db::{Error, LedgerDb, Options};

/// Commits of each kind.
const COMMITS: u64 = 2_000;
/// Callers that commit at once.
const CALLERS: u64 = 16;
/// DESIGN §12: a durable commit of one step against raw fdatasync, at p50.
const GOAL: f64 = 1.25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let directory = std::env::args().nth(1).map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let raw = raw_syncs(&directory.join("raw"))?;
    let (single, together) = runtime.block_on(commits(&directory.join("ledger")))?;
    let ratio = single.as_secs_f64() / raw.as_secs_f64();
    println!("raw 4 KiB overwrite and fdatasync   p50 {raw:?}");
    println!("one step, durable, one caller       p50 {single:?}   {ratio:.2} x raw (goal {GOAL} x)");
    println!("{CALLERS} callers                          {:.0} commits/s", 1.0 / together.as_secs_f64());
    Ok(())
}

fn raw_syncs(path: &Path) -> io::Result<Duration> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all_at(&[0; 4096], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for n in 0..COMMITS {
        let begun = Instant::now();
        file.write_all_at(&n.to_le_bytes().repeat(512), 0)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

/// Median of single commits, and the mean time for one of many that come together.
async fn commits(path: &Path) -> Result<(Duration, Duration), Error> {
    let db = LedgerDb::open_rocks(path, Options::default())?;
    for job in 0..CALLERS {
        let account = AccountId::Job(JobId(job));
        let (model, at) = (Digest([1; 32]), UnixSeconds(1));
        let open = OpenAccount { id: account, terms: None, salt: Salt([0; 32]), model, threshold: 100, at };
        let sampler = Sampler { temperature: 0.7, top_p: 1.0, top_k: 0, seed: 1, max_tokens: 1_000_000 };
        let start = StartTurn { account, request: "bench".into(), body: model, prompt: model, prompt_tokens: 1, sampler, at };
        db.apply(vec![Event::Open(Box::new(open)), Event::StartTurn(Box::new(start))]).await?;
    }
    let mut times = Vec::new();
    for at in 0..COMMITS {
        let begun = Instant::now();
        meter(&db, 0, at).await?;
        times.push(begun.elapsed());
    }
    let begun = Instant::now();
    let callers: Vec<_> = (1..CALLERS)
        .map(|job| {
            let db = db.clone();
            tokio::spawn(async move {
                for at in 0..COMMITS {
                    meter(&db, job, at).await?;
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for at in COMMITS..2 * COMMITS {
        meter(&db, 0, at).await?;
    }
    for caller in callers {
        caller.await.map_err(|error| Error::Stopped { reason: error.to_string() })??;
    }
    let commits = u32::try_from(CALLERS * COMMITS).unwrap_or(u32::MAX);
    Ok((median(times), begun.elapsed() / commits))
}

async fn meter(db: &LedgerDb, job: u64, at: u64) -> Result<(), Error> {
    let account = AccountId::Job(JobId(job));
    db.apply(vec![Event::Metered { account, at: TokenSeq(at), ids: vec![7] }]).await.map(drop)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
