//! What the operator sets.

use std::time::Duration;

use milepost_ledger::{Address, ChainId, Digest, PlanConfig, TokenAmount, TokenCount};
use serde::{Deserialize, Serialize};

use crate::Error;

/// When a block counts as final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finality {
    /// When `confirmations` blocks, its own included, are built.
    Confirmations,
    /// When the chain's own `finalized` tag has reached it.
    Finalized,
}

/// Settlement's part of the configuration. The key is no part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementConfig {
    /// JSON-RPC endpoint.
    pub rpc_url: String,
    /// EIP-155 chain id.
    pub chain_id: ChainId,
    /// The marketplace.
    pub marketplace: Address,
    /// The host account whose jobs are served; the key's own address if not given.
    #[serde(default)]
    pub host: Option<Address>,
    /// When a block counts as final.
    #[serde(default = "defaults::finality")]
    pub finality: Finality,
    /// Blocks, the first included, after which a transaction is final.
    #[serde(default = "defaults::confirmations")]
    pub confirmations: u64,
    /// Milliseconds between two looks at the chain.
    #[serde(default = "defaults::poll_ms")]
    pub poll_ms: u64,
    /// Milliseconds after which an endpoint that does not answer is given up for the moment.
    #[serde(default = "defaults::rpc_timeout_ms")]
    pub rpc_timeout_ms: u64,
    /// Seconds after which an unseen transaction is handed to the endpoint again.
    #[serde(default = "defaults::resend_seconds")]
    pub resend_seconds: u64,
    /// Tokens of a claim while a session runs.
    #[serde(default = "defaults::claim_tokens")]
    pub claim_tokens: u64,
    /// Most tokens of one claim.
    #[serde(default = "defaults::max_claim_tokens")]
    pub max_claim_tokens: u64,
    /// Seconds that a claim takes from plan to inclusion.
    #[serde(default = "defaults::claim_seconds")]
    pub claim_seconds: u64,
    /// Unclaimed value (smallest unit) at which a claim is made however few tokens there are.
    #[serde(default)]
    pub claim_at_value: Option<TokenAmount>,
    /// Most gwei per gas ever offered.
    #[serde(default = "defaults::max_fee_gwei")]
    pub max_fee_gwei: u64,
    /// Seconds after which every open job is looked at, however quiet it is.
    #[serde(default = "defaults::sweep_seconds")]
    pub sweep_seconds: u64,
    /// For marketplaces of other generations than ours.
    #[serde(default)]
    pub deployed: DeployedConfig,
}

/// What a marketplace of another generation does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeployedConfig {
    /// SHA-256 of the model file that is served; the loaded model's, if not given.
    pub model: Option<Digest>,
    /// Least price at which a session is opened, in the contract's own unit of price. `None`: what the contract let through.
    pub min_price: Option<TokenAmount>,
    /// Folder into which receipts and statements are published, for claims that name them by content id; the node itself keeps them
    /// for whoever asks, if not given.
    pub publish_to: Option<std::path::PathBuf>,
}

mod defaults {
    use super::Finality;

    pub(super) fn finality() -> Finality {
        Finality::Confirmations
    }
    /// Deeper than any reorganisation of an ordinary day on the chains we know; opBNB and Base reorganise rarely at all.
    pub(super) fn confirmations() -> u64 {
        6
    }
    pub(super) fn poll_ms() -> u64 {
        2_000
    }
    pub(super) fn rpc_timeout_ms() -> u64 {
        15_000
    }
    pub(super) fn resend_seconds() -> u64 {
        30
    }
    pub(super) fn claim_tokens() -> u64 {
        1_000
    }
    pub(super) fn max_claim_tokens() -> u64 {
        4_000
    }
    pub(super) fn claim_seconds() -> u64 {
        300
    }
    pub(super) fn max_fee_gwei() -> u64 {
        100
    }
    pub(super) fn sweep_seconds() -> u64 {
        60
    }
}

impl SettlementConfig {
    /// A configuration with defaults for everything that has one.
    pub fn new(rpc_url: impl Into<String>, chain_id: ChainId, marketplace: Address) -> Self {
        Self {
            rpc_url: rpc_url.into(),
            chain_id,
            marketplace,
            host: None,
            finality: defaults::finality(),
            confirmations: defaults::confirmations(),
            poll_ms: defaults::poll_ms(),
            rpc_timeout_ms: defaults::rpc_timeout_ms(),
            resend_seconds: defaults::resend_seconds(),
            claim_tokens: defaults::claim_tokens(),
            max_claim_tokens: defaults::max_claim_tokens(),
            claim_seconds: defaults::claim_seconds(),
            claim_at_value: None,
            max_fee_gwei: defaults::max_fee_gwei(),
            sweep_seconds: defaults::sweep_seconds(),
            deployed: DeployedConfig::default(),
        }
    }

    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |text: String| Err(Error::Config(text));
        if self.marketplace == Address::ZERO {
            return wrong("marketplace must be the contract's address, not zero".to_owned());
        }
        let positive = [
            ("chain_id", self.chain_id.0),
            ("confirmations", self.confirmations),
            ("poll_ms", self.poll_ms),
            ("rpc_timeout_ms", self.rpc_timeout_ms),
            ("resend_seconds", self.resend_seconds),
            ("claim_tokens", self.claim_tokens),
            ("max_fee_gwei", self.max_fee_gwei),
            ("sweep_seconds", self.sweep_seconds),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return wrong(format!("{name} must be at least 1"));
        }
        if self.max_claim_tokens < self.claim_tokens {
            return wrong(format!("max_claim_tokens ({}) must be at least claim_tokens ({})", self.max_claim_tokens, self.claim_tokens));
        }
        Ok(())
    }

    pub(crate) fn plan(&self) -> PlanConfig {
        PlanConfig {
            claim_tokens: TokenCount(self.claim_tokens),
            max_claim_tokens: TokenCount(self.max_claim_tokens),
            claim_seconds: self.claim_seconds,
            claim_at_value: self.claim_at_value,
        }
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(crate) fn rpc_timeout(&self) -> Duration {
        Duration::from_millis(self.rpc_timeout_ms)
    }
}
