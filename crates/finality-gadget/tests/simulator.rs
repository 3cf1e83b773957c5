//! Seeds: `FINALITY_SEEDS` says how many (500 by default), `FINALITY_FROM` where they begin; `FINALITY_TRACE=1` prints what
//! happens. A failing seed is printed and repeats.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use finality_gadget::simulator::{MemoryDisks, Outcome, Reorgs, Scenario, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_happens_nothing_conflicting_is_final_and_nobody_honest_is_slashable() {
    let (from, seeds) = (number("FINALITY_FROM", 0), number("FINALITY_SEEDS", 500));
    let began = Instant::now();
    let mut total = Outcome::default();
    let (mut halted, mut halted_without_free_reorgs, mut crossed, mut tame) = (0u64, 0u64, 0u64, 0u64);
    for seed in from..from + seeds {
        let scenario = Scenario { trace: number("FINALITY_TRACE", 0) > 0, ..Scenario::from_seed(seed) };
        let free = scenario.reorgs == Reorgs::Free;
        let outcome = match catch_unwind(AssertUnwindSafe(|| run(scenario.clone(), &mut MemoryDisks))) {
            Ok(outcome) => outcome,
            Err(panic) => {
                let text =
                    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                panic!("seed {seed}: {text}\nrepeat with FINALITY_FROM={seed} FINALITY_SEEDS=1\n{scenario:?}");
            }
        };
        total.finals += outcome.finals;
        total.votes += outcome.votes;
        total.convicted += outcome.convicted;
        total.crashes += outcome.crashes;
        total.refused += outcome.refused;
        total.unnoticed += outcome.unnoticed;
        total.simulated += outcome.simulated;
        crossed += u64::from(outcome.crossed_sets);
        tame += u64::from(!free);
        halted += u64::from(!outcome.halted.is_empty());
        halted_without_free_reorgs += u64::from(!free && !outcome.halted.is_empty());
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds from {from} in {seconds:.1} s ({} ms a seed): {} checkpoints final, {} honest votes, {} crashes, {} validators convicted, \
         {} refusals to sign on doubtful records, {} old backups that no peer could tell from a current record, {crossed} runs with certificates across set boundaries, {halted} runs halted with a reason, \
         {halted_without_free_reorgs} of them without deep reorganisations; {} simulated hours",
        began.elapsed().as_millis() / u128::from(seeds.max(1)),
        total.finals,
        total.votes,
        total.crashes,
        total.convicted,
        total.refused,
        total.unnoticed,
        total.simulated / 3_600_000
    );
    if seeds >= 100 {
        // A simulation in which nothing happens would pass everything.
        assert!(total.finals as u64 > seeds * 5, "hardly anything became final");
        assert!(total.crashes > seeds * 2, "hardly anything crashed");
        assert!(total.convicted as u64 > seeds / 10, "hardly any liar was convicted");
        assert!(total.refused > seeds / 50, "hardly any doubtful record was noticed");
        assert!(crossed > seeds / 10, "hardly any run crossed a set boundary");
        // Even a chain that takes back only what is not certified may do so while votes for it are on their way; whoever has voted from
        // what is certified too late waits for ever. Without any reorganisation no run may halt, which each run checks for itself.
        assert!(halted_without_free_reorgs * 6 <= tame, "too many runs halted without a deep reorganisation");
    }
}
