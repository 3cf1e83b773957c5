//! `[validator]`: what is this operator's own. What all operators agree on stands in the set file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use finality_gadget::{CheckpointPersistenceConfig, Config as Rules, FinalityRule, ValidatorId};
use serde::{Deserialize, Serialize, Serializer};

/// Shortest time between two looks at the chain in milliseconds: below it an endpoint is only kept busy.
const LEAST_POLL: u64 = 20;

/// `[validator]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Validator {
    /// Folder of the checkpoint database and its witness; made if absent.
    pub(crate) data: PathBuf,
    /// The set file that all operators share.
    pub(crate) set_file: Option<PathBuf>,
    /// Digest that the set file must have, as `milepost validator set` prints it. A file that was changed is then refused.
    pub(crate) agreement: Option<String>,
    /// The vote key as an encrypted keystore (`milepost keys validator new`).
    pub(crate) keystore: Option<PathBuf>,
    /// File with the keystore's passphrase, readable by its owner only; without it `MILEPOST_PASSPHRASE`, else the terminal.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The key that it shows on the network: PKCS #8 in PEM, readable by its owner only.
    pub(crate) transport_key: Option<PathBuf>,
    /// Where it listens for other validators.
    pub(crate) listen: SocketAddr,
    /// Where it gives certificates to everybody who asks; unset: nowhere.
    pub(crate) certificates_listen: Option<SocketAddr>,
    /// Where it answers `/health`, `/ready`, `/status` and `/metrics`; unset: nowhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// JSON-RPC endpoint of the chain: the form for one.
    pub(crate) rpc_url: Option<Url>,
    /// Several endpoints. The one with the greatest weight is asked; when it fails, the next.
    pub(crate) rpc_urls: Vec<Endpoint>,
    /// Milliseconds after which an endpoint that does not answer is given up for the moment.
    pub(crate) rpc_timeout_ms: u64,
    /// Milliseconds between two looks at the chain.
    pub(crate) poll_ms: u64,
    /// Up to which block checkpoints are voted for; `finalized` where the rule is `single`, else `latest`.
    pub(crate) follow: Option<Follow>,
    /// With `latest`: so many blocks below the newest.
    pub(crate) depth: u64,
    /// How the database is kept.
    pub(crate) persistence: Persistence,
    /// The times of the protocol.
    pub(crate) timing: Timing,
}

impl Default for Validator {
    fn default() -> Self {
        Self {
            data: PathBuf::from("milepost-data/validator"),
            set_file: None,
            agreement: None,
            keystore: None,
            passphrase_file: None,
            transport_key: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 7700)),
            certificates_listen: None,
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7790))),
            rpc_url: None,
            rpc_urls: Vec::new(),
            rpc_timeout_ms: 10_000,
            poll_ms: 1_000,
            follow: None,
            depth: 4,
            persistence: Persistence::default(),
            timing: Timing::default(),
        }
    }
}

impl Validator {
    /// Where the checkpoint database lies. Its witness lies beside it.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("finality")
    }

    /// The set file, which every command but `keys` needs.
    pub(crate) fn set_file(&self) -> Result<&Path, String> {
        self.set_file.as_deref().ok_or_else(|| "no set file is configured: set validator.set_file (docs/validators.md)".to_owned())
    }

    /// The endpoints, the heaviest first.
    pub(crate) fn endpoints(&self) -> Result<Vec<Url>, String> {
        let mut all: Vec<(u32, Url)> = self.rpc_urls.iter().map(|endpoint| (endpoint.weight, endpoint.url.clone())).collect();
        all.extend(self.rpc_url.iter().map(|url| (1, url.clone())));
        all.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        if all.is_empty() {
            return Err("no chain endpoint is configured: set validator.rpc_url or validator.rpc_urls".to_owned());
        }
        Ok(all.into_iter().map(|(_, url)| url).collect())
    }

    /// Up to which block to vote, under a rule.
    pub(crate) fn follow(&self, rule: FinalityRule) -> Result<milepost_canonical_chain::Follow, String> {
        use milepost_canonical_chain::Follow as Depth;
        let by_rule = if rule == FinalityRule::Single { Follow::Finalized } else { Follow::Latest };
        match (self.follow.unwrap_or(by_rule), rule) {
            (Follow::Finalized, _) => Ok(Depth::Finalized),
            (Follow::Safe, FinalityRule::Ffg) => Ok(Depth::Safe),
            (Follow::Latest, FinalityRule::Ffg) => Ok(Depth::Depth(self.depth)),
            (Follow::Safe | Follow::Latest, FinalityRule::Single) => {
                Err("validator.follow: under the rule `single` only what the chain itself calls `finalized` is voted for".to_owned())
            }
        }
    }

    /// Time between two looks at the chain.
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(LEAST_POLL))
    }
}

/// Which block is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Follow {
    /// The chain's `finalized` tag.
    Finalized,
    /// The chain's `safe` tag.
    Safe,
    /// `depth` blocks below the newest one.
    Latest,
}

/// One of several endpoints.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// Its address.
    pub(crate) url: Url,
    /// The greatest is asked first.
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

fn one() -> u32 {
    1
}

/// An endpoint's address. It may hold an access key: shown and written, it is scheme, host and port alone.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Url(String);

