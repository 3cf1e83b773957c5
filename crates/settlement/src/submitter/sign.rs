//! Signing, and reading back what was signed.

use alloy::consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::signers::SignerSync as _;
use milepost_ledger::{Attempt, ChainId, UnixSeconds};

use super::Fees;
use crate::convert::{digest, evm};
use crate::{Error, SubmitterKey};

/// What a transaction does, apart from its nonce and its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) to: Address,
    pub(super) data: Bytes,
    pub(super) gas: u64,
}

impl Read {
    /// A transfer of nothing from `key` to itself: a filled gap, or a cancel.
    pub(super) fn is_nothing(&self, key: milepost_ledger::Address) -> bool {
        self.to == evm(key) && self.data.is_empty()
    }
}

/// An EIP-1559 transaction, signed.
pub(super) fn sign(key: &SubmitterKey, chain: ChainId, nonce: u64, call: &Read, fees: Fees, now: UnixSeconds) -> Result<Attempt, Error> {
    let tx = TxEip1559 {
        chain_id: chain.0,
        nonce,
        gas_limit: call.gas,
        max_fee_per_gas: fees.max_fee,
        max_priority_fee_per_gas: fees.max_tip,
        to: TxKind::Call(call.to),
        value: U256::ZERO,
        access_list: alloy::eips::eip2930::AccessList::default(),
        input: call.data.clone(),
    };
    let signature = key.0.sign_hash_sync(&tx.signature_hash()).map_err(|_| Error::BadKey)?;
    let signed = TxEnvelope::from(tx.into_signed(signature));
    Ok(Attempt { hash: digest(*signed.tx_hash()), raw: signed.encoded_2718(), max_fee: fees.max_fee, max_tip: fees.max_tip, at: now })
}

/// What a stored attempt does.
pub(super) fn read(attempt: &Attempt) -> Option<Read> {
    let tx = TxEnvelope::decode_2718(&mut attempt.raw.as_slice()).ok()?;
    Some(Read { to: tx.to()?, data: tx.input().clone(), gas: tx.gas_limit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_read_back_and_signing_again_gives_the_same_bytes() {
        let key = SubmitterKey::from_bytes(&[7; 32]).unwrap();
        let fees = Fees { max_fee: 10, max_tip: 1 };
        let call = Read { to: Address::ZERO, data: Bytes::from_static(b"call"), gas: 90_000 };
        let make = || sign(&key, ChainId(31337), 3, &call, fees, UnixSeconds(5)).unwrap();
        assert_eq!(make(), make());
        assert!(!call.is_nothing(key.address()));
        assert_eq!(read(&make()), Some(call));
    }
}
