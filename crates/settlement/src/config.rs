//! What the operator sets.

use std::path::PathBuf;
use std::time::Duration;

use milepost_ledger::{Address, ChainId, Digest, PlanConfig, TokenAmount, TokenCount};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Most claims of one transaction.
const MOST_CLAIMS: u64 = milepost_ledger::Purpose::MAX_CLAIMS as u64;

/// When a block counts as final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finality {
    /// When `confirmations` blocks, its own included, are built.
    Confirmations,
    /// When the chain's own `finalized` tag has reached it.
    Finalized,
    /// When validators have certified it or a block above it; see [`Certificates`].
    Certificate,
}

/// Whose certificates make blocks final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// The set file that the validators' operators share.
    pub set_file: PathBuf,
    /// Digest that the set file must have, 64 hexadecimal digits. A file that was changed is then refused.
    #[serde(default)]
    pub agreement: Option<String>,
    /// Numbers of the validators that are asked; by default all that the set file gives an address for certificates.
    #[serde(default)]
    pub validators: Vec<u32>,
    /// Folder of the accepted certificates; `certificates` in the node's data folder if not given.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Milliseconds between two questions to one validator.
    #[serde(default = "defaults::poll_ms")]
    pub poll_ms: u64,
    /// Seconds without a newer certificate after which the operator is told.
    #[serde(default = "defaults::stale_seconds")]
    pub stale_seconds: u64,
}

impl Certificates {
    /// A set file's certificates, kept in `folder`, with defaults for the rest.
    pub fn new(set_file: impl Into<PathBuf>, folder: impl Into<PathBuf>) -> Self {
        Self {
            set_file: set_file.into(),
            agreement: None,
            validators: Vec::new(),
            folder: Some(folder.into()),
            poll_ms: defaults::poll_ms(),
            stale_seconds: defaults::stale_seconds(),
        }
    }
}

/// An endpoint's address. It may hold an access key: shown and written, it is scheme, host and port alone.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RpcUrl(String);

impl std::ops::Deref for RpcUrl {
    type Target = str;

    /// The whole address, for those who connect.
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for RpcUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl From<&str> for RpcUrl {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl std::fmt::Debug for RpcUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", redacted(&self.0))
    }
}

impl std::fmt::Display for RpcUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl Serialize for RpcUrl {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&redacted(&self.0))
    }
}

/// Scheme, host and port of an address.
pub(crate) fn redacted(url: &str) -> String {
    match url.parse::<alloy::transports::http::reqwest::Url>() {
        Ok(url) => match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{}://{host}:{port}", url.scheme()),
            (Some(host), None) => format!("{}://{host}", url.scheme()),
            _ => format!("{}://", url.scheme()),
        },
        Err(_) if url.is_empty() => String::new(),
        Err(_) => "an address that is no URL".to_owned(),
    }
}

/// One of several endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address.
    pub url: RpcUrl,
    /// How often it is chosen, beside the others' weights.
    #[serde(default = "defaults::weight")]
    pub weight: u32,
}

