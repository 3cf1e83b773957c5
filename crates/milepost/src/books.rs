//! The ledger and the chain as they stand, read without touching either, also while a node runs on them.

use std::fs::File;

use milepost_ledger_db::LedgerDb;
use milepost_settlement::Chain;
use milepost_statement::Address;
use nix::libc;

use crate::config::{Config, StoreKind};

/// The database as it is on disk now, and the chain where one is configured.
pub(crate) fn open(config: &Config) -> Result<(LedgerDb, Option<Chain>), String> {
    let chain = config.chain.as_ref().map(Chain::new).transpose().map_err(|error| error.to_string())?;
    Ok((ledger(config)?, chain))
}

/// The database as it is on disk now.
pub(crate) fn ledger(config: &Config) -> Result<LedgerDb, String> {
    match config.node.store {
        StoreKind::Memory => Err("node.store is \"memory\": a node that keeps nothing leaves nothing to look at".to_owned()),
        #[cfg(feature = "rocksdb")]
        StoreKind::Rocksdb => {
            let path = config.node.data.join("ledger");
            // RocksDB would make the folder for its own log.
            if !exists(config) {
                return Err(format!("{}: there is no database (node.data)", path.display()));
            }
            LedgerDb::open_rocks_read_only(&path).map_err(|error| format!("{}: {error}", path.display()))
        }
        #[cfg(not(feature = "rocksdb"))]
        StoreKind::Rocksdb => Err("this build has no RocksDB".to_owned()),
    }
}

/// Whether there is a database at all.
pub(crate) fn exists(config: &Config) -> bool {
    config.node.store == StoreKind::Rocksdb && config.node.data.join("ledger").join("CURRENT").exists()
}

/// The process that has the database open for writing, if any does. RocksDB holds a POSIX lock on a file of its own.
pub(crate) fn running(config: &Config) -> Option<i32> {
    let file = File::open(config.node.data.join("ledger").join("LOCK")).ok()?;
    let seek = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    let kind = libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default();
    let mut lock = libc::flock { l_type: kind, l_whence: seek, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETLK(&mut lock)).ok()?;
    (i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid)
}

/// How many transactions of this key are not final yet, as far as this box knows.
pub(crate) fn unresolved(config: &Config, key: Address) -> Result<usize, String> {
    if !exists(config) {
        return Ok(0);
    }
    let txs = ledger(config)?.txs().map_err(|error| error.to_string())?;
    Ok(txs.iter().filter(|tx| tx.id.key == key && tx.is_unresolved()).count())
}

/// The ledger, for writing, if it counts the transactions of this key: a node of this box signs with it from time to time. The
/// ledger of a running node is that node's; it signs with another key, or the command was refused before.
pub(crate) async fn counting(config: &Config, key: Address) -> Result<Option<LedgerDb>, String> {
    if !exists(config) {
        return Ok(None);
    }
    let counts = milepost_settlement::knows_key(&ledger(config)?, key).await.map_err(|error| error.to_string())?;
    match running(config) {
        _ if !counts => Ok(None),
        None => crate::host::open_ledger(config).map(Some).map_err(|error| error.to_string()),
        Some(pid) => {
            tracing::warn!(event = "nonce_not_explained", key = %key, pid, "the ledger that counts this key is in use: before a node signs with it again, its use must be explained");
            Ok(None)
        }
    }
}

/// Refuses a ledger that a node has open for writing: what it holds in memory would not hear of it.
pub(crate) fn refuse_if_running(config: &Config) -> Result<(), String> {
    match running(config) {
        Some(pid) => Err(format!("the node of process {pid} runs on this ledger: stop it first, and start it again afterwards")),
        None => Ok(()),
    }
}

/// Refuses a key whose nonces this box's node is using.
pub(crate) fn refuse_if_signing(config: &Config, key: Address) -> Result<(), String> {
    let remedy = "two signers take each other's nonces. Give the node a submitter key of its own (`milepost keys new`, `milepost keys submitter add`)";
    if let Some(pid) = running(config)
        && crate::keys::configured_address(&config.keys).is_ok_and(|own| own == key)
    {
        return Err(format!("the node of process {pid} signs with {key} as well: {remedy}, or stop it for this"));
    }
    match unresolved(config, key)? {
        0 => Ok(()),
        waiting => Err(format!("{waiting} transactions of {key} are under way on this box: {remedy}, or wait until they are final")),
    }
}
