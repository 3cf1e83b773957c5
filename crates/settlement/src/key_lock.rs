//! One process per key in a deployment: two that sign with the same key would give one nonce two purposes.
//!
//! The lock is a locked file in a folder that all nodes of the deployment share: on one machine its folder for temporary files, on
//! several a shared one. It is gone with the process, however that ends. It guards against mistakes; what it cannot see (a folder
//! that is not shared) the chain shows later, see `submitter::guard`.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use milepost_ledger::{Address, ChainId};

use crate::{Error, SettlementConfig};

/// The right to sign with a key on a chain; held while the file is open.
///
/// Guarantees: of all who ask with the same folder, one has it. Does not: hold back a program that does not ask.
#[derive(Debug)]
pub struct KeyLock {
    _file: File,
}

impl KeyLock {
    /// Takes the lock where the configuration says that it lies; `None` where there is none, on development chains. It is
    /// [`Error::KeyLocked`] if another process has it.
    pub fn of(config: &SettlementConfig, key: Address) -> Result<Option<Self>, Error> {
        config.lock_folder().map(|folder| Self::take(&folder, config.chain_id, key)).transpose()
    }

    /// Takes the lock of a key on a chain, or says who has it.
    pub(crate) fn take(folder: &Path, chain: ChainId, key: Address) -> Result<Self, Error> {
        let path = folder.join(format!("{chain}-{key}.lock"));
        let wrong = |error: std::io::Error| Error::Config(format!("the key's lock {} cannot be used: {error}", path.display()));
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::KeyLocked { key, path: path.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }
}

/// Where locks lie unless the operator says otherwise.
pub(crate) fn default_folder() -> PathBuf {
    std::env::temp_dir().join("milepost-keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_held_by_one_at_a_time_and_per_chain() {
        let folder = std::env::temp_dir().join(format!("milepost-key-lock-test-{}", std::process::id()));
        let (chain, key) = (ChainId(1), Address([7; 20]));
        let held = KeyLock::take(&folder, chain, key).unwrap();
        assert!(matches!(KeyLock::take(&folder, chain, key), Err(Error::KeyLocked { .. })));
        assert!(KeyLock::take(&folder, ChainId(2), key).is_ok(), "another chain has nonces of its own");
        drop(held);
        assert!(KeyLock::take(&folder, chain, key).is_ok());
        let _ = std::fs::remove_dir_all(&folder);
    }
}
