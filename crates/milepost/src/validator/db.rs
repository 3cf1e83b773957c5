//! `milepost db`: figures, checks and copies of a database that no process holds.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;

use checkpoint_db::{CheckpointDB, Inspection};
use finality_gadget::persistence::Standing;
use nix::libc;
use serde_json::{Value, json};

use super::args::{DbArgs, DbCommand};
use super::{Error, exit, history, settings};
use crate::config::{Config, Validator};
use crate::output::Output;

/// The database is damaged, or its sign-state in doubt.
const DAMAGED: u8 = 2;
/// Problems of a ledger that are listed.
#[cfg(feature = "host")]
const SHOWN: usize = 20;

/// Runs a `db` command.
pub(crate) fn run(loaded: Result<(Config, Vec<String>), String>, args: &DbArgs, output: Output) -> ExitCode {
    let config = match loaded {
        Ok((config, _)) => config,
        Err(error) => return exit(Err(Error::Configuration(error))),
    };
    if args.ledger || (!args.validator && config.validator.is_none()) {
        return ledger(&config, &args.command, output);
    }
    match settings(&config).and_then(|settings| validator(&settings, &args.command, output)) {
        Ok(code) => ExitCode::from(code),
        Err(Error::Database(error)) if error.is_damage() => {
            crate::failed(&format!(
                "checkpoint database: {error}\nNothing was changed. The next start of the validator sets it aside, whole, and rebuilds it (docs/validators.md)"
            ));
            ExitCode::from(DAMAGED)
        }
        Err(error) => exit(Err(error)),
    }
}

fn validator(settings: &Validator, command: &DbCommand, output: Output) -> Result<u8, Error> {
    let path = settings.database();
    refuse_if_held(&path)?;
    match command {
        DbCommand::Stats => stats(&path, output),
        DbCommand::Check => check(&path, output),
        DbCommand::Export { out, minified } => history::export(settings, out, *minified, output),
        DbCommand::Import { file } => history::import(settings, file, output),
        DbCommand::Backup { out } => history::backup(settings, out, output),
    }
}

fn stats(path: &Path, output: Output) -> Result<u8, Error> {
    let Inspection { db, doubt } = inspect(path)?;
    let counts = db.get_stats()?;
    let doubt = doubt.or(db.doubt()?);
    let state = db.sign_state()?;
    let refused = state.as_ref().and_then(|state| match &state.standing {
        Standing::Clear => None,
        Standing::Refused(refusal) => Some(refusal.reason.clone()),
    });
    let number = |number: Option<finality_gadget::CheckpointNumber>| number.map(|number| number.0);
    let shown = json!({
        "path": path,
        "last_finalized": number(counts.last_finalized),
        "certificates": counts.total_certificates,
        "signatures": counts.total_signatures,
        "own_votes": counts.own_votes,
        "evidence": counts.evidence,
        "oldest_checkpoint": number(counts.oldest_checkpoint),
        "newest_checkpoint": number(counts.newest_checkpoint),
        "pruned_below": db.pruned_below()?.0,
        "disk_bytes": counts.disk_bytes,
        "max_source": state.as_ref().map(|state| state.max_source.0),
        "max_target": state.as_ref().map(|state| state.max_target.0),
        "domain": state.as_ref().map(|state| state.domain.to_string()),
        "refused": refused,
        "doubt": doubt,
    });
    show(&shown, output)?;
    Ok(if doubt.is_some() { DAMAGED } else { 0 })
}

fn check(path: &Path, output: Output) -> Result<u8, Error> {
    let Inspection { db, doubt } = inspect(path)?;
    let records = db.check()?;
    let doubt = doubt.or(db.doubt()?);
    show(&json!({ "path": path, "records": records, "damaged": false, "doubt": doubt }), output)?;
    Ok(if doubt.is_some() { DAMAGED } else { 0 })
}

