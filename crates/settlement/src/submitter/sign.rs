//! Signing, and reading back what was signed.

use alloy::consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::signers::SignerSync as _;
use milepost_ledger::{Attempt, ChainId, UnixSeconds};

use super::Fees;
use crate::convert::digest;
use crate::{Error, SubmitterKey};

/// An EIP-1559 transaction, signed.
#[allow(clippy::too_many_arguments)] // the fields of a transaction
pub(super) fn sign(
    key: &SubmitterKey,
    chain: ChainId,
    to: Address,
    nonce: u64,
    gas: u64,
    fees: Fees,
    data: Bytes,
    now: UnixSeconds,
) -> Result<Attempt, Error> {
    let tx = TxEip1559 {
        chain_id: chain.0,
        nonce,
        gas_limit: gas,
        max_fee_per_gas: fees.max_fee,
        max_priority_fee_per_gas: fees.max_tip,
        to: TxKind::Call(to),
        value: U256::ZERO,
        access_list: alloy::eips::eip2930::AccessList::default(),
        input: data,
    };
    let signature = key.0.sign_hash_sync(&tx.signature_hash()).map_err(|_| Error::BadKey)?;
    let signed = TxEnvelope::from(tx.into_signed(signature));
    Ok(Attempt { hash: digest(*signed.tx_hash()), raw: signed.encoded_2718(), max_fee: fees.max_fee, max_tip: fees.max_tip, at: now })
}

/// The call data of a stored attempt, and its gas limit.
pub(super) fn call_of(attempt: &Attempt) -> Option<(Bytes, u64)> {
    let tx = TxEnvelope::decode_2718(&mut attempt.raw.as_slice()).ok()?;
    Some((tx.input().clone(), tx.gas_limit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_read_back_and_signing_again_gives_the_same_bytes() {
        let key = SubmitterKey::from_bytes(&[7; 32]).unwrap();
        let fees = Fees { max_fee: 10, max_tip: 1 };
        let make = || sign(&key, ChainId(31337), Address::ZERO, 3, 90_000, fees, Bytes::from_static(b"call"), UnixSeconds(5)).unwrap();
        assert_eq!(make(), make());
        assert_eq!(call_of(&make()), Some((Bytes::from_static(b"call"), 90_000)));
    }
}
