//! Sizes and times of certificates, printed beside their goals: `cargo run -p finality-gadget --example figures`.
//!
//! Each time is the median of several rounds on one thread. Goals are those of an idle machine; on a busy one compare the ratios.

use std::time::{Duration, Instant};

use finality_gadget::persistence::{Declaration, declare};
use finality_gadget::scheme::Entropy;
use finality_gadget::simulator::{Disk, Key, MemoryDisk, Rng, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, ChainId, CheckpointFinality, CheckpointNumber, CheckpointPersistenceConfig, Config, Domain,
    FinalityCheckpoint, FinalityRule, Finalized, Link, LinkDigest, Message, NetworkBridge, Recipient, Registration, Schedule, SetId,
    Signature, SignedVote, TrustedCheckpoint, ValidatorId, ValidatorIndex, ValidatorSet, Vote,
};

const ROUNDS: usize = 31;

fn checkpoint(number: u64) -> FinalityCheckpoint {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash) }
}

struct Fixture {
    schedule: Schedule,
    keys: Vec<Key>,
}

impl Fixture {
    fn new(kind: SchemeKind, members: u32) -> Self {
        let keys: Vec<Key> = (0..members).map(|id| Key::of(kind, ValidatorId(id))).collect();
        let registrations: Vec<Registration> = (0u32..).zip(&keys).map(|(id, key)| key.registration(ValidatorId(id))).collect();
        let set = ValidatorSet::new(SetId(1), &*kind.scheme(), &registrations).expect("the keys come with their proofs");
        let domain = Domain { chain: ChainId(84532), trusted: TrustedCheckpoint { checkpoint: checkpoint(0), set: set.digest() } };
        Self { schedule: Schedule::new(domain, kind.scheme(), set).expect("the trusted checkpoint names the set"), keys }
    }

    fn vote(&self, source: u64, previous: LinkDigest) -> Vote {
        let link = Link { source: checkpoint(source), target: checkpoint(source + 1) };
        let electorate = self.schedule.electorate(&link).expect("within the schedule");
        Vote { domain: self.schedule.domain_digest(), set: electorate.id(), sets: electorate.digests(), link, previous }
    }

    fn votes(&self, vote: &Vote, signers: usize) -> Vec<SignedVote> {
        let message = vote.signed_bytes();
        let sign =
            |(id, key): (u32, &Key)| SignedVote { vote: vote.clone(), validator: ValidatorId(id), signature: key.sign_unchecked(&message) };
        (0u32..).zip(&self.keys).take(signers).map(sign).collect()
    }

    fn certificate(&self, vote: &Vote, signers: usize) -> Certificate {
        let electorate = self.schedule.electorate(&vote.link).expect("within the schedule");
        let votes = self.votes(vote, signers);
        let mut bits = Bitmap::empty(self.keys.len());
        let signed: Vec<(ValidatorIndex, &Signature)> =
            votes.iter().map(|signed| (electorate.index(signed.validator).expect("a member"), &signed.signature)).collect();
        for (index, _) in &signed {
            bits.set(*index);
        }
        Certificate { vote: vote.clone(), signers: bits, aggregate: electorate.keys().aggregate(&signed).expect("sound signatures") }
    }
}

fn median(mut run: impl FnMut()) -> Duration {
    run();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

/// Time this thread has been on a processor, where the system tells (Linux): on a busy machine it says more than the clock on the wall.
fn busy() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split_whitespace().next()?.parse().ok()?))
}

fn took(began: Instant, busy_before: Option<Duration>) -> String {
    let wall = began.elapsed();
    match busy().zip(busy_before) {
        Some((after, before)) => format!("{} ({} of it on a processor)", millis(wall), millis(after.saturating_sub(before))),
        None => millis(wall),
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1_000.0)
}

fn certificates(kind: SchemeKind, members: u32) -> Duration {
    let fixture = Fixture::new(kind, members);
    let quorum = fixture.schedule.set_at(CheckpointNumber(1)).quorum();
    let vote = fixture.vote(0, fixture.schedule.domain().root());
    let began = Instant::now();
    let certificate = fixture.certificate(&vote, quorum);
    let made = began.elapsed();
    let began = Instant::now();
    fixture.schedule.verify_certificate(&certificate).expect("a sound certificate");
    let first = began.elapsed();
    let verified = median(|| assert!(fixture.schedule.verify_certificate(&certificate).is_ok()));
    let bytes = certificate.encode().len();
    println!(
        "{kind:?} {quorum} of {members}: {bytes} bytes{}, verified in {}{}; the first time, keys prepared, {}; signed and made in {}",
        if members == 21 && kind == SchemeKind::Bls { " (goal 300)" } else { "" },
        millis(verified),
        if kind == SchemeKind::Bls && matches!(members, 21 | 1000) { " (goal 1.2 ms)" } else { "" },
        millis(first),
        millis(made)
    );
    verified
}

struct Nowhere;

impl NetworkBridge for Nowhere {
    fn send(&self, _: Recipient, _: &Message) {}
}

/// A start with 1,000 checkpoints of 21 votes, out of memory: what the gadget itself takes, without a database.
fn restart() {
    let fixture = Fixture::new(SchemeKind::Bls, 21);
    let mut disk = MemoryDisk::default();
    let storage = disk.open();
    declare(&*storage, fixture.schedule.domain_digest(), Declaration::NeverSigned).expect("an empty disk");
    let mut previous = fixture.schedule.domain().root();
    for number in 0..1_000 {
        let vote = fixture.vote(number, previous);
        previous = vote.digest();
        storage.store_signatures(&fixture.votes(&vote, 21)).expect("memory does not fail");
        let finalized = Finalized { checkpoint: checkpoint(number), by: CheckpointNumber(number + 1) };
        storage.store_certificate(&fixture.certificate(&vote, 15), (number > 0).then_some(&finalized)).expect("memory does not fail");
    }
    let config = Config::new(FinalityRule::Ffg, Some(ValidatorId(0)));
    let signer = std::sync::Arc::new(Key::of(SchemeKind::Bls, ValidatorId(0)));
    let mut gadget = CheckpointFinality::new(
        config,
        fixture.schedule.clone(),
        CheckpointPersistenceConfig::mainnet(),
        std::sync::Arc::new(Nowhere),
        Some(signer),
    );
    gadget.set_storage(storage);
    let (began, before) = (Instant::now(), busy());
    let report = gadget.restore_from_storage(Rng::new(1).next()).expect("a sound storage");
    let ready = took(began, before);
    assert_eq!((report.certificates, report.finalized, report.complete), (1_000, checkpoint(999), true));
    let (began, before) = (Instant::now(), busy());
    while !gadget.verify_restored().expect("a sound storage") {}
    let verified = took(began, before);
    assert_eq!(gadget.background().map(|background| (background.verified(), background.damaged().len())), Some((1_000, 0)));
    println!(
        "restart with 1,000 checkpoints of 21 votes, storage in memory: ready in {ready}, goal with a database 25 ms; every aggregate verified behind it in {verified}, goal 350 ms"
    );
}

fn main() {
    let small = certificates(SchemeKind::Bls, 21);
    certificates(SchemeKind::Bls, 100);
    let large = certificates(SchemeKind::Bls, 1_000);
    println!("BLS: 1,000 validators take {:.2} times as long as 21", large.as_secs_f64() / small.as_secs_f64());
    certificates(SchemeKind::Ed25519, 21);
    certificates(SchemeKind::Ed25519, 1_000);
    restart();
}
