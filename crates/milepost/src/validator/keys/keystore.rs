//! Encrypted vote keys on disk: the format of EIP-2335 (version 4), which validators of other chains use for theirs.
//!
//! The last 16 derived bytes show whether the passphrase is right: `sha256(last 16 ‖ ciphertext)`. The public key stands in the file,
//! so that nobody has to open it to know whose it is; `scheme` beside it is ours, and absent in files of others.
//!
//! Guarantees: as [`seal`](crate::keys::seal) says. A new keystore takes an ASCII passphrase only: what others do to other characters
//! before they use them (normalisation) differs from program to program.

use std::path::Path;

use finality_gadget::VoteSigner;
use finality_gadget::scheme::{BlsSigner, Ed25519Signer};
use finality_gadget::{PublicKey, Safe, Signature, scheme};
use milepost_validator_net::set_file::Scheme;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) use crate::keys::seal::{Cost, Error};
use crate::keys::seal::{DERIVED, Kdf, bytes, crypt, random, read, uuid, write_new};

/// The only version of the format.
const VERSION: u32 = 4;
/// The cipher.
const CIPHER: &str = "aes-128-ctr";
/// What shows that the passphrase is right.
const CHECKSUM: &str = "sha256";

/// A vote key, opened. Wiped when dropped; shows its public key only.
#[derive(Debug)]
pub(crate) enum VoteKey {
    /// BLS12-381.
    Bls(BlsSigner),
    /// ed25519.
    Ed25519(Ed25519Signer),
}

impl VoteKey {
    /// A new key from the system's randomness.
    pub(crate) fn generate(scheme: Scheme) -> Result<Self, Error> {
        let seed = Zeroizing::new(random::<32>()?);
        match scheme {
            Scheme::Bls => BlsSigner::from_seed(&*seed).map(Self::Bls).map_err(|error| Error::Format(error.to_string())),
            Scheme::Ed25519 => Ok(Self::Ed25519(Ed25519Signer::from_bytes(&seed))),
        }
    }

    fn from_bytes(scheme: Scheme, secret: &[u8; 32]) -> Result<Self, Error> {
        match scheme {
            Scheme::Bls => BlsSigner::from_bytes(secret).map(Self::Bls).map_err(|_| Error::AnotherKey),
            Scheme::Ed25519 => Ok(Self::Ed25519(Ed25519Signer::from_bytes(secret))),
        }
    }

    fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        match self {
            Self::Bls(key) => key.to_bytes(),
            Self::Ed25519(key) => key.to_bytes(),
        }
    }

    /// How it signs.
    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Bls(_) => Scheme::Bls,
            Self::Ed25519(_) => Scheme::Ed25519,
        }
    }

    /// The proof that this key's owner holds it, to be registered with it.
    pub(crate) fn possession(&self) -> Signature {
        match self {
            Self::Bls(key) => key.possession(),
            Self::Ed25519(key) => key.possession(),
        }
    }
}

impl VoteSigner for VoteKey {
    fn public_key(&self) -> &PublicKey {
        match self {
            Self::Bls(key) => key.public_key(),
            Self::Ed25519(key) => key.public_key(),
        }
    }

    fn sign(&self, vote: &Safe) -> Result<Signature, scheme::Error> {
        match self {
            Self::Bls(key) => key.sign(vote),
            Self::Ed25519(key) => key.sign(vote),
        }
    }
}

/// A keystore file as it is read and written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VoteKeystore {
    crypto: Crypto,
    #[serde(default)]
    description: String,
    pubkey: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scheme: Option<Scheme>,
    #[serde(default)]
    path: String,
    uuid: String,
    version: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Crypto {
    kdf: Module,
    checksum: Module,
    cipher: Module,
}

/// A part of the encryption: what it is, with which parameters, and its bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Module {
    function: String,
    params: Value,
    message: String,
}

