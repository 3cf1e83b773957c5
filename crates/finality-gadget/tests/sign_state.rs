//! The table of own votes: what it lets pass, and that nothing else makes a signature.

mod common;

use common::{block, checkpoint, first_vote, schedule, vote};
use finality_gadget::persistence::{Declaration, NotSafe, check_and_insert, declare, refuse};
use finality_gadget::simulator::{Disk, DiskFault, MemoryDisk, Rng, SchemeKind};
use finality_gadget::{CheckpointNumber, CheckpointStorage, Domain, LinkDigest, Schedule, TrustedCheckpoint, Vote};
use std::sync::Arc;

fn fresh() -> (MemoryDisk, Arc<dyn CheckpointStorage>, Schedule) {
    let schedule = schedule(SchemeKind::Test, 4);
    let mut disk = MemoryDisk::default();
    let storage = disk.open();
    declare(&*storage, schedule.domain_digest(), Declaration::NeverSigned).unwrap();
    (disk, storage, schedule)
}

fn link(schedule: &Schedule, source: u64, target: u64) -> Vote {
    vote(schedule, checkpoint(source), checkpoint(target), LinkDigest([1; 32]))
}

#[test]
fn what_was_signed_may_be_signed_again_byte_for_byte_and_nothing_else_for_that_target() {
    let (_, storage, schedule) = fresh();
    let one = first_vote(&schedule, checkpoint(1));
    assert_eq!(check_and_insert(&*storage, one.clone()).unwrap().vote(), &one);
    assert_eq!(check_and_insert(&*storage, one).unwrap().signed_bytes(), first_vote(&schedule, checkpoint(1)).signed_bytes());
    let other = first_vote(&schedule, block(1, 9));
    assert!(matches!(check_and_insert(&*storage, other), Err(NotSafe::SameTarget(CheckpointNumber(1)))));
}

#[test]
fn a_target_must_lie_above_all_targets_ever_signed() {
    let (_, storage, schedule) = fresh();
    let _safe = check_and_insert(&*storage, link(&schedule, 0, 5)).unwrap();
    for target in 1..5 {
        let refused = check_and_insert(&*storage, link(&schedule, 0, target));
        assert!(
            matches!(refused, Err(NotSafe::Target { max_target: CheckpointNumber(5), .. })),
            "a target below an earlier one was let pass"
        );
    }
    let _safe = check_and_insert(&*storage, link(&schedule, 0, 6)).unwrap();
}

#[test]
fn a_source_must_not_lie_below_any_source_ever_signed() {
    let (_, storage, schedule) = fresh();
    let _safe = check_and_insert(&*storage, link(&schedule, 3, 4)).unwrap();
    let refused = check_and_insert(&*storage, link(&schedule, 2, 5));
    assert!(
        matches!(refused, Err(NotSafe::Source { max_source: CheckpointNumber(3), .. })),
        "a vote that surrounds an earlier one was let pass"
    );
    let _safe = check_and_insert(&*storage, link(&schedule, 3, 5)).unwrap();
}

#[test]
fn a_refused_vote_leaves_no_trace() {
    let (_, storage, schedule) = fresh();
    let _safe = check_and_insert(&*storage, link(&schedule, 3, 4)).unwrap();
    let before = storage.sign_state().unwrap();
    assert!(check_and_insert(&*storage, link(&schedule, 2, 9)).is_err());
    assert_eq!(storage.sign_state().unwrap(), before);
    assert_eq!(storage.own_votes_after(CheckpointNumber(0), 10).unwrap().len(), 1);
}

#[test]
fn without_a_record_nothing_is_signed() {
    let schedule = schedule(SchemeKind::Test, 4);
    let storage = MemoryDisk::default().open();
    assert!(matches!(check_and_insert(&*storage, link(&schedule, 0, 1)), Err(NotSafe::NoRecord)));
}

#[test]
fn a_record_of_another_chain_is_not_used() {
    let (_, storage, schedule) = fresh();
    let domain = Domain { trusted: TrustedCheckpoint { checkpoint: checkpoint(7), ..schedule.domain().trusted }, ..*schedule.domain() };
    let foreign = Vote { domain: domain.digest(), ..link(&schedule, 0, 1) };
    assert!(matches!(check_and_insert(&*storage, foreign), Err(NotSafe::Domain(_))));
    assert!(matches!(
        declare(&*storage, domain.digest(), Declaration::OldProcessStopped { mark: CheckpointNumber(9) }),
        Err(NotSafe::Domain(_))
    ));
}

#[test]
fn a_refused_key_signs_again_only_above_the_declared_mark() {
    let (_, storage, schedule) = fresh();
    let _safe = check_and_insert(&*storage, link(&schedule, 3, 4)).unwrap();
    refuse(&*storage, "seen elsewhere").unwrap();
    assert!(matches!(check_and_insert(&*storage, link(&schedule, 3, 4)), Err(NotSafe::Refused(_))));
    assert!(declare(&*storage, schedule.domain_digest(), Declaration::NeverSigned).is_err(), "a key with a record was declared new");
    declare(&*storage, schedule.domain_digest(), Declaration::OldProcessStopped { mark: CheckpointNumber(10) }).unwrap();
    assert!(check_and_insert(&*storage, link(&schedule, 9, 11)).is_err(), "a source below the mark");
    assert!(check_and_insert(&*storage, link(&schedule, 3, 10)).is_err(), "a target at the mark");
    let _safe = check_and_insert(&*storage, link(&schedule, 10, 11)).unwrap();
}

#[test]
fn a_declaration_never_lowers_a_mark() {
    let (_, storage, schedule) = fresh();
    let _safe = check_and_insert(&*storage, link(&schedule, 30, 40)).unwrap();
    let state = declare(&*storage, schedule.domain_digest(), Declaration::OldProcessStopped { mark: CheckpointNumber(35) }).unwrap();
    assert_eq!((state.max_source, state.max_target), (CheckpointNumber(35), CheckpointNumber(40)));
}

#[test]
fn a_vote_whose_record_may_not_be_on_the_disk_is_not_safe() {
    for fault in [DiskFault::Full, DiskFault::SyncFails, DiskFault::DiesAfterWrite] {
        let (mut disk, storage, schedule) = fresh();
        disk.inject(0, fault);
        let outcome = check_and_insert(&*storage, link(&schedule, 0, 1));
        assert!(matches!(outcome, Err(NotSafe::Storage(_))), "a vote was called safe after {fault:?}");
        assert!(
            matches!(check_and_insert(&*storage, link(&schedule, 0, 2)), Err(NotSafe::Storage(_))),
            "a storage went on after {fault:?}"
        );
    }
}

#[test]
fn a_safe_vote_survives_any_loss_of_power() {
    for seed in 0..200 {
        let (mut disk, storage, schedule) = fresh();
        let safe = check_and_insert(&*storage, link(&schedule, 0, 1)).unwrap();
        disk.power_loss(&mut Rng::new(seed));
        assert!(disk.survives(safe.vote()), "a safe vote was lost with the power");
        assert!(check_and_insert(&*disk.open(), link(&schedule, 0, 1)).is_ok());
    }
}

#[test]
fn a_process_whose_disk_was_opened_by_another_writes_nothing() {
    let (mut disk, old, schedule) = fresh();
    let _new = disk.open();
    assert!(matches!(check_and_insert(&*old, link(&schedule, 0, 1)), Err(NotSafe::Storage(_))));
}
