//! What every signature is bound to: a chain and a checkpoint that its operators trust.

use sha2::{Digest as _, Sha256};

use crate::codec::Writer;
use crate::types::{ChainId, DomainDigest, FinalityCheckpoint, LinkDigest, SetDigest};

const TAG: &[u8] = b"finality-gadget domain 1\0";

/// The checkpoint that is final by definition, named in the configuration.
///
/// All validators and everyone who verifies must name the same one; it is agreed among operators, never taken from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrustedCheckpoint {
    /// Number and hash.
    pub checkpoint: FinalityCheckpoint,
    /// Digest of the set that votes on what follows it. The digest covers the set's id.
    pub set: SetDigest,
}

/// Chain and trusted checkpoint: part of every signed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain {
    /// The chain whose blocks are voted on.
    pub chain: ChainId,
    /// Where trust begins.
    pub trusted: TrustedCheckpoint,
}

impl Domain {
    /// SHA-256 over a tag, the chain id, and number, hash and set digest of the trusted checkpoint. Votes carry this digest.
    pub fn digest(&self) -> DomainDigest {
        let bytes = Writer::new().raw(TAG).u64(self.chain.0).checkpoint(&self.trusted.checkpoint).raw(&self.trusted.set.0).finish();
        DomainDigest(Sha256::digest(bytes).into())
    }

    /// What stands for the link before in votes whose source is the trusted checkpoint: there is no such link.
    pub fn root(&self) -> LinkDigest {
        LinkDigest(self.digest().0)
    }
}
