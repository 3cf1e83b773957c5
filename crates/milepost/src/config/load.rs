//! Reading the configuration from its three sources.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;

#[cfg(feature = "host")]
use super::Secret;
#[cfg(feature = "host")]
use super::aliases::{ALIASES, why_ignored};
use super::{Config, endpoints};

/// Without a host there is no key that could stand in a variable: one that does is refused unread.
#[cfg(not(feature = "host"))]
use std::string::String as Secret;

/// Variables of the known node: a host's.
#[cfg(not(feature = "host"))]
const ALIASES: &[(&str, Option<&str>)] = &[];

#[cfg(not(feature = "host"))]
fn why_ignored(_: &str) -> &'static str {
    "it is a host's"
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file does not exist.
    #[error("configuration file {0} does not exist")]
    NoFile(PathBuf),
    /// A key is unknown or its value is wrong; the text names it.
    #[error("configuration: {0}")]
    Invalid(String),
    /// A variable that looks like ours but is not.
    #[error("environment variable {name} is unknown; {hint}")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// What would be right.
        hint: String,
    },
    /// A secret in the configuration file.
    #[error(
        "keys.submitter must not stand in a file that is also a configuration: put it into a file of its own (keys.submitter_file) or into HOST_PRIVATE_KEY"
    )]
    SecretInFile,
    /// A secret on the command line, which every process on the machine can read.
    #[error("keys.submitter must not stand on the command line, which every process on the machine can read: use keys.keystore")]
    SecretOnCommandLine,
}

/// Variables of ours that are not settings.
const NOT_SETTINGS: &[&str] = &["MILEPOST_CACHE", "MILEPOST_LOG", "MILEPOST_CONFIG", "MILEPOST_MODEL", "MILEPOST_PASSPHRASE"];
/// What the one secret among the settings is named.
const SECRET: &str = "keys.submitter";

/// Reads the configuration. `vars` is the environment; `overrides` are `section.key=value` pairs from flags.
pub(crate) fn load(
    file: Option<&Path>,
    vars: impl Iterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<(Config, Vec<String>), Error> {
    if overrides.iter().any(|(key, _)| key == SECRET) {
        return Err(Error::SecretOnCommandLine);
    }
    let mut figment = Figment::new();
    if let Some(file) = file {
        if !file.is_file() {
            return Err(Error::NoFile(file.to_owned()));
        }
        let text = std::fs::read_to_string(file).map_err(|error| Error::Invalid(format!("{}: {error}", file.display())))?;
        crate::redact::learn(&text);
        // Here and not in the reader below, which would quote the line.
        if let Err(error) = text.parse::<toml::Table>() {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            return Err(Error::Invalid(format!("{}, line {line}: {}", file.display(), error.message())));
        }
        let toml = Figment::from(Toml::file_exact(file));
        if toml.find_value(SECRET).is_ok() {
            return Err(Error::SecretInFile);
        }
        figment = figment.merge(toml);
    }
    let mut warnings = Vec::new();
    let mut submitter = None;
    let (mut aliased, mut own) = (Vec::new(), Vec::new());
    for (name, value) in vars {
        if let Some((_, key)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            match *key {
                Some(SECRET) => {
                    warnings.push(bare_key(&name));
                    submitter = Some(Secret::from(value));
                }
                Some("node.listen") => aliased.push(("node.listen".to_owned(), format!("127.0.0.1:{value}"))),
                Some(key) => aliased.push((key.to_owned(), value)),
                None => warnings.push(format!("{name} is ignored: {}", why_ignored(&name))),
            }
        } else if let Some(rest) = name.strip_prefix("MILEPOST_") {
            if NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            let Some((section, key)) = rest.split_once("__") else {
                return Err(Error::UnknownVariable {
                    name,
                    hint: "settings are named MILEPOST_SECTION__KEY, as in MILEPOST_NODE__LISTEN".to_owned(),
                });
            };
            let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase().replace("__", "."));
            if key == SECRET {
                // Never through the general reader, whose errors quote values.
                warnings.push(bare_key(&name));
                submitter = Some(Secret::from(value));
            } else {
                own.push((key, value));
            }
        }
    }
    for (key, value) in aliased.iter().chain(&own).chain(overrides) {
        figment = figment.merge(Serialized::default(key, typed(value)));
    }
    figment = endpoints::in_full(figment).map_err(Error::Invalid)?;
    #[cfg_attr(not(feature = "host"), expect(unused_mut, reason = "only a host has a key to put in"))]
    let mut config: Config = figment.extract().map_err(|error| Error::Invalid(explain(&error)))?;
    #[cfg(feature = "host")]
    if let Some(chain) = &config.chain {
        endpoints::check("chain", chain.endpoints().map(|endpoint| (*endpoint.url).to_owned())).map_err(Error::Invalid)?;
    }
    #[cfg(feature = "validator")]
    if let Some(validator) = &config.validator {
        endpoints::check("validator", validator.endpoints().unwrap_or_default().iter().map(|url| url.expose().to_owned()))
            .map_err(Error::Invalid)?;
    }
    #[cfg(feature = "host")]
    super::host::complete(&mut config);
    #[cfg(feature = "host")]
    if submitter.is_some() {
        config.keys.submitter = submitter;
    }
    #[cfg(not(feature = "host"))]
    if submitter.is_some() {
        let hint = "this build has no host, and no key of one".to_owned();
        return Err(Error::UnknownVariable { name: "MILEPOST_KEYS__SUBMITTER".to_owned(), hint });
    }
    Ok((config, warnings))
}

