//! Chains that are known by name, and what is particular about them.

use alloy::eips::BlockId;
use alloy::primitives::{Address as EvmAddress, address};
use milepost_ledger::ChainId;

use super::{Chain, latest};
use crate::Error;
use crate::convert::small;

alloy::sol! {
    /// The predeploy of OP-stack chains that prices the data they publish on the chain below.
    interface GasPriceOracle {
        function getL1Fee(bytes data) external view returns (uint256);
    }
}

/// Where OP-stack chains keep it.
const ORACLE: EvmAddress = address!("420000000000000000000000000000000000000F");

/// A chain that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// EIP-155 chain id.
    pub chain: ChainId,
    /// Its name.
    pub name: &'static str,
    /// It is a rollup of the OP stack: besides gas, each transaction pays for its bytes on the chain below.
    pub data_fee: bool,
    /// It is for development: what happens there costs nothing.
    pub development: bool,
}

/// Every known chain.
pub const PROFILES: [Profile; 3] = [
    Profile { chain: ChainId(84_532), name: "Base Sepolia", data_fee: true, development: false },
    Profile { chain: ChainId(5_611), name: "opBNB testnet", data_fee: true, development: false },
    Profile { chain: ChainId(31_337), name: "development chain", data_fee: false, development: true },
];

/// A chain's profile, if it has one.
pub fn profile(chain: ChainId) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.chain == chain)
}

impl Chain {
    /// What these transaction bytes cost on the chain below, in wei, beyond their gas; zero where there is none.
    pub async fn data_fee(&self, raw: &[u8]) -> Result<u128, Error> {
        if !profile(self.chain_id()).is_some_and(|profile| profile.data_fee) {
            return Ok(0);
        }
        let call = GasPriceOracle::getL1FeeCall { data: raw.to_vec().into() };
        let block: BlockId = latest();
        let fee = self.call("the data fee", crate::convert::address(ORACLE), call, block).await?;
        small("getL1Fee", fee).map(u128::from)
    }
}
