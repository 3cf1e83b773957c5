//! The client against a real chain, and against endpoints that lie, lag and fail.

mod endpoint;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use endpoint::{Endpoint, Reply};
use finality_gadget::{BlockHash, BlockNumber, CanonicalChainClient, ChainHead, ChainId, chain};
use milepost_canonical_chain::{Error, EvmChain, Follow, MAX_LINKED, Options};
use milepost_test_support::{ChainOptions, DevChain, Mining};
use serde_json::{Value, json};

const DEV: ChainId = ChainId(31337);

type Expected = fn(&Error) -> bool;

fn client(url: &str, follow: Follow) -> EvmChain {
    EvmChain::new(&Options { timeout: Duration::from_secs(30), ..Options::new(url, DEV, follow) }).expect("the options are sound")
}

async fn chain(blocks: u64) -> Arc<DevChain> {
    chain_since(None, blocks).await
}

async fn chain_since(genesis: Option<u64>, blocks: u64) -> Arc<DevChain> {
    let options = ChainOptions { mining: Mining::Manual, genesis, ..ChainOptions::default() };
    let chain = DevChain::start(options).await.expect("anvil starts");
    chain.mine(blocks).await.expect("anvil mines");
    Arc::new(chain)
}

/// What the chain itself says.
async fn truth(chain: &DevChain, heights: &[u64]) -> Vec<Option<BlockHash>> {
    let mut hashes = Vec::new();
    for height in heights {
        let block: Value = chain.request("eth_getBlockByNumber", (format!("{height:#x}"), false)).await.expect("anvil answers");
        hashes.push(block["hash"].as_str().map(|hash| {
            let digits: Vec<u8> =
                hash.bytes().skip(2).map(|digit| u8::from_str_radix(&char::from(digit).to_string(), 16).expect("hex")).collect();
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
            BlockHash(bytes.try_into().expect("32 bytes"))
        }));
    }
    hashes
}

fn heights(numbers: &[u64]) -> Vec<BlockNumber> {
    numbers.iter().copied().map(BlockNumber).collect()
}

#[tokio::test]
async fn what_is_answered_is_what_the_chain_holds_and_nothing_above_its_head() {
    let chain = chain(600).await;
    let client = client(chain.url(), Follow::Depth(5));
    let head = client.head().await.expect("anvil answers");
    assert_eq!(head.best, BlockNumber(595));
    // Near ones, far ones, and ones that do not exist.
    for asked in [&[0, 32, 64][..], &[64], &[0, 595, 600, 601, 1000], &[596, 597, 598], &[], &[700]] {
        let found = client.hashes(&heights(asked)).await.expect("anvil answers");
        assert_eq!(found, truth(&chain, asked).await, "{asked:?}");
    }
    const { assert!(595 > MAX_LINKED, "the far ones are further apart than what is linked") };
}

#[tokio::test]
async fn after_a_reorganisation_the_answer_is_the_new_chain_and_never_a_mixture() {
    let chain = chain(100).await;
    let client = client(chain.url(), Follow::Depth(0));
    let asked = [32, 64, 96];
    let before = client.hashes(&heights(&asked)).await.expect("anvil answers");
    assert_eq!(before, truth(&chain, &asked).await);
    chain.reorg(20).await.expect("anvil reorganises");
    let now = truth(&chain, &asked).await;
    assert_eq!(now[..2], before[..2], "20 blocks reach down to 81");
    assert_ne!(now[2], before[2]);
    // What was remembered from before is noticed once, and forgotten.
    let first = client.hashes(&heights(&asked)).await;
    assert!(matches!(first, Err(chain::Error::Moved)), "{first:?}");
    assert_eq!(client.hashes(&heights(&asked)).await.expect("anvil answers"), now);
}

