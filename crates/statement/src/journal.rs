//! The statement of a claim and its journal: ten 32-byte words.

use core::fmt;

use crate::{Address, ChainId, Digest, JobId, TokenCount, TokenSeq};

/// Length of a journal in bytes.
pub const JOURNAL_LEN: usize = 320;
/// Version in the journal's first word.
pub const JOURNAL_VERSION: u64 = 1;

/// What one proof says: this host committed to exactly these `count` tokens of this job, following on from `head_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize))]
pub struct Statement {
    /// Chain on which the job was funded.
    pub chain_id: ChainId,
    /// `JobMarketplace` that holds the deposit.
    pub marketplace: Address,
    /// The job.
    pub job_id: JobId,
    /// The job's host, not the submitter key.
    pub host: Address,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Number of the first token.
    pub first_seq: TokenSeq,
    /// Number of tokens, at least 1.
    pub count: TokenCount,
    /// Transcript head before the claim.
    pub head_before: Digest,
    /// Transcript head after the claim.
    pub head_after: Digest,
}

/// Why 320 bytes are not a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// Not 320 bytes: the length found.
    Length(usize),
    /// The version word is not 1.
    Version,
    /// The word at this byte offset is larger than its type allows.
    Range(usize),
    /// The count is zero, or first number plus count exceeds u64.
    Count,
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(found) => write!(f, "a journal has {JOURNAL_LEN} bytes, not {found}"),
            Self::Version => write!(f, "the journal's version is not {JOURNAL_VERSION}"),
            Self::Range(offset) => write!(f, "the journal's word at byte {offset} is out of its range"),
            Self::Count => write!(f, "the journal's token count is zero or runs past the largest position"),
        }
    }
}

impl core::error::Error for JournalError {}

impl Statement {
    /// Position after the claim's last token.
    pub fn end(&self) -> TokenSeq {
        self.first_seq + self.count
    }

    /// The journal's bytes.
    pub fn journal(&self) -> [u8; JOURNAL_LEN] {
        let mut out = [0; JOURNAL_LEN];
        put_u64(&mut out, 0, JOURNAL_VERSION);
        put_u64(&mut out, 32, self.chain_id.0);
        out[76..96].copy_from_slice(&self.marketplace.0);
        put_u64(&mut out, 96, self.job_id.0);
        out[140..160].copy_from_slice(&self.host.0);
        out[160..192].copy_from_slice(&self.model_digest.0);
        put_u64(&mut out, 192, self.first_seq.0);
        put_u64(&mut out, 224, self.count.0);
        out[256..288].copy_from_slice(&self.head_before.0);
        out[288..].copy_from_slice(&self.head_after.0);
        out
    }

    /// Reads a journal; refuses anything that [`Statement::journal`] could not have written.
    pub fn from_journal(bytes: &[u8]) -> Result<Self, JournalError> {
        if bytes.len() != JOURNAL_LEN {
            return Err(JournalError::Length(bytes.len()));
        }
        if get_u64(bytes, 0)? != JOURNAL_VERSION {
            return Err(JournalError::Version);
        }
        let statement = Self {
            chain_id: ChainId(get_u64(bytes, 32)?),
            marketplace: get_address(bytes, 64)?,
            job_id: JobId(get_u64(bytes, 96)?),
            host: get_address(bytes, 128)?,
            model_digest: get_digest(bytes, 160),
            first_seq: TokenSeq(get_u64(bytes, 192)?),
            count: TokenCount(get_u64(bytes, 224)?),
            head_before: get_digest(bytes, 256),
            head_after: get_digest(bytes, 288),
        };
        if statement.count.0 == 0 || statement.first_seq.checked_add(statement.count).is_none() {
            return Err(JournalError::Count);
        }
        Ok(statement)
    }
}

fn put_u64(out: &mut [u8; JOURNAL_LEN], word: usize, value: u64) {
    out[word + 24..word + 32].copy_from_slice(&value.to_be_bytes());
}

fn get_u64(bytes: &[u8], word: usize) -> Result<u64, JournalError> {
    if bytes[word..word + 24].iter().any(|byte| *byte != 0) {
        return Err(JournalError::Range(word));
    }
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[word + 24..word + 32]);
    Ok(u64::from_be_bytes(value))
}

fn get_address(bytes: &[u8], word: usize) -> Result<Address, JournalError> {
    if bytes[word..word + 12].iter().any(|byte| *byte != 0) {
        return Err(JournalError::Range(word));
    }
    let mut value = [0; 20];
    value.copy_from_slice(&bytes[word + 12..word + 32]);
    Ok(Address(value))
}

fn get_digest(bytes: &[u8], word: usize) -> Digest {
    let mut value = [0; 32];
    value.copy_from_slice(&bytes[word..word + 32]);
    Digest(value)
}
