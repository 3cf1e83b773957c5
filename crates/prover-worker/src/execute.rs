//! Running the guest: fast, without a proof, cut into segments that can be proven.

use std::cell::{Cell, RefCell};

use anyhow::Result;
use milepost_statement::JOURNAL_LEN;
use risc0_binfmt::ByteAddr;
use risc0_circuit_rv32im::execute::{CycleLimit, Executor, Segment, Syscall, SyscallContext};
use risc0_circuit_rv32im::{MAX_INSN_CYCLES_LOWER_PO2, TerminateState};

use crate::guest;

/// Largest segment: 2^16 cycles hold some 7,000 tokens and take 600 MB to prove; larger claims take several segments, which
/// costs them a tenth more cycles and keeps memory, progress and the time to a kill bounded.
pub(crate) const MAX_SEGMENT_PO2: usize = milepost_prover::MAX_SEGMENT_PO2 as usize;
/// Most cycles of one execution, 4,096 times the smallest segment: millions of tokens, so a bound on runaway input only.
const MAX_CYCLES: u64 = 1 << 26;
/// Most cycles of one instruction. The guest's longest are SHA-256 of ten blocks (690) and a read of 1 KiB (70); the
/// allowance for big-integer programs, which it does not have, would waste a third of every full segment.
const MAX_INSN_CYCLES: usize = MAX_INSN_CYCLES_LOWER_PO2;

/// The guest refused its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest refused its input: {}", reason(self.0))]
pub(crate) struct Refused(pub(crate) u16);

/// What a guest's exit code means (the constants of `guest/src/main.rs`).
fn reason(code: u16) -> &'static str {
    match code {
        1 => "unknown version",
        2 => "no checkpoints",
        3 => "a checkpoint without tokens or with too many",
        4 => "token numbers overflow",
        5 => "the input ends early",
        6 => "a word of the statement is out of range",
        7 => "the checkpoints' tokens are not as many as the statement says",
        _ => "unknown exit code",
    }
}

/// An execution that ended well.
pub(crate) struct Execution {
    /// What the guest committed.
    pub(crate) journal: [u8; JOURNAL_LEN],
    /// Ready to be proven, in order.
    pub(crate) segments: Vec<Segment>,
    /// Cycles the guest used itself.
    pub(crate) user_cycles: u64,
    /// Cycles spent on bringing memory pages in and out.
    pub(crate) paging_cycles: u64,
}

impl Execution {
    /// Each segment's size as a power of two.
    pub(crate) fn po2(&self) -> Vec<u32> {
        self.segments.iter().map(|segment| segment.po2).collect()
    }
}

/// The host's side of the guest's two calls.
struct Host<'a> {
    input: &'a [u8],
    at: Cell<usize>,
    journal: RefCell<Vec<u8>>,
}

impl Syscall for Host<'_> {
    fn host_read(&self, ctx: &mut impl SyscallContext, fd: u32, buf: &mut [u8]) -> Result<u32> {
        // A read of nothing is the guest's way of saying where its journal stands (`guest/src/abi.rs`).
        if buf.is_empty() {
            *self.journal.borrow_mut() = ctx.peek_region(ByteAddr(fd), JOURNAL_LEN)?;
            return Ok(0);
        }
        let left = &self.input[self.at.get()..];
        let taken = left.len().min(buf.len());
        buf[..taken].copy_from_slice(&left[..taken]);
        self.at.set(self.at.get() + taken);
        Ok(u32::try_from(taken)?)
    }

    fn host_write(&self, _: &mut impl SyscallContext, _: u32, _: &[u8]) -> Result<u32> {
        anyhow::bail!("the guest does not write")
    }
}

/// Runs the guest on `input` with segments of at most `2^max_po2` cycles.
pub(crate) fn execute(input: &[u8], max_po2: usize) -> Result<Execution> {
    let Run { journal, segments, user_cycles, paging_cycles } = run(guest::ELF, input, max_po2)?;
    let journal = journal.try_into().map_err(|found: Vec<u8>| anyhow::anyhow!("the guest committed {} bytes", found.len()))?;
    Ok(Execution { journal, segments, user_cycles, paging_cycles })
}

/// What a program did, whatever program it is.
pub(crate) struct Run {
    journal: Vec<u8>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) user_cycles: u64,
    pub(crate) paging_cycles: u64,
}

/// Runs a program on `input` to a good end.
pub(crate) fn run(elf: &[u8], input: &[u8], max_po2: usize) -> Result<Run> {
    let host = Host { input, at: Cell::new(0), journal: RefCell::default() };
    let mut segments = Vec::new();
    let result = Executor::new(guest::image(elf)?, &host, None, Vec::new(), None).run(
        max_po2,
        MAX_INSN_CYCLES,
        CycleLimit::Hard(MAX_CYCLES),
        |segment| {
            segments.push(segment);
            Ok(())
        },
    )?;
    match result.claim.terminate_state {
        Some(TerminateState { a0, .. }) if a0.0 == 0 && a0.1 == 0 => {}
        Some(TerminateState { a0, .. }) => return Err(Refused(a0.0).into()),
        None => anyhow::bail!("the guest did not terminate"),
    }
    let (user_cycles, paging_cycles) = (result.user_cycles, result.paging_cycles);
    Ok(Run { journal: host.journal.into_inner(), segments, user_cycles, paging_cycles })
}
