//! Sets, certificates and evidence, with all three schemes.

mod common;

use blst::min_sig::{AggregateSignature, Signature as Point};
use common::{block, certify, chain, checkpoint, first_vote, registrations, schedule, set, sign, vote, with_second_set};
use finality_gadget::scheme::{Bls, Claim};
use finality_gadget::set::{Error, faults, quorum};
use finality_gadget::simulator::{Key, Rng, SchemeKind};
use finality_gadget::{
    Bitmap, Certificate, CheckpointNumber, Conflict, Evidence, LinkDigest, SetId, Signature, Testimony, ValidatorId, ValidatorIndex,
    ValidatorSet, VoteScheme,
};

const KINDS: [SchemeKind; 3] = [SchemeKind::Test, SchemeKind::Bls, SchemeKind::Ed25519];

#[test]
fn a_quorum_is_what_is_left_when_the_faulty_are_silent() {
    let known = [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 1, 3), (7, 2, 5), (10, 3, 7), (21, 6, 15), (100, 33, 67), (1000, 333, 667)];
    for (members, faulty, needed) in known {
        assert_eq!((faults(members), quorum(members)), (faulty, needed));
    }
    for members in 1..200 {
        assert!(2 * quorum(members) - members > faults(members), "two quorums of {members} share no honest member");
    }
}

#[test]
fn certificates_hold_and_nothing_like_them_does() {
    for kind in KINDS {
        let schedule = schedule(kind, 4);
        let vote = first_vote(&schedule, checkpoint(1));
        let sound = certify(&schedule, kind, &vote, 0..3);
        schedule.verify_certificate(&sound).unwrap();
        assert!(schedule.verify_certificates(std::slice::from_ref(&sound), &mut Rng::new(1))[0]);

        let few = certify(&schedule, kind, &vote, 0..2);
        assert!(
            matches!(schedule.verify_certificate(&few), Err(Error::Quorum { signers: 2, quorum: 3, .. })),
            "two of four made a certificate"
        );
        let mut claimed = few.clone();
        claimed.signers.set(ValidatorIndex(3));
        assert_eq!(
            schedule.verify_certificate(&claimed).unwrap_err(),
            Error::Signature,
            "a signer who did not sign was counted ({kind:?})"
        );
        let mut moved = sound.clone();
        moved.vote.link.target = block(1, 9);
        assert_eq!(schedule.verify_certificate(&moved).unwrap_err(), Error::Signature);
        let mut other = sound.clone();
        other.vote.previous = LinkDigest([9; 32]);
        assert_eq!(schedule.verify_certificate(&other).unwrap_err(), Error::Signature, "the link before was exchanged");
        let mut foreign = sound.clone();
        foreign.vote.domain.0[0] ^= 1;
        assert!(matches!(schedule.verify_certificate(&foreign), Err(Error::Domain { .. })));
        let mut strange = sound.clone();
        strange.vote.sets[0].0[0] ^= 1;
        assert!(matches!(schedule.verify_certificate(&strange), Err(Error::WrongSet { .. })));
        let held = schedule.verify_certificates(&[sound.clone(), claimed, moved, other, sound], &mut Rng::new(2));
        assert_eq!(held, [true, false, false, false, true], "verifying together and singly differ ({kind:?})");
    }
}

#[test]
fn a_link_over_a_set_boundary_needs_a_quorum_of_both_sets() {
    let kind = SchemeKind::Test;
    // Old set 0 to 6, new set 1 to 7, above checkpoint 2.
    let schedule = with_second_set(schedule(kind, 7), kind, 7, 2);
    let across = vote(&schedule, checkpoint(1), checkpoint(3), LinkDigest([1; 32]));
    assert_eq!((across.sets.len(), across.set), (2, SetId(2)));
    schedule.verify_certificate(&certify(&schedule, kind, &across, 2..7)).unwrap();
    let old_only = certify(&schedule, kind, &across, 0..5);
    assert!(
        matches!(schedule.verify_certificate(&old_only), Err(Error::Quorum { set: SetId(2), signers: 4, .. })),
        "the old set alone crossed its boundary"
    );
    let new_only = certify(&schedule, kind, &across, 3..8);
    assert!(
        matches!(schedule.verify_certificate(&new_only), Err(Error::Quorum { set: SetId(1), signers: 4, .. })),
        "the new set alone crossed its boundary"
    );
    // Up to the boundary the old set votes, from a source above it the new one.
    assert_eq!(vote(&schedule, checkpoint(1), checkpoint(2), LinkDigest([1; 32])).set, SetId(1));
    let after = vote(&schedule, checkpoint(3), checkpoint(4), LinkDigest([1; 32]));
    assert_eq!((after.set, after.sets.len()), (SetId(2), 1));
    assert_eq!(vote(&schedule, checkpoint(2), checkpoint(3), LinkDigest([1; 32])).sets.len(), 2);
}

