//! Votes and certificates by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ops::Range;

use finality_gadget::simulator::{Key, Rng, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, ChainId, ChainView, CheckpointNumber, Config, Core, Domain, Effect, Event, FinalityCheckpoint,
    FinalityRule, Link, LinkDigest, Message, Millis, Registration, Restored, Schedule, SetId, SignedVote, TrustedCheckpoint, ValidatorId,
    ValidatorSet, Vote,
};

pub(crate) fn checkpoint(number: u64) -> FinalityCheckpoint {
    block(number, 0)
}

/// A block that is not on the chain that [`checkpoint`] makes.
pub(crate) fn block(number: u64, fork: u8) -> FinalityCheckpoint {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash) }
}

pub(crate) fn registrations(kind: SchemeKind, ids: Range<u32>) -> Vec<Registration> {
    ids.map(|id| Key::of(kind, ValidatorId(id)).registration(ValidatorId(id))).collect()
}

pub(crate) fn set(kind: SchemeKind, id: u64, ids: Range<u32>) -> ValidatorSet {
    ValidatorSet::new(SetId(id), &*kind.scheme(), &registrations(kind, ids)).unwrap()
}

/// One set, in force from checkpoint 0 on.
pub(crate) fn schedule(kind: SchemeKind, members: u32) -> Schedule {
    let first = set(kind, 1, 0..members);
    let domain = Domain { chain: ChainId(84532), trusted: TrustedCheckpoint { checkpoint: checkpoint(0), set: first.digest() } };
    Schedule::new(domain, kind.scheme(), first).unwrap()
}

/// A second set, members 1 to n, above `boundary`.
pub(crate) fn with_second_set(mut schedule: Schedule, kind: SchemeKind, members: u32, boundary: u64) -> Schedule {
    schedule.add(CheckpointNumber(boundary), set(kind, 2, 1..members + 1)).unwrap();
    schedule
}

pub(crate) fn vote(schedule: &Schedule, source: FinalityCheckpoint, target: FinalityCheckpoint, previous: LinkDigest) -> Vote {
    let link = Link { source, target };
    let electorate = schedule.electorate(&link).unwrap();
    Vote { domain: schedule.domain_digest(), set: electorate.id(), sets: electorate.digests(), link, previous }
}

/// A vote from the trusted checkpoint.
pub(crate) fn first_vote(schedule: &Schedule, target: FinalityCheckpoint) -> Vote {
    vote(schedule, checkpoint(0), target, schedule.domain().root())
}

pub(crate) fn sign(kind: SchemeKind, validator: u32, vote: &Vote) -> SignedVote {
    let validator = ValidatorId(validator);
    SignedVote { vote: vote.clone(), validator, signature: Key::of(kind, validator).sign_unchecked(&vote.signed_bytes()) }
}

pub(crate) fn certify(schedule: &Schedule, kind: SchemeKind, vote: &Vote, signers: Range<u32>) -> Certificate {
    let electorate = schedule.electorate(&vote.link).unwrap();
    let mut bits = Bitmap::empty(electorate.members().len());
    let signed: Vec<_> = signers.map(|id| (electorate.index(ValidatorId(id)).unwrap(), sign(kind, id, vote).signature)).collect();
    for (index, _) in &signed {
        bits.set(*index);
    }
    let borrowed: Vec<_> = signed.iter().map(|(index, signature)| (*index, signature)).collect();
    Certificate { vote: vote.clone(), signers: bits, aggregate: electorate.keys().aggregate(&borrowed).unwrap() }
}

/// Certificates 0→1→2→…→`length`.
pub(crate) fn chain(schedule: &Schedule, kind: SchemeKind, length: u64, signers: Range<u32>) -> Vec<Certificate> {
    let mut previous = schedule.domain().root();
    let mut certificates = Vec::new();
    for number in 0..length {
        let vote = vote(schedule, checkpoint(number), checkpoint(number + 1), previous);
        previous = vote.digest();
        certificates.push(certify(schedule, kind, &vote, signers.clone()));
    }
    certificates
}

/// A look at the chain of [`checkpoint`]s.
pub(crate) fn view(up_to: u64) -> ChainView {
    let hashes = (0..=up_to).map(|number| (CheckpointNumber(number), checkpoint(number).hash)).collect();
    ChainView { eligible: CheckpointNumber(up_to), finalized: Some(CheckpointNumber(up_to)), hashes }
}

/// Validator 0 of `members`, with the cheap scheme.
pub(crate) fn core(members: u32, restored: Restored) -> (Core, Schedule) {
    let schedule = schedule(SchemeKind::Test, members);
    let config = Config::new(FinalityRule::Ffg, Some(ValidatorId(0)));
    (Core::new(config, schedule.clone(), Box::new(Rng::new(1)), restored), schedule)
}

pub(crate) fn says(core: &mut Core, from: u32, message: Message) -> Vec<Effect> {
    core.handle(Event::Received { from: ValidatorId(from), message })
}

pub(crate) fn at(core: &mut Core, millis: u64) -> Vec<Effect> {
    core.handle(Event::Tick(Millis(millis)))
}
