//! What a paying client types: hosts, open, chat, close, refund, verify, with their exit codes, at a running node.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alloy::primitives::{Address as EvmAddress, Bytes, U256};
use milepost_client::file::SessionFile;
use milepost_client::{Amount, Error, Host, OpenRequest, QuoteRequest, Session, Wallet};
use milepost_statement::{Address, Digest, TokenCount};
use milepost_test_support::bindings::HostRegistry::setPriceCall;
use serde_json::Value;

use crate::common::forget_own_variables;
use crate::common::ground::{DEPOSITOR, Ground};
use crate::{PRICE, ask};

/// A client's folder: its key, its session, and the way to the chain.
pub(crate) struct Purse {
    folder: tempfile::TempDir,
    rpc: String,
    marketplace: String,
    token: String,
    model: String,
}

/// What a command printed, and how it ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: Value,
    pub(crate) err: String,
}

impl Purse {
    pub(crate) fn new(ground: &Ground) -> Self {
        let purse = Self {
            folder: tempfile::tempdir().expect("a folder"),
            rpc: ground.chain.url().to_owned(),
            marketplace: format!("{:#x}", ground.contracts.marketplace),
            token: format!("{:#x}", ground.contracts.usdc),
            model: format!("{:#x}", ground.contracts.model),
        };
        let key = purse.key();
        std::fs::write(&key, hex::encode(ground.contracts.actors.depositor.key)).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
        purse
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    pub(crate) fn session(&self) -> PathBuf {
        self.folder.path().join("session.json")
    }

    fn market(&self) -> Vec<String> {
        [("--rpc-url", &self.rpc), ("--marketplace", &self.marketplace), ("--token", &self.token), ("--model-digest", &self.model)]
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value.clone()])
            .collect()
    }

    /// Runs `milepost client …` with JSON output; answers the last line printed.
    pub(crate) async fn run(&self, arguments: &[&str], more: &[String]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["--json", "client"]).args(arguments).args(more).stdin(Stdio::null());
        forget_own_variables(&mut command);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("the program runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        let last = serde_json::from_str(&out).ok().or_else(|| out.lines().last().and_then(|line| serde_json::from_str(line).ok()));
        Ended { code: output.status.code().expect("it ended by itself"), out: last.unwrap_or(Value::String(out)), err }
    }

    async fn open(&self, arguments: &[String]) -> Ended {
        let all: Vec<_> = ["open"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        self.of_session(&all).await
    }

    pub(crate) async fn of_session(&self, arguments: &[&str]) -> Ended {
        let more = [("--session", self.session()), ("--key-file", self.key())];
        self.run(arguments, &more.map(|(name, path)| [name.to_owned(), path.display().to_string()]).concat()).await
    }
}

