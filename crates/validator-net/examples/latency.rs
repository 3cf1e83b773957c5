//! From vote to certificate over loopback: `cargo run --example latency [rounds [directory]]`.
//!
//! Whole validators (gadget, TLS, gRPC, BLS) in one process. All of them share this machine's cores and its one disk: with 21 of them 21
//! processors' work is done by those there are, so the figures are upper bounds for machines of one's own. Two pairs:
//!
//! - *vote to certificate*, on disks in memory: for each validator and round from the moment its own vote goes into the bridge until it holds
//!   the certificate. What the network and the rules take; nothing is synced in it, and signing lies before it.
//! - *eligible to stored certificate*, on checkpoint databases in `directory` (a temporary one, if none is named): for each validator and
//!   round from the moment the chain offers the checkpoint until the certificate is synced to that validator's disk. In between lie all
//!   that a real validator does: its own vote is judged, synced with its witness, and signed; the votes of the others come, are verified
//!   and aggregated; the certificate is synced. Beside it stands what one `fdatasync` takes in that directory.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter};
use common::{Committee, Disk, Node, ROOT};
use finality_gadget::simulator::SchemeKind;

/// Rounds that warm connections and caches up, and are not counted.
const WARM: u64 = 5;
/// Syncs of the reference.
const SYNCS: u32 = 200;

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The times of single validators, and the longest of each round.
#[derive(Default)]
struct Times {
    single: Vec<Duration>,
    slowest: Vec<Duration>,
}

impl Times {
    fn add(&mut self, round: Vec<Duration>) {
        self.slowest.extend(round.iter().max().copied());
        self.single.extend(round);
    }

    fn tell(mut self, count: u32, rounds: u64, what: &str) {
        self.single.sort_unstable();
        self.slowest.sort_unstable();
        println!(
            "figure {count:>2} validators, {rounds} rounds, {} {what} p50 {:.2} ms, p99 {:.2} ms; slowest validator of a round p50 {:.2} ms, p99 {:.2} ms",
            self.single.len(),
            millis(percentile(&self.single, 50)),
            millis(percentile(&self.single, 99)),
            millis(percentile(&self.slowest, 50)),
            millis(percentile(&self.slowest, 99)),
        );
    }
}

/// Lets a committee certify checkpoint after checkpoint; the validators, and when each checkpoint was offered.
async fn certify(committee: &Committee, count: u32, rounds: u64) -> (Vec<Node>, Vec<(u64, Instant)>) {
    let mut nodes = Vec::new();
    for id in 1..=count {
        nodes.push(committee.start(id, ROOT).await);
    }
    let mut offered = Vec::new();
    for number in ROOT + 1..=ROOT + WARM + rounds {
        offered.push((number, Instant::now()));
        for node in &nodes {
            node.head.send_replace(number);
        }
        for node in &mut nodes {
            node.reaches(number).await;
        }
    }
    (nodes, offered.split_off(usize::try_from(WARM).expect("few")))
}

fn certified(node: &Node, number: u64) -> Option<Instant> {
    node.certified.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied()
}

async fn in_memory(count: u32, rounds: u64) {
    let committee = Committee::new(SchemeKind::Bls, count).await;
    let (nodes, offered) = certify(&committee, count, rounds).await;
    let mut times = Times::default();
    for (number, _) in offered {
        let time = |node: &Node| {
            let sent = node.sent.at.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied();
            // Who hears of the certificate before it has voted does not vote any more.
            Some(certified(node, number)?.saturating_duration_since(sent?))
        };
        times.add(nodes.iter().filter_map(time).collect());
    }
    times.tell(count, rounds, "votes: vote to certificate");
    for node in nodes {
        node.stop().await;
    }
}

async fn on_disk(count: u32, rounds: u64, directory: &Path) {
    let database = |id: u32| -> Disk {
        let path = directory.join(format!("{count}-{id}"));
        Box::new(move || Arc::new(CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(&path).expect("a database")))))
    };
    let committee = Committee::on(SchemeKind::Bls, count, database).await;
    let (nodes, offered) = certify(&committee, count, rounds).await;
    let mut times = Times::default();
    for (number, at) in offered {
        times.add(nodes.iter().filter_map(|node| Some(certified(node, number)?.saturating_duration_since(at))).collect());
    }
    times.tell(count, rounds, "certificates: eligible to stored certificate, on disk");
    for node in nodes {
        node.stop().await;
    }
}

/// What one sync takes in this directory.
fn reference(directory: &Path) {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(directory.join("raw")).expect("a file");
    let mut times: Vec<Duration> = (0..SYNCS)
        .map(|_| {
            let began = Instant::now();
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&[7; 4096])).expect("written");
            file.sync_data().expect("synced");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("figure raw fdatasync of 4 KiB p50 {:.2} ms, p99 {:.2} ms", millis(percentile(&times, 50)), millis(percentile(&times, 99)));
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
    let scratch = tempfile::tempdir().expect("a folder");
    let directory = std::env::args().nth(2).map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&directory).expect("a folder");
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("figure {cores} cores, load {}", load.trim());
    for count in [4, 21] {
        in_memory(count, rounds).await;
    }
    reference(&directory);
    for count in [4, 21] {
        on_disk(count, rounds, &directory).await;
    }
}
