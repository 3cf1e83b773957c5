//! The listening side: handshakes, hellos, and the reading of messages.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use finality_gadget::{Message, ValidatorId};
use futures::{StreamExt as _, stream};
use milepost_pinned_tls::Pins;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Status, Streaming};

use crate::guard::{Connection, Guarded, Link};
use crate::limits::{
    FAREWELL, HANDSHAKE_TIMEOUT, KEEPALIVE, KEEPALIVE_TIMEOUT, MAX_HANDSHAKES, MAX_HEADER_BYTES, MAX_RESETS, MAX_STREAMS, WINDOW,
};
use crate::peer::{Directory, PeerState};
use crate::refusal::{Reason, Refusal, clean};
use crate::wire::{self, Answers, Content, Exchange, FRAME_OVERHEAD, Frame, Listener};

/// Verified connections on their way to the gRPC server, which takes them at once.
const MAX_VERIFIED: usize = 16;
/// Pause after the system could not accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves until told to stop; then tells every peer, and leaves.
pub(crate) async fn run(
    directory: Arc<Directory>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pins: Arc<Pins<ValidatorId>>,
    stop: CancellationToken,
) {
    let (verified, incoming) = mpsc::channel(MAX_VERIFIED);
    let limit = directory.limits.max_message_bytes + FRAME_OVERHEAD;
    let service = Listener::new(Service { directory: Arc::clone(&directory) }, limit);
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(service, ReceiverStream::new(incoming).map(Ok::<_, Infallible>), stop.clone().cancelled_owned());
    let accepting = async {
        tokio::select! {
            () = accept(&directory, &listener, &acceptor, &pins, &verified) => {}
            () = stop.cancelled() => {}
        }
        drop(verified);
        directory.peers.values().for_each(|peer| peer.dismiss(Refusal::closing()));
    };
    let serving = async {
        tokio::select! {
            // Fails only where its incoming connections do, and ours do not.
            _ = server => {}
            () = async { stop.cancelled().await; tokio::time::sleep(2 * FAREWELL).await } => {}
        }
    };
    tokio::join!(accepting, serving);
}

/// Accepts connections and brings them through the handshake.
async fn accept(
    directory: &Arc<Directory>,
    listener: &TcpListener,
    acceptor: &TlsAcceptor,
    pins: &Arc<Pins<ValidatorId>>,
    verified: &mpsc::Sender<Link>,
) {
    let mut handshakes = JoinSet::new();
    let mut oldest = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let socket = match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        tracing::warn!(event = "accept_failed", %error, "cannot accept connections of other validators");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                oldest.retain(|handshake: &tokio::task::AbortHandle| !handshake.is_finished());
                if oldest.len() >= MAX_HANDSHAKES && let Some(handshake) = oldest.pop_front() {
                    handshake.abort();
                }
                oldest.push_back(handshakes.spawn(handshake(Arc::clone(directory), socket, acceptor.clone(), Arc::clone(pins))));
            }
            Some(done) = handshakes.join_next() => {
                if let Ok(Some(link)) = done && verified.send(link).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// `None` where the other side is no peer, or comes too often.
async fn handshake(directory: Arc<Directory>, socket: TcpStream, acceptor: TlsAcceptor, pins: Arc<Pins<ValidatorId>>) -> Option<Link> {
    // Votes are small and should leave at once. Where the system refuses this, they are merely later.
    let _ = socket.set_nodelay(true);
    let accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(Guarded::new(socket))).await;
    let shown = match accepted {
        Ok(Ok(tls)) => tls.get_ref().1.peer_certificates().and_then(|chain| pins.owner(chain.first()?)).map(|owner| (tls, owner)),
        Ok(Err(error)) => {
            tracing::debug!(event = "stranger_refused", %error, "a connection did not get through the handshake");
            None
        }
        Err(_) => None,
    };
    let Some((mut tls, owner)) = shown else {
        directory.strangers.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let peer = directory.peers.get(&owner)?;
    if let Err(wait) = peer.arrivals.bucket().take(Instant::now()) {
        tracing::debug!(event = "peer_too_often", validator = %owner, ?wait, "connects too often");
        return None;
    }
    let connection = Connection::new(owner);
    tls.get_mut().0.belongs_to(Arc::clone(&connection), Arc::clone(&peer.bytes));
    peer.accept(Arc::clone(&connection));
    Some(Link { tls, connection })
}

struct Service {
    directory: Arc<Directory>,
}

impl Service {
    /// The first frame, checked. `Err(None)` where the connection ended instead.
    async fn hello(&self, connection: &Connection, frames: &mut Streaming<Frame>) -> Result<(), Option<Refusal>> {
        let frame = match timeout(HANDSHAKE_TIMEOUT, frames.message()).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Err(status)) => return Err(unreadable(&status)),
            Ok(Ok(None)) | Err(_) => return Err(Some(Refusal::silent())),
        };
        let Some(Content::Hello(hello)) = frame.content else {
            return Err(Some(Refusal::plain(Reason::Malformed, "the first frame must be a hello")));
        };
        let hello = wire::decode(&hello).map_err(|what| Some(Refusal::plain(Reason::Malformed, what)))?;
        self.directory.check(&hello, connection.peer).map_err(Some)
    }
}

