//! The commands around a validator: keys, the set file, the database, histories, evidence.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use checkpoint_db::CheckpointDB;
use finality_gadget::{BlockHash, CheckpointNumber, Evidence, FinalityCheckpoint, Link, Testimony, ValidatorId, Vote};
use serde_json::Value;
use validators::Committee;

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keys_history_moves_with_it_and_is_never_lowered() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut all: Vec<_> = (1..=4).map(|id| committee.start(id)).collect();
    let offering = committee.keep_offering(Duration::from_millis(200));
    for validator in &mut all {
        validator.finalizes(4).await;
    }
    offering.abort();
    for validator in all {
        assert_eq!(validator.terminate().0, Some(0));
    }
    let stats = committee.must(1, &["db", "stats"]);
    let target = stats["max_target"].as_u64().expect("a mark");
    // Three of the four certify without one that starts late: how many votes it has cast depends on the machine.
    assert!(target >= 4 && stats["own_votes"].as_u64() >= Some(2) && stats["certificates"].as_u64() >= Some(5), "{stats}");
    assert_eq!((&stats["doubt"], &stats["refused"]), (&Value::Null, &Value::Null));
    assert_eq!(committee.must(1, &["db", "check"])["damaged"], false);

    let folder = committee.home(1);
    let (complete, minified) = (folder.join("complete.json"), folder.join("minified.json"));
    let told = committee.must(1, &["db", "export", "--out", &text(&complete)]);
    assert_eq!(told["votes"], stats["own_votes"]);
    assert_eq!(committee.must(1, &["db", "export", "--minified", "--out", &text(&minified)])["votes"], 1);
    let over = committee.run(1, &["db", "export", "--out", &text(&complete)]);
    assert_eq!(over.status.code(), Some(1), "a file is not written over: {}", String::from_utf8_lossy(&over.stderr));
    let file: Value = serde_json::from_slice(&std::fs::read(&complete).expect("there")).expect("JSON");
    assert_eq!(file["metadata"]["interchange_format_version"], "5");
    let agreed = committee.must(1, &["validator", "set"]);
    assert_eq!(file["metadata"]["genesis_validators_root"], agreed["domain"]);

    // On the new machine: the whole history, then the minified one, which lowers nothing.
    std::fs::rename(folder.join("data"), folder.join("old-machine")).expect("moved");
    for (history, votes) in [(&complete, stats["own_votes"].clone()), (&minified, Value::from(1))] {
        let imported = committee.must(1, &["db", "import", &text(history)]);
        assert_eq!((&imported["max_target"], &imported["votes"]), (&Value::from(target), &votes), "{imported}");
        assert_eq!(imported["contradictions"], Value::Array(Vec::new()));
    }
    let foreign = committee.run(2, &["db", "import", &text(&complete)]);
    let told: Value = serde_json::from_slice(&foreign.stdout).expect("JSON");
    assert_eq!((foreign.status.code(), &told["votes"]), (Some(0), &Value::from(0)), "another key's history is none of this key's");
    std::fs::write(folder.join("broken.json"), "{}").expect("written");
    assert_eq!(committee.run(1, &["db", "import", &text(&folder.join("broken.json"))]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_by_a_look_that_changes_nothing() {
    let committee = Committee::new(4, &[]).await;
    let nowhere = committee.run_with(1, &["db", "check"], &[("validator.data", "/nowhere".to_owned())]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(nowhere.status.code() == Some(78) && said.contains("there is no database"), "{said}");
    std::fs::remove_file(committee.database(1).join("CURRENT")).expect("removed");
    let before = names(&committee.home(1).join("data"));
    for command in ["check", "stats"] {
        let (code, said) = committee.must_fail(1, &["db", command]);
        assert!(code == Some(2) && said.contains("CURRENT") && said.contains("Nothing was changed"), "{command}: {code:?} {said}");
    }
    assert_eq!(names(&committee.home(1).join("data")), before, "nothing was set aside or made");

    // A witness that is gone is a doubt, and a look does not settle it either.
    let witness = committee.home(2).join("data").join("finality.witness");
    std::fs::rename(&witness, committee.home(2).join("witness")).expect("moved away");
    let output = committee.run(2, &["db", "check"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.code() == Some(2) && told["doubt"].as_str().is_some_and(|doubt| doubt.contains("witness")), "{told}");
    std::fs::rename(committee.home(2).join("witness"), &witness).expect("put back");
    assert_eq!(committee.run(2, &["db", "check"]).status.code(), Some(0));
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_convinces_whoever_has_the_set_file_and_no_other_set() {
    let committee = Committee::new(4, &[]).await;
    // Signed by a twin of validator 2, whose key the test has.
    let vote = |hash: u8| {
        let schedule = &committee.agreement.schedule;
        let source = schedule.domain().trusted.checkpoint;
        let target = FinalityCheckpoint { number: CheckpointNumber(5), hash: BlockHash([hash; 32]) };
        let link = Link { source, target };
        let electorate = schedule.electorate(&link).expect("in force");
        Vote {
            domain: schedule.domain_digest(),
            set: electorate.id(),
            sets: electorate.digests(),
            link,
            previous: schedule.domain().root(),
        }
    };
    let signed = |hash: u8| Testimony::Vote(validators::twin(2, vote(hash)));
    let file = committee.home(2).join("evidence");
    let verify = |evidence: &Evidence, digits: bool, set: &Path| {
        let bytes = evidence.encode();
        std::fs::write(&file, if digits { format!("0x{}\n", hex::encode(&bytes)).into_bytes() } else { bytes }).expect("written");
        let output = committee.run(1, &["evidence", "verify", &text(&file), "--set-file", &text(set)]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null))
    };
    let guilty = Evidence::new(ValidatorId(2), signed(1), signed(2));
    for digits in [false, true] {
        let (code, told) = verify(&guilty, digits, &committee.set_file());
        assert_eq!((code, &told["holds"], &told["validator"]), (Some(0), &Value::from(true), &Value::from(2)), "{told}");
    }
    for innocent in [Evidence::new(ValidatorId(2), signed(1), signed(1)), Evidence::new(ValidatorId(3), signed(1), signed(2))] {
        let (code, told) = verify(&innocent, false, &committee.set_file());
        assert_eq!((code, &told["holds"]), (Some(1), &Value::from(false)), "{told}");
    }
    let other = Committee::new(4, &[]).await;
    let changed = std::fs::read_to_string(other.set_file()).expect("text").replace("chain_id = 31337", "chain_id = 1");
    std::fs::write(committee.home(2).join("other.toml"), changed).expect("written");
    let (code, told) = verify(&guilty, false, &committee.home(2).join("other.toml"));
    assert_eq!((code, &told["holds"]), (Some(1), &Value::from(false)), "signed for another chain: {told}");
    let (code, _) = verify(&guilty, false, Path::new("/nowhere.toml"));
    assert_eq!(code, Some(69), "no verdict without a set file");

    // What a validator keeps is listed, written out, and convinces others.
    assert_eq!(committee.must(1, &["evidence", "list"]), Value::Array(Vec::new()));
    CheckpointDB::new(committee.database(1)).expect("a database").store_evidence(&guilty).expect("stored");
    let listed = committee.must(1, &["evidence", "list"]);
    assert_eq!((&listed[0]["validator"], &listed[0]["conflict"]), (&Value::from(2), &Value::from("two votes for one target")), "{listed}");
    let out = committee.home(1).join("evidence-for-others");
    for _ in 0..2 {
        let written = committee.must(1, &["evidence", "export", "--out", &text(&out)]);
        let path = written[0].as_str().expect("a file").to_owned();
        let told = committee.must(3, &["evidence", "verify", &path]);
        assert_eq!(told["holds"], true, "with the set file that is configured: {told}");
    }
}
