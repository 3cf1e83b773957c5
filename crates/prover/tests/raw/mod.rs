//! TLS by hand, with the keys of nodes and servers: for those who hold the right key and say the wrong things.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use milepost_prover::Key;
use milepost_prover::protocol::{FromWorker, write_frame};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What is spoken inside (docs/proofs.md).
const ALPN: &[u8] = b"milepost-prover";

/// Takes everybody for the right one.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Certificate and key of the key file at `path`, which is made if absent.
fn shown(path: &Path) -> (Key, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = Key::at(path).unwrap();
    let pair = KeyPair::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap();
    let certificate = CertificateParams::new(["by hand".to_owned()]).unwrap().self_signed(&pair).unwrap();
    (key, certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der())))
}

/// A node that writes what it likes.
pub(crate) struct Node(TlsStream<TcpStream>);

impl Node {
    /// Shakes hands with the key in a file, and reads the greeting.
    pub(crate) async fn connect(address: &str, key: &Path) -> Self {
        let (_, certificate, secret) = shown(key);
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = config.with_client_auth_cert(vec![certificate], secret).unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let socket = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut node = Self(connector.connect(ServerName::try_from("prover").unwrap(), socket).await.unwrap());
        let mut lengths = [0; 8];
        node.0.read_exact(&mut lengths).await.expect("a greeting");
        let header = u32::from_le_bytes(lengths[..4].try_into().unwrap());
        node.0.read_exact(&mut vec![0; header as usize]).await.expect("a greeting");
        node
    }

    /// Writes bytes, whatever they are. The server may be gone already: it owes no patience.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// Closed, with or without a farewell, and without a word.
    pub(crate) async fn assert_let_go(mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_mins(1), self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "the connection stood, or said {rest:?}");
    }
}

/// A server that greets once as it is told to, and then says nothing. Returns its address and key.
pub(crate) async fn server_that_says(greeting: FromWorker, folder: &Path) -> (String, Key) {
    let (key, certificate, secret) = shown(&folder.join("server.pem"));
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = config.with_client_cert_verifier(Arc::new(Anybody)).with_single_cert(vec![certificate], secret).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut frame = Vec::new();
        write_frame(&mut frame, &greeting, b"").unwrap();
        stream.write_all(&frame).await.unwrap();
        stream.flush().await.unwrap();
        // Until the node hangs up.
        let _ = stream.read_u8().await;
    });
    (address, key)
}
