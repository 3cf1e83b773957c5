//! Flushing and pruning as validator processes do them: what goes and what stays, what is told of it, and what becomes of a process that is
//! killed while it prunes, or whose disk fails just then.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use checkpoint_db::CheckpointStorageAdapter;
use finality_gadget::CheckpointNumber;
use finality_gadget::persistence::CheckpointStorage as _;
use serde_json::Value;
use validators::{Committee, Validator};

/// Checkpoints that are kept below the last final one.
const RETENTION: u64 = 5;
/// As often as can be configured.
const OFTEN: [(&str, &str); 3] = [
    ("validator.persistence.retention_checkpoints", "5"),
    ("validator.persistence.flush_interval_secs", "1"),
    ("validator.persistence.prune_interval_secs", "1"),
];
/// The chain offers a checkpoint this often: several between two prunings.
const PACE: Duration = Duration::from_millis(200);
/// Prunings that take something which every process does before it is looked at.
const PRUNINGS: u32 = 3;
/// Kills, in turn at the end of a flush, after which a pruning begins, and at the end of a pruning.
const KILLS: usize = 6;
const INSTANTS: [&str; 2] = ["flushed", "pruned"];
/// Flushes are told of to whoever wants to hear of them.
const VERBOSE: &str = "export MILEPOST_LOG=info,finality_gadget=debug";

/// A number of each event of this name, in order.
fn numbers(log: &[Value], event: &str, field: &str) -> Vec<u64> {
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let named = log.iter().filter(|line| line["event"] == event);
    named.map(|line| number(&line[field]).unwrap_or_else(|| panic!("{event} has no number {field}: {line}"))).collect()
}

/// Prunings that took something.
fn prunings(log: &[Value]) -> u32 {
    numbers(log, "pruned", "checkpoints").into_iter().map(|taken| u32::from(taken > 0)).sum()
}

/// One figure of the page `/metrics`.
fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing:\n{page}")).trim().parse().expect("a number")
}

