//! Encrypted keys on disk: the Web3 Secret Storage format, version 3, that wallets and clients of the chain exchange.
//!
//! A passphrase and a salt give 32 bytes by scrypt (or, in files of others, PBKDF2). The first 16 are the AES-128-CTR key of the
//! secret, the last 16 make the MAC: `keccak256(last 16 ‖ ciphertext)`. Written here over the maintained RustCrypto parts: the
//! library of this format writes keys at a sixteenth of the cost that is recommended today, readable by everybody, in place.
//!
//! Guarantees: a file is created with mode 600, whole and synced, and never written over. A wrong passphrase and a changed file
//! are told apart from a file of another format. What a hostile file may cost in memory and time is bounded.
//! Does not: tell a wrong passphrase from a changed ciphertext; nobody can.

use std::path::Path;

use milepost_statement::Address;
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::SecretKey;
pub(crate) use super::seal::{Cost, Error};
use super::seal::{DERIVED, Kdf, bytes, crypt, random, read, uuid, write_new};

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

impl Keystore {
    /// Encrypts a key.
    pub(crate) fn encrypt(key: &SecretKey, passphrase: &str, cost: Cost) -> Result<Self, Error> {
        let salt: [u8; 32] = random()?;
        let iv: [u8; 16] = random()?;
        let kdf = Kdf::scrypt(cost, &salt);
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
        self.crypto.kdf.to_string()
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let keystore: Self = serde_json::from_slice(&read(path)?).map_err(|error| Error::Format(error.to_string()))?;
        if keystore.version == 3 { Ok(keystore) } else { Err(Error::Format(format!("it is version {} where 3 is read", keystore.version))) }
    }

    /// Writes a new file, for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Format(error.to_string()))?;
        write_new(path, &text)
    }
}

fn mac(derived: &[u8; DERIVED], ciphertext: &[u8]) -> [u8; 32] {
    Keccak256::new().chain_update(&derived[16..]).chain_update(ciphertext).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap enough for a test.
    const CHEAP: Cost = Cost::of(4);

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
}
