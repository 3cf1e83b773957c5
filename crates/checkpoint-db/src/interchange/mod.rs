//! Own votes in the format in which validator clients hand each other their signing history (EIP-3076, format version 5).
//!
//! | there | here |
//! |---|---|
//! | `genesis_validators_root` | digest of the domain (chain and trusted checkpoint) |
//! | `pubkey` | the validator's public key, as its scheme encodes it |
//! | `source_epoch`, `target_epoch` | numbers of a vote's source and target |
//! | `signing_root` | SHA-256 of the vote's signed bytes |
//! | `signed_blocks` | always empty: no blocks are signed here |
//!
//! [`CheckpointDB::export_complete`] writes every own vote that is kept and the watermarks above them, [`CheckpointDB::export_minified`]
//! the watermarks alone. [`CheckpointDB::import`] takes the highest source and the highest target of the file and of what is recorded:
//! afterwards nothing at or below is signed, which is stricter than the EIP's conditions 3 to 5. A vote that was imported is not signed
//! again even where the EIP would permit a repetition: only its digest came along.
//!
//! Export and import are for stopped validators. A file that was exported while its validator ran on is outdated, and using it is how
//! validators contradict themselves.

mod exchange;

pub use exchange::Imported;
pub use serde_json::Value;

use finality_gadget::{CheckpointNumber, DomainDigest, LinkDigest, PublicKey};
use serde::{Deserialize, Serialize};

/// The only version of the format.
pub const FORMAT_VERSION: &str = "5";
/// Largest file read, in bytes: a vote takes about 150, so that this holds more than any retention keeps.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Why a file was not imported, or nothing was exported. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is larger than any that we or others write.
    #[error("the interchange file has {bytes} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not the JSON that the format prescribes.
    #[error("not an interchange file: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("interchange format {found}; this program reads {FORMAT_VERSION}")]
    Version {
        /// What the file says.
        found: String,
    },
    /// The history of another chain or trusted checkpoint.
    #[error("the file's genesis_validators_root is {found}; this validator signs for {expected}")]
    Domain {
        /// What this validator signs for.
        expected: DomainDigest,
        /// What the file says.
        found: String,
    },
    /// A value that is not what its field holds.
    #[error("{field} is `{value}`: {reason}")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        reason: &'static str,
    },
    /// A history with blocks is not one of this protocol.
    #[error("the file says that {pubkey} signed blocks; a validator of checkpoints signs none")]
    Blocks {
        /// Whose history.
        pubkey: String,
    },
    /// What was signed is not known well enough to be handed on.
    #[error("nothing is exported: {reason}")]
    Doubtful {
        /// Why.
        reason: String,
    },
    /// The database failed or refused.
    #[error(transparent)]
    Database(#[from] crate::Error),
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interchange {
    /// Format and chain.
    pub metadata: Metadata,
    /// One history for each key.
    pub data: Vec<History>,
}

/// Format and chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// See [`FORMAT_VERSION`].
    pub interchange_format_version: String,
    /// `0x` and 64 hexadecimal digits.
    pub genesis_validators_root: String,
}

/// What one key signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// `0x` and hexadecimal digits.
    pub pubkey: String,
    /// Not used by this protocol; kept as it is read.
    pub signed_blocks: Vec<Value>,
    /// Votes.
    pub signed_attestations: Vec<Attestation>,
}

/// One vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Decimal.
    pub source_epoch: String,
    /// Decimal.
    pub target_epoch: String,
    /// `0x` and 64 hexadecimal digits; absent where only the numbers are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_root: Option<String>,
}

/// A vote of a file, its fields read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) source: CheckpointNumber,
    pub(crate) target: CheckpointNumber,
    pub(crate) root: Option<LinkDigest>,
}

impl Interchange {
    /// Reads a file. What its values mean is judged when it is imported.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The file, indented, with a newline at its end.
    pub fn to_json(&self) -> Result<String, Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub(crate) fn new(domain: DomainDigest, key: &PublicKey, attestations: Vec<Attestation>) -> Self {
        let metadata = Metadata { interchange_format_version: FORMAT_VERSION.to_owned(), genesis_validators_root: domain.to_string() };
        let history = History { pubkey: hex(&key.0), signed_blocks: Vec::new(), signed_attestations: attestations };
        Self { metadata, data: vec![history] }
    }

    /// The histories of one key, every value checked. All entries of the file are checked, so that a file is taken whole or not at all.
    pub(crate) fn entries(&self, domain: DomainDigest, key: &PublicKey) -> Result<Vec<Entry>, Error> {
        let Metadata { interchange_format_version: version, genesis_validators_root: root } = &self.metadata;
        if version != FORMAT_VERSION {
            return Err(Error::Version { found: version.clone() });
        }
        if digest("genesis_validators_root", root)? != domain.0 {
            return Err(Error::Domain { expected: domain, found: root.clone() });
        }
        let mut ours = Vec::new();
        for history in &self.data {
            let is_ours = unhex("pubkey", &history.pubkey)? == key.0;
            if is_ours && !history.signed_blocks.is_empty() {
                return Err(Error::Blocks { pubkey: history.pubkey.clone() });
            }
            for attestation in &history.signed_attestations {
                let entry = attestation.read()?;
                if is_ours {
                    ours.push(entry);
                }
            }
        }
        Ok(ours)
    }
}

impl Attestation {
    pub(crate) fn write(source: CheckpointNumber, target: CheckpointNumber, root: Option<LinkDigest>) -> Self {
        Self { source_epoch: source.to_string(), target_epoch: target.to_string(), signing_root: root.map(|root| root.to_string()) }
    }

    fn read(&self) -> Result<Entry, Error> {
        let (source, target) = (number("source_epoch", &self.source_epoch)?, number("target_epoch", &self.target_epoch)?);
        if source > target {
            return Err(Error::Value {
                field: "source_epoch",
                value: self.source_epoch.clone(),
                reason: "a source does not lie above its target",
            });
        }
        let root = self.signing_root.as_deref().map(|root| digest("signing_root", root).map(LinkDigest)).transpose()?;
        Ok(Entry { source, target, root })
    }
}

fn number(field: &'static str, value: &str) -> Result<CheckpointNumber, Error> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { value.parse().ok() } else { None };
    parsed.map(CheckpointNumber).ok_or_else(|| Error::Value { field, value: short(value), reason: "expected a decimal number of 64 bits" })
}

fn digest(field: &'static str, value: &str) -> Result<[u8; 32], Error> {
    let bytes = unhex(field, value)?;
    bytes.try_into().map_err(|_| Error::Value { field, value: short(value), reason: "expected 32 bytes" })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(field: &'static str, value: &str) -> Result<Vec<u8>, Error> {
    let refuse = || Error::Value { field, value: short(value), reason: "expected 0x and pairs of hexadecimal digits" };
    let digits = value.strip_prefix("0x").ok_or_else(refuse)?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(refuse());
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| Some(nibble(pair[0])? << 4 | nibble(pair[1])?);
    digits.chunks(2).map(pair).collect::<Option<_>>().ok_or_else(refuse)
}

/// A value for an error message: the beginning of a long one.
fn short(value: &str) -> String {
    value.chars().take(80).collect()
}
