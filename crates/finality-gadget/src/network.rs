//! What validators say to each other, and the bridge that carries it.
//!
//! Messages in, effects out: the gadget never waits for a peer. The owner of the bridge hands received messages to
//! [`CheckpointFinality::receive`](crate::CheckpointFinality::receive) together with the *authenticated* identity of the sender.

use crate::certificate::Certificate;
use crate::codec::{self, Reader, Writer};
use crate::domain::Domain;
use crate::types::{CheckpointNumber, SetDigest, SetId, ValidatorId};
use crate::vote::SignedVote;

const VERSION: u8 = 1;
/// Version of the protocol. Peers of different versions refuse each other with that reason.
pub const PROTOCOL_VERSION: u32 = 1;
/// Votes in one message. A full mesh sends one's own vote alone; more are passed on only where votes disagree.
pub const MAX_VOTES_PER_MESSAGE: usize = 64;
/// Certificates in one message: a second's work for the receiver at most.
pub const MAX_CERTIFICATES_PER_MESSAGE: usize = 64;
/// Largest encoded message in bytes. Certificates beyond it travel in further messages.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What validators tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "messages are few and short-lived")]
pub enum Message {
    /// Where the sender stands. Sent now and then; a peer that is further sends what is missing.
    Status(Status),
    /// Votes: the sender's own, or ones it passes on because they contradict what others say.
    Votes(Vec<SignedVote>),
    /// Certificates, ascending by target: an answer to a status, a request, or a vote that was already certified.
    Certificates(Vec<Certificate>),
    /// Asks for certificates with targets above a number.
    CertificatesAfter(CheckpointNumber),
    /// "Which votes of mine do you know?" Asked at every start, of everybody.
    OwnVotesQuery {
        /// Ties the answer to this start.
        nonce: u64,
    },
    /// The answer.
    OwnVotes(OwnVotes),
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Number of the last final checkpoint.
    pub finalized: CheckpointNumber,
    /// Highest number with a certificate.
    pub justified: CheckpointNumber,
    /// Highest checkpoint its chain offers.
    pub eligible: CheckpointNumber,
    /// Exclusive or of the digests of all certified links above the last final number, first 8 bytes: nodes that differ in it hold different
    /// certificates, even if their highest is the same.
    pub open_links: u64,
}

/// The newest signs of life of the asking validator's key that the answering one knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnVotes {
    /// From the query.
    pub nonce: u64,
    /// The last final number of the answering node. The asker does not sign before it has caught up.
    pub finalized: CheckpointNumber,
    /// The asker's votes with the highest target and with the highest source; at most [`OwnVotes::MAX_VOTES`].
    pub votes: Vec<SignedVote>,
    /// The certificate with the highest target that counts the asker among its signers.
    pub certificate: Option<Certificate>,
}

impl OwnVotes {
    /// Most votes in an answer.
    pub const MAX_VOTES: usize = 2;
}

