//! A line to a dev chain that can be dead from the start, cut, or frozen: what an endpoint does to its callers when its process,
//! its network or its machine fails, while the chain behind it goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// What the line does with its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing listens: connections are refused. Only before the line was mended for the first time.
    Dead,
    /// Forwards.
    Up,
    /// Ends every connection, old and new, at once.
    Cut,
    /// Takes connections and requests, and answers nothing.
    Frozen,
}

/// Forwards connections from a port of its own. Ends when dropped.
pub struct Line {
    port: u16,
    state: Arc<watch::Sender<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    /// A line to this port of the machine. One that is not `up` refuses connections until it is mended.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub fn to(target: u16, up: bool) -> io::Result<Self> {
        // Bound from the start, so that nobody else takes the port; until it listens, the kernel refuses connections.
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let port = socket.local_addr()?.port();
        let state = Arc::new(watch::channel(if up { State::Up } else { State::Dead }).0);
        let listening = if up { Ok(socket.listen(BACKLOG)?) } else { Err(socket) };
        let task = tokio::spawn(run(listening, target, Arc::clone(&state)));
        Ok(Self { port, state, task })
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Forwards from now on.
    pub fn mend(&self) {
        self.state.send_replace(State::Up);
    }

    /// Ends every connection, and each new one at once.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Takes connections and requests from now on, and answers none: an endpoint that hangs.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listening: Result<TcpListener, TcpSocket>, target: u16, state: Arc<watch::Sender<State>>) {
    let listener = match listening {
        Ok(listener) => listener,
        Err(socket) => {
            // The sender is held here: this can only wait.
            let _ = state.subscribe().wait_for(|state| *state != State::Dead).await;
            match socket.listen(BACKLOG) {
                Ok(listener) => listener,
                Err(error) => panic!("a bound socket does not listen: {error}"),
            }
        }
    };
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(carry(near, target, state.subscribe()));
    }
}

/// One connection, for as long as the line's state lets it live.
async fn carry(mut near: TcpStream, target: u16, mut state: watch::Receiver<State>) {
    if *state.borrow() == State::Up {
        let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
        tokio::select! {
            // Either side may end it.
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            _ = state.wait_for(|state| *state != State::Up) => {}
        }
    }
    // Held open and unanswered while frozen; what was asked meanwhile is lost with the connection.
    let _ = state.wait_for(|state| *state != State::Frozen).await;
}