#[test]
fn a_set_takes_no_key_without_its_proof_and_none_twice() {
    for kind in KINDS {
        let scheme = kind.scheme();
        let mut members = registrations(kind, 0..4);
        members[1].possession = members[2].possession.clone();
        assert!(matches!(ValidatorSet::new(SetId(1), &*scheme, &members), Err(Error::Key { validator: ValidatorId(1), .. })), "{kind:?}");
        let mut twice = registrations(kind, 0..4);
        (twice[3].key, twice[3].possession) = (twice[0].key.clone(), twice[0].possession.clone());
        assert!(matches!(ValidatorSet::new(SetId(1), &*scheme, &twice), Err(Error::Set { .. })), "one key counted twice");
    }
    let kind = SchemeKind::Test;
    let mut changed = registrations(kind, 0..4);
    let spare = Key::of(kind, ValidatorId(99)).registration(ValidatorId(0));
    changed[0] = spare;
    let other = ValidatorSet::new(SetId(2), &*kind.scheme(), &changed).unwrap();
    assert!(schedule(kind, 4).add(CheckpointNumber(5), other).is_err(), "a validator changed its key under its old id");
    assert!(schedule(kind, 4).add(CheckpointNumber(5), set(kind, 3, 0..4)).is_err(), "a set id was left out");
}

#[test]
fn false_votes_are_found_among_true_ones() {
    for kind in KINDS {
        let schedule = schedule(kind, 10);
        let vote = first_vote(&schedule, checkpoint(1));
        let electorate = schedule.electorate(&vote.link).unwrap();
        let message = vote.signed_bytes();
        let mut signatures: Vec<Signature> = (0..10).map(|id| sign(kind, id, &vote).signature).collect();
        signatures[3] = sign(kind, 3, &first_vote(&schedule, checkpoint(2))).signature;
        signatures[7] = Signature(vec![0xc0; 3]);
        let claims: Vec<Claim<'_>> =
            (0u32..).zip(&signatures).map(|(at, signature)| Claim { index: ValidatorIndex(at), message: &message, signature }).collect();
        let verdicts = electorate.keys().verify_each(&claims, &mut Rng::new(3));
        let bad: Vec<usize> = (0..10).filter(|at| !verdicts[*at]).collect();
        assert_eq!(bad, [3, 7], "{kind:?}");
    }
}

/// The point with the other sign: one bit of the compressed form.
fn negated(signature: &Signature) -> Signature {
    let mut bytes = signature.0.clone();
    bytes[0] ^= 0x20;
    Signature(bytes)
}

fn sum(one: &Signature, other: &Signature) -> Signature {
    let points = [one, other].map(|signature| Point::from_bytes(&signature.0).unwrap());
    Signature(AggregateSignature::aggregate(&[&points[0], &points[1]], true).unwrap().to_signature().to_bytes().to_vec())
}

#[test]
fn false_signatures_that_cancel_each_other_out_are_found() {
    let kind = SchemeKind::Bls;
    let schedule = schedule(kind, 4);
    let vote = first_vote(&schedule, checkpoint(1));
    let electorate = schedule.electorate(&vote.link).unwrap();
    let message = vote.signed_bytes();
    let noise = sign(kind, 3, &first_vote(&schedule, checkpoint(9))).signature;
    let true_ones: Vec<Signature> = (0..3).map(|id| sign(kind, id, &vote).signature).collect();
    let forged = [sum(&true_ones[0], &noise), sum(&true_ones[1], &negated(&noise)), true_ones[2].clone()];
    // Plainly added up they are what the true ones are.
    assert_eq!(sum(&forged[0], &forged[1]), sum(&true_ones[0], &true_ones[1]));
    let claims: Vec<Claim<'_>> =
        (0u32..).zip(&forged).map(|(at, signature)| Claim { index: ValidatorIndex(at), message: &message, signature }).collect();
    for seed in 0..20 {
        let verdicts = electorate.keys().verify_each(&claims, &mut Rng::new(seed));
        assert_eq!(verdicts, [false, false, true], "false signatures that cancel each other out passed for true ones");
    }
}

