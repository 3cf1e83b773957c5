//! What this process may take from the machine: processor time, the disk and memory.
//!
//! Each is lowered by the process itself, before it starts the threads that prove: they inherit it. None can be raised again without
//! a privilege; the node starts a new process instead.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

/// Lowers the priority of this thread, and so of the proving threads that it starts for its first proof; below normal, the disk is
/// left to all others as well. What is refused is said and done without: a proof at normal priority is better than none.
pub(crate) fn lower_priority(nice: u8) {
    if let Err(why) = setpriority_process(None, i32::from(nice)) {
        eprintln!("milepost-prover: priority {nice} refused: {why}");
    }
    if nice > 0 && !idle_io() {
        eprintln!("milepost-prover: no ionice here: I/O priority follows the priority {nice}");
    }
}

/// Puts this thread's I/O into the idle class. The call that does it is in no safe crate, so util-linux's program makes it; where
/// it is missing the kernel derives a low I/O priority from the process's own.
fn idle_io() -> bool {
    let mut ionice = Command::new("ionice");
    ionice.args(["--class", "3", "--pid", &std::process::id().to_string()]);
    ionice.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Bounds the private writable memory of this process. An allocation beyond it fails, and ends the process with a word of that.
pub(crate) fn bound_memory(megabytes: u64) -> Result<()> {
    let asked = megabytes.saturating_mul(1 << 20);
    let Rlimit { maximum, .. } = getrlimit(Resource::Data);
    let limit = maximum.map_or(asked, |maximum| maximum.min(asked));
    setrlimit(Resource::Data, Rlimit { current: Some(limit), maximum: Some(limit) })
        .with_context(|| format!("a memory ceiling of {megabytes} MB cannot be set"))
}
