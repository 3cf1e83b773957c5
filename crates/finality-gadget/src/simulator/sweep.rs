//! Many seeds, on all processors.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Reorgs;
use super::{Disks, Outcome, Scenario, run};

/// What many runs came to.
#[derive(Debug, Clone, Default)]
pub struct Sweep {
    /// How many seeds were run.
    pub seeds: u64,
    /// All outcomes added up; reasons of halts are left out.
    pub total: Outcome,
    /// Runs whose chain took back only what was not certified, or nothing.
    pub tame: u64,
    /// Runs that ended with a halt for a right reason.
    pub halted: u64,
    /// Of these, the tame ones.
    pub halted_tame: u64,
    /// Runs with a certificate across a set boundary.
    pub crossed: u64,
    /// By the clock.
    pub took: Duration,
    /// How many ran at once.
    pub threads: usize,
}

/// Runs every seed, each on disks of its own.
///
/// # Panics
///
/// With the lowest seed that was seen to fail, and the text of what does not hold. A failing seed repeats by itself.
pub fn sweep<D: Disks>(seeds: Range<u64>, scenario: impl Fn(u64) -> Scenario + Sync, disks: impl Fn() -> D + Sync) -> Sweep {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failure) = (AtomicU64::new(seeds.start), Mutex::new(None::<(u64, String)>));
    let worker = || {
        let mut sum = Sweep::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return sum;
            }
            let scenario = scenario(seed);
            match catch_unwind(AssertUnwindSafe(|| run(scenario.clone(), &mut disks()))) {
                Ok(outcome) => sum.add(&scenario, &outcome),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                    let text = format!("seed {seed}: {}\n{scenario:?}", text.unwrap_or("a panic"));
                    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                    if failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *failure = Some((seed, text));
                    }
                    // Nobody begins another; those that are running end, and one of them may have a lower seed.
                    next.store(seeds.end, Ordering::Relaxed);
                    return sum;
                }
            }
        }
    };
    let parts: Vec<Sweep> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        running.into_iter().filter_map(|one| one.join().ok()).collect()
    });
    if let Some((_, text)) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        panic!("{text}");
    }
    let mut sum = Sweep { threads, took: began.elapsed(), ..Sweep::default() };
    for part in &parts {
        sum.merge(part);
    }
    assert_eq!(sum.seeds, seeds.end - seeds.start, "seeds were left out");
    sum
}

impl Sweep {
    fn add(&mut self, scenario: &Scenario, outcome: &Outcome) {
        let (tame, halted) = (scenario.reorgs != Reorgs::Free, !outcome.halted.is_empty());
        self.merge(&Self {
            seeds: 1,
            total: outcome.clone(),
            tame: u64::from(tame),
            halted: u64::from(halted),
            halted_tame: u64::from(tame && halted),
            crossed: u64::from(outcome.crossed_sets),
            ..Self::default()
        });
    }

    fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.tame += other.tame;
        self.halted += other.halted;
        self.halted_tame += other.halted_tame;
        self.crossed += other.crossed;
        let (total, more) = (&mut self.total, &other.total);
        total.finals += more.finals;
        total.votes += more.votes;
        total.convicted += more.convicted;
        total.crashes += more.crashes;
        total.refused += more.refused;
        total.unnoticed += more.unnoticed;
        total.witnessed += more.witnessed;
        total.witnessed_twins += more.witnessed_twins;
        total.witnessed_filthy += more.witnessed_filthy;
        total.simulated += more.simulated;
    }
}

impl std::fmt::Display for Sweep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, total) = (self.took.as_secs_f64(), &self.total);
        write!(
            f,
            "{} seeds on {} threads in {seconds:.1} s ({:.1} s a thousand): {} checkpoints final, {} honest votes, {} crashes, {} validators \
             convicted, {} contradictions witnessed by one node ({} of twins, {} beside false signatures), {} refusals to sign on doubtful records, {} old backups that no peer could tell from a current record, {} runs with \
             certificates across set boundaries, {} runs halted with a reason, {} of them without deep reorganisations; {} simulated hours",
            self.seeds,
            self.threads,
            seconds * 1000.0 / f64::from(u32::try_from(self.seeds.max(1)).unwrap_or(u32::MAX)),
            total.finals,
            total.votes,
            total.crashes,
            total.convicted,
            total.witnessed,
            total.witnessed_twins,
            total.witnessed_filthy,
            total.refused,
            total.unnoticed,
            self.crossed,
            self.halted,
            self.halted_tame,
            total.simulated / 3_600_000
        )
    }
}