async fn prunes_so_often(validator: &mut Validator, count: u32) {
    let begin = std::time::Instant::now();
    while prunings(&validator.log()) < count {
        assert!(!validator.has_ended() && begin.elapsed() < Duration::from_mins(1), "it prunes:\n{}", validator.log_text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a stopped validator's disk holds, beside what its log said that it did: below the bound nothing, above it everything. Answers the
/// bound.
fn judge_kept(committee: &Committee, id: u32, log: &[Value]) -> u64 {
    // Each event says what went: from where the one before had ended to where this one did.
    let (bounds, taken) = (numbers(log, "pruned", "below"), numbers(log, "pruned", "checkpoints"));
    let mut reached = 0;
    for (below, taken) in bounds.iter().zip(&taken) {
        assert_eq!(*below, reached + taken, "validator {id}: {bounds:?}, {taken:?}");
        reached = *below;
    }
    let stats = committee.must(id, &["db", "stats"]);
    assert_eq!(stats["pruned_below"].as_u64(), Some(reached), "validator {id}: {stats}");
    assert!(stats["last_finalized"].as_u64() >= Some(reached + RETENTION), "validator {id} kept less than it was told to: {stats}");
    assert_eq!((&stats["doubt"], &stats["refused"]), (&Value::Null, &Value::Null), "{stats}");

    let disk = committee.inspect(id);
    // Each certificate carries the digest of the link before it: from the anchor to the newest one none is missing, and none is below.
    let storage = CheckpointStorageAdapter::new(Arc::new(disk.db));
    let anchor = storage.anchor().expect("readable").expect("what is pruned leaves an anchor");
    let certificates = storage.certificates_after(CheckpointNumber(0), usize::MAX).expect("readable");
    let mut before = (anchor.number, anchor.link);
    for certificate in &certificates {
        let vote = &certificate.vote;
        assert_eq!((vote.link.source.number, vote.previous), before, "validator {id}: certificates from {reached} on are a chain");
        assert!(vote.link.target.number.0 >= reached, "validator {id}: {:?} is below {reached}", vote.link);
        before = (vote.link.target.number, vote.digest());
    }
    assert!(stats["newest_checkpoint"].as_u64() == Some(before.0.0) && certificates.len() as u64 > RETENTION, "validator {id}: {stats}");
    let recorded = numbers(log, "stored_certificate", "source");
    assert!(recorded.len() > certificates.len() && recorded.contains(&0), "validator {id} had the first ones once: {recorded:?}");
    assert_eq!(numbers(log, "stored_certificate", "target").into_iter().max(), Some(before.0.0), "validator {id}");
    // Own votes: what is above the bound is there, and what was ever signed is remembered by its watermarks.
    let recorded = numbers(log, "own_vote_recorded", "source");
    let own = storage.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
    assert!(own.iter().all(|vote| vote.link.target.number.0 >= reached), "validator {id}: own votes from {reached} on");
    let above = |sources: &[u64]| sources.iter().copied().filter(|source| *source >= reached).collect::<Vec<_>>();
    let sources: Vec<u64> = own.iter().map(|vote| vote.link.source.number.0).collect();
    assert_eq!(above(&sources), above(&recorded), "validator {id}: own votes from {reached} on");
    assert!(!own.is_empty() && recorded.len() > own.len(), "validator {id}: {recorded:?}");
    let newest = own.iter().map(|vote| vote.link.target.number.0).max();
    let marks = (stats["max_source"].as_u64(), stats["max_target"].as_u64());
    assert_eq!(marks, (recorded.into_iter().max(), newest), "validator {id}: {stats}");
    let votes = storage.signatures_after(CheckpointNumber(0), usize::MAX).expect("readable");
    assert!(
        !votes.is_empty() && votes.iter().all(|vote| vote.vote.link.target.number.0 >= reached),
        "validator {id}: votes from {reached} on"
    );
    reached
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_goes_what_is_needed_stays_and_a_process_killed_while_it_prunes_goes_on() {
    let committee = Arc::new(Committee::new(4, &OFTEN).await);
    let mut validators: Vec<_> = (1..=4).map(|id| committee.start(id)).collect();
    for validator in &mut validators {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    let offering = committee.keep_offering(PACE);
    for validator in &mut validators {
        prunes_so_often(validator, PRUNINGS).await;
    }
    offering.abort();
    for validator in validators {
        let (_, page) = validator.page("/metrics").await;
        for what in ["flush", "prune"] {
            let of = |part: &str| figure(&page, &format!("milepost_validator_{what}_seconds_{part}"));
            let (count, seconds) = (of("count"), of("sum"));
            // The event comes first: the figure of the last one may not be there yet.
            assert!(count + 1.0 >= f64::from(PRUNINGS) && seconds > 0.0, "{what}: {count} in {seconds} s");
            println!("figure validator_{what} of {}: {count} in {:.2} ms", validator.id, 1_000.0 * seconds);
        }
        assert!(figure(&page, "milepost_validator_disk_bytes") > 0.0);
        let id = validator.id;
        let (code, log) = validator.terminate();
        assert_eq!(code, Some(0), "validator {id}: {log:?}");
        let below = judge_kept(&committee, id, &log);
        println!("figure validator_pruned_below {below} of {} certificates", numbers(&log, "stored_certificate", "source").len());
    }

    // From now on the first one keeps everything, so that nothing that the fourth signs can be forgotten by all.
    let everything = [("validator.persistence.retention_checkpoints", "1000000".to_owned())];
    let mut validators = vec![committee.start_with(1, &everything), committee.start(2), committee.start(3)];
    let offering = committee.keep_offering(PACE);
    let mut took = 0;
    for instant in INSTANTS.into_iter().cycle().take(KILLS) {
        let mut victim = committee.start_behind(4, VERBOSE);
        let now = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;
        victim.wait("it signs what is new", |status| status["last_signed"].as_u64() > Some(now)).await;
        // So that there is something to prune when it dies.
        prunes_so_often(&mut victim, 1).await;
        victim.kill_at(instant);
        let (code, log) = victim.end();
        assert_eq!(code, None, "killed after {instant}: {log:?}");
        took += prunings(&log);
    }
    let mut back = committee.start(4);
    let now = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;
    back.wait("it signs again", |status| status["standing"] == "signing" && status["last_signed"].as_u64() >= Some(now + 2)).await;
    prunes_so_often(&mut back, 1).await;
    validators.push(back);
    for validator in &mut validators {
        validator.finalizes(now + 3).await;
    }
    offering.abort();
    for validator in validators {
        let id = validator.id;
        let (code, log) = validator.terminate();
        assert_eq!(code, Some(0), "validator {id}: {log:?}");
        assert_eq!(prunings(&log) == 0, id == 1, "validator {id}: all but the first prune");
        assert_eq!(committee.must(id, &["db", "check"])["damaged"], false);
    }
    let (votes, certificates) = committee.judge(&[1, 2, 3, 4]);
    println!(
        "figure validator_killed_while_pruning {KILLS} times, {took} prunings before: no contradiction among {votes} own votes and {certificates} certificates"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_under_maintenance_ends_the_process_with_its_reason_and_a_restart_goes_on() {
    const OFFERED: u64 = 8;
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators: Vec<_> = (1..=4).map(|id| committee.start(id)).collect();
    for validator in &mut validators {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    for number in 1..=OFFERED {
        committee.offer(1).await;
        for validator in &mut validators {
            validator.wait("a certificate", |status| status["justified"].as_u64() >= Some(number)).await;
        }
    }
    assert_eq!(validators.remove(3).terminate().0, Some(0));

    // The chain stands still and everything is certified: nobody writes but maintenance, which finds more than it is to keep. From some
    // instant on, no file of this process may grow.
    let mut settings: Vec<_> = OFTEN.map(|(key, value)| (key, value.to_owned())).to_vec();
    settings.extend([
        ("validator.persistence.retention_checkpoints", "2".to_owned()),
        ("validator.persistence.prune_interval_secs", "6".to_owned()),
    ]);
    let mut failing = committee.start_behind_with(4, "trap '' XFSZ", &settings);
    failing.wait("it signs", |status| status["standing"] == "signing").await;
    assert_eq!(failing.page("/health").await.0, 200);
    let limited = Command::new("prlimit").args(["--fsize=0:", "--pid", &failing.pid().to_string()]).status().expect("it runs");
    assert!(limited.success() && !failing.has_logged(|event| event["event"] == "pruned"), "in time:\n{}", failing.log_text());
    let (code, log) = failing.end();
    let said = log.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(code, Some(74), "{said}");
    let place =
        |name: &str| log.iter().position(|event| event["event"] == name).unwrap_or_else(|| panic!("it does not log {name}:\n{said}"));
    assert!(place("storage_stopped") < place("maintenance_failed") && place("maintenance_failed") < place("stopped"), "{said}");
    let reason = log[place("maintenance_failed")]["error"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("File too large"), "{reason}");
    assert_eq!(log[place("stopped")]["clean"], false);
    let last = log.last().expect("it says why").as_str().unwrap_or_default().to_owned();
    assert!(last.contains("MP-V-006") && last.contains(&reason), "{last:?} is the last that it says:\n{said}");

    // With room again it prunes what it could not, and nothing that it must keep is gone.
    let mut mended = committee.start_with(4, &settings);
    prunes_so_often(&mut mended, 1).await;
    validators.push(mended);
    committee.offer(1).await;
    for validator in &mut validators {
        validator.wait("a certificate", |status| status["justified"].as_u64() > Some(OFFERED)).await;
    }
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    let stats = committee.must(4, &["db", "stats"]);
    assert!(stats["pruned_below"].as_u64() >= Some(OFFERED - 3), "{stats}");
    committee.judge(&[1, 2, 3, 4]);
}
