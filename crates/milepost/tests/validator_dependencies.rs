//! What a program that only validates is made of: neither a model, nor a prover, nor any part of a host. Looked up, not compiled.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates, or families of crates by their beginning, that a validator must not have in it.
const FORBIDDEN: [&str; 20] = [
    "llama",
    "candle",
    "ggml",
    "risc0",
    "bonsai",
    "wgpu",
    "cudarc",
    "alloy",
    "revm",
    "minijinja",
    "utoipa",
    "milepost-client",
    "milepost-gateway",
    "milepost-inference",
    "milepost-ledger",
    "milepost-ledger-db",
    "milepost-prover",
    "milepost-prover-worker",
    "milepost-settlement",
    "milepost-test-support",
];

fn tree(features: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--package", "milepost", "--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|family| name == *family || name.starts_with(&format!("{family}-")))
}

#[test]
fn a_validator_brings_neither_model_nor_prover_nor_any_part_of_a_host() {
    let validator = tree("validator");
    for name in ["finality-gadget", "checkpoint-db", "rocksdb", "milepost-validator-net", "milepost-canonical-chain", "tonic"] {
        assert!(validator.contains(name), "this check sees no {name}, so that it would see nothing else either");
    }
    let wrong: Vec<_> = validator.iter().filter(|name| forbidden(name)).collect();
    assert!(wrong.is_empty(), "a validator pulls in {wrong:?}");
    println!("figure validator_crates {}", validator.len());

    // The same look at a host sees what it should.
    let host = tree("host,rocksdb,llama,stark");
    assert!(["llama-cpp-2", "risc0-zkvm", "milepost-gateway"].iter().all(|name| host.contains(*name)));
    assert!(!host.contains("checkpoint-db"), "and a host alone validates nothing");
}
