//! What the database costs: starts, space, flushing, pruning, memory.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter};
use finality_gadget::network::OwnVotes;
use finality_gadget::persistence::{CheckpointPersistenceConfig, CheckpointStorage, PruneOrder};
use finality_gadget::simulator::{Key, SchemeKind};
use finality_gadget::{
    Bitmap, Certificate, ChainView, CheckpointFinality, CheckpointNumber, Config, FinalityRule, Finalized, LinkDigest, Message,
    NetworkBridge, Recipient, Signature, SignedVote, Standing, ValidatorId,
};

use crate::cast::{Cast, checkpoint};
use crate::report::{Report, Took, Watch, memory, millis, note, percentile};
use crate::{CHECKPOINTS, Failure, VALIDATORS};

/// Starts of which the median counts: one start is one throw of the dice of a busy disk.
const STARTS: usize = 9;
/// Flushes of which the 99th percentile counts: some forty may be slower, about half of those that also move the log into a table file, and
/// not merely the first ones after an opening, whose log is new to the disk.
const FLUSHES: usize = 4000;

struct Nowhere;

impl NetworkBridge for Nowhere {
    fn send(&self, _: Recipient, _: &Message) {}
}

pub(crate) fn open(path: &Path) -> Result<CheckpointStorageAdapter, Failure> {
    Ok(CheckpointStorageAdapter::new(Arc::new(CheckpointDB::new(path)?)))
}

/// A process that starts from the database at `path`, as a validator does, and tells how long that took. Its peers' answers come at once.
pub(crate) fn start(path: &Path) -> Result<(), Failure> {
    // Keys are read and checked before: how long that takes is a figure of its own.
    let cast = Cast::new(VALIDATORS)?;
    let watch = Watch::start();
    let storage = Arc::new(open(path)?);
    let opened = watch.took();
    let config = Config::new(FinalityRule::Single, Some(ValidatorId(0)));
    let signer = Arc::new(Key::of(SchemeKind::Bls, ValidatorId(0)));
    let persistence = CheckpointPersistenceConfig::mainnet();
    let mut finality = CheckpointFinality::new(config, cast.schedule.clone(), persistence, Arc::new(Nowhere), Some(signer));
    finality.set_storage(Arc::clone(&storage) as Arc<dyn CheckpointStorage>);
    let restored = finality.restore_from_storage(1)?;
    for peer in 1..VALIDATORS {
        finality.receive(ValidatorId(peer), Message::OwnVotes(OwnVotes { nonce: 1, ..OwnVotes::default() }))?;
    }
    let at = |number| (CheckpointNumber(number), checkpoint(number).hash);
    let hashes = [at(CHECKPOINTS), at(CHECKPOINTS + 1)].into();
    let next = CheckpointNumber(CHECKPOINTS + 1);
    finality.observe(ChainView { eligible: next, finalized: Some(next), hashes })?;
    let ready = watch.took();
    // It has voted for the next checkpoint in the same breath.
    let voted = finality.health().standing == Standing::Signing && storage.db().own_vote(next)?.is_some();
    let verifying = Watch::start();
    while !finality.verify_restored()? {}
    let certificates = verifying.took();
    let rows = storage.db().check()?;
    let verified = verifying.took();
    let whole = restored.complete && restored.damaged.is_empty() && voted;
    if !whole
        || (restored.certificates as u64, finality.background().map_or(0, |done| done.verified() as u64)) != (CHECKPOINTS, CHECKPOINTS)
    {
        return Err(format!("the start found something else than what was written: voted {voted}, {restored:?}").into());
    }
    let nanos = |took: Took| format!("{} {}", took.wall.as_nanos(), took.cpu.as_nanos());
    println!("{} {} {} {} {rows} {}", nanos(opened), nanos(ready), nanos(certificates), nanos(verified), memory("VmHWM:"));
    Ok(())
}

struct Started {
    opened: Took,
    ready: Took,
    certificates: Took,
    verified: Took,
    rows: u64,
    peak: f64,
}

