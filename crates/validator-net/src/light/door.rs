//! The validator's side: a door at which everybody may ask for the newest certificate.
//!
//! It has a listener of its own. Those who come are strangers, and whatever they do to it, the connections between validators stand on
//! another socket, with keys on both sides.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use finality_gadget::{Certificate, CheckpointFinality, Finalized};
use futures::StreamExt as _;
use milepost_pinned_tls::open_server;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::rpc::Desk;
use crate::guard::Guarded;
use crate::limits::{FAREWELL, HANDSHAKE_TIMEOUT, KEEPALIVE, KEEPALIVE_TIMEOUT, MAX_HEADER_BYTES, MAX_RESETS};
use crate::set_file::Agreement;
use crate::wire::Answer;
use crate::{ALPN, IdentityError, TransportKey};

/// Connections at once; when they are reached newer ones are turned away, and come again. A connection costs some 50 KB.
const MAX_VISITORS: usize = 256;
/// Connections at once from one address. Several hosts may share one; a flood from one machine must not take every place.
const MAX_VISITORS_OF_ONE: usize = 32;
/// Age at which a connection is asked to leave and come again, so that places go round.
const MAX_AGE: Duration = Duration::from_mins(10);
/// Bytes in flight: a question has a hundred.
const WINDOW: u32 = 64 * 1024;
/// Questions of one connection at once.
const MAX_STREAMS: u32 = 4;
/// Pause after the system could not accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Default)]
struct Posted {
    finalized: u64,
    digest: Bytes,
    certificate: Bytes,
}

/// What the door answers: the newest final checkpoint and its certificate. Cheap to clone; the validator posts, the door reads.
#[derive(Debug, Clone)]
pub struct Board(watch::Sender<Posted>);

impl Default for Board {
    fn default() -> Self {
        Self(watch::Sender::new(Posted::default()))
    }
}

impl Board {
    /// With nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Posts what is final and the certificate that shows it; does nothing if something newer is there. The certificate is not verified
    /// here: it is the gadget's own.
    pub fn post(&self, finalized: &Finalized, certificate: &Certificate) {
        let number = finalized.checkpoint.number.0;
        self.0.send_if_modified(|posted| {
            let newer = posted.certificate.is_empty() || number > posted.finalized;
            if newer {
                let digest = Bytes::copy_from_slice(&certificate.digest().0);
                *posted = Posted { finalized: number, digest, certificate: certificate.encode().into() };
            }
            newer
        });
    }

    /// Posts what a gadget holds as final. To be called after each event; costs nothing where finality did not advance.
    pub fn update(&self, gadget: &CheckpointFinality) {
        let finalized = gadget.finalized();
        let known = { self.0.borrow().finalized };
        if finalized.checkpoint.number.0 > known
            && let Some(certificate) = gadget.core().certificate(finalized.by)
        {
            self.post(&finalized, certificate);
        }
    }

    pub(super) fn answer(&self, known: &[u8]) -> Answer {
        let posted = self.0.borrow();
        let certificate = if *posted.digest == *known { Bytes::new() } else { posted.certificate.clone() };
        Answer { finalized: posted.finalized, certificate }
    }
}

/// The service. It serves for as long as [`Door::run`] is polled.
///
/// # Guarantees
///
/// Memory, connections, questions and bytes of its visitors are bounded, whatever they do.
pub struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    desk: Desk,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Door {
    /// A door that shows `key`, which is the one that the set file names as the validator's identity.
    pub fn new(key: &TransportKey, agreement: &Agreement, board: Board, listener: TcpListener) -> Result<Self, IdentityError> {
        let acceptor = TlsAcceptor::from(open_server(key, ALPN)?);
        Ok(Self { listener, acceptor, desk: Desk { agreement: Arc::new(agreement.clone()), board } })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Runs until `stop`. Runs on tokio.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, acceptor, desk } = self;
        let (verified, incoming) = mpsc::channel(1);
        let server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .concurrency_limit_per_connection(MAX_STREAMS as usize)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_RESETS))
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .timeout(HANDSHAKE_TIMEOUT)
            .max_connection_age(MAX_AGE)
            .max_connection_age_grace(FAREWELL)
            .serve_with_incoming_shutdown(desk, ReceiverStream::new(incoming).map(Ok::<_, Infallible>), stop.clone().cancelled_owned());
        let accepting = async {
            tokio::select! {
                () = accept(&listener, &acceptor, &verified) => {}
                () = stop.cancelled() => {}
            }
            drop(verified);
        };
        let serving = async {
            tokio::select! {
                // Fails only where its incoming connections do, and ours do not.
                _ = server => {}
                () = async { stop.cancelled().await; tokio::time::sleep(FAREWELL).await } => {}
            }
        };
        tokio::join!(accepting, serving);
    }
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, verified: &mpsc::Sender<Visitor>) {
    let places = Arc::new(Places::default());
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, from) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(event = "accept_failed", %error, "cannot accept connections of those who ask for certificates");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let Some(place) = places.take(from.ip()) else {
                    tracing::debug!(event = "visitor_turned_away", address = %from.ip(), "too many ask for certificates at once");
                    continue;
                };
                handshakes.spawn(handshake(socket, acceptor.clone(), place));
            }
            Some(done) = handshakes.join_next() => {
                if let Ok(Some(visitor)) = done && verified.send(visitor).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn handshake(socket: TcpStream, acceptor: TlsAcceptor, place: Place) -> Option<Visitor> {
    // Answers are small and should leave at once. Where the system refuses this, they are merely later.
    let _ = socket.set_nodelay(true);
    let tls = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(Guarded::new(socket))).await.ok()?.ok()?;
    Some(Visitor { tls, _place: place })
}

/// Who is here, by address.
#[derive(Debug, Default)]
struct Places(Mutex<BTreeMap<IpAddr, usize>>);

impl Places {
    fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        // Numbers alone: nothing in here can be left half done.
        let mut here = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = here.values().sum();
        let mine = here.get(&from).copied().unwrap_or(0);
        if all >= MAX_VISITORS || mine >= MAX_VISITORS_OF_ONE {
            return None;
        }
        here.insert(from, mine + 1);
        Some(Place { places: Arc::clone(self), from })
    }
}

/// One connection's place, given back when it ends.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut here = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match here.get_mut(&self.from) {
            Some(mine) if *mine > 1 => *mine -= 1,
            _ => _ = here.remove(&self.from),
        }
    }
}

/// A connection of somebody who asks.
struct Visitor {
    tls: TlsStream<Guarded>,
    _place: Place,
}

impl Connected for Visitor {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Visitor {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tls).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn places_are_bounded_for_each_address_and_in_all_and_are_given_back() {
        let places = Arc::new(Places::default());
        let address = |last: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let mut taken: Vec<Place> = (0..MAX_VISITORS_OF_ONE).filter_map(|_| places.take(address(1))).collect();
        assert_eq!(taken.len(), MAX_VISITORS_OF_ONE);
        assert!(places.take(address(1)).is_none(), "one address takes no more");
        for other in 2..=u8::MAX {
            taken.extend(std::iter::from_fn(|| places.take(address(other))));
        }
        assert_eq!(taken.len(), MAX_VISITORS);
        assert!(places.take(IpAddr::V4(Ipv4Addr::LOCALHOST)).is_none(), "nor do all together");
        taken.pop();
        assert!(places.take(IpAddr::V4(Ipv4Addr::LOCALHOST)).is_some(), "a place that was left is free");
        drop(taken);
        assert!(places.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty(), "nothing is remembered of those who left");
    }
}
