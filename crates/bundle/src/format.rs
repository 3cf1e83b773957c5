//! The file: `docs/bundle.md`, byte by byte.

use milepost_prover::MAX_CLAIM_TOKENS;
use milepost_statement::{Digest, JOURNAL_LEN, JournalError, Salt, Sampler, Statement, TokenCount, TokenId, TokenSeq, Turn};

use crate::landing::{Inclusion, Landing};

/// First bytes of a bundle.
pub const BUNDLE_TAG: &[u8] = b"MILEPOST BUNDLE 1\n";
/// How every version begins.
const ANY_VERSION: &[u8] = b"MILEPOST BUNDLE ";

/// Most bytes of a bundle: a receipt of 64 MiB, the ids of a million tokens, and room for the rest.
pub const MAX_BUNDLE_BYTES: usize = 80 << 20;
/// Most checkpoints of a claim, at 72 bytes each. Usual ones hold a hundred tokens, so that a claim has a few.
pub const MAX_CHECKPOINTS: usize = 1 << 16;
/// Most turns that begin in a claim, at 128 bytes each.
pub const MAX_TURNS: usize = 1 << 16;
/// Most bytes of a signed transaction. Nodes take 128 KiB at most.
pub const MAX_TRANSACTION_BYTES: usize = 128 << 10;
/// Most bytes of a block's header, receipt and proof together.
pub const MAX_INCLUSION_BYTES: usize = 4 << 20;
/// Most bytes of a finality certificate with its link. A certificate of a thousand validators has some hundred, a header six hundred.
pub const MAX_CERTIFICATE_BYTES: usize = 64 << 10;

/// A claim with everything that speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// The program that was proven.
    pub image_id: Digest,
    /// Commitment to the job's salt, as the session's terms have it; zero for none.
    pub salt_commitment: Digest,
    /// What the proof says.
    pub statement: Statement,
    /// The receipt file (`docs/proofs.md`).
    pub receipt: Vec<u8>,
    /// The claim's checkpoints in order, at least one.
    pub checkpoints: Vec<Checkpoint>,
    /// What was said, for whom the depositor lets see it.
    pub opening: Option<Opening>,
    /// How it came on the chain, once it did.
    pub landing: Option<Landing>,
    /// Why its block is final, where certificates say so.
    pub certificate: Option<Certificate>,
}

/// A checkpoint as anybody may see it. The digest of its turns is not here: it blinds the token ids (`docs/decisions/0001`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Tokens in it.
    pub count: TokenCount,
    /// Head after it.
    pub head: Digest,
}

/// What only the depositor gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// Digest of the turns that begin in each checkpoint.
    pub turns_digests: Vec<Digest>,
    /// Every token id of the claim.
    pub ids: Vec<TokenId>,
    /// Turns that begin in the claim, in order.
    pub turns: Vec<OpenTurn>,
    /// The job's salt. Whoever has it can search the job's other claims for short answers.
    pub salt: Option<Salt>,
}

/// A turn with the settings behind its sampler digest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenTurn {
    /// As it enters the turns digest.
    pub turn: Turn,
    /// The settings.
    pub sampler: Sampler,
}

/// A finality certificate, carried as it is, and what leads from the claim's block to the certified one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Digest of what the validators agreed on, as the set file gives it.
    pub set_file: Digest,
    /// The certificate.
    pub bytes: Vec<u8>,
    /// Headers (RLP) above the claim's block, up to the certified one; none where that is the claim's.
    pub link: Vec<Vec<u8>>,
}

/// Why bytes are not a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else.
    #[error("this is not a proof bundle: it does not begin as one")]
    NotABundle,
    /// Of another version.
    #[error("this bundle is of another version than 1")]
    Version,
    /// Larger than is read.
    #[error("the file has {0} bytes; at most {MAX_BUNDLE_BYTES} are read")]
    TooLarge(usize),
    /// It ends in the middle.
    #[error("the file is cut off in section {section}: {missing} bytes are missing")]
    Truncated {
        /// In which section; 0 in the prefix of one.
        section: u8,
        /// How many bytes are not there.
        missing: usize,
    },
    /// Two claims in one file.
    #[error("the file holds a second claim: a bundle is about one")]
    TwoClaims,
    /// A section that is none.
    #[error("section {0} is unknown in this version")]
    UnknownSection(u8),
    /// A section twice.
    #[error("section {0} stands there twice")]
    Twice(u8),
    /// A section behind a later one.
    #[error("section {found} stands behind section {after}")]
    Order {
        /// The section.
        found: u8,
        /// The one before it.
        after: u8,
    },
    /// A section that must be there.
    #[error("section {section} ({what}) is missing")]
    Missing {
        /// Which.
        section: u8,
        /// What it holds.
        what: &'static str,
    },
    /// A section's length does not fit what it holds.
    #[error("section {section} ({what}) has {found} bytes, which is no length of it")]
    Length {
        /// Which.
        section: u8,
        /// What it holds.
        what: &'static str,
        /// Its bytes.
        found: usize,
    },
    /// The statement is none.
    #[error("the bundle's journal is not a statement: {0}")]
    Journal(#[from] JournalError),
}

