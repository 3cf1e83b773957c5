//! TLS 1.3 between parties that know each other by their keys, and nothing else: no authorities, no names, no dates, no resumption.
//!
//! Each side has a [`Key`] (ed25519) and is known to the other by its [`Pin`], the digest of its public key. Certificates are made anew at
//! each start and mean nothing: what counts is the key in them, and the proof in the handshake that whoever shows it holds it.
//!
//! - [`server`] and [`client`]: both sides show a key. Whoever is not expected is refused in the handshake; the other side learns that by
//!   the alert `certificate_unknown` ([`Mismatch`]).
//! - [`open_server`] and [`open_client`]: a door that everybody may come to. Only the server shows a key.
//!
//! **Does not** bound handshakes in number or time, and does not hide who talks to whom: that is for those who listen.

mod identity;
mod tls;

pub use identity::{Error, Key, Pin};
pub use tls::{Mismatch, Pins, client, open_client, open_server, server};
