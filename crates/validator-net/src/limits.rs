//! How much one peer may cost. Every queue, buffer, rate and wait of this crate is named here.

use std::time::Duration;

use finality_gadget::network::{MAX_CERTIFICATES_PER_MESSAGE, MAX_MESSAGE_BYTES, MAX_VOTES_PER_MESSAGE};
use finality_gadget::{MAX_SETS_PER_LINK, MAX_SIGNATURE_BYTES, Schedule, SignedVote, Vote};

pub use crate::bucket::Rate;

/// Handshakes at once. When one more comes, the oldest gives way: honest ones take milliseconds, half-open ones wait for ever.
pub(crate) const MAX_HANDSHAKES: usize = 64;
/// From the accepted connection to the verified key, and from there to the hello.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a connection may send before its key is verified. A handshake takes some 2 KiB.
pub(crate) const HANDSHAKE_RATE: Rate = Rate { per_second: 16 * 1024, burst: 64 * 1024 };
/// Connections of one identity. Honest ones last; after a restart a few may be needed.
pub(crate) const ARRIVALS: Rate = Rate { per_second: 1, burst: 16 };
/// A connection that is told to go may take so long to hear why.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
/// A silent connection is asked for a sign of life this often …
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);
/// … and closed when none comes within this time.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one connection: the one there is. A second would be a second buffer.
pub(crate) const MAX_STREAMS: u32 = 1;
/// Bytes in flight in one stream and connection: the product of 100 Mbit/s and 40 ms.
pub(crate) const WINDOW: u32 = 512 * 1024;
/// Headers of one request; ours take some 200 bytes.
pub(crate) const MAX_HEADER_BYTES: u32 = 4 * 1024;
/// Streams that are opened and reset at once, before the connection is closed for it.
pub(crate) const MAX_RESETS: usize = 8;
/// What each queued message is charged beside its length, so that many small ones are bounded too.
pub(crate) const MESSAGE_OVERHEAD: usize = 512;

/// What one peer may cost this node. The memory that a peer can take is about `inbox_bytes + outbox_bytes + 3 × max_message_bytes` and a
/// megabyte for its connections, whatever it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes.
    pub max_message_bytes: usize,
    /// Bytes of one peer's messages that wait for the node. When they are reached the peer is not listened to until the node has caught up.
    pub inbox_bytes: usize,
    /// Bytes of messages that wait for one peer. When they are reached the oldest are dropped.
    pub outbox_bytes: usize,
    /// Messages of one peer.
    pub messages: Rate,
    /// Bytes of one peer, with all that TLS and HTTP/2 put around messages.
    pub bytes: Rate,
}

impl Limits {
    /// Bounds that hold every message an honest peer can send, with as many validators as the largest set of `schedule` has, and room for
    /// two sets of twice that size at a boundary.
    pub fn for_schedule(schedule: &Schedule) -> Self {
        let largest = schedule.sets().map(|(_, set)| set.members().len()).max().unwrap_or(1);
        let members = largest * MAX_SETS_PER_LINK;
        let certificate = Vote::MAX_BYTES + 64 + members.div_ceil(8) + members * MAX_SIGNATURE_BYTES;
        let longest = (MAX_CERTIFICATES_PER_MESSAGE * certificate).max(MAX_VOTES_PER_MESSAGE * SignedVote::MAX_BYTES) + 64;
        let max_message_bytes = longest.min(MAX_MESSAGE_BYTES);
        Self {
            max_message_bytes,
            inbox_bytes: max_message_bytes,
            // An answer to a peer that is far behind takes several messages.
            outbox_bytes: 4 * max_message_bytes,
            // Each checkpoint takes a vote and its repetitions; a flood is cut to what one core verifies in a part of its time.
            messages: Rate { per_second: 100, burst: 400 },
            bytes: Rate { per_second: 2 * 1024 * 1024, burst: 8 * 1024 * 1024 },
        }
    }
}
