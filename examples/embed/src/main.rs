//! `embed <database> [--new-key] [--until <checkpoint>]`: a node of somebody else's that embeds checkpoint finality.
//!
//! The numbered steps are those of docs/finality-embedding.md.

mod chain;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

// Step 1: the two crates.
use checkpoint_db::{CheckpointDB, CheckpointStorageAdapter};
use finality_gadget::persistence::{CheckpointPersistenceConfig, Declaration, declare};
use finality_gadget::{CheckpointFinality, CheckpointNumber, Config, FinalityRule, Millis, ValidatorId};

use chain::{INTERVAL, ToyChain, ToyNetwork};

/// How often this node looks at its chain.
const PACE: Duration = Duration::from_millis(5);

struct Arguments {
    database: String,
    new_key: bool,
    until: Option<u64>,
}

fn arguments() -> Result<Arguments, String> {
    let usage = "usage: embed <database> [--new-key] [--until <checkpoint>]";
    let mut words = std::env::args().skip(1);
    let mut read = Arguments { database: words.next().ok_or(usage)?, new_key: false, until: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--new-key" => read.new_key = true,
            "--until" => read.until = Some(words.next().and_then(|number| number.parse().ok()).ok_or(usage)?),
            _ => return Err(usage.to_owned()),
        }
    }
    Ok(read)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,finality_gadget=debug".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false).with_writer(std::io::stdout).init();

    // Step 2: open the database and attach it. What was damaged is set aside and rebuilt here; what had to be recovered is reported.
    let db = Arc::new(CheckpointDB::new(&arguments.database)?);
    if let Some(recovery) = db.recovery() {
        println!("recovered: {} (kept at {:?})", recovery.reason, recovery.aside);
    }
    let storage = Arc::new(CheckpointStorageAdapter::new(Arc::clone(&db)));
    let signer = chain::signer()?;
    let schedule = chain::schedule(&signer)?;
    if arguments.new_key {
        // An operator's word, given once in the life of a key; never guessed from an empty database.
        declare(&*storage, schedule.domain_digest(), Declaration::NeverSigned)?;
    }
    let persistence =
        CheckpointPersistenceConfig { retention_checkpoints: 20, flush_interval_secs: 1, prune_interval_secs: 1, enabled: true };
    let config = Config::new(FinalityRule::Single, Some(ValidatorId(0)));
    let mut finality = CheckpointFinality::new(config, schedule, persistence, Arc::new(ToyNetwork), Some(Arc::new(signer)));
    finality.set_storage(storage);

    // Step 3: restore before anything else. Without it the node only observes.
    finality.restore_from_storage(nonce())?;

    // Step 4: maintenance is a future; this node runs tokio and spawns it there. When it ends, the disk has failed.
    let maintenance = finality.maintenance().ok_or("persistence is disabled")?;
    let mut maintenance = tokio::spawn(maintenance.run(tokio::time::sleep));

    // What opening left unread is read behind the start. Damage found here is logged, and mended at the next start.
    let unread = Arc::clone(&db);
    std::thread::spawn(move || unread.check());

    // Step 5: hand in the time and looks at the chain (and whatever the network delivers), and take what has become final.
    let began = Instant::now();
    loop {
        tokio::select! {
            failed = &mut maintenance => return Err(failed?.into()),
            () = tokio::time::sleep(PACE) => {}
        }
        finality.tick(Millis(u64::try_from(began.elapsed().as_millis())?))?;
        finality.look(&ToyChain, INTERVAL).await??;
        finality.verify_restored()?;
        for finalized in finality.advance_finality() {
            println!("final: {}", finalized.checkpoint);
        }
        if arguments.until.is_some_and(|until| finality.finalized().checkpoint.number >= CheckpointNumber(until)) {
            // Before a planned end: the next start then has no log to read.
            db.settle()?;
            return Ok(());
        }
    }
}

/// Ties answers of peers to this start. A node with peers takes real randomness.
fn nonce() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_nanos().try_into().unwrap_or(u64::MAX)
}
