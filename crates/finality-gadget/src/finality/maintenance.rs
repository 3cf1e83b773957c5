//! Flushing and pruning, here or as a task of the host node.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::persistence::{self, Anchor, CheckpointPersistenceConfig, CheckpointStorage, PruneOrder, Pruned};
use crate::types::{CheckpointNumber, Millis};

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// How long a flush took, if there was one.
    pub flushed: Option<Duration>,
    /// What was pruned, and how long it took.
    pub pruned: Option<(Pruned, Duration)>,
}

/// Flushes and prunes a storage at the configured times. Clones share the bound below which pruning is allowed.
#[derive(Clone)]
pub struct Maintenance {
    storage: Arc<dyn CheckpointStorage>,
    config: CheckpointPersistenceConfig,
    /// The lower of the last final number and the oldest source in use; the gadget raises it.
    bound: Arc<AtomicU64>,
    flushed_at: Millis,
    pruned_at: Millis,
}

impl std::fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maintenance").field("config", &self.config).field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Maintenance {
    pub(super) fn new(storage: Arc<dyn CheckpointStorage>, config: CheckpointPersistenceConfig) -> Self {
        Self { storage, config, bound: Arc::new(AtomicU64::new(0)), flushed_at: Millis(0), pruned_at: Millis(0) }
    }

    pub(super) fn publish(&self, bound: CheckpointNumber) {
        self.bound.store(bound.0, Ordering::Relaxed);
    }

    /// Does what is due at `now`. Blocks for as long as the storage does.
    pub fn run_once(&mut self, now: Millis) -> Result<Report, persistence::Error> {
        let mut report = Report::default();
        let due = |last: Millis, every: Duration| u128::from(now.since(last)) >= every.as_millis();
        if due(self.flushed_at, self.config.flush_interval()) {
            self.flushed_at = now;
            let began = Instant::now();
            self.storage.flush()?;
            let took = began.elapsed();
            report.flushed = Some(took);
            tracing::debug!(event = "flushed", micros = took.as_micros(), "flushed");
        }
        if due(self.pruned_at, self.config.prune_interval()) {
            self.pruned_at = now;
            let began = Instant::now();
            let pruned = self.prune()?;
            let took = began.elapsed();
            report.pruned = pruned.map(|pruned| (pruned, took));
            if let Some(pruned) = pruned {
                tracing::info!(event = "pruned", below = %pruned.below, checkpoints = pruned.checkpoints, micros = took.as_micros(), "pruned");
            }
        }
        Ok(report)
    }

    fn prune(&self) -> Result<Option<Pruned>, persistence::Error> {
        let bound = CheckpointNumber(self.bound.load(Ordering::Relaxed));
        let below = bound.minus(self.config.retention_checkpoints);
        if below == CheckpointNumber(0) {
            return Ok(None);
        }
        // The chain of digests ends at the lowest link that stays; its own predecessor's digest is kept.
        let lowest = self.storage.certificates_after(below.minus(1), 1)?;
        let anchor = lowest.first().map(|lowest| Anchor { number: lowest.vote.link.source.number, link: lowest.vote.previous });
        self.storage.prune(&PruneOrder { below, own_votes_below: below, anchor }).map(Some)
    }

    /// Maintenance for ever, as a future to be spawned wherever the host node likes. `sleep` is that runtime's; the future ends with the
    /// first storage error, after which the node must be restarted.
    pub async fn run<S, F>(mut self, mut sleep: S) -> persistence::Error
    where
        S: FnMut(Duration) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let began = Instant::now();
        let pause = self.config.flush_interval().min(self.config.prune_interval());
        loop {
            sleep(pause).await;
            let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            if let Err(error) = self.run_once(Millis(elapsed)) {
                tracing::error!(event = "maintenance_failed", %error, "maintenance has ended");
                return error;
            }
        }
    }
}
