//! What an operator types, against a real chain and a real node: keys, doctor, jobs, claims, earnings, and their exit codes.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use alloy::consensus::Transaction as _;
use alloy::network::{ReceiptResponse as _, TransactionResponse as _};
use alloy::primitives::Address;
use alloy::providers::Provider;
use common::ground::Ground;
use milepost_client::ChatRequest;
use serde_json::Value;

const PASSPHRASE: &str = "correct horse battery staple";
/// The account of the development mnemonic that becomes a second submitter.
const SECOND: usize = 7;

/// A command that ended.
struct Ended {
    code: i32,
    out: Value,
    err: String,
}

/// An operator's desk: settings, secrets in files, and everything that was ever printed.
struct Desk {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    printed: Mutex<String>,
}

impl Desk {
    fn new(settings: &[(&'static str, String)]) -> Self {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Self { folder: tempfile::tempdir().expect("a folder"), settings, printed: Mutex::new(String::new()) }
    }

    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.settings.push((key.to_owned(), value.into()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its owner reads.
    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        path.display().to_string()
    }

    /// Runs the program with everything logged, and remembers all it printed.
    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILEPOST_") || name == "HOST_PRIVATE_KEY") {
            command.env_remove(name);
        }
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(arguments).env("MILEPOST_LOG", "trace").envs(variables.iter().copied()).stdin(Stdio::null());
        let output = command.output().expect("the program runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
        let mut printed = self.printed.lock().expect("not poisoned");
        printed.push_str(&out);
        printed.push_str(&err);
        let code = output.status.code().expect("it ended by itself");
        Ended { code, out: serde_json::from_str(&out).unwrap_or_else(|_| Value::String(out.into_owned())), err }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[])
    }

    /// Runs what must end well; answers its JSON.
    fn ok(&self, arguments: &[&str]) -> Value {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.out, said(&ended.err));
        ended.out
    }

    /// Runs what must be refused; answers why.
    fn refused(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 1, "{arguments:?}: {}{}", ended.out, said(&ended.err));
        said(&ended.err)
    }
}

/// What the program itself says, without its log.
fn said(err: &str) -> String {
    err.lines().filter(|line| line.starts_with("milepost: ")).collect::<Vec<_>>().join("\n")
}

/// An address as the program shows it.
fn text(address: Address) -> String {
    format!("0x{}", hex::encode(address))
}

/// The finding of a doctor's check.
fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("no {check}: {report:#}"))
}

fn failures(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("checks").iter();
    checks.filter(|finding| finding["verdict"] == "failure").map(|finding| finding["check"].as_str().expect("a name")).collect()
}

