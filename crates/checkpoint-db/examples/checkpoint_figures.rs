//! The database's figures, each beside its goal: `cargo run --example checkpoint_figures [directory]`.
//!
//! 1000 checkpoints of 21 BLS validators, on whatever disk the directory lies. What falls short is printed as such, and the exit code is 1.
#![allow(clippy::cast_precision_loss, reason = "figures are rounded for people anyway")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter};
use finality_gadget::persistence::{CheckpointPersistenceConfig, CheckpointStorage, Declaration, PruneOrder, check_and_insert, declare};
use finality_gadget::scheme::Bls;
use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{
    Bitmap, BlockHash, Certificate, ChainId, CheckpointFinality, CheckpointNumber, Config, Domain, FinalityCheckpoint, FinalityRule,
    Finalized, Link, LinkDigest, Message, NetworkBridge, Recipient, Schedule, SetId, Signature, SignedVote, TrustedCheckpoint, ValidatorId,
    ValidatorIndex, ValidatorSet, Vote,
};

type Failure = Box<dyn std::error::Error>;

const VALIDATORS: u32 = 21;
const CHECKPOINTS: u64 = 1000;
const BATCH: usize = VALIDATORS as usize;

struct Nowhere;

impl NetworkBridge for Nowhere {
    fn send(&self, _: Recipient, _: &Message) {}
}

/// Keys, set and schedule of the figures' validators.
struct Cast {
    keys: Vec<Key>,
    schedule: Schedule,
}

