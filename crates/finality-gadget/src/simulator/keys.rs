//! Keys for simulated validators: a cheap test scheme, and the real ones for some seeds.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::bitmap::Bitmap;
use crate::persistence::Safe;
use crate::scheme::{Bls, BlsSigner, Claim, Ed25519, Ed25519Signer, Entropy, Error, KeySet, PublicKey, VoteScheme, VoteSigner};
use crate::set::Registration;
use crate::types::{ValidatorId, ValidatorIndex};
use crate::vote::Signature;

/// A test scheme: keyed hashes whose key everyone could compute. It protects nothing outside a simulation, where nobody tries; it
/// behaves like a real scheme otherwise, refuses what was not signed, and costs a microsecond.
#[derive(Debug, Clone, Copy, Default)]
pub struct TestScheme;

const NAME: &str = "test-only-keyed-hash";
const BYTES: usize = 32;

fn keyed(key: &PublicKey, message: &[u8]) -> Signature {
    Signature(Sha256::new().chain_update(b"test").chain_update(&key.0).chain_update(message).finalize().to_vec())
}

impl VoteScheme for TestScheme {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check_key(&self, key: &PublicKey, possession: &Signature) -> Result<(), Error> {
        if *possession == keyed(key, b"possession") { Ok(()) } else { Err(Error::Possession) }
    }

    fn keys(&self, keys: &[PublicKey]) -> Result<Box<dyn KeySet>, Error> {
        Ok(Box::new(Keys(keys.to_vec())))
    }
}

struct Keys(Vec<PublicKey>);

impl KeySet for Keys {
    fn verify(&self, index: ValidatorIndex, message: &[u8], signature: &Signature) -> bool {
        self.0.get(index.0 as usize).is_some_and(|key| keyed(key, message) == *signature)
    }

    fn verify_each(&self, claims: &[Claim<'_>], _: &mut dyn Entropy) -> Vec<bool> {
        claims.iter().map(|claim| self.verify(claim.index, claim.message, claim.signature)).collect()
    }

    fn aggregate(&self, signatures: &[(ValidatorIndex, &Signature)]) -> Result<Signature, Error> {
        if signatures.iter().any(|(_, signature)| signature.0.len() != BYTES) {
            return Err(Error::Signature { scheme: NAME });
        }
        Ok(Signature(signatures.iter().flat_map(|(_, signature)| signature.0.iter().copied()).collect()))
    }

    fn verify_aggregate(&self, signers: &Bitmap, message: &[u8], aggregate: &Signature) -> bool {
        signers.fits(self.0.len())
            && aggregate.0.len() == signers.count() * BYTES
            && signers.iter().zip(aggregate.0.chunks(BYTES)).all(|(index, part)| keyed(&self.0[index.0 as usize], message).0 == part)
    }
}

/// Which scheme a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemeKind {
    /// The cheap one.
    Test,
    /// Real BLS.
    Bls,
    /// Real ed25519.
    Ed25519,
}

impl SchemeKind {
    /// The scheme.
    pub fn scheme(self) -> Arc<dyn VoteScheme> {
        match self {
            Self::Test => Arc::new(TestScheme),
            Self::Bls => Arc::new(Bls),
            Self::Ed25519 => Arc::new(Ed25519),
        }
    }
}

enum Secret {
    Test,
    Bls(BlsSigner),
    Ed25519(Ed25519Signer),
}

/// One validator's key.
pub struct Key {
    secret: Secret,
    public: PublicKey,
    possession: Signature,
}

impl Key {
    /// The key of a simulated validator, the same in every run.
    ///
    /// # Panics
    ///
    /// Never: the seed has the length that both schemes ask for.
    pub fn of(kind: SchemeKind, id: ValidatorId) -> Self {
        let seed: [u8; 32] = Sha256::new().chain_update(b"simulated validator").chain_update(id.0.to_be_bytes()).finalize().into();
        let (secret, public, possession) = match kind {
            SchemeKind::Test => {
                let public = PublicKey(seed.to_vec());
                let possession = keyed(&public, b"possession");
                (Secret::Test, public, possession)
            }
            SchemeKind::Bls => {
                let signer = BlsSigner::from_seed(&seed).expect("32 bytes are enough for a key");
                let (public, possession) = (signer.public_key().clone(), signer.possession());
                (Secret::Bls(signer), public, possession)
            }
            SchemeKind::Ed25519 => {
                let signer = Ed25519Signer::from_bytes(&seed);
                let (public, possession) = (signer.public_key().clone(), signer.possession());
                (Secret::Ed25519(signer), public, possession)
            }
        };
        Self { secret, public, possession }
    }

    /// As a set names it.
    pub fn registration(&self, id: ValidatorId) -> Registration {
        Registration { id, key: self.public.clone(), possession: self.possession.clone() }
    }

    /// Signs anything, as liars do.
    pub fn sign_unchecked(&self, message: &[u8]) -> Signature {
        match &self.secret {
            Secret::Test => keyed(&self.public, message),
            Secret::Bls(signer) => signer.sign_unchecked(message),
            Secret::Ed25519(signer) => signer.sign_unchecked(message),
        }
    }
}

impl VoteSigner for Key {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, vote: &Safe) -> Result<Signature, Error> {
        Ok(self.sign_unchecked(&vote.signed_bytes()))
    }
}
