//! Selectors and topics, written out: an ABI that drifts is noticed here and not on chain.

use alloy::primitives::{hex, keccak256};
use alloy::sol_types::{SolCall, SolEvent};
use milepost_settlement::bindings::{HostEarnings, HostRegistry, JobMarketplace};
use milepost_settlement::generation::{deployed_functions, deployed_topics};
use milepost_settlement::{pushed_selectors, required_functions};

#[test]
fn selectors_are_those_that_the_original_had_and_ours_froze() {
    let selectors: [(&str, [u8; 4], &str); 11] = [
        ("c8c664ee", JobMarketplace::submitProofOfWorkCall::SELECTOR, JobMarketplace::submitProofOfWorkCall::SIGNATURE),
        ("040138dd", JobMarketplace::completeSessionJobCall::SELECTOR, JobMarketplace::completeSessionJobCall::SIGNATURE),
        ("00f714ce", HostEarnings::withdrawCall::SELECTOR, HostEarnings::withdrawCall::SIGNATURE),
        ("fa09e630", HostEarnings::withdrawAllCall::SELECTOR, HostEarnings::withdrawAllCall::SIGNATURE),
        ("d4fac45d", HostEarnings::getBalanceCall::SELECTOR, HostEarnings::getBalanceCall::SIGNATURE),
        ("3807825b", JobMarketplace::requestCloseCall::SELECTOR, JobMarketplace::requestCloseCall::SIGNATURE),
        ("05261aea", JobMarketplace::finalizeCall::SELECTOR, JobMarketplace::finalizeCall::SIGNATURE),
        ("402ff0db", JobMarketplace::getSessionCall::SELECTOR, JobMarketplace::getSessionCall::SIGNATURE),
        ("cf9bae52", JobMarketplace::submitProofsOfWorkCall::SELECTOR, JobMarketplace::submitProofsOfWorkCall::SIGNATURE),
        ("950bff9f", JobMarketplace::MAX_BATCHCall::SELECTOR, JobMarketplace::MAX_BATCHCall::SIGNATURE),
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
        ("4fab4a07ad8999a13ebb313108c3fa716ce19dce02c45b6f6c3bf01bca8aedb4", JobMarketplace::ClaimRejected::SIGNATURE_HASH),
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

#[test]
fn selectors_of_the_deployed_generations_are_those_that_were_found_on_chain() {
    let expected = [
        (0xc8c6_64ee, "submitProofOfWork(uint256,uint256,bytes)"),
        (0xace0_83b3, "submitProofOfWork(uint256,uint256,bytes32,string)"),
        (0x8dbe_53aa, "submitProofOfWork(uint256,uint256,bytes32,bytes,string)"),
        (0x3338_f1e5, "submitProofOfWork(uint256,uint256,bytes32,bytes,string,string)"),
        (0x7c5c_b561, "submitProofOfWork(uint256,uint256,bytes32,string,string)"),
        (0x0ebe_4fe0, "completeSessionJob(uint256)"),
        (0x0401_38dd, "completeSessionJob(uint256,string)"),
        (0xef39_d372, "sessionJobs(uint256)"),
        (0x14a4_ffa5, "triggerSessionTimeout(uint256)"),
        (0x366e_2177, "createSessionJob(address,uint256,uint256,uint256)"),
        (0x62c6_1f84, "createSessionJobWithToken(address,address,uint256,uint256,uint256,uint256)"),
        (0xdecd_89cb, "createSessionFromDeposit(address,address,uint256,uint256,uint256,uint256)"),
        (0xd4fa_c45d, "getBalance(address,address)"),
        (0x00f7_14ce, "withdraw(uint256,address)"),
        (0xfa09_e630, "withdrawAll(address)"),
    ];
    let known = deployed_functions();
    for (selector, signature) in expected {
        let hash = keccak256(signature);
        assert_eq!(u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]), selector, "{signature}");
        assert!(known.iter().any(|function| function.signature == signature && function.selector == selector), "{signature}");
    }
}

#[test]
fn topics_of_the_deployed_generations_are_hashes_of_their_signatures() {
    let expected = [
        ("b4c5c92500782d044d3f3d15b5bdc795913a997874aa9ba898f5b24754d4b7f8", "ProofSubmitted(uint256,address,uint256,bytes32)"),
        ("0b81f46766672facece96cfcc36bf38c5d7b862ba7174b1ac0b33864b18d3dea", "ProofSubmitted(uint256,address,uint256,bytes32,string)"),
        (
            "330d363d69efddb2c24b4f13b34a8f73f88fcc6e07c6b64e8f0c51e78d0d7702",
            "ProofSubmitted(uint256,address,uint256,bytes32,string,string)",
        ),
        ("dc98ea7ca5b8998396967b6d0c1da6e05a17b467b15bdda0f07f6b84dfd31e71", "SessionCompleted(uint256,uint256,uint256,uint256)"),
        ("69b9f36c61a88288ebd33b98bdda683363dcf1815ae303a0f776521c790f4586", "SessionCompleted(uint256,address,uint256,uint256,uint256)"),
        ("b94c40391c2efc74af3e630949876a81226c7bb103d568ee293c12ee899346a7", "SessionCompletedBy(uint256,address,uint256,uint256,uint256)"),
        ("fa2b97569bd8b93c0adf89bf1f6903b10d258aec3bbfc759b7656034179660da", "SessionTimedOut(uint256,uint256,uint256)"),
    ];
    let known: Vec<_> = deployed_topics().into_iter().map(|(signature, topic)| (hex::encode(topic), signature)).collect();
    for (topic, signature) in expected {
        assert_eq!(hex::encode(keccak256(signature)), topic, "{signature}");
        assert!(known.contains(&(topic.to_owned(), signature)), "{signature}");
    }
    assert_eq!(known.len(), expected.len(), "one that is followed is not pinned here");
}
