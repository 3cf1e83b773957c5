//! The client's own copy of a job's transcript, and what is held against it.
//!
//! Pure: tokens, announcements and receipts in, refusals out. Nothing here reads a clock, a file or a socket.

mod error;

use std::collections::VecDeque;

use milepost_statement::{
    Address, ChainId, Digest, Domain, JobId, MAX_CHECKPOINT_TOKENS, Salt, TokenCount, TokenId, TokenSeq, Turn, TurnReceipt,
    checkpoint_head, genesis_head, open_digest, recover, request_digest, salt_commitment, turns_digest,
};
use serde::{Deserialize, Serialize};

pub use error::Error;

/// Most announcements that may wait for their tokens. A host announces a seal when it is durable and delivers its tokens right
/// after, so that more than a few means that the tokens are not coming.
pub const MAX_PENDING: usize = 64;

/// Which job a transcript belongs to: what its first head is derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobIdentity {
    /// Chain id; 0 in log mode, where receipts are unsigned.
    pub chain_id: ChainId,
    /// The marketplace.
    pub marketplace: Address,
    /// The job.
    pub job_id: JobId,
    /// The job's host.
    pub host: Address,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
}

impl JobIdentity {
    /// The EIP-712 domain of the job's receipts and vouchers.
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, marketplace: self.marketplace }
    }

    /// The job's first head under a salt.
    pub fn genesis(&self, salt: &Salt) -> Digest {
        genesis_head(self.chain_id, self.marketplace, self.job_id, self.host, self.model_digest, salt_commitment(salt))
    }
}

/// A sealed run, as the host announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Number in the job, from 0.
    pub number: u64,
    /// Position of its first token.
    pub first_seq: TokenSeq,
    /// Tokens in it.
    pub count: TokenCount,
    /// Digest of the turns that begin in it; opaque to a client without the turns.
    pub turns_digest: Digest,
    /// Head after it.
    pub head: Digest,
    /// The turns themselves, where the host lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Vec<Turn>>,
}

impl Checkpoint {
    /// Position after its last token, or `None` on overflow.
    pub fn end(&self) -> Option<TokenSeq> {
        self.first_seq.checked_add(self.count)
    }
}

/// A turn's receipt with the host's signature over it. In JSON as the host's doors write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "crate::wire::ReceiptForm", into = "crate::wire::ReceiptForm")]
pub struct SignedReceipt {
    /// What is signed.
    pub receipt: TurnReceipt,
    /// `r ‖ s ‖ v`; absent in log mode.
    pub signature: Option<Vec<u8>>,
}

/// Token ids received so far, checkpoints recomputed from them, and the head.
///
/// **Guarantees.** A position that was received never changes; every checkpoint in [`Transcript::checkpoints`] was recomputed here.
#[derive(Clone, Debug)]
pub struct Transcript {
    job: JobIdentity,
    salt: Salt,
    signers: Vec<Address>,
    ids: Vec<TokenId>,
    checkpoints: Vec<Checkpoint>,
    pending: VecDeque<Checkpoint>,
    head: Digest,
    sealed: TokenSeq,
    turns: Vec<(TokenSeq, Digest)>,
}

impl Transcript {
    /// An empty transcript. Receipts must be signed by `job.host` or one of `submitters`.
    pub fn new(job: JobIdentity, salt: Salt, submitters: &[Address]) -> Self {
        let mut signers = vec![job.host];
        signers.extend_from_slice(submitters);
        let head = job.genesis(&salt);
        Self {
            job,
            salt,
            signers,
            ids: Vec::new(),
            checkpoints: Vec::new(),
            pending: VecDeque::new(),
            head,
            sealed: TokenSeq::ZERO,
            turns: Vec::new(),
        }
    }

    /// The job.
    pub fn job(&self) -> &JobIdentity {
        &self.job
    }

    /// Tokens received.
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// Position after the last token received.
    pub fn end(&self) -> TokenSeq {
        TokenSeq(self.ids.len() as u64)
    }

    /// Checkpoints recomputed so far.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// Head after the last recomputed checkpoint.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// End of the last recomputed checkpoint.
    pub fn sealed(&self) -> TokenSeq {
        self.sealed
    }

