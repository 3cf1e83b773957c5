//! The forms in which several endpoints may be given.
//!
//! `rpc_urls` is a list. Each of it is an address, or a table with an address and a weight. A variable or a flag may also hold the
//! addresses as text with commas between them: `MILEPOST_CHAIN__RPC_URLS=https://one…,https://two…`.

use std::collections::BTreeMap;

use figment::Figment;
use figment::providers::Serialized;
use figment::value::Value;

/// Lists of endpoints.
const LISTS: [&str; 2] = ["chain.rpc_urls", "validator.rpc_urls"];
/// Where one address belongs.
const SINGLE: [&str; 2] = ["chain.rpc_url", "validator.rpc_url"];
/// The forms that are understood.
const FORMS: &str =
    "expected [\"https://…\", \"https://…\"], or [{ url = \"https://…\", weight = 3 }, …], or addresses with commas between them";

/// Brings every list into its full form: a list of tables. The error says the key and the right forms, and no address.
pub(super) fn in_full(mut figment: Figment) -> Result<Figment, String> {
    for key in LISTS {
        // Whatever keeps it from being found, the reader of the whole will tell.
        let Ok(given) = figment.find_value(key) else { continue };
        let items = match given {
            Value::String(_, text) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
            Value::Array(_, items) => items,
            _ => return Err(format!("{key}: {FORMS}")),
        };
        let table = |item: Value| match item {
            Value::String(..) => Ok(Value::from(BTreeMap::from([("url".to_owned(), item)]))),
            Value::Dict(..) => Ok(item),
            _ => Err(format!("{key}: {FORMS}")),
        };
        let full = items.into_iter().map(table).collect::<Result<Vec<_>, _>>()?;
        figment = figment.merge(Serialized::default(key, Value::from(full)));
    }
    for key in SINGLE {
        match figment.find_value(key) {
            // Read as one address, the second would pass for a part of the first one's path.
            Ok(Value::String(_, text)) if text.matches("://").count() > 1 => {
                return Err(format!("{key} is one address: several belong into {key}s; {FORMS}"));
            }
            Ok(Value::Array(..)) => return Err(format!("{key} is one address: several belong into {key}s; {FORMS}")),
            _ => {}
        }
    }
    Ok(figment)
}

/// Refuses addresses that nobody can ask. The error names the first of them by its place alone.
pub(super) fn check(section: &str, urls: impl IntoIterator<Item = String>) -> Result<(), String> {
    for (at, url) in urls.into_iter().enumerate() {
        let fits = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !fits {
            return Err(format!(
                "{section}: endpoint {} of rpc_url and rpc_urls is no address that begins with http:// or https://",
                at + 1
            ));
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "host"))]
mod tests {
    use super::super::{Config, load};

    const MARKETPLACE: &str = "0x1111111111111111111111111111111111111111";

    fn read(vars: &[(&str, &str)], set: &[(&str, &str)]) -> Result<Config, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut set: Vec<_> = set.iter().map(owned).collect();
        set.push(("chain.marketplace".to_owned(), MARKETPLACE.to_owned()));
        let vars: Vec<_> = vars.iter().map(owned).collect();
        load(None, vars.into_iter(), &set).map(|(config, _)| config).map_err(|error| error.to_string())
    }

    fn endpoints(config: &Config) -> Vec<(String, u32)> {
        let chain = config.chain.as_ref().expect("settling");
        chain.endpoints().map(|endpoint| (endpoint.url.to_string(), endpoint.weight)).collect()
    }

    #[test]
    fn several_endpoints_are_read_in_every_form() {
        let two = vec![("http://a.example".to_owned(), 1), ("http://b.example".to_owned(), 1)];
        for text in [
            r#"["http://a.example","http://b.example"]"#,
            r#"[{ url = "http://a.example" }, "http://b.example"]"#,
            "http://a.example,http://b.example",
            " http://a.example , http://b.example, ",
        ] {
            assert_eq!(endpoints(&read(&[], &[("chain.rpc_urls", text)]).expect(text)), two, "{text}");
            assert_eq!(endpoints(&read(&[("MILEPOST_CHAIN__RPC_URLS", text)], &[]).expect(text)), two, "{text}");
        }
        let weighted = read(&[], &[("chain.rpc_urls", r#"[{ url = "http://a.example", weight = 3 }]"#)]).expect("read");
        assert_eq!(endpoints(&weighted), [("http://a.example".to_owned(), 3)]);
        assert_eq!(endpoints(&read(&[], &[("chain.rpc_urls", "http://a.example")]).expect("one")).len(), 1);
    }

    #[test]
    fn the_same_forms_are_read_from_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("milepost.toml");
        for list in [r#"["http://a.example", "http://b.example"]"#, r#""http://a.example,http://b.example""#] {
            std::fs::write(&file, format!("[chain]\nmarketplace = \"{MARKETPLACE}\"\nrpc_urls = {list}\n")).expect("written");
            let (config, _) = load(Some(&file), std::iter::empty(), &[]).expect(list);
            assert_eq!(endpoints(&config).len(), 2, "{list}");
        }
    }

    #[test]
    #[cfg(feature = "validator")]
    fn a_validators_endpoints_have_the_same_forms() {
        for text in [r#"["http://a.example","http://b.example"]"#, "http://a.example,http://b.example"] {
            let config = read(&[], &[("validator.rpc_urls", text)]).expect(text);
            assert_eq!(config.validator.expect("a validator").endpoints().expect("some").len(), 2, "{text}");
        }
    }

    #[test]
    fn a_wrong_form_is_told_the_right_one_and_repeats_no_address() {
        let url = "http://a.example/s3cr3t";
        for (key, text) in [
            ("chain.rpc_urls", "7".to_owned()),
            ("chain.rpc_urls", format!("[[\"{url}\"]]")),
            ("chain.rpc_urls", format!("{{ url = \"{url}\" }}")),
            ("chain.rpc_url", format!("{url},{url}")),
            ("chain.rpc_url", format!("[\"{url}\"]")),
        ] {
            let error = read(&[], &[(key, &text)]).expect_err(&text);
            assert!(error.contains("rpc_urls") && error.contains("weight = 3") && !error.contains("s3cr3t"), "{text}: {error}");
        }
        for text in [format!("[{{ url = \"{url}\", weight = \"{url}\" }}]"), format!("[{{ link = \"{url}\" }}]"), format!("[\"{url}\"")] {
            match read(&[], &[("chain.rpc_urls", &text)]) {
                Err(error) => assert!(error.contains("rpc_urls") && !error.contains("s3cr3t"), "{text}: {error}"),
                Ok(config) => assert!(!format!("{config:?}").contains("s3cr3t"), "{text}: {config:?}"),
            }
        }
    }
}
