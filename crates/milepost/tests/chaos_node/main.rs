//! Everything goes wrong at once around a real node, by seed: the line to the chain delays, loses, repeats, refuses and lies,
//! blocks are taken back up to five deep with their transactions lost or returned, and the process is killed with SIGKILL at random
//! instants and at chosen ones and started again. At the end `milepost reconcile` is clean, and another process, which has the
//! chain alone, finds each token claimed once and paid once.
//!
//! `MILEPOST_CHAOS_SEEDS` says how many seeds, `MILEPOST_CHAOS_SEED` which one alone; `MILEPOST_CHAOS_STARK` how many more with real
//! proofs (none by default). A seed draws everything that is drawn here: faults, reorganisations, kills, what clients ask. What several processes do
//! between two draws the machine decides, so that a seed repeats a failure as a rule, not always.

#[path = "../common/mod.rs"]
mod common;
mod field;
mod storm;

use std::time::Instant;

use tokio::task::JoinSet;

/// Seeds unless asked for more: about a minute on two cores.
const SEEDS: u64 = 20;
/// Seeds at a time: they wait for blocks and restarts most of the time.
const ABREAST: usize = 4;
/// The deepest reorganisation; one block less than what counts as final.
pub(crate) const DEEPEST: u64 = 5;

/// Which proofs a seed's node makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proofs {
    /// None: the chain is told so.
    Mock,
    /// STARKs, by `milepost-prover`.
    Stark,
}

impl Proofs {
    /// Seconds for which the node lets a transaction wait: less than its block takes now and then, so that fees are raised.
    pub(crate) fn bump_seconds(self) -> u64 {
        match self {
            Self::Mock => 1,
            Self::Stark => 2,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// So many seeds at a time, in order; what happened in all of them.
async fn all(mut seeds: std::ops::Range<u64>, proofs: Proofs, abreast: usize) {
    let (begun, count) = (Instant::now(), seeds.end - seeds.start);
    let (mut running, mut whole) = (JoinSet::new(), storm::Tale::default());
    loop {
        while running.len() < abreast
            && let Some(seed) = seeds.next()
        {
            running.spawn(one(seed, proofs));
        }
        let Some(ended) = running.join_next().await else { break };
        whole += &ended.expect("a seed's own panic is told").unwrap_or_else(|failed| panic!("{failed}"));
    }
    println!(
        "figure {count} seeds ({proofs:?}) in {:.0} s: {whole}; reconcile clean and each token paid once in every one",
        begun.elapsed().as_secs_f64()
    );
    assert!(whole.covers_everything(count), "the storm was a breeze: {whole}");
}

/// One seed; whoever fails in it, wherever that is, its number is said.
async fn one(seed: u64, proofs: Proofs) -> Result<storm::Tale, String> {
    let begun = Instant::now();
    let again = format!("MILEPOST_CHAOS_SEED={seed}{}", if proofs == Proofs::Stark { " MILEPOST_CHAOS_STARK=1" } else { "" });
    println!("seed {seed} begins ({proofs:?}; alone: {again})");
    let tale = tokio::spawn(storm::storm(seed, proofs)).await.map_err(|panic| format!("{again}: {panic}"))?;
    println!("seed {seed} ({proofs:?}): {tale}, {:.1} s", begun.elapsed().as_secs_f64());
    Ok(tale)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_a_storm_that_is_killed_at_any_instant_is_paid_for_each_token_once() {
    // A real proof takes a core for a third of a minute: none unless asked for.
    let real = number("MILEPOST_CHAOS_STARK").unwrap_or(0);
    let (mock, stark) = match number("MILEPOST_CHAOS_SEED") {
        Some(seed) if real > 0 => (0..0, seed..seed + 1),
        Some(seed) => (seed..seed + 1, 0..0),
        None => (0..number("MILEPOST_CHAOS_SEEDS").unwrap_or(SEEDS), 0..real),
    };
    assert!(!mock.is_empty() || !stark.is_empty(), "no seed at all");
    for (seeds, proofs, abreast) in [(mock, Proofs::Mock, ABREAST), (stark, Proofs::Stark, 1)] {
        if !seeds.is_empty() {
            all(seeds, proofs, abreast).await;
        }
    }
}

/// Not a test by itself: what counts in the child process of a recount.
#[tokio::test]
async fn the_logs_are_counted_by_a_process_that_knows_nothing_else() {
    milepost_test_support::recount::answer().await.expect("counted");
}
