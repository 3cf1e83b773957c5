//! What an endpoint's address may hold beside scheme, host and port (user, password, path, query: an access key in most offers) is
//! shown nowhere.
//!
//! The types that hold addresses show them without it. This is the second line: whoever quotes an address all the same (a reader of
//! configurations, an HTTP library, an endpoint that repeats the request in its error page), its words pass through here before they
//! leave the process.
//!
//! Guarantees: of the addresses in the command line, in our own variables and in the configuration file, no user, password, path or
//! query of [`LONG`] bytes or more, nor one with a digit of [`SHORT`] or more, is in what passed through [`clean`].
//! Does not: find what stands in no address with `://`, or in a form that none of both ends wrote.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{PoisonError, RwLock};

/// Shorter pieces are words like `v2` or `mainnet`, which also stand where no address is.
const LONG: usize = 12;
/// With a digit in it a piece is hardly a word.
const SHORT: usize = 6;
/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// Variables whose addresses are secrets.
const VARIABLES: [&str; 2] = ["MILEPOST_", "RPC_URL"];

/// What was learned, the longest first.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Learns from the command line and the environment. Before anything is printed.
pub(crate) fn learn_surroundings() {
    let variables = std::env::vars_os().filter(|(name, _)| VARIABLES.iter().any(|own| name.to_string_lossy().starts_with(own)));
    let arguments = std::env::args_os().skip(1);
    for text in variables.map(|(_, value)| value).chain(arguments) {
        learn(&text.to_string_lossy());
    }
}

/// Learns from the addresses in a text.
pub(crate) fn learn(text: &str) {
    let found = secrets_in(text);
    if found.is_empty() {
        return;
    }
    let mut known = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    known.extend(found);
    known.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    known.dedup();
}

/// The text without what was learned.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    without(text, &SECRETS.read().unwrap_or_else(PoisonError::into_inner))
}

fn without<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(text);
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
        }
    }
    text
}

fn secrets_in(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("://") {
        let rest = &text[at + 3..];
        let end = rest.find(|letter: char| letter.is_whitespace() || "\"'<>,]}".contains(letter)).unwrap_or(rest.len());
        pieces(&rest[..end], &mut found);
        let scheme = text[..at].rfind(|letter: char| !letter.is_ascii_alphanumeric()).map_or(0, |before| before + 1);
        // Who sends it writes it as the standard says, in escapes.
        if let Ok(url) = reqwest::Url::parse(&text[scheme..at + 3 + end]) {
            pieces(url.as_str().split_once("://").map_or("", |(_, rest)| rest), &mut found);
        }
    }
    found
}

/// What of an address, from its authority on, may be secret.
fn pieces(address: &str, found: &mut BTreeSet<String>) {
    // The last one: a password may hold what should have been escaped.
    let (user, rest) = address.rsplit_once('@').map_or(("", address), |(user, rest)| (user, rest));
    let from = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let behind = &rest[from..];
    let mut add = |piece: &str| {
        let piece = piece.trim_matches('/');
        if piece.len() >= LONG || (piece.len() >= SHORT && piece.bytes().any(|byte| byte.is_ascii_digit())) {
            found.insert(piece.to_owned());
        }
    };
    add(user);
    user.split(':').for_each(&mut add);
    add(behind);
    let mut parts = behind.splitn(2, ['?', '#']);
    let (path, query) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    add(path);
    path.split('/').for_each(&mut add);
    add(query);
    query.split(['&', '=', '#', ';']).for_each(&mut add);
}

/// A writer whose lines were cleaned. Each write is one whole event, as the log's formatter hands them over.
pub(crate) struct Clean<W>(pub(crate) W);

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match std::str::from_utf8(bytes).map(clean) {
            Ok(Cow::Owned(text)) => self.0.write_all(text.as_bytes())?,
            Ok(Cow::Borrowed(_)) | Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(said: &str, learned: &str) -> String {
        let mut secrets: Vec<_> = secrets_in(learned).into_iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        without(said, &secrets).into_owned()
    }

    #[test]
    fn user_password_path_and_query_are_hidden_wherever_they_are_quoted() {
        let url = "https://us3r-mark:p4ss-mark@rpc.example:8443/v2/p4th-mark/?key=qu3ry-mark";
        for learned in [url.to_owned(), format!("rpc_urls = [{{ url = \"{url}\", weight = 3 }}]"), format!("http://a,{url},http://b")] {
            for said in [
                format!("found {url:?}"),
                "no user us3r-mark".to_owned(),
                "404: /v2/p4th-mark is not here".to_owned(),
                "p4ss-mark".to_owned(),
                "wrong qu3ry-mark".to_owned(),
            ] {
                let told = cleaned(&said, &learned);
                assert!(!told.contains("mark"), "{told}");
            }
            assert!(cleaned(url, &learned).starts_with("https://***@rpc.example:8443/"), "{}", cleaned(url, &learned));
        }
    }

    #[test]
    fn words_of_an_address_that_are_no_secrets_stay() {
        let learned = "https://rpc.example:8443/v2/mainnet/evm http://127.0.0.1:8545";
        assert_eq!(cleaned("mainnet at rpc.example:8443, 127.0.0.1:8545", learned), "mainnet at rpc.example:8443, 127.0.0.1:8545");
    }

    #[test]
    fn what_is_escaped_on_its_way_is_known_in_both_forms() {
        let learned = "https://a.example/k3y with blank?x=k3y ü-mark1";
        assert!(!cleaned("GET /k3y-ümark9", "https://a.example/k3y-ümark9").contains("mark9"));
        assert!(!cleaned("GET /k3y-%C3%BCmark9", "https://a.example/k3y-ümark9").contains("mark9"));
        assert_eq!(cleaned("with blank", learned), "with blank", "an address ends at a blank");
    }

    #[test]
    fn a_log_line_is_cleaned_as_a_whole() {
        learn("http://b.example/l1ne-of-a-l0g");
        let mut out = Vec::new();
        Clean(&mut out).write_all(b"error at /l1ne-of-a-l0g\n").expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "error at /***\n");
    }
}
