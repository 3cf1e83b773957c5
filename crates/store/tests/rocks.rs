//! What only a real database on a real file system shows: locks, copies, kills, full files.
#![cfg(feature = "rocksdb-any")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use milepost_store::{Batch, Durability, Error, Order, Range, Rocks, Storage, Table, entries, quarantine};

const A: Table = Table::new("a");
const B: Table = Table::new("b");
const TABLES: [Table; 2] = [A, B];

fn put(n: u64, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(A, n.to_be_bytes(), vec![7; bytes]);
    batch.put(B, n.to_be_bytes(), n.to_le_bytes());
    batch
}

fn keys(store: &Rocks) -> Vec<u64> {
    let of = |table| -> Vec<u64> {
        let key = |entry: Result<(Vec<u8>, _), _>| u64::from_be_bytes(entry.unwrap().0.try_into().unwrap());
        entries(store, table, Range::all(), Order::Ascending).map(key).collect()
    };
    assert_eq!(of(A), of(B), "a batch is there as a whole or not at all");
    of(A)
}

#[test]
fn a_second_opener_is_told_who_has_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let first = Rocks::open(dir.path(), &TABLES).unwrap();
    let error = Rocks::open(dir.path(), &TABLES).err().unwrap();
    assert_eq!(error, Error::Locked { path: dir.path().to_owned() });
    assert!(error.to_string().starts_with("another milepost has this database open: "));
    drop(first);
    Rocks::open(dir.path(), &TABLES).unwrap();
}

#[test]
fn another_process_is_told_too() {
    if let Ok(path) = env::var("STORE_TEST_OPEN") {
        let error = Rocks::open(Path::new(&path), &TABLES).err().unwrap();
        assert_eq!(error, Error::Locked { path: path.into() });
        println!("was told");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let _open = Rocks::open(dir.path(), &TABLES).unwrap();
    let child = again("another_process_is_told_too").env("STORE_TEST_OPEN", dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&child.stdout).contains("was told"), "{child:?}");
}

#[test]
fn tables_that_are_not_named_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Rocks::open(dir.path(), &TABLES).unwrap().write(put(1, 1), Durability::Synced).unwrap();
    let only_a = Rocks::open(dir.path(), &[A]).unwrap();
    assert_eq!(only_a.get(B, &1u64.to_be_bytes()), Err(Error::UnknownTable { table: B }));
    drop(only_a);
    assert_eq!(keys(&Rocks::open(dir.path(), &TABLES).unwrap()), [1]);
}

#[test]
fn a_backup_opens_as_a_database_and_lacks_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let store = Rocks::open(&live, &TABLES).unwrap();
    store.write(put(1, 1), Durability::Synced).unwrap();
    store.flush().unwrap();
    store.write(put(2, 1), Durability::Buffered).unwrap();
    store.backup(&copy).unwrap();
    store.write(put(3, 1), Durability::Synced).unwrap();
    assert_eq!(keys(&Rocks::open(&copy, &TABLES).unwrap()), [1, 2]);
    assert_eq!(keys(&store), [1, 2, 3]);
    assert!(matches!(store.backup(&copy), Err(Error::Io { .. })), "an existing copy is not overwritten");
}

#[test]
fn a_flush_moves_every_table_out_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open(dir.path(), &TABLES).unwrap();
    (0..100).for_each(|n| store.write(put(n, 100), Durability::Buffered).unwrap());
    store.flush().unwrap();
    let files =
        || std::fs::read_dir(dir.path()).unwrap().filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "sst")).count();
    assert_eq!(files(), 2, "one file for each table");
}

#[test]
fn a_range_delete_reaches_to_the_last_possible_key() {
    for open in [Rocks::open, Rocks::open_shared] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), &TABLES).unwrap();
        let mut batch = Batch::new();
        batch.put(A, vec![0xff; milepost_store::MAX_KEY_BYTES], []);
        batch.put(A, vec![0x7f], []);
        batch.put(B, vec![], []);
        batch.delete_range(A, Range::from([0x80]));
        store.write(batch, Durability::Synced).unwrap();
        let left = |table| store.scan(table, &Range::all(), Order::Ascending, 10).unwrap().entries;
        assert_eq!((left(A), left(B)), (vec![(vec![0x7f], vec![])], vec![(vec![], vec![])]));
    }
}