impl Url {
    /// The whole address, for those who connect.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match reqwest::Url::parse(&self.0) {
            // `user:password@host` has a scheme too, by the letter: the user.
            Ok(url) if !matches!(url.scheme(), "http" | "https") => f.write_str("an address that is no URL"),
            Ok(url) => match (url.host_str(), url.port()) {
                (Some(host), Some(port)) => write!(f, "{}://{host}:{port}", url.scheme()),
                (Some(host), None) => write!(f, "{}://{host}", url.scheme()),
                _ => write!(f, "{}://", url.scheme()),
            },
            Err(_) => f.write_str("an address that is no URL"),
        }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `[validator.persistence]`: a preset, and what is to differ from it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Persistence {
    /// `mainnet` (1000 checkpoints, flushed every 10 s, pruned every 300 s) or `testnet` (100, 5 s, 60 s).
    pub(crate) preset: Preset,
    /// `false` makes an observer that never signs.
    pub(crate) enabled: Option<bool>,
    /// Checkpoints below the last final one whose votes and certificates are kept.
    pub(crate) retention_checkpoints: Option<u64>,
    /// Seconds between flushes.
    pub(crate) flush_interval_secs: Option<u64>,
    /// Seconds between prunings.
    pub(crate) prune_interval_secs: Option<u64>,
}

/// Where the settings of the database begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Preset {
    /// For chains that carry value.
    #[default]
    Mainnet,
    /// For trying things out.
    Testnet,
}

impl Persistence {
    /// The preset with what differs from it.
    pub(crate) fn config(&self) -> CheckpointPersistenceConfig {
        let preset = match self.preset {
            Preset::Mainnet => CheckpointPersistenceConfig::mainnet(),
            Preset::Testnet => CheckpointPersistenceConfig::testnet(),
        };
        CheckpointPersistenceConfig {
            enabled: self.enabled.unwrap_or(preset.enabled),
            retention_checkpoints: self.retention_checkpoints.unwrap_or(preset.retention_checkpoints),
            flush_interval_secs: self.flush_interval_secs.unwrap_or(preset.flush_interval_secs),
            prune_interval_secs: self.prune_interval_secs.unwrap_or(preset.prune_interval_secs),
        }
    }
}

/// `[validator.timing]`: milliseconds; what is unset is as the gadget has it, for validators on one continent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_field_names, reason = "settings name their unit")]
pub(crate) struct Timing {
    /// An own vote is sent again this often until it is certified.
    pub(crate) resend_ms: Option<u64>,
    /// Peers are told where this node stands this often.
    pub(crate) status_ms: Option<u64>,
    /// So long an own vote may stay without a certificate before a higher target is tried.
    pub(crate) patience_ms: Option<u64>,
    /// A start that not all peers have answered waits so long before a quorum of answers is enough.
    pub(crate) settle_ms: Option<u64>,
    /// So long finality may stand still before it is called stuck.
    pub(crate) stuck_ms: Option<u64>,
}

impl Timing {
    /// The gadget's settings.
    pub(crate) fn rules(&self, rule: FinalityRule, validator: ValidatorId) -> Rules {
        let usual = Rules::new(rule, Some(validator));
        Rules {
            resend_every: self.resend_ms.unwrap_or(usual.resend_every).max(1),
            status_every: self.status_ms.unwrap_or(usual.status_every).max(1),
            patience: self.patience_ms.unwrap_or(usual.patience),
            settle: self.settle_ms.unwrap_or(usual.settle),
            stuck_after: self.stuck_ms.unwrap_or(usual.stuck_after),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Validator, String> {
        let set: Vec<(String, String)> = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let (config, _) = load(None, std::iter::empty(), &set).map_err(|error| error.to_string())?;
        Ok(config.validator.unwrap_or_default())
    }

    #[test]
    fn an_unknown_key_is_an_error_at_every_depth() {
        for key in ["validator.lissten", "validator.persistence.retention", "validator.timing.resend"] {
            let error = read(&[(key, "1")]).expect_err("refused");
            assert!(error.contains(key.rsplit('.').next().expect("a name")), "{error}");
        }
    }

    #[test]
    fn a_preset_is_taken_with_what_differs_from_it() {
        let set = [("validator.persistence.preset", "testnet"), ("validator.persistence.prune_interval_secs", "7")];
        let config = read(&set).expect("read").persistence.config();
        assert_eq!(config, CheckpointPersistenceConfig { prune_interval_secs: 7, ..CheckpointPersistenceConfig::testnet() });
        assert_eq!(Persistence::default().config(), CheckpointPersistenceConfig::mainnet());
    }

    #[test]
    fn the_heaviest_endpoint_is_asked_first_and_none_is_shown_with_its_access_key() {
        let url = |text: &str| Url(text.to_owned());
        let light = Endpoint { url: url("http://light.example:8545"), weight: 2 };
        let heavy = Endpoint { url: url("https://heavy.example/key-1234"), weight: 5 };
        let settings = Validator { rpc_url: Some(url("http://one.example")), rpc_urls: vec![light, heavy], ..Validator::default() };
        let shown: Vec<String> = settings.endpoints().expect("some").iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["https://heavy.example", "http://light.example:8545", "http://one.example"]);
        assert!(!format!("{settings:?}").contains("key-1234"));
        assert!(Validator::default().endpoints().expect_err("none").contains("rpc_url"));
    }

    #[test]
    fn the_rule_single_follows_nothing_but_the_finalized_tag() {
        use milepost_canonical_chain::Follow as Depth;
        let settings = Validator::default();
        assert_eq!(settings.follow(FinalityRule::Single), Ok(Depth::Finalized));
        assert_eq!(settings.follow(FinalityRule::Ffg), Ok(Depth::Depth(4)));
        let latest = Validator { follow: Some(Follow::Latest), depth: 9, ..Validator::default() };
        assert_eq!(latest.follow(FinalityRule::Ffg), Ok(Depth::Depth(9)));
        assert!(latest.follow(FinalityRule::Single).is_err());
    }
}
