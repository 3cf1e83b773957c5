//! BLS12-381, signatures in G1 ("min-sig"): 48 bytes whoever many signed, keys of 96 bytes, as EIP-2537's precompiles can check them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use blst::BLST_ERROR::BLST_SUCCESS;
use blst::min_sig::{AggregatePublicKey, AggregateSignature, PublicKey as Point, SecretKey, Signature as SignaturePoint};
use blst::{MultiPoint as _, Pairing, blst_p2_affine};

use super::many::{Prepared, all_hold};
use super::{Claim, Entropy, Error, KeySet, PublicKey, VoteScheme, VoteSigner, bisect};
use crate::bitmap::Bitmap;
use crate::persistence::Safe;
use crate::types::ValidatorIndex;
use crate::vote::Signature;

const NAME: &str = "bls12-381-min-sig";
/// Ciphersuites of the IETF's draft, with proof of possession.
pub(super) const VOTE_DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const POSSESSION_DST: &[u8] = b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
/// Bits of a random coefficient: a forger's chance for one batch is 2^-64.
const COEFFICIENT_BITS: usize = 64;
/// From this many members on, sums of keys are prepared ahead; below it adding them up costs less than 0.1 ms.
const WINDOWS_FROM: usize = 64;

/// −1 modulo the order of the groups, big-endian: r − 1 with the r of the curve's definition.
const MINUS_ONE: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd, 0xa4, 0x02, 0xff, 0xfe,
    0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
];

/// The scheme.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bls;

impl VoteScheme for Bls {
    fn name(&self) -> &'static str {
        NAME
    }

    fn check_key(&self, key: &PublicKey, possession: &Signature) -> Result<(), Error> {
        let point = Point::key_validate(&key.0).map_err(|_| Error::Key { scheme: NAME })?;
        let proof = SignaturePoint::sig_validate(&possession.0, true).map_err(|_| Error::Possession)?;
        let verdict = proof.verify(false, &key.0, POSSESSION_DST, &[], &point, false);
        if verdict == BLST_SUCCESS { Ok(()) } else { Err(Error::Possession) }
    }

    fn keys(&self, keys: &[PublicKey]) -> Result<Box<dyn KeySet>, Error> {
        // Their membership in the group was checked once, with their proofs.
        let points = keys.iter().map(|key| Point::from_bytes(&key.0).map_err(|_| Error::Key { scheme: NAME })).collect::<Result<_, _>>()?;
        Ok(Box::new(Keys { points, windows: OnceLock::new() }))
    }
}

struct Keys {
    points: Vec<Point>,
    /// For each byte of a bitmap the sums of its keys for all 255 patterns: any quorum of 1,000 is then 125 additions.
    windows: OnceLock<Vec<Vec<Point>>>,
}

impl Keys {
    fn windows(&self) -> &[Vec<Point>] {
        self.windows.get_or_init(|| {
            self.points
                .chunks(8)
                .map(|keys| {
                    let mut sums: Vec<AggregatePublicKey> = Vec::with_capacity(255);
                    for pattern in 1usize..1 << keys.len() {
                        let (top, rest) = (pattern.ilog2() as usize, pattern & !(1 << pattern.ilog2()));
                        let mut sum = AggregatePublicKey::from_public_key(&keys[top]);
                        if rest > 0 {
                            sum.add_aggregate(&sums[rest - 1]);
                        }
                        sums.push(sum);
                    }
                    sums.iter().map(AggregatePublicKey::to_public_key).collect()
                })
                .collect()
        })
    }

    /// The sum of the signers' keys. `None` without signers or with one beyond the last key.
    fn sum(&self, signers: &Bitmap) -> Option<Point> {
        if !signers.fits(self.points.len()) {
            return None;
        }
        let singles = || signers.iter().map(|index| &self.points[index.0 as usize]);
        let patterns = || {
            let chosen = signers.as_bytes().iter().zip(self.windows()).filter(|(byte, _)| **byte != 0);
            chosen.map(|(byte, sums)| &sums[*byte as usize - 1])
        };
        if self.points.len() < WINDOWS_FROM {
            add_up(singles())
        } else {
            // So many are added up together faster than one after another.
            let sums: Vec<Point> = patterns().copied().collect();
            (!sums.is_empty()).then(|| sums.add().to_public_key())
        }
    }

