//! Encrypted keys on disk: the Web3 Secret Storage format, version 3, that wallets and clients of the chain exchange.
//!
//! A passphrase and a salt give 32 bytes by scrypt (or, in files of others, PBKDF2). The first 16 are the AES-128-CTR key of the
//! secret, the last 16 make the MAC: `keccak256(last 16 ‖ ciphertext)`. Written here over the maintained RustCrypto parts: the
//! library of this format writes keys at a sixteenth of the cost that is recommended today, readable by everybody, in place.
//!
//! Guarantees: a file is created with mode 600, whole and synced, and never written over. A wrong passphrase and a changed file
//! are told apart from a file of another format. What a hostile file may cost in memory and time is bounded.
//! Does not: tell a wrong passphrase from a changed ciphertext; nobody can.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aes::Aes128;
use aes::cipher::{KeyIvInit, StreamCipher};
use milepost_statement::Address;
use rand::TryRngCore;
use rand::rngs::OsRng;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SecretKey;

/// Largest file read: a keystore has about 500 bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Most memory that a file's scrypt parameters may ask for: 1 GiB, eight times what we ask for.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most scrypt work, `n × r × p`: sixteen times ours.
const MAX_SCRYPT_WORK: u64 = 1 << 24;
/// Most PBKDF2 rounds: some seconds.
const MAX_ROUNDS: u32 = 10_000_000;
/// Length of the derived key.
const DERIVED: usize = 32;

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
    #[error("it is no Web3 keystore of version 3: {0}")]
    Format(String),
    /// Parameters that cost more than any honest file.
    #[error("its {0} asks for more memory or time than any honest keystore")]
    TooCostly(&'static str),
    /// The MAC does not fit.
    #[error("the passphrase is wrong (or the file was changed)")]
    Passphrase,
    /// The passphrase fits, and what it opens is no key, or not the key of the file's address.
    #[error("it holds no key of the address that it names: the file was changed")]
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
}

/// A keystore file as it is read and written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Keystore {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    #[serde(default)]
    id: String,
    version: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    #[serde(flatten)]
    kdf: Kdf,
    mac: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt { dklen: usize, n: u64, p: u32, r: u32, salt: String },
    Pbkdf2 { c: u32, dklen: usize, prf: String, salt: String },
}

impl Kdf {
    fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; DERIVED]>, Error> {
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

impl Keystore {
    /// Encrypts a key.
    pub(crate) fn encrypt(key: &SecretKey, passphrase: &str, cost: Cost) -> Result<Self, Error> {
        let salt: [u8; 32] = random()?;
        let iv: [u8; 16] = random()?;
        let kdf = Kdf::Scrypt { dklen: DERIVED, n: 1 << cost.log_n, p: 1, r: 8, salt: hex::encode(salt) };
        let derived = kdf.derive(passphrase)?;
        let mut text = Zeroizing::new(*key.bytes());
        crypt(&derived, &iv, &mut text[..]);
        Ok(Self {
            address: Some(hex::encode(key.address().0)),
            crypto: Crypto {
                cipher: "aes-128-ctr".to_owned(),
                cipherparams: CipherParams { iv: hex::encode(iv) },
                ciphertext: hex::encode(&text[..]),
                mac: hex::encode(mac(&derived, &text[..])),
                kdf,
            },
            id: uuid(random()?),
            version: 3,
        })
    }

    /// Decrypts the key.
    pub(crate) fn decrypt(&self, passphrase: &str) -> Result<SecretKey, Error> {
        if self.crypto.cipher != "aes-128-ctr" {
            return Err(Error::Format(format!("its cipher is {:?}, not aes-128-ctr", self.crypto.cipher)));
        }
        let iv: [u8; 16] =
            bytes("iv", &self.crypto.cipherparams.iv)?.try_into().map_err(|_| Error::Format("its iv is not 16 bytes".to_owned()))?;
        let ciphertext = bytes("ciphertext", &self.crypto.ciphertext)?;
        let derived = self.crypto.kdf.derive(passphrase)?;
        if !bool::from(mac(&derived, &ciphertext).ct_eq(&bytes("mac", &self.crypto.mac)?)) {
            return Err(Error::Passphrase);
        }
        let mut secret = Zeroizing::new(ciphertext);
        crypt(&derived, &iv, &mut secret);
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            return Err(Error::AnotherKey);
        }
        key.copy_from_slice(&secret);
        let key = SecretKey::from_bytes(key).ok_or(Error::AnotherKey)?;
        match self.address()? {
            Some(named) if named != key.address() => Err(Error::AnotherKey),
            _ => Ok(key),
        }
    }

    /// The address that the file names. Nobody vouches for it before the key was decrypted.
    pub(crate) fn address(&self) -> Result<Option<Address>, Error> {
        let Some(text) = &self.address else { return Ok(None) };
        let bytes = bytes("address", text)?;
        bytes.try_into().map(|bytes| Some(Address(bytes))).map_err(|_| Error::Format("its address is not 20 bytes".to_owned()))
    }

    /// How the passphrase is stretched, for people.
    pub(crate) fn kdf(&self) -> String {
        match &self.crypto.kdf {
            Kdf::Scrypt { n, r, p, .. } => format!("scrypt n={n} r={r} p={p}"),
            Kdf::Pbkdf2 { c, .. } => format!("pbkdf2 c={c}"),
        }
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let length = std::fs::metadata(path)?.len();
        if length > MAX_FILE {
            return Err(Error::Format(format!("{length} bytes")));
        }
        let keystore: Self = serde_json::from_slice(&std::fs::read(path)?).map_err(|error| Error::Format(error.to_string()))?;
        if keystore.version == 3 { Ok(keystore) } else { Err(Error::Format(format!("version {}", keystore.version))) }
    }

    /// Writes a new file, for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Format(error.to_string()))?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| if error.kind() == std::io::ErrorKind::AlreadyExists { Error::Exists } else { Error::Io(error) })?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        // The name must survive a power loss as well: a key that is registered and gone has to be replaced on chain.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    }
}

