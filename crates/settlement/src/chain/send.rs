//! Trying, pricing and sending transactions.

use alloy::primitives::{Bytes, hex};
use alloy::providers::Provider;
use milepost_ledger::{Address, BlockRef};

use super::{Chain, Head, at, request};
use crate::Error;
use crate::convert::evm;
use crate::revert::Revert;

/// The tip offered where the endpoint names none, in wei per gas: 0.001 gwei, what quiet rollups take.
const FALLBACK_TIP: u128 = 1_000_000;

/// What a transaction offers for gas, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fees {
    pub(crate) max_fee: u128,
    pub(crate) max_tip: u128,
}

/// What became of handing over a signed transaction, told by its words (`wording.rs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// It is in the pool already.
    AlreadyKnown,
    /// Its nonce is used up: by itself, or by another transaction. Only receipts can tell.
    NonceTooLow,
    /// It offers too little gas price, or less than the transaction it would replace.
    Underpriced(String),
    /// The key cannot pay.
    InsufficientFunds(String),
    /// A full pool, a rate limit, a node that is not ready, or an earlier nonce that it does not know.
    NotNow(String),
    /// No answer, or one that decides nothing: it may have been taken.
    Unknown(Error),
    /// These bytes will never be taken.
    Rejected(String),
}

impl Chain {
    /// Whether the call would succeed in the next block, and the gas it takes; a refusal is decoded.
    pub(crate) async fn simulate(&self, from: Address, data: &Bytes) -> Result<Result<u64, Revert>, Error> {
        let request = request(evm(from), evm(self.marketplace()), data.clone());
        // The pending block: its time is the one that the rules will be held against.
        let pending = alloy::eips::BlockNumberOrTag::Pending.into();
        if let Err(error) = self.ask("a trial call", self.provider().call(request.clone()).block(pending).into_future()).await {
            return refusal(error).map(Err);
        }
        match self.ask("a gas estimate", self.provider().estimate_gas(request).block(pending).into_future()).await {
            Ok(gas) => Ok(Ok(gas)),
            Err(error) => refusal(error).map(Err),
        }
    }

    /// Why the call would be refused in the next block, if it would be.
    pub(crate) async fn tried(&self, from: Address, data: &Bytes) -> Result<Option<Revert>, Error> {
        let request = request(evm(from), evm(self.marketplace()), data.clone());
        let pending = alloy::eips::BlockNumberOrTag::Pending.into();
        match self.ask("a trial call", self.provider().call(request).block(pending).into_future()).await {
            Ok(_) => Ok(None),
            Err(error) => refusal(error).map(Some),
        }
    }

    /// What the call would answer in the next block, were it given no more than so much gas.
    pub(crate) async fn answer_within(&self, from: Address, data: &Bytes, gas: u64) -> Result<Result<Bytes, Revert>, Error> {
        let request = request(evm(from), evm(self.marketplace()), data.clone()).gas_limit(gas);
        let pending = alloy::eips::BlockNumberOrTag::Pending.into();
        match self.ask("a trial call", self.provider().call(request).block(pending).into_future()).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => refusal(error).map(Err),
        }
    }

    /// Why a call was refused in that block's state.
    pub(crate) async fn replay(&self, from: Address, data: &Bytes, block: &BlockRef) -> Result<Option<Revert>, Error> {
        let request = request(evm(from), evm(self.marketplace()), data.clone());
        match self.ask("a replayed call", self.provider().call(request).block(at(block)).into_future()).await {
            Ok(_) => Ok(None),
            Err(error) => refusal(error).map(Some),
        }
    }

    /// Whether a call would be refused, were it made in a block of that time on top of another; nothing is changed by it.
    pub(crate) async fn trial(
        &self,
        from: Address,
        data: Bytes,
        block: alloy::eips::BlockId,
        time: milepost_ledger::UnixSeconds,
    ) -> Result<Option<Revert>, Error> {
        let request = request(evm(from), evm(self.marketplace()), data);
        let overrides = alloy::rpc::types::BlockOverrides { time: Some(time.0), ..Default::default() };
        let call = self.provider().call(request).with_block_overrides(overrides).block(block);
        match self.ask("a trial call at another time", call.into_future()).await {
            Ok(_) => Ok(None),
            Err(error) => refusal(error).map(Some),
        }
    }

    /// What to offer for gas now: twice the base fee leaves room for six full blocks.
    pub(crate) async fn fees(&self, head: &Head, ceiling: u128) -> Result<Fees, Error> {
        let provider = self.provider();
        let tip = match self.ask("the usual tip", async { provider.get_max_priority_fee_per_gas().await }).await {
            Ok(tip) => tip,
            Err(Error::Rpc { .. }) => FALLBACK_TIP,
            Err(error) => return Err(error),
        };
        let needed = head.base_fee.saturating_add(tip);
        if needed > ceiling {
            return Err(Error::FeeCeiling { asked: needed, ceiling });
        }
        Ok(Fees { max_fee: head.base_fee.saturating_mul(2).saturating_add(tip).min(ceiling), max_tip: tip })
    }

    /// Hands over signed bytes.
    pub(crate) async fn send_raw(&self, raw: &[u8]) -> Result<(), SendError> {
        let provider = self.provider();
        let text = hex::encode_prefixed(raw);
        let sent = self.ask("sending a transaction", async {
            provider.raw_request::<_, serde_json::Value>("eth_sendRawTransaction".into(), (text,)).await
        });
        sent.await.map(|_| ()).map_err(SendError::classify)
    }
}

/// A revert inside an error answer, or the error again.
fn refusal(error: Error) -> Result<Revert, Error> {
    match &error {
        Error::Rpc { data: Some(data), .. } => Ok(Revert::decode(data)),
        Error::Rpc { message, .. } if message.to_lowercase().contains("revert") => Ok(Revert::decode(&[])),
        _ => Err(error),
    }
}
