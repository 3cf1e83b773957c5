//! Seeds: `FINALITY_SEEDS` says how many (500 by default), `FINALITY_FROM` where they begin; `FINALITY_TRACE=1` prints what happens. A failing
//! seed is printed and repeats.

use finality_gadget::simulator::{MemoryDisks, Scenario, sweep};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_happens_nothing_conflicting_is_final_and_nobody_honest_is_slashable() {
    let (from, seeds) = (number("FINALITY_FROM", 0), number("FINALITY_SEEDS", 500));
    let trace = number("FINALITY_TRACE", 0) > 0;
    let swept = sweep(from..from + seeds, |seed| Scenario { trace, ..Scenario::from_seed(seed) }, || MemoryDisks);
    println!("figure simulator: {swept}");
    if seeds >= 100 {
        // A simulation in which nothing happens would pass everything.
        assert!(swept.total.finals as u64 > seeds * 5, "hardly anything became final");
        assert!(swept.total.crashes > seeds * 2, "hardly anything crashed");
        assert!(swept.total.convicted as u64 > seeds / 10, "hardly any liar was convicted");
        assert!(swept.total.witnessed > seeds, "hardly any contradiction met a node that must notice it");
        assert!(swept.total.witnessed_twins > seeds / 10, "hardly any twin contradicted itself before one node");
        assert!(swept.total.witnessed_filthy > seeds / 4, "hardly any contradiction was noticed beside false signatures");
        assert!(swept.total.refused > seeds / 50, "hardly any doubtful record was noticed");
        assert!(swept.crossed > seeds / 10, "hardly any run crossed a set boundary");
        // What signs on an old backup that nobody could tell from a current record is not judged, which must stay rare: its newer votes reached
        // none of the quorum that answered, or only some that have lost them since. One seed in a thousand is like that; were answers not
        // waited for, one in nine would be. Twice the rule, and a few more for a short run.
        assert!(swept.total.unnoticed <= 5 + seeds / 500, "too many old backups signed without any peer's objection");
        // Even a chain that takes back only what is not certified may do so while votes for it are on their way; whoever has voted from
        // what is certified too late waits for ever. Without any reorganisation no run may halt, which each run checks for itself.
        assert!(swept.halted_tame * 6 <= swept.tame, "too many runs halted without a deep reorganisation");
    }
}
