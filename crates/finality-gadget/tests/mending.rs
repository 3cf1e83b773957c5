//! What a start finds wrong, and what becomes of it: nothing that does not hold is used, served or held against anybody.

mod common;

use std::sync::{Arc, Mutex, PoisonError};

use common::{block, certify, chain, checkpoint, first_vote, schedule, sign, view, vote};
use finality_gadget::finality::Error;
use finality_gadget::persistence::{self, Declaration, declare};
use finality_gadget::simulator::{Disk, Key, MemoryDisk, SchemeKind};
use finality_gadget::{
    Certificate, CheckpointFinality, CheckpointNumber, CheckpointPersistenceConfig, CheckpointStorage, Config, FinalityRule, Finalized,
    Message, Millis, NetworkBridge, Reason, Recipient, Schedule, Signature, SignedVote, ValidatorId, ValidatorIndex,
};

const KIND: SchemeKind = SchemeKind::Test;

#[derive(Default)]
struct Sent(Mutex<Vec<(Recipient, Message)>>);

impl NetworkBridge for Sent {
    fn send(&self, to: Recipient, message: &Message) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((to, message.clone()));
    }
}

impl Sent {
    fn take(&self) -> Vec<(Recipient, Message)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A node over a storage; without a key it only follows.
fn node(schedule: &Schedule, storage: &Arc<dyn CheckpointStorage>, own: Option<u32>, key: u32) -> (CheckpointFinality, Arc<Sent>) {
    let sent = Arc::new(Sent::default());
    let bridge: Arc<dyn NetworkBridge> = Arc::<Sent>::clone(&sent);
    let config = Config::new(FinalityRule::Ffg, own.map(ValidatorId));
    let signer = own.map(|_| Arc::new(Key::of(KIND, ValidatorId(key))) as Arc<dyn finality_gadget::VoteSigner>);
    let mut gadget = CheckpointFinality::new(config, schedule.clone(), CheckpointPersistenceConfig::mainnet(), bridge, signer);
    gadget.set_storage(Arc::clone(storage));
    (gadget, sent)
}

fn disk(schedule: &Schedule) -> (MemoryDisk, Arc<dyn CheckpointStorage>) {
    let mut disk = MemoryDisk::default();
    let storage = disk.open();
    declare(&*storage, schedule.domain_digest(), Declaration::NeverSigned).unwrap();
    (disk, storage)
}

fn keep(storage: &dyn CheckpointStorage, certificates: &[Certificate]) {
    for certificate in certificates {
        let link = certificate.vote.link;
        let finalized = Finalized { checkpoint: link.source, by: link.target.number };
        storage.store_certificate(certificate, (link.source.number.0 > 0).then_some(&finalized)).unwrap();
    }
}

/// Ten certificates, of which the fourth says that validator 0 signed it, which it did not. Its link is as it was.
fn with_a_false_fourth(schedule: &Schedule) -> (Vec<Certificate>, Vec<Certificate>) {
    let sound = chain(schedule, KIND, 10, 1..4);
    let mut stored = sound.clone();
    stored[3].signers.set(ValidatorIndex(0));
    (sound, stored)
}

#[test]
fn a_certificate_found_damaged_behind_the_start_is_neither_used_nor_served_and_comes_again_from_peers() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let (sound, stored) = with_a_false_fourth(&schedule);
    keep(&*storage, &stored);
    let (mut gadget, sent) = node(&schedule, &storage, None, 0);
    gadget.restore_from_storage(1).unwrap();
    while !gadget.verify_restored().unwrap() {}
    let four = CheckpointNumber(4);
    assert_eq!(gadget.background().unwrap().damaged(), [four]);
    assert_eq!(gadget.finalized().checkpoint, checkpoint(9), "the digests below the newest certificate still show what is final");
    assert_eq!(gadget.create_checkpoint_certificate(four).unwrap(), None, "a damaged certificate was given out");

    sent.take();
    for after in [0, 3, 5] {
        gadget.receive(ValidatorId(2), Message::CertificatesAfter(CheckpointNumber(after))).unwrap();
    }
    for (_, message) in sent.take() {
        let Message::Certificates(served) = message else { continue };
        assert!(!served.is_empty());
        for certificate in served {
            assert!(schedule.verify_certificate(&certificate).is_ok(), "a damaged certificate was served");
        }
    }
    gadget.tick(Millis(10_000)).unwrap();
    let asked = sent.take();
    let asks = |(to, message): &(Recipient, Message)| {
        matches!(to, Recipient::One(_)) && *message == Message::CertificatesAfter(CheckpointNumber(3))
    };
    assert!(asked.iter().any(asks), "nobody was asked for what is damaged: {asked:?}");

