//! An endpoint in front of a development chain that answers some questions in its own way.

#![allow(unreachable_pub)] // a module of one test program

use std::sync::Arc;

use milepost_test_support::DevChain;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a question is answered.
#[derive(Clone)]
pub enum Reply {
    /// As the chain does.
    Forward,
    /// As another chain does.
    From(Arc<DevChain>),
    /// With the chain's block of this number.
    Block(u64),
    /// With these members of the answer.
    Json(Value),
    /// With this status and body.
    Raw(u16, String),
    /// Not at all.
    Never,
}

pub struct Endpoint {
    url: String,
    task: JoinHandle<()>,
}

impl Endpoint {
    pub async fn start(chain: Arc<DevChain>, judge: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let judge = Arc::new(judge);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, chain.clone(), judge.clone()));
            }
        });
        Self { url, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: TcpStream, chain: Arc<DevChain>, judge: Arc<impl Fn(&str, &Value) -> Reply>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let question: Value = serde_json::from_slice(&body).ok()?;
    let (method, params) = (question["method"].as_str()?, &question["params"]);
    let (status, body) = match judge(method, params) {
        Reply::Forward => (200, forward(&chain, method, params).await?),
        Reply::From(other) => (200, forward(&other, method, params).await?),
        Reply::Block(number) => (200, forward(&chain, "eth_getBlockByNumber", &json!([format!("{number:#x}"), false])).await?),
        Reply::Json(mut answer) => {
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = question["id"].clone();
            (200, answer.to_string())
        }
        Reply::Raw(status, body) => (status, body),
        Reply::Never => std::future::pending().await,
    };
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    socket.write_all(head.as_bytes()).await.ok()?;
    socket.write_all(body.as_bytes()).await.ok()
}

async fn forward(chain: &DevChain, method: &str, params: &Value) -> Option<String> {
    let method = match method {
        "eth_chainId" => "eth_chainId",
        "eth_getBlockByNumber" => "eth_getBlockByNumber",
        _ => return None,
    };
    let result: Value = chain.request(method, params.clone()).await.ok()?;
    Some(json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string())
}
