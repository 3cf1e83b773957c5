//! The zkVM's machine-mode interface: reading from the host, committing the journal, SHA-256, and the end.
//!
//! The guest *is* the kernel: it runs in machine mode from its first instruction, so an ecall is the circuit's own and costs
//! no dispatch. Register conventions are those of `risc0-circuit-rv32im` 4.0 (`execute/r0vm.rs`, `execute/sha2.rs`):
//! number in `a7`, arguments from `a0`, result in `a0`. This is the guest's only module with `unsafe` code.

use core::arch::{asm, global_asm};

/// Ends execution; `a0` holds the exit code in its upper half.
const ECALL_TERMINATE: u32 = 0;
/// Copies bytes from the host into memory.
const ECALL_READ: u32 = 1;
/// Compresses SHA-256 blocks.
const ECALL_SHA: u32 = 4;

/// Where the circuit looks for the digest of the output when execution terminates.
const GLOBAL_OUTPUT: *mut [u32; 8] = 0xffff_0240 as *mut [u32; 8];
/// Most bytes that one read or write moves.
const MAX_IO_WORDS: usize = 1024 / 4;
/// Most blocks that one SHA-256 ecall compresses.
pub const MAX_SHA_BLOCKS: usize = 10;

/// SHA-256's round constants (FIPS 180-4 §4.2.2): the circuit reads them from the guest's memory.
#[rustfmt::skip]
static ROUND_CONSTANTS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01,
    0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc,
    0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147,
    0x06ca_6351, 0x1429_2967, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070, 0x19a4_c116, 0x1e37_6c08,
    0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3, 0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208,
    0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// SHA-256's initial state (FIPS 180-4 §5.3.3) in the circuit's byte order.
#[rustfmt::skip]
static INITIAL_STATE: [u32; 8] = [
    0x6a09_e667_u32.to_be(), 0xbb67_ae85_u32.to_be(), 0x3c6e_f372_u32.to_be(), 0xa54f_f53a_u32.to_be(),
    0x510e_527f_u32.to_be(), 0x9b05_688c_u32.to_be(), 0x1f83_d9ab_u32.to_be(), 0x5be0_cd19_u32.to_be(),
];

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "la sp, __stack_start",
    "la a0, {memory}",
    "tail {run}",
    memory = sym crate::MEMORY,
    run = sym crate::run,
);

/// Fills `into` from the host. What the host gives is untrusted: the circuit keeps it within the length asked for, and a host
/// that gives less is refused with the exit code `short`.
#[inline(always)]
pub fn read(into: &mut [u32], short: u32) {
    debug_assert!(into.len() <= MAX_IO_WORDS);
    let bytes = into.len() as u32 * 4;
    let got: u32;
    // SAFETY: the circuit writes at most `bytes` bytes to an aligned, exclusively borrowed buffer of that size.
    unsafe {
        asm!("ecall", in("a7") ECALL_READ, inlateout("a0") 0 => got, in("a1") into.as_mut_ptr(), in("a2") bytes, options(nostack));
    }
    if got != bytes {
        halt(short);
    }
}

/// Tells the host where the journal stands: a read of nothing whose descriptor is the journal's address. (The write ecall is
/// not used: the prover of `risc0-circuit-rv32im` 4.0.5 replays it off by one and panics.)
#[inline(always)]
pub fn commit(journal: &[u32]) {
    // SAFETY: reads and writes no memory.
    unsafe {
        asm!("ecall", in("a7") ECALL_READ, inlateout("a0") journal.as_ptr() as u32 => _, in("a1") 0, in("a2") 0, options(nostack));
    }
}

/// Starts a hash.
#[inline(always)]
pub fn sha_first(state: &mut [u32; 8], blocks: &[u32]) {
    // SAFETY: `INITIAL_STATE` is eight readable words.
    unsafe { compress(INITIAL_STATE.as_ptr(), state, blocks) }
}

/// Continues a hash. State and blocks are distinct borrows: an output that overlaps its input block would give a wrong
/// digest that still proves.
#[inline(always)]
pub fn sha_next(state: &mut [u32; 8], blocks: &[u32]) {
    let from = state.as_ptr();
    // SAFETY: the circuit reads the old state before it stores the first word of the new one.
    unsafe { compress(from, state, blocks) }
}

/// # Safety
///
/// `from` must point at eight readable words.
#[inline(always)]
unsafe fn compress(from: *const u32, state: &mut [u32; 8], blocks: &[u32]) {
    debug_assert!(blocks.len() % 16 == 0 && blocks.len() / 16 <= MAX_SHA_BLOCKS);
    // SAFETY: the circuit reads eight words at `from`, the blocks and the round constants, and writes eight words to `state`,
    // which is borrowed exclusively.
    unsafe {
        asm!(
            "ecall",
            in("a7") ECALL_SHA,
            in("a0") from,
            in("a1") state.as_mut_ptr(),
            in("a2") blocks.as_ptr(),
            in("a3") blocks.len() as u32 / 16,
            in("a4") ROUND_CONSTANTS.as_ptr(),
            options(nostack),
        );
    }
}

/// Ends execution well, with the digest of the output.
#[inline(always)]
pub fn succeed(output: &[u32; 8]) -> ! {
    // SAFETY: the circuit's output words, writable in machine mode.
    unsafe { GLOBAL_OUTPUT.write_volatile(*output) }
    halt(0)
}

/// Ends execution with an exit code; any but 0 yields no valid receipt.
#[inline(always)]
pub fn halt(code: u32) -> ! {
    // SAFETY: does not return; halt type 0 (terminate) is in the lower half.
    unsafe { asm!("ecall", in("a7") ECALL_TERMINATE, in("a0") code << 16, in("a1") 0, options(noreturn, nostack)) }
}

/// Unreachable by design (see `main.rs`); an illegal instruction ends execution without a proof.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: does not return.
    unsafe { asm!("unimp", options(noreturn)) }
}