    /// Accepts receipts from `signer` too: a submitter key that the registry was asked about.
    pub fn add_signer(&mut self, signer: Address) {
        if !self.signers.contains(&signer) {
            self.signers.push(signer);
        }
    }

    /// Notes that a request of our own begins here. Where a host lists the turns of a checkpoint, they must be these.
    pub fn begin_turn(&mut self, request_id: &str) {
        self.note_turn(self.end(), request_id);
    }

    /// The same for a turn of which the start is known (a session read back from its file).
    pub fn note_turn(&mut self, start: TokenSeq, request_id: &str) {
        let turn = (start, request_digest(request_id));
        if !self.turns.contains(&turn) {
            self.turns.push(turn);
        }
    }

    /// Takes tokens of which the first has position `at`. Tokens received before may be repeated (a resumed stream overlaps), if
    /// they are the same; a gap is refused. Answers how many were new.
    pub fn receive(&mut self, at: TokenSeq, ids: &[TokenId]) -> Result<usize, Error> {
        let known = self.end().since(at).ok_or(Error::Gap { expected: self.end(), got: at })?;
        let known = usize::try_from(known.0).expect("a transcript in memory is shorter than usize").min(ids.len());
        let (repeated, new) = ids.split_at(known);
        for (offset, got) in repeated.iter().enumerate() {
            let seq = at + TokenCount(offset as u64);
            let had = self.id_at(seq);
            if had != *got {
                return Err(Error::Rewritten { seq, had, got: *got });
            }
        }
        self.ids.extend_from_slice(new);
        self.settle_pending()?;
        Ok(new.len())
    }

