//! The client's view of the chain: reads, and one transaction at a time.
//!
//! No nonce filler and no pending-transaction watcher of the library: each transaction is signed here, can be stored before it is
//! sent, and is looked up by its hash. A receipt that does not come is [`Error::Unknown`], neither success nor failure.

mod convert;
mod offers;
mod session;
mod tx;

use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::TxKind;
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use milepost_statement::{Address, ChainId};

use crate::{Error, init_tls};

pub use convert::{address, digest, eth_address, eth_hash, job_word};
pub use offers::{Offer, find_offers};
pub use session::{ChainClaim, Completed, SessionState};
pub use tx::{Mined, Prepared};

/// How long one RPC call may take. Longer than any healthy endpoint needs, short enough to notice a dead one.
const RPC_TIMEOUT: Duration = Duration::from_secs(20);

/// A marketplace on a chain.
#[derive(Clone, Debug)]
pub struct Chain {
    provider: RootProvider,
    id: ChainId,
    marketplace: Address,
}

impl Chain {
    /// Connects, and checks that the endpoint serves a chain with a contract at `marketplace`.
    pub async fn connect(rpc: &str, marketplace: Address) -> Result<Self, Error> {
        init_tls();
        let url: reqwest::Url = rpc.parse().map_err(|error| Error::Url { url: rpc.to_owned(), reason: format!("{error}") })?;
        let http = reqwest::Client::builder().timeout(RPC_TIMEOUT).build().map_err(|error| Error::Rpc(error.to_string()))?;
        Self::over(ProviderBuilder::default().connect_reqwest(http, url), marketplace).await
    }

    /// The same over a connection that was made elsewhere: one that asks several endpoints, with time limits of its own.
    pub async fn over(provider: RootProvider, marketplace: Address) -> Result<Self, Error> {
        let id = ChainId(provider.get_chain_id().await.map_err(rpc_error)?);
        let code = provider.get_code_at(eth_address(marketplace)).await.map_err(rpc_error)?;
        if code.is_empty() {
            return Err(Error::NoContract(marketplace));
        }
        Ok(Self { provider, id, marketplace })
    }

    /// Refuses another chain than the one meant.
    pub fn expect_id(&self, expected: ChainId) -> Result<(), Error> {
        if self.id == expected { Ok(()) } else { Err(Error::WrongChain { expected: expected.0, got: self.id.0 }) }
    }

    /// Its id.
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// The marketplace.
    pub fn marketplace(&self) -> Address {
        self.marketplace
    }

    /// For reads beyond the ones here.
    pub fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// A view call at the latest block.
    pub async fn read<C: SolCall>(&self, what: &'static str, to: Address, call: C) -> Result<C::Return, Error> {
        self.read_at(what, to, call, BlockId::latest()).await
    }

    /// A view call at a block.
    pub async fn read_at<C: SolCall>(&self, what: &'static str, to: Address, call: C, block: BlockId) -> Result<C::Return, Error> {
        let request = TransactionRequest { to: Some(TxKind::Call(eth_address(to))), input: call.abi_encode().into(), ..Default::default() };
        let output = self.provider.call(request).block(block).await.map_err(|error| revert_error(what, &error))?;
        C::abi_decode_returns(&output).map_err(|error| Error::Rpc(format!("{what}: {error}")))
    }
}

#[allow(clippy::needless_pass_by_value)] // it is what map_err hands over
pub(crate) fn rpc_error(error: alloy::transports::TransportError) -> Error {
    Error::Rpc(error.to_string())
}

/// A refusal of the contract by its name, everything else as a failure of the endpoint.
pub(crate) fn revert_error(what: &'static str, error: &alloy::transports::TransportError) -> Error {
    match error.as_error_resp() {
        Some(response) => match response.as_revert_data() {
            Some(data) => Error::Reverted { what, reason: crate::abi::describe_revert(&data) },
            None if response.message.contains("revert") => Error::Reverted { what, reason: response.message.to_string() },
            None => Error::Rpc(error.to_string()),
        },
        None => Error::Rpc(error.to_string()),
    }
}
