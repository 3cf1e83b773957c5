//! Every file of a real database flipped, cut and exchanged in turn: found out, set aside, rebuilt; and never a vote that contradicts one
//! that left.
#![cfg(feature = "rocksdb-any")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter, Error, SignRecovery};
use common::{DOMAIN, Random, at, boundary, certificate, evidence, finalized, signed, vote};
use finality_gadget::persistence::{CheckpointStorage, Declaration, PruneOrder, check_and_insert, declare};
use finality_gadget::{Certificate, Evidence, Finalized, PublicKey, SignedVote, Vote};
use milepost_store::{Batch, Durability, Order, Range, Rocks, Storage as _, entries};

const LAST: u64 = 24;

/// Whose record it is.
fn key() -> PublicKey {
    PublicKey(vec![0xab; 96])
}

fn open(path: &Path) -> CheckpointStorageAdapter {
    CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(path).unwrap()))
}

/// Checkpoints 1 to 24: a part in table files, a part in the log; pruned once; with a boundary and with evidence. The process ends without
/// settling, as a killed one does.
fn build(path: &Path) {
    let storage = open(path);
    storage.bind_key(&key()).unwrap();
    declare(&storage, DOMAIN, Declaration::NeverSigned).unwrap();
    for target in 1..=LAST {
        let votes: Vec<_> = (0..5).map(|validator| signed(validator, vote(target - 1, target, 0))).collect();
        storage.store_signatures(&votes).unwrap();
        let certificate = if target == 7 { boundary(6, 7) } else { certificate(vote(target - 1, target, 0)) };
        storage.store_certificate(&certificate, Some(&finalized(target))).unwrap();
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
        match target {
            8 => storage.db().settle().unwrap(),
            12 => {
                storage.store_evidence(&evidence(3, 11)).unwrap();
                storage.prune(&PruneOrder { below: at(4), own_votes_below: at(4), anchor: None }).unwrap();
            }
            _ => {}
        }
    }
    storage.flush().unwrap();
}

/// What was synced, and the votes of others.
#[derive(Debug, PartialEq)]
struct Content {
    certificates: Vec<Certificate>,
    own: Vec<Vote>,
    evidence: Vec<Evidence>,
    finalized: Option<Finalized>,
    signatures: Vec<SignedVote>,
    key: Option<PublicKey>,
}

fn content(storage: &CheckpointStorageAdapter) -> Content {
    Content {
        certificates: storage.certificates_after(at(0), 1000).unwrap(),
        own: storage.own_votes_after(at(0), 1000).unwrap(),
        evidence: storage.evidence_after(None, 1000).unwrap(),
        finalized: storage.last_finalized().unwrap(),
        signatures: storage.signatures_after(at(0), 10_000).unwrap(),
        key: storage.db().bound_key().unwrap(),
    }
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().flatten().filter(|entry| entry.metadata().unwrap().is_file());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// The database's files and, under its own name, the witness beside it.
struct Image {
    files: BTreeMap<String, Vec<u8>>,
    witness: Vec<u8>,
}

const WITNESS: &str = "(witness)";

impl Image {
    fn take(path: &Path) -> Self {
        Self { files: files(path), witness: fs::read(witness(path)).unwrap() }
    }

    fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).filter(|name| *name != "LOCK").chain([WITNESS]).collect()
    }

    fn get(&self, name: &str) -> &[u8] {
        if name == WITNESS { &self.witness } else { &self.files[name] }
    }

    /// Lays the image out afresh, with some files replaced.
    fn lay_out(&self, path: &Path, replaced: &[(&str, Vec<u8>)]) {
        fs::create_dir_all(path).unwrap();
        for name in self.names() {
            let bytes = replaced.iter().find(|(other, _)| *other == name).map_or(self.get(name), |(_, bytes)| bytes);
            let place = if name == WITNESS { witness(path) } else { path.join(name) };
            fs::write(place, bytes).unwrap();
        }
    }
}

fn witness(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.witness", path.file_name().unwrap().to_str().unwrap()))
}