fn bare_key(name: &str) -> String {
    format!(
        "{name}: a bare private key in the environment can be read by whoever may look at this process; `milepost keys import` makes an encrypted keystore of it (keys.keystore)"
    )
}

/// Numbers and booleans keep their type, lists and tables are read as TOML has them; everything else is text.
fn typed(text: &str) -> Value {
    if text.starts_with(['[', '{']) {
        let read = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
        if let Some(value) = read.and_then(|mut table| table.remove("value")).and_then(|value| Value::serialize(value).ok()) {
            return value;
        }
    }
    match text.parse::<u64>() {
        Ok(number) => Value::from(number),
        Err(_) => match text {
            "true" => Value::from(true),
            "false" => Value::from(false),
            _ => Value::from(text),
        },
    }
}

/// What is wrong and where, without the values: one of them may be an address with an access key in it.
pub(super) fn explain(error: &figment::Error) -> String {
    let one = |error: figment::Error| {
        let file = error.metadata.as_ref().and_then(|from| from.source.as_ref()).and_then(|source| source.file_path());
        let place = file.map(|file| format!(" in {}", file.display())).unwrap_or_default();
        match error.path.join(".") {
            key if key.is_empty() => format!("{}{place}", what(&error.kind)),
            key => format!("{key}: {}{place}", what(&error.kind)),
        }
    };
    error.clone().into_iter().map(one).collect::<Vec<_>>().join("; ")
}

