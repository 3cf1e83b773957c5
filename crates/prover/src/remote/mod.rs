//! Proving on another machine: `milepost-prover serve --listen`, and the [`Remote`] prover that asks it.
//!
//! ```text
//! node ── TCP, TLS 1.3, each shows its key ──▶ server
//! node ◀─ hello ─────────────────────────────── server      one proof for each connection
//! node ── prove ─────────────────────────────▶ server ── a process of its own ──▶ worker
//! node ◀─ heartbeat, executed, proven, done ── server ◀─────────────────────────── worker
//! ```
//!
//! The frames are those of a worker on this machine ([`protocol`](crate::protocol)). Closing the connection cancels: the server
//! kills its worker.
//!
//! **Who may.** Both sides know the other by its key ([`Pin`]) and nothing else: no authorities, no names, no dates. A shared secret
//! would do for one node and one server; keys do for several, of which each can be taken off again, and no side can be impersonated
//! with what the other stores. What crosses is not secret for long, the ids of a claim's tokens, but a stranger must neither read
//! it nor have his proofs made here.
//!
//! **Guarantees.** A receipt is verified by the node before it is returned: a server that lies can waste time and nothing else. A
//! server takes so many connections, handshakes and proofs at once and no more; every frame has a bound of size and of time.
//!
//! **Does not** hide who talks to whom, share proofs out over several servers, or fall back to proving here.

mod client;
mod server;

pub use client::{Remote, RemoteOptions};
pub use milepost_pinned_tls::{Error as Unusable, Key, Pin};
pub use server::{Server, ServerOptions};

/// What is spoken inside TLS.
const ALPN: &[u8] = b"milepost-prover";
