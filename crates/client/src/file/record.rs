//! What is stored of a session.

use milepost_statement::{Address, ChainId, Digest, JobId, Salt, SignedQuote, TokenCount, TokenId, TokenSeq};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::transcript::{Checkpoint, JobIdentity};
use crate::wire::salt_hex;
use crate::{Amount, Capture, CapturedTurn, ChatRequest};

/// Format of the snapshot.
const FORMAT: u32 = 1;

/// How far the funding is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Funding {
    /// The transaction was signed; it may have been sent. Stored before it is sent, so that no deposit is ever lost sight of.
    Signed {
        /// Its hash.
        hash: Digest,
        /// Its raw bytes in hexadecimal digits, to be sent again where nobody knows it.
        raw: String,
    },
    /// The session exists on chain.
    Funded {
        /// The job.
        job_id: JobId,
        /// Block of its creation: where its logs begin.
        block: u64,
    },
}

/// Voucher terms and the last voucher given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherState {
    /// Tokens that may be claimed beyond the last voucher.
    pub allowance: TokenCount,
    /// Running total of the last voucher signed.
    pub given: TokenCount,
}

/// Through which door a turn was begun, and is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// `/v1/ws`.
    Socket,
    /// `/v1/chat/completions`.
    Http,
}

/// A turn that was begun and is not finished: enough to send the same request again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveTurn {
    /// The request, with its id.
    pub request: ChatRequest,
    /// Position of its first token.
    pub start: TokenSeq,
    /// The door.
    pub door: Door,
}

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this file.
    pub format: u32,
    /// RPC endpoint.
    pub rpc: String,
    /// Chain id.
    pub chain_id: ChainId,
    /// The marketplace.
    pub marketplace: Address,
    /// The host.
    pub host: Address,
    /// Where it serves.
    pub host_url: String,
    /// SHA-256 of the model file.
    pub model_digest: Digest,
    /// Payment token; zero for the chain's coin.
    pub token: Address,
    /// Deposit.
    pub deposit: Amount,
    /// Price of a token.
    pub price: Amount,
    /// Least charge of the session.
    pub minimum_charge: Amount,
    /// The depositor.
    pub depositor: Address,
    /// The salt.
    #[serde(with = "salt_hex")]
    pub salt: Salt,
    /// Whether the job exists yet.
    pub funding: Funding,
    /// The host's session token.
    pub access: Option<String>,
    /// The host's quote that the session was funded on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<SignedQuote>,
    /// What the client spends at most, where that is less than the deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Amount>,
    /// Vouchers, where the terms name this client as signer.
    pub voucher: Option<VoucherState>,
    /// Token ids by position.
    pub ids: Vec<TokenId>,
    /// Announced checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// Finished turns.
    pub turns: Vec<CapturedTurn>,
    /// The unfinished turn.
    pub active: Option<ActiveTurn>,
    /// Why the session was stopped, if a check failed.
    pub stopped: Option<String>,
}

/// What is appended between two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Tokens; the first has position `at`.
    Tokens {
        /// Position of the first.
        at: TokenSeq,
        /// Their ids.
        ids: Vec<TokenId>,
    },
    /// A checkpoint was announced.
    Checkpoint(Checkpoint),
    /// A turn was begun.
    Begin(Box<ActiveTurn>),
    /// The unfinished turn ended.
    End(Box<CapturedTurn>),
    /// The host refused the unfinished turn before it began.
    Refused {
        /// Its request's id.
        request_id: String,
    },
    /// A voucher was signed.
    Voucher {
        /// Running total.
        tokens: TokenCount,
    },
    /// A check failed.
    Stopped {
        /// What was found.
        reason: String,
    },
}

impl Record {
    /// The format this version writes.
    pub const FORMAT: u32 = FORMAT;

    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| Error::Damaged { place: "the snapshot".into(), reason: error.to_string() };
        let Format { format } = serde_json::from_str(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(Error::Newer { found: format, known: FORMAT });
        }
        serde_json::from_str(text).map_err(damaged)
    }

    /// Applies an entry; one that is in the snapshot already changes nothing.
    pub(super) fn apply(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Tokens { at, ids } => self.apply_tokens(at, &ids),
            Entry::Checkpoint(checkpoint) => {
                if !self.checkpoints.iter().any(|known| known.number == checkpoint.number) {
                    self.checkpoints.push(checkpoint);
                }
                Ok(())
            }
            Entry::Begin(turn) => {
                if !self.finished(&turn.request.request_id) {
                    self.active = Some(*turn);
                }
                Ok(())
            }
            Entry::End(turn) => {
                if self.active.as_ref().is_some_and(|active| active.request.request_id == turn.request_id) {
                    self.active = None;
                }
                if !self.finished(&turn.request_id) {
                    self.turns.push(*turn);
                }
                Ok(())
            }
            Entry::Refused { request_id } => {
                if self.active.as_ref().is_some_and(|active| active.request.request_id == request_id) {
                    self.active = None;
                }
                Ok(())
            }
            Entry::Voucher { tokens } => {
                if let Some(voucher) = &mut self.voucher {
                    voucher.given = voucher.given.max(tokens);
                }
                Ok(())
            }
            Entry::Stopped { reason } => {
                self.stopped = Some(reason);
                Ok(())
            }
        }
    }

    fn apply_tokens(&mut self, at: TokenSeq, ids: &[TokenId]) -> Result<(), String> {
        let have = TokenSeq(self.ids.len() as u64);
        let known = have.since(at).ok_or_else(|| format!("tokens {have} to {at} are missing"))?;
        let known = usize::try_from(known.0).unwrap_or(usize::MAX).min(ids.len());
        let start = self.ids.len().min(usize::try_from(at.0).unwrap_or(usize::MAX));
        if self.ids[start..start + known] != ids[..known] {
            return Err(format!("tokens from {at} on are there with other ids"));
        }
        self.ids.extend_from_slice(&ids[known..]);
        Ok(())
    }

    fn finished(&self, request_id: &str) -> bool {
        self.turns.iter().any(|turn| turn.request_id == request_id)
    }

    /// Which job it is, once it is funded.
    pub fn identity(&self) -> Option<JobIdentity> {
        let Funding::Funded { job_id, .. } = self.funding else { return None };
        Some(JobIdentity {
            chain_id: self.chain_id,
            marketplace: self.marketplace,
            job_id,
            host: self.host,
            model_digest: self.model_digest,
        })
    }

    /// The part that auditors read.
    pub fn capture(&self) -> Option<Capture> {
        let job = self.identity()?;
        Some(Capture {
            job_id: job.job_id,
            salt: self.salt,
            chain_id: job.chain_id,
            marketplace: job.marketplace,
            host: job.host,
            model_digest: job.model_digest,
            ids: self.ids.clone(),
            turns: self.turns.clone(),
            checkpoints: self.checkpoints.clone(),
            last_receipt: self.turns.iter().rev().find_map(|turn| turn.receipt.clone()),
        })
    }
}