/// What every opening must uphold, whatever was done to the files.
fn judge(path: &Path, before: &BTreeMap<String, Vec<u8>>, expected: &Content, what: &str) -> &'static str {
    let open = || CheckpointDB::new(path).unwrap_or_else(|error| panic!("{what}: neither opened nor recovered: {error}"));
    let mut db = open();
    // Damage that shows later finds logs that were replayed in good order, and are gone.
    let at_once = db.recovery().is_some();
    if let Err(found) = db.check() {
        // Votes of others are looked at behind the start; what is found is dealt with at the next one.
        assert!(db.recovery().is_none(), "{what}: a rebuilt database is damaged: {found}");
        drop(db);
        db = open();
        assert!(db.recovery().is_some(), "{what}: what the last process met was forgotten: {found}");
        db.check().unwrap_or_else(|error| panic!("{what}: a rebuilt database is damaged: {error}"));
    }
    let recovery = db.recovery().cloned();
    let storage = CheckpointStorageAdapter::new(Arc::new(db));
    let found = content(&storage);
    let state = storage.sign_state().unwrap();

    // Never a slashable vote: whatever was lost, nothing that left is contradicted.
    for target in 1..=LAST {
        assert!(check_and_insert(&storage, vote(target - 1, target, 1)).is_err(), "{what}: another vote for {target} was signed");
    }
    assert!(check_and_insert(&storage, vote(LAST - 3, LAST + 5, 1)).is_err(), "{what}: a vote that surrounds the last one was signed");
    assert!(declare(&storage, DOMAIN, Declaration::NeverSigned).is_err(), "{what}: a lost record was taken for a new key");
    if let Some(state) = &state {
        let marks = state.max_target == at(LAST) || !matches!(state.standing, finality_gadget::persistence::Standing::Clear);
        assert!(marks, "{what}: the watermark fell to {} and the key may sign", state.max_target);
    }
    // What is there is what was written at some time: a lost pruning may have brought something back.
    let written = |target: u64| if target == 7 { boundary(6, 7) } else { certificate(vote(target - 1, target, 0)) };
    let known = |vote: &Vote| {
        (1..=LAST).contains(&vote.link.target.number.0) && *vote == self::vote(vote.link.source.number.0, vote.link.target.number.0, 0)
    };
    assert!(found.certificates.iter().all(|one| *one == written(one.vote.link.target.number.0)), "{what}: an unknown certificate");
    assert!(found.own.iter().all(known), "{what}: an unknown own vote");
    assert!(
        found.signatures.iter().all(|one| known(&one.vote) && *one == signed(one.validator.0, one.vote.clone())),
        "{what}: an unknown vote"
    );
    let earlier = |one: Finalized| one.by <= at(LAST) && one == finalized(one.by.0);
    assert!(found.finalized.is_none_or(earlier), "{what}: another finality");

    assert!(found.key.as_ref().is_none_or(|found| *found == key()), "{what}: the record became another key's");
    let verdict = match &recovery {
        Some(recovery) => {
            let named = [".sst", ".log", "MANIFEST", "CURRENT", "table `", "witness"].iter().any(|name| recovery.reason.contains(name));
            assert!(named, "{what}: what is damaged is not named: {}", recovery.reason);
            let aside = recovery.aside.as_ref().unwrap_or_else(|| panic!("{what}: nothing was set aside"));
            let kept: BTreeSet<Vec<u8>> = files(aside)
                .into_values()
                .chain(
                    if aside.join("before-opening").exists() { files(&aside.join("before-opening")) } else { BTreeMap::new() }
                        .into_values(),
                )
                .collect();
            for (name, bytes) in before.iter().filter(|(name, bytes)| at_once && !name.starts_with("LO") && !bytes.is_empty()) {
                assert!(kept.contains(bytes), "{what}: {name} was not kept with the damaged database");
            }
            if recovery.sign_state == SignRecovery::Kept {
                assert!(check_and_insert(&storage, vote(LAST, LAST + 1, 0)).is_ok(), "{what}: a kept sign-state does not sign");
            }
            "recovered"
        }
        None if state.as_ref().is_some_and(|state| state.standing != finality_gadget::persistence::Standing::Clear) => {
            // A lost witness is noticed by itself; whether a log was lost with it only a witness could tell.
            assert!(found == *expected || what.contains("exchanged"), "{what}: something is missing and nothing was noticed");
            "refuses"
        }
        None => {
            assert!(found == *expected, "{what}: something is missing and nothing was noticed");
            "harmless"
        }
    };
    drop(storage);
    let again = CheckpointDB::new(path).unwrap_or_else(|error| panic!("{what}: the recovered database does not open again: {error}"));
    assert!(again.recovery().is_none(), "{what}: recovered twice");
    verdict
}

