//! Transactions of the host's own account: few, by hand, one at a time.
//!
//! Guarantees: each is tried before it is signed, so that a refusal costs nothing and is named; its fate is asked of the chain. The
//! key of a node that signs with it, or has something of it under way, is refused: two signers of one key take each other's nonces.
//! Does not: wait for finality. A transaction that is reorganised away is simply not there; the command is repeated.

use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall, SolInterface};
use milepost_client::chain::{Chain, address, digest, eth_address};
use milepost_client::{Error, Wallet};
use milepost_settlement::bindings::HostEarnings::HostEarningsErrors;
use milepost_settlement::bindings::HostRegistry::HostRegistryErrors;
use milepost_statement::{Address, Digest};

use crate::books;
use crate::cli::HostKeyArgs;
use crate::config::Config;
use crate::keys;

/// The host's account, ready to sign.
pub(crate) struct HostAccount {
    chain: Chain,
    wallet: Wallet,
    /// Scheme and host of the endpoint; the rest may hold an access key.
    endpoint: String,
}

/// A transaction that was mined and succeeded.
pub(crate) struct Sent {
    pub(crate) tx: Digest,
    pub(crate) block: u64,
    pub(crate) receipt: TransactionReceipt,
}

impl HostAccount {
    /// Opens the host's key and the chain, and makes sure that no node signs with the same key.
    pub(crate) async fn open(config: &Config, args: &HostKeyArgs) -> Result<Self, String> {
        let settlement = config.chain.as_ref().ok_or("no chain is configured: set chain.rpc_url")?;
        let reader = milepost_settlement::Chain::new(settlement).map_err(|error| error.to_string())?;
        let key = keys::host_key(args, &config.keys)?;
        books::refuse_if_signing(config, key.address())?;
        let wallet = Wallet::from_bytes(key.bytes()).map_err(|error| error.to_string())?;
        let endpoint = reader.endpoint().to_owned();
        let told = |error: Error| without_url(&error.to_string(), &endpoint);
        let chain = Chain::connect(&settlement.rpc_url, settlement.marketplace).await.map_err(told)?;
        chain.expect_id(settlement.chain_id).map_err(told)?;
        Ok(Self { chain, wallet, endpoint })
    }

    /// The account.
    pub(crate) fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Calls a contract; returns when the transaction is in a block.
    pub(crate) async fn call<C: SolCall>(&self, what: &'static str, to: Address, call: C) -> Result<Sent, String> {
        let input: Bytes = call.abi_encode().into();
        self.refused(what, to, &input).await?;
        let receipt = self.chain.transact(what, &self.wallet, to, input, U256::ZERO).await.map_err(|error| match error {
            Error::Unknown { hash, seconds, .. } => format!(
                "the transaction {hash} for {what} was sent and is not in a block after {seconds} s: its fate is unknown. Look it up before you repeat the command"
            ),
            other => without_url(&other.to_string(), &self.endpoint),
        })?;
        Ok(Sent { tx: digest(receipt.transaction_hash()), block: receipt.block_number().unwrap_or_default(), receipt })
    }

    /// Tries the call first; the registry's and the earnings' errors are named here.
    async fn refused(&self, what: &str, to: Address, input: &Bytes) -> Result<(), String> {
        let request = TransactionRequest {
            from: Some(eth_address(self.address())),
            to: Some(TxKind::Call(eth_address(to))),
            input: input.clone().into(),
            ..TransactionRequest::default()
        };
        let Err(error) = self.chain.provider().call(request).await else { return Ok(()) };
        let Some(data) = error.as_error_resp().and_then(alloy::rpc::json_rpc::ErrorPayload::as_revert_data) else {
            return Err(without_url(&error.to_string(), &self.endpoint));
        };
        let reason = HostRegistryErrors::abi_decode(&data)
            .map(|error| format!("{error:?}"))
            .or_else(|_| HostEarningsErrors::abi_decode(&data).map(|error| format!("{error:?}")))
            .unwrap_or_else(|_| milepost_client::abi::describe_revert(&data));
        Err(format!("the contract at {to} refuses {what}: {reason}"))
    }
}

impl Sent {
    /// The first event of this kind that `contract` logged in it.
    pub(crate) fn event<E: alloy::sol_types::SolEvent>(&self, contract: Address) -> Option<E> {
        let logs = self.receipt.inner.logs().iter().filter(|log| address(log.address()) == contract);
        logs.filter_map(|log| E::decode_log(&log.inner).ok()).map(|log| log.data).next()
    }
}

/// Errors of the transport quote the address they went to, which may hold an access key.
pub(crate) fn without_url(text: &str, endpoint: &str) -> String {
    let word = |word: &str| if word.contains(endpoint) { endpoint.to_owned() } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
