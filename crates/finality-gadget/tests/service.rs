//! The gadget with a storage around it: starts, damage, maintenance, and the lines it logs.

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use common::{certify, chain, checkpoint, schedule, sign, view, vote, with_second_set};
use finality_gadget::finality::Error;
use finality_gadget::network::OwnVotes;
use finality_gadget::persistence::{Declaration, PruneOrder, declare};
use finality_gadget::simulator::{Disk, DiskFault, Key, MemoryDisk, SchemeKind};
use finality_gadget::{
    Certificate, CheckpointFinality, CheckpointNumber, CheckpointPersistenceConfig, CheckpointStorage, Config, FinalityRule, Finalized,
    LinkDigest, Message, Millis, NetworkBridge, Recipient, Schedule, Standing, ValidatorId,
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
    fn votes(&self) -> usize {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().filter(|(_, message)| matches!(message, Message::Votes(_))).count()
    }
}

fn gadget(schedule: &Schedule, persistence: CheckpointPersistenceConfig) -> (CheckpointFinality, Arc<Sent>) {
    let sent = Arc::new(Sent::default());
    let config = Config::new(FinalityRule::Ffg, Some(ValidatorId(0)));
    let bridge: Arc<dyn NetworkBridge> = Arc::<Sent>::clone(&sent);
    (CheckpointFinality::new(config, schedule.clone(), persistence, bridge, Some(Arc::new(Key::of(KIND, ValidatorId(0))))), sent)
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

fn answered(gadget: &mut CheckpointFinality, nonce: u64) {
    for peer in 1..4 {
        let answer = Message::OwnVotes(OwnVotes { nonce, ..OwnVotes::default() });
        gadget.receive(ValidatorId(peer), answer).unwrap();
    }
}

#[test]
fn a_start_confirms_the_chain_of_digests_and_the_rest_behind_it() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    keep(&*storage, &chain(&schedule, KIND, 600, 1..4));
    let (mut gadget, _) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    gadget.set_storage(storage);
    let report = gadget.restore_from_storage(1).unwrap();
    assert_eq!((report.finalized, report.certificates, report.complete), (checkpoint(599), 600, true));
    assert!(report.damaged.is_empty());
    while !gadget.verify_restored().unwrap() {}
    assert_eq!(gadget.background().unwrap().verified(), 600);
}

#[test]
fn a_damaged_newest_certificate_is_named_and_not_believed() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let mut certificates = chain(&schedule, KIND, 10, 1..4);
    certificates[9].aggregate.0[5] ^= 1;
    keep(&*storage, &certificates);
    let (mut gadget, _) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    gadget.set_storage(storage);
    let report = gadget.restore_from_storage(1).unwrap();
    assert_eq!(report.damaged, [CheckpointNumber(10)]);
    assert_eq!(report.finalized, checkpoint(8), "finality was restored from a certificate that does not hold");
}

#[test]
fn a_damaged_older_certificate_is_found_behind_the_start() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let mut certificates = chain(&schedule, KIND, 10, 1..4);
    // Its link is as it was, so that the digests say nothing.
    certificates[3].aggregate.0[5] ^= 1;
    keep(&*storage, &certificates);
    let (mut gadget, _) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    gadget.set_storage(storage);
    assert!(gadget.restore_from_storage(1).unwrap().complete);
    while !gadget.verify_restored().unwrap() {}
    assert_eq!(gadget.background().unwrap().damaged(), [CheckpointNumber(4)]);
}

#[test]
fn an_exchanged_older_link_breaks_the_chain_of_digests() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let mut certificates = chain(&schedule, KIND, 10, 1..4);
    let other = vote(&schedule, checkpoint(3), common::block(4, 9), LinkDigest([3; 32]));
    certificates[3] = certify(&schedule, KIND, &other, 1..4);
    keep(&*storage, &certificates);
    let (mut gadget, _) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    gadget.set_storage(storage);
    let report = gadget.restore_from_storage(1).unwrap();
    assert_eq!((report.complete, report.certificates), (false, 6), "an exchanged link was believed");
    assert_eq!(report.finalized, checkpoint(9));
}

