//! Database and witness compared: what each disagreement means, and that none of them lets a validator forget what it signed.

mod common;

use std::sync::{Arc, Mutex};

use checkpoint_db::witness::{Reading, Testimonial, Witness};
use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, Error, FileWitness, TABLES};
use common::{DOMAIN, at, finalized, vote};
use finality_gadget::persistence::{CheckpointStorage, Declaration, NotSafe, Standing, check_and_insert, declare};
use milepost_store::{Memory, Storage};

/// A witness apart from its engine, to be lost, set back or exchanged by itself.
#[derive(Clone, Default)]
struct Apart(Arc<Mutex<Option<Testimonial>>>);

impl Apart {
    fn content(&self) -> Option<Testimonial> {
        self.0.lock().unwrap().clone()
    }

    fn set(&self, content: Option<Testimonial>) {
        *self.0.lock().unwrap() = content;
    }
}

impl Witness for Apart {
    fn read(&self) -> Result<Reading, Error> {
        Ok(self.content().map_or(Reading::Absent, |found| Reading::Found(Box::new(found))))
    }

    fn write(&self, testimonial: &Testimonial) -> Result<(), Error> {
        self.set(Some(testimonial.clone()));
        Ok(())
    }
}

fn open(engine: &Memory, witness: &Apart) -> Result<CheckpointStorageAdapter, Error> {
    let db = CheckpointDB::over(Arc::new(engine.clone()), Box::new(witness.clone()))?;
    Ok(CheckpointStorageAdapter::new(Arc::new(db)))
}

/// A database that has signed for targets 1 to 3.
fn signed() -> (Memory, Apart) {
    let (engine, witness) = (Memory::new(&TABLES), Apart::default());
    let storage = open(&engine, &witness).unwrap();
    declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
    for target in 1..=3 {
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
        storage.store_signatures(&[common::signed(2, vote(target - 1, target, 0))]).unwrap();
    }
    (engine, witness)
}

fn signs(storage: &CheckpointStorageAdapter, target: u64) -> bool {
    check_and_insert(storage, vote(target - 1, target, 1)).is_ok()
}

fn refuses_until_declared(storage: &CheckpointStorageAdapter) {
    assert!(!signs(storage, 4), "a doubtful sign-state signed");
    assert!(declare(storage, DOMAIN, Declaration::NeverSigned).is_err(), "a lost record was taken for a new key");
    declare(storage, DOMAIN, Declaration::OldProcessStopped { mark: at(9) }).unwrap();
    assert!(!signs(storage, 9), "the mark itself may have been signed");
    assert!(signs(storage, 10));
}

#[test]
fn restarts_without_any_fault_raise_no_doubt() {
    let (engine, witness) = signed();
    for target in 4..9 {
        let storage = open(&engine, &witness).unwrap();
        if target % 2 == 0 {
            storage.db().set_last_finalized(&finalized(target)).unwrap();
            storage.flush().unwrap();
        }
        assert_eq!(storage.sign_state().unwrap().unwrap().standing, Standing::Clear, "a restart was taken for a lost record");
        assert!(signs(&storage, target));
    }
}

#[test]
fn a_decision_that_only_the_witness_has_is_taken_over() {
    let (engine, witness) = signed();
    let before = engine.peek().reopen();
    let storage = open(&engine, &witness).unwrap();
    drop(check_and_insert(&storage, vote(3, 4, 0)).unwrap());
    // The process ended after the witness was written, before the database was.
    let storage = open(&before, &witness).unwrap();
    assert_eq!(storage.db().own_vote(at(4)).unwrap(), Some(vote(3, 4, 0)), "a decision of the witness was forgotten");
    assert!(!signs(&storage, 4), "the other branch was signed for the same target");
    drop(check_and_insert(&storage, vote(3, 4, 0)).expect("what was decided may be signed"));
    assert!(signs(&open(&before, &witness).unwrap(), 5));
}

