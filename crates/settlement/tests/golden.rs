//! Selectors and topics, written out: an ABI that drifts is noticed here and not on chain.

use alloy::primitives::hex;
use alloy::sol_types::{SolCall, SolEvent};
use milepost_settlement::bindings::{HostEarnings, HostRegistry, JobMarketplace};
use milepost_settlement::{pushed_selectors, required_functions};

#[test]
fn selectors_are_those_that_the_original_had_and_ours_froze() {
    let selectors: [(&str, [u8; 4], &str); 9] = [
        ("c8c664ee", JobMarketplace::submitProofOfWorkCall::SELECTOR, JobMarketplace::submitProofOfWorkCall::SIGNATURE),
        ("040138dd", JobMarketplace::completeSessionJobCall::SELECTOR, JobMarketplace::completeSessionJobCall::SIGNATURE),
        ("00f714ce", HostEarnings::withdrawCall::SELECTOR, HostEarnings::withdrawCall::SIGNATURE),
        ("fa09e630", HostEarnings::withdrawAllCall::SELECTOR, HostEarnings::withdrawAllCall::SIGNATURE),
        ("d4fac45d", HostEarnings::getBalanceCall::SELECTOR, HostEarnings::getBalanceCall::SIGNATURE),
        ("3807825b", JobMarketplace::requestCloseCall::SELECTOR, JobMarketplace::requestCloseCall::SIGNATURE),
        ("05261aea", JobMarketplace::finalizeCall::SELECTOR, JobMarketplace::finalizeCall::SIGNATURE),
        ("402ff0db", JobMarketplace::getSessionCall::SELECTOR, JobMarketplace::getSessionCall::SIGNATURE),
        ("4b0f6c6f", HostRegistry::isSubmitterCall::SELECTOR, HostRegistry::isSubmitterCall::SIGNATURE),
    ];
    for (expected, selector, signature) in selectors {
        assert_eq!(hex::encode(selector), expected, "{signature}");
    }
}

#[test]
fn topics_are_those_that_were_frozen() {
    let topics = [
        ("0a6eb46c967cee17081dcf7fc9802122b4b3cc3869fa1ebdc8602e92b990892b", JobMarketplace::ProofOfWork::SIGNATURE_HASH),
        ("bac5547a51962033e7f2e49f2737c7d6fb4ba9683bbb522055c1d9c9d1e9686c", JobMarketplace::SessionCompleted::SIGNATURE_HASH),
        ("91202c8e7f94a61b913fcd7815067d3d50463cda39e3087de10e26c19e46333f", JobMarketplace::CloseRequested::SIGNATURE_HASH),
        ("4f2f6a22adf807383237c9604bb786738ecf78814c86b94415ebd1b0ef4f7253", JobMarketplace::SessionCreated::SIGNATURE_HASH),
    ];
    for (expected, topic) in topics {
        assert_eq!(hex::encode(topic), expected);
    }
}

#[test]
fn the_deployed_bytecode_of_the_artifacts_holds_every_function_that_is_called() {
    let market = pushed_selectors(&JobMarketplace::DEPLOYED_BYTECODE);
    let registry = pushed_selectors(&HostRegistry::DEPLOYED_BYTECODE);
    for (of_market, signature, selector) in required_functions() {
        assert!(if of_market { &market } else { &registry }.contains(&selector), "{signature}");
    }
    // A selector that begins with a zero byte is pushed in three bytes.
    assert!(pushed_selectors(&HostEarnings::DEPLOYED_BYTECODE).contains(&0x00f7_14ce));
    assert!(!market.contains(&0x5c1b_aa89), "the selector that the notes gave for submitProofOfWork is nobody's");
}
