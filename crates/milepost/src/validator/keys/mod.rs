//! A validator's two keys: the **vote key**, encrypted ([`keystore`]), and the **transport key** that it shows on the network, in a file
//! that only its owner reads: whoever steals the latter can disturb, but not vote.

pub(crate) mod command;
pub(super) mod keystore;

use std::path::Path;

use keystore::{Error, VoteKey, VoteKeystore};

use crate::keys::passphrase;

/// Reads a keystore without opening it.
pub(super) fn read(path: &Path) -> Result<VoteKeystore, String> {
    VoteKeystore::read(path).map_err(|why| in_file(path, &why))
}

/// Opens a keystore.
pub(super) fn open(keystore: &VoteKeystore, path: &Path, passphrase_file: Option<&Path>) -> Result<VoteKey, String> {
    let passphrase = passphrase::existing(passphrase_file, path)?;
    keystore.decrypt(&passphrase).map_err(|why| in_file(path, &why))
}

/// An error with the file that it is about.
pub(super) fn in_file(path: &Path, why: &Error) -> String {
    format!("keystore {}: {why}", path.display())
}
