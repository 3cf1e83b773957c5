//! Crashes at every byte, and files that are not ours to overwrite.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use milepost_statement::{Address, ChainId, Digest, JobId, Salt, TokenCount, TokenSeq};

use super::{ActiveTurn, Door, Entry, Error, Funding, Record, SessionFile, VoucherState, with_suffix};
use crate::transcript::Checkpoint;
use crate::{Amount, CapturedTurn, ChatRequest};

fn record() -> Record {
    Record {
        format: Record::FORMAT,
        rpc: "http://127.0.0.1:8545".into(),
        chain_id: ChainId(31337),
        marketplace: Address([1; 20]),
        host: Address([2; 20]),
        host_url: "http://127.0.0.1:8080".into(),
        model_digest: Digest([3; 32]),
        token: Address([4; 20]),
        deposit: Amount(2_000_000),
        price: Amount(2_000),
        minimum_charge: Amount(0),
        depositor: Address([5; 20]),
        salt: Salt([6; 32]),
        funding: Funding::Funded { job_id: JobId(163), block: 7 },
        access: Some("token".into()),
        quote: None,
        ceiling: None,
        voucher: Some(VoucherState { allowance: TokenCount(64), given: TokenCount::ZERO }),
        ids: Vec::new(),
        checkpoints: Vec::new(),
        turns: Vec::new(),
        active: None,
        stopped: None,
    }
}

fn entries() -> Vec<Entry> {
    let request = ChatRequest { request_id: "r-1".into(), ..ChatRequest::new("smol", "Why?") };
    let ended = CapturedTurn {
        request_id: "r-1".into(),
        prompt_ids: None,
        start: TokenSeq::ZERO,
        count: TokenCount(5),
        finish_reason: "stop".into(),
        receipt: None,
    };
    let sealed = Checkpoint {
        number: 0,
        first_seq: TokenSeq::ZERO,
        count: TokenCount(5),
        turns_digest: Digest([7; 32]),
        head: Digest([8; 32]),
        turns: None,
    };
    vec![
        Entry::Begin(Box::new(ActiveTurn { request, start: TokenSeq::ZERO, door: Door::Socket })),
        Entry::Tokens { at: TokenSeq(0), ids: vec![10, 11] },
        Entry::Tokens { at: TokenSeq(2), ids: vec![12] },
        Entry::Voucher { tokens: TokenCount(3) },
        Entry::Tokens { at: TokenSeq(3), ids: vec![13, 14] },
        Entry::Checkpoint(sealed),
        Entry::End(Box::new(ended)),
    ]
}

/// The states a session passes through, one per acknowledged entry.
fn states() -> Vec<Record> {
    let mut record = record();
    let mut states = vec![record.clone()];
    for entry in entries() {
        record.apply(entry).expect("it applies");
        states.push(record.clone());
    }
    states
}

fn written(path: &Path) {
    let mut file = SessionFile::create(path, record()).expect("a new file");
    for entry in entries() {
        file.append(entry).expect("it is stored");
    }
}

#[test]
fn what_was_stored_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    let file = SessionFile::open(&path).expect("it opens");
    assert_eq!(Some(file.record()), states().last());
}

#[test]
fn a_client_killed_at_any_byte_keeps_every_whole_entry() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    let log = std::fs::read(with_suffix(&path, ".log")).expect("the log");
    let states = states();
    for cut in 0..=log.len() {
        std::fs::write(with_suffix(&path, ".log"), &log[..cut]).expect("cut");
        let whole = log[..cut].split(|byte| *byte == b'\n').count() - 1;
        let mut file = SessionFile::open(&path).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(file.record(), &states[whole], "cut at byte {cut}");
        // It goes on from there: the torn line does not stain the next one.
        let at = TokenSeq(file.record().ids.len() as u64);
        file.append(Entry::Tokens { at, ids: vec![99] }).expect("it goes on");
        drop(file);
        let again = SessionFile::open(&path).expect("it opens again");
        assert_eq!(again.record().ids.last(), Some(&99), "cut at byte {cut}");
    }
}

#[test]
fn a_crash_between_the_new_snapshot_and_the_emptied_log_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    let log = std::fs::read(with_suffix(&path, ".log")).expect("the log");
    SessionFile::open(&path).expect("it opens").update(|_| {}).expect("a snapshot");
    assert_eq!(std::fs::read(with_suffix(&path, ".log")).expect("the log"), b"");
    std::fs::write(with_suffix(&path, ".log"), &log).expect("the old log is back");
    assert_eq!(Some(SessionFile::open(&path).expect("it opens").record()), states().last());
}

#[test]
fn a_crash_while_the_snapshot_is_written_leaves_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    std::fs::write(with_suffix(&path, ".new"), b"{ half a snapsh").expect("left over");
    let mut file = SessionFile::open(&path).expect("it opens");
    assert_eq!(Some(file.record()), states().last());
    file.update(|record| record.access = None).expect("the next snapshot");
    drop(file);
    assert_eq!(SessionFile::open(&path).expect("it opens").record().access, None);
}

#[test]
fn a_damaged_line_in_the_middle_is_named_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    let log = std::fs::read_to_string(with_suffix(&path, ".log")).expect("the log");
    for (from, to, place) in
        [("[10,11]", "[10,x1]", "log line 2"), ("{\"at\":2,", "{\"at\":3,", "log line 3"), ("{\"at\":3,", "{\"at\":2,", "log line 5")]
    {
        let damaged = log.replacen(from, to, 1);
        assert_ne!(damaged, log, "the test changes something");
        std::fs::write(with_suffix(&path, ".log"), &damaged).expect("damaged");
        let error = SessionFile::open(&path).expect_err("refused");
        assert!(matches!(&error, Error::Damaged { place: found, .. } if found == place), "{error}");
        assert_eq!(std::fs::read_to_string(with_suffix(&path, ".log")).expect("the log"), damaged);
    }
}

#[test]
fn only_its_owner_can_read_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    for file in [path.clone(), with_suffix(&path, ".log")] {
        let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn a_session_is_never_replaced_by_another_and_never_opened_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    let first = SessionFile::create(&path, record()).expect("a new file");
    assert!(matches!(SessionFile::open(&path), Err(Error::InUse)));
    assert!(matches!(SessionFile::create(&path, record()), Err(Error::InUse)));
    drop(first);
    assert!(matches!(SessionFile::create(&path, record()), Err(Error::Exists)));
    assert!(matches!(SessionFile::open(&directory.path().join("other.json")), Err(Error::Io(_))));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    written(&path);
    let text = std::fs::read_to_string(&path).expect("the snapshot").replacen("\"format\": 1", "\"format\": 2", 1);
    std::fs::write(&path, text).expect("newer");
    assert!(matches!(SessionFile::open(&path), Err(Error::Newer { found: 2, known: 1 })));
}

#[test]
fn a_long_log_is_folded_into_the_snapshot() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("session.json");
    let mut file = SessionFile::create(&path, record()).expect("a new file");
    let run: Vec<u32> = (0..4_096).collect();
    for chunk in 0..16 {
        file.append_tokens(TokenSeq(chunk * 4_096), &run).expect("stored");
    }
    let log = std::fs::metadata(with_suffix(&path, ".log")).expect("it is there").len();
    assert!(log < super::MAX_LOG_BYTES, "the log holds {log} bytes");
    drop(file);
    assert_eq!(SessionFile::open(&path).expect("it opens").record().ids.len(), 16 * 4_096);
}
