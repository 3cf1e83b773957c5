//! A validator that has lost its record observes until an operator declares, and signs again when the rule lets it; one that was restored
//! from an old copy refuses to sign, whichever copy it was.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use finality_gadget::CheckpointNumber;
use finality_gadget::persistence::Standing;
use serde_json::Value;
use validators::{Committee, Validator};

/// The chain offers a checkpoint this often.
const PACE: Duration = Duration::from_millis(200);

/// And this often where something has to fill up.
const QUICK_PACE: Duration = Duration::from_millis(60);

fn start_all(committee: &Committee) -> Vec<Validator> {
    (1..=4).map(|id| committee.start(id)).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_observes_until_it_may_vote_and_then_rejoins() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators = start_all(&committee);
    let offering = committee.keep_offering(PACE);
    for validator in &mut validators {
        validator.finalizes(5).await;
    }
    let (code, _) = validators.remove(3).terminate();
    assert_eq!(code, Some(0));
    let signed = committee.inspect(4).db.sign_state().expect("readable").expect("a record").max_target;
    std::fs::rename(committee.home(4).join("data"), committee.home(4).join("lost")).expect("moved away");

    // Without its record it follows, certifies nothing by its own hand, and says which commands there are.
    let mut wiped = committee.start(4);
    let status = wiped.wait("it follows", |status| status["finalized"]["number"].as_u64() > Some(8)).await;
    assert_eq!((&status["standing"], &status["last_signed"]), (&Value::from("refused"), &Value::Null));
    let told = wiped.logs("standing").await;
    assert!(told["advice"].as_str().is_some_and(|advice| advice.contains("declare --old-process-stopped")), "{told}");
    let (code, ready) = wiped.page("/ready").await;
    assert!(code == 503 && ready.contains("declare"), "{ready}");
    assert_eq!(wiped.terminate().0, Some(0));
    assert_eq!(committee.inspect(4).db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable").len(), 0);

    // Told that the old process is stopped, it takes the chain's head and a margin for what that may have signed.
    let declared = committee.must(4, &["validator", "declare", "--old-process-stopped"]);
    let mark = declared["max_target"].as_u64().expect("a mark");
    assert!(mark > signed.0, "{declared}: above everything that was signed ({signed})");
    let again = committee.run(4, &["validator", "declare", "--never-signed"]);
    assert_eq!(again.status.code(), Some(1), "a key with a record is not new: {}", String::from_utf8_lossy(&again.stderr));
    let mut wiped = committee.start(4);
    wiped.finalizes(mark + 3).await;
    wiped.wait("it signs above the mark", |status| status["last_signed"].as_u64() > Some(mark + 1)).await;
    // It counts: with it and two others finality goes on.
    let (code, _) = validators.remove(2).terminate();
    assert_eq!(code, Some(0));
    let now = wiped.status().await.expect("a page")["finalized"]["number"].as_u64().expect("a number");
    wiped.finalizes(now + 3).await;
    offering.abort();
    validators.push(wiped);
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    let own = committee.inspect(4).db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
    let lowest = own.first().expect("it signed").link;
    assert!(lowest.target.number.0 > mark && lowest.source.number.0 >= mark, "sources from {mark} and targets above: {lowest:?}");
    // Its lost record is not on its disk any more; what it signed before and after together holds no contradiction.
    committee.judge(&[1, 2, 3]);
    let lost = checkpoint_db::CheckpointDB::inspect(committee.home(4).join("lost").join("finality")).expect("kept");
    let before = lost.db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
    assert!(before.iter().all(|old| own.iter().all(|new| old.conflict(new).is_none())), "nothing contradicts what was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_restored_from_an_old_copy_refuses_to_sign() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators = start_all(&committee);
    let offering = committee.keep_offering(PACE);
    for validator in &mut validators {
        validator.finalizes(3).await;
    }
    // Two copies of the same moment: the whole folder with its witness, as a snapshot of a disk has it, and a backup.
    assert_eq!(validators.remove(3).terminate().0, Some(0));
    let (snapshot, backup) = (committee.home(4).join("snapshot"), committee.home(4).join("backup"));
    copy(&committee.home(4).join("data"), &snapshot);
    let made = committee.must(4, &["db", "backup", "--out", &backup.display().to_string()]);
    assert!(made["history"] == true && backup.join("history.json").exists() && backup.join("witness-when-backed-up").exists(), "{made}");
    let mut newer = committee.start(4);
    let old = committee_max(&snapshot);
    newer.wait("it signs what is not in the copies", |status| status["last_signed"].as_u64() > Some(old + 3)).await;
    assert_eq!(newer.terminate().0, Some(0));
    std::fs::rename(committee.home(4).join("data"), committee.home(4).join("newest")).expect("moved away");

    // The snapshot looks whole to itself: its peers know better.
    copy(&snapshot, &committee.home(4).join("data"));
    let mut restored = committee.start(4);
    let refused = restored.wait("it refuses", |status| status["standing"] == "refused").await;
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("elsewhere")), "{refused}");
    let followed = refused["finalized"]["number"].as_u64().expect("a number");
    restored.finalizes(followed + 3).await;
    assert_eq!(restored.status().await.expect("a page")["standing"], "refused");
    assert_eq!(restored.terminate().0, Some(0));
    assert_eq!(committee_max(&committee.home(4).join("data")), old, "it has signed nothing more");
    // And it stays refused: the next start knows it from its own disk.
    let state = committee.inspect(4).db.sign_state().expect("readable").expect("a record");
    assert!(matches!(state.standing, Standing::Refused(_)), "{state:?}");

    // The backup came without a witness that could vouch for it: it does not even ask.
    std::fs::remove_dir_all(committee.home(4).join("data")).expect("removed");
    copy(&backup, &committee.home(4).join("data"));
    let mut restored = committee.start(4);
    let refused = restored.wait("it refuses", |status| status["standing"] == "refused").await;
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("witness")), "{refused}");
    assert_eq!(restored.terminate().0, Some(0));
    offering.abort();
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    let checked = committee.run(4, &["db", "check"]);
    assert_eq!(checked.status.code(), Some(0), "whole, and its refusal recorded: {}", String::from_utf8_lossy(&checked.stdout));
    committee.judge(&[1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_key_that_is_declared_new_is_stopped_by_its_peers() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators = start_all(&committee);
    let offering = committee.keep_offering(PACE);
    for validator in &mut validators {
        validator.finalizes(4).await;
    }
    assert_eq!(validators.remove(3).terminate().0, Some(0));
    std::fs::rename(committee.home(4).join("data"), committee.home(4).join("lost")).expect("moved away");
    committee.must(4, &["validator", "declare", "--never-signed"]);
    let mut mistaken = committee.start(4);
    let status = mistaken.wait("it is stopped", |status| status["standing"] == "refused").await;
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("elsewhere")), "{status}");
    offering.abort();
    assert_eq!(mistaken.terminate().0, Some(0));
    assert_eq!(committee.inspect(4).db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable").len(), 0, "it signed nothing");
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    committee.judge(&[1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_more_ends_the_process_by_its_own_code_and_a_restart_goes_on() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators: Vec<_> = (1..=3).map(|id| committee.start(id)).collect();
    // No file may grow beyond 160 KiB: the log is full after some checkpoints.
    let full = committee.start_behind(4, "trap '' XFSZ; ulimit -f 160");
    let offering = committee.keep_offering(QUICK_PACE);
    let (code, log) = full.end();
    let said = log.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(code, Some(74), "{said}");
    assert!(log.iter().any(|event| event["event"] == "storage_stopped"), "it says that a write failed:\n{said}");
    assert!(log.iter().any(|event| event["event"] == "own_vote_recorded"), "it had signed before:\n{said}");
    let mut mended = committee.start(4);
    let now = mended.wait("it signs again", |status| status["standing"] == "signing").await["eligible"].as_u64().expect("a number");
    mended.wait("what it signs is new", |status| status["last_signed"].as_u64() > Some(now)).await;
    validators.push(mended);
    offering.abort();
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    committee.judge(&[1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_is_set_aside_whole_and_the_validator_signs_on() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators = start_all(&committee);
    let offering = committee.keep_offering(PACE);
    for validator in &mut validators {
        validator.finalizes(3).await;
    }
    assert_eq!(validators.remove(3).terminate().0, Some(0));
    let before = committee.inspect(4).db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
    std::fs::write(committee.database(4).join("CURRENT"), "MANIFEST-999999\n").expect("written");
    let mut mended = committee.start(4);
    let recovered = mended.logs("database_recovered").await;
    assert!(recovered["sign_state"].as_str().is_some_and(|state| state.contains("Kept")), "{recovered}");
    let now = mended.wait("it signs again", |status| status["standing"] == "signing").await["eligible"].as_u64().expect("a number");
    mended.wait("what it signs is new", |status| status["last_signed"].as_u64() > Some(now)).await;
    offering.abort();
    validators.push(mended);
    for validator in validators {
        assert_eq!(validator.terminate().0, Some(0));
    }
    let aside = committee.home(4).join("data").join("finality.damaged-1");
    assert!(aside.join("CURRENT").exists(), "the damaged one is kept");
    let after = committee.inspect(4).db.own_votes_after(CheckpointNumber(0), usize::MAX).expect("readable");
    assert!(before.iter().all(|vote| after.contains(vote)), "no own vote was lost");
    committee.judge(&[1, 2, 3, 4]);
}

/// The highest target that the record in a folder knows.
fn committee_max(data: &Path) -> u64 {
    let inspection = checkpoint_db::CheckpointDB::inspect(data.join("finality")).expect("readable");
    inspection.db.sign_state().expect("readable").expect("a record").max_target.0
}