#[tokio::test]
async fn two_machines_that_do_not_agree_are_never_taken_for_one_chain() {
    // Of two that start within one second the blocks would be the same.
    let (one, other) = (chain_since(Some(1_700_000_000), 600).await, chain_since(Some(1_700_000_001), 600).await);
    let (low, high) = (truth(&one, &[96]).await, truth(&other, &[96]).await);
    assert_ne!(low, high, "the two have different blocks");
    for asked in [[64, 96], [64, 599]] {
        // Blocks up to 70 come from one machine, those above from the other; where heights are far apart, the other answers
        // the second time.
        let count = Arc::new(AtomicU64::new(0));
        let mixed = Endpoint::start(other.clone(), {
            let (one, count) = (one.clone(), count.clone());
            move |method, params| {
                let height = params[0].as_str().and_then(|height| u64::from_str_radix(height.strip_prefix("0x")?, 16).ok());
                match height {
                    Some(64) if method == "eth_getBlockByNumber" && count.fetch_add(1, Ordering::Relaxed) == 0 => Reply::From(one.clone()),
                    Some(height) if height <= 70 && asked[1] == 96 => Reply::From(one.clone()),
                    _ => Reply::Forward,
                }
            }
        })
        .await;
        let client = client(mixed.url(), Follow::Depth(0));
        let found = client.read_hashes(&heights(&asked)).await;
        assert!(matches!(found, Err(Error::Moved)), "{asked:?}: {found:?}");
    }
}

#[tokio::test]
async fn tags_are_followed_as_they_move_and_what_was_final_stays_so() {
    let chain = chain(100).await;
    let tag = Arc::new(AtomicU64::new(40));
    let endpoint = Endpoint::start(chain.clone(), {
        let tag = tag.clone();
        move |_, params| match params[0].as_str() {
            Some("finalized") => Reply::Block(tag.load(Ordering::Relaxed)),
            Some("safe") => Reply::Block(tag.load(Ordering::Relaxed) + 10),
            _ => Reply::Forward,
        }
    })
    .await;
    let following = client(endpoint.url(), Follow::Finalized);
    let safe = client(endpoint.url(), Follow::Safe);
    let deep = client(endpoint.url(), Follow::Depth(7));
    for finalized in [40, 72] {
        tag.store(finalized, Ordering::Relaxed);
        let finalized = Some(BlockNumber(finalized));
        assert_eq!(following.read_head().await.ok(), finalized.map(|best| ChainHead { best, finalized }));
        assert_eq!(safe.read_head().await.ok().map(|head| head.best.0), finalized.map(|best| best.0 + 10));
        assert_eq!(deep.read_head().await.ok(), Some(ChainHead { best: BlockNumber(93), finalized }));
    }
    tag.store(71, Ordering::Relaxed);
    let stale = following.read_head().await;
    assert!(matches!(stale, Err(Error::Stale { known: BlockNumber(72), found: BlockNumber(71) })), "{stale:?}");

    // The chain breaks its word: no answer is given that contradicts it.
    tag.store(72, Ordering::Relaxed);
    chain.reorg(40).await.expect("anvil reorganises");
    let head = following.read_head().await;
    assert!(matches!(head, Err(Error::FinalReplaced { number: BlockNumber(72), .. })), "{head:?}");
    let hashes = following.read_hashes(&heights(&[64, 72])).await;
    assert!(matches!(hashes, Err(Error::FinalReplaced { number: BlockNumber(72), .. })), "{hashes:?}");
}

