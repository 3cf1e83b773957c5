use std::time::Duration;

use finality_gadget::ChainId;

/// Up to which block checkpoints may be voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The chain's `finalized` tag. With it a certificate repeats what the chain itself promises, and no reorganisation can come between.
    Finalized,
    /// The chain's `safe` tag.
    Safe,
    /// So many blocks below the newest one. For chains without tags; a deeper reorganisation stops finality.
    Depth(u64),
}

/// Which chain, and how it is asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Endpoint, `http://` or `https://`. May hold a secret and never stands in an error or a log.
    pub url: String,
    /// The chain that the endpoint must serve.
    pub chain: ChainId,
    /// Up to which block to vote.
    pub follow: Follow,
    /// For each question, answer included.
    pub timeout: Duration,
}

impl Options {
    /// An endpoint, asked with ten seconds of patience.
    pub fn new(url: impl Into<String>, chain: ChainId, follow: Follow) -> Self {
        Self { url: url.into(), chain, follow, timeout: Duration::from_secs(10) }
    }
}