fn checkpoint(number: u64) -> FinalityCheckpoint {
    let mut hash = [0xc0; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    FinalityCheckpoint { number: CheckpointNumber(number), hash: BlockHash(hash) }
}

impl Cast {
    fn new() -> Result<Self, Failure> {
        let keys: Vec<Key> = (0..VALIDATORS).map(|id| Key::of(SchemeKind::Bls, ValidatorId(id))).collect();
        let members: Vec<_> = (0..).zip(&keys).map(|(id, key)| key.registration(ValidatorId(id))).collect();
        let set = ValidatorSet::new(SetId(1), &Bls, &members)?;
        let trusted = TrustedCheckpoint { checkpoint: checkpoint(0), set: set.digest() };
        let schedule = Schedule::new(Domain { chain: ChainId(31337), trusted }, Arc::new(Bls), set)?;
        Ok(Self { keys, schedule })
    }

    fn vote(&self, target: u64, previous: LinkDigest) -> Vote {
        let link = Link { source: checkpoint(target - 1), target: checkpoint(target) };
        let sets = vec![self.schedule.set_at(link.target.number).digest()];
        Vote { domain: self.schedule.domain_digest(), set: SetId(1), sets, link, previous }
    }

    fn signatures(&self, vote: &Vote) -> Vec<SignedVote> {
        let message = vote.signed_bytes();
        let sign =
            |(id, key): (u32, &Key)| SignedVote { vote: vote.clone(), validator: ValidatorId(id), signature: key.sign_unchecked(&message) };
        (0..).zip(&self.keys).map(sign).collect()
    }

    fn certificate(&self, votes: &[SignedVote]) -> Result<Certificate, Failure> {
        let vote = votes[0].vote.clone();
        let electorate = self.schedule.electorate(&vote.link)?;
        let quorum = self.schedule.set_at(vote.link.target.number).quorum();
        let mut signers = Bitmap::empty(BATCH);
        let chosen: Vec<(ValidatorIndex, &Signature)> =
            (0..).map(ValidatorIndex).zip(votes.iter().map(|signed| &signed.signature)).take(quorum).collect();
        for (index, _) in &chosen {
            signers.set(*index);
        }
        let aggregate = electorate.keys().aggregate(&chosen)?;
        Ok(Certificate { vote, signers, aggregate })
    }
}

/// Writes checkpoints as a validator does: votes as they come, its own vote, the certificate with what is final by it.
fn fill(storage: &CheckpointStorageAdapter, cast: &Cast, flush_every: u64) -> Result<(), Failure> {
    declare(storage, cast.schedule.domain_digest(), Declaration::NeverSigned)?;
    let mut previous = cast.schedule.domain().root();
    for target in 1..=CHECKPOINTS {
        let vote = cast.vote(target, previous);
        let votes = cast.signatures(&vote);
        drop(check_and_insert(storage, vote.clone())?);
        votes.iter().try_for_each(|signed| storage.store_signatures(std::slice::from_ref(signed)))?;
        let certificate = cast.certificate(&votes)?;
        previous = certificate.digest();
        let finalized = Finalized { checkpoint: vote.link.target, by: vote.link.target.number };
        storage.store_certificate(&certificate, Some(&finalized))?;
        if target % flush_every == 0 {
            storage.flush()?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<CheckpointStorageAdapter, Failure> {
    Ok(CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(path)?)))
}

/// Bytes that the file system has set aside, the witness included: what `du` shows, not what files say of themselves.
fn disk_bytes(path: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for file in std::fs::read_dir(path)? {
        bytes += file?.metadata()?.blocks() * 512;
    }
    let witness = checkpoint_db::FileWitness::beside(path);
    Ok(bytes + std::fs::metadata(witness.path())?.blocks() * 512)
}

struct Report {
    short: u32,
}

impl Report {
    fn line(&mut self, what: &str, measured: f64, goal: f64, unit: &str) {
        let verdict = if measured <= goal { "ok" } else { "FALLS SHORT" };
        self.short += u32::from(measured > goal);
        println!("{what:<72} {measured:>9.2} {unit:<3} goal {goal:>6} {unit:<3} {verdict}");
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Median and 99th percentile, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    (millis(times[times.len() / 2]), millis(times[times.len() * 99 / 100]))
}

/// Time that this thread has spent on a processor: what a busy machine adds to the clock's time is not in it, nor is waiting for the disk.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn restart(report: &mut Report, path: &Path, cast: &Cast, after: &str) -> Result<(), Failure> {
    let mut ready_times = Vec::new();
    for round in 0..5 {
        let (began, cpu) = (Instant::now(), on_cpu());
        let storage = Arc::new(open(path)?);
        let (opened, opened_cpu) = (began.elapsed(), on_cpu().saturating_sub(cpu));
        let config = Config::new(FinalityRule::Single, None);
        let mut finality =
            CheckpointFinality::new(config, cast.schedule.clone(), CheckpointPersistenceConfig::mainnet(), Arc::new(Nowhere), None);
        finality.set_storage(Arc::clone(&storage) as Arc<dyn CheckpointStorage>);
        let restored = finality.restore_from_storage(1)?;
        let (ready, ready_cpu) = (began.elapsed(), on_cpu().saturating_sub(cpu));
        let (verifying, cpu) = (Instant::now(), on_cpu());
        while !finality.verify_restored()? {}
        let rows = storage.db().check()?;
        let (verified, verified_cpu) = (verifying.elapsed(), on_cpu().saturating_sub(cpu));
        assert!(restored.complete && restored.damaged.is_empty(), "{restored:?}");
        assert_eq!((restored.certificates as u64, restored.finalized.number.0), (CHECKPOINTS, CHECKPOINTS));
        ready_times.push(ready);
        if round == 0 {
            // The first start after the end of the process is the one that counts: later ones find an empty log.
            report.line(&format!("restart {after}: open, verify, ready"), millis(ready), 25.0, "ms");
            report.line(&format!("restart {after}: full verification behind it, {rows} rows"), millis(verified), 350.0, "ms");
            let [opened_cpu, ready_cpu, verified_cpu] = [opened_cpu, ready_cpu, verified_cpu].map(millis);
            println!(
                "  opened after {:.1} ms; on the processor: opened {opened_cpu:.1}, ready {ready_cpu:.1}, verification {verified_cpu:.1} ms",
                millis(opened)
            );
        }
    }
    let (median, _) = percentiles(ready_times);
    println!("{:<72} {median:>9.2} ms", format!("restart {after}: ready, median of five starts"));
    Ok(())
}

fn flushes(report: &mut Report, path: &Path, cast: &Cast) -> Result<(), Failure> {
    let storage = open(path)?;
    let votes = cast.signatures(&cast.vote(CHECKPOINTS + 1, LinkDigest([1; 32])));
    let mut times = Vec::new();
    for round in 0..1000 {
        storage.store_signatures(&votes[round % BATCH..=round % BATCH])?;
        let began = Instant::now();
        storage.flush()?;
        times.push(began.elapsed());
    }
    let (median, p99) = percentiles(times);
    println!("{:<72} {median:>9.2} ms", "flush with votes to sync, median of 1000");
    report.line("flush with votes to sync, p99 of 1000", p99, 1.0, "ms");
    Ok(())
}

/// Prunes ten checkpoints at a time of a database whose checkpoints end at `height`.
fn prunes(report: &mut Report, path: &Path, cast: &Cast, height: u64) -> Result<(), Failure> {
    let storage = open(path)?;
    for target in height - CHECKPOINTS + 1..=height {
        let vote = cast.vote(target, LinkDigest([1; 32]));
        let votes: Vec<_> = (0..VALIDATORS)
            .map(|id| SignedVote { vote: vote.clone(), validator: ValidatorId(id), signature: Signature(vec![7; 48]) })
            .collect();
        storage.store_signatures(&votes)?;
        let certificate = Certificate { vote: vote.clone(), signers: Bitmap::empty(BATCH), aggregate: Signature(vec![7; 48]) };
        storage.store_certificate(&certificate, Some(&Finalized { checkpoint: vote.link.target, by: vote.link.target.number }))?;
    }
    let mut times = Vec::new();
    for round in 1..=90 {
        let below = CheckpointNumber(height - CHECKPOINTS + 10 * round + 1);
        let began = Instant::now();
        let pruned = storage.prune(&PruneOrder { below, own_votes_below: below, anchor: None })?;
        times.push(began.elapsed());
        // The first order moves the mark over all numbers that were never there.
        assert!(round == 1 || pruned.checkpoints == 10, "{pruned:?}");
    }
    assert_eq!(storage.stats()?.certificates, 100);
    let (median, p99) = percentiles(times);
    println!("{:<72} {median:>9.3} ms", format!("prune of 10 checkpoints at height {height}, median of 90"));
    report.line(&format!("prune of 10 checkpoints at height {height}, p99 of 90"), p99, 1.0, "ms");
    Ok(())
}

/// Runs this program again as a writer and kills it when it has written everything.
fn killed_writer(path: &Path) -> Result<(), Failure> {
    use std::io::BufRead as _;
    let mut child = Command::new(std::env::current_exe()?).arg("--write").arg(path).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the writer's output is piped")?;
    let done = std::io::BufReader::new(output).lines().any(|line| line.is_ok_and(|line| line == "written"));
    child.kill()?;
    child.wait()?;
    if done { Ok(()) } else { Err("the writer failed".into()) }
}

fn measure(directory: &Path) -> Result<u32, Failure> {
    let cast = Cast::new()?;
    let mut report = Report { short: 0 };
    println!("{CHECKPOINTS} checkpoints, {VALIDATORS} validators, {}", directory.display());

    let killed = directory.join("killed");
    killed_writer(&killed)?;
    report.line("disk after kill -9, blocks set aside", disk_bytes(&killed)? as f64 / 1e6, 13.0, "MB");
    restart(&mut report, &killed, &cast, "after kill -9")?;

    let closed = directory.join("closed");
    {
        let storage = open(&closed)?;
        fill(&storage, &cast, 10)?;
        storage.db().settle()?;
    }
    report.line("disk after a planned end, blocks set aside", disk_bytes(&closed)? as f64 / 1e6, 5.0, "MB");
    restart(&mut report, &closed, &cast, "after a planned end")?;

    flushes(&mut report, &closed, &cast)?;
    for height in [2_000, 1_000_000] {
        prunes(&mut report, &directory.join(format!("height-{height}")), &cast, height)?;
    }
    Ok(report.short)
}

fn run() -> Result<u32, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, path] = arguments.as_slice()
        && mode == "--write"
    {
        fill(&open(Path::new(path))?, &Cast::new()?, 10)?;
        println!("written");
        // Waits to be killed.
        loop {
            std::thread::park();
        }
    }
    let given = arguments.first().map(PathBuf::from);
    let scratch = tempfile::tempdir()?;
    let directory = given.unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&directory)?;
    measure(&directory)
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => {
            println!("every figure reaches its goal");
            ExitCode::SUCCESS
        }
        Ok(short) => {
            println!("{short} figures fall short");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
