//! The keys of a host: what holds them, and where the configuration says that they lie.

use std::path::{Path, PathBuf};

use milepost_statement::{Address, SigningKey};
use zeroize::Zeroizing;

use crate::cli::HostKeyArgs;
use crate::config::Keys;

use super::keystore::{self, Keystore};
use super::{passphrase, seal};

/// What a missing key is told.
const NO_KEY: &str = "a chain is configured but no key: make one with `milepost keys new`, and name it as keys.keystore (or put a private key into a file, \
                      keys.submitter_file, mode 600, or into HOST_PRIVATE_KEY)";

/// A secp256k1 private key. Wiped when dropped, never shown.
pub(crate) struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// A key from its bytes, unless they are zero or not below the curve's order.
    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Option<Self> {
        SigningKey::from_bytes(&bytes).map(|_| Self(bytes))
    }

    /// A key from 64 hexadecimal digits, with or without `0x`. The error does not repeat them.
    pub(crate) fn from_hex(text: &str) -> Result<Self, String> {
        let digits = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut *bytes)
            .map_err(|_| "it does not hold the 64 hexadecimal digits of a private key".to_owned())?;
        Self::from_bytes(bytes).ok_or_else(|| "its digits are no secp256k1 key".to_owned())
    }

    /// A new key from the system's randomness.
    pub(super) fn generate() -> Result<Self, keystore::Error> {
        loop {
            // All but 2^-128 of all digits are keys.
            if let Some(key) = Self::from_bytes(Zeroizing::new(seal::random()?)) {
                return Ok(key);
            }
        }
    }

    /// The bytes, for the signers.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key's address.
    pub(crate) fn address(&self) -> Address {
        SigningKey::from_bytes(&self.0).map(|key| key.address()).unwrap_or_default()
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.address())
    }
}

/// Where the node's key lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An encrypted keystore.
    Keystore(PathBuf),
    /// A file with the bare key.
    File(PathBuf),
    /// The environment.
    Environment,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keystore(path) => write!(f, "keystore {}", path.display()),
            Self::File(path) => write!(f, "key file {}", path.display()),
            Self::Environment => f.write_str("HOST_PRIVATE_KEY"),
        }
    }
}

/// Where the configuration says that the node's key lies.
pub(crate) fn source(keys: &Keys) -> Result<Source, String> {
    let mut named = Vec::new();
    named.extend(keys.keystore.clone().map(Source::Keystore));
    named.extend(keys.submitter_file.clone().map(Source::File));
    named.extend(keys.submitter.as_ref().map(|_| Source::Environment));
    match named.len() {
        0 => Err(NO_KEY.to_owned()),
        1 => Ok(named.remove(0)),
        _ => {
            let all: Vec<_> = named.iter().map(ToString::to_string).collect();
            Err(format!("{} are set: which one is meant? unset the others", all.join(" and ")))
        }
    }
}

/// Opens the node's key. Takes most of a second for a keystore, and may ask on the terminal.
pub(crate) fn configured(keys: &Keys) -> Result<SecretKey, String> {
    match source(keys)? {
        Source::Keystore(path) => open_keystore(&path, keys.passphrase_file.as_deref()),
        Source::File(path) => open_file(&path),
        Source::Environment => {
            let secret = keys.submitter.as_ref().ok_or(NO_KEY)?;
            SecretKey::from_hex(secret.expose()).map_err(|why| format!("HOST_PRIVATE_KEY: {why}"))
        }
    }
}

/// The address of the node's key; a keystore is believed to hold the key of the address that it names, and not opened for it.
pub(crate) fn configured_address(keys: &Keys) -> Result<Address, String> {
    if let Source::Keystore(path) = source(keys)?
        && let Some(address) = read(&path)?.address().map_err(|why| in_file(&path, &why))?
    {
        return Ok(address);
    }
    configured(keys).map(|key| key.address())
}

/// Opens the host's own key as the flags say; without any, the node's key is taken for it.
pub(crate) fn host_key(args: &HostKeyArgs, keys: &Keys) -> Result<SecretKey, String> {
    match (&args.keystore, &args.key_file) {
        (Some(path), None) => open_keystore(path, args.passphrase_file.as_deref()),
        (None, Some(path)) => open_file(path),
        (None, None) => configured(keys),
        (Some(_), Some(_)) => Err("--keystore and --key-file are both given: which one is meant?".to_owned()),
    }
}

pub(super) fn read(path: &Path) -> Result<Keystore, String> {
    Keystore::read(path).map_err(|why| in_file(path, &why))
}

fn open_keystore(path: &Path, passphrase_file: Option<&Path>) -> Result<SecretKey, String> {
    let keystore = read(path)?;
    let passphrase = passphrase::existing(passphrase_file, path)?;
    keystore.decrypt(&passphrase).map_err(|why| in_file(path, &why))
}

pub(super) fn open_file(path: &Path) -> Result<SecretKey, String> {
    let text = passphrase::secret_file("key file", path)?;
    SecretKey::from_hex(&text).map_err(|why| format!("key file {}: {why}", path.display()))
}

pub(super) fn in_file(path: &Path, why: &keystore::Error) -> String {
    format!("keystore {}: {why}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// A key that is worth nothing.
    const DIGITS: &str = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    #[test]
    fn a_key_is_shown_by_its_address_only_and_a_wrong_one_is_not_repeated() {
        let key = SecretKey::from_hex(&format!("0x{DIGITS}\n")).expect("a key");
        let shown = format!("{key:?}");
        assert_eq!(shown, "SecretKey(0x70997970c51812dc3a010c7d01b50e0d17dc79c8)");
        for wrong in [&DIGITS[1..], &"ff".repeat(32), &"00".repeat(32)] {
            let error = SecretKey::from_hex(wrong).expect_err("refused");
            assert!(!error.contains(wrong), "{error}");
        }
        let keys = Keys { submitter: Some(Secret::from(DIGITS[1..].to_owned())), ..Keys::default() };
        let error = configured(&keys).expect_err("refused");
        assert!(error.contains("HOST_PRIVATE_KEY") && !error.contains(&DIGITS[1..]), "{error}");
    }

    #[test]
    fn a_node_has_one_key_and_says_so_if_two_are_named() {
        let two = Keys { keystore: Some("a.json".into()), submitter: Some(Secret::from(DIGITS.to_owned())), ..Keys::default() };
        let error = source(&two).expect_err("refused");
        assert!(error.contains("a.json") && error.contains("HOST_PRIVATE_KEY") && !error.contains(DIGITS), "{error}");
        assert!(source(&Keys::default()).expect_err("refused").contains("milepost keys new"));
    }
}
