//! TLS 1.3 with pinned keys on both sides, and nothing else: no authorities, no names, no dates, no resumption.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved, ServerConfig,
    SignatureScheme,
};

use super::identity::{Key, Pin, Unusable};

/// What is spoken inside.
const ALPN: &[u8] = b"milepost-prover";

/// Somebody showed a key that is not admitted here.
#[derive(Debug, thiserror::Error)]
#[error("a stranger{}", .0.map(|pin| format!(" with identity {pin}")).unwrap_or_default())]
pub(super) struct Stranger(pub(super) Option<Pin>);

/// Keys that are accepted.
#[derive(Debug)]
struct Pins {
    admitted: BTreeSet<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pins {
    fn new(admitted: impl IntoIterator<Item = Pin>) -> Arc<Self> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Arc::new(Self { admitted: admitted.into_iter().collect(), algorithms })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        match Pin::of_certificate(certificate) {
            Some(pin) if self.admitted.contains(&pin) => Ok(()),
            shown => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Stranger(shown)))))),
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

fn unusable(error: &Error) -> Unusable {
    Unusable::Key(error.to_string())
}

/// For the listening side: whoever dials must show one of `admitted`.
pub(super) fn server(key: &Key, admitted: impl IntoIterator<Item = Pin>) -> Result<Arc<ServerConfig>, Unusable> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(|error| unusable(&error))?;
    let builder = builder.with_client_cert_verifier(Pins::new(admitted));
    let mut config = builder.with_single_cert(vec![key.certificate()?], key.secret()).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session is not verified anew; every connection is to be.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For the dialling side: whoever answers must show `server`.
pub(super) fn client(key: &Key, server: Pin) -> Result<Arc<ClientConfig>, Unusable> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]).map_err(|error| unusable(&error))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Pins::new([server]));
    let mut config = builder.with_client_auth_cert(vec![key.certificate()?], key.secret()).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}
