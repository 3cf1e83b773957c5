//! The server's side: admits nodes, and gives each request a worker of its own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use milepost_pinned_tls::{Pins, server as pinned_server};
use milepost_statement::ProofKind;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::SERVER_TROUBLE;
use super::{ALPN, Key, Pin, Unusable};
use crate::conversation::{Ask, Audience, Made};
use crate::process::Worker;
use crate::protocol::{FromWorker, HEARTBEAT_MS, MAX_INPUT, PROTOCOL, ToWorker, VERSION, receive, send};
use crate::{Error, Options, Process};

/// Handshakes at once; one more ends the oldest, so that strangers who never finish theirs keep nobody out.
const MAX_HANDSHAKES: usize = 32;
/// Connections of admitted nodes at once: those whose proof is made, and those who wait. More are told to come again.
const MAX_CONNECTIONS: usize = 16;
/// Longest time, in milliseconds, that what was sent may stay unacknowledged: a heartbeat is sent each second.
const UNACKNOWLEDGED_MS: u32 = 30_000;
/// Pause after the system could not accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a server offers, and to whom.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How its workers are run: the program, and the most memory that one of them may have.
    pub worker: Options,
    /// Who may have proofs made.
    pub admitted: Vec<Pin>,
    /// Proofs at once.
    pub proofs: usize,
    /// Longest time for a handshake.
    pub handshake: Duration,
    /// Longest time from the greeting to the whole request. The largest has 45 MB.
    pub request: Duration,
    /// Longest wait for other proofs to end; then the node is told to come again.
    pub queue: Duration,
    /// Longest time that a node may leave a frame unread.
    pub write: Duration,
}

impl ServerOptions {
    /// The usual settings.
    pub fn new(worker: Options, admitted: Vec<Pin>) -> Self {
        Self {
            worker,
            admitted,
            proofs: 1,
            handshake: Duration::from_secs(10),
            request: Duration::from_mins(1),
            queue: Duration::from_mins(10),
            write: Duration::from_secs(30),
        }
    }
}

/// A server of proofs.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: TlsAcceptor,
}

struct Shared {
    options: ServerOptions,
    connections: Semaphore,
    proofs: Semaphore,
}

impl Server {
    /// A server that shows `key`.
    pub fn new(options: ServerOptions, key: &Key) -> Result<Self, Unusable> {
        let acceptor = TlsAcceptor::from(pinned_server(key, Pins::new(options.admitted.iter().map(|pin| (*pin, ()))), ALPN)?);
        let (connections, proofs) = (Semaphore::new(MAX_CONNECTIONS), Semaphore::new(options.proofs));
        Ok(Self { shared: Arc::new(Shared { options, connections, proofs }), acceptor })
    }

    /// Greets its own worker first: a server that cannot prove says so before anybody asks.
    pub async fn check(&self) -> Result<(), Error> {
        Process::new(self.shared.options.worker.clone()).identify().await.map(|_| ())
    }

    /// Serves until it is dropped; with it all connections end, and their workers.
    pub async fn run(&self, listener: TcpListener) {
        let mut handshakes = JoinSet::new();
        let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
        let mut sessions = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, from)) => {
                        oldest.retain(|handshake| !handshake.is_finished());
                        if oldest.len() >= MAX_HANDSHAKES && let Some(handshake) = oldest.pop_front() {
                            handshake.abort();
                        }
                        oldest.push_back(handshakes.spawn(handshake(self.acceptor.clone(), socket, from, self.shared.options.handshake)));
                    }
                    Err(error) => {
                        tracing::warn!(event = "accept_failed", %error, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(done) = handshakes.join_next() => {
                    if let Ok(Some((stream, from))) = done {
                        sessions.spawn(session(Arc::clone(&self.shared), stream, from));
                    }
                }
                Some(_) = sessions.join_next() => {}
            }
        }
    }
}

/// `None` where the other side is a stranger, or too slow.
async fn handshake(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    from: SocketAddr,
    patience: Duration,
) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    // Frames should leave at once. Where the system refuses this, they are merely later.
    let _ = socket.set_nodelay(true);
    // A node whose power failed acknowledges nothing and hangs nothing up. Where the system refuses this, its own patience ends it later.
    let _ = set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS);
    match timeout(patience, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => Some((stream, from)),
        Ok(Err(error)) => {
            tracing::warn!(event = "stranger_refused", %from, %error, "a connection did not get through the handshake");
            None
        }
        Err(_) => {
            tracing::warn!(event = "stranger_refused", %from, "a connection did not shake hands in time");
            None
        }
    }
}

