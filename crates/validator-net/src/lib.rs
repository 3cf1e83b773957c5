//! The network between validators: a [`NetworkBridge`](finality_gadget::NetworkBridge) over gRPC and mutual TLS.
//!
//! Every validator talks to every other one. Each dials each: a validator speaks on the connections that it opened and listens on those
//! that others opened, so a stream has one writer and one reader. The protocol itself stands in `proto/validator.proto`.
//!
//! # Who is who
//!
//! Both sides of a connection show a certificate, and what counts is the key in it: the configuration names each peer's by its
//! [`Pin`]. There is no authority, no name and no date to be wrong about. Where a stranger dials, the handshake ends with the alert
//! `certificate_unknown`; where a stranger answers, the dialler leaves. Sessions are never resumed: each connection is verified anew.
//!
//! After the handshake the dialler introduces itself, and the listener answers in kind: version, chain, trusted checkpoint, newest
//! validator set. Where they do not fit, the stream ends with a [`Refusal`] in the gRPC status, and both sides name it in
//! [`PeerReport`]. Whoever is refused for something that only an operator can change dials again twice a minute; other failures are
//! retried after doubling, jittered waits of at most ten seconds, and at once when the peer is heard of.
//!
//! # What is promised
//!
//! Messages that come out of the [`Inbox`] are those of the validator named with them. Delivery is **not** promised: the outbox of a
//! peer is bounded and drops its oldest messages, and what was on the way when a connection ended is lost. The gadget sends again until
//! its votes are certified, tells its peers where it stands, and asks for the certificates that it misses
//! ([`Message::CertificatesAfter`](finality_gadget::Message)): that is how a peer that was away catches up, and nothing here has to
//! remember what it missed.
//!
//! # What one peer can cost
//!
//! A peer may be hostile, and its key stolen. It has one connection with one stream; what it sends is counted below TLS and limited
//! in bytes, then in messages ([`Limits`]); its messages wait in a queue of its own, and when that is full it is not read any more,
//! which stops it at its own end. All memory it can take is bounded, and others are served in turns with it. Malformed frames and
//! messages end the stream. Connections that do not finish the handshake give way to newer ones, and end after five seconds.
//!
//! # What it does not do
//!
//! It does not judge votes and certificates; it does not hide who talks to whom; it does not limit the rate of handshakes by address,
//! which is a firewall's business: a flood of strangers costs a core, but neither memory nor the connections that stand.
//!
//! # Others
//!
//! Whoever does not validate may ask for certificates at a door of its own ([`light`]); what all operators agree on stands in a file
//! that they share ([`set_file`]); and a certificate can be checked by a contract ([`evm`]).
//!
//! # Log events
//!
//! | event | level | what happened | fields |
//! |---|---|---|---|
//! | `peer_reached`, `peer_not_reached` | info, warn | our messages reach a validator; they do not, and why | `validator`, `address` |
//! | `peer_heard`, `peer_gone` | info | a validator sends to us; its stream ended | `validator` |
//! | `peer_refused` | warn | a validator was refused, once for each reason | `validator`, `reason` |
//! | `stranger_refused`, `peer_too_often` | debug | a connection without a known key; a key that connects too often | `error`, `validator` |
//! | `accept_failed`, `message_too_long` | warn, error | the system refuses connections; an own message exceeds the limit | `error`, `bytes` |
//!
//! # Example
//!
//! Validator 1 of four starts. It binds its socket, makes the network, and spawns [`Network::run`] where it likes. It hands the
//! [`Bridge`] to the gadget, and the gadget what comes out of the inbox. Validators 2 and 3 run already: they are dialled, answer, and
//! dial back as soon as they hear of it. Validator 4 is down: it is tried again, and its outbox keeps the newest messages for it.

mod backoff;
mod bucket;
mod dial;
pub mod evm;
mod guard;
mod inbox;
pub mod light;
mod limits;
mod listen;
mod outbox;
mod peer;
mod refusal;
mod service;
pub mod set_file;
mod wire;

pub use dial::Failure;
pub use inbox::Inbox;
pub use limits::{Limits, Rate};
pub use milepost_pinned_tls::{Error as IdentityError, Key as TransportKey, Pin};
pub use peer::{Peer, PeerReport};
pub use refusal::{Reason, Refusal};
pub use service::{Bridge, Error, Network, Options};

/// HTTP/2, the only protocol spoken inside TLS.
const ALPN: &[u8] = b"h2";
