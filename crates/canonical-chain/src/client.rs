use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use finality_gadget::chain::{self, BoxFuture};
use finality_gadget::{BlockHash, BlockNumber, CanonicalChainClient, ChainHead, ChainId};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::rpc::{Block, Rpc, Which};
use crate::{Error, Follow, Options};

/// Blocks between two heights up to which every parent is checked. Eight intervals of the default 32.
pub const MAX_LINKED: u64 = 256;
/// Questions at once: a small node answers so many without delay.
const AT_ONCE: usize = 8;
/// Blocks remembered, about 80 bytes each.
const MAX_REMEMBERED: usize = 4096;
/// Heights in one look. The gadget asks for some 65 at most.
const MAX_HEIGHTS: usize = 1024;

/// An EVM chain behind a JSON-RPC endpoint. See the crate's page for what it guarantees and what it does not.
pub struct EvmChain {
    rpc: Rpc,
    chain: ChainId,
    follow: Follow,
    /// Set once the endpoint has named its chain.
    checked: OnceLock<()>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Blocks by height, as last read.
    blocks: BTreeMap<BlockNumber, Block>,
    /// The highest block that was called final.
    last_final: Option<Block>,
}

impl std::fmt::Debug for EvmChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvmChain").field("chain", &self.chain).field("follow", &self.follow).finish_non_exhaustive()
    }
}

