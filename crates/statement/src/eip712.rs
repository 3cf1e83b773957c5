//! Receipts, vouchers and session openings as EIP-712 messages.

use k256::ecdsa::{self, RecoveryId, VerifyingKey};
use sha3::{Digest as _, Keccak256};

use crate::{Address, ChainId, Digest, JobId, TokenCount};

/// `chainId` and `verifyingContract` of the signing domain; name and version are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Chain of the marketplace.
    pub chain_id: ChainId,
    /// The marketplace.
    pub marketplace: Address,
}

/// The client acknowledges `tokens` tokens of the job in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Voucher {
    /// The job.
    pub job_id: JobId,
    /// Running total, not a delta.
    pub tokens: TokenCount,
}

/// The host's word at the end of a turn: what is sealed and what is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TurnReceipt {
    /// The job.
    pub job_id: JobId,
    /// Digest of the turn's request id.
    pub request: Digest,
    /// Head of the last sealed checkpoint.
    pub sealed_head: Digest,
    /// Tokens sealed in all.
    pub sealed_tokens: TokenCount,
    /// Tokens metered since.
    pub open_tokens: TokenCount,
    /// Digest of the open tokens.
    pub open_digest: Digest,
}

/// The depositor opens a session: an answer to the server's challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionOpen {
    /// The job.
    pub job_id: JobId,
    /// The server's random challenge.
    pub challenge: Digest,
    /// Unix seconds after which the challenge is void.
    pub expires_at: u64,
}

/// Why a signature names no signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// Not 65 bytes `r ‖ s ‖ v` with v of 0, 1, 27 or 28.
    Malformed,
    /// `s` lies in the upper half of the order (EIP-2): a second form of another signature.
    Malleable,
    /// No public key fits.
    Unrecoverable,
}

impl std::fmt::Display for SignatureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a signature is 65 bytes r, s, v with v of 0, 1, 27 or 28",
            Self::Malleable => "the signature's s value is in the upper half of the curve's order",
            Self::Unrecoverable => "the signature fits no public key",
        })
    }
}

impl std::error::Error for SignatureError {}

/// `r ‖ s ‖ v`, v of 27 or 28 when made here.
pub type Signature = [u8; 65];

/// A secp256k1 key. Never printed.
#[derive(Clone)]
pub struct SigningKey(ecdsa::SigningKey);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.address())
    }
}

impl SigningKey {
    /// A key from its 32 bytes, unless they are zero or not below the curve's order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        ecdsa::SigningKey::from_slice(bytes).ok().map(Self)
    }

    /// The key's address.
    pub fn address(&self) -> Address {
        address_of(self.0.verifying_key())
    }

    /// Signs a 32-byte EIP-712 digest (RFC 6979, low s).
    pub fn sign(&self, digest: &Digest) -> Signature {
        let (signature, recovery): (ecdsa::Signature, RecoveryId) =
            self.0.sign_prehash_recoverable(&digest.0).expect("a 32-byte digest is always signable");
        let mut out = [0; 65];
        out[..64].copy_from_slice(&signature.to_bytes());
        out[64] = 27 + recovery.to_byte();
        out
    }
}

/// Who signed `digest`.
pub fn recover(digest: &Digest, signature: &[u8]) -> Result<Address, SignatureError> {
    let signature: &Signature = signature.try_into().map_err(|_| SignatureError::Malformed)?;
    let recovery = match signature[64] {
        v @ (0 | 1) => v,
        v @ (27 | 28) => v - 27,
        _ => return Err(SignatureError::Malformed),
    };
    let parsed = ecdsa::Signature::from_slice(&signature[..64]).map_err(|_| SignatureError::Malformed)?;
    if parsed.normalize_s().is_some() {
        return Err(SignatureError::Malleable);
    }
    let recovery = RecoveryId::from_byte(recovery).ok_or(SignatureError::Malformed)?;
    VerifyingKey::recover_from_prehash(&digest.0, &parsed, recovery).map(|key| address_of(&key)).map_err(|_| SignatureError::Unrecoverable)
}

/// The address of a public key.
pub fn address_of(key: &VerifyingKey) -> Address {
    let point = key.to_encoded_point(false);
    let mut out = [0; 20];
    out.copy_from_slice(&keccak256(&point.as_bytes()[1..]).0[12..]);
    Address(out)
}

/// Keccak-256.
pub fn keccak256(bytes: &[u8]) -> Digest {
    Digest(Keccak256::digest(bytes).into())
}

impl Domain {
    fn separator(&self) -> Digest {
        let kind = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        hash_words(&[kind.0, keccak256(b"Milepost").0, keccak256(b"1").0, word(self.chain_id.0), address_word(self.marketplace)])
    }

    pub(crate) fn digest(&self, kind: &[u8], fields: &[[u8; 32]]) -> Digest {
        let mut words = vec![keccak256(kind).0];
        words.extend_from_slice(fields);
        let mut bytes = vec![0x19, 0x01];
        bytes.extend(self.separator().0);
        bytes.extend(hash_words(&words).0);
        keccak256(&bytes)
    }
}

impl Voucher {
    /// What the client signs.
    pub fn digest(&self, domain: &Domain) -> Digest {
        domain.digest(b"Voucher(uint256 jobId,uint256 tokens)", &[word(self.job_id.0), word(self.tokens.0)])
    }
}

impl TurnReceipt {
    /// What the host signs.
    pub fn digest(&self, domain: &Domain) -> Digest {
        domain.digest(
            b"TurnReceipt(uint256 jobId,bytes32 requestDigest,bytes32 sealedHead,uint256 sealedTokens,uint256 openTokens,bytes32 openDigest)",
            &[
                word(self.job_id.0),
                self.request.0,
                self.sealed_head.0,
                word(self.sealed_tokens.0),
                word(self.open_tokens.0),
                self.open_digest.0,
            ],
        )
    }
}

impl SessionOpen {
    /// What the depositor signs.
    pub fn digest(&self, domain: &Domain) -> Digest {
        domain.digest(
            b"SessionOpen(uint256 jobId,bytes32 challenge,uint256 expiresAt)",
            &[word(self.job_id.0), self.challenge.0, word(self.expires_at)],
        )
    }
}

fn hash_words(words: &[[u8; 32]]) -> Digest {
    keccak256(words.concat().as_slice())
}

pub(crate) fn word(value: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[24..].copy_from_slice(&value.to_be_bytes());
    out
}

pub(crate) fn address_word(address: Address) -> [u8; 32] {
    let mut out = [0; 32];
    out[12..].copy_from_slice(&address.0);
    out
}
