//! The other side of the wire, without any manners: whatever a test wants to say, in TLS, in HTTP/2 or in the protocol.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use finality_gadget::network::Hello;
use hyper_util::rt::TokioIo;
use milepost_validator_net::TransportKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::transport::{Channel, Endpoint};

#[path = "../../src/wire/messages.rs"]
pub mod messages;
#[path = "../../src/wire/rpc.rs"]
pub mod rpc;

use messages::{Content, Frame};

/// Believes everybody.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn secret(key: &TransportKey) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(key.to_pem().as_bytes()).expect("written as PEM")
}

/// A TLS connection that shows `key` and accepts anyone.
pub async fn tls(address: SocketAddr, key: &TransportKey) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("TLS 1.3 is there");
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider)));
    let chain = vec![key.certificate().expect("the key is sound")];
    let mut config = config.with_client_auth_cert(chain, secret(key)).expect("the key is sound");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("anyone").expect("a name"), socket).await
}

/// A listener that shows `key` and asks for none.
pub fn acceptor(key: &TransportKey) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("TLS 1.3 is there").with_no_client_auth();
    let chain = vec![key.certificate().expect("the key is sound")];
    let mut config = config.with_single_cert(chain, secret(key)).expect("the key is sound");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// HTTP/2 on top, ready for [`rpc::call`].
pub async fn channel(address: SocketAddr, key: &TransportKey) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = Some(TokioIo::new(tls(address, key).await?));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        ready(stream.take().ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotConnected, "used up")))
    });
    Ok(Endpoint::from_static("http://validator").connect_with_connector(connector).await?)
}

pub fn hello(hello: &Hello) -> Frame {
    let trusted = &hello.domain.trusted;
    Frame {
        content: Some(Content::Hello(messages::Hello {
            version: hello.version,
            validator: hello.validator.0,
            chain: hello.domain.chain.0,
            trusted_number: trusted.checkpoint.number.0,
            trusted_hash: Bytes::copy_from_slice(&trusted.checkpoint.hash.0),
            trusted_set: Bytes::copy_from_slice(&trusted.set.0),
            set: hello.set.0,
            set_digest: Bytes::copy_from_slice(&hello.set_digest.0),
        })),
    }
}

pub fn message(bytes: impl Into<Bytes>) -> Frame {
    Frame { content: Some(Content::Message(bytes.into())) }
}
