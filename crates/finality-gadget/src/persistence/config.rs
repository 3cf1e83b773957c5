use std::time::Duration;

/// How the checkpoint store is kept. The names are those of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPersistenceConfig {
    /// `false` makes the node an observer: it follows certificates in memory and never signs.
    pub enabled: bool,
    /// Checkpoints below the last final one whose votes and certificates are kept.
    pub retention_checkpoints: u64,
    /// Seconds between flushes. Housekeeping: what must be durable is synced when it is written.
    pub flush_interval_secs: u64,
    /// Seconds between prunings.
    pub prune_interval_secs: u64,
}

impl CheckpointPersistenceConfig {
    /// 1000 checkpoints, flushed every 10 s, pruned every 300 s.
    #[must_use]
    pub const fn mainnet() -> Self {
        Self { enabled: true, retention_checkpoints: 1000, flush_interval_secs: 10, prune_interval_secs: 300 }
    }

    /// 100 checkpoints, flushed every 5 s, pruned every 60 s.
    #[must_use]
    pub const fn testnet() -> Self {
        Self { enabled: true, retention_checkpoints: 100, flush_interval_secs: 5, prune_interval_secs: 60 }
    }

    /// Time between flushes, at least a second.
    #[must_use]
    pub fn flush_interval(&self) -> Duration {
        Duration::from_secs(self.flush_interval_secs.max(1))
    }

    /// Time between prunings, at least a second.
    #[must_use]
    pub fn prune_interval(&self) -> Duration {
        Duration::from_secs(self.prune_interval_secs.max(1))
    }
}

impl Default for CheckpointPersistenceConfig {
    fn default() -> Self {
        Self::mainnet()
    }
}
