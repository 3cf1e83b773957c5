//! `proof` as `submitProofOfWork` takes it: `abi.encode(uint8 kind, bytes journal, bytes seal, bytes voucher)`.

/// What stands behind a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofKind {
    /// A RISC Zero composite STARK, verified off-chain.
    Composite,
    /// A Groth16 seal, verified by the contract.
    Groth16,
    /// No proof at all: tests on chain id 31337 only.
    Mock,
}

impl ProofKind {
    /// The byte in the proof.
    pub fn code(self) -> u8 {
        match self {
            Self::Composite => 1,
            Self::Groth16 => 2,
            Self::Mock => 255,
        }
    }

    /// The kind of a proof's byte.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Composite, Self::Groth16, Self::Mock].into_iter().find(|kind| kind.code() == code)
    }
}

impl std::fmt::Display for ProofKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Composite => "composite",
            Self::Groth16 => "groth16",
            Self::Mock => "mock",
        })
    }
}

/// Proof bytes that `abi.encode` could not have produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofBytesError;

impl std::fmt::Display for ProofBytesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("proof bytes are not abi.encode(uint8, bytes, bytes, bytes)")
    }
}

impl std::error::Error for ProofBytesError {}

/// ABI-encodes a proof. A voucher is `abi.encode(uint256 tokens, bytes signature)` or empty.
pub fn encode_proof(kind: ProofKind, journal: &[u8], seal: &[u8], voucher: &[u8]) -> Vec<u8> {
    let mut out = word(u64::from(kind.code())).to_vec();
    let parts = [journal, seal, voucher];
    let mut offset = 4 * 32;
    for part in parts {
        out.extend(word(offset));
        offset += 32 + padded(part.len());
    }
    for part in parts {
        out.extend(word(part.len() as u64));
        out.extend(part);
        out.resize(out.len().next_multiple_of(32), 0);
    }
    out
}

/// A proof taken apart: kind, journal, seal and voucher.
pub type ProofParts = (ProofKind, Vec<u8>, Vec<u8>, Vec<u8>);

/// Reads proof bytes back into kind, journal, seal and voucher; accepts only the canonical encoding.
pub fn decode_proof(bytes: &[u8]) -> Result<ProofParts, ProofBytesError> {
    let number = |at: usize| -> Option<usize> {
        let word = bytes.get(at..at.checked_add(32)?)?;
        let (high, low) = word.split_at(24);
        (high.iter().all(|byte| *byte == 0)).then_some(())?;
        usize::try_from(u64::from_be_bytes(low.try_into().ok()?)).ok()
    };
    let part = |index: usize| -> Option<Vec<u8>> {
        let at = number(32 * index)?;
        let len = number(at)?;
        let start = at.checked_add(32)?;
        Some(bytes.get(start..start.checked_add(len)?)?.to_vec())
    };
    let read = || {
        let kind = ProofKind::from_code(u8::try_from(number(0)?).ok()?)?;
        Some((kind, part(1)?, part(2)?, part(3)?))
    };
    let (kind, journal, seal, voucher) = read().ok_or(ProofBytesError)?;
    if encode_proof(kind, &journal, &seal, &voucher) != bytes {
        return Err(ProofBytesError);
    }
    Ok((kind, journal, seal, voucher))
}

fn padded(len: usize) -> u64 {
    len.next_multiple_of(32) as u64
}

fn word(value: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[24..].copy_from_slice(&value.to_be_bytes());
    out
}