/// File names without their numbers.
fn kind(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>().trim_matches('-').to_owned()
}

struct Tally(BTreeMap<(String, &'static str), BTreeMap<&'static str, u32>>);

impl Tally {
    fn count(&mut self, name: &str, deed: &'static str, verdict: &'static str) {
        *self.0.entry((kind(name), deed)).or_default().entry(verdict).or_default() += 1;
    }

    fn print(&self) {
        for ((kind, deed), verdicts) in &self.0 {
            println!("figure {deed:9} {kind:12} {verdicts:?}");
        }
    }

    fn of(&self, kind: &str, deed: &str, verdict: &str) -> u32 {
        self.0.iter().filter(|((k, d), _)| k == kind && *d == deed).map(|(_, verdicts)| verdicts.get(verdict).copied().unwrap_or(0)).sum()
    }
}

/// Hundreds of databases are made and opened here, and none is to survive a loss of power: in memory, where there is such a place, a sync
/// costs nothing.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn prepared() -> (tempfile::TempDir, Image, Content) {
    let dir = scratch();
    let path = dir.path().join("original");
    build(&path);
    let image = Image::take(&path);
    // What a restart without any damage finds.
    let copy = dir.path().join("untouched");
    image.lay_out(&copy, &[]);
    let storage = open(&copy);
    assert!(storage.db().recovery().is_none());
    let expected = content(&storage);
    assert_eq!((expected.certificates.len(), expected.own.len(), expected.evidence.len()), (21, 21, 1));
    assert_eq!(expected.finalized, Some(finalized(LAST)));
    (dir, image, expected)
}

fn attempt(dir: &Path, number: usize, image: &Image, expected: &Content, replaced: &[(&str, Vec<u8>)], what: &str) -> &'static str {
    let place = dir.join(format!("case-{number}"));
    fs::create_dir(&place).unwrap();
    let path = place.join("finality");
    image.lay_out(&path, replaced);
    let before = files(&path);
    let verdict = judge(&path, &before, expected, what);
    fs::remove_dir_all(&place).unwrap();
    verdict
}

#[test]
fn every_file_flipped_or_cut_is_found_out_set_aside_and_rebuilt() {
    let (dir, image, expected) = prepared();
    let (mut tally, mut random, mut number) = (Tally(BTreeMap::new()), Random(20), 0);
    for name in image.names() {
        let whole = image.get(name);
        let mut offsets: BTreeSet<usize> = [0, whole.len().saturating_sub(1)].into();
        offsets.extend((0..4).map(|_| random.below(whole.len())));
        for offset in offsets.into_iter().filter(|offset| *offset < whole.len()) {
            let mut bytes = whole.to_vec();
            bytes[offset] ^= 1 << random.below(8);
            number += 1;
            let what = format!("{name} flipped at {offset} of {}", whole.len());
            tally.count(name, "flipped", attempt(dir.path(), number, &image, &expected, &[(name, bytes)], &what));
        }
        for length in [0, whole.len() / 2, whole.len().saturating_sub(1)] {
            if length < whole.len() {
                number += 1;
                let what = format!("{name} cut to {length} of {}", whole.len());
                tally.count(name, "cut", attempt(dir.path(), number, &image, &expected, &[(name, whole[..length].to_vec())], &what));
            }
        }
    }
    println!("figure {number} cases of a file flipped or cut");
    tally.print();
    for (name, deed) in [(".sst", "flipped"), (".sst", "cut"), ("MANIFEST", "cut"), ("CURRENT", "cut"), (".log", "cut"), (WITNESS, "cut")] {
        assert!(tally.of(name, deed, "recovered") + tally.of(name, deed, "refuses") > 0, "no {name} that was {deed} was noticed");
    }
}

/// Where the records of a manifest end: it is cut where a write of it was lost. A record has a checksum of 4 bytes, a length of 2 and a
/// kind of 1 before it, and ends with its block.
fn records_of(manifest: &[u8]) -> Vec<usize> {
    const BLOCK: usize = 32 << 10;
    assert!(manifest.len() < BLOCK, "records would be split");
    let (mut at, mut ends) = (0, vec![0]);
    while let Some(length) = manifest.get(at + 4..at + 6) {
        at += 7 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        ends.push(at);
    }
    assert_eq!(at, manifest.len(), "the manifest is not made of records");
    ends
}