/// The command's last word; its standard error where it ended otherwise than it should.
fn expect(ended: &Ended, code: i32) -> &Value {
    assert_eq!(ended.code, code, "{}\n{}", ended.out, ended.err);
    &ended.out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_found_quoted_paid_within_the_ceiling_and_verified_by_what_is_typed() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    let purse = Purse::new(&ground);
    let found = purse.run(&["hosts"], &purse.market()).await;
    let hosts = expect(&found, 0).as_array().expect("a list");
    assert_eq!(
        (hosts.len(), &hosts[0]["price"], &hosts[0]["model"], &hosts[0]["alive"]),
        (1, &Value::from("2000"), &Value::from("scripted"), &Value::Bool(true))
    );

    // Nobody is cheap enough; then the cheapest is chosen, quoted, and funded with vouchers, although nobody asked for them.
    let mut open = purse.market();
    open.extend(["--deposit", "2000000", "--ceiling", "400000", "--max-price", "1999"].map(str::to_owned));
    let dear = purse.open(&open).await;
    assert!(dear.code == 1 && dear.err.contains("2000 per token, more than 1999"), "{}", dear.err);
    *open.last_mut().expect("the price") = "2000".to_owned();
    let opened = purse.open(&open).await;
    let opened = expect(&opened, 0);
    assert_eq!(
        (&opened["quote"]["price"], &opened["allowance"], &opened["escrow"]["left"]),
        (&Value::from("2000"), &Value::from(64), &Value::from("2000000"))
    );

    // The ceiling pays for two hundred tokens of the thousand that the deposit would.
    let first = purse.of_session(&["chat", "--model", "scripted", "--max-tokens", "150", "talk"]).await;
    let escrow = &expect(&first, 0)["escrow"];
    assert_eq!(
        (&escrow["spent"], &escrow["left"], &escrow["acknowledged"]),
        (&Value::from("300000"), &Value::from("1700000"), &Value::from("300000"))
    );
    let second = purse.of_session(&["chat", "--model", "scripted", "--max-tokens", "150", "more"]).await;
    let second = expect(&second, 0);
    assert_eq!((&second["tokens"], &second["escrow"]["ceiling_left"]), (&Value::from(50), &Value::from("0")));
    let third = purse.of_session(&["chat", "--model", "scripted", "--max-tokens", "150", "more"]).await;
    assert!(third.code == 1 && third.err.contains("ceiling"), "{}", third.err);

    let early = purse.of_session(&["refund"]).await;
    assert!(early.code == 1 && early.err.contains("close it first"), "{}", early.err);
    let closed = purse.of_session(&["close", "--wait", "90"]).await;
    assert_eq!(closed.code, 0, "{}", closed.err);
    let refund = purse.of_session(&["refund"]).await;
    let refund = expect(&refund, 0);
    assert_eq!(
        (&refund["state"], &refund["refund"]["amount"], &refund["refund"]["credit"]),
        (&Value::from("paid"), &Value::from("1600000"), &Value::from("0"))
    );

    // A mock proof proves nothing, unless one says that it will do.
    let unproven = purse.of_session(&["verify"]).await;
    assert_eq!(expect(&unproven, 2)["proven"], 0);
    let verified = purse.of_session(&["verify", "--accept-mock"]).await;
    let verified = expect(&verified, 0);
    for (what, tokens) in [("received", 200), ("acknowledged", 200), ("claimed", 200), ("proven", 200)] {
        assert_eq!(verified[what], tokens, "{what}: {verified:#}");
    }
    println!("figure quoted at 2000, ceiling 400000 of 2000000: 200 tokens received, countersigned, claimed; back 1600000; verify exits 0");
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_is_honoured_though_the_price_was_raised_and_a_forged_one_is_not() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    let files = tempfile::tempdir().expect("a folder");
    let request = |name: &str| {
        let mut request = OpenRequest::new(
            ground.chain.url(),
            Address(ground.contracts.marketplace.into()),
            Address(ground.contracts.actors.host.address.into()),
            Address(ground.contracts.usdc.into()),
            Amount(500_000),
            Digest(milepost_inference::scripted::digest()),
            files.path().join(name),
        );
        request.host_url = Some(format!("http://127.0.0.1:{}", ground.port));
        request
    };
    let wallet = || Wallet::development(DEPOSITOR).expect("a key");
    let plain = Session::open(wallet(), request("plain.json")).await.expect("funded");
    drop(plain);
    let mut quoted = Session::open(wallet(), request("quoted.json")).await.expect("funded");
    let chain = quoted.chain().await.expect("connected").clone();
    drop(quoted);
    let ask_for = QuoteRequest {
        model_digest: Digest(ground.contracts.model.0),
        token: Address(ground.contracts.usdc.into()),
        expected_rate: 0,
        voucher_allowance: TokenCount(64),
    };
    let offer =
        chain.offer(Address(ground.contracts.actors.host.address.into()), ask_for.model_digest, ask_for.token).await.expect("an offer");
    let host = Host::new(&format!("http://127.0.0.1:{}", ground.port)).expect("a url");
    let quote = host.quote(&ask_for).await.expect("a quote");
    assert_eq!(chain.check_quote(&quote, &ask_for, &offer, TokenCount(64)).await.expect("it fits"), Amount(u128::from(PRICE)));

    // Each part that does not fit is named.
    let wrong = async |change: fn(&mut milepost_statement::SignedQuote)| {
        let mut other = quote.clone();
        change(&mut other);
        match chain.check_quote(&other, &ask_for, &offer, TokenCount(64)).await.expect_err("it does not fit") {
            Error::Quote { what, .. } => what,
            error => panic!("another error: {error}"),
        }
    };
    assert_eq!(wrong(|quote| quote.quote.price += 1).await, "price");
    assert_eq!(wrong(|quote| quote.quote.price -= 1).await, "signer", "what was signed is another price");
    assert_eq!(wrong(|quote| quote.quote.expires_at = 1).await, "expiry");
    assert_eq!(wrong(|quote| quote.quote.voucher_allowance.0 += 1).await, "allowance");
    assert_eq!(wrong(|quote| quote.quote.host.0[0] ^= 1).await, "host");
    assert_eq!(wrong(|quote| quote.quote.model_digest.0[0] ^= 1).await, "model");
    assert_eq!(wrong(|quote| quote.signature.truncate(5)).await, "signature");

    // The host raises its price. What was promised is served at the old one, what was not is refused.
    let contracts = &ground.contracts;
    let raise = setPriceCall { modelDigest: contracts.model, token: contracts.usdc, pricePerToken: U256::from(2 * PRICE) };
    ground.chain.transact(contracts.actors.host.address, contracts.registry, raise).await.expect("raised");
    let mut plain = Session::load(wallet(), &files.path().join("plain.json")).await.expect("it loads");
    let refused = plain.authenticate(None).await.expect_err("the host asks more now");
    assert!(matches!(&refused, Error::Host { code, .. } if code == "job_not_served"), "{refused}");
    let bring = |quote: milepost_statement::SignedQuote| {
        let mut file = SessionFile::open(&files.path().join("quoted.json")).expect("the session's file");
        file.update(|record| record.quote = Some(quote)).expect("stored");
    };
    let mut forged = quote.clone();
    forged.quote.price = 1;
    bring(forged);
    let mut session = Session::load(wallet(), &files.path().join("quoted.json")).await.expect("it loads");
    let refused = session.authenticate(None).await.expect_err("nobody signed that");
    assert!(matches!(&refused, Error::Host { code, .. } if code == "validation_error"), "{refused}");
    let job = session.job_id().0;
    drop(session);
    // A stranger's quote, signed by the host too, does not take the place of the one on which the job was funded.
    let url = format!("http://127.0.0.1:{}/v1/session/challenge", ground.port);
    let challenge = async |quote: Option<&milepost_statement::SignedQuote>| {
        let mut body = serde_json::json!({ "job_id": job });
        if let Some(quote) = quote {
            body["quote"] = serde_json::json!(quote);
        }
        reqwest::Client::new().post(&url).json(&body).send().await.expect("an answer").status().as_u16()
    };
    let dearer = host.quote(&ask_for).await.expect("a quote");
    assert_eq!(dearer.quote.price, u128::from(2 * PRICE));
    assert_ne!(challenge(Some(&dearer)).await, 200);
    assert_eq!(challenge(Some(&quote)).await, 200);
    challenge(Some(&dearer)).await;
    assert_eq!(challenge(None).await, 200, "the quote that fits is still there");
    bring(quote);
    let mut session = Session::load(wallet(), &files.path().join("quoted.json")).await.expect("it loads");
    session.authenticate(None).await.expect("the host keeps its word");
    assert_eq!(session.chat_ws(ask(20)).await.expect("an answer").count, TokenCount(20));
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_host_and_a_blocked_push_do_not_keep_the_clients_money() {
    let ground = Ground::new(&[]).await;
    let node = ground.start();
    // In the chain's coin, so that an account can refuse it.
    let contracts = &ground.contracts;
    let price = setPriceCall { modelDigest: contracts.model, token: EvmAddress::ZERO, pricePerToken: U256::from(1_000_000_000_u64) };
    ground.chain.transact(contracts.actors.host.address, contracts.registry, price).await.expect("priced");
    let mut purse = Purse::new(&ground);
    purse.token = format!("{:#x}", EvmAddress::ZERO);
    let mut open = purse.market();
    open.extend(["--deposit", "1000000000000"].map(str::to_owned));
    let opened = purse.open(&open).await;
    let job = expect(&opened, 0)["job_id"].as_u64().expect("a number");
    node.kill();

    // The host does not answer: the window begins, and the command says until when.
    let closing = purse.of_session(&["refund", "--close"]).await;
    let closing = expect(&closing, 3);
    assert_eq!((&closing["state"], &closing["refund"]["amount"]), (&Value::from("closing"), &Value::from("1000000000000")));
    ground.chain.increase_time(3_601).await.expect("the window passes");
    // Somebody finalizes while the depositor's account takes no coin: the push becomes a credit.
    let depositor = contracts.actors.depositor.address;
    ground.chain.set_code(depositor, Bytes::from_static(&[0x5f, 0x5f, 0xfd])).await.expect("it refuses coin");
    ground.contracts.finalize(&ground.chain, contracts.actors.stranger.address, job).await.expect("anybody may");
    ground.chain.set_code(depositor, Bytes::new()).await.expect("it takes coin again");
    let refund = purse.of_session(&["refund"]).await;
    let refund = expect(&refund, 0);
    assert_eq!((&refund["state"], &refund["refund"]["credit"]), (&Value::from("paid"), &Value::from("0")));
    println!("figure host vanished, push blocked: all of the deposit came back by `client refund`");
}

/// What is kept is evidence: exit code 1 where the chain has more than was received.
pub(crate) async fn verify_finds_more_claimed_than_received(ground: &Ground, session: &Path) -> Value {
    let purse = Purse::new(ground);
    for suffix in ["", ".log"] {
        let name = format!("{}{suffix}", session.display());
        std::fs::copy(&name, format!("{}{suffix}", purse.session().display())).expect("copied");
    }
    let found = purse.of_session(&["verify", "--accept-mock"]).await;
    expect(&found, 1).clone()
}
