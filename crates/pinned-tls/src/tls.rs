//! Who is let through a handshake, and how both sides of it are configured.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WantsServerCert};
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, ServerConfig, SignatureScheme, WantsVerifier,
};

use crate::identity::{self, Key, Pin};

/// Somebody showed a key that is not expected here.
#[derive(Debug, thiserror::Error)]
#[error("a stranger{}", .0.map(|pin| format!(" with identity {pin}")).unwrap_or_default())]
struct Stranger(Option<Pin>);

/// Why a handshake ended, where keys are why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The other side showed another key than was expected: this one, if it can be read.
    Stranger(Option<Pin>),
    /// The other side does not expect our key.
    NotExpected,
}

impl Mismatch {
    /// What the end of a connection says of keys. The alert comes after the dialling side's own handshake is over: with the first bytes
    /// that it reads.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                other.downcast_ref::<Stranger>().map(|stranger| Self::Stranger(stranger.0))
            }
            Error::AlertReceived(
                AlertDescription::CertificateUnknown | AlertDescription::BadCertificate | AlertDescription::AccessDenied,
            ) => Some(Self::NotExpected),
            _ => None,
        }
    }
}

/// Keys that are expected, and whose they are.
#[derive(Debug)]
pub struct Pins<T> {
    owners: BTreeMap<Pin, T>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<T: Copy + Debug + Send + Sync + 'static> Pins<T> {
    /// These keys with their owners, and no others.
    pub fn new(owners: impl IntoIterator<Item = (Pin, T)>) -> Arc<Self> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Arc::new(Self { owners: owners.into_iter().collect(), algorithms })
    }

    /// Whose key a certificate shows.
    pub fn owner(&self, certificate: &CertificateDer<'_>) -> Option<T> {
        self.owners.get(&Pin::of_certificate(certificate)?).copied()
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match self.owner(certificate) {
            Some(_) => Ok(()),
            None => {
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Stranger(Pin::of_certificate(certificate)))))))
            }
        }
    }

    /// The proof that the other side holds the key that it shows. Without it a copied certificate would do.
    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

/// TLS 1.2 is never negotiated.
fn too_old() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme))
}

impl<T: Copy + Debug + Send + Sync + 'static> ClientCertVerifier for Pins<T> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, end: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        self.check(end).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl<T: Copy + Debug + Send + Sync + 'static> ServerCertVerifier for Pins<T> {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(error: &Error) -> identity::Error {
    identity::Error::Key(error.to_string())
}

fn listening() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, identity::Error> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(|error| unusable(&error))
}

fn dialling() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, identity::Error> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(|error| unusable(&error))
}

/// For the listening side: whoever dials must show one of `pins`. `protocol` is what is spoken inside (ALPN).
pub fn server<T: Copy + Debug + Send + Sync + 'static>(
    key: &Key,
    pins: Arc<Pins<T>>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, identity::Error> {
    served(listening()?.with_client_cert_verifier(pins), key, protocol)
}

/// For a door that everybody may come to: who dials shows no key.
pub fn open_server(key: &Key, protocol: &[u8]) -> Result<Arc<ServerConfig>, identity::Error> {
    served(listening()?.with_no_client_auth(), key, protocol)
}

fn served(builder: ConfigBuilder<ServerConfig, WantsServerCert>, key: &Key, protocol: &[u8]) -> Result<Arc<ServerConfig>, identity::Error> {
    let mut config = builder.with_single_cert(vec![key.certificate()?], key.secret()).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session is not verified anew; every connection is to be.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For the dialling side: whoever answers must show one of `pins`, which is the one meant.
pub fn client<T: Copy + Debug + Send + Sync + 'static>(
    key: &Key,
    pins: Arc<Pins<T>>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, identity::Error> {
    let builder = dialling()?.dangerous().with_custom_certificate_verifier(pins);
    let config = builder.with_client_auth_cert(vec![key.certificate()?], key.secret()).map_err(|error| unusable(&error))?;
    Ok(dialled(config, protocol))
}

/// For those who come to an open door: they expect one of `pins`, and show nothing.
pub fn open_client<T: Copy + Debug + Send + Sync + 'static>(
    pins: Arc<Pins<T>>,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, identity::Error> {
    Ok(dialled(dialling()?.dangerous().with_custom_certificate_verifier(pins).with_no_client_auth(), protocol))
}

fn dialled(mut config: ClientConfig, protocol: &[u8]) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}
