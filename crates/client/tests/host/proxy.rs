//! A proxy between client and host that can be cut, pointed elsewhere, and made to lie.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Changes bytes on their way to the client, in place.
pub(crate) type Lie = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

struct State {
    target: SocketAddr,
    connections: JoinSet<()>,
    lie: Option<Lie>,
}

/// The proxy. Handles are cheap.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State { target, connections: JoinSet::new(), lie: None }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = shared.lock().expect("unpoisoned");
                let (target, lie) = (state.target, state.lie.clone());
                state.connections.spawn(forward(client, target, lie));
            }
        });
        Self { url, state }
    }

    /// Cuts every connection; new ones are taken.
    pub(crate) fn cut(&self) {
        self.state.lock().expect("unpoisoned").connections.abort_all();
    }

    /// Sends new connections elsewhere.
    pub(crate) fn point_to(&self, target: SocketAddr) {
        self.state.lock().expect("unpoisoned").target = target;
    }

    /// New connections are lied to.
    pub(crate) fn lie(&self, lie: Option<Lie>) {
        self.state.lock().expect("unpoisoned").lie = lie;
    }
}

async fn forward(client: TcpStream, target: SocketAddr, lie: Option<Lie>) {
    let Ok(host) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_host, mut to_host) = host.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_host).await.map(|_| ()) };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from_host.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<_, std::io::Error>(());
            }
            if let Some(lie) = &lie {
                lie(&mut buffer[..count]);
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    // Either side's end is the end of both.
    tokio::select! { _ = up => {}, _ = down => {} }
}
