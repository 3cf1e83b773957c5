//! The commit thread goes before inference: on a busy machine a thread at normal priority waits for the next scheduler tick
//! (4 ms) after every sync, and each token with it.

/// How much nicer than others the commit thread is not.
const NICENESS: i32 = -5;

/// Raises the calling thread's priority if the system allows it. (On Linux niceness belongs to the thread.)
pub(crate) fn raise() {
    match rustix::process::setpriority_process(None, NICENESS) {
        Ok(()) => tracing::debug!(niceness = NICENESS, "the commit thread goes first"),
        Err(error) => tracing::debug!(%error, "the commit thread keeps its priority: CAP_SYS_NICE or a nice limit would raise it"),
    }
}
