//! The guest as it is built into this program.

use anyhow::{Context, Result};
use milepost_statement::Digest;
use risc0_binfmt::{Digestible, MemoryImage, Program, SystemState};
use risc0_zkvm::sha;

/// The guest's ELF, committed with its image id; `scripts/guest check` rebuilds it and compares.
pub(crate) const ELF: &[u8] = include_bytes!("../../../guest/milepost-guest.elf");

/// The memory a guest starts with. The guest runs in machine mode: it is its own kernel (`docs/decisions/`).
pub(crate) fn image(elf: &[u8]) -> Result<MemoryImage> {
    Ok(MemoryImage::new_kernel(Program::load_elf(elf, u32::MAX).context("the guest's ELF")?))
}

/// The image id of an ELF: what a receipt says was run.
pub(crate) fn image_id(elf: &[u8]) -> Result<Digest> {
    let state = SystemState { pc: 0, merkle_root: image(elf)?.image_id() };
    Ok(Digest(state.digest::<sha::Impl>().into()))
}