    /// One message: random multiples of signatures and keys, and then a single pairing check.
    fn batch_holds(message: &[u8], claims: &[(Point, SignaturePoint)], entropy: &mut dyn Entropy) -> bool {
        if let [(key, signature)] = claims {
            return holds(key, message, signature);
        }
        // Without them two false signatures that cancel each other out would pass for two true ones.
        let coefficients: Vec<u8> = claims.iter().flat_map(|_| entropy.next().max(1).to_le_bytes()).collect();
        let keys: Vec<Point> = claims.iter().map(|(key, _)| *key).collect();
        let signatures: Vec<SignaturePoint> = claims.iter().map(|(_, signature)| *signature).collect();
        let key = AggregatePublicKey::aggregate_with_randomness(&keys, &coefficients, COEFFICIENT_BITS, false);
        let signature = AggregateSignature::aggregate_with_randomness(&signatures, &coefficients, COEFFICIENT_BITS, false);
        let (Ok(key), Ok(signature)) = (key, signature) else { return false };
        holds(&key.to_public_key(), message, &signature.to_signature())
    }
}

/// A claim's position, key and signature.
type Placed = (usize, (Point, SignaturePoint));

fn add_up<'a>(mut points: impl Iterator<Item = &'a Point>) -> Option<Point> {
    let mut sum = AggregatePublicKey::from_public_key(points.next()?);
    for point in points {
        sum.add_public_key(point, false).ok()?;
    }
    Some(sum.to_public_key())
}

/// Whether e(H(m), key) · e(signature, −g) = 1: both pairings in one Miller loop, a tenth less than one after the other. The points must
/// have been found to be in their groups.
fn holds(key: &Point, message: &[u8], signature: &SignaturePoint) -> bool {
    static MINUS_GENERATOR: OnceLock<Option<blst_p2_affine>> = OnceLock::new();
    // The public key of the secret key −1, one below the order of the groups.
    let minus_generator = MINUS_GENERATOR.get_or_init(|| SecretKey::from_bytes(&MINUS_ONE).ok().map(|one| one.sk_to_pk().into()));
    let Some(minus_generator) = minus_generator else { return false };
    let mut pairing = Pairing::new(true, VOTE_DST);
    let no_signature = &();
    if pairing.aggregate(<&blst_p2_affine>::from(key), false, no_signature, false, message, &[]) != BLST_SUCCESS {
        return false;
    }
    pairing.raw_aggregate(minus_generator, signature.into());
    pairing.commit();
    pairing.finalverify(None)
}

fn parse(signature: &Signature) -> Result<SignaturePoint, Error> {
    SignaturePoint::from_bytes(&signature.0).map_err(|_| Error::Signature { scheme: NAME })
}

impl KeySet for Keys {
    fn verify(&self, index: ValidatorIndex, message: &[u8], signature: &Signature) -> bool {
        let Some(key) = self.points.get(index.0 as usize) else { return false };
        let Ok(signature) = SignaturePoint::sig_validate(&signature.0, true) else { return false };
        holds(key, message, &signature)
    }

    fn verify_each(&self, claims: &[Claim<'_>], entropy: &mut dyn Entropy) -> Vec<bool> {
        let mut verdicts = vec![false; claims.len()];
        let mut groups: BTreeMap<&[u8], Vec<Placed>> = BTreeMap::new();
        for (at, claim) in claims.iter().enumerate() {
            let key = self.points.get(claim.index.0 as usize);
            let signature = SignaturePoint::sig_validate(&claim.signature.0, true).ok();
            if let (Some(key), Some(signature)) = (key, signature) {
                groups.entry(claim.message).or_default().push((at, (*key, signature)));
            }
        }
        for (message, group) in groups {
            let (places, group): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let held = bisect(&group, &mut |some| Self::batch_holds(message, some, entropy));
            places.into_iter().zip(held).for_each(|(at, holds)| verdicts[at] = holds);
        }
        verdicts
    }

    fn aggregate(&self, signatures: &[(ValidatorIndex, &Signature)]) -> Result<Signature, Error> {
        let points = signatures.iter().map(|(_, signature)| parse(signature)).collect::<Result<Vec<_>, _>>()?;
        let points: Vec<&SignaturePoint> = points.iter().collect();
        let sum = AggregateSignature::aggregate(&points, false).map_err(|_| Error::Signature { scheme: NAME })?;
        Ok(Signature(sum.to_signature().to_bytes().to_vec()))
    }

    fn verify_aggregate(&self, signers: &Bitmap, message: &[u8], aggregate: &Signature) -> bool {
        let (Some(key), Ok(signature)) = (self.sum(signers), SignaturePoint::sig_validate(&aggregate.0, true)) else { return false };
        holds(&key, message, &signature)
    }

    fn verify_aggregates(&self, claims: &[(&Bitmap, &[u8], &Signature)], entropy: &mut dyn Entropy) -> Vec<bool> {
        let mut verdicts = vec![false; claims.len()];
        let mut prepared = Vec::with_capacity(claims.len());
        for (at, (signers, message, aggregate)) in claims.iter().enumerate() {
            if signers.fits(self.points.len())
                && signers.count() > 0
                && let Some(one) = Prepared::new(signers, message, aggregate, entropy)
            {
                prepared.push((at, one));
            }
        }
        let (places, prepared): (Vec<_>, Vec<_>) = prepared.iter().map(|(at, one)| (*at, one)).unzip();
        let held = bisect(&prepared, &mut |some| all_hold(some, &self.points, &|signers| self.sum(signers)));
        places.into_iter().zip(held).for_each(|(at, holds)| verdicts[at] = holds);
        verdicts
    }
}

/// A secret key held in memory, wiped when dropped.
pub struct BlsSigner {
    secret: SecretKey,
    public: PublicKey,
}

impl std::fmt::Debug for BlsSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlsSigner").field("public", &self.public).finish_non_exhaustive()
    }
}

