//! SIGKILL of real validator processes at random instants and at chosen ones: nobody contradicts themselves, and all catch up.
//!
//! `MILEPOST_VALIDATOR_KILLS` sets the number of kills, `MILEPOST_VALIDATOR_SEED` repeats a run.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use validators::{Committee, Validator};

/// Kills of a quick run.
const QUICK_KILLS: usize = 50;
/// From this number on every instant aimed at must have been hit …
const THOROUGH_KILLS: usize = 500;
/// … so often.
const HITS: usize = 3;
/// Validators: one may be down, and finality goes on.
const COUNT: u32 = 4;
/// The chain offers a checkpoint this often.
const PACE: Duration = Duration::from_millis(250);
/// Longest wait for a chosen event; a validator that runs passes through all of them in less.
const EVENT_LIMIT: Duration = Duration::from_secs(3);
/// Between a kill and the next one, in milliseconds: from within a start to well behind it.
const PAUSE: std::ops::Range<u64> = 0..900;
/// Instants that are aimed at: around the sync of an own vote, of a certificate, of what is final, and within a start.
const EVENTS: [&str; 6] = ["own_vote_recorded", "stored_certificate", "finality_advanced", "restored", "database_opening", "validating"];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// What one kill hit: the last of those events that the process had logged, or else the last of all.
fn hit(log: &[serde_json::Value]) -> String {
    let names = || log.iter().rev().filter_map(|event| event["event"].as_str());
    names().find(|name| EVENTS.contains(name)).or_else(|| names().next()).unwrap_or("before its first line").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_contradicts_themselves_however_often_and_whenever_they_are_killed() {
    let kills = variable("MILEPOST_VALIDATOR_KILLS").map_or(QUICK_KILLS, |kills| usize::try_from(kills).expect("few"));
    let seed = variable("MILEPOST_VALIDATOR_SEED").unwrap_or(20_261_121);
    println!("seed {seed}, {kills} kills");
    let mut random = StdRng::seed_from_u64(seed);
    let committee = Arc::new(Committee::new(COUNT, &[]).await);
    let mut running: BTreeMap<u32, Validator> = (1..=COUNT).map(|id| (id, committee.start(id))).collect();
    let offering = committee.keep_offering(PACE);
    let began = Instant::now();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut done = 0;
    while done < kills {
        tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE))).await;
        // Now and then two at once: finality must stand still then, and go on afterwards.
        let victims = if random.random_ratio(1, 10) { 2 } else { 1 };
        let first = random.random_range(1..=COUNT);
        let aim = random.random_bool(0.5).then(|| EVENTS[random.random_range(0..EVENTS.len())]);
        for step in 0..victims {
            let id = (first - 1 + step) % COUNT + 1;
            let mut victim = running.remove(&id).expect("everybody runs");
            if let Some(event) = aim {
                // Events of a start come to whoever is started anew.
                if ["restored", "database_opening", "validating"].contains(&event) {
                    victim.kill();
                    victim = committee.start(id);
                    done += 1;
                }
                victim.kill_at(event);
                let limit = Instant::now() + EVENT_LIMIT;
                while !victim.has_ended() && Instant::now() < limit {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            *hits.entry(hit(&victim.kill())).or_default() += 1;
            done += 1;
            running.insert(id, committee.start(id));
        }
    }
    let killing = began.elapsed();

    // Everybody is up: whatever the chain offers from now on becomes final everywhere, with the votes of all.
    let now = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;
    for validator in running.values_mut() {
        validator.finalizes(now + 3).await;
        validator.wait("it signs again", |status| status["standing"] == "signing" && status["last_signed"].as_u64() >= Some(now + 2)).await;
    }
    offering.abort();
    let caught_up = began.elapsed().saturating_sub(killing);
    for (_, validator) in running {
        let id = validator.id;
        let (code, log) = validator.terminate();
        assert_eq!(code, Some(0), "validator {id}: {log:?}");
    }
    let all: Vec<u32> = (1..=COUNT).collect();
    let (votes, certificates) = committee.judge(&all);
    // Not only at the end. Each validator keeps the certificates it made and those it caught up on.
    let half = u64::from(COUNT) * now / 2;
    assert!(
        certificates as u64 >= half,
        "finality went on meanwhile: {certificates} certificates at {COUNT} validators of {now} checkpoints"
    );
    println!("figure validator_kills {done}");
    println!("figure validator_kills_seconds {:.1}", killing.as_secs_f64());
    println!("figure validator_kills_all_caught_up_after_seconds {:.1}", caught_up.as_secs_f64());
    println!("figure validator_contradictions 0 (goal 0) among {votes} own votes and {certificates} certificates of {now} checkpoints");
    for (event, count) in &hits {
        println!("  killed after {event}: {count}");
    }
    if kills >= THOROUGH_KILLS {
        for event in EVENTS {
            assert!(hits.get(event).is_some_and(|count| *count >= HITS), "{event} was not hit {HITS} times: {hits:?}");
        }
    }
}