#[test]
fn a_manifest_that_names_the_tables_of_an_earlier_time_loses_nothing() {
    let (dir, image, expected) = prepared();
    let manifest = image.names().into_iter().find(|name| name.starts_with("MANIFEST")).unwrap();
    let whole = image.get(manifest);
    let (ends, mut recovered) = (records_of(whole), 0);
    // The second time an earlier start was interrupted behind RocksDB's opening, which has removed what the manifest does not name.
    for (end, interrupted) in ends.iter().flat_map(|end| [(*end, false), (*end, true)]) {
        let path = dir.path().join(format!("cut-{end}-{interrupted}")).join("finality");
        let cut = [(manifest, whole[..end].to_vec())];
        image.lay_out(&path, &cut);
        if interrupted {
            image.lay_out(&path.with_file_name("finality.opening"), &cut);
            drop(Rocks::open_shared(&path, &checkpoint_db::TABLES));
        }
        let storage = open(&path);
        recovered += usize::from(storage.db().recovery().is_some());
        let found = content(&storage);
        // A lost pruning may have brought something back.
        let missing = expected.certificates.iter().filter(|one| !found.certificates.contains(one)).count()
            + expected.own.iter().filter(|one| !found.own.contains(one)).count()
            + expected.signatures.iter().filter(|one| !found.signatures.contains(one)).count();
        assert_eq!(
            (missing, &found.evidence, found.finalized),
            (0, &expected.evidence, expected.finalized),
            "cut to {end} of {ends:?}, interrupted: {interrupted}: table files were forgotten"
        );
    }
    assert!(recovered > ends.len(), "{recovered} of {} cuts were noticed", 2 * ends.len());
    println!("figure manifest cut at the end of each of its {} records, twice: {recovered} noticed, nothing lost", ends.len());
}

#[test]
fn every_two_files_exchanged_are_found_out() {
    let (dir, image, expected) = prepared();
    let (mut tally, mut number) = (Tally(BTreeMap::new()), 1000);
    let names = image.names();
    for (position, one) in names.iter().enumerate() {
        for other in &names[position + 1..] {
            let exchanged = [(*one, image.get(other).to_vec()), (*other, image.get(one).to_vec())];
            number += 1;
            let what = format!("{one} and {other} exchanged");
            tally.count(one, "exchanged", attempt(dir.path(), number, &image, &expected, &exchanged, &what));
        }
    }
    println!("figure {} cases of two files exchanged", number - 1000);
    tally.print();
    assert!(tally.of(".sst", "exchanged", "recovered") > 0, "no exchanged table file was noticed");
}

#[test]
fn every_file_missing_is_found_out() {
    let (dir, image, expected) = prepared();
    for (number, name) in image.names().into_iter().enumerate() {
        let place = dir.path().join(format!("missing-{number}"));
        fs::create_dir(&place).unwrap();
        let path = place.join("finality");
        image.lay_out(&path, &[]);
        fs::remove_file(if name == WITNESS { witness(&path) } else { path.join(name) }).unwrap();
        let before = files(&path);
        judge(&path, &before, &expected, &format!("{name} missing"));
    }
}

#[test]
fn a_removed_directory_leaves_its_sign_state() {
    let (dir, image, _) = prepared();
    let path = dir.path().join("removed");
    image.lay_out(&path, &[]);
    fs::remove_dir_all(&path).unwrap();
    let storage = open(&path);
    assert_eq!(storage.db().recovery().unwrap().sign_state, SignRecovery::Kept);
    assert!(check_and_insert(&storage, vote(LAST - 1, LAST, 1)).is_err(), "a removed database made the validator contradict itself");
    drop(check_and_insert(&storage, vote(LAST - 1, LAST, 0)).expect("the last vote is known and can be sent again"));
    drop(check_and_insert(&storage, vote(LAST, LAST + 1, 0)).unwrap());
}

