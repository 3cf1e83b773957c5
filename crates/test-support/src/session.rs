//! What others than the node do with a session, and what can be seen of it from outside.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol_types::{SolEvent, SolEventInterface};

use crate::bindings::{HostEarnings, JobMarketplace, TestUSDC};
use crate::{Deployment, DevChain, Error};

/// The terms of a session to fund.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Deposit in 10⁻⁶ USDC.
    pub deposit: u64,
    /// Price per token; the host's own if not given.
    pub price: Option<u64>,
    /// Expected tokens per second.
    pub expected_rate: u32,
    /// Longest duration in seconds.
    pub max_duration: u64,
    /// Idle timeout in seconds.
    pub timeout_seconds: u64,
    /// Least charge in 10⁻⁶ USDC.
    pub minimum_charge: u64,
    /// Who countersigns; zero for nobody.
    pub voucher_signer: Address,
    /// Tokens claimable beyond the last voucher.
    pub voucher_allowance: u64,
    /// SHA-256 of the salt; zero for none.
    pub salt_commitment: B256,
}

impl Default for SessionOptions {
    /// 2 USDC, ten tokens per second, one hour, twenty minutes without a claim.
    fn default() -> Self {
        Self {
            deposit: 2_000_000,
            price: None,
            expected_rate: 10,
            max_duration: 3_600,
            timeout_seconds: 1_200,
            minimum_charge: 0,
            voucher_signer: Address::ZERO,
            voucher_allowance: 0,
            salt_commitment: B256::ZERO,
        }
    }
}

/// An event of a job as the chain logged it.
#[derive(Clone, Debug)]
pub struct JobEvent {
    /// Height of its block.
    pub block: u64,
    /// Its transaction.
    pub transaction: B256,
    /// What it says.
    pub event: JobMarketplace::JobMarketplaceEvents,
}

impl Deployment {
    /// Funds a session in USDC from the depositor; answers the job's number.
    pub async fn create_session(&self, chain: &DevChain, options: SessionOptions) -> Result<u64, Error> {
        let depositor = self.actors.depositor.address;
        let deposit = U256::from(options.deposit);
        chain.transact(depositor, self.usdc, TestUSDC::approveCall { spender: self.marketplace, value: deposit }).await?;
        let terms = JobMarketplace::SessionTerms {
            host: self.actors.host.address,
            token: self.usdc,
            deposit,
            pricePerToken: U256::from(options.price.unwrap_or(self.price)),
            modelDigest: self.model,
            expectedRate: options.expected_rate,
            maxDuration: options.max_duration,
            timeoutSeconds: options.timeout_seconds,
            minimumCharge: U256::from(options.minimum_charge),
            verifier: Address::ZERO,
            voucherSigner: options.voucher_signer,
            voucherAllowance: options.voucher_allowance,
            saltCommitment: options.salt_commitment,
        };
        let receipt = chain.transact(depositor, self.marketplace, JobMarketplace::createSessionCall { terms }).await?;
        let created = receipt.inner.logs().iter().find_map(|log| JobMarketplace::SessionCreated::decode_log(&log.inner).ok());
        let job = created.and_then(|created| u64::try_from(created.jobId).ok());
        job.ok_or_else(|| Error::Answer { what: "createSession".to_owned(), answer: "no SessionCreated with a job number".to_owned() })
    }

    /// The depositor asks for the close.
    pub async fn depositor_closes(&self, chain: &DevChain, job: u64) -> Result<(), Error> {
        let call = JobMarketplace::requestCloseCall { jobId: U256::from(job) };
        chain.transact(self.actors.depositor.address, self.marketplace, call).await.map(|_| ())
    }

    /// Somebody without a role asks for the close.
    pub async fn stranger_closes(&self, chain: &DevChain, job: u64) -> Result<(), Error> {
        let call = JobMarketplace::requestCloseCall { jobId: U256::from(job) };
        chain.transact(self.actors.stranger.address, self.marketplace, call).await.map(|_| ())
    }

    /// Somebody finalizes.
    pub async fn finalize(&self, chain: &DevChain, from: Address, job: u64) -> Result<(), Error> {
        chain.transact(from, self.marketplace, JobMarketplace::finalizeCall { jobId: U256::from(job) }).await.map(|_| ())
    }

    /// The job as the contract holds it.
    pub async fn session(&self, chain: &DevChain, job: u64) -> Result<JobMarketplace::Session, Error> {
        chain.view(self.marketplace, JobMarketplace::getSessionCall { jobId: U256::from(job) }).await
    }

    /// USDC of an account, in 10⁻⁶.
    pub async fn usdc_of(&self, chain: &DevChain, account: Address) -> Result<u64, Error> {
        chain.view(self.usdc, TestUSDC::balanceOfCall { account }).await.map(small)
    }

    /// What the host can withdraw, in 10⁻⁶ USDC.
    pub async fn earned(&self, chain: &DevChain) -> Result<u64, Error> {
        chain.view(self.earnings, HostEarnings::getBalanceCall { host: self.actors.host.address, token: self.usdc }).await.map(small)
    }

    /// Fees gathered, in 10⁻⁶ USDC.
    pub async fn treasury(&self, chain: &DevChain) -> Result<u64, Error> {
        chain.view(self.marketplace, JobMarketplace::treasuryBalanceCall { token: self.usdc }).await.map(small)
    }

    /// Every event of a job, oldest first.
    pub async fn events(&self, chain: &DevChain, job: u64) -> Result<Vec<JobEvent>, Error> {
        let filter = Filter::new().address(self.marketplace).from_block(0).topic1(U256::from(job));
        let logs = chain.provider().get_logs(&filter).await;
        let logs = logs.map_err(|source| Error::Rpc { what: "the job's logs".to_owned(), source: Box::new(source) })?;
        let wrong = |answer: String| Error::Answer { what: "the job's logs".to_owned(), answer };
        logs.into_iter()
            .map(|log| {
                let event = JobMarketplace::JobMarketplaceEvents::decode_log(&log.inner).map_err(|error| wrong(error.to_string()))?.data;
                let place = log.block_number.zip(log.transaction_hash).ok_or_else(|| wrong("a log without a block".to_owned()))?;
                Ok(JobEvent { block: place.0, transaction: place.1, event })
            })
            .collect()
    }
}

/// Test money fits in 64 bits; anything else is shown as the most that does.
fn small(amount: U256) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}
