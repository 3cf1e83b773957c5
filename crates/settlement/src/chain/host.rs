//! A host as the contracts have it: its record, its prices, its earnings, and what its transactions cost. For operators; no money
//! moves by it.

use alloy::primitives::U256;
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use milepost_ledger::{Address, Digest, TokenAmount};
use serde::{Deserialize, Serialize};

use super::{Chain, latest};
use crate::Error;
use crate::bindings::{HostEarnings, HostRegistry, JobMarketplace};
use crate::convert::{address, amount, b256, digest, evm};

alloy::sol! {
    /// What payment tokens say of themselves (EIP-20, optional there).
    interface Erc20Metadata {
        function decimals() external view returns (uint8);
        function symbol() external view returns (string);
    }
}

/// Longest symbol shown: a token may name itself as it likes.
const MAX_SYMBOL: usize = 12;

/// A host's record in the registry, prices aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Where its earnings are withdrawn to.
    pub payout: Address,
    /// Whether new sessions may name it.
    pub active: bool,
    /// Where it says it serves.
    pub api_url: String,
    /// Keys that may claim, close and finalize for it.
    pub submitters: Vec<Address>,
    /// Digests of the models that it offers.
    pub models: Vec<Digest>,
}

/// How a payment token is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Its own symbol, shortened and reduced to letters and digits.
    pub symbol: String,
    /// Digits after the decimal point.
    pub decimals: u8,
}

impl Chain {
    /// A host's record; `None` if it never registered.
    pub async fn host_record(&self, host: Address) -> Result<Option<HostRecord>, Error> {
        let registry = self.constants().await?.registry;
        let found = self.call("a host's record", registry, HostRegistry::getHostCall { host: evm(host) }, latest()).await?;
        let payout = address(found.payout);
        Ok((payout != Address::ZERO).then(|| HostRecord {
            payout,
            active: found.active,
            api_url: found.apiUrl,
            submitters: found.submitters.into_iter().map(address).collect(),
            models: found.models.into_iter().map(digest).collect(),
        }))
    }

    /// What a host asks for a token of a model, for each payment token that it takes.
    pub async fn prices_of(&self, host: Address, model: Digest) -> Result<Vec<(Address, TokenAmount)>, Error> {
        let registry = self.constants().await?.registry;
        let call = HostRegistry::pricesOfCall { host: evm(host), modelDigest: b256(model) };
        let found = self.call("a host's prices", registry, call, latest()).await?;
        found.tokens.into_iter().zip(found.prices).map(|(token, price)| Ok((address(token), amount("a price", price)?))).collect()
    }

    /// What a host can withdraw of a payment token (`HostEarnings.getBalance`).
    pub async fn withdrawable(&self, host: Address, token: Address) -> Result<TokenAmount, Error> {
        let earnings = self.constants().await?.earnings;
        let call = HostEarnings::getBalanceCall { host: evm(host), token: evm(token) };
        amount("getBalance", self.call("a host's earnings", earnings, call, latest()).await?)
    }

    /// What the marketplace owes an account because the token did not move when it was due (`credits`).
    pub async fn credit(&self, account: Address, token: Address) -> Result<TokenAmount, Error> {
        let call = JobMarketplace::creditsCall { account: evm(account), token: evm(token) };
        amount("credits", self.call("a credit", self.marketplace(), call, latest()).await?)
    }

    /// Symbol and decimals of a payment token; the zero address is the chain's coin. `None` where a token does not say.
    pub async fn token_info(&self, token: Address) -> Result<Option<TokenInfo>, Error> {
        if token == Address::ZERO {
            return Ok(Some(TokenInfo { symbol: "ETH".to_owned(), decimals: 18 }));
        }
        let Some(decimals) = self.told(token, Erc20Metadata::decimalsCall {}).await? else { return Ok(None) };
        let symbol = self.told(token, Erc20Metadata::symbolCall {}).await?.unwrap_or_default();
        let symbol = symbol.chars().filter(char::is_ascii_alphanumeric).take(MAX_SYMBOL).collect();
        Ok(Some(TokenInfo { symbol, decimals }))
    }

    /// What the token says; `None` if it refuses or answers something else.
    async fn told<C: SolCall>(&self, token: Address, call: C) -> Result<Option<C::Return>, Error> {
        match self.call("a token's metadata", token, call, latest()).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Rpc { .. } | Error::Answer { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a mined transaction cost in wei: gas at the price that was really paid, and the data fee of chains that post to
    /// another (`l1Fee` of OP-stack receipts). `None` if it is in no block.
    pub async fn gas_cost(&self, tx: Digest) -> Result<Option<u128>, Error> {
        let what = "what a transaction cost";
        let provider = self.provider();
        let receipt: Option<PaidGas> =
            self.ask(what, async { provider.raw_request("eth_getTransactionReceipt".into(), (b256(tx),)).await }).await?;
        let Some(paid) = receipt else { return Ok(None) };
        let wei = paid.gas_used.saturating_mul(paid.effective_gas_price).saturating_add(paid.l1_fee.unwrap_or_default());
        Ok(Some(amount(what, wei)?.0))
    }
}

/// The part of a receipt that says what was paid. Extra fields differ from chain to chain.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PaidGas {
    gas_used: U256,
    effective_gas_price: U256,
    #[serde(default)]
    l1_fee: Option<U256>,
}

#[cfg(test)]
mod tests {
    use super::PaidGas;

    #[test]
    fn the_data_fee_of_a_rollup_is_read_where_it_stands() {
        let receipt = r#"{"gasUsed":"0x5208","effectiveGasPrice":"0x3b9aca00","l1Fee":"0x64","status":"0x1"}"#;
        let paid: PaidGas = serde_json::from_str(receipt).expect("a receipt");
        assert_eq!((paid.gas_used.to::<u64>(), paid.l1_fee.map(|fee| fee.to::<u64>())), (21_000, Some(100)));
        let receipt = r#"{"gasUsed":"0x1","effectiveGasPrice":"0x2"}"#;
        assert!(serde_json::from_str::<PaidGas>(receipt).expect("a receipt").l1_fee.is_none());
    }
}
