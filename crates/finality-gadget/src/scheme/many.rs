//! Many BLS aggregates at once: each costs a hash and a few additions, and what they share a pairing.
//!
//! An aggregate σ over m by signers with the key sum K holds when e(σ, g) = e(H(m), K). With a random 64-bit c for each, all of several
//! hold, but for a chance of 2⁻⁶⁴, when
//!
//! ```text
//! e(Σ cᵢ·σᵢ, g)  =  Π e(cᵢ·H(mᵢ), Kᵢ)
//! ```
//!
//! The right side is linear in the points: those of equal key sums are added up first. Where there are more different sets of signers than
//! validators, each Kᵢ is taken apart into the keys that it is the sum of, and what remains is one pairing for each validator. A thousand
//! certificates of 21 validators thus need 22 pairings instead of a thousand.

use std::collections::BTreeMap;

use blst::min_sig::{AggregateSignature, PublicKey as Point, SecretKey, Signature as SignaturePoint};
use blst::{MultiPoint as _, Pairing, blst_fp12, blst_p1_affine, blst_p2_affine};

use super::Entropy;
use super::bls::VOTE_DST;
use crate::bitmap::Bitmap;
use crate::types::ValidatorIndex;
use crate::vote::Signature;

/// One aggregate, made ready: the random coefficient is drawn and the message is on the curve.
pub(super) struct Prepared<'a> {
    signers: &'a Bitmap,
    coefficient: [u8; COEFFICIENT_BYTES],
    /// c·σ is left to the sum of all, where it is cheaper.
    signature: SignaturePoint,
    /// c·H(m).
    message: SignaturePoint,
}

const COEFFICIENT_BYTES: usize = 8;

impl<'a> Prepared<'a> {
    /// `None` for what is no point of the group.
    pub(super) fn new(signers: &'a Bitmap, message: &[u8], aggregate: &Signature, entropy: &mut dyn Entropy) -> Option<Self> {
        let signature = SignaturePoint::sig_validate(&aggregate.0, true).ok()?;
        let drawn = entropy.next().max(1);
        // Signing is hashing to the curve and multiplying: with the coefficient for a secret key it makes the very multiple of the message's
        // point that is needed. There is nothing secret about it.
        let mut scalar = [0; 32];
        scalar[32 - COEFFICIENT_BYTES..].copy_from_slice(&drawn.to_be_bytes());
        let message = SecretKey::from_bytes(&scalar).ok()?.sign(message, VOTE_DST, &[]);
        Some(Self { signers, coefficient: drawn.to_le_bytes(), signature, message })
    }
}

/// Whether all of them hold. `sum` adds up the keys of some signers.
pub(super) fn all_hold(some: &[&Prepared<'_>], keys: &[Point], sum: &dyn Fn(&Bitmap) -> Option<Point>) -> bool {
    let coefficients: Vec<u8> = some.iter().flat_map(|one| one.coefficient).collect();
    let signatures: Vec<SignaturePoint> = some.iter().map(|one| one.signature).collect();
    let Ok(left) = AggregateSignature::aggregate_with_randomness(&signatures, &coefficients, 8 * COEFFICIENT_BYTES, false) else {
        return false;
    };
    let mut groups: BTreeMap<&[u8], (&Bitmap, AggregateSignature)> = BTreeMap::new();
    for one in some {
        match groups.get_mut(one.signers.as_bytes()) {
            None => _ = groups.insert(one.signers.as_bytes(), (one.signers, AggregateSignature::from_signature(&one.message))),
            Some((_, messages)) => {
                if messages.add_signature(&one.message, false).is_err() {
                    return false;
                }
            }
        }
    }
    let sides = if groups.len() <= keys.len() { by_signers(groups, sum) } else { by_validator(groups, keys) };
    let Some(sides) = sides else { return false };
    let mut pairing = Pairing::new(true, VOTE_DST);
    for (key, messages) in &sides {
        pairing.raw_aggregate(&blst_p2_affine::from(*key), &blst_p1_affine::from(messages.to_signature()));
    }
    pairing.commit();
    let mut expected = blst_fp12::default();
    Pairing::aggregated(&mut expected, &blst_p1_affine::from(left.to_signature()));
    pairing.finalverify(Some(&expected))
}

type Sides = Vec<(Point, AggregateSignature)>;

fn by_signers(groups: BTreeMap<&[u8], (&Bitmap, AggregateSignature)>, sum: &dyn Fn(&Bitmap) -> Option<Point>) -> Option<Sides> {
    groups.into_values().map(|(signers, messages)| Some((sum(signers)?, messages))).collect()
}

fn by_validator(groups: BTreeMap<&[u8], (&Bitmap, AggregateSignature)>, keys: &[Point]) -> Option<Sides> {
    let mut parts: BTreeMap<ValidatorIndex, Vec<SignaturePoint>> = BTreeMap::new();
    for (signers, messages) in groups.into_values() {
        let point = messages.to_signature();
        signers.iter().for_each(|index| parts.entry(index).or_default().push(point));
    }
    parts.into_iter().map(|(index, parts)| Some((*keys.get(index.0 as usize)?, parts.add()))).collect()
}
