//! Between the ledger's types and alloy's.

use alloy::primitives::{Address as EvmAddress, B256, U256};
use milepost_ledger::{Address, Digest, TokenAmount};

use crate::Error;

pub(crate) fn evm(address: Address) -> EvmAddress {
    EvmAddress::from(address.0)
}

pub(crate) fn address(address: EvmAddress) -> Address {
    Address(address.into_array())
}

pub(crate) fn b256(digest: Digest) -> B256 {
    B256::from(digest.0)
}

pub(crate) fn digest(hash: B256) -> Digest {
    Digest(hash.0)
}

/// A number that the contract bounds below 2⁶⁴; a larger one is a contract we do not know.
pub(crate) fn small(what: &'static str, value: U256) -> Result<u64, Error> {
    u64::try_from(value).map_err(|_| Error::Answer { what, answer: format!("{value}, beyond 64 bits") })
}

/// An amount that the contract bounds below 2⁹⁶.
pub(crate) fn amount(what: &'static str, value: U256) -> Result<TokenAmount, Error> {
    u128::try_from(value).map(TokenAmount).map_err(|_| Error::Answer { what, answer: format!("{value}, beyond 128 bits") })
}
