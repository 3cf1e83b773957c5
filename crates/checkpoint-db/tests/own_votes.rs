//! The slashing protection under loss of power: at every write, of every kind, whatever survives.

mod common;

use common::{DOMAIN, adapter, memory, vote};
use finality_gadget::persistence::{CheckpointStorage, Declaration, NotSafe, Standing, check_and_insert, declare};
use finality_gadget::{CheckpointNumber, PublicKey, Vote};
use milepost_store::{Fault, FaultPlan, Moment, Survival};

/// Votes that each run tries to cast; one of them leaves a gap, one keeps its source.
const VOTES: [(u64, u64); 6] = [(0, 1), (1, 2), (2, 3), (2, 4), (4, 7), (7, 8)];

const FAULTS: [Fault; 6] = [
    Fault::PowerLoss(Moment::Before),
    Fault::PowerLoss(Moment::During),
    Fault::PowerLoss(Moment::After),
    Fault::ShortWrite,
    Fault::NoSpace,
    Fault::SyncError,
];

/// Casts votes on one branch until something fails; what is answered has left the machine.
fn cast(storage: &dyn CheckpointStorage, branch: u8) -> Vec<Vote> {
    let mut left = Vec::new();
    for (source, target) in VOTES {
        // Votes of others come in between, buffered.
        if storage.store_signatures(&[common::signed(9, vote(source, target, 0))]).is_err() {
            break;
        }
        match check_and_insert(storage, vote(source, target, branch)) {
            Ok(safe) => left.push(safe.vote().clone()),
            Err(NotSafe::Storage(_)) => break,
            Err(_) => {}
        }
        // And certificates, synced.
        if storage.store_certificate(&common::certificate(vote(source, target, branch)), None).is_err() {
            break;
        }
    }
    left
}

#[test]
fn no_vote_leaves_before_it_is_on_the_disk_whichever_write_fails_and_however() {
    let fault_free = {
        let engine = memory(FaultPlan::none());
        let storage = adapter(&engine).unwrap();
        declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
        assert_eq!(cast(&storage, 0).len(), VOTES.len());
        engine.operations()
    };
    let (mut runs, mut interrupted) = (0, 0);
    for operation in 0..fault_free {
        for fault in FAULTS {
            for (survival, seeds) in [(Survival::Nothing, 1), (Survival::Everything, 1), (Survival::Prefix, 4), (Survival::Subset, 4)] {
                for seed in 0..seeds {
                    runs += 1;
                    let engine = memory(FaultPlan::none().at(operation, fault).surviving(survival, seed));
                    let left = match adapter(&engine) {
                        Ok(storage) if declare(&storage, DOMAIN, Declaration::NeverSigned).is_ok() => cast(&storage, 0),
                        _ => Vec::new(),
                    };
                    interrupted += u64::from(left.len() < VOTES.len());
                    check_restart(&engine.crash().reopen(), &left, &format!("operation {operation}, {fault:?}, {survival:?}, seed {seed}"));
                }
            }
        }
    }
    println!("{runs} runs, {interrupted} interrupted before the last vote");
    assert!(interrupted * 2 > runs, "hardly any fault interrupted anything");
}

/// After the restart nothing that left may be contradicted, and what left can be sent again.
fn check_restart(engine: &milepost_store::Memory, left: &[Vote], run: &str) {
    let storage = adapter(engine).unwrap_or_else(|error| panic!("a power loss is no damage: {error} ({run})"));
    let recorded = storage.own_votes_after(CheckpointNumber(0), 100).unwrap();
    for vote in left {
        assert!(recorded.contains(vote), "a vote left that was not on the disk: {} ({run})", vote.link.target.number);
    }
    let doubt = storage.sign_state().unwrap().is_some_and(|state| state.standing != Standing::Clear);
    assert!(!doubt, "a power loss was taken for a lost record ({run})");
    // The other branch: every vote it gets is judged against what left before.
    if storage.sign_state().unwrap().is_none() {
        assert!(left.is_empty(), "votes left and no sign-state was kept ({run})");
        declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap_or_else(|error| panic!("a new key cannot start: {error} ({run})"));
    }
    let again: Vec<Vote> =
        left.iter().filter_map(|vote| check_and_insert(&storage, vote.clone()).ok()).map(|safe| safe.vote().clone()).collect();
    assert_eq!(again, left, "what left can be sent again, byte for byte ({run})");
    for after in cast(&storage, 1) {
        for before in left {
            assert!(
                before.conflict(&after).is_none(),
                "a restart made the validator contradict itself at {} ({run})",
                after.link.target.number
            );
        }
    }
}

#[test]
fn after_a_failed_write_nothing_is_signed_even_when_the_disk_recovers() {
    for fault in [Fault::ShortWrite, Fault::NoSpace, Fault::SyncError] {
        for ahead in 0..2 {
            let engine = memory(FaultPlan::none());
            let storage = adapter(&engine).unwrap();
            declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
            drop(check_and_insert(&storage, vote(0, 1, 0)).unwrap());
            engine.replan(FaultPlan::none().at(engine.operations() + ahead, fault));
            assert!(matches!(check_and_insert(&storage, vote(1, 2, 0)), Err(NotSafe::Storage(_))));
            for _ in 0..2 {
                assert!(matches!(check_and_insert(&storage, vote(1, 3, 0)), Err(NotSafe::Storage(_))), "signed after a failed {fault:?}");
                assert!(storage.flush().is_err() && storage.store_signatures(&[common::signed(1, vote(0, 1, 0))]).is_err());
            }
        }
    }
}

#[test]
fn a_watermark_never_falls_whoever_asks() {
    let engine = memory(FaultPlan::none());
    let storage = adapter(&engine).unwrap();
    declare(&storage, DOMAIN, Declaration::OldProcessStopped { mark: CheckpointNumber(10) }).unwrap();
    let mut decisions = 0;
    for (source, target) in [(9, 11), (10, 9), (0, 0)] {
        let lowered = storage.update_sign_state(CheckpointNumber(0), &mut |rows| {
            decisions += 1;
            let mut state = rows.state.unwrap();
            (state.max_source, state.max_target) = (CheckpointNumber(source), CheckpointNumber(target));
            Some(finality_gadget::persistence::SignUpdate { state, vote: None })
        });
        assert!(lowered.is_err(), "a watermark fell to {source}, {target}");
    }
    assert_eq!(decisions, 3);
    let state = storage.sign_state().unwrap().unwrap();
    assert_eq!((state.max_source.0, state.max_target.0), (10, 10));
    drop(check_and_insert(&storage, vote(10, 11, 0)).expect("and a refused change does not stop the database"));
}

#[test]
fn a_record_stays_its_keys_through_a_loss_of_power() {
    let engine = memory(FaultPlan::none());
    let storage = adapter(&engine).unwrap();
    let (key, other) = (PublicKey(vec![1; 96]), PublicKey(vec![2; 96]));
    storage.bind_key(&key).unwrap();
    storage.bind_key(&key).unwrap();
    let engine = engine.crash().reopen();
    let storage = adapter(&engine).unwrap();
    storage.bind_key(&key).unwrap();
    assert!(matches!(storage.bind_key(&other), Err(finality_gadget::persistence::Error::AnotherKey)), "a record changed its key");
}