/// One connection: at most one proof.
async fn session(shared: Arc<Shared>, stream: TlsStream<TcpStream>, from: SocketAddr) {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut node = Node { writer, patience: shared.options.write };
    let Ok(_connection) = shared.connections.try_acquire() else {
        tracing::warn!(event = "node_turned_away", %from, "as many connections as there may be");
        // It is let go, whether it hears why or not.
        let _ = node.tell(&trouble(None, format!("it serves {MAX_CONNECTIONS} connections already: come again"))).await;
        return;
    };
    match serve(&shared, &mut reader, &mut node).await {
        Ok(Some(seconds)) => tracing::info!(event = "proof_served", %from, seconds, "a proof was made for a node"),
        Ok(None) => tracing::debug!(%from, "a node came, and asked for nothing"),
        Err(error) => tracing::warn!(event = "proof_not_served", %from, %error, "no proof was made for a node"),
    }
}

/// Greets, reads the request, has it proven while the connection stands. Returns the seconds that it took, or `None` where nothing
/// was asked.
async fn serve(shared: &Shared, reader: &mut ReadHalf<TlsStream<TcpStream>>, node: &mut Node) -> io::Result<Option<f64>> {
    let options = &shared.options;
    let image_id = options.worker.image_id;
    node.tell(&FromWorker::Hello { protocol: PROTOCOL, version: VERSION.into(), image_id, kinds: vec![ProofKind::Composite] }).await?;
    let asked = timeout(options.request, receive::<ToWorker>(reader, MAX_INPUT)).await;
    let Some((ToWorker::Prove { id, nice, memory_mb, sealed, journal }, input)) =
        asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
    else {
        return Ok(None);
    };
    let memory_mb = memory_mb.min(options.worker.memory_mb);
    if sealed {
        let refusal = FromWorker::Failed { id: Some(id), code: "sealed".into(), message: "no seals are made for nodes elsewhere".into() };
        node.tell(&refusal).await?;
        return Ok(None);
    }
    let ask = Ask { id, nice: nice.min(19), memory_mb, sealed, journal, claim: format!("request {id}"), input };
    tokio::select! {
        made = prove(shared, &ask, node) => made.map(Some),
        // A node says nothing after its request: it hung up, or it is none.
        _ = reader.read_u8() => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it hung up before its proof was made")),
    }
}

/// Waits for its turn and proves, telling the node of each step. Dropping this kills the worker.
async fn prove(shared: &Shared, ask: &Ask, node: &mut Node) -> io::Result<f64> {
    let options = &shared.options;
    let waiting = async {
        loop {
            tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)).await;
            node.tell(&FromWorker::Heartbeat {}).await?;
        }
    };
    let starting = async {
        let turn = timeout(options.queue, shared.proofs.acquire()).await.ok()?.ok()?;
        Some((turn, Worker::start(&options.worker).await))
    };
    let started = tokio::select! {
        started = starting => started,
        gone = waiting => return gone,
    };
    let Some((_turn, worker)) = started else {
        let why = format!("proofs of others took longer than {} s: come again", options.queue.as_secs());
        node.tell(&trouble(Some(ask.id), why.clone())).await?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    };
    let outcome = match worker {
        Ok(mut worker) => {
            let followed = ask.follow(&mut worker, &options.worker.patience, node).await;
            worker.end().await;
            followed
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(Made { cycles, po2, seconds, receipt }) => {
            node.say(&FromWorker::Done { id: ask.id, cycles, po2, seconds }, &receipt).await?;
            Ok(seconds)
        }
        Err(error) => {
            let said = match &error {
                Error::OutOfMemory { ceiling_mb, enough_mb } => {
                    FromWorker::OutOfMemory { id: ask.id, ceiling_mb: *ceiling_mb, enough_mb: *enough_mb }
                }
                Error::Refused { code, message } => FromWorker::Failed { id: Some(ask.id), code: code.clone(), message: message.clone() },
                other => trouble(Some(ask.id), format!("[{}] {other}", other.code())),
            };
            node.tell(&said).await?;
            Err(io::Error::other(error))
        }
    }
}

fn trouble(id: Option<u64>, message: String) -> FromWorker {
    FromWorker::Failed { id, code: SERVER_TROUBLE.into(), message }
}

/// The writing half of a connection.
struct Node {
    writer: WriteHalf<TlsStream<TcpStream>>,
    patience: Duration,
}

impl Node {
    async fn say(&mut self, step: &FromWorker, body: &[u8]) -> io::Result<()> {
        timeout(self.patience, send(&mut self.writer, step, body)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl Audience for Node {
    async fn tell(&mut self, step: &FromWorker) -> io::Result<()> {
        self.say(step, b"").await
    }
}
