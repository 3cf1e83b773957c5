//! The submitter key: it can claim, close and finalize, never withdraw.

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use milepost_ledger::Address;
use zeroize::Zeroizing;

use crate::Error;
use crate::convert::address;

/// A secp256k1 key that signs transactions. Never printed; wiped when dropped.
#[derive(Clone)]
pub struct SubmitterKey(pub(crate) PrivateKeySigner);

impl SubmitterKey {
    /// A key from its bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        PrivateKeySigner::from_bytes(&B256::from(bytes)).map(Self).map_err(|_| Error::BadKey)
    }

    /// A key from 64 hexadecimal digits, with or without `0x`.
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        let digits = text.trim();
        hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), bytes.as_mut()).map_err(|_| Error::BadKey)?;
        Self::from_bytes(&bytes)
    }

    /// Its address.
    pub fn address(&self) -> Address {
        address(self.0.address())
    }
}

impl std::fmt::Debug for SubmitterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SubmitterKey({})", self.address())
    }
}
