//! A WebSocket client that answers pings or does not, as a test says.

use futures::{SinkExt, StreamExt};
use milepost_ledger::TokenId;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::node::{Node, PATIENCE, ids};

pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What a stream delivered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) ids: Vec<TokenId>,
    pub(crate) seals: Vec<Value>,
    pub(crate) end: Value,
}

impl Socket {
    /// Opens a connection and reads its greeting.
    pub(crate) async fn open(node: &Node) -> Self {
        let (socket, _) = connect_async(format!("ws://{}/v1/ws", node.address)).await.expect("a connection");
        let mut socket = Self(socket);
        assert_eq!(socket.next().await["type"], "connected");
        socket
    }

    /// The same, with a session.
    pub(crate) async fn init(node: &Node, init: Value) -> (Self, Value) {
        let mut socket = Self::open(node).await;
        let ack = socket.ask("session_init", init).await;
        assert_eq!(ack["type"], "session_init_ack", "{ack}");
        (socket, ack)
    }

    pub(crate) async fn send(&mut self, kind: &str, mut frame: Value) {
        frame["type"] = json!(kind);
        self.0.send(Message::text(frame.to_string())).await.expect("an open connection");
    }

    /// Sends a frame and reads the next one.
    pub(crate) async fn ask(&mut self, kind: &str, frame: Value) -> Value {
        self.send(kind, frame).await;
        self.next().await
    }

    /// The next text frame. Pings are answered on the way.
    pub(crate) async fn next(&mut self) -> Value {
        self.try_next().await.expect("a frame before the end")
    }

    pub(crate) async fn try_next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame in time")? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads frames up to a `stream_end`.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let frame = self.next().await;
            if answer.take(frame) {
                return answer;
            }
        }
    }

    /// Prompts and reads the answer.
    pub(crate) async fn prompt(&mut self, request: Value) -> Answer {
        self.send("inference", json!({ "request": request, "id": "p" })).await;
        self.answer().await
    }
}

impl Answer {
    /// Takes in a frame; true at the end.
    pub(crate) fn take(&mut self, frame: Value) -> bool {
        match frame["type"].as_str().expect("a type") {
            "stream_chunk" => {
                let chunk = ids(&frame["token_ids"]);
                assert_eq!(frame["tokens"], chunk.len());
                assert_eq!(frame["total"].as_u64().expect("a total"), frame["seq"].as_u64().expect("a position") + chunk.len() as u64);
                self.ids.extend(chunk);
                self.text.push_str(frame["content"].as_str().expect("content"));
            }
            "checkpoint_sealed" => self.seals.push(frame),
            "stream_end" => {
                self.end = frame;
                return true;
            }
            other => panic!("unexpected {other}: {frame}"),
        }
        false
    }
}
