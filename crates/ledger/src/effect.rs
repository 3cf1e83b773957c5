//! What must become durable, and the records it becomes.

use milepost_statement::{Digest, Salt, Sampler, TokenCount, TokenId, TokenSeq, Turn};
use serde::{Deserialize, Serialize};

use crate::event::{EndReason, OpenAccount, WriteOff};
use crate::{AccountId, ActiveTurn, BlockRef, Claim, ClaimId, Phase, Positions, Terms, Tx, TxId, UnixSeconds};

/// A write. All effects of one event, in this order, belong into one atomic batch.
#[must_use = "an effect that is not written is money that is not there after a restart"]
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write the account's record under its id.
    PutAccount(Box<AccountRecord>),
    /// Write a run of token ids under account and first position.
    PutTokens {
        /// The account.
        account: AccountId,
        /// Position of the first.
        first: TokenSeq,
        /// Their ids.
        ids: Vec<TokenId>,
    },
    /// Write a turn under account and number, and its request id's index.
    PutTurn(Box<TurnRecord>),
    /// Close a turn's record: set its end, reason and time.
    EndTurn {
        /// The account.
        account: AccountId,
        /// Number in the account.
        number: u32,
        /// Position after its last token.
        end: TokenSeq,
        /// Why it ended.
        reason: EndReason,
        /// When.
        at: UnixSeconds,
    },
    /// Write a checkpoint under account and number.
    PutCheckpoint(Box<CheckpointRecord>),
    /// Write a claim under its id.
    PutClaim(Box<Claim>),
    /// Write a transaction under key and nonce.
    PutTx(Box<Tx>),
}

/// What is stored of an account. Token ids, turns, checkpoints, claims and transactions have tables of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Whose.
    pub id: AccountId,
    /// What it was funded with.
    pub terms: Option<Terms>,
    /// The client's salt.
    pub salt: Salt,
    /// Digest of the model that serves it.
    pub model: Digest,
    /// Tokens of a checkpoint.
    pub threshold: u32,
    /// When it was opened here.
    pub opened: UnixSeconds,
    /// Ownership epoch; only the box that holds it may append.
    pub epoch: u64,
    /// Where the session stands.
    pub phase: Phase,
    /// Why an operator must look, if so.
    pub halted: Option<String>,
    /// The seven positions.
    pub positions: Positions,
    /// Head after the last sealed checkpoint.
    pub head: Digest,
    /// Head after the last final claim.
    pub final_head: Digest,
    /// Checkpoints sealed so far.
    pub checkpoints: u64,
    /// Turns begun so far.
    pub turns: u32,
    /// The turn that is generating.
    pub active: Option<ActiveTurn>,
    /// Turns whose first token lies in the open run.
    pub open_turns: Vec<Turn>,
    /// The unresolved claim.
    pub claim: Option<ClaimId>,
    /// Block that made the last claim final: an older view of the chain says nothing new. `None` before the first.
    pub final_block: Option<BlockRef>,
    /// When the last final claim was planned, else the session's start: no later than the contract's last proof.
    pub last_claim: UnixSeconds,
    /// Plans made for the run that begins at F.
    pub plans: u32,
    /// How often our close or finalize reverted.
    pub closing_reverts: u32,
    /// No claim is planned before this (paced after a revert).
    pub not_before: UnixSeconds,
    /// Our transaction that requests the close.
    pub close: Option<TxId>,
    /// Our transaction that finalizes.
    pub finalize: Option<TxId>,
    /// The chain accepts claims until then, once it is closing.
    pub claim_until: Option<UnixSeconds>,
    /// Running total that the client countersigned.
    pub voucher: TokenCount,
    /// Its signature.
    pub voucher_signature: Vec<u8>,
    /// Why tokens were written off.
    pub write_off: Option<WriteOff>,
}

impl AccountRecord {
    pub(crate) fn new(open: OpenAccount, genesis: Digest) -> Self {
        let last_claim = open.terms.as_ref().map_or(open.at, |terms| terms.started);
        Self {
            id: open.id,
            terms: open.terms,
            salt: open.salt,
            model: open.model,
            threshold: open.threshold,
            opened: open.at,
            epoch: 0,
            phase: Phase::Open,
            halted: None,
            positions: Positions::default(),
            head: genesis,
            final_head: genesis,
            checkpoints: 0,
            turns: 0,
            active: None,
            open_turns: Vec::new(),
            claim: None,
            final_block: None,
            last_claim,
            plans: 0,
            closing_reverts: 0,
            not_before: UnixSeconds(0),
            close: None,
            finalize: None,
            claim_until: None,
            voucher: TokenCount::ZERO,
            voucher_signature: Vec::new(),
            write_off: None,
        }
    }
}

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// Generating, or interrupted and not yet noticed.
    Active,
    /// Over.
    Ended(EndReason),
}

/// What is stored of a turn: enough to answer the same request again, and for an auditor to run it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// The account.
    pub account: AccountId,
    /// Number in the account, from 0.
    pub number: u32,
    /// The request's id.
    pub request: String,
    /// Digest of the request's body.
    pub body: Digest,
    /// Position of its first token.
    pub start: TokenSeq,
    /// Position after its last token, once it has ended; else its start.
    pub end: TokenSeq,
    /// Where it stands.
    pub state: TurnState,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Digest of the prompt's ids.
    pub prompt: Digest,
    /// Sampler settings.
    pub sampler: Sampler,
    /// When it began.
    pub started: UnixSeconds,
    /// When it ended.
    pub ended: Option<UnixSeconds>,
}

/// What is stored of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The account.
    pub account: AccountId,
    /// Number in the account, from 0.
    pub number: u64,
    /// First token.
    pub first: TokenSeq,
    /// Tokens.
    pub count: TokenCount,
    /// Digest of the turns that begin in it.
    pub turns_digest: Digest,
    /// The turns that begin in it.
    pub turns: Vec<Turn>,
    /// Head before.
    pub head_before: Digest,
    /// Head after.
    pub head_after: Digest,
}
