//! The chain, as far as settlement needs it: endpoints over HTTP with time limits of our own, and typed questions.
//!
//! Guarantees: a question that is not answered in time is [`Error::Unreachable`], never a value; a job is read at one block, by
//! hash; what an endpoint says that lies behind a block already known to be final is refused as stale.
//! Does not: retry (callers know what may wait), keep nonces, or wait for transactions.

mod endpoints;
mod finality;
mod host;
mod landing;
mod logs;
mod preflight;
mod profile;
mod scan;
mod send;
mod session;
mod wording;

pub use endpoints::EndpointHealth;
pub(crate) use endpoints::Endpoints;
pub use finality::{CertifiedBlock, FinalityStatus, SourceStatus};
pub use host::{HostRecord, TokenInfo};
pub use logs::{Completed, LandedClaim};
pub use preflight::Preflight;
pub(crate) use preflight::read_constants;
pub use profile::{PROFILES, Profile, profile};
pub use scan::{pushed_selectors, required_functions};
pub(crate) use send::{Fees, SendError};
pub use session::OnChain;
pub(crate) use session::{Seen, as_recorded};
pub(crate) use wording::Class;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use alloy::consensus::BlockHeader as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address as EvmAddress, B256, Bytes, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::http::reqwest;
use alloy::transports::{RpcError, TransportResult};
use milepost_ledger::{Address, BlockRef, ChainId, Digest, JobId, Terms, TokenCount, UnixSeconds};

use crate::config::{DeployedConfig, SettlementConfig, redacted};
use crate::convert::{b256, digest, evm};
use crate::generation::{Adapter, Identified, identify};
use crate::{Error, install_tls};

/// Terms kept in memory. They never change, so the bound is for memory alone.
const MAX_CACHED_TERMS: usize = 10_000;

/// A block at the head of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The block.
    pub block: BlockRef,
    /// Its timestamp.
    pub time: UnixSeconds,
    /// About the timestamp that the next block will have; on a chain that mines on request, time passes only here.
    pub next_time: UnixSeconds,
    /// Base fee in wei per gas.
    pub base_fee: u128,
}

/// The marketplace's constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constants {
    /// The treasury's part in basis points.
    pub fee_bps: u16,
    /// Least tokens of a claim.
    pub min_claim: TokenCount,
    /// Length of the closing window in seconds.
    pub claim_window: u64,
    /// Tokens that the rate cap grants at once.
    pub burst: TokenCount,
    /// Image id of the guest.
    pub image_id: Digest,
    /// Whether mock proofs are accepted.
    pub test_deployment: bool,
    /// The registry of hosts.
    pub registry: Address,
    /// Where hosts are paid.
    pub earnings: Address,
    /// Tokens that a job's price pays for; 1 on our own marketplace.
    pub price_precision: u64,
    /// Seconds from a session's start before which only its depositor completes it; 0 on our own marketplace.
    pub dispute_window: u64,
    /// Most claims of one transaction; 1 where each is submitted alone.
    pub max_batch: u64,
}

/// The chain. Cheap to clone.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    provider: RootProvider,
    endpoints: Endpoints,
    endpoint: String,
    chain_id: ChainId,
    marketplace: Address,
    timeout: Duration,
    finality: finality::Source,
    deployed: DeployedConfig,
    generation: OnceLock<Identified>,
    constants: OnceLock<Constants>,
    /// The rate of a deployed marketplace, once measured.
    rate: OnceLock<u32>,
    terms: Mutex<HashMap<JobId, Terms>>,
    /// Height of the highest block that we took as final: no answer from before it is believed.
    floor: AtomicU64,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({} at {})", self.0.chain_id, self.0.endpoint)
    }
}

