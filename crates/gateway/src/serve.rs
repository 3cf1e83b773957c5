//! Listening, and going down in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use crate::doors::router;
use crate::host::Host;

/// Send buffer of an accepted connection in bytes. The kernel's default takes thousands of tokens that nobody reads; this holds
/// about a hundred, so that a client that stops reading soon stops its generation.
const SEND_BUFFER: u32 = 16 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Why serving ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger can no longer be written: the process must end, and what it promised is on the disk.
    #[error("the ledger stopped: {0}")]
    Ledger(String),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listener(#[from] io::Error),
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
    let (drained, stop) = tokio::sync::oneshot::channel::<()>();
    let draining = Arc::clone(&host);
    let drain = async move {
        shutdown.await;
        let cut = draining.drain().await;
        tracing::info!(event = "drained", interrupted = cut, "drained");
        // The server may be gone already; then there is nobody to tell.
        let _ = drained.send(());
    };
    let server = axum::serve(listener, router(Arc::clone(&host))).with_graceful_shutdown(async move {
        let _ = stop.await;
    });
    let ended = tokio::select! {
        served = async { tokio::join!(server.into_future(), drain).0 } => served.map_err(Error::Listener),
        reason = host.failed() => Err(Error::Ledger(reason)),
    };
    housekeeping.abort();
    ended
}