fn check_length(dklen: usize) -> Result<(), Error> {
    if dklen == DERIVED { Ok(()) } else { Err(Error::Format(format!("its derived key has {dklen} bytes, not {DERIVED}"))) }
}

fn bytes(what: &str, text: &str) -> Result<Vec<u8>, Error> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|_| Error::Format(format!("its {what} is not hexadecimal")))
}

/// Encrypts, or decrypts: in counter mode both are the same.
fn crypt(derived: &[u8; DERIVED], iv: &[u8; 16], text: &mut [u8]) {
    let mut key = Zeroizing::new([0_u8; 16]);
    key.copy_from_slice(&derived[..16]);
    ctr::Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(text);
}

fn mac(derived: &[u8; DERIVED], ciphertext: &[u8]) -> [u8; 32] {
    Keccak256::new().chain_update(&derived[16..]).chain_update(ciphertext).finalize().into()
}

/// Randomness from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| Error::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// A random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap enough for a test.
    const CHEAP: Cost = Cost { log_n: 4 };

    fn key() -> SecretKey {
        SecretKey::from_bytes(Zeroizing::new([0x42; 32])).expect("a key")
    }

    /// A file of another program.
    fn foreign(kdf: &str, ciphertext: &str, iv: &str, mac: &str) -> Keystore {
        let text = format!(
            "{{\"crypto\":{{\"cipher\":\"aes-128-ctr\",\"cipherparams\":{{\"iv\":\"{iv}\"}},\"ciphertext\":\"{ciphertext}\",{kdf},\
             \"mac\":\"{mac}\"}},\"id\":\"3198bc9c-6672-5ab3-d995-4942343ae5b6\",\"version\":3}}"
        );
        serde_json::from_str(&text).expect("a keystore")
    }

    #[test]
    fn files_of_other_programs_open_with_their_passphrase() {
        let secret = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        // Written by Foundry's cast 1.7.1.
        let scrypt = foreign(
            "\"kdf\":\"scrypt\",\"kdfparams\":{\"dklen\":32,\"n\":8192,\"p\":1,\"r\":8,\
             \"salt\":\"ac34a91b49a129d9a806bd1797029cacb850293a74f9e77cb217b7bd96642df9\"}",
            "6593ecd859a067d469e6154f8b99766aaeb00861ebda1df6669e78c01313ae00",
            "0a62720d182389099e554804c105af06",
            "720e577931f39aad7f27d2c9054bdc5a27f83dbb66cba2bc71b441a59c9ef273",
        );
        // The test vector of the format's definition. (Its scrypt vector has r = 1, n = 2^18, which RFC 7914 does not allow.)
        let pbkdf2 = foreign(
            "\"kdf\":\"pbkdf2\",\"kdfparams\":{\"c\":262144,\"dklen\":32,\"prf\":\"hmac-sha256\",\
             \"salt\":\"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd\"}",
            "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "6087dab2f9fdbbfaddc31a909735c1e6",
            "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        );
        for keystore in [scrypt, pbkdf2] {
            assert_eq!(hex::encode(keystore.decrypt("testpassword").expect("opens").bytes()), secret);
            assert!(matches!(keystore.decrypt("testpassworD"), Err(Error::Passphrase)));
        }
    }

    #[test]
    fn a_key_comes_back_whole_from_a_file_that_only_its_owner_reads() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.json");
        Keystore::encrypt(&key(), "passphrase", CHEAP).expect("encrypted").write(&path).expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(!text.contains("4242424242"), "the file shows the key: {text}");
        let keystore = Keystore::read(&path).expect("read");
        assert_eq!(keystore.address().expect("an address"), Some(key().address()));
        assert_eq!(keystore.decrypt("passphrase").expect("opens").bytes(), key().bytes());
        assert!(matches!(keystore.write(&path), Err(Error::Exists)), "a key is never written over");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), text);
    }

    #[test]
    fn a_file_whose_address_was_changed_is_refused() {
        let mut keystore = Keystore::encrypt(&key(), "p", CHEAP).expect("encrypted");
        keystore.address = Some("11".repeat(20));
        assert!(matches!(keystore.decrypt("p"), Err(Error::AnotherKey)));
    }

    #[test]
    fn what_a_hostile_file_may_cost_is_bounded() {
        let mut keystore = Keystore::encrypt(&key(), "p", CHEAP).expect("encrypted");
        for (n, r, p) in [(1 << 40, 8, 1), (1 << 17, 1 << 20, 1), (1 << 17, 8, 1 << 30)] {
            keystore.crypto.kdf = Kdf::Scrypt { dklen: 32, n, r, p, salt: "00".to_owned() };
            assert!(matches!(keystore.decrypt("p"), Err(Error::TooCostly("scrypt"))), "n {n} r {r} p {p}");
        }
        keystore.crypto.kdf = Kdf::Pbkdf2 { c: u32::MAX, dklen: 32, prf: "hmac-sha256".to_owned(), salt: "00".to_owned() };
        assert!(matches!(keystore.decrypt("p"), Err(Error::TooCostly("pbkdf2"))));
        for (n, dklen) in [(1000, 32), (1, 32), (1 << 4, 16)] {
            keystore.crypto.kdf = Kdf::Scrypt { dklen, n, r: 8, p: 1, salt: "00".to_owned() };
            assert!(matches!(keystore.decrypt("p"), Err(Error::Format(_))), "n {n} dklen {dklen}");
        }
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
