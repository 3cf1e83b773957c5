//! From vote to certificate over loopback: `cargo run --example latency [rounds]`.
//!
//! Whole validators (gadget, TLS, gRPC, BLS) in one process on disks in memory. For each validator and round the time runs from the moment
//! its own vote goes into the bridge until it holds the certificate. All validators share this machine's cores: with 21 of them 21
//! processors' work is done by those there are, so the figures are upper bounds for machines of one's own.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::PoisonError;
use std::time::Duration;

use common::{Committee, ROOT};
use finality_gadget::simulator::SchemeKind;

/// Rounds that warm connections and caches up, and are not counted.
const WARM: u64 = 5;

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

async fn measure(count: u32, rounds: u64) {
    let committee = Committee::new(SchemeKind::Bls, count).await;
    let mut nodes = Vec::new();
    for id in 1..=count {
        nodes.push(committee.start(id, ROOT).await);
    }
    for number in ROOT + 1..=ROOT + WARM + rounds {
        for node in &nodes {
            node.head.send_replace(number);
        }
        for node in &mut nodes {
            node.reaches(number).await;
        }
    }
    let (mut single, mut slowest) = (Vec::new(), Vec::new());
    for number in ROOT + WARM + 1..=ROOT + WARM + rounds {
        let mut round = Vec::new();
        for node in &nodes {
            let sent = node.sent.at.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
            let certified = node.certified.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
            // Who hears of the certificate before it has voted does not vote any more.
            if let (Some(sent), Some(certified)) = (sent, certified) {
                round.push(certified.saturating_duration_since(sent));
            }
        }
        slowest.extend(round.iter().max().copied());
        single.extend(round);
    }
    single.sort_unstable();
    slowest.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "figure {count:>2} validators, {rounds} rounds, {} votes: vote to certificate p50 {:.2} ms, p99 {:.2} ms; slowest validator of a round p50 {:.2} ms, p99 {:.2} ms",
        single.len(),
        millis(percentile(&single, 50)),
        millis(percentile(&single, 99)),
        millis(percentile(&slowest, 50)),
        millis(percentile(&slowest, 99)),
    );
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("figure {cores} cores, load {}", load.trim());
    for count in [4, 21] {
        measure(count, rounds).await;
    }
}