/// Settlement's part of the configuration. The key is no part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlementConfig {
    /// JSON-RPC endpoint: the form for one.
    #[serde(default)]
    pub rpc_url: RpcUrl,
    /// Several endpoints with weights; `rpc_url`, if given too, is one more with weight 1.
    #[serde(default)]
    pub rpc_urls: Vec<Endpoint>,
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
    /// With `finality = "certificate"`: whose certificates, and where they are kept.
    #[serde(default)]
    pub certificates: Option<Certificates>,
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
    /// Most claims of one transaction, where the marketplace takes several: 1 to 100; 1 sends each alone.
    #[serde(default = "defaults::max_batch")]
    pub max_batch: u64,
    /// Seconds for which a proven claim without a near deadline waits for others to share its transaction. 0: it goes with what is there.
    #[serde(default)]
    pub batch_wait_seconds: u64,
    /// Most gwei per gas ever offered.
    #[serde(default = "defaults::max_fee_gwei")]
    pub max_fee_gwei: u64,
    /// The key is used by other programs too: a chain that counts more transactions of it than the ledger is no reason to stop.
    #[serde(default)]
    pub shared_key: bool,
    /// Folder in which all nodes of the deployment lock their keys; by default one of this machine. Development chains have none
    /// unless it is set.
    #[serde(default)]
    pub key_lock_folder: Option<PathBuf>,
    /// What one of the chain's coins is worth in the smallest unit of the payment token. With it, a claim waits while its gas costs
    /// more than it earns.
    #[serde(default)]
    pub coin_price: Option<TokenAmount>,
    /// Seconds for which a transaction is the next to be mined before its fee is raised.
    #[serde(default = "defaults::bump_seconds")]
    pub bump_seconds: u64,
    /// Seconds for which a transaction is the next to be mined before the operator is told.
    #[serde(default = "defaults::stuck_seconds")]
    pub stuck_seconds: u64,
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
    /// Object store into which they are published instead.
    pub s3: Option<S3Config>,
}

