//! One transaction: made, stored by the caller, sent, looked for.

use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::eip2930::AccessList;
use alloy::primitives::{B256, Bytes, TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::SignerSync;
use milepost_statement::Address;

use super::{Chain, eth_address, revert_error, rpc_error};
use crate::{Error, Wallet};

/// Gas beyond the estimate, in percent: other sessions may change what a write costs between estimate and block.
const GAS_MARGIN_PERCENT: u64 = 25;
/// How long a receipt is waited for before the transaction's fate is called unknown. Fifteen slots of the slowest chain in use.
const RECEIPT_WAIT: Duration = Duration::from_mins(3);
/// First and longest pause between two looks for a receipt.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A signed transaction that was not necessarily sent.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its hash.
    pub hash: B256,
    /// Its bytes.
    pub raw: Bytes,
}

/// A mined transaction that succeeded.
pub type Mined = TransactionReceipt;

impl Chain {
    /// Simulates and signs a call. Nothing is sent; a refusal of the contract is known here, before any gas is paid.
    pub async fn prepare(&self, what: &'static str, wallet: &Wallet, to: Address, input: Bytes, value: U256) -> Result<Prepared, Error> {
        let from = eth_address(wallet.address());
        let request = TransactionRequest {
            from: Some(from),
            to: Some(TxKind::Call(eth_address(to))),
            value: Some(value),
            input: input.clone().into(),
            ..Default::default()
        };
        let gas = self.provider.estimate_gas(request).await.map_err(|error| revert_error(what, &error))?;
        let fees = self.provider.estimate_eip1559_fees().await.map_err(rpc_error)?;
        let nonce = self.provider.get_transaction_count(from).pending().await.map_err(rpc_error)?;
        let tx = TxEip1559 {
            chain_id: self.id().0,
            nonce,
            gas_limit: gas + gas * GAS_MARGIN_PERCENT / 100,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(eth_address(to)),
            value,
            input,
            access_list: AccessList::default(),
        };
        let signature = wallet.signer().sign_hash_sync(&tx.signature_hash()).map_err(|error| Error::Rpc(format!("signing: {error}")))?;
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Ok(Prepared { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() })
    }

    /// Sends a prepared transaction and waits until it is mined. Sending again what is known already is no error.
    pub async fn send(&self, what: &'static str, prepared: &Prepared) -> Result<Mined, Error> {
        if let Some(mined) = self.mined(what, prepared.hash).await? {
            return Ok(mined);
        }
        if let Err(error) = self.provider.send_raw_transaction(&prepared.raw).await {
            // An answered refusal may mean "already known" or that the nonce was consumed by this very transaction: the chain
            // decides. An unanswered one may have arrived.
            if let Some(mined) = self.mined(what, prepared.hash).await? {
                return Ok(mined);
            }
            let known = self.provider.get_transaction_by_hash(prepared.hash).await.ok().flatten().is_some();
            if error.as_error_resp().is_some() && !known {
                return Err(revert_error(what, &error));
            }
        }
        self.wait_mined(what, prepared.hash).await
    }

    /// Prepares and sends in one go, for calls whose loss costs nothing.
    pub async fn transact(&self, what: &'static str, wallet: &Wallet, to: Address, input: Bytes, value: U256) -> Result<Mined, Error> {
        let prepared = self.prepare(what, wallet, to, input, value).await?;
        self.send(what, &prepared).await
    }

    /// The receipt, if the transaction is mined; an error if it was mined and failed.
    pub async fn mined(&self, what: &'static str, hash: B256) -> Result<Option<Mined>, Error> {
        match self.provider.get_transaction_receipt(hash).await.map_err(rpc_error)? {
            Some(receipt) if receipt.status() => Ok(Some(receipt)),
            Some(_) => Err(Error::Reverted { what, reason: format!("transaction {hash} was mined and failed") }),
            None => Ok(None),
        }
    }

    async fn wait_mined(&self, what: &'static str, hash: B256) -> Result<Mined, Error> {
        let started = tokio::time::Instant::now();
        let mut pause = POLL.0;
        while started.elapsed() < RECEIPT_WAIT {
            // A look that fails says nothing about the transaction: look again.
            match self.mined(what, hash).await {
                Ok(Some(mined)) => return Ok(mined),
                Err(error @ Error::Reverted { .. }) => return Err(error),
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL.1);
        }
        Err(Error::Unknown { what, hash, seconds: RECEIPT_WAIT.as_secs() })
    }
}
