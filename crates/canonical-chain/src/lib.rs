//! The canonical chain of validators on an EVM chain: [`EvmChain`] is a
//! [`CanonicalChainClient`](finality_gadget::CanonicalChainClient) over plain JSON-RPC.
//!
//! It asks for blocks and nothing else (`eth_chainId`, `eth_getBlockByNumber`), and of a block it reads number, hash and parent, so that
//! chains with fields of their own are no trouble. It is a crate of its own because neither the network nor the gadget has any
//! business with a chain, nor a chain with either.
//!
//! # All from one chain
//!
//! A vote names two blocks, a source and a target that must descend from it. They are read one after the other, from an endpoint that
//! may be several machines which do not agree, while the chain may be reorganised. So blocks in between are read too and every parent is
//! checked, down from the highest: what is answered is one chain whoever answered. That is what a validator needs in its daily work, when
//! source and target are a checkpoint apart; blocks once checked are remembered. Where checkpoints lie further apart than
//! [`MAX_LINKED`] blocks, which happens while catching up, the upper end of each stretch is read before and after the rest, and a change
//! in between is [`Error::Moved`].
//!
//! What an endpoint once called `finalized` is remembered. An answer in which that block has another hash is refused
//! ([`Error::FinalReplaced`]), and a `finalized` tag that moved back is a machine that lags ([`Error::Stale`]).
//!
//! # Does not
//!
//! Recompute hashes: chains hash their headers in their own ways, so an endpoint that makes blocks up is believed. A validator should ask a
//! node of its own. It does not retry either; the gadget's owner asks again.
//!
//! # Example
//!
//! With an interval of 32, the last certified checkpoint at block 320 and the chain's `finalized` tag at 360, the gadget asks for 320
//! and 352. Blocks 320 to 352 are read, eight at a time, and linked: 33 questions, once. The next look finds all of them
//! remembered and asks only for the two ends.

mod client;
mod config;
mod error;
mod rpc;

pub use client::{EvmChain, MAX_LINKED};
pub use config::{Follow, Options};
pub use error::Error;
