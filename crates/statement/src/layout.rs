//! Domain tags and the checkpoint header: what guest and host must lay out alike.

use crate::{Digest, TokenCount, TokenSeq};

/// First 16 bytes under a job's genesis head.
pub const GENESIS_DOMAIN: &[u8; 16] = b"milepost:head:v1";
/// First 16 bytes under a checkpoint's head.
pub const CHECKPOINT_DOMAIN: &[u8; 16] = b"milepost:ckpt:v1";
/// First 16 bytes under a turns digest.
pub const TURNS_DOMAIN: &[u8; 16] = b"milepost:turn:v1";
/// First 16 bytes under a prompt digest.
pub const PROMPT_DOMAIN: &[u8; 16] = b"milepost:prom:v1";
/// First 16 bytes under a sampler digest.
pub const SAMPLER_DOMAIN: &[u8; 16] = b"milepost:samp:v1";
/// First 16 bytes under a request digest.
pub const REQUEST_DOMAIN: &[u8; 16] = b"milepost:rqst:v1";
/// First 16 bytes under an open digest.
pub const OPEN_DOMAIN: &[u8; 16] = b"milepost:open:v1";

/// Bytes before the token ids in a checkpoint's hash. 96, so that 100 tokens fill exactly 8 SHA-256 blocks.
pub const CHECKPOINT_HEADER_LEN: usize = 96;
/// Most tokens in one checkpoint. Bounds the guest's buffer and every loop over a checkpoint.
pub const MAX_CHECKPOINT_TOKENS: u64 = 65_536;
/// First word of the guest's input.
pub const GUEST_INPUT_VERSION: u32 = 1;

/// The 96 bytes that stand before the token ids in a checkpoint's hash.
pub fn checkpoint_header(head: &Digest, first_seq: TokenSeq, count: TokenCount, turns: &Digest) -> [u8; CHECKPOINT_HEADER_LEN] {
    let mut out = [0; CHECKPOINT_HEADER_LEN];
    out[..16].copy_from_slice(CHECKPOINT_DOMAIN);
    out[16..48].copy_from_slice(&head.0);
    out[48..56].copy_from_slice(&first_seq.0.to_le_bytes());
    out[56..64].copy_from_slice(&count.0.to_le_bytes());
    out[64..].copy_from_slice(&turns.0);
    out
}
