//! The guest: what a Milepost proof proves.
//!
//! It reads a claim (`docs/statement.md`, "Guest input"), recomputes every checkpoint's head from `headBefore` on, and commits
//! the journal of 320 bytes. **Proven:** the host knew exactly these `count` token ids and turns digests, and together they
//! lead from `headBefore` to `headAfter` under this job, chain, host and model digest. **Not proven:** that a model produced the
//! ids, or that anybody received them.
//!
//! Whatever the input, it ends in one of two ways: with exit code 0 and a journal that `Statement::from_journal` accepts, or with
//! one of the exit codes below and no journal.
//!
//! The wire format is laid out so that nothing is copied: a checkpoint's `count ‖ turnsDigest ‖ ids` is read straight behind
//! `tag ‖ head ‖ firstSeq`, which makes it the checkpoint's hash input.
#![no_std]
#![no_main]

mod abi;

use milepost_statement::{
    CHECKPOINT_DOMAIN, CHECKPOINT_HEADER_LEN, GUEST_INPUT_VERSION, JOURNAL_LEN, JOURNAL_VERSION, MAX_CHECKPOINT_TOKENS,
};

/// The input's version is not this guest's.
const EXIT_VERSION: u32 = 1;
/// The claim has no checkpoint.
const EXIT_EMPTY: u32 = 2;
/// A checkpoint has no token, or more than [`MAX_CHECKPOINT_TOKENS`].
const EXIT_COUNT: u32 = 3;
/// The token numbers overflow.
const EXIT_OVERFLOW: u32 = 4;
/// The input ended early.
const EXIT_SHORT: u32 = 5;
/// A word of the statement is outside its range.
const EXIT_RANGE: u32 = 6;
/// The checkpoints' tokens are not as many as the statement says.
const EXIT_TOTAL: u32 = 7;

/// Words of the hash buffer: 8 blocks, what a checkpoint of 100 tokens fills exactly.
const BUFFER: usize = 8 * 16;
/// Words of the journal.
const JOURNAL: usize = JOURNAL_LEN / 4;
/// Words of a checkpoint's header.
const HEADER: usize = CHECKPOINT_HEADER_LEN / 4;

/// The checkpoint's tag as words.
const TAG: [u32; AT_HEAD] = tag();

/// SHA-256's padding: one bit behind the message, as the circuit's byte order has it.
const PADDING: u32 = 0x80;

// Word offsets in a checkpoint's header.
const AT_HEAD: usize = 4;
const AT_FIRST: usize = 12;
const AT_COUNT: usize = 14;

// Word offsets in the journal.
const J_CHAIN: usize = 8;
const J_MARKETPLACE: usize = 16;
const J_JOB: usize = 24;
const J_HOST: usize = 32;
const J_FIRST: usize = 48;
const J_COUNT: usize = 56;
const J_BEFORE: usize = 64;
const J_AFTER: usize = 72;

/// Everything the guest writes to, in one page; constants of the layouts stand in it from the start.
#[repr(C, align(1024))]
pub struct Memory {
    /// The journal and its SHA-256 padding: six blocks.
    journal: [u32; 96],
    /// A run of hash input.
    buffer: [u32; BUFFER],
    /// The running SHA-256 state, in the end the last head.
    state: [u32; 8],
    /// SHA-256 of the journal, then of the output.
    digest: [u32; 8],
}

/// The guest's memory; `abi::_start` hands it to [`run`], which is its only user.
#[unsafe(link_section = ".memory")]
pub static mut MEMORY: Memory = Memory { journal: blank_journal(), buffer: [0; BUFFER], state: [0; 8], digest: [0; 8] };

/// `SHA-256("risc0.Output")`, the tag under which the zkVM's verifier hashes journal digest and assumptions.
#[rustfmt::skip]
const OUTPUT_TAG: [u32; 8] = [
    0x77ea_feb3_u32.to_be(), 0x66a7_8b47_u32.to_be(), 0x747d_e0d7_u32.to_be(), 0xbb17_6284_u32.to_be(),
    0x085f_f556_u32.to_be(), 0x4887_009a_u32.to_be(), 0x5be6_3da3_u32.to_be(), 0x2d35_59d4_u32.to_be(),
];

/// The guest's program.
pub extern "C" fn run(memory: &mut Memory) -> ! {
    let Memory { journal, buffer, state, digest } = memory;

    let mut start = [0; 2];
    abi::read(&mut start, EXIT_SHORT);
    let [version, checkpoints] = start;
    if version != GUEST_INPUT_VERSION {
        abi::halt(EXIT_VERSION);
    }
    if checkpoints == 0 {
        abi::halt(EXIT_EMPTY);
    }
    read_statement(journal);

    let first = number(journal, J_FIRST);
    let mut next = first;
    state.copy_from_slice(&journal[J_BEFORE..J_AFTER]);
    for _ in 0..checkpoints {
        next = checkpoint(buffer, state, next);
    }
    if next - first != number(journal, J_COUNT) {
        abi::halt(EXIT_TOTAL);
    }

    journal[J_AFTER..JOURNAL].copy_from_slice(state);
    abi::commit(&journal[..JOURNAL]);
    abi::sha_first(digest, journal);

    // The zkVM's output digest: SHA-256(tag ‖ journal digest ‖ no assumptions ‖ u16le 2), 98 bytes and their padding.
    buffer[..8].copy_from_slice(&OUTPUT_TAG);
    buffer[8..16].copy_from_slice(digest);
    zero(&mut buffer[16..31]);
    buffer[24] = 2 | PADDING << 16;
    buffer[31] = (98 * 8_u32).to_be();
    abi::sha_first(digest, &buffer[..32]);
    abi::succeed(digest)
}

