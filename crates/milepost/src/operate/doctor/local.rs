//! This machine's part: build, key, model file, database, disk.

use std::io::Read;
use std::path::Path;

use milepost_ledger_db::LedgerDb;
use milepost_statement::{Address, Digest};
use sha2::Digest as _;

use super::Findings;
use super::chain::Seen;
use crate::books;
use crate::build_info::build_info;
use crate::config::{Config, EngineKind, StoreKind};
use crate::keys::{self, Source};

/// Digits of a commit that name one: git's own shortest.
const LEAST_DIGITS: usize = 7;
/// Below this the database may fail to write at any moment, and the node with it: a receipt has a quarter of a MiB, RocksDB's files 64.
const LEAST_FREE: u64 = 512 * MIB;
/// Below this it should be looked at: some thousand claims.
const ENOUGH_FREE: u64 = 4 * 1024 * MIB;
const MIB: u64 = 1 << 20;
/// Problems of a database that are listed; `milepost reconcile` names all.
const SHOWN: usize = 3;
/// What a model file begins with.
const GGUF: &[u8; 4] = b"GGUF";

/// Which code this is.
pub(super) fn build(expected: Option<&str>, findings: &mut Findings) {
    let build = build_info();
    let this = format!("version {}, commit {}, built {} (Unix seconds)", build.version, build.commit, build.built);
    match expected {
        Some(expected) => match same_commit(expected, build.commit) {
            Ok(true) => findings.ok("build", this),
            Ok(false) => findings.failure("build", format!("{this}; commit {expected} was expected"), "deploy the build that was meant"),
            Err(why) => findings.failure("build", why, "give the commit as git shows it"),
        },
        None if build.commit.ends_with("-dirty") => {
            findings.warning("build", this, "it was built from a changed tree: nobody can tell which code this is");
        }
        None => findings.ok("build", this),
    }
}

/// Whether a build's stamp is the expected commit; either may be shorter than the other. A changed tree is no commit.
pub(super) fn same_commit(expected: &str, stamp: &str) -> Result<bool, String> {
    let expected = expected.trim().to_ascii_lowercase();
    if expected.len() < LEAST_DIGITS || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("--expect-commit {expected:?}: not the hexadecimal digits of a commit, at least {LEAST_DIGITS}"));
    }
    Ok(stamp.len() >= LEAST_DIGITS && (stamp.starts_with(&expected) || expected.starts_with(stamp)))
}

/// Opens the node's key as `serve` would. Its address if that went well.
pub(super) async fn key(config: &Config, findings: &mut Findings) -> Option<Address> {
    if config.chain.is_none() {
        findings.skipped("key", "log mode: nothing is signed");
        return None;
    }
    let source = match keys::source(&config.keys) {
        Ok(source) => source,
        Err(why) => {
            findings.failure("key", why, "name one key in the configuration");
            return None;
        }
    };
    let of = config.keys.clone();
    let opened = tokio::task::spawn_blocking(move || keys::configured(&of).map(|key| key.address())).await;
    match opened.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok(address) => {
            match source {
                Source::Keystore(_) => findings.ok("key", format!("{source} opens to {address}")),
                Source::File(_) | Source::Environment => findings.warning(
                    "key",
                    format!("{source} holds {address}, not encrypted"),
                    "`milepost keys import` makes an encrypted keystore of it (keys.keystore)",
                ),
            }
            Some(address)
        }
        Err(why) => {
            findings.failure("key", why, "mend it, or name another key (docs/operating.md)");
            None
        }
    }
}

/// The model file and its digest.
pub(super) async fn model(config: &Config, findings: &mut Findings) -> Option<Digest> {
    if config.model.engine == EngineKind::Scripted {
        let digest = Digest(milepost_inference::scripted::digest());
        findings.warning(
            "model",
            format!("the scripted engine, digest {digest}"),
            "it is no model: set model.engine = \"llama\" and model.path",
        );
        return Some(digest);
    }
    let Some(path) = config.model.path.clone() else {
        findings.failure("model", "no model is configured", "set model.path (or MODEL_PATH) to a GGUF file");
        return None;
    };
    let shown = path.display().to_string();
    // A model has gigabytes: not on an async thread.
    let read = tokio::task::spawn_blocking(move || digest_of(&path)).await.unwrap_or_else(|panic| Err(panic.to_string()));
    match read {
        Ok((digest, bytes)) => {
            findings.ok("model", format!("{shown}: {} MiB, SHA-256 {digest}", bytes / MIB));
            Some(digest)
        }
        Err(why) => {
            findings.failure("model", format!("{shown}: {why}"), "set model.path to a whole GGUF file");
            None
        }
    }
}

fn digest_of(path: &Path) -> Result<(Digest, u64), String> {
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut magic = [0; GGUF.len()];
    file.read_exact(&mut magic).map_err(|error| error.to_string())?;
    if magic != *GGUF {
        return Err("it is no GGUF file".to_owned());
    }
    let mut hash = sha2::Sha256::new();
    hash.update(magic);
    let rest = std::io::copy(&mut file, &mut hash).map_err(|error| error.to_string())?;
    Ok((Digest(hash.finalize().into()), rest + GGUF.len() as u64))
}

