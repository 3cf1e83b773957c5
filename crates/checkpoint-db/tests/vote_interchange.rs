//! Signing histories in and out, byte for byte, and what is refused.

mod common;

use checkpoint_db::interchange::{Error, Interchange};
use common::{DOMAIN, adapter, at, memory, open, vote};
use finality_gadget::persistence::{CheckpointStorage, Declaration, NotSafe, Standing, check_and_insert, declare, refuse};
use finality_gadget::{DomainDigest, PublicKey};
use milepost_store::FaultPlan;

const COMPLETE: &str = include_str!("golden/complete.json");
const MINIFIED: &str = include_str!("golden/minified.json");
/// Three keys' histories as another program may write them: foreign fields, a key twice, missing roots, capital digits.
const FOREIGN: &str = include_str!("golden/foreign.json");

fn key() -> PublicKey {
    PublicKey(vec![0xab; 48])
}

fn storage() -> checkpoint_db::CheckpointStorageAdapter {
    adapter(&memory(FaultPlan::none())).unwrap()
}

/// Signed 0→1, 1→2 and 1→4.
fn voted() -> checkpoint_db::CheckpointStorageAdapter {
    let storage = storage();
    declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
    for (source, target) in [(0, 1), (1, 2), (1, 4)] {
        drop(check_and_insert(&storage, vote(source, target, 0)).unwrap());
    }
    storage
}

fn read(json: &str) -> Interchange {
    Interchange::from_json(json.as_bytes()).unwrap()
}

#[test]
fn exports_are_the_golden_files_byte_for_byte() {
    let storage = voted();
    let complete = storage.db().export_complete(DOMAIN, &key()).unwrap().to_json().unwrap();
    assert_eq!(complete, COMPLETE, "{complete}");
    let minified = storage.db().export_minified(DOMAIN, &key()).unwrap().to_json().unwrap();
    assert_eq!(minified, MINIFIED, "{minified}");
}

#[test]
fn an_import_of_either_file_protects_as_the_original_does() {
    for (file, votes) in [(COMPLETE, 3), (MINIFIED, 1)] {
        let storage = storage();
        let imported = storage.db().import(DOMAIN, &key(), &read(file)).unwrap();
        assert_eq!((imported.votes, imported.contradictions.len()), (votes, 0));
        let state = imported.state.unwrap();
        assert_eq!((state.max_source, state.max_target, &state.standing), (at(1), at(4), &Standing::Clear));
        assert!(matches!(check_and_insert(&storage, vote(1, 4, 0)), Err(NotSafe::Target { .. })), "only its digest came along");
        assert!(matches!(check_and_insert(&storage, vote(2, 3, 0)), Err(NotSafe::Target { .. })));
        assert!(matches!(check_and_insert(&storage, vote(0, 5, 0)), Err(NotSafe::Source { .. })), "it would surround 1→4");
        drop(check_and_insert(&storage, vote(1, 5, 0)).unwrap());
    }
}

#[test]
fn merging_takes_the_highest_of_both_and_lowers_nothing() {
    let storage = voted();
    drop(check_and_insert(&storage, vote(4, 9, 0)).unwrap());
    let state = storage.db().import(DOMAIN, &key(), &read(MINIFIED)).unwrap().state.unwrap();
    assert_eq!((state.max_source, state.max_target), (at(4), at(9)));
    let mut later = read(MINIFIED);
    later.data[0].signed_attestations[0].target_epoch = "12".to_owned();
    let state = storage.db().import(DOMAIN, &key(), &later).unwrap().state.unwrap();
    assert_eq!((state.max_source, state.max_target), (at(4), at(12)));
}

#[test]
fn watermarks_above_the_votes_are_exported_too() {
    let storage = voted();
    declare(&storage, DOMAIN, Declaration::OldProcessStopped { mark: at(20) }).unwrap();
    let exported = storage.db().export_complete(DOMAIN, &key()).unwrap();
    let last = exported.data[0].signed_attestations.last().unwrap();
    assert_eq!((last.source_epoch.as_str(), last.target_epoch.as_str(), &last.signing_root), ("20", "20", &None));
    let other = self::storage();
    other.db().import(DOMAIN, &key(), &exported).unwrap();
    assert!(matches!(check_and_insert(&other, vote(19, 25, 0)), Err(NotSafe::Source { .. })));
}

#[test]
fn a_key_that_signed_nothing_exports_an_empty_history_and_an_empty_one_declares_nothing() {
    let storage = storage();
    let exported = storage.db().export_complete(DOMAIN, &key()).unwrap();
    assert_eq!(exported.data[0].signed_attestations, []);
    assert_eq!(storage.db().import(DOMAIN, &key(), &exported).unwrap().state, None);
    assert!(matches!(check_and_insert(&storage, vote(0, 1, 0)), Err(NotSafe::NoRecord)), "an empty file was taken for a declaration");
}

