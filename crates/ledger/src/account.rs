//! One account: its record, and what is kept in memory beside it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use milepost_statement::{ChainId, Digest, JobId, TokenCount, TokenId, TokenSeq, TurnReceipt, genesis_head, open_digest, salt_commitment};
use serde::{Deserialize, Serialize};

use crate::effect::AccountRecord;
use crate::event::{OpenAccount, SessionEnd};
use crate::{Address, Claim, Payout, UnixSeconds};

/// Whose transcript: a job's, or that of a free label (unbilled requests are metered and sealed all the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccountId {
    /// A job on the configured marketplace (or, in log mode, just a number).
    Job(JobId),
    /// Digest of a free session label.
    Free(Digest),
}

impl AccountId {
    /// The job, unless the account is a free label.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::Job(job) => Some(*job),
            Self::Free(_) => None,
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job) => write!(f, "{job}"),
            Self::Free(label) => write!(f, "free-{label}"),
        }
    }
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Requests are served.
    Open,
    /// No further tokens; the rest is sealed and being claimed.
    Ending {
        /// Why.
        reason: SessionEnd,
        /// Since when.
        since: UnixSeconds,
    },
    /// The payout is final; nothing is left to do.
    Paid(Payout),
}

/// Tokens metered since the last seal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenRun {
    /// Their ids; the first has position S.
    pub ids: Vec<TokenId>,
}

/// The request that is generating.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveTurn {
    /// Number of the turn in its account, from 0.
    pub number: u32,
    /// The request's id.
    pub request: String,
    /// Position of its first token.
    pub start: TokenSeq,
}

/// A sealed checkpoint that is not final yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// Number in the account, from 0.
    pub number: u64,
    /// First token.
    pub first: TokenSeq,
    /// Tokens.
    pub count: TokenCount,
    /// Head after it.
    pub head: Digest,
}

impl CheckpointMeta {
    /// Position after its last token.
    pub fn end(&self) -> TokenSeq {
        self.first + self.count
    }
}

/// An account as the ledger holds it: the durable record, and what recovery reads back from other tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// What is stored under the account's id.
    pub record: AccountRecord,
    /// Tokens since the last seal.
    pub open: OpenRun,
    /// Sealed checkpoints beyond F, in order.
    pub pending: VecDeque<CheckpointMeta>,
    /// Every request id of the account and the turn that answered it.
    pub requests: BTreeMap<String, u32>,
    /// The unresolved claim.
    pub claim: Option<Claim>,
}

impl Account {
    pub(crate) fn open(open: OpenAccount) -> Self {
        let (chain, marketplace, host, commitment) =
            open.terms.as_ref().map_or((ChainId(0), Address::ZERO, Address::ZERO, salt_commitment(&open.salt)), |terms| {
                (terms.chain, terms.marketplace, terms.host, terms.salt_commitment)
            });
        let job = open.id.job().unwrap_or_default();
        let head = genesis_head(chain, marketplace, job, host, open.model, commitment);
        Self {
            record: AccountRecord::new(open, head),
            open: OpenRun::default(),
            pending: VecDeque::new(),
            requests: BTreeMap::new(),
            claim: None,
        }
    }

    /// The account's id.
    pub fn id(&self) -> AccountId {
        self.record.id
    }

    /// Tokens the deposit pays for; `None` where nothing is billed.
    pub fn affordable(&self) -> Option<TokenCount> {
        self.record.terms.as_ref().map(crate::Terms::affordable)
    }

    /// Whether requests are served.
    pub fn is_open(&self) -> bool {
        self.record.phase == Phase::Open && self.record.halted.is_none()
    }

    /// What the host can sign at the end of a turn.
    pub fn receipt(&self, request: Digest) -> TurnReceipt {
        let record = &self.record;
        TurnReceipt {
            job_id: record.id.job().unwrap_or_default(),
            request,
            sealed_head: record.head,
            sealed_tokens: record.positions.sealed - TokenSeq::ZERO,
            open_tokens: TokenCount(self.open.ids.len() as u64),
            open_digest: open_digest(&record.head, record.positions.sealed, &self.open.ids),
        }
    }

    /// The last checkpoint that ends at or before `limit`, if any lies beyond F.
    pub fn last_checkpoint_until(&self, limit: TokenSeq) -> Option<&CheckpointMeta> {
        self.pending.iter().rev().find(|checkpoint| checkpoint.end() <= limit)
    }
}
