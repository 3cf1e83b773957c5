//! What leaves a connection: two bounded queues and the one task that writes them.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures::SinkExt;
use futures::stream::SplitSink;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Replies that may wait. A client that asks for more without reading is not a client.
const CONTROL: usize = 64;

/// Chunks that may wait between the turns and the socket: enough to keep the socket busy, few enough to hold turns back soon.
const DATA: usize = 16;

/// How long a goodbye may take.
const CLOSING: Duration = Duration::from_secs(5);

/// The sending side, shared by the connection and its streams.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    control: mpsc::Sender<Message>,
    data: mpsc::Sender<Message>,
    /// The connection is over.
    pub(super) closed: CancellationToken,
}

/// The receiving side, for [`write`].
pub(super) struct Outgoing {
    control: mpsc::Receiver<Message>,
    data: mpsc::Receiver<Message>,
}

pub(super) fn outbox() -> (Outbox, Outgoing) {
    let (control, control_out) = mpsc::channel(CONTROL);
    let (data, data_out) = mpsc::channel(DATA);
    (Outbox { control, data, closed: CancellationToken::new() }, Outgoing { control: control_out, data: data_out })
}

impl Outbox {
    /// Sends a reply, before any chunk that waits.
    pub(super) fn reply(&self, frame: Utf8Bytes) {
        self.control(Message::Text(frame));
    }

    pub(super) fn control(&self, message: Message) {
        if self.control.try_send(message).is_err() {
            self.closed.cancel();
        }
    }

    /// Sends a chunk, after those that wait. False once the connection is over.
    pub(super) async fn data(&self, message: Message) -> bool {
        tokio::select! {
            () = self.closed.cancelled() => false,
            sent = self.data.send(message) => sent.is_ok(),
        }
    }

    /// Waits, for a bounded time, until the replies are written.
    pub(super) async fn drain(&self) {
        let written = async {
            let _all = self.control.reserve_many(CONTROL).await;
        };
        tokio::select! {
            () = self.closed.cancelled() => {}
            _ = tokio::time::timeout(CLOSING, written) => {}
        }
    }

    /// Sends a chunk without waiting; a full queue ends the connection.
    pub(super) fn data_now(&self, frame: Utf8Bytes) {
        if self.data.try_send(Message::Text(frame)).is_err() {
            self.closed.cancel();
        }
    }
}

/// Writes until the connection is over. Chunks keep their order; replies overtake them.
pub(super) async fn write(mut socket: SplitSink<WebSocket, Message>, mut outgoing: Outgoing, closed: CancellationToken) {
    loop {
        let message = tokio::select! {
            biased;
            () = closed.cancelled() => break,
            Some(message) = outgoing.control.recv() => message,
            Some(message) = outgoing.data.recv() => message,
            else => break,
        };
        let sent = tokio::select! {
            () = closed.cancelled() => break,
            sent = socket.send(message) => sent,
        };
        if sent.is_err() {
            break;
        }
    }
    closed.cancel();
    let goodbye = Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::from_static("") }));
    let _ = tokio::time::timeout(CLOSING, socket.send(goodbye)).await;
}
