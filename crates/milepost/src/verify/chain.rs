//! What a chain says of a claim, over JSON-RPC.

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{TxKind, U256};
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::{Filter, Log, TransactionRequest};
use alloy::sol_types::{SolCall as _, SolEvent as _};
use milepost_bundle::{Event, Facts, Header, Job, Reader};
use milepost_client::abi::{JobMarketplace, Status};
use milepost_client::chain::{address, digest, eth_address, eth_hash, job_word};
use milepost_statement::{Address, ChainId, Statement, TokenCount};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An endpoint that somebody named: it is believed in what it says of its chain, and in nothing else.
pub(super) struct Endpoint(RootProvider);

impl Endpoint {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        milepost_client::init_tls();
        let url = url.parse().map_err(|error| format!("--rpc is no URL: {error}"))?;
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
        Ok(Self(ProviderBuilder::default().connect_reqwest(http, url)))
    }

    async fn job(&self, statement: &Statement) -> Result<Option<Job>, String> {
        let marketplace = eth_address(statement.marketplace);
        if self.0.get_code_at(marketplace).await.map_err(said)?.is_empty() {
            return Ok(None);
        }
        let call = JobMarketplace::getSessionCall { jobId: job_word(statement.job_id) };
        let request =
            TransactionRequest { to: Some(TxKind::Call(marketplace)), input: call.abi_encode().into(), ..TransactionRequest::default() };
        let answer = self.0.call(request).await.map_err(said)?;
        let view = JobMarketplace::getSessionCall::abi_decode_returns(&answer).map_err(|error| format!("getSession: {error}"))?;
        if view.status == Status::None {
            return Ok(None);
        }
        Ok(Some(Job {
            host: address(view.terms.host),
            model_digest: digest(view.terms.modelDigest),
            salt_commitment: digest(view.terms.saltCommitment),
            voucher_signer: Some(address(view.terms.voucherSigner)).filter(|signer| *signer != Address::ZERO),
            tokens_used: TokenCount(view.tokensUsed),
            head: digest(view.head),
        }))
    }

    async fn events(&self, statement: &Statement, filter: Filter) -> Result<Vec<Event>, String> {
        let filter = filter
            .address(eth_address(statement.marketplace))
            .event_signature(JobMarketplace::ProofOfWork::SIGNATURE_HASH)
            .topic1(job_word(statement.job_id));
        let logs = self.0.get_logs(&filter).await.map_err(said)?;
        logs.iter().map(event).collect()
    }
}

impl Reader for Endpoint {
    async fn facts(&self, statement: &Statement, header: Option<&Header>) -> Result<Facts, String> {
        let chain_id = ChainId(self.0.get_chain_id().await.map_err(said)?);
        let height = self.0.get_block_number().await.map_err(said)?;
        let mut facts = Facts { chain_id, job: None, block: None, events: Vec::new(), height };
        if chain_id != statement.chain_id {
            return Ok(facts);
        }
        facts.job = self.job(statement).await?;
        match header {
            Some(header) => {
                let block = self.0.get_block_by_number(BlockNumberOrTag::Number(header.number)).await.map_err(said)?;
                facts.block = block.map(|block| digest(block.header.hash));
                if facts.block == Some(header.hash) {
                    facts.events = self.events(statement, Filter::new().at_block_hash(eth_hash(header.hash))).await?;
                }
            }
            None => facts.events = self.events(statement, Filter::new().from_block(0)).await?,
        }
        Ok(facts)
    }
}

fn event(log: &Log) -> Result<Event, String> {
    let data = JobMarketplace::ProofOfWork::decode_log(&log.inner).map_err(|error| format!("ProofOfWork: {error}"))?.data;
    let number = |word: U256| u64::try_from(word).map(TokenCount).map_err(|_| "ProofOfWork: a number beyond 64 bits".to_owned());
    Ok(Event {
        count: number(data.tokensClaimed)?,
        used: number(data.tokensUsed)?,
        head: digest(data.headAfter),
        kind: data.kind,
        transaction: digest(log.transaction_hash.ok_or("a log without a transaction")?),
    })
}

#[allow(clippy::needless_pass_by_value)] // it is what map_err hands over
fn said(error: alloy::transports::TransportError) -> String {
    error.to_string()
}
