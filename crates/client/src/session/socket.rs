//! The WebSocket door: frames in, frames out, silence bounded.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::Error;
use crate::wire::{ClientFrame, ServerFrame};

/// How long making a connection, or the answer to `session_init`, may take (the known clients wait as long).
pub(super) const SETUP_WAIT: Duration = Duration::from_secs(30);
/// Longest frame taken from a host, bytes. A chunk is a few hundred, a replayed answer some tens of thousands.
const MAX_FRAME: usize = 4 * 1024 * 1024;

/// An open connection.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    url: String,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Socket({})", self.url)
    }
}

impl Socket {
    pub(super) async fn connect(url: String) -> Result<Self, Error> {
        let config = WebSocketConfig::default().max_message_size(Some(MAX_FRAME)).max_frame_size(Some(MAX_FRAME));
        // No delay: acknowledgements are small and the host's window waits for them.
        match timeout(SETUP_WAIT, connect_async_with_config(url.as_str(), Some(config), true)).await {
            Ok(Ok((stream, _))) => Ok(Self { stream, url }),
            Ok(Err(tungstenite::Error::Http(response))) => {
                let status = response.status().as_u16();
                Err(Error::Host { status, code: "upgrade".into(), message: format!("{url} does not speak WebSocket") })
            }
            Ok(Err(error)) => Err(Error::HostUnreachable { url, reason: error.to_string() }),
            Err(_) => Err(Error::HostUnreachable { url, reason: format!("no connection within {} s", SETUP_WAIT.as_secs()) }),
        }
    }

    pub(super) async fn send(&mut self, frame: &ClientFrame<'_>) -> Result<(), Error> {
        let text = serde_json::to_string(frame).map_err(|error| Error::Protocol { what: "frame", reason: error.to_string() })?;
        let sent = timeout(SETUP_WAIT, self.stream.send(Message::text(text))).await;
        match sent {
            Ok(sent) => sent.map_err(|error| self.lost(&error.to_string())),
            Err(_) => Err(self.lost("it takes no frames")),
        }
    }

    /// The next frame of the protocol; pings are answered by the library.
    pub(super) async fn receive(&mut self, limit: Duration) -> Result<ServerFrame, Error> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let next = tokio::time::timeout_at(deadline, self.stream.next()).await;
            let message = match next.map_err(|_| Error::Silent { seconds: limit.as_secs() })? {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(self.lost(&error.to_string())),
                None => return Err(self.lost("it closed the connection")),
            };
            match message {
                Message::Text(text) => {
                    return serde_json::from_str(&text).map_err(|error| Error::Protocol { what: "frame", reason: error.to_string() });
                }
                Message::Close(_) => return Err(self.lost("it closed the connection")),
                Message::Binary(_) => return Err(Error::Protocol { what: "frame", reason: "binary, where the protocol is text".into() }),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn lost(&self, reason: &str) -> Error {
        Error::HostUnreachable { url: self.url.clone(), reason: reason.to_owned() }
    }
}
