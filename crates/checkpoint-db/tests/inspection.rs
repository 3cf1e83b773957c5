//! A look at a database: it finds what a start would find, refuses to write, and leaves everything as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, Error};
use finality_gadget::DomainDigest;
use finality_gadget::persistence::{Declaration, declare};

const DOMAIN: DomainDigest = DomainDigest([3; 32]);

/// A database whose key was declared new, closed again.
fn declared(path: &Path) {
    let storage = CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(path).unwrap()));
    declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
    storage.db().settle().unwrap();
}

/// Every file but RocksDB's own diary, with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else if !name.starts_with("LOG") {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_look_finds_what_is_there_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("finality");
    declared(&path);
    let before = files(folder.path());
    let inspection = CheckpointDB::inspect(&path).unwrap();
    assert_eq!(inspection.doubt, None);
    assert_eq!(inspection.db.sign_state().unwrap().unwrap().domain, DOMAIN);
    assert!(inspection.db.check().unwrap() > 0);
    let written = inspection.db.flush();
    assert!(matches!(written, Err(Error::Stopped { .. })), "{written:?}");
    let storage = CheckpointStorageAdapter::new(Arc::new(inspection.db));
    assert!(declare(&storage, DOMAIN, Declaration::OldProcessStopped { mark: finality_gadget::CheckpointNumber(9) }).is_err());
    drop(storage);
    assert!(files(folder.path()) == before, "a file was changed, made or removed");
}

#[test]
fn a_look_tells_doubt_and_damage_and_settles_neither() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("finality");
    let witness = folder.path().join("finality.witness");
    declared(&path);
    let kept = fs::read(&witness).unwrap();

    fs::remove_file(&witness).unwrap();
    for _ in 0..2 {
        let doubt = CheckpointDB::inspect(&path).unwrap().doubt;
        assert!(doubt.as_ref().is_some_and(|doubt| doubt.contains("missing")), "{doubt:?}");
    }
    assert!(!witness.exists(), "a look makes no witness");
    fs::write(&witness, kept).unwrap();
    assert_eq!(CheckpointDB::inspect(&path).unwrap().doubt, None, "and records no doubt");

    fs::remove_file(path.join("CURRENT")).unwrap();
    let before = files(folder.path());
    let damage = CheckpointDB::inspect(&path).unwrap_err();
    assert!(damage.is_damage() && damage.to_string().contains("CURRENT"), "{damage}");
    let nothing = CheckpointDB::inspect(folder.path().join("nowhere")).unwrap_err();
    assert!(nothing.is_damage(), "{nothing}");
    assert!(files(folder.path()) == before, "nothing was set aside, rebuilt or made");
}