#[test]
fn an_old_copy_of_the_database_is_refused_as_damaged() {
    let (engine, witness) = signed();
    let old = engine.peek().reopen();
    let storage = open(&engine, &witness).unwrap();
    for target in 4..=6 {
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
    }
    let refused = open(&old, &witness).unwrap_err();
    assert!(matches!(&refused, Error::Damaged { reason } if reason.contains("old copy")), "{refused}");
    let refused = open(&Memory::new(&TABLES), &witness).unwrap_err();
    assert!(matches!(&refused, Error::Damaged { reason } if reason.contains("empty")), "{refused}");
}

#[test]
fn without_its_witness_a_database_does_not_sign() {
    let (engine, witness) = signed();
    witness.set(None);
    refuses_until_declared(&open(&engine, &witness).unwrap());
}

#[test]
fn with_an_old_witness_a_database_does_not_sign() {
    let (engine, witness) = signed();
    let old = witness.content();
    let storage = open(&engine, &witness).unwrap();
    for target in 4..=6 {
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
    }
    witness.set(old);
    let storage = open(&engine, &witness).unwrap();
    assert!(!signs(&storage, 7), "a doubtful sign-state signed");
    assert_eq!(storage.sign_state().unwrap().unwrap().max_target, at(6), "what the database knows better stays");
}

#[test]
fn with_the_witness_of_another_database_it_does_not_sign() {
    let ((engine, witness), (_, other)) = (signed(), signed());
    witness.set(other.content());
    refuses_until_declared(&open(&engine, &witness).unwrap());
}

#[test]
fn doubt_survives_restarts_and_ends_with_a_declaration_only() {
    let (engine, witness) = signed();
    witness.set(None);
    for _ in 0..3 {
        let storage = open(&engine, &witness).unwrap();
        assert!(matches!(check_and_insert(&storage, vote(3, 4, 0)), Err(NotSafe::Refused(_))), "a restart cleared a doubt");
    }
    refuses_until_declared(&open(&engine, &witness).unwrap());
    assert!(signs(&open(&engine, &witness).unwrap(), 11), "and then it is over");
}

#[test]
fn a_database_that_lost_its_sign_state_row_is_damaged_not_new() {
    let (engine, witness) = signed();
    let mut batch = milepost_store::Batch::new();
    batch.delete(milepost_store::Table::new("state"), [5]);
    engine.write(batch, milepost_store::Durability::Synced).unwrap();
    assert!(matches!(open(&engine, &witness), Err(Error::Damaged { .. })));
}

#[test]
fn a_file_witness_survives_a_torn_write_and_tells_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("finality");
    let testimonial = |synced| Testimonial { identity: [3; 16], synced, serial: 1, state: None, vote: Some(vote(1, 2, 0)) };
    let read = || FileWitness::beside(&path).read().unwrap();
    assert_eq!(read(), Reading::Absent);
    let witness = FileWitness::beside(&path);
    for synced in 1..=5 {
        witness.write(&testimonial(synced)).unwrap();
        assert_eq!(read(), Reading::Found(Box::new(testimonial(synced))));
    }
    let whole = std::fs::read(witness.path()).unwrap();
    // Generation 4 lies in the first slot, 3 in the second. A torn write of the next one ruins the second.
    let record = 1 + 8 + 16 + 8 + 8 + 4 + 4 + vote(1, 2, 0).encode().len() + 4;
    for at in (0..record).step_by(3) {
        let mut torn = whole.clone();
        torn[4096 + at] ^= 0x40;
        std::fs::write(witness.path(), &torn).unwrap();
        assert_eq!(read(), Reading::Found(Box::new(testimonial(5))));
        torn[at] ^= 0x40;
        std::fs::write(witness.path(), &torn).unwrap();
        assert!(matches!(read(), Reading::Unreadable { .. }), "byte {at}");
        std::fs::write(witness.path(), &whole[..at]).unwrap();
        assert!(matches!(read(), Reading::Unreadable { .. }), "cut at {at}");
    }
    std::fs::write(witness.path(), &whole).unwrap();
    let again = FileWitness::beside(&path);
    again.read().unwrap();
    again.write(&testimonial(6)).unwrap();
    assert_eq!(read(), Reading::Found(Box::new(testimonial(6))), "a reopened witness goes on where it was");
}