/// A bucket of an S3-compatible object store. Its credentials are no part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// Scheme, host and port of the store; the region's own, if not given.
    #[serde(default)]
    pub endpoint: Option<RpcUrl>,
    /// The region that requests are signed for.
    #[serde(default = "defaults::s3_region")]
    pub region: String,
    /// What object names begin with, before the content id.
    #[serde(default)]
    pub prefix: String,
    /// Lets `endpoint` be one without encryption.
    #[serde(default)]
    pub allow_http: bool,
    /// File with `aws_access_key_id` and `aws_secret_access_key`, in the form of the store's own tools, read by its owner alone; else
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` in the environment.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

mod defaults {
    use super::Finality;

    pub(super) fn weight() -> u32 {
        1
    }
    pub(super) fn s3_region() -> String {
        "us-east-1".to_owned()
    }
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
    /// Each claim of a transaction costs some 24,000 gas, the transaction itself 28,000: with 25 of them that is 5 % more for each. More
    /// would save less than that, and let more claims wait for one nonce.
    pub(super) fn max_batch() -> u64 {
        25
    }
    pub(super) fn max_fee_gwei() -> u64 {
        100
    }
    /// Several blocks of every chain we know: who is not in by then offered too little.
    pub(super) fn bump_seconds() -> u64 {
        30
    }
    /// Long enough for a dozen raises.
    pub(super) fn stuck_seconds() -> u64 {
        600
    }
    pub(super) fn sweep_seconds() -> u64 {
        60
    }
    /// Many checkpoints of every chain we know.
    pub(super) fn stale_seconds() -> u64 {
        300
    }
}

impl SettlementConfig {
    /// A configuration with defaults for everything that has one.
    pub fn new(rpc_url: impl Into<RpcUrl>, chain_id: ChainId, marketplace: Address) -> Self {
        Self {
            rpc_url: rpc_url.into(),
            rpc_urls: Vec::new(),
            chain_id,
            marketplace,
            host: None,
            finality: defaults::finality(),
            confirmations: defaults::confirmations(),
            certificates: None,
            poll_ms: defaults::poll_ms(),
            rpc_timeout_ms: defaults::rpc_timeout_ms(),
            resend_seconds: defaults::resend_seconds(),
            claim_tokens: defaults::claim_tokens(),
            max_claim_tokens: defaults::max_claim_tokens(),
            claim_seconds: defaults::claim_seconds(),
            claim_at_value: None,
            max_batch: defaults::max_batch(),
            batch_wait_seconds: 0,
            max_fee_gwei: defaults::max_fee_gwei(),
            shared_key: false,
            key_lock_folder: None,
            coin_price: None,
            bump_seconds: defaults::bump_seconds(),
            stuck_seconds: defaults::stuck_seconds(),
            sweep_seconds: defaults::sweep_seconds(),
            deployed: DeployedConfig::default(),
        }
    }

    /// Every endpoint, `rpc_url` first.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        let single = (!self.rpc_url.is_empty()).then(|| Endpoint { url: self.rpc_url.clone(), weight: 1 });
        single.into_iter().chain(self.rpc_urls.iter().cloned())
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
            ("max_batch", self.max_batch),
            ("max_fee_gwei", self.max_fee_gwei),
            ("bump_seconds", self.bump_seconds),
            ("stuck_seconds", self.stuck_seconds),
            ("sweep_seconds", self.sweep_seconds),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return wrong(format!("{name} must be at least 1"));
        }
        match (self.finality, &self.certificates) {
            (Finality::Certificate, None) => {
                return wrong("finality = \"certificate\" needs the section certificates with the validators' set_file".to_owned());
            }
            (Finality::Certificate, Some(certificates)) if certificates.poll_ms == 0 || certificates.stale_seconds == 0 => {
                return wrong("certificates.poll_ms and certificates.stale_seconds must be at least 1".to_owned());
            }
            (Finality::Confirmations | Finality::Finalized, Some(_)) => {
                // Somebody who wrote the section believes that it counts.
                return wrong("the section certificates is given, but finality is not \"certificate\"".to_owned());
            }
            _ => {}
        }
        if self.max_batch > MOST_CLAIMS {
            return wrong(format!("max_batch is {}, more than the {MOST_CLAIMS} that a transaction can carry", self.max_batch));
        }
        if self.batch_wait_seconds.saturating_mul(2) > self.claim_seconds {
            // What is planned in time for a deadline must not be late by waiting.
            return wrong(format!(
                "batch_wait_seconds ({}) must be at most half of claim_seconds ({})",
                self.batch_wait_seconds, self.claim_seconds
            ));
        }
        if self.max_claim_tokens < self.claim_tokens {
            return wrong(format!("max_claim_tokens ({}) must be at least claim_tokens ({})", self.max_claim_tokens, self.claim_tokens));
        }
        Ok(())
    }

    /// Where the key's lock is taken; `None` for development chains.
    pub(crate) fn lock_folder(&self) -> Option<PathBuf> {
        let development = crate::chain::profile(self.chain_id).is_some_and(|profile| profile.development);
        self.key_lock_folder.clone().or_else(|| (!development).then(crate::key_lock::default_folder))
    }

    pub(crate) fn plan(&self) -> PlanConfig {
        PlanConfig {
            claim_tokens: TokenCount(self.claim_tokens),
            max_claim_tokens: TokenCount(self.max_claim_tokens),
            claim_seconds: self.claim_seconds,
            claim_at_value: self.claim_at_value,
        }
    }

    pub(crate) fn batch_wait(&self) -> Duration {
        Duration::from_secs(self.batch_wait_seconds)
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    pub(crate) fn rpc_timeout(&self) -> Duration {
        Duration::from_millis(self.rpc_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_what_may_be_secret() {
        let mut config = SettlementConfig::new("https://user:pass@rpc.example:8443/v2/secret?key=secret", ChainId(1), Address([1; 20]));
        config.rpc_urls = vec![Endpoint { url: "https://other.example/secret".into(), weight: 2 }];
        assert_eq!(config.rpc_url.to_string(), "https://rpc.example:8443");
        for shown in [format!("{config:?}"), serde_json::to_string(&config).unwrap()] {
            assert!(!shown.contains("secret") && !shown.contains("pass"), "{shown}");
            assert!(shown.contains("rpc.example") && shown.contains("other.example"), "{shown}");
        }
        assert!(config.rpc_url.contains("secret"), "and is whole for who connects");
        assert_eq!(config.endpoints().map(|endpoint| endpoint.weight).collect::<Vec<_>>(), [1, 2]);
    }
}
