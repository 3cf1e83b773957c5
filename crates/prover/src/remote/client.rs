//! The node's side: a prover that asks a server on another machine.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost_pinned_tls::{Mismatch, Pins, client};
use milepost_statement::{Digest, ProofKind};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ALPN, Key, Pin, Unusable};
use crate::conversation::{Ask, Nobody, Patience, Peer, verified};
use crate::protocol::{FromWorker, MAX_BODY, PROTOCOL, ToWorker, VERSION, receive, send};
use crate::request::BoxFuture;
use crate::turns::Turns;
use crate::{Error, IMAGE_ID, Proof, ProofRequest, Prover, dev_mode_is_set};

/// To look up a name, connect and shake hands.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the server is, who it is, and how it is asked.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// `host:port`.
    pub address: String,
    /// The server's identity.
    pub server: Pin,
    /// The image id whose proofs are believed.
    pub image_id: Digest,
    /// Priority there of a proof that has time: 0 (normal) to 19 (lowest).
    pub nice: u8,
    /// A proof whose deadline is nearer than this runs at normal priority.
    pub urgent: Duration,
    /// Most memory of the worker there, in MB. The server has a ceiling of its own besides, which is enough by default.
    pub memory_mb: u64,
    /// How long the server is waited for.
    pub patience: Patience,
}

impl RemoteOptions {
    /// The usual settings for a server.
    pub fn new(address: impl Into<String>, server: Pin) -> Self {
        Self {
            address: address.into(),
            server,
            image_id: IMAGE_ID,
            nice: 10,
            urgent: Duration::from_mins(10),
            memory_mb: u64::MAX,
            patience: Patience::default(),
        }
    }
}

/// Proves on another machine, one proof at a time, each over a connection of its own.
#[derive(Debug)]
pub struct Remote {
    options: RemoteOptions,
    ours: Pin,
    tls: Arc<ClientConfig>,
    turns: Turns,
    next_id: AtomicU64,
}

impl Remote {
    /// A prover that shows `key`; connects to nothing yet.
    pub fn new(options: RemoteOptions, key: &Key) -> Result<Self, Unusable> {
        let tls = client(key, Pins::new([(options.server, ())]), ALPN)?;
        Ok(Self { options, ours: key.pin(), tls, turns: Turns::new(), next_id: AtomicU64::new(1) })
    }

    /// Where the server is.
    pub fn address(&self) -> &str {
        &self.options.address
    }

    /// What the server must admit.
    pub fn identity(&self) -> Pin {
        self.ours
    }