impl VoteKeystore {
    /// Encrypts a key.
    pub(crate) fn encrypt(key: &VoteKey, passphrase: &str, cost: Cost) -> Result<Self, Error> {
        let iv: [u8; 16] = random()?;
        let kdf = Kdf::scrypt(cost, &random()?);
        let derived = kdf.derive(passphrase)?;
        let mut text = key.to_bytes();
        crypt(&derived, &iv, &mut text[..]);
        let (message, checksum) = (hex::encode(&text[..]), hex::encode(checksum(&derived, &text[..])));
        let crypto = Crypto {
            kdf: module_of(&kdf)?,
            checksum: Module { function: CHECKSUM.to_owned(), params: json!({}), message: checksum },
            cipher: Module { function: CIPHER.to_owned(), params: json!({ "iv": hex::encode(iv) }), message },
        };
        Ok(Self {
            crypto,
            description: "vote key of a validator of checkpoints".to_owned(),
            pubkey: hex::encode(&key.public_key().0),
            scheme: Some(key.scheme()),
            path: String::new(),
            uuid: uuid(random()?),
            version: VERSION,
        })
    }

    /// Decrypts the key.
    pub(crate) fn decrypt(&self, passphrase: &str) -> Result<VoteKey, Error> {
        let Crypto { kdf, checksum: check, cipher } = &self.crypto;
        if cipher.function != CIPHER || check.function != CHECKSUM {
            let found = format!("{:?} and {:?} where {CIPHER} and {CHECKSUM} are read", cipher.function, check.function);
            return Err(Error::Format(found));
        }
        let iv = cipher.params.get("iv").and_then(Value::as_str).unwrap_or_default();
        let iv: [u8; 16] = bytes("iv", iv)?.try_into().map_err(|_| Error::Format("its iv is not 16 bytes".to_owned()))?;
        let derived = kdf_of(kdf)?.derive(passphrase)?;
        let ciphertext = bytes("ciphertext", &cipher.message)?;
        if !bool::from(checksum(&derived, &ciphertext).ct_eq(&bytes("checksum", &check.message)?)) {
            return Err(Error::Passphrase);
        }
        let mut secret = Zeroizing::new(ciphertext);
        crypt(&derived, &iv, &mut secret);
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            return Err(Error::AnotherKey);
        }
        key.copy_from_slice(&secret);
        let key = VoteKey::from_bytes(self.scheme(), &key)?;
        if *key.public_key() == self.public_key()? { Ok(key) } else { Err(Error::AnotherKey) }
    }

    /// How the key signs, as the file says.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme.unwrap_or(Scheme::Bls)
    }

    /// The public key that the file names. Nobody vouches for it before the key was decrypted.
    pub(crate) fn public_key(&self) -> Result<PublicKey, Error> {
        bytes("pubkey", &self.pubkey).map(PublicKey)
    }

    /// How the passphrase is stretched, for people.
    pub(crate) fn kdf(&self) -> Result<String, Error> {
        Ok(kdf_of(&self.crypto.kdf)?.to_string())
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let keystore: Self = serde_json::from_slice(&read(path)?).map_err(|error| Error::Format(error.to_string()))?;
        if keystore.version == VERSION {
            Ok(keystore)
        } else {
            Err(Error::Format(format!("it is version {} where {VERSION} is read", keystore.version)))
        }
    }

    /// Writes a new file, for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Format(error.to_string()))?;
        write_new(path, &text)
    }
}

fn checksum(derived: &[u8; DERIVED], ciphertext: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(&derived[16..]).chain_update(ciphertext).finalize().into()
}

fn module_of(kdf: &Kdf) -> Result<Module, Error> {
    let value = serde_json::to_value(kdf).map_err(|error| Error::Format(error.to_string()))?;
    let function = value["kdf"].as_str().unwrap_or_default().to_owned();
    Ok(Module { function, params: value["kdfparams"].clone(), message: String::new() })
}

