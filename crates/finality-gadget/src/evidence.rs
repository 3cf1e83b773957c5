//! Evidence: two signed statements of one validator that no honest one makes together.

use sha2::{Digest as _, Sha256};

use crate::certificate::Certificate;
use crate::codec::{self, Reader, Writer};
use crate::set::{self, Schedule};
use crate::types::{EvidenceId, ValidatorId};
use crate::vote::{Conflict, SignedVote, Vote};

const TAG: &[u8] = b"finality-gadget evidence 1\0";
const VERSION: u8 = 1;

/// Something a validator demonstrably signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Testimony {
    /// Its own vote.
    Vote(SignedVote),
    /// A certificate that counts it among its signers. The aggregate proves each of them, since every key comes with a proof of possession.
    Certificate(Certificate),
}

impl Testimony {
    /// What was signed.
    pub fn vote(&self) -> &Vote {
        match self {
            Self::Vote(signed) => &signed.vote,
            Self::Certificate(certificate) => &certificate.vote,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Vote(signed) => Writer::new().u8(0).sized(&signed.encode()).finish(),
            Self::Certificate(certificate) => Writer::new().u8(1).sized(&certificate.encode()).finish(),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, codec::Error> {
        match reader.u8()? {
            0 => Ok(Self::Vote(SignedVote::decode(reader.sized(SignedVote::MAX_BYTES)?)?)),
            1 => Ok(Self::Certificate(Certificate::decode(reader.sized(Certificate::MAX_BYTES)?)?)),
            _ => Err(reader.invalid("a testimony is a vote (0) or a certificate (1)")),
        }
    }

    /// Whether `validator` signed this, checked with nothing but the schedule.
    fn holds(&self, validator: ValidatorId, schedule: &Schedule) -> Result<(), Error> {
        match self {
            Self::Vote(signed) => {
                if signed.validator != validator {
                    return Err(Error::AnotherValidator);
                }
                schedule.verify_vote(signed)?;
            }
            Self::Certificate(certificate) => {
                let electorate = schedule.verify_certificate(certificate)?;
                let index = electorate.index(validator).ok_or(Error::AnotherValidator)?;
                if !certificate.signers.has(index) {
                    return Err(Error::AnotherValidator);
                }
            }
        }
        Ok(())
    }
}

/// Why evidence proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The two statements are compatible.
    #[error("the two votes do not contradict each other")]
    NoConflict,
    /// A statement was not made by the accused.
    #[error("one of the two statements was made by another validator")]
    AnotherValidator,
    /// A statement does not hold.
    #[error(transparent)]
    Statement(#[from] set::Error),
}

/// Proof that a validator broke the rules. Both conflicting statements are kept whole.
///
/// # Guarantees
///
/// [`Evidence::verify`] needs the domain and the validator sets and nothing else: no chain, no database, no peer.
///
/// # Does not
///
/// Tell malice from two processes that share a key by mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Who.
    pub validator: ValidatorId,
    /// One statement; of the two the one with the smaller encoding, so that one pair has one encoding.
    pub first: Testimony,
    /// The other.
    pub second: Testimony,
}

impl Evidence {
    /// Most bytes of an encoding.
    pub const MAX_BYTES: usize = 1 + 4 + 2 * (5 + Certificate::MAX_BYTES);

    /// Puts two statements in their order.
    pub fn new(validator: ValidatorId, one: Testimony, other: Testimony) -> Self {
        let (first, second) = if one.encode() <= other.encode() { (one, other) } else { (other, one) };
        Self { validator, first, second }
    }

    /// How the rules were broken; `None` where they were not.
    pub fn conflict(&self) -> Option<Conflict> {
        self.first.vote().conflict(self.second.vote())
    }

    /// Checks everything a third party must: the statements conflict, and the accused signed both.
    pub fn verify(&self, schedule: &Schedule) -> Result<Conflict, Error> {
        let conflict = self.conflict().ok_or(Error::NoConflict)?;
        self.first.holds(self.validator, schedule)?;
        self.second.holds(self.validator, schedule)?;
        Ok(conflict)
    }

    /// `version 1 · validator 4`, then each statement as `kind 1 · length 4 · encoding`.
    pub fn encode(&self) -> Vec<u8> {
        Writer::versioned(VERSION).u32(self.validator.0).raw(&self.first.encode()).raw(&self.second.encode()).finish()
    }

    /// Reads an encoding; refuses anything that is not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("evidence", bytes, VERSION)?;
        let validator = ValidatorId(reader.u32()?);
        let (first, second) = (Testimony::read(&mut reader)?, Testimony::read(&mut reader)?);
        if first.encode() > second.encode() {
            return Err(reader.invalid("the statements stand in the wrong order"));
        }
        reader.finish()?;
        Ok(Self { validator, first, second })
    }

    /// SHA-256 over a tag and the encoding: the name of this pair.
    pub fn id(&self) -> EvidenceId {
        EvidenceId(Sha256::new().chain_update(TAG).chain_update(self.encode()).finalize().into())
    }
}
