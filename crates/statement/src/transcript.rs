//! Heads and digests of a transcript.

use sha2::{Digest as _, Sha256};

use crate::{
    Address, ChainId, Digest, GENESIS_DOMAIN, GUEST_INPUT_VERSION, JobId, OPEN_DOMAIN, PROMPT_DOMAIN, REQUEST_DOMAIN, SAMPLER_DOMAIN,
    Statement, TURNS_DOMAIN, TokenCount, TokenId, TokenSeq, checkpoint_header,
};

/// The client's secret salt; 32 zero bytes where the terms carry no commitment.
#[derive(Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Salt(pub [u8; 32]);

impl std::fmt::Debug for Salt {
    // A salt keeps answers from being guessed: it does not belong in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// Sampler settings in force for a turn, in their canonical form.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampler {
    /// Softmax temperature, 0 (greedy) to 2.
    pub temperature: f32,
    /// Nucleus threshold, above 0 to 1 (1 = off).
    pub top_p: f32,
    /// Candidates kept, 0 = all.
    pub top_k: u32,
    /// Seed of the sampler's random numbers.
    pub seed: u64,
    /// Most tokens of the turn.
    pub max_tokens: u32,
}

impl Sampler {
    /// Digest of the settings, as it enters a [`Turn`].
    pub fn digest(&self) -> Digest {
        sha256([
            &SAMPLER_DOMAIN[..],
            &self.temperature.to_bits().to_le_bytes(),
            &self.top_p.to_bits().to_le_bytes(),
            &self.top_k.to_le_bytes(),
            &self.seed.to_le_bytes(),
            &self.max_tokens.to_le_bytes(),
        ])
    }
}

/// A turn as an auditor needs it: where it starts, and digests of what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Turn {
    /// Position of the turn's first token.
    pub start: TokenSeq,
    /// Digest of the prompt's token ids.
    pub prompt: Digest,
    /// Digest of the sampler settings.
    pub sampler: Digest,
    /// Digest of the request id.
    pub request: Digest,
}

/// `SHA256(salt)`, or zero for no salt.
pub fn salt_commitment(salt: &Salt) -> Digest {
    if salt.0 == [0; 32] { Digest::ZERO } else { sha256([&salt.0[..]]) }
}

/// First head of a job, as the contract derives it from the terms.
pub fn genesis_head(chain: ChainId, marketplace: Address, job: JobId, host: Address, model: Digest, salt_commitment: Digest) -> Digest {
    sha256([&GENESIS_DOMAIN[..], &word(chain.0), &marketplace.0, &word(job.0), &host.0, &model.0, &salt_commitment.0])
}

/// Head after a checkpoint of `ids` that starts at `first`.
pub fn checkpoint_head(head: &Digest, first: TokenSeq, turns: &Digest, ids: &[TokenId]) -> Digest {
    let header = checkpoint_header(head, first, TokenCount(ids.len() as u64), turns);
    run(Sha256::new_with_prefix(header), ids)
}

/// Digest of the turns whose first token lies in the checkpoint that starts at `first`.
pub fn turns_digest(salt: &Salt, first: TokenSeq, turns: &[Turn]) -> Digest {
    let mut hash = Sha256::new_with_prefix(TURNS_DOMAIN);
    hash.update(salt.0);
    hash.update(first.0.to_le_bytes());
    hash.update(u32::try_from(turns.len()).expect("a checkpoint holds fewer turns than tokens").to_le_bytes());
    for turn in turns {
        hash.update(turn.start.0.to_le_bytes());
        hash.update(turn.prompt.0);
        hash.update(turn.sampler.0);
        hash.update(turn.request.0);
    }
    Digest(hash.finalize().into())
}

/// Digest of a prompt's token ids.
pub fn prompt_digest(salt: &Salt, ids: &[TokenId]) -> Digest {
    run(Sha256::new_with_prefix(PROMPT_DOMAIN).chain_update(salt.0), ids)
}

/// Digest of a request id.
pub fn request_digest(request_id: &str) -> Digest {
    sha256([&REQUEST_DOMAIN[..], request_id.as_bytes()])
}

/// Digest of the tokens metered since the last seal.
pub fn open_digest(head: &Digest, first: TokenSeq, ids: &[TokenId]) -> Digest {
    let hash = Sha256::new_with_prefix(OPEN_DOMAIN).chain_update(head.0).chain_update(first.0.to_le_bytes());
    run(hash.chain_update((ids.len() as u64).to_le_bytes()), ids)
}

/// The guest's input: the statement without `head_after`, then turns digest and ids of each checkpoint.
pub fn guest_input<'a>(statement: &Statement, checkpoints: impl ExactSizeIterator<Item = (Digest, &'a [TokenId])>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(GUEST_INPUT_VERSION.to_le_bytes());
    out.extend(u32::try_from(checkpoints.len()).expect("a claim holds fewer checkpoints than u32").to_le_bytes());
    out.extend(&statement.journal()[32..288]);
    for (turns, ids) in checkpoints {
        out.extend((ids.len() as u64).to_le_bytes());
        out.extend(turns.0);
        out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    out
}

fn sha256<const N: usize>(parts: [&[u8]; N]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    Digest(hash.finalize().into())
}

fn run(mut hash: Sha256, ids: &[TokenId]) -> Digest {
    for id in ids {
        hash.update(id.to_le_bytes());
    }
    Digest(hash.finalize().into())
}

fn word(value: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[24..].copy_from_slice(&value.to_be_bytes());
    out
}
