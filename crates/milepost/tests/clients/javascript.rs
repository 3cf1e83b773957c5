//! `clients/js/milepost.mjs` as others run it: in Node, by its own tests, against the frozen vectors, a lying server of their own, and
//! this node.

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::common::ground::Ground;

/// Longest run of one of its test files: the one that is paid waits for some twenty blocks of a second.
const LIMIT: Duration = Duration::from_mins(2);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/js/test")
}

/// Runs tests in Node; answers what they printed. All must pass, and there must be as many as expected.
pub(crate) async fn node_tests(files: &[&str], variables: &[(&str, String)], count: usize) -> String {
    let mut command = Command::new("node");
    // Node 20 has WebSocket behind this flag, later ones have it anyway and take the flag.
    command.args(["--experimental-websocket", "--test", "--test-reporter=tap"]).args(files.iter().map(|file| folder().join(file)));
    // Into a file: what was printed before a limit was passed is there to read.
    let mut printed = tempfile::tempfile().expect("a file");
    let sink = || Stdio::from(printed.try_clone().expect("a handle"));
    command.envs(variables.iter().map(|(name, value)| (name, value))).stdin(Stdio::null()).stdout(sink()).stderr(sink()).kill_on_drop(true);
    let mut child = command.spawn().expect("node runs (version 20 or later)");
    let status = tokio::time::timeout(LIMIT, child.wait()).await;
    let mut text = String::new();
    printed.rewind().expect("a file");
    printed.read_to_string(&mut text).expect("text");
    let status = status.unwrap_or_else(|_| panic!("{files:?} do not end within {LIMIT:?}:\n{text}")).expect("it ended");
    assert!(status.success(), "{files:?}: {status}\n{text}");
    // A file that ran nothing would pass as well.
    assert!(text.contains(&format!("\n# pass {count}\n")), "{count} tests are expected to pass:\n{text}");
    text
}

/// Where the tests find node, chain and contracts.
pub(crate) fn places(ground: &Ground, url: &str) -> Vec<(&'static str, String)> {
    let contracts = &ground.contracts;
    vec![
        ("MILEPOST_URL", url.to_owned()),
        ("RPC_URL", ground.chain.url().to_owned()),
        ("MARKETPLACE", format!("{:#x}", contracts.marketplace)),
        ("HOST", format!("{:#x}", contracts.actors.host.address)),
        ("TOKEN", format!("{:#x}", contracts.usdc)),
        ("MODEL_DIGEST", format!("{:#x}", contracts.model)),
        ("DEPOSITOR", format!("{:#x}", contracts.actors.depositor.address)),
    ]
}

#[tokio::test]
async fn the_javascript_client_agrees_with_the_frozen_vectors_and_finds_every_lie() {
    node_tests(&["vectors.test.mjs", "lies.test.mjs"], &[], 33).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_funds_follows_countersigns_and_is_paid_back_to_the_unit() {
    let ground = Ground::new(&[("model.scripted_rate", "300")]).await;
    let node = ground.start();
    let told = node_tests(&["node/conversation.mjs"], &places(&ground, &node.url), 2).await;
    for line in told.lines().filter(|line| line.contains("figure ")) {
        println!("{}", line.trim_start_matches("# "));
    }
    ground.wait_clean().await;
    node.kill();
}
