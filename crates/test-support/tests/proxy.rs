//! The fault proxy, before a real development chain.

use std::time::{Duration, Instant};

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::primitives::{Bytes, TxKind, U256, hex};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use milepost_test_support::{ChainOptions, DevChain, Fault, FaultProxy, Mining, Return, Rules, Script, Weather};
use serde_json::{Value, json};

type Done = Result<(), Box<dyn std::error::Error>>;

struct Line {
    chain: DevChain,
    proxy: FaultProxy,
    client: reqwest::Client,
}

impl Line {
    async fn new(mining: Mining) -> Result<Self, Box<dyn std::error::Error>> {
        let chain = DevChain::start(ChainOptions { mining, ..ChainOptions::default() }).await?;
        let proxy = FaultProxy::to(chain.url()).await?;
        Ok(Self { chain, proxy, client: reqwest::Client::builder().no_proxy().build()? })
    }

    /// A call through the proxy: `Err` if no answer came.
    async fn call(&self, method: &str, params: Value) -> Result<Value, reqwest::Error> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.client.post(self.proxy.url()).json(&request).send().await?.error_for_status()?.json().await
    }

    async fn height(&self) -> Result<u64, Box<dyn std::error::Error>> {
        let answer = self.call("eth_blockNumber", json!([])).await?;
        Ok(u64::from_str_radix(answer["result"].as_str().unwrap_or_default().trim_start_matches("0x"), 16)?)
    }

    /// Waits for this height: a transaction that was taken is in a block a moment later.
    async fn mined(&self, height: u64) -> Done {
        let begin = Instant::now();
        while self.height().await? < height {
            assert!(begin.elapsed() < Duration::from_secs(10), "no block {height} in 10 s");
        }
        assert_eq!(self.height().await?, height);
        Ok(())
    }

    /// A signed transfer to oneself by account `of`.
    fn sign(&self, of: usize, nonce: u64, fee: u128, tip: u128, data: usize) -> String {
        let key = PrivateKeySigner::from_bytes(&self.chain.account(of).key).expect("a development key");
        let tx = TxEip1559 {
            chain_id: 31337,
            nonce,
            gas_limit: 10_000_000,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(key.address()),
            value: U256::ZERO,
            access_list: alloy::eips::eip2930::AccessList::default(),
            input: Bytes::from(vec![0; data]),
        };
        let signature = key.sign_hash_sync(&tx.signature_hash()).expect("signs");
        hex::encode_prefixed(TxEnvelope::from(tx.into_signed(signature)).encoded_2718())
    }

    async fn send(&self, raw: &str) -> Result<Value, reqwest::Error> {
        self.call("eth_sendRawTransaction", json!([raw])).await
    }
}

const GWEI: u128 = 1_000_000_000;

#[tokio::test]
async fn what_is_not_disturbed_is_passed_on_unchanged() -> Done {
    let line = Line::new(Mining::Automatic).await?;
    line.chain.mine(3).await?;
    assert_eq!(line.height().await?, 3);
    let unknown = line.call("eth_nonsense", json!([])).await?;
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    assert_eq!((line.proxy.heard("eth_blockNumber"), line.proxy.done()), (1, vec![]));
    Ok(())
}

#[tokio::test]
async fn a_drop_before_does_nothing_and_a_drop_after_does_it_all_the_same() -> Done {
    let line = Line::new(Mining::Automatic).await?;
    let raw = line.sign(2, 0, 10 * GWEI, GWEI, 0);
    line.proxy.script(Script::next("eth_sendRawTransaction", Fault::DropBefore));
    assert!(line.send(&raw).await.is_err());
    assert_eq!((line.height().await?, line.proxy.forwarded().len()), (0, 0));
    line.proxy.script(Script::next("eth_sendRawTransaction", Fault::DropAfter));
    assert!(line.send(&raw).await.is_err());
    assert_eq!(line.proxy.forwarded().len(), 1, "sent, though nobody said so");
    line.mined(1).await?;
    line.proxy.set_down(true);
    assert!(line.height().await.is_err());
    line.proxy.set_down(false);
    assert_eq!(line.height().await?, 1);
    Ok(())
}

#[tokio::test]
async fn delays_statuses_refusals_and_duplicates_are_what_they_say() -> Done {
    let line = Line::new(Mining::Automatic).await?;
    line.proxy.script(Script::next("eth_blockNumber", Fault::Delay(Duration::from_millis(200))));
    let begun = Instant::now();
    line.height().await?;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    for status in [429, 500] {
        line.proxy.script(Script::next("eth_blockNumber", Fault::Status(status)));
        let refused = line.call("eth_blockNumber", json!([])).await.expect_err("a status");
        assert_eq!(refused.status().map(|status| status.as_u16()), Some(status));
    }
    line.proxy.script(Script::next("eth_blockNumber", Fault::Refuse { code: -32005, message: "limit exceeded".to_owned() }));
    assert_eq!(line.call("eth_blockNumber", json!([])).await?["error"]["code"], -32005);
    line.proxy.script(Script::next("eth_sendRawTransaction", Fault::Duplicate));
    let twice = line.send(&line.sign(2, 0, 10 * GWEI, GWEI, 0)).await?;
    assert!(twice["error"]["message"].is_string(), "the second of two is the one that is answered: {twice}");
    line.mined(1).await?;
    assert_eq!((line.proxy.forwarded()[0].1, line.height().await?), (2, 1));
    assert_eq!(line.proxy.done().len(), 5);
    Ok(())
}

