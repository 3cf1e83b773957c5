//! What can go wrong around a development chain.

use std::path::PathBuf;

/// A failure of the development chain or of something done on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No anvil binary.
    #[error("anvil was not found (looked in {}): run `npm ci` in contracts/, or put anvil on the PATH", looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoAnvil {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// It could not be started.
    #[error("anvil at {} could not be started: {source}", path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ended or said nothing.
    #[error("anvil did not begin to listen within {seconds} s; its last words: {said}")]
    Silent {
        /// How long we waited.
        seconds: u64,
        /// The end of its output.
        said: String,
    },
    /// A file of ours could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// An answer that does not fit.
    #[error("{what}: unexpected answer {answer}")]
    Answer {
        /// What was asked.
        what: String,
        /// What came.
        answer: String,
    },
    /// The chain refused, or could not be reached.
    #[error("{what}: {source}")]
    Rpc {
        /// What was asked.
        what: String,
        /// What the transport says.
        source: Box<alloy::transports::TransportError>,
    },
    /// A transaction was mined and failed.
    #[error("{what} reverted in transaction {hash}")]
    Reverted {
        /// What it was.
        what: String,
        /// Its hash.
        hash: alloy::primitives::B256,
    },
    /// A transaction was not mined in time.
    #[error("{what} was not mined within {seconds} s (transaction {hash}): mine a block, or turn automine on")]
    NotMined {
        /// What it was.
        what: String,
        /// Its hash.
        hash: alloy::primitives::B256,
        /// How long we waited.
        seconds: u64,
    },
}
