//! Figures: what claims of different sizes cost to prove.

use std::time::Instant;

use anyhow::{Context, Result};
use milepost_prover::{CheckpointInput, IMAGE_ID, ProofRequest, sample_request};
use milepost_statement::{Digest, TokenCount, TokenId, checkpoint_head};

use crate::{empty, execute, prove};

/// Claims measured when none are named.
const SIZES: &[usize] = &[100, 300, 1_000, 2_000];
/// Tokens of a checkpoint, as a host seals them by default.
const CHECKPOINT: usize = 100;

/// Proves the empty program, then a claim of each size, and prints a line for each: its figures and its time against the empty one's.
pub(crate) fn bench(tokens: &[&str]) -> Result<()> {
    let named = tokens.iter().map(|text| text.parse().with_context(|| format!("{text} is not a number of tokens")));
    let mut sizes: Vec<usize> = named.collect::<Result<_>>()?;
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("milepost-prover {} on {}, {cores} cores, image {IMAGE_ID}", env!("CARGO_PKG_VERSION"), prove::BACKEND);
    println!(
        "{:>8} {:>9} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "tokens", "cycles", "paging", "po2", "seconds", "of empty", "bytes", "verify ms"
    );

    let started = Instant::now();
    let run = execute::run(&empty::elf(), &[], execute::MAX_SEGMENT_PO2)?;
    let bytes = prove::seal_bytes(&run.segments)?;
    let empty = started.elapsed().as_secs_f64();
    let po2: Vec<u32> = run.segments.iter().map(|segment| segment.po2).collect();
    let row = |name: &str, cycles, paging, po2: &[u32], seconds: f64, bytes, verify: Option<f64>| {
        let verify = verify.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1}", seconds * 1e3));
        let (po2, ratio) = (join(po2), seconds / empty);
        println!("{name:>8} {cycles:>9} {paging:>8} {po2:>10} {seconds:>9.1} {ratio:>9.2} {bytes:>9} {verify:>9}");
    };
    row("empty", run.user_cycles, run.paging_cycles, &po2, empty, bytes, None);
    for size in sizes {
        let made = crate::make(&claim(size))?;
        row(&size.to_string(), made.cycles, made.paging, &made.po2, made.seconds, made.receipt.len(), Some(made.verify_seconds));
    }
    Ok(())
}

/// Runs the guest on a claim of each size, without proving, and says how many tokens the smallest segments hold.
pub(crate) fn capacity() -> Result<()> {
    println!("{:>8} {:>9} {:>8} {:>10}", "tokens", "cycles", "paging", "po2");
    let run = |size: usize| execute::execute(&claim(size).guest_input(), execute::MAX_SEGMENT_PO2);
    for size in [1, 10, 100, 200, 500, 1_000, 2_000, 5_000, 10_000] {
        let run = run(size)?;
        println!("{size:>8} {:>9} {:>8} {:>10}", run.user_cycles, run.paging_cycles, join(&run.po2()));
    }
    for po2 in [14, 15, 16] {
        // More tokens never take fewer cycles: bisect between one that fits and one that does not.
        let (mut fits, mut exceeds) = (1_usize, 1 << 14);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            if run(middle)?.po2() <= vec![po2] { fits = middle } else { exceeds = middle }
        }
        println!("2^{po2} cycles hold {fits} tokens in checkpoints of {CHECKPOINT}");
    }
    Ok(())
}

/// Segment sizes for people.
fn join(po2: &[u32]) -> String {
    po2.iter().map(u32::to_string).collect::<Vec<_>>().join("+")
}

/// A claim of `size` tokens in checkpoints of [`CHECKPOINT`].
pub(crate) fn claim(size: usize) -> ProofRequest {
    let mut request = sample_request();
    // Spread over the range of a vocabulary; the values do not matter to the guest.
    let ids: Vec<TokenId> = (0..size).map(|at| u32::try_from(at * 31 % 49_152).expect("below 49,152")).collect();
    let turns = Digest([7; 32]);
    request.checkpoints = ids.chunks(CHECKPOINT).map(|ids| CheckpointInput { turns, ids: ids.to_vec() }).collect();
    let statement = &mut request.statement;
    statement.count = TokenCount(size as u64);
    statement.head_after = statement.head_before;
    let mut at = statement.first_seq;
    for checkpoint in &request.checkpoints {
        statement.head_after = checkpoint_head(&statement.head_after, at, &turns, &checkpoint.ids);
        at += TokenCount(checkpoint.ids.len() as u64);
    }
    request
}