impl Message {
    /// The canonical encoding: a byte of version, a byte of kind, the content. At most [`MAX_MESSAGE_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::versioned(VERSION);
        match self {
            Self::Status(status) => {
                writer.u8(0).u64(status.finalized.0).u64(status.justified.0).u64(status.eligible.0).u64(status.open_links)
            }
            Self::Votes(votes) => list(writer.u8(1), votes.iter().map(SignedVote::encode)),
            Self::Certificates(certificates) => list(writer.u8(2), certificates.iter().map(Certificate::encode)),
            Self::CertificatesAfter(after) => writer.u8(3).u64(after.0),
            Self::OwnVotesQuery { nonce } => writer.u8(4).u64(*nonce),
            Self::OwnVotes(own) => {
                let writer = list(writer.u8(5).u64(own.nonce).u64(own.finalized.0), own.votes.iter().map(SignedVote::encode));
                list(writer, own.certificate.iter().map(Certificate::encode))
            }
        }
        .finish()
    }

    /// Reads an encoding. Counts and lengths are judged before anything is allocated for them.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut reader = Reader::versioned("message", bytes, VERSION)?;
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(reader.invalid("longer than a message may be"));
        }
        let message = match reader.u8()? {
            0 => Self::Status(Status {
                finalized: CheckpointNumber(reader.u64()?),
                justified: CheckpointNumber(reader.u64()?),
                eligible: CheckpointNumber(reader.u64()?),
                open_links: reader.u64()?,
            }),
            1 => Self::Votes(read_list(&mut reader, MAX_VOTES_PER_MESSAGE, SignedVote::MAX_BYTES, SignedVote::decode)?),
            2 => {
                let certificates = read_list(&mut reader, MAX_CERTIFICATES_PER_MESSAGE, Certificate::MAX_BYTES, Certificate::decode)?;
                Self::Certificates(certificates)
            }
            3 => Self::CertificatesAfter(CheckpointNumber(reader.u64()?)),
            4 => Self::OwnVotesQuery { nonce: reader.u64()? },
            5 => Self::OwnVotes(OwnVotes {
                nonce: reader.u64()?,
                finalized: CheckpointNumber(reader.u64()?),
                votes: read_list(&mut reader, OwnVotes::MAX_VOTES, SignedVote::MAX_BYTES, SignedVote::decode)?,
                certificate: read_list(&mut reader, 1, Certificate::MAX_BYTES, Certificate::decode)?.pop(),
            }),
            _ => return Err(reader.invalid("an unknown kind of message")),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn list(writer: Writer, items: impl ExactSizeIterator<Item = Vec<u8>>) -> Writer {
    let writer = writer.u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
    items.fold(writer, |writer, item| writer.sized(&item))
}

fn read_list<T>(
    reader: &mut Reader<'_>,
    most: usize,
    most_bytes: usize,
    decode: impl Fn(&[u8]) -> Result<T, codec::Error>,
) -> Result<Vec<T>, codec::Error> {
    let count = reader.u32()? as usize;
    if count > most {
        return Err(reader.invalid("more items than a message may hold"));
    }
    (0..count).map(|_| decode(reader.sized(most_bytes)?)).collect()
}

/// Who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// Every validator that any set in the schedule names, but oneself.
    All,
    /// One of them.
    One(ValidatorId),
}

/// Carries messages to other validators.
///
/// # Guarantees expected of an implementation
///
/// The sender named with a received message is authenticated. Queues are bounded; what does not fit is dropped.
///
/// # Does not
///
/// Have to deliver. Whatever matters is sent again until it is certified.
pub trait NetworkBridge: Send + Sync {
    /// Hands a message over. Returns at once; never blocks and never fails.
    fn send(&self, to: Recipient, message: &Message);
}

/// What two nodes exchange before anything else, so that strangers part with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Who it is. The bridge checks it against the authenticated identity.
    pub validator: ValidatorId,
    /// Chain and trusted checkpoint.
    pub domain: Domain,
    /// Newest set in its schedule.
    pub set: SetId,
    /// That set's digest.
    pub set_digest: SetDigest,
}

/// Why a node is not talked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another version of the protocol.
    #[error("speaks version {theirs} of the protocol, here it is {ours}")]
    Version {
        /// Theirs.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// Another chain.
    #[error("follows chain {theirs}, here it is {ours}")]
    Chain {
        /// Theirs.
        theirs: crate::types::ChainId,
        /// Ours.
        ours: crate::types::ChainId,
    },
    /// Another trusted checkpoint, or another set at it.
    #[error("trusts another checkpoint or another first set")]
    Trusted,
    /// The same set id stands for different members.
    #[error("has other members in set {0}")]
    Set(SetId),
    /// No set names it.
    #[error("validator {0} is in no set of the schedule")]
    Unknown(ValidatorId),
}

impl Hello {
    /// What this node says of itself.
    pub fn of(schedule: &crate::set::Schedule, validator: ValidatorId) -> Self {
        let newest = schedule.set_at(CheckpointNumber(u64::MAX));
        Self { version: PROTOCOL_VERSION, validator, domain: *schedule.domain(), set: newest.id(), set_digest: newest.digest() }
    }

    /// Whether to talk to whoever says this. A peer whose schedule has a set more or less is talked to.
    pub fn check(&self, schedule: &crate::set::Schedule) -> Result<(), Refused> {
        let ours = schedule.domain();
        if self.version != PROTOCOL_VERSION {
            Err(Refused::Version { theirs: self.version, ours: PROTOCOL_VERSION })
        } else if self.domain.chain != ours.chain {
            Err(Refused::Chain { theirs: self.domain.chain, ours: ours.chain })
        } else if self.domain != *ours {
            Err(Refused::Trusted)
        } else if schedule.sets().any(|(_, set)| set.id() == self.set && set.digest() != self.set_digest) {
            Err(Refused::Set(self.set))
        } else if !schedule.knows(self.validator) {
            Err(Refused::Unknown(self.validator))
        } else {
            Ok(())
        }
    }
}