#[test]
fn pruning_keeps_an_anchor_boundaries_and_what_is_retained() {
    let schedule = with_second_set(schedule(KIND, 4), KIND, 4, 20);
    let (_disk, storage) = disk(&schedule);
    keep(&*storage, &chain(&schedule, KIND, 100, 1..4));
    let persistence = CheckpointPersistenceConfig { retention_checkpoints: 10, ..CheckpointPersistenceConfig::testnet() };
    let (mut first, _) = gadget(&schedule, persistence);
    first.set_storage(Arc::clone(&storage));
    first.restore_from_storage(1).unwrap();
    let report = first.perform_periodic_maintenance(Millis(61_000)).unwrap();
    let (pruned, _) = report.pruned.unwrap();
    assert_eq!((pruned.below, report.flushed.is_some()), (CheckpointNumber(89), true));
    let left: Vec<u64> =
        storage.certificates_after(CheckpointNumber(0), 1_000).unwrap().iter().map(|kept| kept.vote.link.target.number.0).collect();
    assert_eq!(left[0], 21, "the certificate across the set boundary was pruned");
    assert_eq!(left[1..], (89..=100).collect::<Vec<_>>());
    let (mut second, _) = gadget(&schedule, persistence);
    second.set_storage(storage);
    let report = second.restore_from_storage(1).unwrap();
    assert!(report.complete, "the chain of digests does not reach the anchor");
    assert_eq!(report.finalized, checkpoint(99));
    assert_eq!(second.perform_periodic_maintenance(Millis(1_000)).unwrap().pruned, None, "pruned before it was time");
}

#[test]
fn after_a_failed_write_nothing_is_signed_sent_or_told() {
    let schedule = schedule(KIND, 4);
    let (mut disk, storage) = disk(&schedule);
    let (mut gadget, sent) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    gadget.set_storage(storage);
    gadget.restore_from_storage(1).unwrap();
    answered(&mut gadget, 1);
    disk.inject(0, DiskFault::SyncFails);
    assert!(matches!(gadget.observe(view(1)), Err(Error::Storage(_))));
    assert_eq!(sent.votes(), 0, "a vote left although its record could not be synced");
    assert!(matches!(gadget.tick(Millis(60_000)), Err(Error::Stopped(_))));
    assert!(matches!(gadget.observe(view(2)), Err(Error::Stopped(_))));
    assert!(gadget.stopped().is_some());
    assert_eq!(sent.votes(), 0);
}

#[test]
fn a_disabled_storage_makes_an_observer() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let (mut gadget, sent) = gadget(&schedule, CheckpointPersistenceConfig { enabled: false, ..CheckpointPersistenceConfig::testnet() });
    gadget.set_storage(storage);
    assert!(matches!(gadget.restore_from_storage(1), Err(Error::NoStorage)));
    answered(&mut gadget, 1);
    gadget.observe(view(1)).unwrap();
    assert_eq!((gadget.health().standing, sent.votes()), (Standing::Observer, 0));
    for certificate in chain(&schedule, KIND, 2, 1..4) {
        gadget.receive(ValidatorId(1), Message::Certificates(vec![certificate])).unwrap();
    }
    assert_eq!(gadget.advance_finality().last().unwrap().checkpoint, checkpoint(1), "an observer does not follow");
}

#[test]
fn an_empty_database_does_not_sign_until_an_operator_declares() {
    let schedule = schedule(KIND, 4);
    let mut disk = MemoryDisk::default();
    let (mut wiped, sent) = gadget(&schedule, CheckpointPersistenceConfig::mainnet());
    wiped.set_storage(disk.open());
    wiped.restore_from_storage(1).unwrap();
    answered(&mut wiped, 1);
    wiped.observe(view(1)).unwrap();
    assert!(matches!(wiped.health().standing, Standing::Refused { .. }));
    assert_eq!(sent.votes(), 0, "a validator without a record signed");
}