    /// Takes an announced checkpoint. One whose tokens are still on their way waits for them.
    pub fn announce(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        let known = self.checkpoints.iter().chain(&self.pending).find(|known| known.number == checkpoint.number);
        if let Some(known) = known {
            // A repeated announcement must say the same; the turns may be listed in one and not in the other.
            let same = (known.first_seq, known.count, known.turns_digest, known.head)
                == (checkpoint.first_seq, checkpoint.count, checkpoint.turns_digest, checkpoint.head);
            return if same { Ok(()) } else { Err(Error::CheckpointChanged { number: checkpoint.number }) };
        }
        let (number, first) = match self.pending.back() {
            Some(last) => (last.number + 1, last.first_seq + last.count),
            None => (self.checkpoints.len() as u64, self.sealed),
        };
        if checkpoint.number != number {
            return Err(Error::CheckpointNumber { expected: number, got: checkpoint.number });
        }
        if checkpoint.first_seq != first {
            return Err(Error::CheckpointStart { number, expected: first, got: checkpoint.first_seq });
        }
        if checkpoint.count.0 == 0 || checkpoint.count.0 > MAX_CHECKPOINT_TOKENS || checkpoint.end().is_none() {
            return Err(Error::CheckpointSize { number, count: checkpoint.count });
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Error::TooManyAnnounced { waiting: self.pending.len() });
        }
        self.pending.push_back(checkpoint);
        self.settle_pending()
    }

    /// Checks a receipt against what was captured. [`Error::MissingCheckpoints`] means that seals were not announced to us yet: fetch
    /// them and check again.
    pub fn check_receipt(&self, request_id: &str, signed: &SignedReceipt) -> Result<(), Error> {
        let receipt = &signed.receipt;
        if receipt.job_id != self.job.job_id {
            return Err(Error::ReceiptJob { expected: self.job.job_id, got: receipt.job_id });
        }
        if receipt.request != request_digest(request_id) {
            return Err(Error::ReceiptRequest { request_id: request_id.to_owned() });
        }
        let total = receipt.sealed_tokens.0.checked_add(receipt.open_tokens.0);
        if total != Some(self.end().0) {
            return Err(Error::ReceiptCount {
                receipt: TokenCount(receipt.sealed_tokens.0.saturating_add(receipt.open_tokens.0)),
                captured: self.end() - TokenSeq::ZERO,
            });
        }
        if receipt.sealed_tokens.0 > self.sealed.0 {
            return Err(Error::MissingCheckpoints { have: self.sealed, sealed: receipt.sealed_tokens });
        }
        // Seals made after the receipt are no contradiction: the head at the receipt's own position counts.
        let sealed = TokenSeq(receipt.sealed_tokens.0);
        let Some(head) = self.head_at(sealed) else {
            return Err(Error::ReceiptBoundary { sealed: receipt.sealed_tokens });
        };
        if receipt.sealed_head != head {
            return Err(Error::ReceiptHead { receipt: receipt.sealed_head, computed: head });
        }
        let open = self.ids_from(sealed);
        let digest = open_digest(&head, sealed, open);
        if receipt.open_digest != digest {
            return Err(Error::ReceiptOpenDigest { receipt: receipt.open_digest, computed: digest });
        }
        // Last, because an unknown signer is asked for on chain: that is worth it only for words that fit.
        self.check_signature(signed)
    }

    /// The head after `position` tokens, if a checkpoint ends there.
    pub fn head_at(&self, position: TokenSeq) -> Option<Digest> {
        if position == TokenSeq::ZERO {
            return Some(self.job.genesis(&self.salt));
        }
        self.checkpoints.iter().find(|checkpoint| checkpoint.end() == Some(position)).map(|checkpoint| checkpoint.head)
    }

    /// Holds the chain's view of the job against ours: the paid tokens were received, and the chain's head is the recomputed one.
    pub fn check_chain(&self, tokens_used: TokenCount, head: Digest) -> Result<(), Error> {
        if tokens_used.0 > self.end().0 {
            return Err(Error::ChainBeyond { chain: tokens_used, captured: self.end() - TokenSeq::ZERO });
        }
        let position = TokenSeq(tokens_used.0);
        if position > self.sealed {
            return Err(Error::MissingCheckpoints { have: self.sealed, sealed: tokens_used });
        }
        match self.head_at(position) {
            Some(computed) if computed == head => Ok(()),
            Some(computed) => Err(Error::ChainHead { chain: head, computed }),
            None => Err(Error::ChainBoundary { tokens: tokens_used }),
        }
    }

    fn check_signature(&self, signed: &SignedReceipt) -> Result<(), Error> {
        let Some(signature) = &signed.signature else {
            // docs/statement.md: in log mode chain id and contract are 0 and receipts are unsigned.
            return if self.job.chain_id == ChainId(0) { Ok(()) } else { Err(Error::Unsigned) };
        };
        let by = recover(&signed.receipt.digest(&self.job.domain()), signature).map_err(Error::Signature)?;
        if self.signers.contains(&by) { Ok(()) } else { Err(Error::WrongSigner { signer: by, host: self.job.host }) }
    }

    fn settle_pending(&mut self) -> Result<(), Error> {
        while let Some(next) = self.pending.front() {
            let end = next.end().expect("checked when it was announced");
            if end > self.end() {
                return Ok(());
            }
            let next = self.pending.pop_front().expect("it is the front");
            let (from, to) = (index(next.first_seq), index(end));
            let computed = checkpoint_head(&self.head, next.first_seq, &next.turns_digest, &self.ids[from..to]);
            if computed != next.head {
                return Err(Error::WrongHead { number: next.number, announced: next.head, computed });
            }
            if let Some(turns) = &next.turns {
                self.check_turns(&next, turns)?;
            }
            self.head = computed;
            self.sealed = end;
            self.checkpoints.push(next);
        }
        Ok(())
    }

    fn check_turns(&self, checkpoint: &Checkpoint, turns: &[Turn]) -> Result<(), Error> {
        let number = checkpoint.number;
        let computed = turns_digest(&self.salt, checkpoint.first_seq, turns);
        if computed != checkpoint.turns_digest {
            return Err(Error::WrongTurns { number, announced: checkpoint.turns_digest, computed });
        }
        // Every listed turn must be one that we asked for, where we asked for it.
        match turns.iter().find(|turn| !self.turns.contains(&(turn.start, turn.request))) {
            Some(turn) => Err(Error::ForeignTurn { number, start: turn.start }),
            None => Ok(()),
        }
    }

    fn id_at(&self, seq: TokenSeq) -> TokenId {
        self.ids[index(seq)]
    }

    fn ids_from(&self, seq: TokenSeq) -> &[TokenId] {
        &self.ids[index(seq).min(self.ids.len())..]
    }
}

fn index(seq: TokenSeq) -> usize {
    usize::try_from(seq.0).expect("a position inside a transcript in memory fits usize")
}

#[cfg(test)]
mod tests;