impl BlsSigner {
    /// From 32 bytes of a secret key, as a keystore holds them.
    pub fn from_bytes(secret: &[u8]) -> Result<Self, Error> {
        Ok(Self::of(SecretKey::from_bytes(secret).map_err(|_| Error::Secret { scheme: NAME })?))
    }

    /// Derives a key from at least 32 bytes of secret randomness.
    pub fn from_seed(seed: &[u8]) -> Result<Self, Error> {
        Ok(Self::of(SecretKey::key_gen(seed, &[]).map_err(|_| Error::Secret { scheme: NAME })?))
    }

    fn of(secret: SecretKey) -> Self {
        let public = PublicKey(secret.sk_to_pk().to_bytes().to_vec());
        Self { secret, public }
    }

    /// The secret key's bytes, for a keystore.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.secret.to_bytes())
    }

    /// Proof of possession, to be registered with the key. Signed under a tag of its own: it can never be taken for a vote.
    pub fn possession(&self) -> Signature {
        Signature(self.secret.sign(&self.public.0, POSSESSION_DST, &[]).to_bytes().to_vec())
    }

    /// Signs without asking the table of own votes: what liars in tests do.
    #[cfg(any(test, feature = "simulator"))]
    pub(crate) fn sign_unchecked(&self, message: &[u8]) -> Signature {
        Signature(self.secret.sign(message, VOTE_DST, &[]).to_bytes().to_vec())
    }
}

impl VoteSigner for BlsSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, vote: &Safe) -> Result<Signature, Error> {
        Ok(Signature(self.secret.sign(&vote.signed_bytes(), VOTE_DST, &[]).to_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our one Miller loop against the library's two, on true and false statements of every kind.
    #[test]
    fn one_loop_judges_as_the_librarys_own_verification_does() {
        let secrets: Vec<SecretKey> = (1..=4u8).map(|seed| SecretKey::key_gen(&[seed; 32], &[]).unwrap()).collect();
        let minus_one = SecretKey::from_bytes(&MINUS_ONE).unwrap();
        let mut infinity = [0; 48];
        infinity[0] = 0xc0;
        let at_infinity = SignaturePoint::from_bytes(&infinity).unwrap();
        let mut no_key = [0; 96];
        no_key[0] = 0xc0;
        let no_key = Point::from_bytes(&no_key).unwrap();
        let (mut held, mut refused) = (0, 0);
        for (at, secret) in secrets.iter().enumerate() {
            let message: Vec<u8> = secret.sk_to_pk().to_bytes()[..40].to_vec();
            let signature = secret.sign(&message, VOTE_DST, &[]);
            let mut negated = signature.to_bytes();
            negated[0] ^= 0x20;
            let others = [
                SignaturePoint::from_bytes(&negated).unwrap(),
                secret.sign(&message, POSSESSION_DST, &[]),
                secrets[(at + 1) % 4].sign(&message, VOTE_DST, &[]),
                minus_one.sign(&message, VOTE_DST, &[]),
                at_infinity,
            ];
            for candidate in others.iter().chain([&signature]) {
                for key in [secret.sk_to_pk(), secrets[(at + 1) % 4].sk_to_pk(), minus_one.sk_to_pk(), no_key] {
                    for said in [&message[..], &message[1..], &[]] {
                        let expected = candidate.verify(false, said, VOTE_DST, &[], &key, false) == BLST_SUCCESS;
                        assert_eq!(holds(&key, said, candidate), expected);
                        if expected { held += 1 } else { refused += 1 }
                    }
                }
            }
        }
        // Each one's own, the neighbour's under the neighbour's key, and that of −1 under its key.
        assert_eq!((held, refused), (12, 276));
    }
}
