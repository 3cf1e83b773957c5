//! Deterministic randomness: everything a run does follows from its seed.

use crate::scheme::Entropy;

/// SplitMix64: small, fast, and the same on every machine. For tests only.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high - low + 1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.bits() % 100 < percent
    }

    /// A position in something of `length`, which must not be empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.bits() % length as u64).unwrap_or(0)
    }

    /// Another generator, whose numbers tell nothing about this one's.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.bits())
    }
}

impl Entropy for Rng {
    fn next(&mut self) -> u64 {
        self.bits()
    }
}
