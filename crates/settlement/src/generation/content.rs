//! Content ids: what a claim names instead of carrying it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use milepost_ledger::Digest;
use sha2::{Digest as _, Sha256};

/// CIDv1, multicodec raw (0x55), multihash SHA-2-256 (0x12) of 32 bytes.
const PREFIX: [u8; 4] = [0x01, 0x55, 0x12, 0x20];
/// Multibase: lower-case base 32 without padding.
const MULTIBASE: char = 'b';

/// The IPFS content id (CIDv1, raw, SHA-2-256) of some bytes: as text `bafkrei…`, which any IPFS node and gateway resolves. Its
/// digest is plain SHA-256 of the bytes, so that nothing but a hash is needed to check what was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentId(
    /// SHA-256 of the content.
    pub Digest,
);

/// A text is not such a content id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content id of version 1, raw, SHA-2-256, in lower-case base 32")]
pub struct NotAContentId;

impl ContentId {
    /// The id of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest(Sha256::digest(bytes).into()))
    }
}

/// From a SHA-256 that is known already, as the ledger keeps it of receipts.
impl From<Digest> for ContentId {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&[&PREFIX[..], &self.0.0].concat()).to_lowercase();
        write!(f, "{MULTIBASE}{text}")
    }
}

impl FromStr for ContentId {
    type Err = NotAContentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(MULTIBASE).filter(|digits| !digits.chars().any(|digit| digit.is_ascii_uppercase()));
        let bytes = BASE32_NOPAD.decode(digits.ok_or(NotAContentId)?.to_uppercase().as_bytes()).map_err(|_| NotAContentId)?;
        let digest = bytes.strip_prefix(&PREFIX).ok_or(NotAContentId)?;
        digest.try_into().map(|digest| Self(Digest(digest))).map_err(|_| NotAContentId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_id_is_the_one_that_ipfs_gives() {
        let id = ContentId::of(b"hello world");
        assert_eq!(id.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_content_ids() {
        let dag = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        for text in ["", "b", "bafk", dag, "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", "BAFKREI"] {
            assert_eq!(text.parse::<ContentId>(), Err(NotAContentId), "{text}");
        }
    }
}