#[test]
fn a_signer_with_another_key_is_refused() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let config = Config::new(FinalityRule::Ffg, Some(ValidatorId(0)));
    let stranger = Arc::new(Key::of(KIND, ValidatorId(9)));
    let mut gadget =
        CheckpointFinality::new(config, schedule, CheckpointPersistenceConfig::mainnet(), Arc::new(Sent::default()), Some(stranger));
    assert!(matches!(gadget.restore_from_storage(1), Err(Error::NoStorage)));
    gadget.set_storage(storage);
    assert!(matches!(gadget.restore_from_storage(1), Err(Error::WrongKey(ValidatorId(0)))));
}

#[test]
fn the_presets_are_those_of_the_guide() {
    let (mainnet, testnet) = (CheckpointPersistenceConfig::mainnet(), CheckpointPersistenceConfig::testnet());
    assert_eq!((mainnet.retention_checkpoints, mainnet.flush_interval_secs, mainnet.prune_interval_secs), (1000, 10, 300));
    assert_eq!((testnet.retention_checkpoints, testnet.flush_interval_secs, testnet.prune_interval_secs), (100, 5, 60));
    assert!(mainnet.enabled && testnet.enabled);
}

#[test]
fn a_prune_order_removes_votes_and_keeps_the_sign_state() {
    let schedule = schedule(KIND, 4);
    let (_disk, storage) = disk(&schedule);
    let steps = chain(&schedule, KIND, 5, 1..4);
    for step in &steps {
        storage.store_signatures(&[sign(KIND, 1, &step.vote)]).unwrap();
        let _safe = finality_gadget::persistence::check_and_insert(&*storage, step.vote.clone()).unwrap();
    }
    let order = PruneOrder { below: CheckpointNumber(4), own_votes_below: CheckpointNumber(4), anchor: None };
    storage.prune(&order).unwrap();
    assert_eq!(storage.signatures_after(CheckpointNumber(0), 100).unwrap().len(), 2);
    assert_eq!(storage.own_votes_after(CheckpointNumber(0), 100).unwrap().len(), 2);
    assert_eq!(storage.sign_state().unwrap().unwrap().max_target, CheckpointNumber(5), "a watermark went down with a pruning");
}

/// Collects the field `event` of everything that is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<BTreeSet<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Field(self));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Field<'a>(&'a Lines);

impl tracing::field::Visit for Field<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "event" {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}
}

#[test]
fn the_lines_that_the_guide_promises_are_logged() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let schedule = schedule(KIND, 4);
        let (_disk, storage) = disk(&schedule);
        let persistence = CheckpointPersistenceConfig { retention_checkpoints: 0, ..CheckpointPersistenceConfig::testnet() };
        let (mut gadget, _) = gadget(&schedule, persistence);
        gadget.set_storage(storage);
        gadget.restore_from_storage(1).unwrap();
        answered(&mut gadget, 1);
        gadget.observe(view(4)).unwrap();
        let steps = chain(&schedule, KIND, 4, 1..4);
        for step in &steps[1..] {
            gadget.add_checkpoint_signature(sign(KIND, 1, &step.vote)).unwrap();
        }
        for step in steps {
            gadget.receive(ValidatorId(1), Message::Certificates(vec![step])).unwrap();
        }
        assert_eq!(gadget.create_checkpoint_certificate(CheckpointNumber(3)).unwrap().unwrap().vote.link.target, checkpoint(3));
        assert_eq!(gadget.advance_finality().len(), 3);
        gadget.perform_periodic_maintenance(Millis(100_000)).unwrap();
    });
    let logged = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for line in
        ["storage_attached", "restored", "signing", "stored_signature", "stored_certificate", "finality_advanced", "flushed", "pruned"]
    {
        assert!(logged.contains(line), "the line {line} is not logged: {logged:?}");
    }
}