#[test]
fn a_file_of_another_program_is_read_by_its_meaning() {
    let storage = storage();
    let imported = storage.db().import(DOMAIN, &key(), &read(FOREIGN)).unwrap();
    let state = imported.state.unwrap();
    assert_eq!((imported.votes, state.max_source, state.max_target), (4, at(7), at(30)));
    assert_eq!(imported.contradictions, [at(8)], "two roots for one target");
    let other = PublicKey(vec![0xcd; 48]);
    assert_eq!(self::storage().db().import(DOMAIN, &other, &read(FOREIGN)).unwrap().votes, 1);
}

#[test]
fn an_import_ends_no_refusal() {
    let storage = voted();
    refuse(&storage, "a vote of another process was seen").unwrap();
    let state = storage.db().import(DOMAIN, &key(), &read(FOREIGN)).unwrap().state.unwrap();
    assert_eq!(state.max_target, at(30));
    assert!(matches!(state.standing, Standing::Refused(_)));
}

/// Makes one value of a file what it must not be.
type Spoil = fn(&mut Interchange);

#[test]
fn what_the_format_forbids_is_refused_and_changes_nothing() {
    let storage = voted();
    let before = storage.sign_state().unwrap();
    let spoils: [(Spoil, &str); 9] = [
        (|file| file.metadata.interchange_format_version = "4".to_owned(), "format 4"),
        (|file| file.metadata.genesis_validators_root = DomainDigest([1; 32]).to_string(), "signs for"),
        (|file| file.metadata.genesis_validators_root = "0xd0".to_owned(), "32 bytes"),
        (|file| file.data[0].pubkey = "abab".to_owned(), "pubkey"),
        (|file| file.data[0].signed_blocks = vec![serde_json_value()], "blocks"),
        (|file| file.data[0].signed_attestations[0].source_epoch = "-1".to_owned(), "decimal"),
        (|file| file.data[0].signed_attestations[0].target_epoch = "18446744073709551616".to_owned(), "decimal"),
        (|file| file.data[0].signed_attestations[0].source_epoch = "99".to_owned(), "above its target"),
        (|file| file.data[0].signed_attestations[0].signing_root = Some("0x12".to_owned()), "32 bytes"),
    ];
    for (spoil, expected) in spoils {
        let mut file = read(FOREIGN);
        // The first history is this key's.
        spoil(&mut file);
        let error = storage.db().import(DOMAIN, &key(), &file).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(storage.sign_state().unwrap(), before);
    }
    let missing = FOREIGN.replace("\"target_epoch\"", "\"target\"");
    assert!(matches!(Interchange::from_json(missing.as_bytes()), Err(Error::Json(_))));
    assert!(matches!(Interchange::from_json(&FOREIGN.as_bytes()[..FOREIGN.len() / 2]), Err(Error::Json(_))));
}

fn serde_json_value() -> checkpoint_db::interchange::Value {
    checkpoint_db::interchange::Value::String("a block".to_owned())
}

#[test]
fn a_history_of_another_domain_is_neither_written_nor_merged() {
    let storage = voted();
    let other = DomainDigest([1; 32]);
    assert!(storage.db().export_complete(other, &key()).is_err());
    let mut file = read(MINIFIED);
    file.metadata.genesis_validators_root = other.to_string();
    assert!(storage.db().import(other, &key(), &file).is_err(), "the record belongs to the first domain");
}

#[test]
fn an_import_survives_a_power_loss() {
    let engine = memory(FaultPlan::none());
    open(&engine).unwrap().import(DOMAIN, &key(), &read(COMPLETE)).unwrap();
    let db = open(&engine.crash().reopen()).unwrap();
    assert_eq!(db.sign_state().unwrap().unwrap().max_target, at(4));
}

#[test]
fn a_history_goes_only_to_and_from_the_key_whose_record_it_is() {
    let storage = voted();
    storage.bind_key(&key()).unwrap();
    let other = PublicKey(vec![0xcd; 48]);
    assert!(matches!(storage.bind_key(&other), Err(finality_gadget::persistence::Error::AnotherKey)), "a record changed its key");
    let wrong = |error: Error| matches!(error, Error::Database(checkpoint_db::Error::Key { found }) if found == key());
    assert!(wrong(storage.db().export_complete(DOMAIN, &other).unwrap_err()));
    assert!(wrong(storage.db().export_minified(DOMAIN, &other).unwrap_err()));
    let before = storage.sign_state().unwrap();
    assert!(wrong(storage.db().import(DOMAIN, &other, &read(FOREIGN)).unwrap_err()));
    assert_eq!(storage.sign_state().unwrap(), before);

    // A history that was taken in ties the record to its key as well.
    let storage = self::storage();
    storage.db().import(DOMAIN, &key(), &read(MINIFIED)).unwrap();
    assert_eq!(storage.db().bound_key().unwrap(), Some(key()));
    assert!(storage.bind_key(&other).is_err());
}
