//! ed25519: fast and everywhere, but without aggregation; a certificate holds every signature.

use ed25519_dalek::{Signature as Parsed, Signer as _, SigningKey, VerifyingKey};

use super::{Claim, Entropy, Error, KeySet, PublicKey, VoteScheme, VoteSigner};
use crate::bitmap::Bitmap;
use crate::persistence::Safe;
use crate::types::ValidatorIndex;
use crate::vote::Signature;

const NAME: &str = "ed25519";
const POSSESSION_TAG: &[u8] = b"finality-gadget possession 1\0";
const SIGNATURE_BYTES: usize = 64;

/// The scheme. Every signature is verified strictly and by itself: batch verification of ed25519 accepts signatures that single
/// verification refuses, and two machines might then disagree about one certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ed25519;

fn parse_key(key: &PublicKey) -> Result<VerifyingKey, Error> {
    let bytes = <[u8; 32]>::try_from(&*key.0).map_err(|_| Error::Key { scheme: NAME })?;
    let key = VerifyingKey::from_bytes(&bytes).map_err(|_| Error::Key { scheme: NAME })?;
    if key.is_weak() { Err(Error::Key { scheme: NAME }) } else { Ok(key) }
}

fn holds(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    Parsed::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
}

impl VoteScheme for Ed25519 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check_key(&self, key: &PublicKey, possession: &Signature) -> Result<(), Error> {
        let parsed = parse_key(key)?;
        if holds(&parsed, &[POSSESSION_TAG, &key.0].concat(), &possession.0) { Ok(()) } else { Err(Error::Possession) }
    }

    fn keys(&self, keys: &[PublicKey]) -> Result<Box<dyn KeySet>, Error> {
        Ok(Box::new(Keys(keys.iter().map(parse_key).collect::<Result<_, _>>()?)))
    }
}

struct Keys(Vec<VerifyingKey>);

impl KeySet for Keys {
    fn verify(&self, index: ValidatorIndex, message: &[u8], signature: &Signature) -> bool {
        self.0.get(index.0 as usize).is_some_and(|key| holds(key, message, &signature.0))
    }

    fn verify_each(&self, claims: &[Claim<'_>], _: &mut dyn Entropy) -> Vec<bool> {
        claims.iter().map(|claim| self.verify(claim.index, claim.message, claim.signature)).collect()
    }

    fn aggregate(&self, signatures: &[(ValidatorIndex, &Signature)]) -> Result<Signature, Error> {
        if signatures.iter().any(|(_, signature)| signature.0.len() != SIGNATURE_BYTES) {
            return Err(Error::Signature { scheme: NAME });
        }
        Ok(Signature(signatures.iter().flat_map(|(_, signature)| signature.0.iter().copied()).collect()))
    }

    fn verify_aggregate(&self, signers: &Bitmap, message: &[u8], aggregate: &Signature) -> bool {
        let signatures = aggregate.0.chunks(SIGNATURE_BYTES);
        signers.fits(self.0.len())
            && signers.count() > 0
            && aggregate.0.len() == signers.count() * SIGNATURE_BYTES
            && signers.iter().zip(signatures).all(|(index, signature)| holds(&self.0[index.0 as usize], message, signature))
    }
}

/// A secret key held in memory, wiped when dropped.
pub struct Ed25519Signer {
    secret: SigningKey,
    public: PublicKey,
}

impl std::fmt::Debug for Ed25519Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ed25519Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Ed25519Signer {
    /// From 32 bytes of secret randomness, as a keystore holds them.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(secret);
        let public = PublicKey(secret.verifying_key().to_bytes().to_vec());
        Self { secret, public }
    }

    /// The secret key's bytes, for a keystore.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.secret.to_bytes())
    }

    /// Proof of possession, to be registered with the key. Signed under a tag of its own: it can never be taken for a vote.
    pub fn possession(&self) -> Signature {
        self.raw(&[POSSESSION_TAG, &self.public.0].concat())
    }

    fn raw(&self, message: &[u8]) -> Signature {
        Signature(self.secret.sign(message).to_bytes().to_vec())
    }

    /// Signs without asking the table of own votes: what liars in tests do.
    #[cfg(any(test, feature = "simulator"))]
    pub(crate) fn sign_unchecked(&self, message: &[u8]) -> Signature {
        self.raw(message)
    }
}

impl VoteSigner for Ed25519Signer {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, vote: &Safe) -> Result<Signature, Error> {
        Ok(self.raw(&vote.signed_bytes()))
    }
}