const CLAIM: u8 = 1;
const RECEIPT: u8 = 2;
const CHECKPOINTS: u8 = 3;
const TURNS_DIGESTS: u8 = 4;
const IDS: u8 = 5;
const TURNS: u8 = 6;
const SALT: u8 = 7;
const TRANSACTION: u8 = 8;
const INCLUSION: u8 = 9;
const CERTIFICATE: u8 = 10;

const CHECKPOINT_LEN: usize = 8 + 32;
const TURN_LEN: usize = 104 + 24;

fn what(section: u8) -> &'static str {
    match section {
        CLAIM => "claim",
        RECEIPT => "receipt",
        CHECKPOINTS => "checkpoints",
        TURNS_DIGESTS => "turns digests",
        IDS => "token ids",
        TURNS => "turns",
        SALT => "salt",
        TRANSACTION => "transaction",
        INCLUSION => "inclusion",
        _ => "certificate",
    }
}

/// Shortest and longest payload of a section.
fn bounds(section: u8) -> (usize, usize) {
    let tokens = usize::try_from(MAX_CLAIM_TOKENS).unwrap_or(usize::MAX);
    match section {
        CLAIM => (64 + JOURNAL_LEN, 64 + JOURNAL_LEN),
        RECEIPT => (1, 64 << 20),
        CHECKPOINTS => (CHECKPOINT_LEN, MAX_CHECKPOINTS * CHECKPOINT_LEN),
        TURNS_DIGESTS => (32, MAX_CHECKPOINTS * 32),
        IDS => (0, tokens * 4),
        TURNS => (0, MAX_TURNS * TURN_LEN),
        SALT => (32, 32),
        TRANSACTION => (1, MAX_TRANSACTION_BYTES),
        INCLUSION => (1, MAX_INCLUSION_BYTES),
        _ => (33, 32 + MAX_CERTIFICATE_BYTES),
    }
}

impl Inclusion {
    /// As in a bundle.
    pub fn to_bytes(&self) -> Vec<u8> {
        inclusion_bytes(self)
    }

    /// Reads [`Inclusion::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        inclusion(bytes)
    }
}

impl Certificate {
    /// As in a bundle.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.set_file.0.to_vec();
        for part in std::iter::once(&self.bytes).chain(&self.link) {
            out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(part);
        }
        out
    }

    /// Reads [`Certificate::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::Length { section: CERTIFICATE, what: what(CERTIFICATE), found: bytes.len() };
        let (agreement, rest) = bytes.split_at_checked(32).ok_or_else(wrong)?;
        let mut parts = parts(rest).ok_or_else(wrong)?.into_iter();
        Ok(Self { set_file: Digest(array(agreement, 0)), bytes: parts.next().ok_or_else(wrong)?, link: parts.collect() })
    }
}

