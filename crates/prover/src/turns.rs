//! One proof at a time, in the order of asking, and a pause after failures.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Error;

/// Most claims that wait for the prover. A host has one unresolved claim per job; beyond this, claims should grow instead.
const MAX_WAITING: usize = 256;
/// Longest pause before a prover is asked after it failed.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// First pause; doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Who proves now, who waits, and how often it failed of late.
#[derive(Debug)]
pub(crate) struct Turns {
    turn: Semaphore,
    waiting: AtomicUsize,
    failures: AtomicU32,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self { turn: Semaphore::new(1), waiting: AtomicUsize::new(0), failures: AtomicU32::new(0) }
    }

    /// Waits for the turn, and out the pause that earlier failures ask for.
    pub(crate) async fn take(&self) -> Result<SemaphorePermit<'_>, Error> {
        let turn = {
            let _place = Place::take(&self.waiting)?;
            self.turn.acquire().await.map_err(|_| io::Error::other("the prover's queue is closed"))?
        };
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 {
            tokio::time::sleep(MAX_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures - 1))).await;
        }
        Ok(turn)
    }

    /// Counts what came of a turn. Whatever the prover failed at asks for a pause; a refusal, or a program that is not there or not
    /// the right one, is named at once and costs nothing to find again.
    pub(crate) fn ended<T>(&self, outcome: &Result<T, Error>) {
        match outcome {
            Err(
                Error::Crashed { .. }
                | Error::Hung { .. }
                | Error::OutOfMemory { .. }
                | Error::Invalid(_)
                | Error::Unreachable { .. }
                | Error::RemoteFailed { .. }
                | Error::Sealing { .. }
                | Error::Io(_),
            ) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.failures.store(0, Ordering::Relaxed),
        }
    }
}

/// A place in the queue, given up when dropped: a cancelled claim does not count.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Error> {
        let place = Self(waiting);
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        if before >= MAX_WAITING { Err(Error::Busy { waiting: before }) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