    // What is no better does not take its place; the sound one does, and stays after a restart.
    gadget.receive(ValidatorId(3), Message::Certificates(vec![stored[3].clone()])).unwrap();
    assert_eq!(gadget.create_checkpoint_certificate(four).unwrap(), None, "a damaged certificate was taken back");
    gadget.receive(ValidatorId(2), Message::Certificates(vec![sound[3].clone()])).unwrap();
    assert_eq!(gadget.create_checkpoint_certificate(four).unwrap(), Some(sound[3].clone()), "what a peer sent did not mend the damage");
    assert_eq!(gadget.advance_finality(), [], "what was final already is not told again");
    let (mut gadget, _) = node(&schedule, &storage, None, 0);
    assert_eq!(gadget.restore_from_storage(2).unwrap().finalized, checkpoint(9));
    while !gadget.verify_restored().unwrap() {}
    assert_eq!(gadget.background().unwrap().damaged(), []);
}

#[test]
fn a_damaged_certificate_accuses_nobody() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let (_, stored) = with_a_false_fourth(&schedule);
    keep(&*storage, &stored);
    let (mut gadget, _) = node(&schedule, &storage, None, 0);
    gadget.restore_from_storage(1).unwrap();
    gadget.observe(view(10)).unwrap();
    // Validator 0 has signed this one for 4 and no other; the damaged certificate counts it among its signers.
    let other = vote(&schedule, checkpoint(3), block(4, 9), sound_digest(&stored[2]));
    gadget.receive(ValidatorId(0), Message::Votes(vec![sign(KIND, 0, &other)])).unwrap();
    for evidence in storage.evidence_after(None, 10).unwrap() {
        assert!(evidence.verify(&schedule).is_ok(), "evidence was kept that convinces nobody");
    }
}

fn sound_digest(certificate: &Certificate) -> finality_gadget::LinkDigest {
    certificate.digest()
}

#[test]
fn a_halt_lasts_until_operators_agree_on_a_new_trusted_checkpoint() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let sound = chain(&schedule, KIND, 3, 1..4);
    let (mut gadget, _) = node(&schedule, &storage, None, 0);
    gadget.restore_from_storage(1).unwrap();
    gadget.receive(ValidatorId(1), Message::Certificates(vec![sound[0].clone()])).unwrap();
    let contrary = certify(&schedule, KIND, &first_vote(&schedule, block(1, 9)), 1..4);
    gadget.receive(ValidatorId(2), Message::Certificates(vec![contrary])).unwrap();
    drop(gadget);

    let (mut gadget, _) = node(&schedule, &storage, None, 0);
    gadget.restore_from_storage(2).unwrap();
    gadget.observe(view(3)).unwrap();
    gadget.receive(ValidatorId(1), Message::Certificates(sound[1..].to_vec())).unwrap();
    assert_eq!(gadget.advance_finality(), [], "a restart made a halted node call something final");
    gadget.tick(Millis(0)).unwrap();
    gadget.tick(Millis(1_000_000)).unwrap();
    let reasons = gadget.health().stuck.expect("it stands still").reasons;
    assert!(matches!(&reasons[0], Reason::Halted(why) if why.contains("contradict")), "{reasons:?}");
}

#[test]
fn a_record_of_one_key_is_not_another_keys() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let (mut first, _) = node(&schedule, &storage, Some(1), 1);
    first.restore_from_storage(1).unwrap();
    drop(first);
    // Two validators of one operator, and a directory mixed up.
    let (mut second, _) = node(&schedule, &storage, Some(2), 2);
    let refused = second.restore_from_storage(1).unwrap_err();
    assert!(matches!(refused, Error::Storage(persistence::Error::AnotherKey)), "a key signs with another key's record: {refused}");
    assert!(second.tick(Millis(1)).is_err(), "it goes on");
    let (mut first, _) = node(&schedule, &storage, Some(1), 1);
    first.restore_from_storage(2).unwrap();
    // Whoever only reads may.
    node(&schedule, &storage, None, 0).0.restore_from_storage(3).unwrap();
}

