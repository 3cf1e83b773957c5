//! Plans for when and how the simulated disk fails.

use std::collections::BTreeMap;

/// A fault of one write or flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is lost at this moment of the operation.
    PowerLoss(Moment),
    /// A part of the batch reaches the log, then the write fails. The engine stops.
    ShortWrite,
    /// ENOSPC before anything is written. The engine stops.
    NoSpace,
    /// The batch reaches the log, the sync fails with EIO. The engine stops. (Of a buffered write: no fault.)
    SyncError,
}

/// A moment of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it has reached the log.
    Before,
    /// It is in the log and not synced: it may survive, or not.
    During,
    /// It is as durable as was asked, and the caller never learns of it.
    After,
}

/// What becomes of writes that were not synced when the power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None survives.
    Nothing,
    /// All survive, as if the kernel had just written everything back.
    Everything,
    /// The first few survive, the next may be torn. How many is drawn from the seed.
    Prefix,
    /// Each survives or not, drawn from the seed: what a disk may do that reorders writes.
    Subset,
}

/// When the simulated disk fails, and what is left then.
///
/// Operations (writes and flushes) are counted from 0. The same plan over the same operations leaves the same bytes.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    survival: Survival,
    faults: BTreeMap<u64, Fault>,
}

impl FaultPlan {
    /// No faults; what is not synced when the power is cut by hand is lost.
    pub fn none() -> Self {
        Self { seed: 0, survival: Survival::Nothing, faults: BTreeMap::new() }
    }

    /// Adds a fault at an operation.
    #[must_use]
    pub fn at(mut self, operation: u64, fault: Fault) -> Self {
        self.faults.insert(operation, fault);
        self
    }

    /// Chooses what becomes of unsynced writes, and the seed from which it is drawn.
    #[must_use]
    pub fn surviving(mut self, survival: Survival, seed: u64) -> Self {
        (self.survival, self.seed) = (survival, seed);
        self
    }

    pub(super) fn fault_at(&self, operation: u64) -> Option<Fault> {
        self.faults.get(&operation).copied()
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn survival(&self) -> Survival {
        self.survival
    }
}

/// SplitMix64: enough randomness to choose survivors, and the same on every machine for ever.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..=most`.
    pub(super) fn up_to(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % (most as u64 + 1)).unwrap_or(most)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}
