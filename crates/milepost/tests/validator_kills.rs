//! SIGKILL of real validator processes at random instants and at chosen ones: nobody contradicts themselves, and all catch up.
//!
//! `MILEPOST_VALIDATOR_KILLS` sets the number of kills, `MILEPOST_VALIDATOR_SEED` repeats a run.

mod common;
#[path = "common/validators.rs"]
mod validators;

use std::collections::{BTreeMap, BTreeSet};
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
/// Validators that make a quorum.
const QUORUM: usize = 3;
/// Checkpoints by which the machine's own pace is measured, before anybody is killed.
const MEASURED: u64 = 6;
/// Between two looks at who signs.
const LOOK: Duration = Duration::from_millis(20);
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

/// For how long a quorum signs. A busy machine starts validators slowly, and so has less of that time: what is asked of finality is asked
/// of this time alone.
#[derive(Default)]
struct Quorum {
    signing: BTreeSet<u32>,
    up: Duration,
    looked: Option<Instant>,
}

impl Quorum {
    /// Counts the time since the last look, if a quorum signed then.
    fn look(&mut self, running: &BTreeMap<u32, Validator>) {
        if let Some(looked) = self.looked.replace(Instant::now())
            && self.signing.len() >= QUORUM
        {
            self.up += looked.elapsed();
        }
        self.signing.retain(|id| running.contains_key(id));
        for (id, validator) in running {
            if !self.signing.contains(id) && validator.has_logged(|event| event["event"] == "standing" && event["standing"] == "signing") {
                self.signing.insert(*id);
            }
        }
    }

    /// Looks on for so long.
    async fn wait(&mut self, pause: Duration, running: &BTreeMap<u32, Validator>) {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.look(running);
            tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        }
        self.look(running);
    }

    /// It was killed: whoever comes after it is another process, which does not sign yet.
    fn lost(&mut self, id: u32, running: &BTreeMap<u32, Validator>) {
        self.look(running);
        self.signing.remove(&id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_contradicts_themselves_however_often_and_whenever_they_are_killed() {
    let kills = variable("MILEPOST_VALIDATOR_KILLS").map_or(QUICK_KILLS, |kills| usize::try_from(kills).expect("few"));
    let seed = variable("MILEPOST_VALIDATOR_SEED").unwrap_or(20_261_121);
    println!("seed {seed}, {kills} kills");
    let mut random = StdRng::seed_from_u64(seed);
    let committee = Arc::new(Committee::new(COUNT, &[]).await);
    let mut running: BTreeMap<u32, Validator> = (1..=COUNT).map(|id| (id, committee.start(id))).collect();
    // How long this machine takes, with everybody well, from a block to its certificate.
    for validator in running.values_mut() {
        validator.wait("it signs", |status| status["standing"] == "signing").await;
    }
    committee.offer(1).await;
    running.get_mut(&1).expect("it runs").wait("a first certificate", |status| status["justified"].as_u64() >= Some(1)).await;
    let measuring = Instant::now();
    for number in 2..2 + MEASURED {
        committee.offer(1).await;
        running.get_mut(&1).expect("it runs").wait("a certificate", |status| status["justified"].as_u64() >= Some(number)).await;
    }
    let usual = measuring.elapsed() / u32::try_from(MEASURED).expect("few");
    let before = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;
    let mut quorum = Quorum::default();
    let offering = committee.keep_offering(PACE);
    let began = Instant::now();
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    let mut done = 0;
    while done < kills {
        quorum.wait(Duration::from_millis(random.random_range(PAUSE)), &running).await;
        // Now and then two at once: finality must stand still then, and go on afterwards.
        let victims = if random.random_ratio(1, 10) { 2 } else { 1 };
        let first = random.random_range(1..=COUNT);
        let aim = random.random_bool(0.5).then(|| EVENTS[random.random_range(0..EVENTS.len())]);
        for step in 0..victims {
            let id = (first - 1 + step) % COUNT + 1;
            let mut victim = running.remove(&id).expect("everybody runs");
            // Until it dies it may still sign; that time is not counted.
            quorum.lost(id, &running);
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
                    quorum.look(&running);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            *hits.entry(hit(&victim.kill())).or_default() += 1;
            done += 1;
            running.insert(id, committee.start(id));
        }
    }
    let killing = began.elapsed();
    quorum.look(&running);
    let reached = committee.chain.head().await.expect("a head").0 / validators::INTERVAL;

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
    // Not only at the end: of what could be certified while a quorum signed, at the pace of the chain or of this machine, whichever is
    // slower, at least half was.
    let certified = committee.certified(&all, before + 1..=reached);
    let possible = quorum.up.as_secs_f64() / PACE.max(usual).as_secs_f64();
    println!("figure validator_kills_quorum_up_seconds {:.1} of {:.1}", quorum.up.as_secs_f64(), killing.as_secs_f64());
    println!("figure validator_kills_certificate_usually_after_seconds {:.3}", usual.as_secs_f64());
    println!(
        "figure validator_kills_certified_meanwhile {certified} of {possible:.0} possible (goal half), {} were offered",
        reached - before
    );
    assert!(quorum.up > killing / 20, "there was a quorum now and then: {:?} of {killing:?}", quorum.up);
    assert!(2.0 * f64::from(certified) >= possible, "finality went on meanwhile: {certified} of {possible:.0}");
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