#[test]
fn a_contradiction_of_a_vote_from_before_the_start_is_noticed() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let certificates = chain(&schedule, KIND, 10, 1..4);
    keep(&*storage, &certificates);
    let one = sign(KIND, 0, &vote(&schedule, checkpoint(3), block(4, 8), certificates[2].digest()));
    let other = sign(KIND, 0, &vote(&schedule, checkpoint(3), block(4, 9), certificates[2].digest()));
    storage.store_signatures(std::slice::from_ref(&one)).unwrap();
    let (mut gadget, sent) = node(&schedule, &storage, None, 0);
    assert_eq!(gadget.restore_from_storage(1).unwrap().signatures, 0, "votes below finality hold a start up");
    gadget.observe(view(10)).unwrap();
    while !gadget.verify_restored().unwrap() {}
    gadget.receive(ValidatorId(0), Message::Votes(vec![other])).unwrap();
    let kept = storage.evidence_after(None, 10).unwrap();
    assert!(kept.len() == 1 && kept[0].verify(&schedule).is_ok(), "a restart made a node forget what was said before it: {kept:?}");
    // And its author is told of it, should it ask.
    sent.take();
    gadget.receive(ValidatorId(0), Message::OwnVotesQuery { nonce: 3 }).unwrap();
    let told = sent.take();
    assert!(told.iter().any(|(_, message)| matches!(message, Message::OwnVotes(own) if own.votes == [one.clone()])), "{told:?}");
}

#[test]
fn a_contradiction_that_comes_before_the_old_votes_are_read_back_is_noticed() {
    let schedule = schedule(KIND, 4);
    let certificates = chain(&schedule, KIND, 10, 1..4);
    let old = sign(KIND, 0, &vote(&schedule, checkpoint(3), block(4, 8), certificates[2].digest()));
    let same_target = sign(KIND, 0, &vote(&schedule, checkpoint(3), block(4, 9), certificates[2].digest()));
    let around = sign(KIND, 0, &vote(&schedule, checkpoint(2), block(5, 9), certificates[1].digest()));
    for other in [same_target, around] {
        let (_disk, storage) = disk(&schedule);
        keep(&*storage, &certificates);
        storage.store_signatures(std::slice::from_ref(&old)).unwrap();
        let (mut gadget, _) = node(&schedule, &storage, None, 0);
        assert_eq!(gadget.restore_from_storage(1).unwrap().signatures, 0);
        gadget.observe(view(10)).unwrap();
        gadget.receive(ValidatorId(0), Message::Votes(vec![other])).unwrap();
        while !gadget.verify_restored().unwrap() {}
        let kept = storage.evidence_after(None, 10).unwrap();
        assert!(kept.len() == 1 && kept[0].verify(&schedule).is_ok(), "what came before the old votes were read was not held against them");
    }
}

#[test]
fn a_false_vote_on_the_disk_does_not_hide_the_true_one() {
    let schedule = schedule(KIND, 4);
    let certificates = chain(&schedule, KIND, 10, 1..4);
    // Above finality and below: read at the start and behind it. Votes for one target are read in the order of their encodings.
    for (source, signature) in [(3, vec![0; 32]), (3, vec![255; 32]), (10, vec![0; 32]), (10, vec![255; 32])] {
        let (_disk, storage) = disk(&schedule);
        keep(&*storage, &certificates);
        let previous = certificates.iter().find(|one| one.vote.link.target == checkpoint(source)).unwrap().digest();
        let says = |fork| sign(KIND, 0, &vote(&schedule, checkpoint(source), block(source + 1, fork), previous));
        let (one, other) = (says(8), says(9));
        let spoiled = SignedVote { signature: Signature(signature), ..one.clone() };
        storage.store_signatures(&[spoiled, one]).unwrap();
        let (mut gadget, _) = node(&schedule, &storage, None, 0);
        gadget.restore_from_storage(1).unwrap();
        gadget.observe(view(12)).unwrap();
        while !gadget.verify_restored().unwrap() {}
        // Whoever sent something false is not listened to for a while.
        gadget.tick(Millis(5_000)).unwrap();
        gadget.receive(ValidatorId(0), Message::Votes(vec![other])).unwrap();
        let kept = storage.evidence_after(None, 10).unwrap();
        assert!(kept.len() == 1 && kept[0].verify(&schedule).is_ok(), "a liar's false vote hides its true one after a restart: {kept:?}");
    }
}
