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

/// What became of handing over a signed transaction, in the words of geth, reth, nethermind, besu, erigon and anvil.
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
    /// No answer, or one that decides nothing: it may have been taken.
    Unknown(Error),
    /// Refused for another reason.
    Rejected(String),
}

impl SendError {
    fn classify(error: Error) -> Self {
        let Error::Rpc { message, .. } = &error else { return Self::Unknown(error) };
        let text = message.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&[
            "already known",
            "alreadyknown",
            "known transaction",
            "existing tx with same hash",
            "already imported",
            "already in the pool",
            "already exists",
        ]) {
            Self::AlreadyKnown
        } else if has(&["nonce too low", "oldnonce", "nonce is too low", "nonce_too_low", "invalid nonce; got", "already mined"]) {
            Self::NonceTooLow
        } else if has(&["insufficient funds", "insufficientfunds", "upfront cost exceeds", "insufficient balance", "overshot"]) {
            Self::InsufficientFunds(message.clone())
        } else if has(&[
            "underpriced",
            "feetoolow",
            "fee too low",
            "less than block base fee",
            "below configured minimum",
            "replacementnotallowed",
            "could not replace",
            "gas price too low",
            "feecap",
        ]) {
            Self::Underpriced(message.clone())
        } else if has(&["timeout", "timed out", "rate limit", "too many requests", "internal error", "unavailable", "limit exceeded"]) {
            Self::Unknown(error)
        } else {
            Self::Rejected(message.clone())
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> SendError {
        SendError::classify(Error::Rpc { endpoint: String::new(), what: "", code: -32000, message: message.to_owned(), data: None })
    }

    #[test]
    fn every_clients_wording_is_understood() {
        for text in ["already known", "AlreadyKnown", "Known transaction", "existing tx with same hash", "transaction already imported"] {
            assert_eq!(said(text), SendError::AlreadyKnown, "{text}");
        }
        for text in [
            "nonce too low",
            "nonce too low: next nonce 5, tx nonce 3",
            "OldNonce, Current nonce: 5, nonce of rejected tx: 3",
            "Nonce too low",
        ] {
            assert_eq!(said(text), SendError::NonceTooLow, "{text}");
        }
        for text in [
            "replacement transaction underpriced",
            "transaction underpriced",
            "FeeTooLow, MaxFeePerGas too low",
            "max fee per gas less than block base fee",
            "Gas price below configured minimum gas price",
        ] {
            assert!(matches!(said(text), SendError::Underpriced(_)), "{text}");
        }
        for text in [
            "insufficient funds for gas * price + value",
            "InsufficientFunds, Account balance: 0",
            "Upfront cost exceeds account balance",
            "Insufficient funds for gas * price + value",
        ] {
            assert!(matches!(said(text), SendError::InsufficientFunds(_)), "{text}");
        }
        assert!(matches!(said("request timed out"), SendError::Unknown(_)));
        assert!(matches!(said("exceeds block gas limit"), SendError::Rejected(_)));
    }

    #[test]
    fn no_answer_decides_nothing() {
        let lost = Error::Unreachable { endpoint: String::new(), what: "", reason: String::new() };
        assert!(matches!(SendError::classify(lost), SendError::Unknown(_)));
    }
}
