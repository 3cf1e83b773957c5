//! Receipt files as far as they can be told apart without verifying anything.
//!
//! | first bytes | what follows | proof |
//! |---|---|---|
//! | [`RECEIPT_TAG`] | postcard of `risc0_zkvm::Receipt`, a composite STARK | composite |
//! | [`SEALED_TAG`] | a seal of [`SEAL_BYTES`] bytes, then the journal: what the chain's verifier is asked about | Groth16 |
//! | [`MOCK_RECEIPT_TAG`] | the journal | none |

use milepost_statement::ProofKind;

/// First bytes of a composite receipt's file.
pub const RECEIPT_TAG: &[u8] = b"MILEPOST RECEIPT 1\n";
/// First bytes of a sealed receipt's file.
pub const SEALED_TAG: &[u8] = b"MILEPOST SEALED RECEIPT 1\n";
/// First bytes of a mock receipt.
pub const MOCK_RECEIPT_TAG: &[u8] = b"MILEPOST TEST PROOF\n";

/// Bytes of a seal as RISC Zero's verifier contracts take it: the first four of the digest of their parameters, by which a router
/// finds the right one, and 256 of Groth16 proof.
pub const SEAL_BYTES: usize = 4 + 256;

/// The kind of proof that a file says it is.
pub fn kind_of(file: &[u8]) -> Option<ProofKind> {
    [(RECEIPT_TAG, ProofKind::Composite), (SEALED_TAG, ProofKind::Groth16), (MOCK_RECEIPT_TAG, ProofKind::Mock)]
        .into_iter()
        .find_map(|(tag, kind)| file.starts_with(tag).then_some(kind))
}

/// The file of a sealed receipt.
pub fn sealed_receipt(seal: &[u8; SEAL_BYTES], journal: &[u8]) -> Vec<u8> {
    [SEALED_TAG, seal, journal].concat()
}

/// Seal and journal of a sealed receipt's file: what the chain's verifier is asked about.
pub fn seal_of(file: &[u8]) -> Option<(&[u8; SEAL_BYTES], &[u8])> {
    file.strip_prefix(SEALED_TAG)?.split_first_chunk()
}
