//! A connection under guard: its rate is limited below TLS and HTTP/2, where nothing a peer sends goes unseen, and it can be told to go.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use finality_gadget::ValidatorId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::bucket::{Bucket, Rate};
use crate::limits::{FAREWELL, HANDSHAKE_RATE, HANDSHAKE_TIMEOUT};
use crate::refusal::Refusal;

/// A rate that all connections of one peer share, so that a new connection is no new allowance.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<Bucket>);

impl Gate {
    pub(crate) fn new(rate: Rate, now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Bucket::new(rate, now))))
    }

    pub(crate) fn bucket(&self) -> MutexGuard<'_, Bucket> {
        // A bucket is arithmetic over plain numbers.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the parts of this crate know about one accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Whose key was shown.
    pub(crate) peer: ValidatorId,
    greeted: AtomicBool,
    reason: OnceLock<Refusal>,
    leave: CancellationToken,
}

impl Connection {
    pub(crate) fn new(peer: ValidatorId) -> Arc<Self> {
        Arc::new(Self { peer, greeted: AtomicBool::new(false), reason: OnceLock::new(), leave: CancellationToken::new() })
    }

    /// The hello came and was accepted: the connection may stay.
    pub(crate) fn greet(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }

    /// Tells the connection to go. Its stream, if there is one, hears why; then it is cut.
    pub(crate) fn dismiss(&self, reason: Refusal) {
        // The first reason stands.
        let _ = self.reason.set(reason);
        self.leave.cancel();
    }

    /// Waits for [`Connection::dismiss`].
    pub(crate) async fn dismissed(&self) -> Refusal {
        self.leave.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(Refusal::closing)
    }
}

/// When a connection ends whether its peer agrees or not.
enum Fate {
    /// Until then it must have greeted.
    Ungreeted(Pin<Box<Sleep>>),
    Stays,
    /// It was dismissed and is cut then.
    Leaving(Pin<Box<Sleep>>),
}

/// What guards an accepted socket.
pub(crate) struct Guarded {
    socket: TcpStream,
    gate: Arc<Gate>,
    pause: Option<Pin<Box<Sleep>>>,
    known: Option<Known>,
}

struct Known {
    connection: Arc<Connection>,
    leave: Pin<Box<WaitForCancellationFutureOwned>>,
    fate: Fate,
}

impl Guarded {
    /// A stranger's socket: it may send what a handshake takes.
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, gate: Gate::new(HANDSHAKE_RATE, Instant::now()), pause: None, known: None }
    }

    /// From here on it is this peer's, on the peer's allowance.
    pub(crate) fn belongs_to(&mut self, connection: Arc<Connection>, gate: Arc<Gate>) {
        self.gate = gate;
        let leave = Box::pin(connection.leave.clone().cancelled_owned());
        let fate = Fate::Ungreeted(Box::pin(tokio::time::sleep(HANDSHAKE_TIMEOUT)));
        self.known = Some(Known { connection, leave, fate });
    }

    /// Whether the connection may go on; arranges to be woken when that changes.
    fn poll_fate(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(known) = &mut self.known else { return Ok(()) };
        if !matches!(known.fate, Fate::Leaving(_)) && known.leave.as_mut().poll(cx).is_ready() {
            known.fate = Fate::Leaving(Box::pin(tokio::time::sleep(FAREWELL)));
        }
        let over = match &mut known.fate {
            Fate::Ungreeted(_) if known.connection.greeted.load(Ordering::Relaxed) => {
                known.fate = Fate::Stays;
                false
            }
            Fate::Ungreeted(until) | Fate::Leaving(until) => until.as_mut().poll(cx).is_ready(),
            Fate::Stays => false,
        };
        if over { Err(io::Error::new(io::ErrorKind::ConnectionAborted, "dismissed")) } else { Ok(()) }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_fate(cx)?;
        loop {
            if let Some(pause) = &mut this.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                this.pause = None;
            }
            let wait = this.gate.bucket().wait(Instant::now());
            match wait {
                Some(wait) => this.pause = Some(Box::pin(tokio::time::sleep(wait))),
                None => break,
            }
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        this.gate.bucket().spend(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_fate(cx)?;
        Pin::new(&mut this.socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_fate(cx)?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_fate(cx)?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// An accepted connection of a known peer, as the gRPC server sees it.
pub(crate) struct Link {
    pub(crate) tls: TlsStream<Guarded>,
    pub(crate) connection: Arc<Connection>,
}

impl Connected for Link {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.connection)
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
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
