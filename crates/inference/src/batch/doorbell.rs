//! How others wake the scheduler's thread.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::thread::Thread;

/// Rings are remembered until answered, so one that comes between looking and sleeping is not lost.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    rung: AtomicBool,
    sleeper: OnceLock<Thread>,
}

impl Doorbell {
    /// Names the calling thread as the one that [`Self::wait`]s.
    pub(super) fn attend(&self) {
        let first = self.sleeper.set(std::thread::current()).is_ok();
        assert!(first, "a doorbell has one sleeper");
    }

    pub(super) fn ring(&self) {
        self.rung.store(true, SeqCst);
        if let Some(sleeper) = self.sleeper.get() {
            sleeper.unpark();
        }
    }

    /// Sleeps until it rings. Returns at once if it rang since the last wait.
    pub(super) fn wait(&self) {
        while !self.rung.swap(false, SeqCst) {
            std::thread::park();
        }
    }
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
