//! A chain whose every move is written down: a [`CanonicalChainClient`] for tests of whoever embeds the gadget.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::chain::{BoxFuture, CanonicalChainClient, ChainHead, Error};
use crate::types::{BlockHash, BlockNumber};

/// A chain that does what its test says, and nothing by itself. Its futures are ready at once, so that any runtime, or none, polls them.
///
/// # Guarantees
///
/// What one call of [`hashes`](CanonicalChainClient::hashes) answers is all from one chain; a block's hash names everything below it; the
/// `finalized` tag never moves back, and a reorganisation never reaches below it unless the test says so.
///
/// # Example
///
/// ```
/// use finality_gadget::simulator::ScriptedChain;
/// use finality_gadget::{BlockNumber, CanonicalChainClient as _};
///
/// let chain = ScriptedChain::new();
/// chain.grow(64);
/// chain.finalize(BlockNumber(32));
/// let before = chain.hash(BlockNumber(64));
/// chain.reorganise(10);
/// assert_ne!(chain.hash(BlockNumber(64)), before);
/// ```
#[derive(Debug)]
pub struct ScriptedChain {
    script: Mutex<Script>,
}

#[derive(Debug)]
struct Script {
    blocks: Vec<BlockHash>,
    forks: u64,
    finalized: Option<BlockNumber>,
    /// Why nothing is answered.
    down: Option<String>,
    /// How deep the chain is reorganised during the next reading of hashes.
    moves: Option<usize>,
}

impl Script {
    fn push(&mut self) {
        let parent = self.blocks.last().map_or([0; 32], |parent| parent.0);
        let hash = Sha256::new().chain_update(b"scripted block").chain_update(self.forks.to_be_bytes()).chain_update(parent);
        self.blocks.push(BlockHash(hash.finalize().into()));
    }

    fn reorganise(&mut self, depth: usize) {
        let height = self.blocks.len();
        self.forks += 1;
        // Block 0 is the same for ever.
        self.blocks.truncate(height.saturating_sub(depth).max(1));
        while self.blocks.len() < height {
            self.push();
        }
    }

    fn at(&self, height: BlockNumber) -> Option<BlockHash> {
        self.blocks.get(usize::try_from(height.0).ok()?).copied()
    }

    fn head(&self) -> BlockNumber {
        BlockNumber(self.blocks.len() as u64 - 1)
    }

    fn answering(&self) -> Result<(), Error> {
        self.down.as_ref().map_or(Ok(()), |why| Err(Error::Unavailable(why.clone())))
    }
}

impl Default for ScriptedChain {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptedChain {
    /// Block 0 alone, without a `finalized` tag.
    pub fn new() -> Self {
        let mut script = Script { blocks: Vec::new(), forks: 0, finalized: None, down: None, moves: None };
        script.push();
        Self { script: Mutex::new(script) }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many blocks more.
    pub fn grow(&self, blocks: u64) {
        let mut script = self.script();
        (0..blocks).for_each(|_| script.push());
    }

    /// The newest `depth` blocks are replaced by as many others, below the `finalized` tag too if `depth` says so.
    pub fn reorganise(&self, depth: usize) {
        self.script().reorganise(depth);
    }

    /// Moves the `finalized` tag up to this height, at most to the head. A lower one leaves it.
    pub fn finalize(&self, height: BlockNumber) {
        let mut script = self.script();
        let height = height.min(script.head());
        script.finalized = Some(script.finalized.map_or(height, |last| last.max(height)));
    }

    /// From now on it answers [`Error::Unavailable`] with these words; `None`: it answers again.
    pub fn fail(&self, why: Option<&str>) {
        self.script().down = why.map(str::to_owned);
    }

    /// The next reading of hashes meets a reorganisation of this depth, and answers [`Error::Moved`] as an honest client must.
    pub fn move_while_read(&self, depth: usize) {
        self.script().moves = Some(depth);
    }

    /// The canonical hash at a height now; `None` above the head.
    pub fn hash(&self, height: BlockNumber) -> Option<BlockHash> {
        self.script().at(height)
    }
}

impl CanonicalChainClient for ScriptedChain {
    fn head(&self) -> BoxFuture<'_, Result<ChainHead, Error>> {
        let script = self.script();
        let head = script.answering().map(|()| ChainHead { best: script.head(), finalized: script.finalized });
        Box::pin(std::future::ready(head))
    }

    fn hashes<'a>(&'a self, heights: &'a [BlockNumber]) -> BoxFuture<'a, Result<Vec<Option<BlockHash>>, Error>> {
        let mut script = self.script();
        let hashes = match (script.answering(), script.moves.take()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(depth)) => {
                script.reorganise(depth);
                Err(Error::Moved)
            }
            (Ok(()), None) => Ok(heights.iter().map(|height| script.at(*height)).collect()),
        };
        Box::pin(std::future::ready(hashes))
    }
}
