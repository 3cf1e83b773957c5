//! A certificate as a contract wants it: what `contracts/src/finality/CheckpointCertificates.sol` is called with.
//!
//! Certificates and sets hold compressed points; the precompiles of EIP-2537 take them apart from their coordinates. Taking roots on chain
//! would cost more than carrying both coordinates there, so that is what is done; the contract compares them with the compressed form.

use blst::min_sig::{PublicKey, Signature};
use finality_gadget::{Certificate, SetDigest, SetId, ValidatorId, set};

use crate::set_file::Agreement;

/// Bytes of a coordinate's part: an element of the field.
const FIELD: usize = 48;
/// The scheme that an EVM can check.
const SCHEME: &str = "bls12-381-min-sig";

/// Why a certificate has no form for a contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not hold here either.
    #[error("the certificate does not hold: {0}")]
    Refused(#[from] set::Error),
    /// Signed with another scheme than BLS.
    #[error("only certificates of {SCHEME} can be checked on chain: {0} has no such key")]
    Key(ValidatorId),
    /// No signature of that scheme.
    #[error("the aggregate is no signature of {SCHEME}")]
    Signature,
}

/// A set and the number above which it votes: `SetInForce` of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetInForce {
    /// It votes on what lies above; the first one's is the trusted checkpoint's number.
    pub boundary: u64,
    /// Its number.
    pub id: SetId,
    /// Its digest.
    pub digest: SetDigest,
}

/// The arguments of `verify`, beside the trusted checkpoint itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The whole schedule, oldest first.
    pub schedule: Vec<SetInForce>,
    /// The certificate's canonical encoding.
    pub certificate: Vec<u8>,
    /// Its aggregate uncompressed: `x 48 · y 48`.
    pub signature: Vec<u8>,
    /// The members of each set in force from source to target, oldest first, each member as
    /// `id 4 · x.c0 48 · x.c1 48 · y.c0 48 · y.c1 48`, ids ascending, everything big-endian.
    pub sets: Vec<Vec<u8>>,
}

/// Verifies a certificate and takes its points apart.
pub fn arguments(agreement: &Agreement, certificate: &Certificate) -> Result<Arguments, Error> {
    let electorate = agreement.schedule.verify_certificate(certificate)?;
    let members = |set: &finality_gadget::ValidatorSet| {
        let mut bytes = Vec::with_capacity(set.members().len() * (4 + 4 * FIELD));
        for (id, key) in set.members() {
            let point = PublicKey::from_bytes(&key.0).map_err(|_| Error::Key(id))?;
            bytes.extend_from_slice(&id.0.to_be_bytes());
            // Zcash writes c1 before c0, EIP-2537 the other way round.
            let [x1, x0, y1, y0] = split(&point.serialize());
            for part in [x0, x1, y0, y1] {
                bytes.extend_from_slice(&part);
            }
        }
        Ok::<_, Error>(bytes)
    };
    let sets = electorate.sets().iter().map(|set| members(set)).collect::<Result<_, _>>()?;
    let signature = Signature::from_bytes(&certificate.aggregate.0).map_err(|_| Error::Signature)?;
    let schedule = agreement.schedule.sets();
    Ok(Arguments {
        schedule: schedule.map(|(boundary, set)| SetInForce { boundary: boundary.0, id: set.id(), digest: set.digest() }).collect(),
        certificate: certificate.encode(),
        signature: signature.serialize().to_vec(),
        sets,
    })
}

fn split(point: &[u8; 4 * FIELD]) -> [[u8; FIELD]; 4] {
    let mut parts = [[0; FIELD]; 4];
    for (part, bytes) in parts.iter_mut().zip(point.chunks_exact(FIELD)) {
        part.copy_from_slice(bytes);
    }
    parts
}