    /// Connects, and reads and checks the greeting.
    async fn connect(&self) -> Result<Connection<'_>, Error> {
        let address = || self.options.address.clone();
        let unreachable = |why: String| Error::Unreachable { address: address(), why };
        let connected = timeout(CONNECT, TcpStream::connect(&self.options.address)).await;
        let socket = connected.map_err(|_| unreachable("no answer".into()))?.map_err(|why| unreachable(why.to_string()))?;
        // Frames should leave at once. Where the system refuses this, they are merely later.
        let _ = socket.set_nodelay(true);
        // Never sent: identities are keys, and the extension for names is off.
        let name = ServerName::try_from("prover").map_err(io::Error::other)?;
        let shaken = timeout(CONNECT, TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket)).await;
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return Err(self.refused(&why)),
            Err(_) => return Err(Error::RemoteFailed { address: address(), why: "it does not shake hands".into() }),
        };
        let mut connection = Connection { stream, of: self };
        match connection.receive(self.options.patience.greeting, "no greeting").await? {
            (FromWorker::Hello { protocol, version, .. }, _) if protocol != PROTOCOL || version != VERSION => Err(Error::WrongVersion {
                ours: format!("{VERSION} (protocol {PROTOCOL})"),
                theirs: format!("{version} (protocol {protocol})"),
            }),
            (FromWorker::Hello { image_id, .. }, _) if image_id != self.options.image_id => {
                Err(Error::WrongImage { ours: self.options.image_id, theirs: image_id })
            }
            (FromWorker::Hello { .. }, _) => Ok(connection),
            (FromWorker::Failed { message, .. }, _) => Err(Error::RemoteFailed { address: address(), why: message }),
            (other, _) => Err(connection.no_prover(format!("its first words are {other:?}"))),
        }
    }

    /// What a failed handshake, or the alert that ends a connection, says.
    fn refused(&self, why: &io::Error) -> Error {
        let address = self.options.address.clone();
        match why.get_ref().and_then(|inner| inner.downcast_ref()).and_then(Mismatch::of) {
            Some(Mismatch::Stranger(found)) => {
                let found = found.map_or_else(|| "a key that cannot be read".to_owned(), |pin| pin.to_string());
                Error::WrongIdentity { address, expected: self.options.server.to_string(), found }
            }
            Some(Mismatch::NotExpected) => Error::NotAdmitted { address, ours: self.ours.to_string() },
            None => Error::RemoteFailed { address, why: why.to_string() },
        }
    }

    async fn take_turn(&self, request: ProofRequest) -> Result<Proof, Error> {
        if dev_mode_is_set() {
            return Err(Error::DevMode);
        }
        request.check()?;
        if request.sealed {
            return Err(Error::NoSeals { prover: self.options.address.clone() });
        }
        let _turn = self.turns.take().await?;
        let outcome = self.run(request).await;
        self.turns.ended(&outcome);
        outcome
    }

    async fn run(&self, request: ProofRequest) -> Result<Proof, Error> {
        let started = Instant::now();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let ask = Ask::new(&request, id, self.options.nice, self.options.urgent, self.options.memory_mb);
        let mut connection = self.connect().await?;
        let made = match ask.follow(&mut connection, &self.options.patience, &mut Nobody).await {
            // The server's own trouble, its worker's or that it has too much to do: nothing about the claim.
            Err(Error::Refused { code, message }) if code == SERVER_TROUBLE => {
                return Err(Error::RemoteFailed { address: self.options.address.clone(), why: message });
            }
            made => made?,
        };
        drop(connection);
        verified(request, self.options.image_id, made, started).await
    }
}

/// The code under which a server tells of trouble of its own, which may be over next time.
pub(super) const SERVER_TROUBLE: &str = "server";

impl Prover for Remote {
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, Error>> {
        Box::pin(self.take_turn(request))
    }

    fn kind(&self) -> ProofKind {
        ProofKind::Composite
    }

    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, Error>> {
        Box::pin(async {
            if dev_mode_is_set() {
                return Err(Error::DevMode);
            }
            // Greeted each time: a remembered success must not hide a server that is gone.
            drop(self.connect().await?);
            let RemoteOptions { address, server, image_id, .. } = &self.options;
            Ok(Some(format!("remote prover {VERSION} at {address}, {server}, image {image_id}")))
        })
    }
}

/// A connection to a server that greeted. Dropping it cancels what was asked.
struct Connection<'a> {
    stream: TlsStream<TcpStream>,
    of: &'a Remote,
}

impl Connection<'_> {
    async fn receive(&mut self, patience: Duration, what: &'static str) -> Result<(FromWorker, Vec<u8>), Error> {
        let failed = |why: &str| Error::RemoteFailed { address: self.of.options.address.clone(), why: why.to_owned() };
        match timeout(patience, receive(&mut self.stream, MAX_BODY)).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(failed("it closed the connection")),
            Ok(Err(why)) if why.kind() == io::ErrorKind::UnexpectedEof => Err(failed("it closed the connection")),
            Ok(Err(why)) => Err(self.of.refused(&why)),
            Err(_) => Err(Error::Hung { silent: patience, what }),
        }
    }
}

impl Peer for Connection<'_> {
    async fn say(&mut self, message: &ToWorker, body: &[u8]) -> Result<(), Error> {
        let patience = self.of.options.patience.silence;
        match timeout(patience, send(&mut self.stream, message, body)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.of.refused(&why)),
            Err(_) => Err(Error::Hung { silent: patience, what: "it does not read its request" }),
        }
    }

    async fn hear(&mut self) -> Result<(FromWorker, Vec<u8>), Error> {
        self.receive(self.of.options.patience.silence, "no sign of life").await
    }

    fn no_prover(&self, why: String) -> Error {
        Error::RemoteFailed { address: self.of.options.address.clone(), why }
    }
}