impl Bundle {
    /// The file's bytes. Refuses what [`Bundle::decode`] would.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = BUNDLE_TAG.to_vec();
        let mut put = |section: u8, payload: &[u8]| {
            let length = check_length(section, payload.len())?;
            out.push(section);
            out.extend(length.to_le_bytes());
            out.extend(payload);
            Ok::<_, Error>(())
        };
        put(CLAIM, &[&self.image_id.0[..], &self.salt_commitment.0, &self.statement.journal()].concat())?;
        put(RECEIPT, &self.receipt)?;
        put(CHECKPOINTS, &flat(&self.checkpoints, |it| [&it.count.0.to_le_bytes()[..], &it.head.0].concat()))?;
        if let Some(opening) = &self.opening {
            put(TURNS_DIGESTS, &flat(&opening.turns_digests, |digest| digest.0))?;
            put(IDS, &flat(&opening.ids, |id| id.to_le_bytes()))?;
            put(TURNS, &flat(&opening.turns, turn_bytes))?;
            if let Some(salt) = &opening.salt {
                put(SALT, &salt.0)?;
            }
        }
        if let Some(landing) = &self.landing {
            put(TRANSACTION, &landing.transaction)?;
            if let Some(inclusion) = &landing.inclusion {
                put(INCLUSION, &inclusion_bytes(inclusion))?;
            }
        }
        if let Some(certificate) = &self.certificate {
            put(CERTIFICATE, &certificate.to_bytes())?;
        }
        if out.len() > MAX_BUNDLE_BYTES { Err(Error::TooLarge(out.len())) } else { Ok(out) }
    }

    /// Reads a file. What it answers encodes to the same bytes again: there is one form.
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        if file.len() > MAX_BUNDLE_BYTES {
            return Err(Error::TooLarge(file.len()));
        }
        let Some(mut rest) = file.strip_prefix(BUNDLE_TAG) else {
            let cut = !file.is_empty() && BUNDLE_TAG.starts_with(file);
            return Err(match file.strip_prefix(ANY_VERSION) {
                _ if cut => Error::Truncated { section: 0, missing: BUNDLE_TAG.len() - file.len() },
                Some(_) => Error::Version,
                None => Error::NotABundle,
            });
        };
        let mut sections: [Option<&[u8]>; CERTIFICATE as usize + 1] = [None; CERTIFICATE as usize + 1];
        let mut last = 0;
        while !rest.is_empty() {
            let (section, payload, behind) = take_section(rest)?;
            if section == last {
                return Err(if section == CLAIM { Error::TwoClaims } else { Error::Twice(section) });
            }
            if section < last {
                return Err(if section == CLAIM { Error::TwoClaims } else { Error::Order { found: section, after: last } });
            }
            sections[usize::from(section)] = Some(payload);
            (last, rest) = (section, behind);
        }
        let optional = |section: u8| sections[usize::from(section)];
        let required = |section: u8| optional(section).ok_or(Error::Missing { section, what: what(section) });

        let claim = required(CLAIM)?;
        let opening = if [TURNS_DIGESTS, IDS, TURNS, SALT].iter().any(|section| optional(*section).is_some()) {
            Some(Opening {
                turns_digests: each(TURNS_DIGESTS, required(TURNS_DIGESTS)?, 32, |bytes| Digest(array(bytes, 0)))?,
                ids: each(IDS, required(IDS)?, 4, |bytes| TokenId::from_le_bytes(array(bytes, 0)))?,
                turns: each(TURNS, required(TURNS)?, TURN_LEN, turn)?,
                salt: optional(SALT).map(|bytes| Salt(array(bytes, 0))),
            })
        } else {
            None
        };
        let inclusion = optional(INCLUSION).map(inclusion).transpose()?;
        let landing = match (optional(TRANSACTION), inclusion) {
            (Some(transaction), inclusion) => Some(Landing { transaction: transaction.to_vec(), inclusion }),
            (None, None) => None,
            (None, Some(_)) => return Err(Error::Missing { section: TRANSACTION, what: what(TRANSACTION) }),
        };
        Ok(Self {
            image_id: Digest(array(claim, 0)),
            salt_commitment: Digest(array(claim, 32)),
            statement: Statement::from_journal(&claim[64..])?,
            receipt: required(RECEIPT)?.to_vec(),
            checkpoints: each(CHECKPOINTS, required(CHECKPOINTS)?, CHECKPOINT_LEN, |bytes| Checkpoint {
                count: TokenCount(u64::from_le_bytes(array(bytes, 0))),
                head: Digest(array(bytes, 8)),
            })?,
            opening,
            landing,
            certificate: optional(CERTIFICATE).map(Certificate::from_bytes).transpose()?,
        })
    }
}