#[tokio::test]
async fn a_stale_node_and_a_lost_receipt_hide_what_is_there() -> Done {
    let line = Line::new(Mining::Automatic).await?;
    let account = line.chain.account(2).address;
    let sent = line.send(&line.sign(2, 0, 10 * GWEI, GWEI, 0)).await?["result"].clone();
    let count = |answer: Value| answer["result"].as_str().map(str::to_owned);
    line.mined(1).await?;
    let receipt = || line.call("eth_getTransactionReceipt", json!([sent]));
    assert!(receipt().await?["result"].is_object());
    line.proxy.script(Script::next("eth_getTransactionReceipt", Fault::LostReceipt));
    assert!(receipt().await?["result"].is_null());
    for method in ["eth_getTransactionReceipt", "eth_blockNumber", "eth_getTransactionCount"] {
        line.proxy.script(Script::next(method, Fault::Stale(1)));
    }
    assert!(receipt().await?["result"].is_null());
    assert_eq!(line.height().await?, 0);
    assert_eq!(count(line.call("eth_getTransactionCount", json!([account, "latest"])).await?), Some("0x0".to_owned()));
    assert_eq!(count(line.call("eth_getTransactionCount", json!([account, "latest"])).await?), Some("0x1".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_replacement_must_offer_a_tenth_more_on_both_fields() -> Done {
    let line = Line::new(Mining::Manual).await?;
    assert!(line.send(&line.sign(2, 0, 10 * GWEI, GWEI, 0)).await?["result"].is_string());
    for (fee, tip) in [(20 * GWEI, GWEI), (10 * GWEI, 2 * GWEI), (11 * GWEI, 1_099_999_999), (10_999_999_999, 2 * GWEI)] {
        let refused = line.send(&line.sign(2, 0, fee, tip, 0)).await?;
        assert_eq!(refused["error"]["message"], "replacement transaction underpriced", "{fee} {tip}");
    }
    assert!(line.send(&line.sign(2, 0, 11 * GWEI, 1_100_000_000, 0)).await?["result"].is_string());
    // Against what replaced the first, not against the first.
    assert!(line.send(&line.sign(2, 0, 12 * GWEI, 1_300_000_000, 0)).await?["error"].is_object());
    line.chain.mine(1).await?;
    let block: Value = line.chain.request("eth_getBlockByNumber", ("latest", true)).await?;
    assert_eq!(block["transactions"][0]["maxFeePerGas"], format!("0x{:x}", 11 * GWEI));
    Ok(())
}

#[tokio::test]
async fn a_transaction_above_the_size_limit_is_refused() -> Done {
    let line = Line::new(Mining::Manual).await?;
    let refused = line.send(&line.sign(2, 0, 10 * GWEI, GWEI, 128 * 1024)).await?;
    assert!(refused["error"]["message"].as_str().unwrap_or_default().contains("oversized data"), "{refused}");
    assert!(line.proxy.forwarded().is_empty());
    assert!(line.send(&line.sign(2, 0, 10 * GWEI, GWEI, 120 * 1024)).await?["result"].is_string());
    Ok(())
}

#[tokio::test]
async fn the_tags_trail_the_head_and_finalized_never_falls() -> Done {
    let line = Line::new(Mining::Automatic).await?;
    line.chain.mine(10).await?;
    let at = |tag: &'static str| {
        let asked = line.call("eth_getBlockByNumber", json!([tag, false]));
        async { asked.await.map(|answer| answer["result"]["number"].as_str().unwrap_or_default().to_owned()) }
    };
    assert_eq!((at("safe").await?, at("finalized").await?), ("0x8".to_owned(), "0x4".to_owned()));
    line.chain.mine(2).await?;
    assert_eq!((at("safe").await?, at("finalized").await?), ("0xa".to_owned(), "0x6".to_owned()));
    line.proxy.set_rules(Rules { finalized_depth: 9, ..Rules::default() });
    assert_eq!(at("finalized").await?, "0x6");
    Ok(())
}

#[tokio::test]
async fn a_reorganisation_loses_transactions_or_returns_them() -> Done {
    let line = Line::new(Mining::Manual).await?;
    for (nonce, fate, pooled) in [(0, Return::Lost, 0), (0, Return::ToPool, 1)] {
        let raw = line.sign(2, nonce, 10 * GWEI, GWEI, 0);
        line.send(&raw).await?;
        line.chain.mine(1).await?;
        line.chain.mine(2).await?;
        let height = line.height().await?;
        assert_eq!(line.proxy.reorg(&line.chain, 3, fate).await?, 1, "{fate:?}");
        assert_eq!((line.height().await?, line.chain.pool().await?.len()), (height, pooled), "{fate:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_weather_of_a_seed_can_be_repeated() -> Done {
    let mut met = Vec::new();
    for _ in 0..2 {
        let line = Line::new(Mining::Automatic).await?;
        line.proxy.weather(Some(Weather { longest_delay: Duration::from_millis(1), ..Weather::stormy(3) }));
        for _ in 0..100 {
            // Whatever comes of it.
            let _ = line.call("eth_blockNumber", json!([])).await;
        }
        met.push(line.proxy.done());
    }
    assert_eq!(met[0], met[1]);
    assert!(met[0].len() > 10, "{} faults in 100 calls", met[0].len());
    Ok(())
}
