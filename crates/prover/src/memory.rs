//! How much memory a proof takes: measured figures, and how a process shows that it had too little.
//!
//! Measured with `milepost-prover memory` (`docs/proofs.md`). What counts is private writable memory, which `RLIMIT_DATA` bounds and
//! `/proc/PID/status` calls `VmData`: an address space limit would count memory that is reserved and never touched as well.

use crate::MAX_CLAIM_TOKENS;

/// The program, its input and the guest's memory, in MB (2^20 bytes).
const PROGRAM_MB: u64 = 192;
/// A proving thread's stack and allocator, in MB; there is one for each core.
const THREAD_MB: u64 = 8;
/// Proving one segment of the smallest size; doubles with each step.
const SMALLEST_SEGMENT_MB: u64 = 160;
/// The smallest segment, as a power of two.
const SMALLEST_PO2: u32 = 14;
/// The largest segment that the prover cuts: larger claims take several.
pub const MAX_SEGMENT_PO2: u32 = 16;
/// What a segment keeps besides while the others are proven, the pages it touches and its seal, in KB.
const KEPT_KB: u64 = 1_024;
/// Fewest tokens that a full segment of the largest size holds in checkpoints of 100.
const TOKENS_OF_A_SEGMENT: u64 = 7_500;

/// Enough memory, in MB, for a proof on this machine with segments of these sizes (powers of two). They are proven one after another.
pub fn enough_mb(po2: &[u32]) -> u64 {
    let largest = po2.iter().copied().max().unwrap_or(MAX_SEGMENT_PO2).clamp(SMALLEST_PO2, 24);
    let kept = (po2.len() as u64 * KEPT_KB).div_ceil(1_024);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    PROGRAM_MB + THREAD_MB * threads + (SMALLEST_SEGMENT_MB << (largest - SMALLEST_PO2)) + kept
}

/// Enough memory, in MB, for every claim there can be: the usual ceiling.
pub fn enough_for_any_claim_mb() -> u64 {
    let segments = usize::try_from(MAX_CLAIM_TOKENS.div_ceil(TOKENS_OF_A_SEGMENT)).unwrap_or(usize::MAX);
    enough_mb(&vec![MAX_SEGMENT_PO2; segments])
}

/// Most segments that a guest's input of so many bytes can fill, with room to spare. Checkpoints of one token take the most cycles for each byte:
/// 3,000 of them, 132 KB, fill 15 segments of 2^16 (`milepost-prover`'s test of this prints it), which is 8.8 KB each.
pub fn most_segments(input: usize) -> usize {
    3 + input / 4_096
}

/// Whether a process that ended with these last words, or said them, had too little memory. Allocations that fail end a Rust program
/// with a line of its run-time library; in C++ they are an exception with a name, and threads cannot be started for want of stacks.
pub(crate) fn ran_out(words: &str) -> bool {
    const SIGNS: &[&str] =
        &["memory allocation of ", "bad_alloc", "Cannot allocate memory", "ThreadPoolBuildError", "failed to spawn thread"];
    SIGNS.iter().any(|sign| words.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_segments_and_more_of_them_need_more() {
        assert!(enough_mb(&[14]) < enough_mb(&[15]) && enough_mb(&[15]) < enough_mb(&[16]));
        assert!(enough_mb(&[16]) < enough_mb(&[16; 100]));
        assert_eq!(enough_mb(&[16, 14]), enough_mb(&[14, 16]), "their order does not matter");
        assert!(enough_for_any_claim_mb() >= enough_mb(&[16; 132]));
    }

    #[test]
    fn a_size_that_nobody_cuts_does_not_overflow() {
        assert!(enough_mb(&[u32::MAX]) < 1 << 20);
        assert!(enough_mb(&[]) > 0);
    }

    #[test]
    fn the_words_of_a_process_without_memory_are_known() {
        assert!(ran_out("memory allocation of 134217728 bytes failed"));
        assert!(ran_out("terminate called after throwing an instance of 'std::bad_alloc'"));
        assert!(!ran_out("no such library") && !ran_out(""));
    }
}