/// Opens the database for reading, if there is one.
pub(super) fn inspect(path: &Path) -> Result<Inspection, Error> {
    // A look at nothing would otherwise be taken for damage.
    if !path.exists() {
        return Err(Error::Configuration(format!("{}: there is no database (validator.data)", path.display())));
    }
    Ok(CheckpointDB::inspect(path)?)
}

/// The process that has a RocksDB database open for writing, if any does: RocksDB holds a POSIX lock on a file of its own. Never to be
/// asked by that process itself: closing the file would end its own lock.
pub(super) fn holder(path: &Path) -> Option<i32> {
    let file = File::open(path.join("LOCK")).ok()?;
    let seek = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    let kind = libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default();
    let mut lock = libc::flock { l_type: kind, l_whence: seek, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
}

/// Commands about a database are for one that nobody writes to.
pub(super) fn refuse_if_held(path: &Path) -> Result<(), Error> {
    match holder(path) {
        Some(pid) => Err(Error::Held { path: path.to_owned(), holder: format!("process {pid}") }),
        None => Ok(()),
    }
}

/// Prints facts: JSON as they are, or a line for each.
pub(super) fn show(facts: &Value, output: Output) -> Result<(), Error> {
    let lines = || {
        let facts = facts.as_object().map(|facts| {
            facts.iter().map(|(name, value)| {
                let value = match value {
                    Value::Null => "-".to_owned(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                format!("{:<20}{value}", name.replace('_', " "))
            })
        });
        facts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    };
    output.show(|| facts, lines).map_err(Error::System)
}

#[cfg(not(feature = "host"))]
fn ledger(_: &Config, _: &DbCommand, _: Output) -> ExitCode {
    exit(Err(Error::Configuration("this build has no host and no ledger; there is no section [validator] either".to_owned())))
}

/// The same of a host's ledger, as far as it has the same.
#[cfg(feature = "host")]
fn ledger(config: &Config, command: &DbCommand, output: Output) -> ExitCode {
    let path = config.node.data.join("ledger");
    let outcome = match command {
        DbCommand::Export { .. } | DbCommand::Import { .. } => {
            Err(Error::Refused("a history in the format of EIP-3076 is a validator's: --validator".to_owned()))
        }
        _ => refuse_if_held(&path).and_then(|()| ledger_command(config, &path, command, output)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit(Err(error)),
    }
}

#[cfg(feature = "host")]
fn ledger_command(config: &Config, path: &Path, command: &DbCommand, output: Output) -> Result<u8, Error> {
    let db = crate::books::ledger(config).map_err(Error::Configuration)?;
    let failed =
        |error: milepost_ledger_db::Error| Error::Refused(format!("ledger database: [{}] {error}\n{}", error.code(), error.advice()));
    match command {
        DbCommand::Stats => {
            let stats = db.stats().map_err(failed)?;
            let tables: serde_json::Map<_, _> =
                stats.tables.iter().map(|table| (table.table.name().to_owned(), table.records.into())).collect();
            show(&json!({ "path": path, "disk_bytes": stats.disk_bytes, "estimated_records": tables }), output)?;
            Ok(0)
        }
        DbCommand::Check => {
            let report = db.check().map_err(failed)?;
            let problems: Vec<String> = report.problems.iter().take(SHOWN).map(ToString::to_string).collect();
            let all = report.problems.len() as u64 + report.further_problems;
            let (records, accounts, tokens) = (report.records, report.accounts, report.tokens);
            show(
                &json!({ "path": path, "records": records, "accounts": accounts, "tokens": tokens, "problems": all, "first": problems }),
                output,
            )?;
            Ok(if report.is_clean() { 0 } else { DAMAGED })
        }
        DbCommand::Backup { out } => {
            let clean = db.check().map_err(failed)?.is_clean();
            db.backup(out).map_err(failed)?;
            show(&json!({ "path": path, "backup": out, "clean": clean }), output)?;
            Ok(if clean { 0 } else { DAMAGED })
        }
        DbCommand::Export { .. } | DbCommand::Import { .. } => Err(Error::Refused("a ledger has no history of a vote key".to_owned())),
    }
}
