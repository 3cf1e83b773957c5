//! The demo with validators, as `milepost dev --tour --validators 4` plays it: real processes, real votes, and a checker that believes nobody.

use std::process::Command;

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
}
