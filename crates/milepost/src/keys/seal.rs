//! What both kinds of keystore have in common: stretching a passphrase, the cipher, and how a secret file is read and written.
//!
//! A passphrase and a salt give 32 bytes by scrypt (or, in files of others, PBKDF2). The first 16 are the AES-128-CTR key of the
//! secret, the last 16 show whether the passphrase is right. Written over the maintained RustCrypto parts.
//!
//! Guarantees: a file is created with mode 600, whole and synced, and never written over. What a hostile file may cost in memory and
//! time is bounded.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Largest file read: a keystore has about 500 bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Most memory that a file's scrypt parameters may ask for: 1 GiB, eight times what we ask for.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most scrypt work, `n × r × p`: sixteen times ours.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Most PBKDF2 rounds: some seconds.
const MAX_ROUNDS: u32 = 10_000_000;
/// Length of the derived key.
pub(crate) const DERIVED: usize = 32;

/// Why a keystore cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Something is there already.
    #[error("it exists already, and a key is never written over: move it away, or name another file")]
    Exists,
    /// Not of this format.
    #[error("it is no keystore of this kind: {0}")]
    Format(String),
    /// Parameters that cost more than any honest file.
    #[error("its {0} asks for more memory or time than any honest keystore")]
    TooCostly(&'static str),
    /// The MAC does not fit.
    #[error("the passphrase is wrong (or the file was changed)")]
    Passphrase,
    /// The passphrase fits, and what it opens is no key, or not the one that the file names.
    #[error("it does not hold the key that it names: the file was changed")]
    AnotherKey,
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// What deriving a key costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    log_n: u8,
}

impl Cost {
    /// What is recommended today: n = 2^17, r = 8, p = 1. 128 MiB and most of a second.
    pub(crate) const RECOMMENDED: Self = Self { log_n: 17 };

    /// Another `n`, as a power of two, for tests.
    #[cfg(test)]
    pub(crate) const fn of(log_n: u8) -> Self {
        Self { log_n }
    }
}

/// How a passphrase is stretched.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
pub(crate) enum Kdf {
    Scrypt { dklen: usize, n: u64, p: u32, r: u32, salt: String },
    Pbkdf2 { c: u32, dklen: usize, prf: String, salt: String },
}

impl Kdf {
    /// What a new keystore is sealed with.
    pub(crate) fn scrypt(cost: Cost, salt: &[u8; 32]) -> Self {
        Self::Scrypt { dklen: DERIVED, n: 1 << cost.log_n, p: 1, r: 8, salt: hex::encode(salt) }
    }

    /// Stretches a passphrase, within bounds.
    pub(crate) fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; DERIVED]>, Error> {
        let mut derived = Zeroizing::new([0; DERIVED]);
        match self {
            Self::Scrypt { dklen, n, p, r, salt } => {
                check_length(*dklen)?;
                let work = n.saturating_mul(u64::from(*r)).saturating_mul(u64::from(*p));
                if work > MAX_SCRYPT_WORK || n.saturating_mul(u64::from(*r)).saturating_mul(128) > MAX_SCRYPT_BYTES {
                    return Err(Error::TooCostly("scrypt"));
                }
                if !n.is_power_of_two() || *n < 2 {
                    return Err(Error::Format(format!("scrypt's n is {n}, no power of two")));
                }
                let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
                let params = scrypt::Params::new(log_n, *r, *p, DERIVED).map_err(|error| Error::Format(error.to_string()))?;
                scrypt::scrypt(passphrase.as_bytes(), &bytes("salt", salt)?, &params, &mut *derived)
                    .map_err(|error| Error::Format(error.to_string()))?;
            }
            Self::Pbkdf2 { c, dklen, prf, salt } => {
                check_length(*dklen)?;
                if prf != "hmac-sha256" {
                    return Err(Error::Format(format!("its function is {prf:?}, not hmac-sha256")));
                }
                if *c == 0 || *c > MAX_ROUNDS {
                    return Err(Error::TooCostly("pbkdf2"));
                }
                pbkdf2::pbkdf2::<hmac::Hmac<sha2::Sha256>>(passphrase.as_bytes(), &bytes("salt", salt)?, *c, &mut *derived)
                    .map_err(|error| Error::Format(error.to_string()))?;
            }
        }
        Ok(derived)
    }
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scrypt { n, r, p, .. } => write!(f, "scrypt n={n} r={r} p={p}"),
            Self::Pbkdf2 { c, .. } => write!(f, "pbkdf2 c={c}"),
        }
    }
}

/// A keystore's bytes, unless there are more than any keystore has.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE {
        return Err(Error::Format(format!("{length} bytes")));
    }
    Ok(std::fs::read(path)?)
}

/// Writes a new file, for its owner only, with a newline at its end.
pub(crate) fn write_new(path: &Path, text: &[u8]) -> Result<(), Error> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| if error.kind() == std::io::ErrorKind::AlreadyExists { Error::Exists } else { Error::Io(error) })?;
    file.write_all(text)?;
    if !text.ends_with(b"\n") {
        file.write_all(b"\n")?;
    }
    file.sync_all()?;
    // The name must survive a power loss as well: a key that is registered and gone has to be replaced.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

fn check_length(dklen: usize) -> Result<(), Error> {
    if dklen == DERIVED { Ok(()) } else { Err(Error::Format(format!("its derived key has {dklen} bytes, not {DERIVED}"))) }
}

/// Hexadecimal digits, with or without `0x`.
pub(crate) fn bytes(what: &str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|_| Error::Format(format!("its {what} is not hexadecimal")))
}

/// Encrypts, or decrypts: in counter mode both are the same.
pub(crate) fn crypt(derived: &[u8; DERIVED], iv: &[u8; 16], text: &mut [u8]) {
    let mut key = Zeroizing::new([0_u8; 16]);
    key.copy_from_slice(&derived[..16]);
    ctr::Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(text);
}

/// Randomness from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| Error::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
