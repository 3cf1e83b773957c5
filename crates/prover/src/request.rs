//! What is asked of a prover and what it answers.

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use milepost_statement::{
    Digest, JOURNAL_LEN, MAX_CHECKPOINT_TOKENS, ProofKind, Statement, TokenCount, TokenId, checkpoint_head, guest_input,
};

use crate::Error;

/// A boxed future: [`Prover`] is used as a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most tokens of one claim. Bounds a request's size (4 MiB of ids) and the time a proof can take.
pub const MAX_CLAIM_TOKENS: u64 = 1 << 20;

/// A checkpoint as the guest needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInput {
    /// Digest of the turns that start in the checkpoint.
    pub turns: Digest,
    /// The tokens, at least one.
    pub ids: Vec<TokenId>,
}

/// A claim to be proven.
#[derive(Clone, Debug)]
pub struct ProofRequest {
    /// The claim's id, for logs only.
    pub claim: String,
    /// What is to be proven.
    pub statement: Statement,
    /// The claim's checkpoints in order.
    pub checkpoints: Vec<CheckpointInput>,
    /// Whether the chain's verifier demands a seal: a Groth16 proof instead of the composite STARK.
    pub sealed: bool,
    /// When the proof stops being of use. It decides the priority, nothing else: a late proof is still returned.
    pub deadline: Option<SystemTime>,
}

impl ProofRequest {
    /// Recomputes the heads and checks them against the statement, so that no minute is spent on proving something else.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |why: String| Err(Error::BadRequest { why });
        if self.checkpoints.is_empty() {
            return bad("it has no checkpoints".into());
        }
        let mut head = self.statement.head_before;
        let mut at = self.statement.first_seq;
        let mut total = TokenCount::ZERO;
        for (index, checkpoint) in self.checkpoints.iter().enumerate() {
            let count = TokenCount(checkpoint.ids.len() as u64);
            if count.0 == 0 || count.0 > MAX_CHECKPOINT_TOKENS {
                return bad(format!("checkpoint {index} has {count} tokens; 1 to {MAX_CHECKPOINT_TOKENS} are allowed"));
            }
            total = total + count;
            if total.0 > MAX_CLAIM_TOKENS {
                return bad(format!("it has more than {MAX_CLAIM_TOKENS} tokens: claim fewer checkpoints at a time"));
            }
            head = checkpoint_head(&head, at, &checkpoint.turns, &checkpoint.ids);
            at = match at.checked_add(count) {
                Some(next) => next,
                None => return bad("its token numbers overflow".into()),
            };
        }
        if total != self.statement.count {
            return bad(format!("its checkpoints have {total} tokens, its statement says {}", self.statement.count));
        }
        if head != self.statement.head_after {
            return bad(format!("its checkpoints lead to head {head}, its statement says {}", self.statement.head_after));
        }
        Ok(())
    }

    /// The guest's input (`docs/statement.md`).
    pub fn guest_input(&self) -> Vec<u8> {
        guest_input(&self.statement, self.checkpoints.iter().map(|checkpoint| (checkpoint.turns, &checkpoint.ids[..])))
    }
}

/// A proof that was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// What stands behind it.
    pub kind: ProofKind,
    /// The statement's journal.
    pub journal: [u8; JOURNAL_LEN],
    /// The receipt file (`docs/proofs.md`).
    pub receipt: Vec<u8>,
    /// Wall-clock time from the request's turn to the verified proof.
    pub seconds: f64,
    /// Cycles the guest used; none for a mock proof.
    pub cycles: Option<u64>,
    /// Each segment's size as a power of two; proving time doubles with each.
    pub po2: Vec<u32>,
}

/// Somebody who proves.
pub trait Prover: Send + Sync {
    /// Proves one claim and verifies the proof. Dropping the future cancels the work.
    fn prove(&self, request: ProofRequest) -> BoxFuture<'_, Result<Proof, Error>>;

    /// The kind of proof this prover makes; Groth16: composite ones too, where no seal is asked for.
    fn kind(&self) -> ProofKind;

    /// What a self-test's result depends on: when it changes, the test is run again. `None`: nothing worth remembering.
    fn fingerprint(&self) -> BoxFuture<'_, Result<Option<String>, Error>>;
}
