//! Listening, and going down in order.
//!
//! Connections are served with small buffers on purpose: what lies in a buffer was generated, but perhaps is never read. With the
//! usual ones thousands of tokens would lie between the meter and a client that has stopped reading.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::doors::router;
use crate::host::Host;

/// Send buffer of an accepted connection in the kernel, in bytes: about a hundred tokens.
const SEND_BUFFER: u32 = 16 * 1024;

/// Buffer of a connection in this process, in bytes. A request's head must fit in.
const CONNECTION_BUFFER: usize = 16 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long answers that are made may take to leave once the host is drained.
const FLUSH: Duration = Duration::from_secs(5);

/// Pause after a failed accept: out of file descriptors, mostly, which others give back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why serving ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger can no longer be written: the process must end, and what it promised is on the disk.
    #[error("the ledger stopped: {0}")]
    Ledger(String),
}

/// Listens on an address, with buffers that fit tokens.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves every door until `shutdown` resolves; then drains: nothing new is admitted, running turns finish or are interrupted,
/// and every token that was delivered is durable. Ends with an error at once if the ledger can no longer be written.
pub async fn serve(listener: TcpListener, host: Arc<Host>, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    let housekeeping = tokio::spawn(Arc::clone(&host).housekeeping());
    let connections = TaskTracker::new();
    let closing = CancellationToken::new();
    let work = async {
        // Still listening while it drains, so that a client is told why instead of being refused a connection.
        tokio::select! {
            never = accept(&listener, &host, &connections, &closing) => match never {},
            cut = async { shutdown.await; host.drain().await } => {
                tracing::info!(event = "drained", interrupted = cut, "drained");
            }
        }
        closing.cancel();
        connections.close();
        if tokio::time::timeout(FLUSH, connections.wait()).await.is_err() {
            tracing::debug!(event = "connections_cut", connections = connections.len(), "connections did not end in time");
        }
    };
    let ended = tokio::select! {
        () = work => Ok(()),
        reason = host.failed() => Err(Error::Ledger(reason)),
    };
    housekeeping.abort();
    ended
}

async fn accept(
    listener: &TcpListener,
    host: &Arc<Host>,
    connections: &TaskTracker,
    closing: &CancellationToken,
) -> std::convert::Infallible {
    let router = router(Arc::clone(host));
    let places = Arc::new(Semaphore::new(host.config.max_connections));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, closing) = (router.clone(), closing.clone());
                connections.spawn(async move {
                    connection(stream, router, closing).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(event = "accept_failed", %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, closing: CancellationToken) {
    // Tokens are small and wanted now. A socket that does not take the option works without it.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(CONNECTION_BUFFER);
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router)));
    tokio::select! {
        // A connection that breaks is the client's affair; its turns notice by their readers.
        _ = served.as_mut() => {}
        () = closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}