impl Exchange for Service {
    async fn exchange(self: Arc<Self>, request: Request<Streaming<Frame>>) -> Result<Answers, Status> {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("a request without a connection"))?;
        let peer = self.directory.peers.get(&connection.peer).cloned().ok_or_else(|| Status::internal("a connection without a peer"))?;
        let mut frames = request.into_inner();
        match self.hello(&connection, &mut frames).await {
            Ok(()) => {}
            Err(Some(refusal)) => {
                refuse(&peer, &refusal);
                return Err(refusal.to_status());
            }
            Err(None) => return Err(Status::cancelled("the connection ended before a hello")),
        }
        connection.greet();
        peer.heard_of.notify_one();
        tracing::info!(event = "peer_heard", validator = %connection.peer, "hears a validator");
        let welcome = stream::once(ready(Ok(wire::welcome(&self.directory.hello))));
        // The messages are read by whoever polls the answers: there is no task that could outlive the stream.
        let ending = stream::once(async move {
            let hearing = peer.hears();
            let end = listen(&peer, &connection, frames).await;
            drop(hearing);
            tracing::info!(event = "peer_gone", validator = %connection.peer, "no longer hears a validator");
            end.map(|refusal| {
                refuse(&peer, &refusal);
                Err(refusal.to_status())
            })
        });
        Ok(Box::pin(welcome.chain(ending.filter_map(ready))))
    }
}

fn refuse(peer: &PeerState, refusal: &Refusal) {
    if peer.refused(refusal) {
        tracing::warn!(event = "peer_refused", validator = %peer.peer.validator, reason = ?refusal.reason, "refuses a validator: {refusal}");
    }
}

/// A frame too long, compressed, or no protobuf at all is the peer's doing. Where the status has a cause, the connection or the stream
/// ended below it, and nobody would hear the answer.
fn unreadable(status: &Status) -> Option<Refusal> {
    let ended = std::error::Error::source(status).is_some();
    (!ended).then(|| Refusal::plain(Reason::Malformed, format!("cannot read a frame: {}", clean(status.message()))))
}

/// Reads messages until the stream or its connection ends (`None`) or the peer is refused.
async fn listen(peer: &PeerState, connection: &Connection, mut frames: Streaming<Frame>) -> Option<Refusal> {
    let reading = async {
        loop {
            let bytes = match frames.message().await {
                Ok(Some(Frame { content: Some(Content::Message(bytes)) })) => bytes,
                Ok(Some(_)) => return Some(Refusal::plain(Reason::Malformed, "after the hello there are only messages")),
                Ok(None) => return None,
                Err(status) => return unreadable(&status),
            };
            // The guard is gone before the wait.
            while let Err(wait) = { peer.messages.bucket().take(Instant::now()) } {
                tokio::time::sleep(wait).await;
            }
            let message = match Message::decode(&bytes) {
                Ok(message) => message,
                Err(error) => return Some(Refusal::plain(Reason::Malformed, error.to_string())),
            };
            peer.received.fetch_add(1, Ordering::Relaxed);
            peer.door.push(message, bytes.len()).await;
        }
    };
    tokio::select! {
        biased;
        reason = connection.dismissed() => Some(reason),
        end = reading => end,
    }
}
