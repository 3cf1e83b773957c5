//! The host node's own part: a chain, a network of one, a key. A real node has them already.

use finality_gadget::chain::{BoxFuture, Error};
use finality_gadget::scheme::{Bls, BlsSigner};
use finality_gadget::{
    BlockHash, BlockNumber, CanonicalChainClient, ChainHead, ChainId, CheckpointNumber, Domain, FinalityCheckpoint, Message, NetworkBridge,
    Recipient, Registration, Schedule, TrustedCheckpoint, ValidatorId, ValidatorSet, VoteSigner as _,
};
use std::sync::Arc;

/// Blocks between checkpoints.
pub const INTERVAL: u64 = 32;

/// A chain that has always been long, and calls everything final. The hash of a block tells its height.
pub struct ToyChain;

impl ToyChain {
    pub fn hash(height: u64) -> BlockHash {
        let mut hash = [0xc0; 32];
        hash[..8].copy_from_slice(&height.to_be_bytes());
        BlockHash(hash)
    }
}

impl CanonicalChainClient for ToyChain {
    fn head(&self) -> BoxFuture<'_, Result<ChainHead, Error>> {
        let head = BlockNumber(1_000_000 * INTERVAL);
        Box::pin(async move { Ok(ChainHead { best: head, finalized: Some(head) }) })
    }

    fn hashes<'a>(&'a self, heights: &'a [BlockNumber]) -> BoxFuture<'a, Result<Vec<Option<BlockHash>>, Error>> {
        Box::pin(async move { Ok(heights.iter().map(|height| Some(Self::hash(height.0))).collect()) })
    }
}

/// A network without anybody else. It prints the votes that leave, so that whoever watches can compare them across restarts.
pub struct ToyNetwork;

impl NetworkBridge for ToyNetwork {
    fn send(&self, _to: Recipient, message: &Message) {
        if let Message::Votes(votes) = message {
            for signed in votes {
                let digest = signed.vote.digest();
                println!(
                    "vote left: target {} digest {digest} signature {:02x?}",
                    signed.vote.link.target.number,
                    &signed.signature.0[..8]
                );
            }
        }
    }
}

/// The key of the only validator. A real one comes from a keystore; this one is for everybody to see.
pub fn signer() -> Result<BlsSigner, finality_gadget::scheme::Error> {
    BlsSigner::from_seed(b"an example's key: never use it for anything")
}

/// Who votes: a set of one, whose quorum is one.
pub fn schedule(signer: &BlsSigner) -> Result<Schedule, finality_gadget::set::Error> {
    let member = Registration { id: ValidatorId(0), key: signer.public_key().clone(), possession: signer.possession() };
    let set = ValidatorSet::new(finality_gadget::SetId(1), &Bls, &[member])?;
    let genesis = FinalityCheckpoint { number: CheckpointNumber(0), hash: ToyChain::hash(0) };
    let domain = Domain { chain: ChainId(31337), trusted: TrustedCheckpoint { checkpoint: genesis, set: set.digest() } };
    Schedule::new(domain, Arc::new(Bls), set)
}