/// Starts another process from `path`, which then ends without settling anything.
fn started(path: &Path) -> Result<Started, Failure> {
    let output = Command::new(std::env::current_exe()?).arg("--start").arg(path).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split_whitespace();
    let mut word = || words.next().ok_or_else(|| format!("a start said: {text}"));
    let mut took = || -> Result<Took, Failure> {
        let mut nanos = || -> Result<Duration, Failure> { Ok(Duration::from_nanos(word()?.parse()?)) };
        Ok(Took { wall: nanos()?, cpu: nanos()? })
    };
    let (opened, ready, certificates, verified) = (took()?, took()?, took()?, took()?);
    Ok(Started { opened, ready, certificates, verified, rows: word()?.parse()?, peak: word()?.parse()? })
}

/// What the same disk and processor need for the least that a start is: opening an empty database.
fn empty_start(directory: &Path) -> Result<Duration, Failure> {
    let path = directory.join("empty");
    drop(open(&path)?);
    let mut times = (0..STARTS).map(|_| {
        let began = Instant::now();
        drop(open(&path)?);
        Ok(began.elapsed())
    });
    let mut times = times.by_ref().collect::<Result<Vec<_>, Failure>>()?;
    Ok(percentile(&mut times, 50))
}

/// The database at `from`, laid out anew at `to`.
fn lay_out(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    std::fs::copy(beside(from, ".witness"), beside(to, ".witness"))?;
    Ok(())
}

/// Starts from copies of the database at `from`, so that each is the first after what happened to it.
pub(crate) fn restarts(report: &mut Report, directory: &Path, from: &Path, after: &str, pairing: Duration) -> Result<(), Failure> {
    let reference = empty_start(directory)?;
    // All of them are made before the first start, and none is removed before the last one: ext4 without a journal passes over the inodes
    // of what was removed in the last minutes one by one, whenever a file is made, and a start would be charged with the copies of others.
    let starts = directory.join(format!("starts {after}"));
    std::fs::create_dir(&starts)?;
    let path = |round: usize| starts.join(round.to_string());
    (0..STARTS).try_for_each(|round| lay_out(from, &path(round)))?;
    let mut all = (0..STARTS).map(|round| started(&path(round))).collect::<Result<Vec<_>, Failure>>()?;
    std::fs::remove_dir_all(&starts)?;
    all.sort_by_key(|one| one.ready.wall);
    let median = &all[all.len() / 2];
    report.time(
        &format!("restart {after}: open, verify, ready to vote, the set's keys checked before, median of {STARTS}"),
        median.ready,
        25.0,
        "opening an empty one",
        reference,
    );
    let (last, opened) = (&all[all.len() - 1], median.opened);
    note(&format!(
        "restart {after}: of that, opened after {:.3} ms ({:.3} on the processor); slowest of {STARTS} {:.3} ms",
        millis(opened.wall),
        millis(opened.cpu),
        millis(last.ready.wall)
    ));
    all.sort_by_key(|one| one.verified.wall);
    let median = &all[all.len() / 2];
    let what = format!("restart {after}: full verification behind it, {} rows, median of {STARTS}", median.rows);
    report.time(&what, median.verified, 350.0, "a thousand single verifications", pairing * 1000);
    note(&format!(
        "restart {after}: of that, {CHECKPOINTS} certificates {:.3} ms ({:.3} on the processor)",
        millis(median.certificates.wall),
        millis(median.certificates.cpu)
    ));
    let peak = all.iter().map(|one| one.peak).fold(0.0, f64::max);
    report.line(&format!("resident memory {after}, {CHECKPOINTS} checkpoints, at its peak"), peak, "MB", 64.0, "");
    Ok(())
}

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Bytes that the file system has set aside, the witness included: what `du` shows, not what files say of themselves.
#[allow(clippy::cast_precision_loss, reason = "rounded for people")]
pub(crate) fn disk_megabytes(path: &Path) -> Result<f64, Failure> {
    let mut bytes = 0;
    for file in std::fs::read_dir(path)? {
        bytes += file?.metadata()?.blocks() * 512;
    }
    let witness = checkpoint_db::FileWitness::beside(path);
    Ok((bytes + std::fs::metadata(witness.path())?.blocks() * 512) as f64 / 1e6)
}

