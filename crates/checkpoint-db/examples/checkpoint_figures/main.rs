//! The figures of certificates and of the database, each beside its goal: `checkpoint_figures [directory]`.
//!
//! 1000 checkpoints of 21 BLS validators, on whatever disk the directory lies. Times are judged by the clock, and mean something on an idle
//! machine; beside each stand its time on the processor and its ratio to a reference of the same run, which mean something on any. What
//! falls short is printed as such, and the exit code is 1.

mod cast;
mod certificates;
mod report;
mod storage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cast::Cast;
use report::{Report, millis, note};

type Failure = Box<dyn std::error::Error>;

const VALIDATORS: u32 = 21;
const CHECKPOINTS: u64 = 1000;
/// Checkpoints that the log holds when the writer is killed: nearly as many as it ever holds, so that a start has as much to replay as any.
const IN_LOG: u64 = 110;
/// Checkpoints between two flushes of the writer: ten seconds of mainnet's preset are far less than one checkpoint, so that this is lazy.
const FLUSH_EVERY: u64 = 10;

fn measure(directory: &Path) -> Result<u32, Failure> {
    let cast = Cast::new(VALIDATORS)?;
    let mut report = Report::default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    note(&format!("{CHECKPOINTS} checkpoints, {VALIDATORS} validators, load {}", load.trim()));
    let pairing = certificates::measure(&mut report, &cast)?;

    let killed = directory.join("killed");
    storage::killed_writer(&killed)?;
    report.line("disk after kill -9, blocks set aside", storage::disk_megabytes(&killed)?, "MB", 13.0, "");
    storage::restarts(&mut report, directory, &killed, "after kill -9", pairing)?;

    let closed = directory.join("closed");
    {
        let storage = storage::open(&closed)?;
        cast.fill(&storage, CHECKPOINTS, FLUSH_EVERY, CHECKPOINTS)?;
    }
    report.line("disk after a planned end, blocks set aside", storage::disk_megabytes(&closed)?, "MB", 5.0, "");
    storage::restarts(&mut report, directory, &closed, "after a planned end", pairing)?;

    storage::flushes(&mut report, &closed, &cast)?;
    let low = storage::prunes(&mut report, &directory.join("low"), &cast, 2_000)?;
    let high = storage::prunes(&mut report, &directory.join("high"), &cast, 1_000_000)?;
    // The same, but for what a busy machine does to microseconds.
    report.line("prune at height 1,000,000 against height 2,000, medians", millis(high) / millis(low), "×", 2.0, "");
    Ok(report.short)
}

fn run() -> Result<u32, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--write", path] => {
            Cast::new(VALIDATORS)?.fill(&storage::open(Path::new(path))?, CHECKPOINTS, FLUSH_EVERY, CHECKPOINTS - IN_LOG)?;
            println!("written");
            // Waits to be killed.
            loop {
                std::thread::park();
            }
        }
        ["--start", path] => storage::start(Path::new(path)).map(|()| 0),
        [] | [_] => {
            let scratch = tempfile::tempdir()?;
            let directory = arguments.first().map_or_else(|| scratch.path().to_owned(), PathBuf::from);
            std::fs::create_dir_all(&directory)?;
            measure(&directory)
        }
        _ => Err("usage: checkpoint_figures [directory]".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(short) => {
            println!("figure {short} figures fall short");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