/// Every record's checksum, every account's rows, and whether the database is this chain's.
pub(super) async fn database(config: &Config, seen: Option<&Seen>, key: Option<Address>, findings: &mut Findings) {
    let path = config.node.data.join("ledger");
    if config.node.store == StoreKind::Memory {
        return findings.warning("database", "node.store is \"memory\": nothing survives the process", "set node.store = \"rocksdb\"");
    }
    if !books::exists(config) {
        return findings.ok("database", format!("none at {} yet: the node makes one when it starts", path.display()));
    }
    let mend = "stop the node, keep the folder as it is, and restore the newest backup beside it";
    let of = config.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let db = books::ledger(&of)?;
        let report = db.check().map_err(|error| error.to_string())?;
        let accounts = db.accounts().map_err(|error| error.to_string())?;
        Ok::<_, String>((db, report, accounts))
    });
    let (db, report, accounts) = match checked.await.unwrap_or_else(|panic| Err(panic.to_string())) {
        Ok(checked) => checked,
        Err(why) => return findings.failure("database", why, mend),
    };
    if report.is_clean() {
        let found = format!(
            "{}: {} records whole, {} accounts, {} token ids hashed again",
            path.display(),
            report.records,
            report.accounts,
            report.tokens
        );
        findings.ok("database", found);
    } else {
        let all = report.problems.len() as u64 + report.further_problems;
        let some: Vec<_> = report.problems.iter().take(SHOWN).map(ToString::to_string).collect();
        findings.failure("database", format!("{all} problems: {}", some.join("; ")), mend);
    }
    if let Some((chain, found)) = seen.and_then(|seen| seen.preflight.as_ref().map(|found| (&seen.chain, found)))
        && let Err(error) = milepost_settlement::check_belongs(&db, chain, found)
    {
        findings.coded("database", error.to_string(), error.code(), error.advice());
    }
    let halted: Vec<_> = accounts.iter().filter(|account| account.halted.is_some()).map(|account| account.id.to_string()).collect();
    if !halted.is_empty() {
        findings.failure(
            "jobs",
            format!("{} jobs wait for an operator: {}", halted.len(), halted.join(", ")),
            "milepost why <job>; when the cause is gone, milepost jobs resume <job>",
        );
    }
    if let (Some(seen), Some(key), Some(settlement)) = (seen, key, &config.chain)
        && !settlement.shared_key
    {
        key_use(config, &db, seen, key, findings).await;
    }
}

/// Whether the chain knows more of the key than the ledger does: then nothing is signed.
async fn key_use(config: &Config, db: &LedgerDb, seen: &Seen, key: Address, findings: &mut Findings) {
    let mut used = match milepost_settlement::key_use(db, &seen.chain, key).await {
        Ok(used) => used,
        Err(error) => return findings.skipped("key's use", format!("not reached: {error}")),
    };
    // The database is as it was when it was opened; a node that runs may have signed since. What the chain counts was recorded before.
    if !used.unexplained().is_empty()
        && let Ok(newer) = books::ledger(config)
        && let Ok(again) = milepost_settlement::key_use(&newer, &seen.chain, key).await
    {
        used.known = again.known;
    }
    if used.known == 0 && used.count > 0 {
        findings.skipped("key's use", "the ledger has not seen this key yet; what it did before is none of its business");
    } else if used.unexplained().is_empty() {
        findings.ok("key's use", format!("the chain counts {} transactions, and the ledger explains them", used.count));
    } else {
        let error = milepost_settlement::Error::KeyAhead { key, count: used.count, known: used.known };
        findings.coded("key's use", error.to_string(), error.code(), error.advice());
    }
}

/// Room for the database.
pub(super) fn disk(config: &Config, findings: &mut Findings) {
    // The folder may not be made yet: its disk is that of the nearest folder above it that is.
    let wanted = std::path::absolute(&config.node.data).unwrap_or_else(|_| config.node.data.clone());
    let there = wanted.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(disk) => {
            let free = disk.fragment_size().saturating_mul(disk.blocks_available());
            judge_disk(&there.display().to_string(), free, findings);
        }
        Err(error) => findings.failure("disk", format!("{}: {error}", there.display()), "set node.data to a folder on a disk"),
    }
}

fn judge_disk(place: &str, free: u64, findings: &mut Findings) {
    let found = format!("{place}: {} MiB free", free / MIB);
    if free < LEAST_FREE {
        findings.failure("disk", found, "make room: the node ends when a record cannot be written");
    } else if free < ENOUGH_FREE {
        findings.warning("disk", found, "make room before it runs out: the node ends when a record cannot be written");
    } else {
        findings.ok("disk", found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_commit_is_named_by_its_beginning_and_a_changed_tree_is_none() {
        let full = "b3331910aa5e4f1c2d3b4a5968778695a4b3c2d1";
        assert_eq!(same_commit("b333191", "b3331910aa5e"), Ok(true));
        assert_eq!(same_commit(full, "b3331910aa5e"), Ok(true));
        assert_eq!(same_commit("B333191", "b3331910aa5e"), Ok(true));
        assert_eq!(same_commit("b333192", "b3331910aa5e"), Ok(false));
        assert_eq!(same_commit(full, "b3331910aa5e-dirty"), Ok(false));
        assert_eq!(same_commit(full, ""), Ok(false));
        assert_eq!(same_commit(full, "unknown"), Ok(false));
        for wrong in ["", "b33", "main", "b333191-dirty"] {
            assert!(same_commit(wrong, "b3331910aa5e").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_one_that_fills() {
        for (free, verdict) in [(0, Verdict::Failure), (LEAST_FREE, Verdict::Warning), (ENOUGH_FREE, Verdict::Ok)] {
            let mut findings = Findings::default();
            judge_disk("/", free, &mut findings);
            assert_eq!(findings.0[0].verdict, verdict, "{free}");
        }
    }

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("model.gguf");
        std::fs::write(&file, b"<html>not found</html>").expect("written");
        assert_eq!(digest_of(&file), Err("it is no GGUF file".to_owned()));
        std::fs::write(&file, b"GGUF and more").expect("written");
        let whole: [u8; 32] = sha2::Sha256::digest(b"GGUF and more").into();
        assert_eq!(digest_of(&file), Ok((Digest(whole), 13)));
    }
}
