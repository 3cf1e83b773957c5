//! Four `milepost validator` processes on a real dev chain: they certify, finalize, tell how they are doing, and stop when told.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::sync::Arc;
use std::time::Duration;

use milepost_test_support::{FaultProxy, Rules};
use milepost_validator_net::set_file::Rule;
use serde_json::Value;
use validators::Committee;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_certify_and_finalize_what_a_dev_chain_offers() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    let mut validators: Vec<_> = (1..=4).map(|id| committee.start(id)).collect();
    let began = std::time::Instant::now();
    for validator in &mut validators {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    println!("figure validators_signing_after_start_seconds {:.2}", began.elapsed().as_secs_f64());
    for number in 1..=10 {
        committee.offer(1).await;
        for validator in &mut validators {
            // Final is a justified checkpoint whose direct child is justified.
            validator.finalizes(number - 1).await;
        }
    }
    let hashes: Vec<Value> = {
        let mut hashes = Vec::new();
        for validator in &mut validators {
            hashes.push(validator.finalizes(9).await["finalized"]["hash"].clone());
        }
        hashes
    };
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "all call the same block final: {hashes:?}");

    let first = &validators[0];
    let (code, ready) = first.page("/ready").await;
    assert_eq!(code, 200, "{ready}");
    assert_eq!(first.page("/health").await.0, 200);
    let (_, metrics) = first.page("/metrics").await;
    for figure in [
        "milepost_validator_finalized 9",
        "milepost_validator_justified 10",
        "milepost_validator_last_signed ",
        "milepost_validator_peers_reached 3",
        "milepost_validator_peers_heard 3",
        "milepost_validator_standing{standing=\"signing\"} 1",
        "milepost_validator_lag 0",
        "milepost_validator_evidence 0",
        "milepost_validator_chain_up 1",
        "milepost_validator_own_votes_total ",
        "milepost_validator_certificates_stored_total 10",
        "milepost_validator_own_vote_seconds_bucket",
    ] {
        assert!(metrics.contains(figure), "{figure} is missing:\n{metrics}");
    }

    let resident = validators.iter().map(validators::Validator::resident_kib).max().expect("four");
    println!("figure validator_resident_mib {:.1} (goal 64)", f64::from(resident) / 1024.0);
    assert!(resident < 64 * 1024, "{resident} KiB");

    // Whoever looks after it is told that all is well, and what could be better.
    let output = committee.run(1, &["validator", "doctor"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let verdict = |told: &Value, check: &str| {
        let all = told["checks"].as_array().expect("checks");
        let found = all.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no check {check}: {told:#}"));
        found["verdict"].as_str().expect("a verdict").to_owned()
    };
    for check in ["identity", "vote key", "validator", "endpoint", "peers"] {
        assert_eq!(verdict(&told, check), "ok", "{told:#}");
    }
    assert_eq!((output.status.code(), verdict(&told, "set file").as_str()), (Some(3), "warning"), "the agreement is not pinned: {told:#}");

    for validator in validators {
        let id = validator.id;
        let (code, log) = validator.terminate();
        assert_eq!(code, Some(0), "validator {id} stops when told: {log:?}");
        for name in [
            "starting",
            "validator",
            "database_opening",
            "restored",
            "validating",
            "standing",
            "own_vote_recorded",
            "stored_certificate",
            "finality_advanced",
            "draining",
            "stopped",
        ] {
            assert!(log.iter().any(|event| event["event"] == name), "validator {id} does not log {name}");
        }
        assert!(log.iter().all(|event| event["event"] != "standing" || event["standing"] != "refused"));
    }
    let agreed = committee.must(1, &["validator", "set"])["agreement"].as_str().expect("a digest").to_owned();
    let output = committee.run_with(1, &["validator", "doctor"], &[("validator.agreement", agreed)]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (check, expected) in [("set file", "ok"), ("database", "ok"), ("sign-state", "ok"), ("endpoint", "ok"), ("peers", "failure")] {
        assert_eq!(verdict(&told, check), expected, "{told:#}");
    }
    assert_eq!(output.status.code(), Some(1), "nobody else runs: {told:#}");

    let (votes, certificates) = committee.judge(&[1, 2, 3, 4]);
    // Who has a certificate before it has voted need not vote any more.
    assert!((30..=40).contains(&votes), "a quorum signed for each of ten checkpoints, nobody twice: {votes}");
    assert_eq!(certificates, 40, "everybody holds ten certificates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_says_what_keeps_it_from_starting_and_by_its_exit_code_whether_waiting_helps() {
    let committee = Committee::new(4, &[]).await;
    let mut first = committee.start(1);
    first.wait("it runs", |status| status["standing"] == "asking").await;

    // A second process with the same folder, and every command that needs the database for itself.
    let (code, log) = committee
        .start_with(1, &[("validator.listen", "127.0.0.1:0".to_owned()), ("validator.metrics_listen", "127.0.0.1:0".to_owned())])
        .end();
    let said = log.iter().map(Value::to_string).collect::<String>();
    assert!(code == Some(75) && said.contains("has this database open"), "{code:?}: {said}");
    for arguments in [&["db", "stats"][..], &["db", "check"], &["validator", "declare", "--never-signed"], &["evidence", "list"]] {
        let output = committee.run(1, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{arguments:?}: {said}");
        assert!(said.contains(&format!("process {}", first.pid())), "{arguments:?}: {said}");
    }
    // The address is taken.
    let data = committee.home(1).join("elsewhere").display().to_string();
    let (code, log) = committee.start_with(1, &[("validator.data", data)]).end();
    assert_eq!(code, Some(75), "{log:?}");
    drop(first);

    let refused = |id: u32, key: &str, value: String, words: &str| {
        let (code, log) = committee.start_with(id, &[(key, value)]).end();
        let said = log.iter().map(Value::to_string).collect::<String>();
        assert!(code == Some(78) && said.contains(words), "{key}: {code:?}: {said}");
    };
    let of = |id: u32, file: &str| committee.home(id).join(file).display().to_string();
    refused(2, "validator.agreement", format!("0x{}", "11".repeat(32)), "not the one that was agreed on");
    refused(2, "validator.keystore", of(3, "vote.json"), "not the one that the set file gives validator 2");
    refused(2, "validator.transport_key", of(2, "vote.json"), "transport key");
    refused(2, "validator.set_file", of(2, "nowhere.toml"), "nowhere.toml");
    refused(2, "validator.follow", "sideways".to_owned(), "sideways");
    // Asked only once a database is there; wrong passphrases are told from wrong keys.
    let wrong = committee.home(2).join("wrong");
    std::fs::write(&wrong, "not the passphrase").expect("written");
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    refused(2, "validator.passphrase_file", wrong.display().to_string(), "passphrase is wrong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_left_for_the_next_and_an_observer_follows_without_signing() {
    let committee = Arc::new(Committee::new(4, &[]).await);
    // Tried first: nobody listens there. The test's own form of a list.
    let file = committee.home(1).join("milepost.toml");
    let text = format!(
        "[validator]\nrpc_urls = [{{ url = \"http://127.0.0.1:1/secret-key\", weight = 9 }}, {{ url = \"{}\" }}]\n",
        committee.chain.url()
    );
    std::fs::write(&file, text).expect("written");
    let mut validators = vec![committee.start_with_file(1, &file)];
    validators.extend([2, 3].map(|id| committee.start(id)));
    let nothing = committee.home(4).join("nothing");
    let observing = [("validator.persistence.enabled", "false".to_owned()), ("validator.data", nothing.display().to_string())];
    validators.push(committee.start_with(4, &observing));
    let offering = committee.keep_offering(Duration::from_millis(200));
    for validator in &mut validators {
        validator.finalizes(3).await;
    }
    offering.abort();
    let status = validators[3].status().await.expect("it answers");
    assert_eq!(status["standing"], "observer");
    assert_eq!(status["last_signed"], Value::Null);
    let log = validators[0].log();
    let down = log.iter().find(|event| event["event"] == "chain_down").expect("it says so");
    assert_eq!(down["endpoint"], "http://127.0.0.1:1");
    assert!(!validators[0].log_text().contains("secret-key"), "an access key is never logged");
    assert!(log.iter().any(|event| event["event"] == "chain_back"));
    assert!(!nothing.exists(), "an observer without persistence keeps nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_rule_single_nothing_above_the_chains_own_tag_is_certified() {
    let committee = Committee::under(Rule::Single, 4, &[]).await;
    // The dev chain's tag does not move by itself: the proxy moves it.
    let behind = |blocks: u64| Rules { finalized_depth: blocks, ..Rules::default() };
    let proxy = FaultProxy::with(committee.chain.url(), behind(1_000)).await.expect("a proxy");
    let through = [("validator.rpc_url", proxy.url())];
    let mut validators: Vec<_> = (1..=4).map(|id| committee.start_with(id, &through)).collect();
    for validator in &mut validators {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    committee.offer(4).await;
    let newest = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;
    // Two checkpoints below the head are the chain's own final ones; one certificate makes its target final at once.
    proxy.set_rules(behind(2 * validators::INTERVAL));
    for validator in &mut validators {
        let status = validator.finalizes(newest - 2).await;
        assert_eq!(status["finalized"]["number"].as_u64(), Some(newest - 2), "not one above the tag: {status:#}");
    }
    proxy.set_rules(behind(0));
    for validator in &mut validators {
        validator.finalizes(newest).await;
    }
    for validator in validators {
        let (code, log) = validator.terminate();
        assert_eq!(code, Some(0), "{log:?}");
    }
    let (votes, certificates) = committee.judge(&[1, 2, 3, 4]);
    assert!(votes >= 6 && certificates >= 8, "two targets at least, each by a quorum: {votes} votes, {certificates} certificates");
    // Following anything but the tag is refused under this rule.
    let (code, log) = committee.start_with(1, &[("validator.follow", "latest".to_owned())]).end();
    assert_eq!(code, Some(78), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hosts_doctor_looks_at_the_certificates_that_make_its_claims_final() {
    let committee = Committee::new(4, &[]).await;
    let mut validators: Vec<_> = (1..=4).map(|id| committee.start_with(id, &[committee.certificates(id)])).collect();
    committee.offer(3).await;
    for validator in &mut validators {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    for number in 1..=3 {
        committee.offer(1).await;
        for validator in &mut validators {
            validator.finalizes(number).await;
        }
    }
    let data = tempfile::tempdir().expect("a folder");
    let doctor = |more: &[(&str, String)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_milepost"));
        common::forget_own_variables(&mut command);
        let settings = [
            ("node.data", data.path().display().to_string()),
            ("model.engine", "scripted".to_owned()),
            ("chain.rpc_url", committee.chain.url().to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("chain.marketplace", format!("0x{}", "11".repeat(20))),
            ("chain.finality", "certificate".to_owned()),
            ("chain.certificates.set_file", committee.set_file().display().to_string()),
        ];
        for (key, value) in settings.iter().chain(more) {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = command.args(["doctor", "--no-proof"]).output().expect("the program runs");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        told["checks"].as_array().expect("checks").clone()
    };
    let of = |checks: &[Value], name: &str| -> Vec<(String, String)> {
        let named = checks.iter().filter(|check| check["check"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        named.map(|check| (text(&check["verdict"]), text(&check["found"]))).collect()
    };
    let verdicts = |checks: &[Value], name: &str| of(checks, name).into_iter().map(|(verdict, _)| verdict).collect::<Vec<_>>();

    let checks = doctor(&[]);
    assert_eq!(verdicts(&checks, "set file"), ["warning"], "the agreement is not pinned: {checks:#?}");
    assert_eq!(verdicts(&checks, "trusted checkpoint"), ["ok"], "{checks:#?}");
    assert_eq!(verdicts(&checks, "certificates"), ["ok"; 4], "{checks:#?}");
    let newest = of(&checks, "newest certificate");
    assert!(newest.len() == 1 && newest[0].0 == "ok" && newest[0].1.contains("s old"), "{checks:#?}");

    // One validator is gone: the others are enough. The agreement is pinned, once right and once wrong.
    drop(validators.remove(0));
    let agreed = hex::encode(committee.agreement.digest());
    let checks = doctor(&[("chain.certificates.agreement", agreed)]);
    assert_eq!(verdicts(&checks, "set file"), ["ok"], "{checks:#?}");
    assert_eq!(verdicts(&checks, "certificates").iter().filter(|verdict| *verdict == "ok").count(), 3, "{checks:#?}");
    let checks = doctor(&[("chain.certificates.agreement", "11".repeat(32))]);
    assert_eq!(verdicts(&checks, "set file"), ["failure"], "{checks:#?}");
    drop(validators);
    let checks = doctor(&[]);
    assert_eq!(verdicts(&checks, "newest certificate"), ["failure"], "nobody answers: {checks:#?}");
    let checks = doctor(&[("chain.certificates.set_file", data.path().join("none.toml").display().to_string())]);
    assert_eq!(verdicts(&checks, "set file"), ["failure"], "{checks:#?}");
    assert!(!data.path().join("certificates").exists(), "looking changes nothing");
}
