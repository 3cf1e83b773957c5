//! Votes: what is signed, byte for byte.

use sha2::{Digest as _, Sha256};

use crate::codec::{self, Reader, Writer};
use crate::types::{DomainDigest, Link, LinkDigest, SetDigest, SetId, ValidatorId};

/// Stands before the encoding in what is signed, so that no other protocol's message is a vote.
const TAG: &[u8] = b"finality-gadget vote 1\0";
const VERSION: u8 = 1;

/// Sets whose quorums one link may need. A link over a set boundary needs two; more only where votes failed for a whole set's term.
pub const MAX_SETS_PER_LINK: usize = 4;

/// Longest signature of one validator in bytes; a BLS signature has 48, an ed25519 signature 64.
pub const MAX_SIGNATURE_BYTES: usize = 96;

/// One validator's statement that a link holds. All validators that agree sign the very same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Vote {
    /// Chain and trusted checkpoint.
    pub domain: DomainDigest,
    /// Id of the set in force at the target.
    pub set: SetId,
    /// Digests of all sets in force from source to target, oldest first; between one and [`MAX_SETS_PER_LINK`]. A certificate needs a
    /// quorum of each.
    pub sets: Vec<SetDigest>,
    /// Source and target.
    pub link: Link,
    /// Digest of the link that justified the source; [`Domain::root`](crate::Domain::root) where the source is the trusted checkpoint.
    /// Thus a certificate speaks for the whole chain of links behind it.
    pub previous: LinkDigest,
}

impl Vote {
    /// Most bytes of an encoding.
    pub const MAX_BYTES: usize = 1 + 32 + 8 + 1 + 32 * MAX_SETS_PER_LINK + 80 + 32;

    /// The canonical encoding, which is how votes travel and are stored.
    ///
    /// ```text
    /// version 1 · domain 32 · set id 8 · count 1 · set digests 32 × count
    /// · source number 8, hash 32 · target number 8, hash 32 · previous 32
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        self.write(Writer::versioned(VERSION).with_room(Self::MAX_BYTES)).finish()
    }

    fn write(&self, writer: Writer) -> Writer {
        let count = u8::try_from(self.sets.len()).unwrap_or(u8::MAX);
        assert!((1..=MAX_SETS_PER_LINK).contains(&self.sets.len()), "a vote names between one and {MAX_SETS_PER_LINK} sets");
        let writer = writer.raw(&self.domain.0).u64(self.set.0).u8(count);
        let writer = self.sets.iter().fold(writer, |writer, set| writer.raw(&set.0));
        writer.link(&self.link).raw(&self.previous.0)
    }

    /// Reads an encoding; refuses anything that is not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("vote", bytes, VERSION)?;
        let vote = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(vote)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let (domain, set) = (DomainDigest(reader.digest()?), SetId(reader.u64()?));
        let count = reader.u8()? as usize;
        if !(1..=MAX_SETS_PER_LINK).contains(&count) {
            return Err(reader.invalid("a vote names between one and four sets"));
        }
        let sets = (0..count).map(|_| reader.digest().map(SetDigest)).collect::<Result<_, _>>()?;
        Ok(Self { domain, set, sets, link: reader.link()?, previous: LinkDigest(reader.digest()?) })
    }

    /// The bytes that are signed: a tag and the encoding.
    pub fn signed_bytes(&self) -> Vec<u8> {
        self.write(Writer::new().with_room(TAG.len() + Self::MAX_BYTES).raw(TAG).u8(VERSION)).finish()
    }

    /// SHA-256 of the signed bytes.
    pub fn digest(&self) -> LinkDigest {
        LinkDigest(Sha256::digest(self.signed_bytes()).into())
    }

    /// How this vote and another of the same validator break the rules, if they do.
    pub fn conflict(&self, other: &Self) -> Option<Conflict> {
        // Numbers first: this is asked of thousands of pairs, of which hardly any conflict.
        let conflict = if self.link.target.number == other.link.target.number {
            Conflict::SameTarget
        } else if self.link.surrounds(&other.link) || other.link.surrounds(&self.link) {
            Conflict::Surround
        } else {
            return None;
        };
        (self != other && self.domain == other.domain).then_some(conflict)
    }
}

/// What a validator may never do (Casper FFG's two commandments).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// Different signed bytes for one target number.
    SameTarget,
    /// One vote's link lies strictly within the other's.
    Surround,
}

/// A signature or an aggregate, as the scheme encodes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(pub Vec<u8>);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

/// A vote with its author and signature. That the signature holds is not implied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SignedVote {
    /// What is said.
    pub vote: Vote,
    /// Who says it.
    pub validator: ValidatorId,
    /// The signature over [`Vote::signed_bytes`].
    pub signature: Signature,
}

impl SignedVote {
    /// Most bytes of an encoding.
    pub const MAX_BYTES: usize = Vote::MAX_BYTES + 4 + 4 + MAX_SIGNATURE_BYTES;

    /// The vote's encoding, then `validator 4 · signature length 4 · signature`.
    pub fn encode(&self) -> Vec<u8> {
        self.vote.write(Writer::versioned(VERSION)).u32(self.validator.0).sized(&self.signature.0).finish()
    }

    /// Reads an encoding; refuses anything that is not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("signed vote", bytes, VERSION)?;
        let vote = Vote::read(&mut reader)?;
        let validator = ValidatorId(reader.u32()?);
        let signature = Signature(reader.sized(MAX_SIGNATURE_BYTES)?.to_vec());
        reader.finish()?;
        Ok(Self { vote, validator, signature })
    }
}