#[tokio::test]
async fn a_chain_without_tags_is_followed_by_depth_alone_in_every_clients_words() {
    let chain = chain(50).await;
    let answers = [
        json!({ "result": null }),
        json!({ "error": { "code": -32000, "message": "finalized block not found" } }),
        json!({ "error": { "code": -39001, "message": "Unknown block" } }),
        json!({ "error": { "code": -32000, "message": "block \"finalized\" not available (head block: 50)" } }),
        json!({ "error": { "code": -32602, "message": "unsupported block tag: finalized" } }),
        json!({ "error": { "code": -32602, "message": "invalid argument 0: hex string without 0x prefix" } }),
    ];
    for answer in answers {
        let said = answer.clone();
        let endpoint = Endpoint::start(chain.clone(), move |_, params| match params[0].as_str() {
            Some("finalized" | "safe") => Reply::Json(said.clone()),
            _ => Reply::Forward,
        })
        .await;
        let head = client(endpoint.url(), Follow::Depth(8)).read_head().await;
        assert_eq!(head.ok(), Some(ChainHead { best: BlockNumber(42), finalized: None }), "{answer}");
        let head = client(endpoint.url(), Follow::Finalized).read_head().await;
        assert!(matches!(head, Err(Error::NoTag { tag: "finalized", .. })), "{answer}: {head:?}");
        let head = client(endpoint.url(), Follow::Safe).read_head().await;
        assert!(matches!(head, Err(Error::NoTag { tag: "safe", .. })), "{answer}: {head:?}");
    }
}

#[tokio::test]
async fn every_failure_has_its_name() {
    let chain = chain(10).await;
    let wrong = EvmChain::new(&Options::new(chain.url(), ChainId(1), Follow::Depth(0))).expect("the options are sound");
    let found = wrong.read_head().await;
    assert!(matches!(found, Err(Error::WrongChain { expected: ChainId(1), found: DEV })), "{found:?}");

    let nowhere = client("http://127.0.0.1:1/secret-token", Follow::Depth(0)).read_head().await;
    let Err(Error::Unreachable(words)) = &nowhere else { panic!("{nowhere:?}") };
    assert!(!words.contains("secret-token"), "{words}");
    for url in ["", "ftp://127.0.0.1/", "127.0.0.1:8545"] {
        assert!(matches!(EvmChain::new(&Options::new(url, DEV, Follow::Safe)), Err(Error::Options(_))), "{url:?}");
    }

    let cases: [(&str, Reply, Expected); 9] = [
        ("429", Reply::Raw(429, "slow down".to_owned()), |error| matches!(error, Error::Limited(_))),
        ("limit", Reply::Json(json!({ "error": { "code": -32005, "message": "" } })), |error| matches!(error, Error::Limited(_))),
        ("502", Reply::Raw(502, "<html>".to_owned()), |error| matches!(error, Error::Unreachable(_))),
        ("html", Reply::Raw(200, "<html>".to_owned()), |error| matches!(error, Error::Nonsense(_))),
        ("no result", Reply::Json(json!({})), |error| matches!(error, Error::Nonsense(_))),
        ("no block", Reply::Json(json!({ "result": { "number": "0x1" } })), |error| matches!(error, Error::Nonsense(_))),
        ("refused", Reply::Json(json!({ "error": { "code": -32603, "message": "oops" } })), |error| matches!(error, Error::Refused { .. })),
        ("huge", Reply::Raw(200, "1".repeat(9 * 1024 * 1024)), |error| matches!(error, Error::Nonsense(_))),
        ("other block", Reply::Block(3), |error| matches!(error, Error::Nonsense(_))),
    ];
    for (what, reply, expected) in cases {
        let endpoint = Endpoint::start(chain.clone(), move |method, _| match method {
            "eth_getBlockByNumber" => reply.clone(),
            _ => Reply::Forward,
        })
        .await;
        let found = client(endpoint.url(), Follow::Depth(0)).read_hashes(&heights(&[5])).await;
        assert!(found.as_ref().is_err_and(expected), "{what}: {found:?}");
    }
    let silent = Endpoint::start(chain.clone(), |_, _| Reply::Never).await;
    let options = Options { timeout: Duration::from_millis(200), ..Options::new(silent.url(), DEV, Follow::Depth(0)) };
    let found = EvmChain::new(&options).expect("the options are sound").read_head().await;
    assert!(matches!(found, Err(Error::Unreachable(_))), "{found:?}");
}
