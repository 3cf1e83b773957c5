//! Who is who on the network: transport keys, and the pins by which others know them.

use std::fmt;
use std::str::FromStr;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Name in the certificates. Means nothing: identities are keys.
const NAME: &str = "validator";

/// Why a key or a pin is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pin that is not 64 hexadecimal digits.
    #[error("{0:?} is no pin: a pin has 64 hexadecimal digits")]
    Pin(String),
    /// A transport key that cannot be read, or a certificate that cannot be made with it.
    #[error("the transport key cannot be used: {0}")]
    Key(String),
}

/// SHA-256 of a public key as certificates hold it (`SubjectPublicKeyInfo` in DER): how a configuration names a peer's key.
///
/// The pin outlives certificates, which every start makes anew; it changes with the key alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    fn of_key(subject_public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(subject_public_key_info).into())
    }

    /// The pin of the key in a certificate; `None` where there is none to be read.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        Some(Self::of_key(&parsed.subject_public_key_info()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
        let refuse = || Error::Pin(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let mut pin = [0; 32];
        for (byte, at) in pin.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Self(pin))
    }
}

/// The key that a validator shows on the network: ed25519, and not the one it votes with. Whoever steals it can disturb the network in
/// the validator's name, but cannot vote.
pub struct TransportKey(KeyPair);

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransportKey({})", self.pin())
    }
}

impl TransportKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&rcgen::PKCS_ED25519).map(Self).map_err(|error| Error::Key(error.to_string()))
    }

    /// Reads a key in PKCS #8 in PEM, as [`TransportKey::to_pem`] writes it.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        KeyPair::from_pem(pem).map(Self).map_err(|error| Error::Key(error.to_string()))
    }

    /// The secret key in PKCS #8 in PEM, for a file that only the validator may read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// What the other validators' configurations say of this one.
    pub fn pin(&self) -> Pin {
        Pin::of_key(&self.0.subject_public_key_info())
    }

    /// A certificate for the key, signed by itself.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, Error> {
        let parameters = CertificateParams::new([NAME.to_owned()]).map_err(|error| Error::Key(error.to_string()))?;
        let certificate = parameters.self_signed(&self.0).map_err(|error| Error::Key(error.to_string()))?;
        Ok(certificate.der().clone())
    }

    pub(crate) fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_written_and_read_again_keeps_its_pin() -> Result<(), Error> {
        let key = TransportKey::generate()?;
        let again = TransportKey::from_pem(&key.to_pem())?;
        assert_eq!(again.pin(), key.pin());
        assert_eq!(Pin::of_certificate(&again.certificate()?), Some(key.pin()), "each certificate of a key has its pin");
        assert_ne!(TransportKey::generate()?.pin(), key.pin());
        Ok(())
    }

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is_one() -> Result<(), Error> {
        let pin = TransportKey::generate()?.pin();
        assert_eq!(pin.to_string().parse::<Pin>()?, pin);
        let text = pin.to_string();
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replacen(&text[..1], "g", 1), &format!("+{}", &text[1..])] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong:?} is no pin");
        }
        assert_eq!(Pin::of_certificate(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])), None);
        Ok(())
    }
}
