//! Certificates: a quorum behind one link.

use crate::bitmap::Bitmap;
use crate::codec::{self, Reader, Writer};
use crate::set::MAX_VALIDATORS;
use crate::types::LinkDigest;
use crate::vote::{MAX_SETS_PER_LINK, MAX_SIGNATURE_BYTES, Signature, Vote};

const VERSION: u8 = 1;
/// A union of sets may have this many members.
const MAX_MEMBERS: usize = MAX_VALIDATORS * MAX_SETS_PER_LINK;

/// Identical votes of a quorum of every set in force from source to target: one message, one bitmap, one aggregate.
///
/// # Guarantees
///
/// Whoever knows the domain and the validator sets can verify it alone; [`Electorate::verify`](crate::Electorate::verify) does.
///
/// # Does not
///
/// A decoded certificate is not a verified one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// What the quorum signed. Holds the link, the set digests and the digest of the link before.
    pub vote: Vote,
    /// Who signed, as positions in the electorate of the link.
    pub signers: Bitmap,
    /// All their signatures in one, as the scheme aggregates them.
    pub aggregate: Signature,
}

impl Certificate {
    /// Most bytes of an encoding. ed25519 cannot aggregate and thus sets the bound.
    pub const MAX_BYTES: usize = Vote::MAX_BYTES + 8 + MAX_MEMBERS / 8 + MAX_MEMBERS * MAX_SIGNATURE_BYTES;

    /// Digest of the link, the same for every certificate of it, whoever signed.
    pub fn digest(&self) -> LinkDigest {
        self.vote.digest()
    }

    /// Whether the link crosses a boundary between sets. Such certificates are never pruned: they hand trust from set to set.
    pub fn is_boundary(&self) -> bool {
        self.vote.sets.len() > 1
    }

    /// The vote's encoding, then `bitmap length 4 · bitmap · aggregate length 4 · aggregate`.
    pub fn encode(&self) -> Vec<u8> {
        Writer::versioned(VERSION).raw(&self.vote.encode()[1..]).sized(self.signers.as_bytes()).sized(&self.aggregate.0).finish()
    }

    /// Reads an encoding; refuses anything that is not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("certificate", bytes, VERSION)?;
        let vote = Vote::read(&mut reader)?;
        let signers = Bitmap::unchecked(reader.sized(MAX_MEMBERS / 8)?);
        let aggregate = Signature(reader.sized(MAX_MEMBERS * MAX_SIGNATURE_BYTES)?.to_vec());
        reader.finish()?;
        Ok(Self { vote, signers, aggregate })
    }
}

/// Finality, and what shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finalized {
    /// The final checkpoint.
    pub checkpoint: crate::types::FinalityCheckpoint,
    /// Target of the certificate that made it so: itself under `Single`, its direct child under `Ffg`; itself for the trusted checkpoint.
    pub by: crate::types::CheckpointNumber,
}

impl Finalized {
    /// `number 8 · hash 32 · by 8` after a byte of version.
    pub fn encode(&self) -> Vec<u8> {
        Writer::versioned(VERSION).checkpoint(&self.checkpoint).u64(self.by.0).finish()
    }

    /// Reads an encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("finalized", bytes, VERSION)?;
        let finalized = Self { checkpoint: reader.checkpoint()?, by: crate::types::CheckpointNumber(reader.u64()?) };
        reader.finish()?;
        Ok(finalized)
    }
}