fn kdf_of(module: &Module) -> Result<Kdf, Error> {
    serde_json::from_value(json!({ "kdf": module.function, "kdfparams": module.params })).map_err(|error| Error::Format(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap enough for a test.
    const CHEAP: Cost = Cost::of(4);

    fn both() -> [VoteKey; 2] {
        [VoteKey::generate(Scheme::Bls).expect("a key"), VoteKey::generate(Scheme::Ed25519).expect("a key")]
    }

    /// The definition's test vectors: one secret under a passphrase that is written here as its normalisation leaves it.
    fn vector(kdf: Value, checksum: &str, message: &str) -> VoteKeystore {
        let module =
            |function: &str, params: Value, message: &str| Module { function: function.to_owned(), params, message: message.to_owned() };
        let crypto = Crypto {
            kdf: serde_json::from_value(kdf).expect("a module"),
            checksum: module(CHECKSUM, json!({}), checksum),
            cipher: module(CIPHER, json!({ "iv": "264daa3f303d7259501c93d997d84fe6" }), message),
        };
        let secret = hex::decode("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f").expect("digits");
        // Those validators have their keys in the other group: ours of the same secret is named.
        let pubkey = hex::encode(&BlsSigner::from_bytes(&secret).expect("a key").public_key().0);
        VoteKeystore {
            crypto,
            description: String::new(),
            pubkey,
            scheme: None,
            path: String::new(),
            uuid: String::new(),
            version: VERSION,
        }
    }

    #[test]
    fn the_definitions_test_vectors_open() {
        let salt = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
        let scrypt = vector(
            json!({ "function": "scrypt", "params": { "dklen": 32, "n": 262_144, "p": 1, "r": 8, "salt": salt }, "message": "" }),
            "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
            "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
        );
        let pbkdf2 = vector(
            json!({ "function": "pbkdf2", "params": { "dklen": 32, "c": 262_144, "prf": "hmac-sha256", "salt": salt }, "message": "" }),
            "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
            "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
        );
        for keystore in [scrypt, pbkdf2] {
            assert!(keystore.decrypt("testpassword\u{1f511}").is_ok(), "{}", keystore.kdf().expect("a function"));
            assert!(matches!(keystore.decrypt("testpassword"), Err(Error::Passphrase)));
        }
    }

    #[test]
    fn a_key_of_either_scheme_comes_back_whole_and_its_file_does_not_show_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for key in both() {
            let path = folder.path().join(hex::encode(&key.public_key().0[..4]));
            VoteKeystore::encrypt(&key, "passphrase", CHEAP).expect("encrypted").write(&path).expect("written");
            let text = std::fs::read_to_string(&path).expect("text");
            assert!(!text.contains(&hex::encode(&key.to_bytes()[..])), "the file shows the key");
            let keystore = VoteKeystore::read(&path).expect("read");
            assert_eq!(keystore.public_key().expect("named"), *key.public_key());
            let again = keystore.decrypt("passphrase").expect("opens");
            assert_eq!((again.scheme(), again.possession()), (key.scheme(), key.possession()));
            assert!(matches!(keystore.decrypt("Passphrase"), Err(Error::Passphrase)));
            assert!(matches!(keystore.write(&path), Err(Error::Exists)), "a key is never written over");
            assert!(!format!("{key:?}{keystore:?}").contains(&hex::encode(&key.to_bytes()[..])));
        }
    }

    #[test]
    fn a_file_that_names_another_public_key_or_scheme_is_refused() {
        let [key, other] = both();
        let keystore = VoteKeystore::encrypt(&key, "p", CHEAP).expect("encrypted");
        let renamed = VoteKeystore { pubkey: hex::encode(&other.public_key().0), ..keystore.clone() };
        let recast = VoteKeystore { scheme: Some(Scheme::Ed25519), ..keystore };
        for changed in [renamed, recast] {
            assert!(matches!(changed.decrypt("p"), Err(Error::AnotherKey)));
        }
    }
}
