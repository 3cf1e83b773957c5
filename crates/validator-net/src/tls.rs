//! TLS 1.3 with pinned keys on both sides, and nothing else: no authorities, no names, no dates, no resumption.

use std::collections::BTreeMap;
use std::sync::Arc;

use finality_gadget::ValidatorId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig, SignatureScheme,
};

use crate::identity::{self, Pin, TransportKey};

/// HTTP/2, the only protocol spoken.
const ALPN: &[u8] = b"h2";

/// Keys that are accepted, and whose they are.
#[derive(Debug)]
pub(crate) struct Pins {
    pins: BTreeMap<Pin, ValidatorId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pins {
    pub(crate) fn new(pins: impl IntoIterator<Item = (Pin, ValidatorId)>) -> Arc<Self> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Arc::new(Self { pins: pins.into_iter().collect(), algorithms })
    }

    /// Whose key a certificate shows.
    pub(crate) fn owner(&self, certificate: &CertificateDer<'_>) -> Option<ValidatorId> {
        self.pins.get(&Pin::of_certificate(certificate)?).copied()
    }

    /// A stranger is told `access_denied`.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match self.owner(certificate) {
            Some(_) => Ok(()),
            None => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
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

impl ClientCertVerifier for Pins {
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

impl ServerCertVerifier for Pins {
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

/// For the listening side: whoever dials must show one of `pins`.
pub(crate) fn server(key: &TransportKey, pins: Arc<Pins>) -> Result<Arc<ServerConfig>, identity::Error> {
    let unusable = |error: Error| identity::Error::Key(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(unusable)?;
    let builder = builder.with_client_cert_verifier(pins);
    let mut config = builder.with_single_cert(vec![key.certificate()?], key.secret()).map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session is not verified anew; every connection is to be.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For the dialling side: whoever answers must show one of `pins`, which is the one peer meant.
pub(crate) fn client(key: &TransportKey, pins: Arc<Pins>) -> Result<Arc<ClientConfig>, identity::Error> {
    let unusable = |error: Error| identity::Error::Key(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(unusable)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(pins);
    let mut config = builder.with_client_auth_cert(vec![key.certificate()?], key.secret()).map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// For a door that everybody may come to: who dials shows no key.
pub(crate) fn open_server(key: &TransportKey) -> Result<Arc<ServerConfig>, identity::Error> {
    let unusable = |error: Error| identity::Error::Key(error.to_string());
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(unusable)?;
    let mut config = builder.with_no_client_auth().with_single_cert(vec![key.certificate()?], key.secret()).map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For those who come to such a door: they expect one of `pins`, and show nothing.
pub(crate) fn open_client(pins: Arc<Pins>) -> Result<Arc<ClientConfig>, identity::Error> {
    let unusable = |error: Error| identity::Error::Key(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(unusable)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(pins).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}
