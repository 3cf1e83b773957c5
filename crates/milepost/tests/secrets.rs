//! What an endpoint's address holds beside scheme, host and port is shown by no command, no log and no page, whatever is wrong with
//! the configuration or with the endpoint.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Node, forget_own_variables, free_port, scripted_on};

/// Stands in every part of an address that may be secret, and nowhere else.
const MARK: &str = "s3cr3t-mark";
const MARKETPLACE: &str = "0x1111111111111111111111111111111111111111";

/// An endpoint that says everything back that it was asked, as error pages do: the first line of the request in a page, or in
/// the message of a JSON-RPC error.
struct Parrot(u16);

impl Parrot {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let asked = String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
                let (status, body) = if count % 2 == 0 {
                    ("404 Not Found", asked)
                } else {
                    ("200 OK", format!(r#"{{"jsonrpc":"2.0","id":0,"error":{{"code":-32000,"message":"{asked}"}}}}"#))
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                // Who went away hears nothing.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self(port)
    }

    fn url(&self) -> String {
        url(self.0)
    }
}

fn url(port: u16) -> String {
    format!("http://user-{MARK}:pass-{MARK}@127.0.0.1:{port}/v2/path-{MARK}?key=query-{MARK}")
}

/// Runs a command to its end; everything that it printed.
fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    forget_own_variables(&mut command);
    command.args(arguments).env("MILEPOST_LOG", "trace").env_remove("RPC_URL").envs(variables.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("the program runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn assert_hidden(printed: &str, what: &str) {
    assert!(!printed.is_empty(), "{what}: nothing was printed, and nothing shown by it");
    assert!(!printed.contains(MARK), "{what} shows what it must not:\n{printed}");
}

#[test]
fn a_configuration_that_is_wrong_repeats_no_address() {
    let good = url(free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("milepost.toml");
    let data = format!("node.data={}", folder.path().join("data").display());
    let marketplace = format!("chain.marketplace={MARKETPLACE}");
    let mut wrong = 0;
    for value in [
        format!("[[\"{good}\"]]"),
        format!("[{{ link = \"{good}\" }}]"),
        format!("[{{ url = \"{good}\", weight = \"{good}\" }}]"),
        format!("[{{ url = [\"{good}\"] }}]"),
        format!("{{ url = \"{good}\" }}"),
        format!("[\"{good}"),
        format!("user-{MARK}:pass-{MARK}@127.0.0.1:1/path-{MARK}"),
        format!("127.0.0.1/path-{MARK}"),
        format!("ftp://127.0.0.1/path-{MARK}"),
        format!("\"{good}\""),
        format!("{good} {good}"),
    ] {
        for key in ["rpc_url", "rpc_urls", "chain_id", "finality", "marketplace"] {
            let set = format!("chain.{key}={value}");
            let variable = (format!("MILEPOST_CHAIN__{}", key.to_uppercase()), value.clone());
            for text in [format!("{key} = {value}"), format!("{key} = '{value}'"), format!("{key} = {value:?}\n= {value}")] {
                std::fs::write(&file, format!("[chain]\n{text}\n")).expect("written");
                let file = file.display().to_string();
                assert_hidden(&printed(&["--config", &file, "--set", &data, "jobs"], &[]), &format!("a file with {key}"));
            }
            for command in ["jobs", "doctor"] {
                let flags = ["--set", &set, "--set", &data, "--set", &marketplace, command];
                assert_hidden(&printed(&flags, &[]), &format!("{command} with a flag for {key}"));
                wrong += 1;
            }
            let one = [(variable.0.as_str(), variable.1.as_str())];
            assert_hidden(&printed(&["--set", &data, "serve"], &one), &format!("serve with a variable for {key}"));
        }
        assert_hidden(&printed(&["--set", &format!("validator.rpc_urls={value}"), "validator", "doctor"], &[]), "a validator's");
        assert_hidden(&printed(&["jobs"], &[("RPC_URL", &value)]), "the known node's variable");
        assert_hidden(&printed(&["--set", &value, "jobs"], &[]), "a flag without a key");
        assert_hidden(&printed(&["--no-such-flag", &value], &[]), "a flag that nobody knows");
        assert_hidden(&printed(&["client", "open", "--help"], &[("RPC_URL", &value)]), "the help");
    }
    assert_eq!(wrong, 110, "every form at every key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_repeats_what_it_was_asked_shows_no_address() {
    let folder = tempfile::tempdir().expect("a folder");
    milepost_test_support::install_tls();
    let parrot = Parrot::start();
    let dead = url(free_port());
    let key = format!("0x{}", "42".repeat(32));
    for urls in [parrot.url(), dead.clone(), format!("{},{dead}", parrot.url())] {
        let mut settings = scripted_on(folder.path());
        settings.extend([
            ("chain.rpc_urls", urls.clone()),
            ("chain.marketplace", MARKETPLACE.to_owned()),
            ("chain.chain_id", "31337".to_owned()),
            ("prover.backend", "mock".to_owned()),
            ("chain.rpc_timeout_ms", "1000".to_owned()),
            ("chain.poll_ms", "50".to_owned()),
        ]);
        let port = free_port();
        let variables = [("HOST_PRIVATE_KEY", key.clone()), ("MILEPOST_LOG", "trace".to_owned())];
        let node = Node::start(port, &settings, &variables);
        let words = node.wait_ready("chain", false, Duration::from_secs(30)).await;
        assert_hidden(&words, "/ready");
        node.wait_for("the chain that cannot be asked", Duration::from_secs(30), |event| event["event"] == "chain_down");
        for page in ["health", "ready", "metrics", "v1/models", "v1/health", "openapi.json", "v1/version"] {
            let answer = reqwest::get(format!("{}/{page}", node.url)).await.expect("an answer");
            assert_hidden(&answer.text().await.expect("text").replace('\n', "\n "), page);
        }
        let flags: Vec<String> = settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect();
        for command in [
            &["doctor", "--no-proof"][..],
            &["doctor", "--no-proof", "--table"],
            &["jobs"],
            &["claims"],
            &["reconcile"],
            &["why", "1"],
            &["earnings"],
            &["earnings", "withdraw"],
            &["keys", "submitter", "list"],
        ] {
            let all: Vec<&str> = flags.iter().map(String::as_str).chain(command.iter().copied()).collect();
            assert_hidden(&printed(&all, &[("HOST_PRIVATE_KEY", &key)]), &command.join(" "));
        }
        let _ = node.terminate(Duration::from_secs(30));
    }
}

#[test]
fn a_running_node_that_ends_has_logged_no_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let parrot = Parrot::start();
    let mut settings = scripted_on(folder.path());
    settings.extend([
        ("chain.rpc_url", parrot.url()),
        ("chain.marketplace", MARKETPLACE.to_owned()),
        ("chain.chain_id", "31337".to_owned()),
        ("prover.backend", "mock".to_owned()),
        ("chain.poll_ms", "50".to_owned()),
    ]);
    let variables = [("HOST_PRIVATE_KEY", format!("0x{}", "42".repeat(32))), ("MILEPOST_LOG", "trace".to_owned())];
    let node = Node::start(free_port(), &settings, &variables);
    node.wait_for("the chain that cannot be asked", Duration::from_secs(30), |event| event["event"] == "chain_down");
    let log = node.kill_and_read();
    let text = log.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("***"), "the endpoint's words were logged, and cleaned");
    assert_hidden(&text, "the log");
}
