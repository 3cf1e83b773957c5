//! Transactions of the host's own account: few, by hand, one at a time.
//!
//! Guarantees: each is tried before it is signed, so that a refusal costs nothing and is named; its fate is asked of the chain, at
//! every endpoint that is configured. The key of a node that signs with it, or has something of it under way, is refused: two signers
//! of one key take each other's nonces. So is one whose lock another process of the deployment holds. Where this box's ledger counts
//! the key's transactions, each is explained there before it is sent: a node that signs with the same key later goes on.
//! Does not: wait for finality. A transaction that is reorganised away is simply not there; the command is repeated.

use alloy::network::ReceiptResponse as _;
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall, SolInterface};
use milepost_client::chain::{Chain, address, digest, eth_address};
use milepost_client::{Error, Wallet};
use milepost_ledger_db::LedgerDb;
use milepost_settlement::bindings::HostEarnings::HostEarningsErrors;
use milepost_settlement::bindings::HostRegistry::HostRegistryErrors;
use milepost_settlement::{KeyLock, accept_nonces, expect_nonce};
use milepost_statement::{Address, Digest};

use crate::books;
use crate::cli::HostKeyArgs;
use crate::config::Config;
use crate::keys;

/// The host's account, ready to sign.
pub(crate) struct HostAccount {
    chain: Chain,
    wallet: Wallet,
    /// The same chain, as settlement asks it.
    reader: milepost_settlement::Chain,
    /// Scheme and host of each endpoint; the rest may hold an access key.
    shown: Vec<String>,
    /// This box's ledger, where it counts the transactions of this key.
    ledger: Option<LedgerDb>,
    /// Held as long as anything may be signed here.
    _lock: Option<KeyLock>,
}

/// A transaction that was mined and succeeded.
pub(crate) struct Sent {
    pub(crate) tx: Digest,
    pub(crate) block: u64,
    pub(crate) receipt: TransactionReceipt,
}

impl HostAccount {
    /// Opens the host's key and the chain, and makes sure that no node signs with the same key, now or until this ends.
    pub(crate) async fn open(config: &Config, args: &HostKeyArgs) -> Result<Self, String> {
        let settlement = config.chain.as_ref().ok_or("no chain is configured: set chain.rpc_url")?;
        let reader = milepost_settlement::Chain::new(settlement).map_err(|error| error.to_string())?;
        let key = keys::host_key(args, &config.keys)?;
        books::refuse_if_signing(config, key.address())?;
        let lock = KeyLock::of(settlement, key.address()).map_err(coded)?;
        let ledger = books::counting(config, key.address()).await?;
        let wallet = Wallet::from_bytes(key.bytes()).map_err(|error| error.to_string())?;
        let shown: Vec<_> = reader.endpoints().into_iter().map(|endpoint| endpoint.endpoint).collect();
        let told = |error: Error| without_urls(&error.to_string(), &shown);
        let chain = Chain::over(reader.provider().clone(), settlement.marketplace).await.map_err(told)?;
        chain.expect_id(settlement.chain_id).map_err(told)?;
        Ok(Self { chain, wallet, reader, shown, ledger, _lock: lock })
    }

    /// The account.
    pub(crate) fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Calls a contract; returns when the transaction is in a block.
    pub(crate) async fn call<C: SolCall>(&self, what: &'static str, to: Address, call: C) -> Result<Sent, String> {
        let input: Bytes = call.abi_encode().into();
        self.refused(what, to, &input).await?;
        if let Some(ledger) = &self.ledger {
            expect_nonce(ledger, &self.reader, self.address()).await.map_err(coded)?;
        }
        let outcome = self.chain.transact(what, &self.wallet, to, input, U256::ZERO).await;
        if let Err(Error::Unknown { hash, seconds, .. }) = outcome {
            // It may still be mined: what was explained for it stays explained.
            return Err(format!(
                "the transaction {hash} for {what} was sent and is not in a block after {seconds} s: its fate is unknown. Look it up before you repeat the command"
            ));
        }
        if let Some(ledger) = &self.ledger {
            accept_nonces(ledger, &self.reader, self.address()).await.map_err(coded)?;
        }
        let receipt = outcome.map_err(|error| without_urls(&error.to_string(), &self.shown))?;
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
            return Err(without_urls(&error.to_string(), &self.shown));
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

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn coded(error: milepost_settlement::Error) -> String {
    format!("{error}; {}", error.advice())
}

/// Errors of a transport may quote the address they went to, which may hold an access key.
fn without_urls(text: &str, shown: &[String]) -> String {
    let word = |word: &str| shown.iter().find(|shown| word.contains(shown.as_str())).cloned().unwrap_or_else(|| word.to_owned());
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_in_an_endpoints_address_is_not_told() {
        let shown = ["https://one.example".to_owned(), "https://two.example:8545".to_owned()];
        let text = "error sending request for url (https://two.example:8545/v3/secret) after 2 tries at https://one.example/key";
        let told = without_urls(text, &shown);
        assert_eq!(told, "error sending request for url https://two.example:8545 after 2 tries at https://one.example");
    }
}
