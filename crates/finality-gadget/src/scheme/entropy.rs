use rand::RngCore as _;

/// Randomness, handed in so that tests repeat.
pub trait Entropy: Send {
    /// 64 random bits.
    fn next(&mut self) -> u64;
}

/// The operating system's randomness, through the thread's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn next(&mut self) -> u64 {
        rand::rng().next_u64()
    }
}