#[test]
fn prepared_sums_of_keys_are_the_sums_of_the_keys() {
    let kind = SchemeKind::Bls;
    let schedule = schedule(kind, 70);
    // Windows of prepared sums begin at 64 members; every pattern of signers must give what plain addition gives.
    let vote = first_vote(&schedule, checkpoint(1));
    for (from, to) in [(0, 47), (23, 70), (0, 70), (5, 66)] {
        let certificate = certify(&schedule, kind, &vote, from..to);
        schedule.verify_certificate(&certificate).unwrap();
        let mut wrong = certificate.clone();
        let index = ValidatorIndex(if from == 0 && to < 70 { 69 } else { 0 });
        if !wrong.signers.has(index) {
            wrong.signers.set(index);
            assert!(schedule.verify_certificate(&wrong).is_err());
        }
    }
}

#[test]
fn evidence_convinces_a_third_party_and_accuses_nobody_else() {
    for kind in KINDS {
        let schedule = schedule(kind, 4);
        let one = first_vote(&schedule, checkpoint(1));
        let other = first_vote(&schedule, block(1, 9));
        let double = Evidence::new(ValidatorId(2), Testimony::Vote(sign(kind, 2, &one)), Testimony::Vote(sign(kind, 2, &other)));
        assert_eq!(double.verify(&schedule).unwrap(), Conflict::SameTarget);
        let read = Evidence::decode(&double.encode()).unwrap();
        assert_eq!((read.id(), read.verify(&schedule).unwrap()), (double.id(), Conflict::SameTarget));

        let (inner, outer) = (
            vote(&schedule, checkpoint(2), checkpoint(3), LinkDigest([1; 32])),
            vote(&schedule, checkpoint(1), checkpoint(4), LinkDigest([2; 32])),
        );
        let surround = Evidence::new(ValidatorId(1), Testimony::Vote(sign(kind, 1, &inner)), Testimony::Vote(sign(kind, 1, &outer)));
        assert_eq!(surround.verify(&schedule).unwrap(), Conflict::Surround);

        let certificate = Testimony::Certificate(certify(&schedule, kind, &one, 0..3));
        let against =
            |validator| Evidence::new(ValidatorId(validator), certificate.clone(), Testimony::Vote(sign(kind, validator, &other)));
        assert_eq!(against(2).verify(&schedule).unwrap(), Conflict::SameTarget);
        assert!(against(3).verify(&schedule).is_err(), "a validator that is not in the certificate was convicted by it");

        let innocent = Evidence::new(ValidatorId(0), Testimony::Vote(sign(kind, 0, &one)), Testimony::Vote(sign(kind, 2, &other)));
        assert!(innocent.verify(&schedule).is_err(), "a validator was convicted by another's vote");
        let mut forged = sign(kind, 0, &other);
        forged.signature = sign(kind, 0, &one).signature;
        assert!(Evidence::new(ValidatorId(0), Testimony::Vote(sign(kind, 0, &one)), Testimony::Vote(forged)).verify(&schedule).is_err());
        let steps = chain(&schedule, kind, 2, 0..3);
        let harmless = Evidence::new(ValidatorId(0), Testimony::Certificate(steps[0].clone()), Testimony::Certificate(steps[1].clone()));
        assert!(harmless.verify(&schedule).is_err(), "two votes that agree were called a contradiction");
    }
}

#[test]
fn votes_may_share_a_source_and_skip_targets_without_contradiction() {
    let schedule = schedule(SchemeKind::Test, 4);
    let link = |source, target| vote(&schedule, checkpoint(source), checkpoint(target), LinkDigest([1; 32]));
    assert_eq!(link(2, 3).conflict(&link(2, 4)), None);
    assert_eq!(link(2, 3).conflict(&link(3, 4)), None);
    assert_eq!(link(2, 3).conflict(&link(2, 3)), None);
    assert_eq!(link(2, 5).conflict(&link(3, 4)), Some(Conflict::Surround));
    assert_eq!(link(3, 4).conflict(&link(2, 5)), Some(Conflict::Surround));
    assert_eq!(link(2, 4).conflict(&link(3, 4)), Some(Conflict::SameTarget));
}

