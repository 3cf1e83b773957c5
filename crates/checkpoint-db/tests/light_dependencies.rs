//! What somebody else's node takes in with the two library crates: no web, no chain, no model, no prover, no runtime, and nothing of the
//! host's own.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates, or families of crates by their beginning, that an embedding node must not get from us.
const FORBIDDEN: [&str; 24] = [
    "alloy",
    "revm",
    "ethers",
    "axum",
    "hyper",
    "tower",
    "reqwest",
    "tonic",
    "prost",
    "quinn",
    "libp2p",
    "rustls",
    "tokio",
    "async-std",
    "smol",
    "llama",
    "candle",
    "ggml",
    "risc0",
    "bonsai",
    "wgpu",
    "cudarc",
    "utoipa",
    "clap",
];
/// Ours that they may use.
const ALLOWED: [&str; 3] = ["finality-gadget", "checkpoint-db", "milepost-store"];

fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", "--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn judge(package: &str, must_have: &[&str]) {
    let crates = tree(package);
    for name in must_have {
        assert!(crates.contains(*name), "{package}: this check sees no {name}, so that it would see nothing else either");
    }
    for name in &crates {
        let forbidden = FORBIDDEN.iter().any(|family| name == family || name.starts_with(&format!("{family}-")));
        let foreign = name.starts_with("milepost") && !ALLOWED.contains(&name.as_str());
        assert!(!forbidden && !foreign, "{package} pulls in {name}");
    }
    println!("figure {package}: {} crates", crates.len());
}

#[test]
fn the_gadget_brings_no_database_web_chain_model_or_prover() {
    judge("finality-gadget", &["sha2", "blst"]);
    assert!(!tree("finality-gadget").iter().any(|name| name.contains("rocksdb")), "the gadget links a database");
}

#[test]
fn the_database_brings_rocksdb_and_nothing_of_the_host() {
    judge("checkpoint-db", &["rocksdb", "librocksdb-sys", "finality-gadget", "milepost-store"]);
}