/// The first section of `rest`: its number, its payload, and what stands behind it.
fn take_section(rest: &[u8]) -> Result<(u8, &[u8], &[u8]), Error> {
    if rest.starts_with(ANY_VERSION) {
        return Err(Error::TwoClaims);
    }
    let Some((prefix, behind)) = rest.split_at_checked(5) else {
        return Err(Error::Truncated { section: 0, missing: 5 - rest.len() });
    };
    let section = prefix[0];
    if !(CLAIM..=CERTIFICATE).contains(&section) {
        return Err(Error::UnknownSection(section));
    }
    let length = usize::try_from(u32::from_le_bytes(array(prefix, 1))).unwrap_or(usize::MAX);
    check_length(section, length)?;
    match behind.split_at_checked(length) {
        Some((payload, behind)) => Ok((section, payload, behind)),
        None => Err(Error::Truncated { section, missing: length - behind.len() }),
    }
}

fn check_length(section: u8, found: usize) -> Result<u32, Error> {
    let (least, most) = bounds(section);
    let wrong = Error::Length { section, what: what(section), found };
    if (least..=most).contains(&found) { u32::try_from(found).map_err(|_| wrong) } else { Err(wrong) }
}

fn flat<T, B: AsRef<[u8]>>(items: &[T], bytes: impl Fn(&T) -> B) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend(bytes(item).as_ref());
    }
    out
}

/// A section of items of equal length.
fn each<T>(section: u8, payload: &[u8], length: usize, read: impl Fn(&[u8]) -> T) -> Result<Vec<T>, Error> {
    if !payload.len().is_multiple_of(length) {
        return Err(Error::Length { section, what: what(section), found: payload.len() });
    }
    Ok(payload.chunks_exact(length).map(read).collect())
}

/// `N` bytes of a slice whose length was checked.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of that length")
}

fn turn_bytes(open: &OpenTurn) -> Vec<u8> {
    let (turn, sampler) = (&open.turn, &open.sampler);
    let parts: [&[u8]; 9] = [
        &turn.start.0.to_le_bytes(),
        &turn.prompt.0,
        &turn.sampler.0,
        &turn.request.0,
        &sampler.temperature.to_bits().to_le_bytes(),
        &sampler.top_p.to_bits().to_le_bytes(),
        &sampler.top_k.to_le_bytes(),
        &sampler.seed.to_le_bytes(),
        &sampler.max_tokens.to_le_bytes(),
    ];
    parts.concat()
}

fn turn(bytes: &[u8]) -> OpenTurn {
    let word = |at| u32::from_le_bytes(array(bytes, at));
    OpenTurn {
        turn: Turn {
            start: TokenSeq(u64::from_le_bytes(array(bytes, 0))),
            prompt: Digest(array(bytes, 8)),
            sampler: Digest(array(bytes, 40)),
            request: Digest(array(bytes, 72)),
        },
        sampler: Sampler {
            temperature: f32::from_bits(word(104)),
            top_p: f32::from_bits(word(108)),
            top_k: word(112),
            seed: u64::from_le_bytes(array(bytes, 116)),
            max_tokens: word(124),
        },
    }
}

fn inclusion_bytes(inclusion: &Inclusion) -> Vec<u8> {
    let mut out = Vec::new();
    // Lengths beyond u32 are beyond the section's bound, which is checked behind this.
    let mut put = |bytes: &[u8]| {
        out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(bytes);
    };
    put(&inclusion.header);
    put(&inclusion.receipt);
    inclusion.proof.iter().for_each(|node| put(node));
    let numbers = [&inclusion.transaction_index.to_le_bytes()[..], &inclusion.log_position.to_le_bytes()].concat();
    [numbers, out].concat()
}

/// Parts, each `length u32le ‖ bytes`, to the end.
fn parts(mut rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_at_checked(4)?;
        let length = usize::try_from(u32::from_le_bytes(array(length, 0))).unwrap_or(usize::MAX);
        let (part, behind) = behind.split_at_checked(length)?;
        parts.push(part.to_vec());
        rest = behind;
    }
    Some(parts)
}

fn inclusion(bytes: &[u8]) -> Result<Inclusion, Error> {
    let wrong = || Error::Length { section: INCLUSION, what: what(INCLUSION), found: bytes.len() };
    let (numbers, rest) = bytes.split_at_checked(12).ok_or_else(wrong)?;
    let mut parts = parts(rest).ok_or_else(wrong)?.into_iter();
    let (header, receipt) = (parts.next().ok_or_else(wrong)?, parts.next().ok_or_else(wrong)?);
    let (index, position) = (u64::from_le_bytes(array(numbers, 0)), u32::from_le_bytes(array(numbers, 8)));
    Ok(Inclusion { header, receipt, transaction_index: index, log_position: position, proof: parts.collect() })
}
