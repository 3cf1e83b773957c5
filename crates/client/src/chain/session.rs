//! A session as the chain has it.

use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use milepost_statement::{Address, Digest, JobId, TokenCount};

use super::{Chain, address, digest, eth_address, job_word, rpc_error};
use crate::abi::{Erc20, JobMarketplace, SessionView, Status};
use crate::{Amount, Error};

/// Where a job stands on chain, and what it was funded with.
#[derive(Clone, Debug)]
pub struct SessionState {
    /// The depositor.
    pub depositor: Address,
    /// The contract's status.
    pub status: Status,
    /// Tokens claimed.
    pub tokens_used: TokenCount,
    /// Head after the last claim.
    pub head: Digest,
    /// Unix seconds until which claims are accepted in Closing; 0 while Active.
    pub claim_until: u64,
    /// Everything, as the contract answers it.
    pub view: SessionView,
}

/// The contract's payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Tokens paid for.
    pub tokens_used: TokenCount,
    /// To the host.
    pub host: Amount,
    /// To the treasury.
    pub treasury: Amount,
    /// Back to the depositor.
    pub refund: Amount,
    /// The transaction.
    pub tx: B256,
    /// Its block.
    pub block: u64,
}

/// A claim that the contract took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainClaim {
    /// Tokens claimed by it.
    pub count: TokenCount,
    /// Tokens claimed in all after it.
    pub tokens_used: TokenCount,
    /// Head after it.
    pub head_after: Digest,
    /// The transaction.
    pub tx: B256,
}

impl Chain {
    /// Every claim of a job that the contract took from block `from` on, oldest first.
    pub async fn claims(&self, job: JobId, from: u64) -> Result<Vec<ChainClaim>, Error> {
        let filter = Filter::new()
            .address(eth_address(self.marketplace()))
            .event_signature(JobMarketplace::ProofOfWork::SIGNATURE_HASH)
            .topic1(job_word(job))
            .from_block(from);
        let logs = self.provider.get_logs(&filter).await.map_err(rpc_error)?;
        logs.iter()
            .map(|log| {
                let event = log.log_decode::<JobMarketplace::ProofOfWork>().map_err(|error| Error::Rpc(format!("ProofOfWork: {error}")))?;
                let data = event.inner.data;
                Ok(ChainClaim {
                    count: TokenCount(u64::try_from(data.tokensClaimed).map_err(|_| too_large("tokensClaimed"))?),
                    tokens_used: TokenCount(u64::try_from(data.tokensUsed).map_err(|_| too_large("tokensUsed"))?),
                    head_after: digest(data.headAfter),
                    tx: log.transaction_hash.ok_or_else(|| Error::Rpc("a log without a transaction".into()))?,
                })
            })
            .collect()
    }

    /// Reads a job.
    pub async fn session(&self, job: JobId) -> Result<SessionState, Error> {
        let view = self.read("getSession", self.marketplace(), JobMarketplace::getSessionCall { jobId: job_word(job) }).await?;
        if view.status == Status::None {
            return Err(Error::NoJob(job));
        }
        Ok(SessionState {
            depositor: address(view.depositor),
            status: view.status,
            tokens_used: TokenCount(view.tokensUsed),
            head: digest(view.head),
            claim_until: view.claimUntil,
            view,
        })
    }

    /// The payout's event, if there is one from block `from` on.
    pub async fn completed(&self, job: JobId, from: u64) -> Result<Option<Completed>, Error> {
        let filter = Filter::new()
            .address(eth_address(self.marketplace()))
            .event_signature(JobMarketplace::SessionCompleted::SIGNATURE_HASH)
            .topic1(job_word(job))
            .from_block(from);
        let logs = self.provider.get_logs(&filter).await.map_err(rpc_error)?;
        let Some(log) = logs.first() else { return Ok(None) };
        let event =
            log.log_decode::<JobMarketplace::SessionCompleted>().map_err(|error| Error::Rpc(format!("SessionCompleted: {error}")))?;
        let data = event.inner.data;
        Ok(Some(Completed {
            tokens_used: TokenCount(u64::try_from(data.tokensUsed).map_err(|_| too_large("tokensUsed"))?),
            host: amount("hostPaid", data.hostPaid)?,
            treasury: amount("treasuryFee", data.treasuryFee)?,
            refund: amount("refund", data.refund)?,
            tx: log.transaction_hash.ok_or_else(|| Error::Rpc("a log without a transaction".into()))?,
            block: log.block_number.ok_or_else(|| Error::Rpc("a log without a block".into()))?,
        }))
    }

    /// What the marketplace owes `account` because a push failed.
    pub async fn credit(&self, account: Address, token: Address) -> Result<Amount, Error> {
        let call = JobMarketplace::creditsCall { account: eth_address(account), token: eth_address(token) };
        amount("credits", self.read("credits", self.marketplace(), call).await?)
    }

    /// The treasury's fee in basis points.
    pub async fn fee_bps(&self) -> Result<u16, Error> {
        let bps = self.read("feeBps", self.marketplace(), JobMarketplace::feeBpsCall {}).await?;
        u16::try_from(bps).map_err(|_| too_large("feeBps"))
    }

    /// What `account` holds of `token`; the chain's coin where it is zero.
    pub async fn balance(&self, account: Address, token: Address) -> Result<Amount, Error> {
        let word = if token == Address::ZERO {
            self.provider.get_balance(eth_address(account)).await.map_err(rpc_error)?
        } else {
            self.read("balanceOf", token, Erc20::balanceOfCall { account: eth_address(account) }).await?
        };
        amount("balance", word)
    }

    /// Time of the latest block, Unix seconds: the clock that the contract goes by.
    pub async fn now(&self) -> Result<u64, Error> {
        let block = self.provider.get_block_by_number(alloy::eips::BlockNumberOrTag::Latest).await.map_err(rpc_error)?;
        block.map(|block| block.header.timestamp).ok_or_else(|| Error::Rpc("there is no latest block".into()))
    }
}

fn amount(what: &str, word: U256) -> Result<Amount, Error> {
    Amount::from_word(word).ok_or_else(|| too_large(what))
}

fn too_large(what: &str) -> Error {
    Error::Rpc(format!("{what} is larger than the contract can make it"))
}