/// What every transaction of an account cost, read from the chain's blocks by ourselves.
async fn spent_by(ground: &Ground, account: Address) -> (u64, u128) {
    let (head, _) = ground.chain.head().await.expect("a head");
    let provider = ground.chain.provider();
    let (mut count, mut wei) = (0, 0);
    for number in 0..=head {
        let block = provider.get_block_by_number(number.into()).full().await.expect("an answer").expect("a block");
        for tx in block.transactions.into_transactions().filter(|tx| tx.from() == account && tx.to().is_some()) {
            let receipt = provider.get_transaction_receipt(tx.tx_hash()).await.expect("an answer").expect("a receipt");
            count += 1;
            wei += u128::from(receipt.gas_used()) * receipt.effective_gas_price();
        }
    }
    (count, wei)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_takes_a_host_from_its_keys_to_its_money() {
    let ground = Ground::new(&[]).await;
    let actors = &ground.contracts.actors;
    let second = ground.chain.account(SECOND);
    let mut desk = Desk::new(&ground.settings());
    desk.set("node.listen", format!("127.0.0.1:{}", ground.port));
    let pass = desk.secret("passphrase", &format!("{PASSPHRASE}\n"));
    let digits = |key: &[u8]| hex::encode(key);

    // The host's key comes from the environment, the submitter's from a file; both end up encrypted.
    let (host_file, own_file) = (desk.path("host.json").display().to_string(), desk.path("submitter.json").display().to_string());
    let host_key = format!("0x{}", digits(actors.host.key.as_ref()));
    let imported =
        desk.run_with(&["keys", "import", "--out", &host_file], &[("HOST_PRIVATE_KEY", &host_key), ("MILEPOST_PASSPHRASE", PASSPHRASE)]);
    assert_eq!(imported.code, 0, "{}", imported.err);
    assert_eq!(imported.out["address"], text(actors.host.address));
    let bare = desk.secret("bare", &digits(second.key.as_ref()));
    let key = desk.ok(&["keys", "import", "--out", &own_file, "--key-file", &bare, "--passphrase-file", &pass]);
    let own = text(second.address);
    assert_eq!(key["address"], own);
    let as_host = ["--keystore", &host_file, "--passphrase-file", &pass];

    // Not a submitter yet: the doctor names that, and nothing else of the chain.
    desk.set("keys.keystore", &own_file);
    desk.set("keys.passphrase_file", &pass);
    let ended = desk.run(&["doctor"]);
    assert_eq!((ended.code, failures(&ended.out)), (1, vec!["submitter"]), "{:#}", ended.out);
    assert_eq!(finding(&ended.out, "submitter")["code"], "MP-S-006");
    for check in ["endpoint", "chain id", "contract", "functions", "host"] {
        assert_eq!(finding(&ended.out, check)["verdict"], "ok", "{check}");
    }

    // Registered: everything that is left to look at is that this is a test ground.
    let add = [&["keys", "submitter", "add", &own], &as_host[..]].concat();
    assert_eq!(desk.ok(&add)["added"], own);
    assert!(desk.refused(&add).contains("already"), "a second time is named before any gas is paid");
    let listed = desk.ok(&["keys", "submitter", "list"]);
    let mine: Vec<_> = listed["submitters"].as_array().expect("keys").iter().filter(|key| key["this_node"] == true).collect();
    assert_eq!((mine.len(), &mine[0]["key"]), (1, &Value::String(own.clone())));
    let ended = desk.run(&["doctor"]);
    assert_eq!((ended.code, failures(&ended.out)), (3, vec![]), "{:#}", ended.out);
    assert_eq!(finding(&ended.out, "key")["verdict"], "ok");
    assert_eq!(finding(&ended.out, "offer")["verdict"], "ok");
    let ended = desk.run(&["doctor", "--expect-commit", "0123456789"]);
    assert_eq!((ended.code, failures(&ended.out)), (1, vec!["build"]));

    // The node opens the keystore by itself. A job runs.
    let settings = [("keys.keystore", own_file.clone()), ("keys.passphrase_file", pass.clone())];
    let node = ground.start_as(&settings, &[("MILEPOST_LOG", "trace".to_owned())]);
    let files = tempfile::tempdir().expect("a folder");
    let mut session = ground.open(&files.path().join("session.json")).await;
    session.authenticate(None).await.expect("authenticated");
    let mut ask = ChatRequest::new("scripted", "walk on");
    ask.max_tokens = 130;
    session.chat_ws(ask).await.expect("an answer");
    let job = session.job_id().to_string();

    // Delivered and not claimed: at risk, with a deadline.
    let jobs = desk.ok(&["jobs"]);
    let line = &jobs["jobs"][0];
    assert_eq!((line["phase"].as_str(), line["risk"]["unclaimed_tokens"].as_u64()), (Some("open"), Some(130)), "{jobs:#}");
    assert_eq!(line["risk"]["amount"], "260000", "130 tokens at 0.002 USDC");
    // An hour at most and the closing window of an hour, less what has passed since.
    let left = line["risk"]["seconds_left"].as_u64().expect("a deadline");
    assert!(left > 1_800 && left <= 100_000, "{left}");
    assert_eq!(desk.run(&["reconcile"]).code, 3, "a job that is not paid is pending");
    let ended = desk.run(&["doctor"]);
    assert_eq!(finding(&ended.out, "node")["verdict"], "ok", "{:#}", ended.out);
    assert_eq!(finding(&ended.out, "database")["verdict"], "ok", "{:#}", ended.out);

    session.close().await.expect("closed");
    let paid = session.wait_paid(std::time::Duration::from_secs(180)).await.expect("paid");
    ground.wait_clean().await;
    assert_eq!(desk.run(&["reconcile"]).code, 0);
    assert_eq!(desk.run(&["why", &job]).code, 0);

    // What it left, compared with the chain's own blocks.
    desk.set("costs.coin", "3000");
    desk.set("costs.proving_per_second", "0.001");
    desk.set(&format!("costs.tokens.{}", text(ground.contracts.usdc)), "1");
    assert_eq!(desk.ok(&["jobs"])["jobs"].as_array().map(Vec::len), Some(0), "paid jobs are listed on request");
    let jobs = desk.ok(&["jobs", "--all"]);
    let line = &jobs["jobs"][0];
    let (count, wei) = spent_by(&ground, second.address).await;
    assert_eq!(line["paid"]["host"], paid.host.0.to_string());
    assert_eq!((line["spent"]["gas_wei"].as_str(), line["spent"]["gas_exact"].as_bool()), (Some(wei.to_string().as_str()), Some(true)));
    assert_eq!(line["spent"]["transactions"].as_u64(), Some(count));
    let amount = |name: &str| line["profit"][name].as_str().expect("an amount").parse::<f64>().expect("a number");
    let expected_gas = wei.to_string().parse::<f64>().expect("a number") / 1e18 * 3000.0;
    assert!((amount("earned") - 0.234).abs() < 1e-9 && (amount("gas") - expected_gas).abs() < 1e-5, "{line:#}");
    assert!((amount("left") - (amount("earned") - amount("gas") - amount("proving"))).abs() < 3e-6, "{line:#}");
    let claims = desk.ok(&["claims", "--all"]);
    let claimed: u64 = claims
        .as_array()
        .expect("claims")
        .iter()
        .filter(|claim| claim["state"] == "final")
        .filter_map(|claim| claim["count"].as_u64())
        .sum();
    assert_eq!(claimed, 130, "{claims:#}");

    // The money goes to the payout address, by the host's key alone.
    let shown = desk.ok(&["earnings"]);
    let usdc = text(ground.contracts.usdc);
    let line = shown["tokens"].as_array().expect("tokens").iter().find(|line| line["token"] == usdc).expect("USDC");
    assert_eq!((line["withdrawable"].as_str(), line["paid"].as_str()), (Some("234000"), Some("234000")), "{shown:#}");
    assert_eq!(shown["payout"], text(actors.payout.address));
    assert!(desk.refused(&["earnings", "withdraw"]).contains("signs with"), "the node's own key is in use, and is not the host's");
    let before = ground.contracts.usdc_of(&ground.chain, actors.payout.address).await.expect("a balance");
    let part = desk.ok(&[&["earnings", "withdraw", "--token", &usdc, "--amount", "34000"], &as_host[..]].concat());
    assert_eq!((part[0]["amount"].as_str(), &part[0]["to"]), (Some("34000"), &shown["payout"]));
    let withdraw = [&["earnings", "withdraw"], &as_host[..]].concat();
    assert_eq!(desk.ok(&withdraw)[0]["amount"], "200000");
    let after = ground.contracts.usdc_of(&ground.chain, actors.payout.address).await.expect("a balance");
    assert_eq!(after - before, 234_000, "to the last unit");
    assert!(desk.refused(&withdraw).contains("nothing to withdraw"));

    // Rotation: a key that this box needs is kept unless forced.
    let remove = [&["keys", "submitter", "remove", &own], &as_host[..]].concat();
    assert!(desk.refused(&remove).contains("--force"));
    desk.ok(&[&remove[..], &["--force"]].concat());
    assert_eq!(failures(&desk.run(&["doctor", "--no-proof"]).out).first(), Some(&"submitter"));

    // Nothing that was printed or logged, by commands or by the node, shows a secret.
    let all = desk.printed.lock().expect("not poisoned").to_lowercase() + &node.log_text().to_lowercase();
    assert!(all.len() > 10_000, "everything was logged");
    let files: String = [&host_file, &own_file].iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
    for secret in [digits(actors.host.key.as_ref()), digits(second.key.as_ref()), PASSPHRASE.to_owned()] {
        assert!(!all.contains(&secret), "a secret was printed");
        assert!(!files.contains(&secret), "a secret lies in a keystore");
    }
}

#[test]
fn a_new_key_is_encrypted_and_never_written_over() {
    let desk = Desk::new(&[]);
    let pass = desk.secret("passphrase", PASSPHRASE);
    let file = desk.path("key.json").display().to_string();
    let made = desk.ok(&["keys", "new", "--out", &file, "--passphrase-file", &pass]);
    let text = std::fs::read_to_string(&file).expect("text");
    let keystore: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((keystore["version"].as_u64(), keystore["crypto"]["kdf"].as_str()), (Some(3), Some("scrypt")));
    assert_eq!(keystore["crypto"]["kdfparams"]["n"], 131_072);
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(desk.refused(&["keys", "new", "--out", &file, "--passphrase-file", &pass]).contains("never written over"));
    assert_eq!(std::fs::read_to_string(&file).expect("text"), text);

    let shown = desk.ok(&["keys", "show", &file]);
    assert_eq!((&shown["address"], shown["verified"].as_bool()), (&made["address"], Some(false)));
    let opened = desk.ok(&["keys", "show", &file, "--unlock", "--passphrase-file", &pass]);
    assert_eq!((&opened["address"], opened["verified"].as_bool()), (&made["address"], Some(true)));
    let wrong = desk.secret("wrong", "correct horse battery stapler");
    assert!(desk.refused(&["keys", "show", &file, "--unlock", "--passphrase-file", &wrong]).contains("passphrase is wrong"));
    // Without a terminal nobody is asked, and nothing waits.
    assert!(desk.refused(&["keys", "show", &file, "--unlock"]).contains("MILEPOST_PASSPHRASE"));
    let on_argv = desk.run(&["--set", "keys.submitter=0x1234567812345678", "keys", "show"]);
    assert_eq!(on_argv.code, 1);
    assert!(on_argv.err.contains("command line") && !on_argv.err.contains("12345678"), "{}", on_argv.err);
    assert!(!desk.printed.lock().expect("not poisoned").contains(PASSPHRASE));
}

#[cfg(feature = "stark")]
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_the_faults_of_a_prover_apart() {
    use milepost_prover::protocol::{FromWorker, PROTOCOL, VERSION, write_frame};

    let ground = Ground::new(&[]).await;
    let mut desk = Desk::new(&ground.settings());
    desk.set("prover.backend", "stark");
    let program = desk.path("prover");
    desk.set("prover.program", program.display().to_string());
    let key = format!("0x{}", hex::encode(ground.contracts.actors.submitter.key));
    let hello = |name: &str, version: &str| {
        let mut frame = Vec::new();
        let kinds = vec![milepost_statement::ProofKind::Composite];
        let hello = FromWorker::Hello { protocol: PROTOCOL, version: version.to_owned(), image_id: milepost_prover::IMAGE_ID, kinds };
        write_frame(&mut frame, &hello, b"").expect("a frame");
        std::fs::write(desk.path(name), frame).expect("written");
        desk.path(name).display().to_string()
    };
    let (ours, older) = (hello("ours", VERSION), hello("older", "0.0.1"));
    // Put down by another process: a file that is open for writing anywhere in this one cannot be executed.
    let install = |script: &str, mode: &str| {
        std::fs::write(desk.path("draft"), format!("#!/bin/sh\n{script}\n")).expect("written");
        assert!(Command::new("install").args(["-m", mode]).arg(desk.path("draft")).arg(&program).status().expect("installed").success());
    };
    let verdict = || {
        let ended = desk.run_with(&["doctor"], &[("HOST_PRIVATE_KEY", &key)]);
        let found = finding(&ended.out, "prover").clone();
        assert_eq!((ended.code, found["verdict"].as_str(), failures(&ended.out)), (1, Some("failure"), vec!["prover"]), "{:#}", ended.out);
        assert!(found["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
        assert_eq!(finding(&ended.out, "key")["verdict"], "warning", "a bare key in the environment is taken with a warning");
        found["code"].as_str().expect("a code").to_owned()
    };
    assert_eq!(verdict(), "MP-P-001", "absent");
    install("exit 0", "644");
    assert_eq!(verdict(), "MP-P-002", "not executable");
    install("echo I am something else", "755");
    assert_eq!(verdict(), "MP-P-003", "another program");
    install(&format!("cat {older}; exec sleep 60"), "755");
    assert_eq!(verdict(), "MP-P-004", "another version");
    install(&format!("cat {ours}; read -r _ < /dev/stdin; echo out of memory >&2; exit 9"), "755");
    assert_eq!(verdict(), "MP-P-006", "it fails when it proves");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_running_node_signs_nothing_else() {
    let ground = Ground::new(&[]).await;
    let desk = Desk::new(&ground.settings());
    let host = format!("0x{}", hex::encode(ground.contracts.actors.host.key));
    let node = ground.start_as(&[], &[("HOST_PRIVATE_KEY", host.clone())]);
    let withdraw = || desk.run_with(&["earnings", "withdraw"], &[("HOST_PRIVATE_KEY", &host)]);
    let ended = withdraw();
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("signs with"), "{}", said(&ended.err));
    let report = desk.run_with(&["doctor"], &[("HOST_PRIVATE_KEY", &host)]).out;
    assert_eq!(finding(&report, "key's power")["verdict"], "warning", "{report:#}");
    node.terminate(std::time::Duration::from_secs(60));
    let ended = withdraw();
    assert!(said(&ended.err).contains("nothing to withdraw"), "{}", said(&ended.err));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_another_box_of_the_deployment_signs_with_signs_nothing_here() {
    let ground = Ground::new(&[]).await;
    let locks = tempfile::tempdir().expect("a folder");
    let lock_folder = ("chain.key_lock_folder", locks.path().display().to_string());
    let host = format!("0x{}", hex::encode(ground.contracts.actors.host.key));
    let node = ground.start_as(std::slice::from_ref(&lock_folder), &[("HOST_PRIVATE_KEY", host.clone())]);
    // The doors open before the key is taken.
    node.wait_ready("chain", true, std::time::Duration::from_secs(60)).await;
    // Another box: a database of its own, the same keys' locks.
    let mut other = Desk::new(&ground.settings());
    other.set("node.data", other.path("data").display().to_string());
    other.set(lock_folder.0, lock_folder.1);
    let withdraw = || other.run_with(&["earnings", "withdraw"], &[("HOST_PRIVATE_KEY", &host)]);
    let ended = withdraw();
    assert!(ended.code == 1 && said(&ended.err).contains("MP-S-031"), "{}", said(&ended.err));
    node.terminate(std::time::Duration::from_secs(60));
    let ended = withdraw();
    assert!(said(&ended.err).contains("nothing to withdraw"), "{}", said(&ended.err));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_through_every_endpoint_and_the_doctor_looks_at_each() {
    let ground = Ground::new(&[]).await;
    let settings: Vec<_> = ground.settings().into_iter().filter(|(key, _)| *key != "chain.rpc_url").collect();
    let desk = Desk::new(&settings);
    let dead = format!("http://127.0.0.1:{}/v2/s3cr3t-access", common::free_port());
    // The dead one is the one that is asked first, nearly always.
    let urls = format!(r#"[{{ url = "{dead}", weight = 1000 }}, {{ url = "{}" }}]"#, ground.chain.url());
    let file = desk.secret("milepost.toml", &format!("[chain]\nrpc_urls = {urls}\n"));
    let host = format!("0x{}", hex::encode(ground.contracts.actors.host.key));
    let with_key = [("HOST_PRIVATE_KEY", host.as_str())];

    let ended = desk.run_with(&["--config", &file, "doctor", "--no-proof"], &with_key);
    assert_eq!((ended.code, failures(&ended.out)), (3, vec![]), "{:#}", ended.out);
    let endpoints = ended.out["checks"].as_array().expect("checks").iter().filter(|finding| finding["check"] == "endpoints");
    let verdicts: Vec<_> = endpoints.map(|finding| finding["verdict"].as_str().expect("a verdict")).collect();
    assert_eq!(verdicts, ["warning", "ok"], "{:#}", ended.out);

    let second = text(ground.chain.account(SECOND).address);
    let added = desk.run_with(&["--config", &file, "keys", "submitter", "add", &second], &with_key);
    assert_eq!((added.code, &added.out["added"]), (0, &Value::String(second)), "{}", said(&added.err));
    assert!(!desk.printed.lock().expect("not poisoned").contains("s3cr3t"), "an access key in an endpoint's address was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_at_gets_no_verdict() {
    let mut desk = Desk::new(&[("model.engine", "scripted".to_owned())]);
    let nowhere = desk.path("nowhere");
    desk.set("node.data", nowhere.display().to_string());
    assert_eq!(desk.run(&["reconcile"]).code, 69, "no database is no drift");
    assert_eq!(desk.run(&["why", "1"]).code, 69);
    assert_eq!(desk.run(&["reconcile", "--no-such-flag"]).code, 64, "a wrong command line is no explained loss");
    assert_eq!(desk.run(&["--set", "node.lissten=1", "reconcile"]).code, 69);
    let ended = desk.run(&["--set", "node.lissten=1", "doctor"]);
    assert_eq!((ended.code, failures(&ended.out).contains(&"configuration")), (1, true), "{:#}", ended.out);

    // An endpoint that does not answer is named; what lies behind it was not reached.
    let endpoint = format!("http://127.0.0.1:{}/v2/s3cr3t-access", common::free_port());
    desk.set("chain.rpc_url", endpoint);
    desk.set("chain.marketplace", "0x1111111111111111111111111111111111111111");
    desk.set("chain.rpc_timeout_ms", "2000");
    let key = format!("0x{}", "42".repeat(32));
    let ended = desk.run_with(&["doctor", "--no-proof"], &[("HOST_PRIVATE_KEY", &key)]);
    assert_eq!((ended.code, &finding(&ended.out, "endpoint")["code"]), (1, &Value::String("MP-S-001".to_owned())), "{:#}", ended.out);
    assert_eq!(finding(&ended.out, "contract")["verdict"], "skipped");
    assert!(!ended.out.to_string().contains("s3cr3t"), "an access key in the endpoint's address is not shown: {:#}", ended.out);
    let table = desk.run_with(&["doctor", "--no-proof", "--table"], &[("HOST_PRIVATE_KEY", &key)]);
    let shown = table.out.as_str().expect("text");
    assert!(shown.contains("FAIL") && shown.contains("endpoint") && shown.contains("to mend"), "{shown}");
    assert!(!nowhere.exists(), "looking makes nothing");
}
