//! What can happen. Each variant says who reports it and what must be true before it is reported.

use milepost_statement::{Digest, JobId, Salt, Sampler, TokenCount, TokenId, TokenSeq};
use serde::{Deserialize, Serialize};

use crate::{AccountId, Attempt, BlockRef, ClaimId, Outcome, Payout, ProofMeta, Purpose, Terms, TxId, UnixSeconds};

/// Opens an account.
#[derive(Clone, Debug)]
pub struct OpenAccount {
    /// Whose.
    pub id: AccountId,
    /// What it was funded with; `None` in log mode and for free labels.
    pub terms: Option<Terms>,
    /// The client's salt; zero where the terms have no commitment.
    pub salt: Salt,
    /// Digest of the model that serves it.
    pub model: Digest,
    /// Tokens of a checkpoint, 1 to 65,536.
    pub threshold: u32,
    /// Now.
    pub at: UnixSeconds,
}

/// Begins a turn.
#[derive(Clone, Debug)]
pub struct StartTurn {
    /// The account.
    pub account: AccountId,
    /// The request's id, unique in its account.
    pub request: String,
    /// Digest of the request's body, to tell a retry from another request under the same id.
    pub body: Digest,
    /// Digest of the prompt's token ids.
    pub prompt: Digest,
    /// Number of prompt tokens (not billed).
    pub prompt_tokens: u32,
    /// Sampler settings.
    pub sampler: Sampler,
    /// Now.
    pub at: UnixSeconds,
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// End-of-generation token (it counts).
    Stop,
    /// A stop sequence of the request.
    StopSequence,
    /// `max_tokens` reached.
    Length,
    /// The model's context is full.
    Context,
    /// Cancelled by the client.
    Cancelled,
    /// The connection went away.
    Disconnected,
    /// Nothing further could be paid: deposit, rate cap, deadline or allowance.
    Escrow,
    /// The node died while generating; found at the next start.
    Interrupted,
    /// The engine failed.
    EngineFailed,
    /// The session ended under it.
    SessionEnded,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The depositor asked this host.
    ByClient,
    /// Somebody requested the close on chain.
    OnChain,
    /// Idle, or the socket's grace period ran out.
    Idle,
    /// The job's longest duration is near.
    Deadline,
    /// The operator, or a drain.
    ByHost,
}

/// Why tokens will not be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteOff {
    /// Fewer than the contract's minimum.
    BelowMinimum,
    /// The window closed before the claim landed.
    TimedOut,
    /// The session was completed on chain before the claim landed.
    ClosedEarly,
    /// Beyond what the deposit pays for.
    Deposit,
    /// Accounted for by somebody else (chain ahead of the ledger).
    Foreign,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session was accepted.
    Open(Box<OpenAccount>),
    /// A request was admitted.
    StartTurn(Box<StartTurn>),
    /// The engine sampled tokens for the active turn; the first has position `at`.
    Metered {
        /// The account.
        account: AccountId,
        /// Position of the first.
        at: TokenSeq,
        /// Their ids, at least one.
        ids: Vec<TokenId>,
    },
    /// The active turn is over.
    EndTurn {
        /// The account.
        account: AccountId,
        /// Why.
        reason: EndReason,
        /// Now.
        at: UnixSeconds,
    },
    /// No further tokens for this account: ends the active turn, seals the rest.
    EndSession {
        /// The account.
        account: AccountId,
        /// Why.
        reason: SessionEnd,
        /// Now.
        at: UnixSeconds,
    },
    /// The client countersigned a running total (signature already checked).
    Voucher {
        /// The account.
        account: AccountId,
        /// Running total.
        tokens: TokenCount,
        /// The signature, to be shown to the contract.
        signature: Vec<u8>,
    },
    /// The planner chose a claim that ends at checkpoint end `until`.
    PlanClaim {
        /// The job.
        job: JobId,
        /// End of the claim.
        until: TokenSeq,
        /// Now.
        at: UnixSeconds,
    },
    /// A prover is being asked.
    Proving {
        /// The claim.
        claim: ClaimId,
    },
    /// A proof was verified and its receipt stored.
    Proved {
        /// The claim.
        claim: ClaimId,
        /// What is kept of it.
        proof: ProofMeta,
    },
    /// The claim is given up before it was signed: the chain has moved on.
    AbandonClaim {
        /// The claim.
        claim: ClaimId,
        /// Why.
        reason: String,
    },
    /// A transaction, or a further attempt of one, was signed. It is sent only after this is durable. One that carries several claims
    /// applies to all of them or, if one of their accounts may not sign, to none.
    TxSigned {
        /// Key and nonce.
        id: TxId,
        /// What for.
        purpose: Purpose,
        /// The signed form.
        attempt: Attempt,
    },
    /// It was handed to an endpoint.
    TxSent {
        /// Key and nonce.
        id: TxId,
    },
    /// It is in a canonical block.
    TxIncluded {
        /// Key and nonce.
        id: TxId,
        /// Which attempt.
        hash: Digest,
        /// The block.
        block: BlockRef,
        /// What it did.
        outcome: Outcome,
    },
    /// Its block is no longer canonical.
    TxReorged {
        /// Key and nonce.
        id: TxId,
    },
    /// Its block is final.
    TxFinal {
        /// Key and nonce.
        id: TxId,
    },
    /// At finality depth its nonce belongs to a foreign transaction.
    TxReplaced {
        /// Key and nonce.
        id: TxId,
    },
    /// The chain says the job is closing.
    ClosingSeen {
        /// The job.
        job: JobId,
        /// Claims are accepted until then.
        until: UnixSeconds,
        /// Now.
        at: UnixSeconds,
    },
    /// The payout is final on chain, and so is every claim that it pays for. The session has ended here. `rest` names why the tokens beyond it are lost, where there are any.
    Paid {
        /// The job.
        job: JobId,
        /// The split as the chain's event says.
        payout: Payout,
        /// Why the rest is written off.
        rest: Option<WriteOff>,
    },
    /// Something that must not be continued without an operator.
    Halt {
        /// The account.
        account: AccountId,
        /// What.
        reason: String,
    },
    /// The operator has looked: a halted account may go on.
    Resume {
        /// The account.
        account: AccountId,
    },
    /// Forget a finished account in memory; its records stay, and it is not opened again.
    Retire {
        /// The account.
        account: AccountId,
    },
}
