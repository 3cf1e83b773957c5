//! Between the statement's types and the chain library's.

use alloy::primitives::{self, B256, U256};
use milepost_statement::{Address, Digest, JobId};

/// As the chain library has it.
pub fn eth_address(address: Address) -> primitives::Address {
    primitives::Address::from(address.0)
}

/// As the statement has it.
pub fn address(address: primitives::Address) -> Address {
    Address(address.into_array())
}

/// As the chain library has it.
pub fn eth_hash(digest: Digest) -> B256 {
    B256::from(digest.0)
}

/// As the statement has it.
pub fn digest(hash: B256) -> Digest {
    Digest(hash.0)
}

/// A job's number as the contract's word.
pub fn job_word(job: JobId) -> U256 {
    U256::from(job.0)
}