#[test]
fn tables_that_share_a_column_family_share_one_file_and_stay_apart() {
    const AB: Table = Table::new("ab");
    let dir = tempfile::tempdir().unwrap();
    let store = Rocks::open_shared(dir.path(), &[A, AB]).unwrap();
    let mut batch = Batch::new();
    batch.put(A, b"bc", b"of a");
    batch.put(AB, b"c", b"of ab");
    store.write(batch, Durability::Synced).unwrap();
    store.flush().unwrap();
    assert_eq!(store.table_files().unwrap().len(), 1, "one file for all tables");
    for (table, key, value) in [(A, b"bc".as_slice(), b"of a".as_slice()), (AB, b"c", b"of ab")] {
        for order in [Order::Ascending, Order::Descending] {
            let page = store.scan(table, &Range::all(), order, 10).unwrap();
            assert_eq!(page.entries, [(key.to_vec(), value.to_vec())]);
        }
        assert_eq!(store.get(table, key).unwrap().as_deref(), Some(value));
    }
    let mut batch = Batch::new();
    batch.delete_range(A, Range::all());
    store.write(batch, Durability::Synced).unwrap();
    assert_eq!((store.get(A, b"bc").unwrap(), store.get(AB, b"c").unwrap().as_deref()), (None, Some(b"of ab".as_slice())));
}

#[test]
fn a_database_is_opened_in_the_layout_it_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let (families, shared) = (dir.path().join("families"), dir.path().join("shared"));
    Rocks::open(&families, &TABLES).unwrap().write(put(1, 1), Durability::Synced).unwrap();
    Rocks::open_shared(&shared, &TABLES).unwrap().write(put(1, 1), Durability::Synced).unwrap();
    assert_eq!(Rocks::open_shared(&families, &TABLES).err(), Some(Error::Layout { path: families.clone() }));
    assert_eq!(keys(&Rocks::open(&families, &TABLES).unwrap()), [1], "a refused opening changes nothing");
    assert_eq!(keys(&Rocks::open_shared(&shared, &TABLES).unwrap()), [1]);
    for path in [families, shared] {
        assert_eq!(keys(&Rocks::open_read_only(&path, &TABLES).unwrap()), [1], "for reading in either");
    }
}

#[test]
fn damaged_files_are_named_and_the_directory_can_be_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Rocks::open(&path, &TABLES).unwrap().write(put(1, 1), Durability::Synced).unwrap();
    for file in std::fs::read_dir(&path).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("MANIFEST") {
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes[9] ^= 0xff;
            std::fs::write(file.path(), bytes).unwrap();
        }
    }
    let error = Rocks::open(&path, &TABLES).err().unwrap();
    assert!(matches!(&error, Error::Damaged { path: named, .. } if *named == path), "{error}");
    let aside = quarantine(&path).unwrap();
    assert!(aside.join("CURRENT").exists());
    assert_eq!(keys(&Rocks::open(&path, &TABLES).unwrap()), [] as [u64; 0]);
}

#[test]
fn a_database_without_its_current_file_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    for (open, name) in [(Rocks::open as fn(&Path, &[Table]) -> _, "families"), (Rocks::open_shared, "shared")] {
        for settled in [false, true] {
            let path = dir.path().join(format!("{name}-{settled}"));
            let store: Rocks = open(&path, &TABLES).unwrap();
            store.write(put(1, 1), Durability::Synced).unwrap();
            if settled {
                store.flush().unwrap();
            }
            drop(store);
            let current = std::fs::read(path.join("CURRENT")).unwrap();
            std::fs::remove_file(path.join("CURRENT")).unwrap();
            let error = open(&path, &TABLES).err().unwrap();
            assert!(matches!(&error, Error::Damaged { reason, .. } if reason.contains("CURRENT is missing")), "{error}");
            std::fs::write(path.join("CURRENT"), current).unwrap();
            assert_eq!(keys(&open(&path, &TABLES).unwrap()), [1], "it was left as it is");
        }
    }
}

#[test]
fn a_database_without_its_manifest_is_readable_again_after_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Rocks::open(dir.path(), &TABLES).unwrap();
        store.write(put(1, 1), Durability::Synced).unwrap();
        store.flush().unwrap();
        store.write(put(2, 1), Durability::Synced).unwrap();
    }
    for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
        if file.file_name().to_string_lossy().starts_with("MANIFEST") {
            std::fs::write(file.path(), b"no manifest").unwrap();
        }
    }
    assert!(Rocks::open(dir.path(), &TABLES).is_err());
    Rocks::repair(dir.path()).unwrap();
    assert_eq!(keys(&Rocks::open(dir.path(), &TABLES).unwrap()), [1, 2], "from a table file and from the log");
}

/// Changes a byte in the middle of each log.
fn damage_logs(path: &Path) {
    for file in std::fs::read_dir(path).unwrap().flatten().filter(|file| file.path().extension().is_some_and(|ending| ending == "log")) {
        let mut bytes = std::fs::read(file.path()).unwrap();
        // The middle of the records, not of what was set aside behind them.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 2);
        if let Some(byte) = bytes.get_mut(end) {
            *byte ^= 0xff;
        }
        std::fs::write(file.path(), bytes).unwrap();
    }
}