/// Each flush with a checkpoint's votes to sync, so that some of them also move the log into table files, beside a raw
/// `fdatasync` of 4 KiB in the same directory, turn by turn: a disk's bad moments meet both.
pub(crate) fn flushes(report: &mut Report, path: &Path, cast: &Cast) -> Result<(), Failure> {
    let storage = open(path)?;
    let signature = Signature(vec![7; 48]);
    let mut raw: File = OpenOptions::new().write(true).create(true).truncate(true).open(beside(path, ".raw"))?;
    raw.write_all(&vec![0; 64 * 4096])?;
    raw.sync_all()?;
    let (mut flushed, mut synced, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for round in 0..FLUSHES {
        // Later targets, as the votes for them come.
        let votes: Vec<_> = (0..VALIDATORS)
            .map(|id| SignedVote {
                vote: cast.vote(CHECKPOINTS + 2 + round as u64, LinkDigest([1; 32])),
                validator: ValidatorId(id),
                signature: signature.clone(),
            })
            .collect();
        storage.store_signatures(&votes)?;
        let watch = Watch::start();
        storage.flush()?;
        let took = watch.took();
        flushed.push(took.wall);
        cpu += took.cpu;
        raw.seek(SeekFrom::Start((round as u64 % 64) * 4096))?;
        let began = Instant::now();
        raw.write_all(&[1; 4096])?;
        raw.sync_data()?;
        synced.push(began.elapsed());
    }
    let cpu = cpu / u32::try_from(FLUSHES)?;
    note(&format!(
        "flush with votes to sync, median of {FLUSHES}: {:.3} ms, slowest {:.3} ms; raw fdatasync of 4 KiB {:.3} ms, slowest {:.3} ms",
        millis(percentile(&mut flushed, 50)),
        millis(percentile(&mut flushed, 100)),
        millis(percentile(&mut synced, 50)),
        millis(percentile(&mut synced, 100))
    ));
    let p99 = percentile(&mut flushed, 99);
    report.time(
        &format!("flush with votes to sync, p99 of {FLUSHES}"),
        Took { wall: p99, cpu },
        1.0,
        "raw fdatasync, p99",
        percentile(&mut synced, 99),
    );
    Ok(())
}

/// Prunes ten checkpoints at a time of a database whose checkpoints end at `height`; answers the 99th percentile.
pub(crate) fn prunes(report: &mut Report, path: &Path, cast: &Cast, height: u64) -> Result<Duration, Failure> {
    let storage = open(path)?;
    for target in height - CHECKPOINTS + 1..=height {
        let vote = cast.vote(target, LinkDigest([1; 32]));
        let votes: Vec<_> = (0..VALIDATORS)
            .map(|id| SignedVote { vote: vote.clone(), validator: ValidatorId(id), signature: Signature(vec![7; 48]) })
            .collect();
        storage.store_signatures(&votes)?;
        let certificate = Certificate { vote: vote.clone(), signers: Bitmap::empty(votes.len()), aggregate: Signature(vec![7; 48]) };
        storage.store_certificate(&certificate, Some(&Finalized { checkpoint: vote.link.target, by: vote.link.target.number }))?;
    }
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    for round in 1..=90 {
        let below = CheckpointNumber(height - CHECKPOINTS + 10 * round + 1);
        let watch = Watch::start();
        let pruned = storage.prune(&PruneOrder { below, own_votes_below: below, anchor: None })?;
        let took = watch.took();
        times.push(took.wall);
        cpu += took.cpu;
        // The first order moves the mark over all numbers that were never there.
        if round > 1 && pruned.checkpoints != 10 {
            return Err(format!("pruned {pruned:?}").into());
        }
    }
    if storage.stats()?.certificates != 100 {
        return Err("pruning left something else than the last hundred".into());
    }
    let (median, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    report.time(
        &format!("prune of 10 checkpoints at height {height}, p99 of 90"),
        Took { wall: p99, cpu: cpu / 90 },
        1.0,
        "its median",
        median,
    );
    Ok(median)
}

/// Runs this program again as a writer and kills it when it has written everything.
pub(crate) fn killed_writer(path: &Path) -> Result<(), Failure> {
    let mut child = Command::new(std::env::current_exe()?).arg("--write").arg(path).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("the writer's output is piped")?;
    let done = BufReader::new(output).lines().any(|line| line.is_ok_and(|line| line == "written"));
    child.kill()?;
    child.wait()?;
    if done { Ok(()) } else { Err("the writer failed".into()) }
}