impl Chain {
    /// Prepares the connection; asks nothing yet.
    pub fn new(config: &SettlementConfig) -> Result<Self, Error> {
        install_tls();
        config.check()?;
        let mut places = Vec::new();
        for endpoint in config.endpoints() {
            let shown = redacted(&endpoint.url);
            let url: reqwest::Url = endpoint.url.parse().map_err(|_| Error::Config(format!("rpc_url is no URL: {shown:?}")))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Error::Config(format!("rpc_url must begin with http:// or https://, not {}://", url.scheme())));
            }
            places.push((url, endpoint.weight));
        }
        let shown = match places.as_slice() {
            [(first, _)] => redacted(first.as_str()),
            [(first, _), others @ ..] => format!("{} (+{})", redacted(first.as_str()), others.len()),
            [] => return Err(Error::Config("rpc_url or rpc_urls must name an endpoint".to_owned())),
        };
        let client = reqwest::Client::builder().timeout(config.rpc_timeout()).connect_timeout(config.rpc_timeout()).build();
        let client = client.map_err(|error| Error::Config(format!("no HTTP client: {error}")))?;
        let endpoints = Endpoints::new(places, client, config.chain_id);
        let provider = RootProvider::new(RpcClient::new(endpoints.clone(), false));
        // Each endpoint has the whole time once.
        let all = config.rpc_timeout() * u32::try_from(endpoints.count()).unwrap_or(u32::MAX);
        Ok(Self(Arc::new(Inner {
            provider,
            endpoints,
            endpoint: shown,
            chain_id: config.chain_id,
            marketplace: config.marketplace,
            timeout: all,
            finality: finality::Source::of(config)?,
            deployed: config.deployed.clone(),
            generation: OnceLock::new(),
            constants: OnceLock::new(),
            rate: OnceLock::new(),
            terms: Mutex::new(HashMap::new()),
            floor: AtomicU64::new(0),
        })))
    }

    /// Configured chain id.
    pub fn chain_id(&self) -> ChainId {
        self.0.chain_id
    }

    /// Configured marketplace.
    pub fn marketplace(&self) -> Address {
        self.0.marketplace
    }

    /// The endpoint without path, query or credentials: those may hold an access key.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// How each endpoint does.
    pub fn endpoints(&self) -> Vec<EndpointHealth> {
        self.0.endpoints.health()
    }

    /// For questions and transactions beyond the ones here; it goes through every endpoint, with the same care.
    pub fn provider(&self) -> &RootProvider {
        &self.0.provider
    }

    /// One question, within the time limit.
    pub(crate) async fn ask<T>(&self, what: &'static str, question: impl Future<Output = TransportResult<T>>) -> Result<T, Error> {
        match tokio::time::timeout(self.0.timeout, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(what, error)),
            Err(_) => Err(self.unreachable(what, format!("no answer within {:?}", self.0.timeout))),
        }
    }

    fn unreachable(&self, what: &'static str, reason: String) -> Error {
        Error::Unreachable { endpoint: self.0.endpoint.clone(), what, reason }
    }

    fn error(&self, what: &'static str, error: RpcError<alloy::transports::TransportErrorKind>) -> Error {
        match error {
            RpcError::ErrorResp(payload) => Error::Rpc {
                endpoint: self.0.endpoint.clone(),
                what,
                code: payload.code,
                data: payload.as_revert_data().map(|data| data.to_vec()),
                message: payload.message.into_owned(),
            },
            RpcError::NullResp => Error::Answer { what, answer: "null".to_owned() },
            RpcError::DeserError { err, .. } => Error::Answer { what, answer: err.to_string() },
            RpcError::Transport(error) => self.unreachable(what, without_url(&chain_of(&error), &self.0.endpoint)),
            other => self.unreachable(what, other.to_string()),
        }
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Head, Error> {
        let what = "the newest block";
        let block = self.ask(what, self.provider().get_block_by_number(BlockNumberOrTag::Latest).into_future()).await?;
        let block = block.ok_or(Error::Answer { what, answer: "none".to_owned() })?;
        let floor = self.0.floor.load(Ordering::Relaxed);
        if block.header.number() < floor {
            return Err(Error::Answer {
                what,
                answer: format!("block {}, though block {floor} was final: the endpoint lags", block.header.number()),
            });
        }
        // Not every endpoint knows a pending block; it only ever moves the time forward.
        let pending = self.ask("the pending block", self.provider().get_block_by_number(BlockNumberOrTag::Pending).into_future()).await;
        let time = UnixSeconds(block.header.timestamp());
        let next = pending.ok().flatten().map_or(time, |pending| UnixSeconds(pending.header.timestamp()));
        Ok(Head {
            block: BlockRef { number: block.header.number(), hash: digest(block.header.hash) },
            time,
            next_time: time.max(next),
            base_fee: u128::from(block.header.base_fee_per_gas().unwrap_or(0)),
        })
    }

    /// Hash of the canonical block at that height, if the chain reaches so far.
    pub async fn block_at(&self, number: u64) -> Result<Option<Digest>, Error> {
        let block = self.ask("a block's hash", self.provider().get_block_by_number(number.into()).into_future()).await?;
        Ok(block.map(|block| digest(block.header.hash)))
    }

    /// Remembers that this height was final: the endpoint must not answer from before it again.
    pub(crate) fn saw_final(&self, number: u64) {
        self.0.floor.fetch_max(number, Ordering::Relaxed);
    }

    /// The receipt of a transaction, if it is in a block. None is no verdict: it may be in a pool, lost, or not visible here.
    pub(crate) async fn receipt(&self, hash: Digest) -> Result<Option<TransactionReceipt>, Error> {
        let provider = self.provider();
        self.ask("a transaction's receipt", async { provider.get_transaction_receipt(b256(hash)).await }).await
    }

    /// Transactions of `key` in blocks up to `block`: the first nonce that is free there.
    pub(crate) async fn nonce(&self, key: Address, block: BlockId) -> Result<u64, Error> {
        self.ask("a key's nonce", self.provider().get_transaction_count(evm(key)).block_id(block).into_future()).await
    }

    /// What `account` holds of the chain's coin, in wei.
    pub async fn balance(&self, account: Address) -> Result<u128, Error> {
        let balance = self.ask("a balance", self.provider().get_balance(evm(account)).into_future()).await?;
        Ok(u128::try_from(balance).unwrap_or(u128::MAX))
    }

    pub(crate) async fn code(&self, contract: Address) -> Result<Bytes, Error> {
        self.ask("a contract's code", self.provider().get_code_at(evm(contract)).into_future()).await
    }

    /// Calls a view at a block.
    pub(crate) async fn call<C: SolCall>(&self, what: &'static str, to: Address, call: C, block: BlockId) -> Result<C::Return, Error> {
        let request = request(EvmAddress::ZERO, evm(to), Bytes::from(call.abi_encode()));
        let answer = self.ask(what, self.provider().call(request).block(block).into_future()).await?;
        C::abi_decode_returns(&answer).map_err(|error| Error::Answer { what, answer: error.to_string() })
    }

    /// Calls a view at a block; its answer as it is.
    pub(crate) async fn ask_raw(&self, what: &'static str, to: Address, data: Bytes, block: BlockId) -> Result<Bytes, Error> {
        let request = request(EvmAddress::ZERO, evm(to), data);
        self.ask(what, self.provider().call(request).block(block).into_future()).await
    }

    /// Which generation the marketplace is, from its code; found out once.
    pub async fn generation(&self) -> Result<&Identified, Error> {
        if let Some(known) = self.0.generation.get() {
            return Ok(known);
        }
        let found = identify(self).await?;
        Ok(self.0.generation.get_or_init(|| found))
    }

    pub(crate) async fn adapter(&self) -> Result<&dyn Adapter, Error> {
        Ok(self.generation().await?.adapter.as_ref())
    }

    pub(crate) fn deployed(&self) -> &DeployedConfig {
        &self.0.deployed
    }

    pub(crate) fn known_rate(&self) -> Option<u32> {
        self.0.rate.get().copied()
    }

    pub(crate) fn know_rate(&self, rate: u32) {
        // The first measurement stays: the rate is a constant of the code.
        let _ = self.0.rate.set(rate);
    }

    /// The marketplace's constants; read once.
    pub async fn constants(&self) -> Result<Constants, Error> {
        if let Some(known) = self.0.constants.get() {
            return Ok(*known);
        }
        let read = self.adapter().await?.constants(self).await?;
        Ok(*self.0.constants.get_or_init(|| read))
    }

    fn cached_terms(&self, job: JobId) -> Option<Terms> {
        self.0.terms.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    fn cache_terms(&self, job: JobId, terms: &Terms) {
        let mut cache = self.0.terms.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() < MAX_CACHED_TERMS {
            cache.insert(job, terms.clone());
        }
    }
}

pub(crate) fn latest() -> BlockId {
    BlockNumberOrTag::Latest.into()
}

pub(crate) fn at(block: &BlockRef) -> BlockId {
    B256::from(block.hash.0).into()
}

fn request(from: EvmAddress, to: EvmAddress, data: Bytes) -> TransactionRequest {
    TransactionRequest::default().from(from).to(to).value(U256::ZERO).input(data.into())
}

/// An error with its causes, in one line.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
        text
    })
}

/// HTTP errors quote the address they went to, which may hold an access key.
fn without_url(text: &str, endpoint: &str) -> String {
    text.split(' ').map(|word| if word.contains(endpoint) { endpoint } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_quote_the_address_it_went_to() {
        assert_eq!(
            without_url("error sending request for url (https://rpc.example/v2/secret)", "https://rpc.example"),
            "error sending request for url https://rpc.example"
        );
    }
}
