use finality_gadget::{BlockHash, BlockNumber, ChainId, chain};

/// Why the chain was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options cannot be used.
    #[error("chain endpoint: {0}")]
    Options(String),
    /// No connection, no answer in time, or an HTTP error.
    #[error("the endpoint is not reached: {0}")]
    Unreachable(String),
    /// The endpoint wants fewer questions.
    #[error("the endpoint limits us: {0}")]
    Limited(String),
    /// The endpoint serves another chain.
    #[error("the endpoint serves chain {found}, the configuration names {expected}")]
    WrongChain {
        /// Ours.
        expected: ChainId,
        /// Its.
        found: ChainId,
    },
    /// The chain has no such tag, or nothing that it names yet. Clients have many words for it.
    #[error("the endpoint has no `{tag}` block: {words}")]
    NoTag {
        /// The tag.
        tag: &'static str,
        /// The endpoint's words.
        words: String,
    },
    /// The endpoint answers with another error.
    #[error("the endpoint refuses ({code}): {words}")]
    Refused {
        /// Its code.
        code: i64,
        /// Its words.
        words: String,
    },
    /// The answer is not one.
    #[error("the endpoint answers nonsense: {0}")]
    Nonsense(String),
    /// The endpoint's `finalized` tag is behind what was final already: another machine answered, and it lags.
    #[error("the endpoint calls block {found} the last final one, but {known} was final already")]
    Stale {
        /// Final before.
        known: BlockNumber,
        /// Final by this answer.
        found: BlockNumber,
    },
    /// A final block was replaced. No operation of the chain does that; two endpoints disagree, or the chain was restarted from elsewhere.
    #[error("block {number} was final as {was} and is now {is}")]
    FinalReplaced {
        /// The block.
        number: BlockNumber,
        /// Its hash when it was final.
        was: BlockHash,
        /// Its hash now.
        is: BlockHash,
    },
    /// The chain was reorganised while it was read, or two machines that do not agree answered.
    #[error("the chain was reorganised while it was read")]
    Moved,
}

impl From<Error> for chain::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Moved => Self::Moved,
            other => Self::Unavailable(other.to_string()),
        }
    }
}
