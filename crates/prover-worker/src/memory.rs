//! How much memory the largest claim takes: what the usual ceiling rests on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use milepost_prover::{MAX_CLAIM_TOKENS, enough_mb};

use crate::{bench, execute, prove};

/// How often memory is looked at. Proving a segment takes seconds, and its large buffers live most of that.
const SAMPLE: Duration = Duration::from_millis(20);

/// Runs the guest on a claim of `tokens`, the most there can be by default, then proves the first segment of them only, the largest,
/// while the others wait in memory as they do in a whole proof.
pub(crate) fn memory(tokens: Option<&str>) -> Result<()> {
    let tokens = match tokens {
        Some(text) => text.parse().with_context(|| format!("{text} is not a number of tokens"))?,
        None => usize::try_from(MAX_CLAIM_TOKENS)?,
    };
    let before = private_mb()?;
    let request = bench::claim(tokens);
    let run = execute::execute(&request.guest_input(), execute::MAX_SEGMENT_PO2)?;
    let po2 = run.po2();
    let executed = private_mb()?;
    println!("{tokens} tokens, {} segments, the first of 2^{}", po2.len(), po2[0]);
    println!("at start          {before:>6} MB");
    println!("all segments held {executed:>6} MB");
    let (peak, receipt) = peak_during(|| prove::prove(&run.segments[..1], &run.journal, |_| ()))?;
    drop(receipt?);
    println!("one being proven  {peak:>6} MB at most");
    println!("taken for enough  {:>6} MB", enough_mb(&po2));
    Ok(())
}

/// The most private memory that this process had while `work` was done, in MB.
fn peak_during<T>(work: impl FnOnce() -> T) -> Result<(u64, T)> {
    static DONE: AtomicBool = AtomicBool::new(false);
    let watch = thread::spawn(|| {
        let mut peak = 0;
        while !DONE.load(Ordering::Relaxed) {
            peak = private_mb()?.max(peak);
            thread::sleep(SAMPLE);
        }
        anyhow::Ok(peak)
    });
    let result = work();
    DONE.store(true, Ordering::Relaxed);
    let peak = watch.join().map_err(|_| anyhow::anyhow!("the watch over memory ended"))??;
    Ok((peak, result))
}

/// Private writable memory of this process in MB: what its ceiling counts.
pub(crate) fn private_mb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).context("VmData is not in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmData")?;
    Ok(kilobytes.div_ceil(1024))
}
