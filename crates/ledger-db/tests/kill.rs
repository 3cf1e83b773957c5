//! SIGKILL of a real process over a real database: what it acknowledged is there.
#![cfg(feature = "rocksdb")]

mod common;

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{OPTIONS, end_turn, ids, job, metered, open, runtime, start};
use milepost_ledger::{AccountId, Event, TokenSeq};
use milepost_ledger_db::{Error, LedgerDb};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const TEST: &str = "a_killed_node_keeps_every_token_it_acknowledged_and_none_twice";
const JOBS: u64 = 4;

/// Kills of one run; more with FULL=1.
fn kills() -> u64 {
    if env::var("FULL").is_ok_and(|full| full == "1") { 200 } else { 20 }
}

/// The child: several tasks meter tokens on a job each, and tell each position that is durable, until the process is killed.
fn serve(path: &str) {
    runtime().block_on(async {
        let db = LedgerDb::open_rocks(Path::new(path), OPTIONS).unwrap();
        let tasks: Vec<_> = (0..JOBS).map(|n| tokio::spawn(meter(db.clone(), job(n)))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

async fn meter(db: LedgerDb, id: AccountId) -> Result<(), Error> {
    if db.account(id)?.is_none() {
        db.apply(vec![open(id, Some(1_000_000_000))]).await?;
    }
    for turn in 0u64.. {
        let (at, active) =
            db.query(move |ledger| ledger.account(id).map(|a| (a.record.positions.metered.0, a.record.active.is_some()))).await?.unwrap();
        if active {
            db.apply(vec![end_turn(id)]).await?;
        }
        db.apply(vec![start(id, &format!("{at}-{turn}-{active}"))]).await?;
        let mut next = at;
        for step in [1, 1, 3, 7, 40, 1] {
            let event: Event = metered(id, next, step);
            db.apply(vec![event]).await?;
            next += step;
            println!("durable {} {next}", id.job().unwrap());
        }
        db.apply(vec![end_turn(id)]).await?;
    }
    Ok(())
}

#[test]
fn a_killed_node_keeps_every_token_it_acknowledged_and_none_twice() {
    if let Ok(path) = env::var("LEDGER_DB_TEST_KILL") {
        return serve(&path);
    }
    let seed: u64 = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    for kill in 0..kills() {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env("LEDGER_DB_TEST_KILL", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let after = random.random_range(1..400);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut tell = |line: String| {
            let mut words = line.strip_prefix("durable ")?.split(' ').map(|word| word.parse::<u64>().ok());
            let (job, position) = (words.next()??, words.next()??);
            let last = told.insert(job, position);
            assert!(last.is_none_or(|last| last < position), "job {job} was told {position} after {last:?}");
            Some(())
        };
        assert_eq!(lines.by_ref().filter_map(&mut tell).take(after).count(), after, "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it wrote to the pipe before it died counts as told.
        lines.filter_map(&mut tell).for_each(drop);

        let db = LedgerDb::open_rocks(dir.path(), OPTIONS).unwrap();
        let report = db.check().unwrap();
        assert!(report.is_clean(), "kill {kill}: {:?}", report.problems);
        for (number, position) in &told {
            let record = db.account(job(*number)).unwrap().unwrap();
            let metered = record.positions.metered.0;
            assert!(metered >= *position, "kill {kill}: job {number} was told {position}, and {metered} are there");
            assert!(
                metered <= position + 53,
                "kill {kill}: job {number} has {metered} tokens, and was told {position}: one turn at most was under way"
            );
            assert!(metered >= begun.insert(*number, metered).unwrap_or(0), "kill {kill}: job {number} lost tokens of an earlier life");
            let last = TokenSeq(metered.saturating_sub(60));
            assert_eq!(
                db.tokens(job(*number), last..TokenSeq(metered)).unwrap(),
                ids(last.0, metered - last.0),
                "kill {kill}: none twice, none renumbered"
            );
        }
        runtime().block_on(db.close());
    }
    println!("{} kills, {told:?} told, {begun:?} there", kills());
}

#[test]
fn a_second_node_is_told_who_has_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let first = LedgerDb::open_rocks(dir.path(), OPTIONS).unwrap();
    let error = LedgerDb::open_rocks(dir.path(), OPTIONS).err().unwrap();
    assert_eq!(error, Error::InUse { path: dir.path().to_owned() });
    assert_eq!(error.to_string(), format!("another milepost has this database open: {}", dir.path().display()));
    runtime().block_on(first.close());
    LedgerDb::open_rocks(dir.path(), OPTIONS).unwrap();
}
