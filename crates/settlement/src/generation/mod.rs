//! The generations of the marketplace: ours, and those that others have deployed since September 2025.
//!
//! # The protocol
//!
//! Nothing is assumed about the contract at the configured address. Its code is read ([`identify`]), through proxies if need be; the
//! selectors in it say which generation it is; an [`Adapter`] then speaks that generation's language to the chain, and ours to the
//! rest of settlement. A contract that fits no generation, or more than one, is refused with what was found and what was missing.
//!
//! | generation | claim | session | completes | tells prices in |
//! |---|---|---|---|---|
//! | ours | proof of the transcript | heads, closing window, vouchers | `finalize` | units |
//! | bytes form (Sept 2025) | proof of 64 bytes or more | 15 or 16 words | `completeSessionJob(uint256)` or `(uint256,string)` | units |
//! | hash form (Oct, Dec 2025) | hash, content id | 18 words | `completeSessionJob(uint256,string)` | units, then thousandths |
//! | signed form (Jan 2026) | hash, host's signature, content id | 17 words | the same | thousandths |
//! | signed delta form (Jan 2026) | hash, signature, two content ids | 17 words | the same | thousandths |
//! | delta form (Feb 2026) | hash, two content ids | 17 words, or 18 with a timeout | the same | thousandths |
//!
//! What the deployed ones demand (minimum, fee, dispute window, precision) is read from their getters; the rate has none and is
//! measured by trial calls ([`rate`]).
//!
//! # Guarantees
//!
//! Every figure that money depends on comes from the contract at hand. Deployed contracts keep no transcript heads: there the count of
//! tokens claimed, and that every transaction is one of ours, is what a claim is held against.
//!
//! **Does not** notice that a proxy was given another implementation while the node runs: claims are tried before they are signed, so
//! that what the new one refuses is not sent; the node must be started again to speak to it.

mod content;
mod deployed;
mod forms;
mod identify;
mod ours;
mod publish;
mod rate;
#[cfg(feature = "s3")]
mod s3;
mod session;

pub use content::ContentId;
pub use forms::{deployed_functions, deployed_topics};
pub use identify::{Chosen, Hop, Identified, choose};
pub use publish::{Content, Folder, NodeServed, Publisher, published, publisher};
#[cfg(feature = "s3")]
pub use s3::ObjectStore;

pub(crate) use forms::{Refusal, refusal};
pub(crate) use identify::identify;

use std::fmt;

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes};
use alloy::rpc::types::Log;
use milepost_ledger::{Claim, Digest, JobId, ProofMeta, TokenCount, TokenSeq};
use milepost_prover::BoxFuture;

use crate::chain::{Chain, Constants, OnChain};
use crate::{Error, SubmitterKey};

/// A function by signature and selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Function {
    /// As in the ABI, without names.
    pub signature: &'static str,
    /// First four bytes of its keccak hash.
    pub selector: u32,
}

/// A claim as its transaction is made from it.
pub(crate) struct ClaimParts<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) proof: &'a ProofMeta,
    /// The client's running total and signature, where the terms have a voucher and one is at hand.
    pub(crate) voucher: Option<(TokenCount, &'a [u8])>,
    /// Who signs, where the generation wants the host's signature.
    pub(crate) key: &'a SubmitterKey,
    /// Content ids of receipt and statement, where the generation wants them.
    pub(crate) published: Option<(ContentId, ContentId)>,
}

/// A claim as one log tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimLog {
    pub(crate) count: TokenCount,
    /// Tokens claimed in all after it, where the log says so.
    pub(crate) used: Option<TokenSeq>,
    /// The head after it, where the contract keeps heads.
    pub(crate) head: Option<Digest>,
    /// Kind of proof; 0 where the contract does not know kinds.
    pub(crate) kind: u8,
}

/// One generation of the marketplace. Bytes in, values out; what must be asked is asked of the [`Chain`].
pub(crate) trait Adapter: Send + Sync + fmt::Debug {
    /// For people.
    fn name(&self) -> &'static str;

    /// Whether the contract keeps transcript heads and takes submitter keys and mock proofs by its own rules: only ours does.
    fn is_ours(&self) -> bool;

    /// Whether a claim names content that must be published first.
    fn wants_content(&self) -> bool;

    /// Functions of the marketplace that are called.
    fn functions(&self) -> Vec<Function>;

    /// Reads the contract's constants.
    fn constants<'a>(&'a self, chain: &'a Chain) -> BoxFuture<'a, Result<Constants, Error>>;

    /// Reads a job at a block; `None` if there is none.
    fn job<'a>(&'a self, chain: &'a Chain, job: JobId, block: BlockId) -> BoxFuture<'a, Result<Option<OnChain>, Error>>;

    /// Call data of a claim.
    fn claim(&self, parts: &ClaimParts<'_>) -> Result<Bytes, Error>;

    /// Call data that makes the claims of several jobs at once, each given as [`Self::claim`] made it; `None` where the contract at hand
    /// takes one at a time.
    fn claims(&self, calls: &[Bytes]) -> Result<Option<Bytes>, Error> {
        let _ = calls;
        Ok(None)
    }

    /// How many of several claims the call of [`Self::claims`] says that it accepted.
    fn accepted(&self, answer: &[u8]) -> Option<usize> {
        let _ = answer;
        None
    }

    /// Job, place among the claims, and the encoded reason, if the log says that one of several claims was refused.
    fn refused_of(&self, log: &Log) -> Result<Option<(JobId, usize, Bytes)>, Error> {
        let _ = log;
        Ok(None)
    }

    /// Call data that begins the closing window; `None` where there is none.
    fn request_close(&self, job: JobId) -> Option<Bytes>;

    /// Call data that ends the session and pays.
    fn complete(&self, job: JobId) -> Bytes;

    /// Topics of the events that tell of a claim.
    fn claim_topics(&self) -> Vec<B256>;

    /// Topics of the events that tell of the session's end.
    fn end_topics(&self) -> Vec<B256>;

    /// A claim from a log with one of the claim topics.
    fn claim_of(&self, log: &Log) -> Result<ClaimLog, Error>;

    /// The split from a log with one of the end topics; `None` where it is read from the job instead.
    fn payout_of(&self, log: &Log) -> Result<Option<milepost_ledger::Payout>, Error>;
}

pub(crate) fn malformed(error: &alloy::sol_types::Error) -> Error {
    Error::Answer { what: "a log", answer: error.to_string() }
}
