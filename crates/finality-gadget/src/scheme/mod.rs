//! Signing and verifying votes, behind traits: BLS12-381 and ed25519 are here, others may be plugged in.

mod bisect;
mod bls;
mod ed25519;
mod entropy;
mod many;

pub use bls::{Bls, BlsSigner};
pub use ed25519::{Ed25519, Ed25519Signer};
pub use entropy::{Entropy, OsEntropy};

pub(crate) use bisect::bisect;

use crate::bitmap::Bitmap;
use crate::persistence::Safe;
use crate::types::ValidatorIndex;
use crate::vote::Signature;

/// Why a scheme refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a public key of this scheme.
    #[error("not a public key of {scheme}")]
    Key {
        /// The scheme.
        scheme: &'static str,
    },
    /// The proof of possession does not hold.
    #[error("the key's proof of possession does not hold")]
    Possession,
    /// Not a signature of this scheme.
    #[error("not a signature of {scheme}")]
    Signature {
        /// The scheme.
        scheme: &'static str,
    },
    /// Not a secret key of this scheme.
    #[error("not a secret key of {scheme}")]
    Secret {
        /// The scheme.
        scheme: &'static str,
    },
    /// A signer that lives elsewhere does not answer.
    #[error("the signer failed: {0}")]
    Signer(String),
}

/// A public key as the scheme encodes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub Vec<u8>);

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey(")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "…)")
    }
}

/// A way of signing votes.
pub trait VoteScheme: Send + Sync {
    /// Its name, which set digests cover. Never changes for the same bytes on the wire.
    fn name(&self) -> &'static str;

    /// Checks a key and the proof that its owner holds the secret one. Without the proof a key could be made from others' keys, and one
    /// aggregate would then speak for those who never signed.
    fn check_key(&self, key: &PublicKey, possession: &Signature) -> Result<(), Error>;

    /// Prepares keys that [`VoteScheme::check_key`] has accepted, in the order of an electorate.
    fn keys(&self, keys: &[PublicKey]) -> Result<Box<dyn KeySet>, Error>;
}

/// One claim among several to be verified together.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Who is said to have signed.
    pub index: ValidatorIndex,
    /// What.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a Signature,
}

/// The keys of an electorate, prepared for verification.
///
/// # Guarantees
///
/// Two correct machines agree on every answer: whether a signature or aggregate holds depends on nothing but key, message and bytes.
pub trait KeySet: Send + Sync {
    /// Whether one signature holds. An index beyond the electorate is `false`.
    fn verify(&self, index: ValidatorIndex, message: &[u8], signature: &Signature) -> bool;

    /// Which of several signatures hold, in their order. `entropy` must be unknown to the signers: with known coefficients two false
    /// signatures can be made to cancel out.
    fn verify_each(&self, claims: &[Claim<'_>], entropy: &mut dyn Entropy) -> Vec<bool>;

    /// Puts signatures over one message together, in ascending order of their signers.
    fn aggregate(&self, signatures: &[(ValidatorIndex, &Signature)]) -> Result<Signature, Error>;

    /// Whether an aggregate over one message holds for exactly these signers.
    fn verify_aggregate(&self, signers: &Bitmap, message: &[u8], aggregate: &Signature) -> bool;

    /// Which of several aggregates hold, in their order; cheaper than one by one where the scheme allows.
    fn verify_aggregates(&self, claims: &[(&Bitmap, &[u8], &Signature)], entropy: &mut dyn Entropy) -> Vec<bool> {
        let _ = entropy;
        claims.iter().map(|(signers, message, aggregate)| self.verify_aggregate(signers, message, aggregate)).collect()
    }
}

/// The secret side of a key.
///
/// # Guarantees
///
/// Signing is deterministic: the same vote always gives the same bytes, so that what was signed can be sent again after a restart.
///
/// # Does not
///
/// Decide anything. It takes a [`Safe`], which only [`check_and_insert`](crate::persistence::check_and_insert) makes, after the
/// vote was written and synced.
pub trait VoteSigner: Send + Sync {
    /// The public key.
    fn public_key(&self) -> &PublicKey;

    /// Signs [`Safe::signed_bytes`].
    fn sign(&self, vote: &Safe) -> Result<Signature, Error>;
}
