//! The dialling side: one task for each peer, which connects, introduces itself, sends, and begins again.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use milepost_pinned_tls::Mismatch;
use rustls::Error as TlsError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::backoff::Backoff;
use crate::limits::{HANDSHAKE_TIMEOUT, KEEPALIVE, KEEPALIVE_TIMEOUT, MAX_HEADER_BYTES, MAX_RESETS, WINDOW};
use crate::peer::{Directory, PeerState};
use crate::refusal::{Reason, Refusal, clean};
use crate::wire;

/// To look up a name and connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer: a welcome takes some 130 bytes.
const MAX_ANSWER_BYTES: usize = 1024;
/// Messages between the outbox and the stream. What is here is lost with the connection; the outbox keeps the rest.
const IN_HAND: usize = 1;

/// Why a peer is not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nobody listens there, the name is unknown, or the way is blocked.
    Unreachable(String),
    /// Whoever answers there shows another key than the configuration names.
    AnotherKey,
    /// The peer does not accept our key: its configuration names another one, or none.
    KeyNotAccepted,
    /// The peer refuses us, and says why.
    Refused(Refusal),
    /// What the peer says of itself is not acceptable here.
    Refuses(Refusal),
    /// The connection stands, but no answer comes.
    Silent,
    /// The connection ended.
    Lost(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::AnotherKey => f.write_str("shows another key than the configuration names for it"),
            Self::KeyNotAccepted => f.write_str("does not accept our key: its configuration names another one, or none"),
            Self::Refused(refusal) => write!(f, "refuses us: {refusal}"),
            Self::Refuses(refusal) => write!(f, "is refused: it {refusal}"),
            Self::Silent => f.write_str("does not answer"),
            Self::Lost(why) => write!(f, "was lost: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Whether only an operator can end it.
    pub(crate) fn needs_an_operator(&self) -> bool {
        match self {
            Self::AnotherKey | Self::KeyNotAccepted => true,
            Self::Refused(refusal) | Self::Refuses(refusal) => refusal.reason.needs_an_operator(),
            Self::Unreachable(_) | Self::Silent | Self::Lost(_) => false,
        }
    }
}

/// Keeps one peer connected until told to stop.
pub(crate) async fn run(directory: Arc<Directory>, peer: Arc<PeerState>, tls: TlsConnector, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    let keeping = async {
        loop {
            let mut reached = false;
            let failure = session(&directory, &peer, &tls, &mut reached).await;
            peer.set_reached(false);
            if peer.failed(&failure) || reached {
                tracing::warn!(event = "peer_not_reached", validator = %peer.peer.validator, address = %peer.peer.address, "validator {failure}");
            }
            if reached {
                backoff.reset();
            }
            let random = rand::random();
            let wait = if failure.needs_an_operator() { backoff.refused(random) } else { backoff.failed(random) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = peer.heard_of.notified() => {
                    // It is there, and has perhaps changed its mind. The pause remains, however often it greets.
                    backoff.reset();
                    tokio::time::sleep(backoff.failed(rand::random()).min(wait)).await;
                }
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = stop.cancelled() => {}
    }
    peer.set_reached(false);
}

/// One connection from beginning to end; says how it ended.
async fn session(directory: &Directory, peer: &PeerState, tls: &TlsConnector, reached: &mut bool) -> Failure {
    let verdict = Arc::new(OnceLock::new());
    let failure = match speak(directory, peer, tls, reached, &verdict).await {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // What TLS had to say explains what HTTP/2 made of it.
    match verdict.get() {
        Some(error) if !*reached && Mismatch::of(error) == Some(Mismatch::NotExpected) => Failure::KeyNotAccepted,
        Some(error) if !*reached => Failure::Lost(error.to_string()),
        _ => failure,
    }
}

async fn speak(
    directory: &Directory,
    peer: &PeerState,
    tls: &TlsConnector,
    reached: &mut bool,
    verdict: &Arc<OnceLock<TlsError>>,
) -> Result<std::convert::Infallible, Failure> {
    let stream = connect(&peer.peer.address, tls).await?;
    let channel = channel(Watched { stream, verdict: Arc::clone(verdict) }).await?;

    let (frames, outgoing) = mpsc::channel(IN_HAND);
    let hello = wire::hello_frame(&directory.hello);
    frames.try_send(hello).map_err(|_| Failure::Lost("the stream is full before it began".to_owned()))?;
    let calling = wire::call(channel, MAX_ANSWER_BYTES, ReceiverStream::new(outgoing));
    let answers = timeout(HANDSHAKE_TIMEOUT, calling).await.map_err(|_| Failure::Silent)?;
    let mut answers = answers.map_err(|status| of_status(&status))?;
    let welcome = timeout(HANDSHAKE_TIMEOUT, answers.message()).await.map_err(|_| Failure::Silent)?;
    let welcome = welcome.map_err(|status| of_status(&status))?.and_then(|welcome| welcome.hello);
    let malformed = |what: &str| Failure::Refuses(Refusal::plain(Reason::Malformed, what));
    let theirs = welcome.ok_or_else(|| malformed("answers without a hello"))?;
    let theirs = wire::decode(&theirs).map_err(malformed)?;
    directory.check(&theirs, peer.peer.validator).map_err(Failure::Refuses)?;

    *reached = true;
    peer.set_reached(true);
    tracing::info!(event = "peer_reached", validator = %peer.peer.validator, address = %peer.peer.address, "reaches a validator");
    let sending = async {
        while let Ok(room) = frames.reserve().await {
            room.send(wire::message_frame(peer.outbox.pop().await));
            peer.sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::select! {
        answer = answers.message() => Err(match answer {
            Ok(Some(_)) => malformed("sends more than one answer"),
            Ok(None) => Failure::Lost("the peer ended the stream".to_owned()),
            Err(status) => of_status(&status),
        }),
        () = sending => Err(Failure::Lost("the stream takes no more messages".to_owned())),
    }
}

/// A connection to whoever shows the key that `tls` expects.
pub(crate) async fn connect(address: &str, tls: &TlsConnector) -> Result<TlsStream<TcpStream>, Failure> {
    let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let socket = socket.map_err(|_| Failure::Unreachable("no answer in time".to_owned()))?;
    let socket = socket.map_err(|error| Failure::Unreachable(error.to_string()))?;
    // Votes are small and should leave at once. Where the system refuses this, they are merely later.
    let _ = socket.set_nodelay(true);
    let name = ServerName::try_from("validator").map_err(|error| Failure::Lost(error.to_string()))?;
    let stream = timeout(HANDSHAKE_TIMEOUT, tls.connect(name, socket)).await.map_err(|_| Failure::Silent)?;
    stream.map_err(|error| match tls_error(&error).and_then(Mismatch::of) {
        Some(Mismatch::Stranger(_)) => Failure::AnotherKey,
        _ => Failure::Lost(error.to_string()),
    })
}

/// HTTP/2 on a connection that stands already. It is used once: whatever happens to it, the whole way is gone anew.
pub(crate) async fn channel<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> Result<Channel, Failure> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection ended"));
        std::future::ready(stream)
    });
    let endpoint = Endpoint::from_static("http://validator")
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_local_error_reset_streams(MAX_RESETS)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(connector).await.map_err(|error| Failure::Lost(error.to_string()))
}

pub(crate) fn of_status(status: &Status) -> Failure {
    match Refusal::of_status(status) {
        Some(refusal) => Failure::Refused(refusal),
        None => Failure::Lost(clean(status.message())),
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

/// A connection that remembers what TLS said at its end. In TLS 1.3 a client is told that its key is not accepted only after its own
/// handshake is done, and HTTP/2 would report a broken connection.
struct Watched {
    stream: TlsStream<TcpStream>,
    verdict: Arc<OnceLock<TlsError>>,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, buffer));
        if let Some(error) = done.as_ref().err().and_then(tls_error) {
            // The first one explains the rest.
            let _ = this.verdict.set(error.clone());
        }
        Poll::Ready(done)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
