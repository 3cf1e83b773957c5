//! Our own marketplace, whose ABI is in `contracts/artifacts`.

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes, U256};
use alloy::rpc::types::Log;
use alloy::sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use milepost_ledger::{JobId, Payout, TokenCount, TokenSeq};
use milepost_prover::BoxFuture;

use super::{Adapter, ClaimLog, ClaimParts, Function, identify, malformed};
use crate::Error;
use crate::bindings::JobMarketplace::{self, Claim};
use crate::chain::{Chain, Constants, OnChain};
use crate::convert::{amount, digest, small};

/// The generation of this repository.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    /// The contract at hand submits several claims at once, and says how many.
    pub(crate) batches: bool,
}

impl Adapter for Ours {
    fn name(&self) -> &'static str {
        "milepost marketplace (proofs of the transcript, closing window)"
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn wants_content(&self) -> bool {
        false
    }

    fn functions(&self) -> Vec<Function> {
        identify::ours()
    }

    fn constants<'a>(&'a self, chain: &'a Chain) -> BoxFuture<'a, Result<Constants, Error>> {
        Box::pin(crate::chain::read_constants(chain, self.batches))
    }

    fn job<'a>(&'a self, chain: &'a Chain, job: JobId, block: BlockId) -> BoxFuture<'a, Result<Option<OnChain>, Error>> {
        Box::pin(chain.our_job_at(job, block))
    }

    /// A function of the claim's statement, the kind of proof and the voucher at hand.
    fn claim(&self, parts: &ClaimParts<'_>) -> Result<Bytes, Error> {
        let (claim, proof) = (parts.claim, parts.proof);
        let voucher = parts
            .voucher
            .map_or_else(Vec::new, |(tokens, signature)| (U256::from(tokens.0), Bytes::copy_from_slice(signature)).abi_encode_params());
        let bytes = milepost_statement::encode_proof(proof.kind, &claim.statement.journal(), &[], &voucher);
        let call = JobMarketplace::submitProofOfWorkCall {
            jobId: U256::from(claim.id.job.0),
            tokensClaimed: U256::from(claim.statement.count.0),
            proof: bytes.into(),
        };
        Ok(call.abi_encode().into())
    }

    fn claims(&self, calls: &[Bytes]) -> Result<Option<Bytes>, Error> {
        if !self.batches {
            return Ok(None);
        }
        let claim = |call: &Bytes| {
            let call = JobMarketplace::submitProofOfWorkCall::abi_decode(call);
            call.map(|call| Claim { jobId: call.jobId, tokensClaimed: call.tokensClaimed, proof: call.proof })
        };
        let claims = calls.iter().map(claim).collect::<Result<_, _>>();
        let claims = claims.map_err(|error| Error::Answer { what: "the call of a claim", answer: error.to_string() })?;
        Ok(Some(JobMarketplace::submitProofsOfWorkCall { claims }.abi_encode().into()))
    }

    fn accepted(&self, answer: &[u8]) -> Option<usize> {
        let accepted = JobMarketplace::submitProofsOfWorkCall::abi_decode_returns(answer).ok()?;
        usize::try_from(accepted).ok()
    }

    fn refused_of(&self, log: &Log) -> Result<Option<(JobId, usize, Bytes)>, Error> {
        if log.topic0() != Some(&JobMarketplace::ClaimRejected::SIGNATURE_HASH) {
            return Ok(None);
        }
        let event = JobMarketplace::ClaimRejected::decode_log(&log.inner).map_err(|error| malformed(&error))?;
        let index = usize::try_from(small("index", event.index)?).unwrap_or(usize::MAX);
        Ok(Some((JobId(small("jobId", event.jobId)?), index, event.data.reason)))
    }

    fn request_close(&self, job: JobId) -> Option<Bytes> {
        Some(JobMarketplace::requestCloseCall { jobId: U256::from(job.0) }.abi_encode().into())
    }

    fn complete(&self, job: JobId) -> Bytes {
        JobMarketplace::finalizeCall { jobId: U256::from(job.0) }.abi_encode().into()
    }

    fn claim_topics(&self) -> Vec<B256> {
        vec![JobMarketplace::ProofOfWork::SIGNATURE_HASH]
    }

    fn end_topics(&self) -> Vec<B256> {
        vec![JobMarketplace::SessionCompleted::SIGNATURE_HASH]
    }

    fn claim_of(&self, log: &Log) -> Result<ClaimLog, Error> {
        let event = JobMarketplace::ProofOfWork::decode_log(&log.inner).map_err(|error| malformed(&error))?;
        Ok(ClaimLog {
            count: TokenCount(small("tokensClaimed", event.tokensClaimed)?),
            used: Some(TokenSeq(small("tokensUsed", event.tokensUsed)?)),
            head: Some(digest(event.headAfter)),
            kind: event.kind,
        })
    }

    fn payout_of(&self, log: &Log) -> Result<Option<Payout>, Error> {
        let event = JobMarketplace::SessionCompleted::decode_log(&log.inner).map_err(|error| malformed(&error))?;
        Ok(Some(Payout {
            tokens: TokenCount(small("tokensUsed", event.tokensUsed)?),
            host: amount("hostPaid", event.hostPaid)?,
            treasury: amount("treasuryFee", event.treasuryFee)?,
            refund: amount("refund", event.refund)?,
        }))
    }
}