/// Reads the journal's words 1 to 8 and checks that each is in its type's range, so that every journal decodes.
#[inline(always)]
fn read_statement(journal: &mut [u32; 96]) {
    abi::read(&mut journal[J_CHAIN..J_AFTER], EXIT_SHORT);
    let mut stray = 0;
    for (word, zeros) in [(J_CHAIN, 6), (J_MARKETPLACE, 3), (J_JOB, 6), (J_HOST, 3), (J_FIRST, 6), (J_COUNT, 6)] {
        for value in &journal[word..word + zeros] {
            stray |= value;
        }
    }
    if stray != 0 {
        abi::halt(EXIT_RANGE);
    }
}

/// Reads a checkpoint that starts at `first`, moves `state` from the head before it to the head after it, and returns the
/// number of the token behind it.
#[inline(always)]
fn checkpoint(buffer: &mut [u32; BUFFER], state: &mut [u32; 8], first: u64) -> u64 {
    copy(&mut buffer[..AT_HEAD], &TAG);
    copy(&mut buffer[AT_HEAD..AT_FIRST], state);
    buffer[AT_FIRST] = first as u32;
    buffer[AT_FIRST + 1] = (first >> 32) as u32;
    abi::read(&mut buffer[AT_COUNT..HEADER], EXIT_SHORT);
    let (count, high) = (buffer[AT_COUNT], buffer[AT_COUNT + 1]);
    if high != 0 || count == 0 || u64::from(count) > MAX_CHECKPOINT_TOKENS {
        abi::halt(EXIT_COUNT);
    }
    let Some(next) = first.checked_add(u64::from(count)) else { abi::halt(EXIT_OVERFLOW) };

    let mut left = count as usize;
    let mut fill = HEADER;
    let mut fresh = true;
    loop {
        let take = left.min(BUFFER - fill);
        if take > 0 {
            abi::read(&mut buffer[fill..fill + take], EXIT_SHORT);
        }
        fill += take;
        left -= take;
        if fill < BUFFER {
            break;
        }
        compress(&mut fresh, state, buffer);
        fill = 0;
    }

    buffer[fill] = PADDING;
    let mut end = (fill + 3).next_multiple_of(16);
    if end > BUFFER {
        zero(&mut buffer[fill + 1..]);
        compress(&mut fresh, state, buffer);
        zero(&mut buffer[..15]);
        end = 16;
    } else {
        zero(&mut buffer[fill + 1..end - 1]);
    }
    // The length in bits fits the last word: a checkpoint is at most 96 + 4 × 65,536 bytes long.
    buffer[end - 1] = ((CHECKPOINT_HEADER_LEN as u32 + 4 * count) * 8).to_be();
    compress(&mut fresh, state, &buffer[..end]);
    next
}

/// Compresses `blocks` into `state`: from SHA-256's initial state the first time, then from where it stands.
#[inline(always)]
fn compress(fresh: &mut bool, state: &mut [u32; 8], blocks: &[u32]) {
    if *fresh {
        abi::sha_first(state, blocks);
        *fresh = false;
    } else {
        abi::sha_next(state, blocks);
    }
}

/// Sets words to zero.
#[inline(always)]
fn zero(words: &mut [u32]) {
    for word in words {
        // A call of `memset` costs more cycles than the few words that stand here.
        core::hint::black_box(&mut *word);
        *word = 0;
    }
}

/// Copies words.
#[inline(always)]
fn copy(to: &mut [u32], from: &[u32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// The u64 in the lower half of a journal word.
#[inline(always)]
fn number(journal: &[u32; 96], word: usize) -> u64 {
    u64::from(u32::from_be(journal[word + 6])) << 32 | u64::from(u32::from_be(journal[word + 7]))
}

/// [`CHECKPOINT_DOMAIN`] as the circuit's words.
const fn tag() -> [u32; AT_HEAD] {
    let mut words = [0; AT_HEAD];
    let mut at = 0;
    while at < CHECKPOINT_DOMAIN.len() {
        words[at / 4] |= (CHECKPOINT_DOMAIN[at] as u32) << (at % 4 * 8);
        at += 1;
    }
    words
}

/// A journal that says its version, and its SHA-256 padding.
const fn blank_journal() -> [u32; 96] {
    let mut words = [0; 96];
    words[7] = (JOURNAL_VERSION as u32).to_be();
    words[JOURNAL] = PADDING;
    words[95] = (JOURNAL_LEN as u32 * 8).to_be();
    words
}