fn what(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let found = match found {
                Actual::Bool(_) => "true or false",
                Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
                Actual::Char(_) | Actual::Str(_) => "text",
                Actual::Seq => "a list",
                Actual::Map => "a table",
                _ => "something else",
            };
            format!("found {found}, expected {expected}")
        }
        other => other.to_string(),
    }
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("milepost.toml");
        std::fs::write(&file, "[node]\nlissten = \"127.0.0.1:1\"\n").expect("written");
        let error = load(Some(&file), vars(&[]), &[]).expect_err("refused").to_string();
        assert!(error.contains("lissten"), "{error}");
    }

    #[test]
    fn an_unknown_variable_is_an_error_and_foreign_ones_are_not() {
        assert!(matches!(load(None, vars(&[("MILEPOST_LISTEN", "x")]), &[]), Err(Error::UnknownVariable { .. })));
        let error = load(None, vars(&[("MILEPOST_NODE__LISSTEN", "x")]), &[]).expect_err("refused").to_string();
        assert!(error.contains("lissten"), "{error}");
        assert!(load(None, vars(&[("PATH", "/bin"), ("MILEPOST_CACHE", "/tmp")]), &[]).is_ok());
    }

    #[test]
    fn the_known_nodes_variables_are_understood() {
        let marketplace = "0x1111111111111111111111111111111111111111";
        let set = [
            ("API_PORT", "9000"),
            ("MODEL_PATH", "/m.gguf"),
            ("RPC_URL", "http://127.0.0.1:8545"),
            ("CONTRACT_JOB_MARKETPLACE", marketplace),
            ("CHECKPOINT_THRESHOLD", "50"),
            ("CONTRACT_PROOF_SYSTEM", "0x1"),
        ];
        let (config, warnings) = load(None, vars(&set), &[]).expect("accepted");
        assert_eq!(config.node.listen.port(), 9000);
        assert_eq!(config.model.path, Some(PathBuf::from("/m.gguf")));
        let chain = config.chain.expect("settling");
        assert_eq!((chain.chain_id.0, chain.marketplace.to_string().as_str()), (84532, marketplace));
        assert_eq!(config.gateway.checkpoint_threshold, 50);
        assert!(warnings.iter().any(|warning| warning.contains("CONTRACT_PROOF_SYSTEM")), "{warnings:?}");
    }

    #[test]
    fn contracts_without_an_endpoint_mean_log_mode() {
        let set = [("CHAIN_ID", "84532"), ("CONTRACT_JOB_MARKETPLACE", "0x1111111111111111111111111111111111111111")];
        assert!(load(None, vars(&set), &[]).expect("accepted").0.chain.is_none());
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("milepost.toml");
        std::fs::write(&file, "[model]\nthreads = 1\n[node]\nlisten = \"127.0.0.1:1\"\n").expect("written");
        let own = [("MILEPOST_MODEL__THREADS", "2"), ("MILEPOST_NODE__LISTEN", "127.0.0.1:2")];
        let (config, _) = load(Some(&file), vars(&own), &[("node.listen".to_owned(), "127.0.0.1:3".to_owned())]).expect("accepted");
        assert_eq!((config.model.threads, config.node.listen.port()), (Some(2), 3));
    }

    #[test]
    fn a_key_is_never_printed_and_never_read_from_the_configuration_file() {
        let (config, _) = load(None, vars(&[("HOST_PRIVATE_KEY", "0xabc123")]), &[]).expect("accepted");
        assert!(!format!("{config:?}").contains("abc123"));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("milepost.toml");
        std::fs::write(&file, "[keys]\nsubmitter = \"0xabc\"\n").expect("written");
        assert!(matches!(load(Some(&file), vars(&[]), &[]), Err(Error::SecretInFile)));
        let flag = [("keys.submitter".to_owned(), "0xabc123".to_owned())];
        let error = load(None, vars(&[]), &flag).expect_err("refused").to_string();
        assert!(error.contains("command line") && !error.contains("abc123"), "{error}");
    }

    #[test]
    fn a_bare_key_in_the_environment_is_taken_with_a_warning_and_never_quoted() {
        for name in ["HOST_PRIVATE_KEY", "MILEPOST_KEYS__SUBMITTER"] {
            let (config, warnings) = load(None, vars(&[(name, "1234567890")]), &[]).expect("accepted");
            assert_eq!(config.keys.submitter.as_ref().map(Secret::expose), Some("1234567890"));
            assert!(warnings.iter().any(|warning| warning.contains("keys import")), "{warnings:?}");
            assert!(!format!("{config:?}{warnings:?}").contains("1234567890"));
        }
    }
}