#[test]
#[cfg(feature = "rocksdb")]
fn what_rocksdb_has_to_say_is_a_log_event_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Rocks::open(dir.path(), &TABLES).unwrap();
        (0..100).for_each(|n| store.write(put(n, 100), Durability::Synced).unwrap());
    }
    let open = |path: &Path| {
        let said = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Mutex::new(said.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(writer).finish();
        let found = tracing::subscriber::with_default(subscriber, || keys(&Rocks::open(path, &TABLES).unwrap()));
        (found.len(), std::fs::read_to_string(said.path()).unwrap())
    };
    // Copied before a sound start moves the log into table files.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    assert_eq!(open(dir.path()), (100, String::new()), "a sound start has nothing to say");
    damage_logs(copy.path());
    let (found, said) = open(copy.path());
    assert!(found > 0 && found < 100, "up to the damage: {found}");
    assert!(said.lines().all(|line| line.contains(r#""event":"rocksdb""#)) && said.contains("checksum mismatch"), "{said}");
    assert!(!dir.path().join("LOG").exists());
}

/// This test binary again, running one test.
fn again(test: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).stdout(Stdio::piped());
    command
}

/// Writes until it is killed or a write fails, and says each number that was acknowledged.
fn write_for_ever(path: &str, bytes: usize) {
    let store = Rocks::open(Path::new(path), &TABLES).unwrap();
    for n in keys(&store).len() as u64.. {
        match store.write(put(n, bytes), Durability::Synced) {
            Ok(()) => println!("acknowledged {n}"),
            Err(error) => {
                assert!(matches!(error, Error::Io { .. } | Error::NoSpace { .. }), "{error:?}");
                for durability in [Durability::Synced, Durability::Buffered] {
                    let refused = store.write(put(n, 1), durability);
                    assert!(matches!(refused, Err(Error::Stopped { .. })), "after {error}: {refused:?}");
                }
                println!("stopped at {n}");
                return;
            }
        }
    }
}

fn number_after(line: &str, word: &str) -> Option<u64> {
    line.split_once(word).and_then(|(_, number)| number.trim().parse().ok())
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    if let Ok(path) = env::var("STORE_TEST_KILL") {
        return write_for_ever(&path, 100);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = None;
    // Each round is killed after another number of acknowledgements, so that the kill meets different states of the log.
    for round in 0..8u64 {
        let mut child = again("a_killed_process_loses_nothing_it_acknowledged").env("STORE_TEST_KILL", dir.path()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.map_while(Result::ok).filter_map(|line| number_after(&line, "acknowledged "));
        acknowledged = numbers.take(1 + 97 * usize::try_from(round).unwrap()).last().or(acknowledged);
        child.kill().unwrap();
        child.wait().unwrap();
        let recovered = keys(&Rocks::open(dir.path(), &TABLES).unwrap());
        assert!(recovered.iter().copied().eq(0..recovered.len() as u64), "no gap");
        assert!(recovered.last() >= acknowledged.as_ref(), "acknowledged {acknowledged:?}, found {:?}", recovered.last());
    }
}

#[test]
fn a_write_that_the_file_system_refuses_stops_the_engine_and_loses_nothing() {
    const TEST: &str = "a_write_that_the_file_system_refuses_stops_the_engine_and_loses_nothing";
    if let Ok(path) = env::var("STORE_TEST_LIMIT") {
        return write_for_ever(&path, 10_000);
    }
    let dir = tempfile::tempdir().unwrap();
    // The shell ignores SIGXFSZ and limits file sizes; both pass on to the program, whose writes then fail with EFBIG.
    let script = format!("trap '' XFSZ; ulimit -f 1200; exec \"$0\" {TEST} --exact --nocapture --test-threads=1");
    let output =
        Command::new("bash").args(["-c", &script]).arg(env::current_exe().unwrap()).env("STORE_TEST_LIMIT", dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let acknowledged = text.lines().filter_map(|line| number_after(line, "acknowledged ")).next_back();
    let stopped = text.lines().find_map(|line| number_after(line, "stopped at "));
    assert!(output.status.success() && stopped.is_some(), "{output:?}");
    let recovered = keys(&Rocks::open(dir.path(), &TABLES).unwrap());
    assert!(recovered.iter().copied().eq(0..recovered.len() as u64), "no gap");
    assert!(acknowledged.is_some() && recovered.last() >= acknowledged.as_ref(), "{acknowledged:?}, {:?}", recovered.last());
}