impl EvmChain {
    /// Prepares the connection; asks nothing yet.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let rpc = Rpc::new(&options.url, options.timeout)?;
        Ok(Self { rpc, chain: options.chain, follow: options.follow, checked: OnceLock::new(), memory: Mutex::default() })
    }

    /// Where the chain stands, with the reason in its own type where it cannot be said.
    pub async fn read_head(&self) -> Result<ChainHead, Error> {
        self.check_chain().await?;
        let finalized = match self.rpc.block(Which::Tag("finalized")).await {
            Ok(Some(block)) => Some(self.remember_final(block)?),
            Ok(None) => None,
            // Without the tag, only who follows it cannot go on.
            Err(Error::NoTag { .. }) if self.follow != Follow::Finalized => None,
            Err(error) => return Err(error),
        };
        let best = match self.follow {
            Follow::Finalized => finalized,
            Follow::Safe => self.rpc.block(Which::Tag("safe")).await?.map(|block| block.number),
            Follow::Depth(depth) => {
                let newest = self.rpc.block(Which::Tag("latest")).await?;
                newest.map(|block| BlockNumber(block.number.0.saturating_sub(depth)))
            }
        };
        let best = best.ok_or_else(|| Error::Nonsense("a tag without a block".to_owned()))?;
        Ok(ChainHead { best, finalized })
    }

    /// Hashes of the canonical blocks at these heights, ascending, all of one chain; `None` above the head.
    pub async fn read_hashes(&self, heights: &[BlockNumber]) -> Result<Vec<Option<BlockHash>>, Error> {
        if heights.len() > MAX_HEIGHTS || !heights.is_sorted() {
            return Err(Error::Options(format!("heights must ascend and be at most {MAX_HEIGHTS}")));
        }
        self.check_chain().await?;
        let asked = self.read(heights.iter().copied()).await?;
        // Whatever lies below an existing block exists.
        let there = asked.partition_point(Option::is_some);
        if asked[there..].iter().any(Option::is_some) {
            return Err(Error::Moved);
        }
        let blocks: Vec<Block> = asked.iter().copied().flatten().collect();
        let stretches = self.link(&blocks).await?;
        if stretches.len() > 1 {
            let tops = self.read(stretches.iter().map(|top| top.number)).await?;
            if tops.iter().zip(&stretches).any(|(now, before)| now.as_ref() != Some(before)) {
                return Err(Error::Moved);
            }
        }
        Ok(asked.into_iter().map(|block| block.map(|block| block.hash)).collect())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Each change is complete before anything in it can panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check_chain(&self) -> Result<(), Error> {
        if self.checked.get().is_some() {
            return Ok(());
        }
        let found = self.rpc.chain_id().await?;
        if found != self.chain {
            return Err(Error::WrongChain { expected: self.chain, found });
        }
        // Another look may have been faster.
        let _ = self.checked.set(());
        Ok(())
    }

    fn remember_final(&self, block: Block) -> Result<BlockNumber, Error> {
        let mut memory = self.memory();
        if let Some(known) = memory.last_final {
            if block.number < known.number {
                return Err(Error::Stale { known: known.number, found: block.number });
            }
            check_final(&known, &block)?;
        }
        memory.last_final = Some(block);
        Ok(block.number)
    }

    /// Reads blocks by number, several at once, in the order asked for.
    async fn read(&self, numbers: impl Iterator<Item = BlockNumber>) -> Result<Vec<Option<Block>>, Error> {
        let questions: Vec<_> = numbers.map(|number| self.rpc.block(Which::Number(number))).collect();
        let blocks: Vec<Option<Block>> = stream::iter(questions).buffered(AT_ONCE).try_collect().await?;
        if let Some(known) = self.memory().last_final {
            blocks.iter().flatten().try_for_each(|block| check_final(&known, block))?;
        }
        Ok(blocks)
    }

    /// Checks that each block descends from the one before, wherever they are near enough; answers the highest block of each stretch of
    /// near ones.
    async fn link(&self, blocks: &[Block]) -> Result<Vec<Block>, Error> {
        let mut tops = Vec::new();
        for pair in blocks.windows(2) {
            let (below, above) = (pair[0], pair[1]);
            if above.number.0 - below.number.0 > MAX_LINKED {
                tops.push(below);
            } else {
                self.descend(below, above).await?;
            }
        }
        tops.extend(blocks.last());
        Ok(tops)
    }

    async fn descend(&self, below: Block, above: Block) -> Result<(), Error> {
        if below == above {
            return Ok(());
        }
        let between = || (below.number.0 + 1..above.number.0).map(BlockNumber);
        let missing: Vec<BlockNumber> = {
            let memory = self.memory();
            between().filter(|number| !memory.blocks.contains_key(number)).collect()
        };
        let read = self.read(missing.into_iter()).await?;
        let mut memory = self.memory();
        for block in read {
            let block = block.ok_or(Error::Moved)?;
            memory.blocks.insert(block.number, block);
        }
        let mut child = above;
        for number in between().rev() {
            let parent = memory.blocks.get(&number).copied().filter(|block| block.hash == child.parent);
            let Some(parent) = parent else {
                // What is remembered is of another chain: read anew next time.
                memory.blocks.retain(|known, _| *known <= below.number || *known >= above.number);
                return Err(Error::Moved);
            };
            child = parent;
        }
        while memory.blocks.len() > MAX_REMEMBERED {
            memory.blocks.pop_first();
        }
        if child.parent == below.hash { Ok(()) } else { Err(Error::Moved) }
    }
}

/// A block at the height of one that was final must be that one.
fn check_final(known: &Block, block: &Block) -> Result<(), Error> {
    if known.number == block.number && known.hash != block.hash {
        tracing::error!(event = "final_block_replaced", number = %known.number, was = %known.hash, is = %block.hash, "a final block was replaced");
        return Err(Error::FinalReplaced { number: known.number, was: known.hash, is: block.hash });
    }
    Ok(())
}

impl CanonicalChainClient for EvmChain {
    fn head(&self) -> BoxFuture<'_, Result<ChainHead, chain::Error>> {
        Box::pin(async { Ok(self.read_head().await?) })
    }

    fn hashes<'a>(&'a self, heights: &'a [BlockNumber]) -> BoxFuture<'a, Result<Vec<Option<BlockHash>>, chain::Error>> {
        Box::pin(async { Ok(self.read_hashes(heights).await?) })
    }
}