#[test]
fn an_old_copy_of_the_directory_does_not_set_the_validator_back() {
    let (dir, image, _) = prepared();
    let path = dir.path().join("original");
    let storage = open(&path);
    for target in LAST + 1..=LAST + 5 {
        drop(check_and_insert(&storage, vote(target - 1, target, 0)).unwrap());
    }
    drop(storage);
    let kept = fs::read(witness(&path)).unwrap();
    fs::remove_dir_all(&path).unwrap();
    image.lay_out(&path, &[]);
    fs::write(witness(&path), kept).unwrap();
    let storage = open(&path);
    assert!(storage.db().recovery().unwrap().reason.contains("old copy"));
    assert!(check_and_insert(&storage, vote(LAST + 4, LAST + 5, 1)).is_err(), "an old copy made the validator contradict itself");
    drop(check_and_insert(&storage, vote(LAST + 5, LAST + 6, 0)).unwrap());
}

/// As versions before it laid a database out: each table in a column family of its own.
#[test]
fn a_database_of_the_earlier_layout_is_brought_into_this_one_and_kept() {
    let (dir, image, expected) = prepared();
    let path = dir.path().join("earlier").join("finality");
    image.lay_out(&path, &[]);
    std::fs::remove_dir_all(&path).unwrap();
    {
        let tables = checkpoint_db::TABLES;
        let (shared, families) = (dir.path().join("as it was"), Rocks::open(&path, &tables).unwrap());
        image.lay_out(&shared, &[]);
        let shared = Rocks::open_shared(&shared, &tables).unwrap();
        let mut batch = Batch::new();
        for table in tables {
            entries(&shared, table, Range::all(), Order::Ascending)
                .map(Result::unwrap)
                .for_each(|(key, value)| batch.put(table, key, value));
        }
        families.write(batch, Durability::Synced).unwrap();
    }
    let storage = open(&path);
    assert_eq!(content(&storage), expected);
    let recovery = storage.db().recovery().expect("it was rebuilt");
    assert!(recovery.reason.contains("as earlier versions laid it out"), "{}", recovery.reason);
    assert_eq!((recovery.sign_state.clone(), recovery.unreadable), (SignRecovery::Kept, 0));
    assert!(recovery.aside.as_ref().is_some_and(|aside| aside.join("CURRENT").exists()), "the old one is kept");
    assert!(check_and_insert(&storage, vote(LAST, LAST + 1, 0)).is_ok(), "it signs on");
    drop(storage);
    assert!(open(&path).db().recovery().is_none(), "once is enough");
}

#[test]
fn an_interrupted_recovery_is_ended_at_the_next_start() {
    let (dir, image, expected) = prepared();
    let path = dir.path().join("interrupted");
    image.lay_out(&path, &[]);
    // Between the two renames: the damaged one is aside, the rebuilt one not yet in its place.
    fs::rename(&path, dir.path().join("interrupted.rebuilt")).unwrap();
    let storage = open(&path);
    assert!(storage.db().recovery().is_none());
    assert_eq!(content(&storage), expected);
}

#[test]
fn trouble_that_is_no_damage_leaves_everything_as_it_is() {
    let (dir, image, _) = prepared();
    let path = dir.path().join("held");
    image.lay_out(&path, &[]);
    let holder = open(&path);
    let beside = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let (before, content) = (beside(), files(&path));
    let error = CheckpointDB::new(&path).unwrap_err();
    assert!(matches!(&error, Error::Store(milepost_store::Error::Locked { .. })), "{error}");
    assert_eq!((beside(), files(&path)), (before, content), "a second process has touched a database in use");

    // While the first sets a damaged one aside there is nothing at its place, and RocksDB's lock has gone with it.
    fs::rename(&path, dir.path().join("held.rebuilt")).unwrap();
    let error = CheckpointDB::new(&path).unwrap_err();
    assert!(matches!(&error, Error::Store(milepost_store::Error::Locked { .. })), "a second process has meddled with a recovery: {error}");
    assert!(!path.exists(), "a second process has ended the first one's recovery");
    drop(holder);
}

#[test]
fn a_backup_opens_and_refuses_to_sign() {
    let (dir, _, expected) = prepared();
    let (path, copy) = (dir.path().join("original"), dir.path().join("backup"));
    open(&path).db().backup(&copy).unwrap();
    let storage = open(&copy);
    assert_eq!(content(&storage), expected);
    assert!(check_and_insert(&storage, vote(LAST, LAST + 1, 0)).is_err(), "a copy signed beside its original");
}