#[test]
fn a_key_that_is_none_is_refused() {
    let not_a_key = finality_gadget::PublicKey(vec![0; 96]);
    assert!(Bls.check_key(&not_a_key, &Signature(vec![0; 48])).is_err());
    let identity = finality_gadget::PublicKey([vec![0xc0], vec![0; 95]].concat());
    assert!(Bls.check_key(&identity, &Signature([vec![0xc0], vec![0; 47]].concat())).is_err(), "the identity was taken for a key");
}

/// Certificates over different links, signed by five of seven in as many ways as there are, or always by the same five.
fn many(schedule: &finality_gadget::Schedule, kind: SchemeKind, count: u64, varied: bool) -> Vec<Certificate> {
    let electorate = schedule.electorate(&first_vote(schedule, checkpoint(1)).link).unwrap();
    let certificates = (1..=count).map(|number| {
        let vote = first_vote(schedule, checkpoint(number));
        let silent = if varied { [number % 7, (number + 1 + number / 7 % 6) % 7] } else { [0, 1] };
        let signed: Vec<_> = (0..7u32).filter(|id| !silent.contains(&u64::from(*id))).map(|id| (id, sign(kind, id, &vote))).collect();
        let mut signers = Bitmap::empty(7);
        for (id, _) in &signed {
            signers.set(ValidatorIndex(*id));
        }
        let signatures: Vec<_> = signed.iter().map(|(id, signed)| (ValidatorIndex(*id), &signed.signature)).collect();
        let aggregate = electorate.keys().aggregate(&signatures).unwrap();
        Certificate { vote, signers, aggregate }
    });
    certificates.collect()
}

#[test]
fn certificates_verified_together_are_judged_as_each_by_itself() {
    let kind = SchemeKind::Bls;
    let schedule = schedule(kind, 7);
    for varied in [true, false] {
        let mut certificates = many(&schedule, kind, 40, varied);
        let sets: std::collections::BTreeSet<_> = certificates.iter().map(|one| one.signers.as_bytes().to_vec()).collect();
        assert_eq!(sets.len() > 7, varied, "one way of adding up is not met");
        assert!(schedule.verify_certificates(&certificates, &mut Rng::new(1)).iter().all(|holds| *holds));
        certificates[3].aggregate = certificates[4].aggregate.clone();
        certificates[9].aggregate = negated(&certificates[9].aggregate);
        certificates[17].aggregate = Signature(vec![0xc0; 48]);
        certificates[20].vote.link.target.hash.0[31] ^= 1;
        let spare = (0..7).map(ValidatorIndex).find(|index| !certificates[33].signers.has(*index)).unwrap();
        certificates[33].signers.set(spare);
        let single: Vec<bool> = certificates.iter().map(|one| schedule.verify_certificate(one).is_ok()).collect();
        assert_eq!(single.iter().filter(|holds| !**holds).count(), 5);
        assert_eq!(schedule.verify_certificates(&certificates, &mut Rng::new(2)), single);
        assert_eq!(schedule.verify_certificates(&certificates[..1], &mut Rng::new(2)), [true]);
        assert_eq!(schedule.verify_certificates(&certificates[3..4], &mut Rng::new(2)), [false]);
    }
}

#[test]
fn false_aggregates_that_cancel_each_other_out_are_found() {
    let kind = SchemeKind::Bls;
    let schedule = schedule(kind, 7);
    for varied in [true, false] {
        let mut certificates = many(&schedule, kind, 12, varied);
        let noise = sign(kind, 3, &first_vote(&schedule, checkpoint(99))).signature;
        certificates[2].aggregate = sum(&certificates[2].aggregate, &noise);
        certificates[8].aggregate = sum(&certificates[8].aggregate, &negated(&noise));
        for seed in 0..10 {
            let verdicts = schedule.verify_certificates(&certificates, &mut Rng::new(seed));
            let bad: Vec<usize> = (0..12).filter(|at| !verdicts[*at]).collect();
            assert_eq!(bad, [2, 8], "false aggregates that cancel each other out passed for true ones");
        }
    }
}
