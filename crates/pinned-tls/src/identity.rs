//! Who is who: keys, and the pins by which the other side knows them.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Name in the certificates. Means nothing: identities are keys.
const NAME: &str = "milepost";

/// Why a key or a pin is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not 64 hexadecimal digits.
    #[error("{0:?} is no identity: an identity has 64 hexadecimal digits")]
    Pin(String),
    /// The file cannot be read or written.
    #[error("the key file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("the key file {0} can be read by others: chmod 600 it")]
    Exposed(String),
    /// Not a key, or one that cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
}

/// SHA-256 of a public key as certificates hold it (`SubjectPublicKeyInfo` in DER): the identity by which the other side knows it.
///
/// It outlives certificates, which every start makes anew; it changes with the key alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    fn of_key(subject_public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(subject_public_key_info).into())
    }

    /// The identity that a certificate shows; `None` where none can be read.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        Some(Self::of_key(&ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut pin = [0; 32];
        hex::decode_to_slice(text, &mut pin).map_err(|_| Error::Pin(text.chars().take(80).collect()))?;
        Ok(Self(pin))
    }
}

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The key that a party shows, ed25519. It signs nothing but handshakes: whoever steals it can pass for its owner on the network, and can
/// neither vote nor be paid.
pub struct Key(KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.pin())
    }
}

impl Key {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&rcgen::PKCS_ED25519).map(Self).map_err(|error| Error::Key(error.to_string()))
    }

    /// Reads a key in PKCS #8 in PEM, as [`Key::to_pem`] writes it.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        KeyPair::from_pem(pem).map(Self).map_err(|error| Error::Key(error.to_string()))
    }

    /// The secret key in PKCS #8 in PEM, for a file that only its owner may read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The key in a file (PKCS #8 in PEM), which only its owner may read. Made with a new key where there is none.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.display().to_string(), source };
        match fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => return Err(Error::Exposed(path.display().to_string())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(failed(error)),
        }
        let pem = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        KeyPair::from_pem(&pem).map(Self).map_err(|error| Error::Key(format!("{}: {error}", path.display())))
    }

    fn create(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.display().to_string(), source };
        let key = Self::generate()?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Whole or not at all: half a key would have to be mended by hand.
        let draft = path.with_extension(format!("draft-{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
        file.write_all(key.to_pem().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)?;
        Ok(key)
    }

    /// What the other side's configuration says of this one.
    pub fn pin(&self) -> Pin {
        Pin::of_key(&self.0.subject_public_key_info())
    }

    /// A certificate for the key, signed by itself.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, Error> {
        let unusable = |error: rcgen::Error| Error::Key(error.to_string());
        let parameters = CertificateParams::new([NAME.to_owned()]).map_err(unusable)?;
        Ok(parameters.self_signed(&self.0).map_err(unusable)?.der().clone())
    }

    pub(crate) fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/prover.pem");
        let made = Key::at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::at(&path).unwrap().pin(), made.pin());
        assert_eq!(Pin::of_certificate(&made.certificate().unwrap()), Some(made.pin()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Key::at(&path), Err(Error::Exposed(_))));
    }

    #[test]
    fn a_file_that_is_no_key_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prover.pem");
        fs::write(&path, "no key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Key::at(&path), Err(Error::Key(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "no key");
    }

    #[test]
    fn a_key_that_is_written_and_read_again_keeps_its_identity() {
        let key = Key::generate().unwrap();
        let again = Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.pin(), key.pin());
        assert_eq!(Pin::of_certificate(&again.certificate().unwrap()), Some(key.pin()), "each certificate of a key has its identity");
        assert_ne!(Key::generate().unwrap().pin(), key.pin());
    }

    #[test]
    fn an_identity_is_read_as_it_is_written_and_nothing_else_is_one() {
        let pin = Key::generate().unwrap().pin();
        assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
        let text = pin.to_string();
        for wrong in
            ["", &text[1..], &format!("{text}00"), &format!("0x{text}"), &text.replacen(&text[..1], "g", 1), &format!("+{}", &text[1..])]
        {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong:?}");
        }
        assert_eq!(Pin::of_certificate(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), None);
    }
}
