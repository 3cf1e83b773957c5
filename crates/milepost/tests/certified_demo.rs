//! The demo with validators, as `milepost dev --tour --validators 4` plays it: real processes, real votes, and a checker that believes nobody.

use std::path::Path;
use std::process::Command;

use milepost_bundle::{Bundle, Certificate};
use serde_json::Value;

/// With the scripted engine the play takes well under a minute; a busy machine takes longer.
#[test]
fn every_payment_of_the_demo_is_final_by_a_certificate_of_four_validators() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("demo");
    let played = Command::new(env!("CARGO_BIN_EXE_milepost"))
        .args(["dev", "--tour", "--validators", "4", "--out"])
        .arg(&out)
        .output()
        .expect("the program starts");
    let shown = String::from_utf8_lossy(&played.stdout);
    let logs = ["host.log", "validators/1/validator.log"].map(|log| std::fs::read_to_string(out.join(log)).unwrap_or_default());
    assert!(played.status.success(), "{shown}\n{}\n{}\n{}", String::from_utf8_lossy(&played.stderr), logs[0], logs[1]);
    for line in ["validators' agreement", "certificates hold", "certified blocks on chain", "every payment certified"] {
        assert!(shown.lines().any(|shown| shown.starts_with("ok") && shown.contains(line)), "the checker looked at {line}: {shown}");
    }

    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).expect("there")).expect("JSON");
    let payments = report["finality"]["payments"].as_array().expect("each payment is named").clone();
    assert_eq!(payments.len(), report["claims"].as_array().expect("claims").len() + 1, "the claims and the payout");
    for payment in &payments {
        let (block, certified) = (payment["block"].as_u64().expect("a block"), payment["certified_block"].as_u64().expect("a block"));
        assert!(certified >= block, "{payment}");
        assert!(payment["signers"].as_u64().expect("a number") >= 3, "three of four are a quorum: {payment}");
    }
    // The host's own words, written when it took each as final.
    let said = |event: &str| {
        logs[0].lines().filter(|line| line.contains(&format!("\"event\":\"{event}\"")) && line.contains("certificate 0x")).count()
    };
    assert_eq!((said("claim_final"), said("session_paid")), (payments.len() - 1, 1));

    let set_file = out.join(report["finality"]["set_file"].as_str().expect("where the set file is"));
    certificates_travel_in_the_bundles(&out, &set_file);
}

/// Each claim's bundle encloses what makes its block final: checked with the bundle and the set file alone.
fn certificates_travel_in_the_bundles(out: &Path, set_file: &Path) {
    let verify = |bundle: &Path, with_set: bool| -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.env_clear().args(["verify", "--json", "--accept-mock"]).arg(bundle);
        if with_set {
            command.arg("--set-file").arg(set_file);
        }
        let output = command.output().expect("the program starts");
        (output.status.code().expect("it ended by itself"), serde_json::from_slice(&output.stdout).expect("JSON"))
    };
    let line = |report: &Value| {
        report["checks"].as_array().expect("checks").iter().find(|line| line["name"] == "finality").expect("asked").clone()
    };
    let files = std::fs::read_dir(out).expect("a folder").map(|entry| entry.expect("an entry").path());
    let bundles: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "bundle")).collect();
    assert!(!bundles.is_empty());
    let altered = out.join("altered");
    for path in &bundles {
        let (code, report) = verify(path, true);
        assert_eq!((code, &line(&report)["result"]), (0, &Value::from("holds")), "{}: {report:#}", path.display());
        assert!(report["what_finality_adds"].is_string());
        let (code, report) = verify(path, false);
        assert_eq!((code, &line(&report)["result"]), (0, &Value::from("not-checked")), "nobody looked without the set file: {report:#}");

        let mut bundle = Bundle::decode(&std::fs::read(path).expect("there")).expect("a bundle");
        let enclosed = bundle.certificate.clone().expect("a certificate");
        // A certificate that was touched is seen with the set file alone, headers that lead elsewhere by anybody.
        let last = enclosed.bytes.len() - 1;
        bundle.certificate.as_mut().expect("there").bytes[last] ^= 1;
        std::fs::write(&altered, bundle.encode().expect("encodes")).expect("written");
        assert_eq!((verify(&altered, true).0, verify(&altered, false).0), (3, 0));
        bundle.certificate = Some(Certificate { link: vec![vec![0xc0]], ..enclosed });
        std::fs::write(&altered, bundle.encode().expect("encodes")).expect("written");
        assert_eq!((verify(&altered, true).0, verify(&altered, false).0), (3, 3));
    }
    println!("figure {} bundles of the demo: certificate and link hold by the set file alone, altered ones do not", bundles.len());
}
