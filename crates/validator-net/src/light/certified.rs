//! A final checkpoint and the certificate that shows it. Pure: bytes in, verdict out.

use finality_gadget::{BlockNumber, Certificate, CheckpointNumber, FinalityCheckpoint, FinalityRule, Link, LinkDigest, codec, set};

use crate::set_file::Agreement;

/// Why bytes do not make a checkpoint final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No certificate at all.
    #[error("no certificate: {0}")]
    Malformed(#[from] codec::Error),
    /// Of another domain or set, without a quorum, or with a false aggregate.
    #[error("the certificate does not hold: {0}")]
    Refused(#[from] set::Error),
    /// A certificate that justifies its target, but by this network's rule finalises nothing.
    #[error("the link {}→{} makes nothing final under the rule agreed on", .0.source.number, .0.target.number)]
    NotFinal(Link),
    /// The checkpoint's height is beyond every block.
    #[error("checkpoint {0} lies beyond every block")]
    Height(CheckpointNumber),
}

/// A checkpoint that is final, and what shows it.
///
/// # Guarantees
///
/// A value of this type was verified against an [`Agreement`]: a quorum of every set in force signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    checkpoint: FinalityCheckpoint,
    height: BlockNumber,
    certificate: Certificate,
    digest: LinkDigest,
}

impl Certified {
    /// Verifies a certificate: domain, sets, a quorum of each, aggregate, and that something is final by it.
    pub fn verify(agreement: &Agreement, certificate: Certificate) -> Result<Self, Error> {
        let link = certificate.vote.link;
        let checkpoint = match agreement.rule {
            FinalityRule::Single => link.target,
            FinalityRule::Ffg if link.is_direct() => link.source,
            FinalityRule::Ffg => return Err(Error::NotFinal(link)),
        };
        let height = agreement.height(checkpoint.number).ok_or(Error::Height(checkpoint.number))?;
        agreement.schedule.verify_certificate(&certificate)?;
        Ok(Self { checkpoint, height, digest: certificate.digest(), certificate })
    }

    /// Reads and verifies [`Certificate::encode`].
    pub fn read(agreement: &Agreement, bytes: &[u8]) -> Result<Self, Error> {
        Self::verify(agreement, Certificate::decode(bytes)?)
    }

    /// The final checkpoint.
    pub fn checkpoint(&self) -> FinalityCheckpoint {
        self.checkpoint
    }

    /// Height of its block.
    pub fn height(&self) -> BlockNumber {
        self.height
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Digest of the certified link.
    pub fn digest(&self) -> LinkDigest {
        self.digest
    }

    /// Whether no honest quorum could have made both: the votes break the voting rules together, or two blocks are justified for one
    /// number. Then more than f members of some set are faulty.
    pub fn contradicts(&self, other: &Self) -> bool {
        if self.certificate.vote.conflict(&other.certificate.vote).is_some() {
            return true;
        }
        let ends = |certified: &Self| [certified.certificate.vote.link.source, certified.certificate.vote.link.target];
        ends(self).iter().any(|ours| ends(other).iter().any(|theirs| ours.number == theirs.number && ours.hash != theirs.hash))
    }
}
