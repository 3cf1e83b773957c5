//! The chain whose blocks are voted on, as seen from here.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use crate::types::{BlockHash, BlockNumber, CheckpointNumber, FinalityCheckpoint};

/// A future that any runtime can poll.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why the chain did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is down or answered nonsense. Asked again later.
    #[error("the chain does not answer: {0}")]
    Unavailable(String),
    /// The chain was reorganised while it was read. Asked again at once.
    #[error("the chain was reorganised while it was read")]
    Moved,
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Height of the block up to which checkpoints may be voted for: the head, less whatever depth the operator asks for.
    pub best: BlockNumber,
    /// Height of the chain's own `finalized` tag, for chains that have one. `Single` finality needs it.
    pub finalized: Option<BlockNumber>,
}

/// Access to the canonical chain. Implemented by whoever embeds the gadget; polled on the embedder's runtime.
pub trait CanonicalChainClient: Send + Sync {
    /// Where the chain stands now.
    fn head(&self) -> BoxFuture<'_, Result<ChainHead, Error>>;

    /// Hashes of the canonical blocks at these heights, ascending; `None` above the head.
    ///
    /// **All from one and the same chain.** A source read before and a target read after a reorganisation could make a link between
    /// strangers, and it would be signed. An implementation that reads block by block must notice a change in between and answer
    /// [`Error::Moved`].
    fn hashes<'a>(&'a self, heights: &'a [BlockNumber]) -> BoxFuture<'a, Result<Vec<Option<BlockHash>>, Error>>;
}

/// One look at the canonical chain: everything in it belongs to one chain at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainView {
    /// Highest checkpoint number that exists and may be voted for.
    pub eligible: CheckpointNumber,
    /// Highest checkpoint number at or below the chain's own `finalized` tag.
    pub finalized: Option<CheckpointNumber>,
    /// Canonical hashes of the checkpoints that were asked for and exist.
    pub hashes: BTreeMap<CheckpointNumber, BlockHash>,
}

impl ChainView {
    /// The canonical checkpoint at a number, if this look included it.
    pub fn at(&self, number: CheckpointNumber) -> Option<FinalityCheckpoint> {
        self.hashes.get(&number).map(|hash| FinalityCheckpoint { number, hash: *hash })
    }

    /// Whether a checkpoint is known to be canonical.
    pub fn has(&self, checkpoint: &FinalityCheckpoint) -> bool {
        self.hashes.get(&checkpoint.number) == Some(&checkpoint.hash)
    }
}

/// Takes one look: the head, then the checkpoints that `wanted` names for it (see [`Core::wanted`](crate::Core::wanted)).
/// `interval` is the distance of checkpoints in blocks, at least 1.
pub async fn look(
    client: &dyn CanonicalChainClient,
    interval: u64,
    wanted: impl FnOnce(CheckpointNumber, Option<CheckpointNumber>) -> Vec<CheckpointNumber>,
) -> Result<ChainView, Error> {
    let interval = interval.max(1);
    let head = client.head().await?;
    let eligible = CheckpointNumber(head.best.0 / interval);
    let finalized = head.finalized.map(|block| CheckpointNumber(block.0 / interval));
    let numbers = wanted(eligible, finalized);
    let heights: Vec<BlockNumber> = numbers.iter().map(|number| BlockNumber(number.0.saturating_mul(interval))).collect();
    let hashes = client.hashes(&heights).await?;
    let hashes = numbers.into_iter().zip(hashes).filter_map(|(number, hash)| Some((number, hash?))).collect();
    Ok(ChainView { eligible, finalized, hashes })
}
