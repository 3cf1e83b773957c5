//! The host's word at the end of a turn, and checkpoints as clients see them.

use milepost_ledger::{Account, Address, CheckpointRecord, Digest, TokenCount, TokenSeq};
use milepost_statement::{Domain, SigningKey, request_digest};
use serde::{Deserialize, Serialize};

/// A signed [`milepost_statement::TurnReceipt`], with what is needed to check the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The job, or 0 for a free account.
    pub job_id: String,
    /// The turn's request id.
    pub request_id: String,
    /// Its digest.
    #[schema(value_type = String)]
    pub request_digest: Digest,
    /// Head of the last sealed checkpoint.
    #[schema(value_type = String)]
    pub sealed_head: Digest,
    /// Tokens sealed in all.
    #[schema(value_type = u64)]
    pub sealed_tokens: TokenCount,
    /// Tokens metered since.
    #[schema(value_type = u64)]
    pub open_tokens: TokenCount,
    /// Digest of the open tokens.
    #[schema(value_type = String)]
    pub open_digest: Digest,
    /// Chain id of the signing domain; 0 in log mode.
    pub chain_id: u64,
    /// Contract of the signing domain; zero in log mode.
    #[schema(value_type = String)]
    pub marketplace: Address,
    /// Who signed; null in log mode.
    #[schema(value_type = Option<String>)]
    pub signer: Option<Address>,
    /// The signature; null in log mode.
    pub signature: Option<String>,
}

impl Receipt {
    /// The receipt of an account as it stands, for a request of it.
    pub(crate) fn of(account: &Account, request: &str, key: Option<&SigningKey>) -> Self {
        let receipt = account.receipt(request_digest(request));
        let domain = account.record.terms.as_ref().map(|terms| Domain { chain_id: terms.chain, marketplace: terms.marketplace });
        // Without terms there is no domain to sign for: a signature would say nothing that a chain could check.
        let signed = domain.as_ref().zip(key).map(|(domain, key)| (key.address(), key.sign(&receipt.digest(domain))));
        Self {
            job_id: receipt.job_id.to_string(),
            request_id: request.to_owned(),
            request_digest: receipt.request,
            sealed_head: receipt.sealed_head,
            sealed_tokens: receipt.sealed_tokens,
            open_tokens: receipt.open_tokens,
            open_digest: receipt.open_digest,
            chain_id: domain.map_or(0, |domain| domain.chain_id.0),
            marketplace: domain.map_or(Address::ZERO, |domain| domain.marketplace),
            signer: signed.map(|(address, _)| address),
            signature: signed.map(|(_, signature)| format!("0x{}", hex::encode(signature))),
        }
    }
}

/// A sealed checkpoint, as announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Seal {
    /// Number in the job, from 0.
    pub number: u64,
    /// First token.
    #[schema(value_type = u64)]
    pub first_seq: TokenSeq,
    /// Tokens.
    #[schema(value_type = u64)]
    pub count: TokenCount,
    /// Digest of the turns that begin in it.
    #[schema(value_type = String)]
    pub turns_digest: Digest,
    /// Head before.
    #[schema(value_type = String)]
    pub head_before: Digest,
    /// Head after.
    #[schema(value_type = String)]
    pub head: Digest,
}

impl From<&CheckpointRecord> for Seal {
    fn from(record: &CheckpointRecord) -> Self {
        Self {
            number: record.number,
            first_seq: record.first,
            count: record.count,
            turns_digest: record.turns_digest,
            head_before: record.head_before,
            head: record.head_after,
        }
    }
}
