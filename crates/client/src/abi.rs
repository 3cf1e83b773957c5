//! The marketplace's ABI, as far as a client and an auditor use it. A test holds it against the built contracts.

use alloy::primitives::Bytes;
use alloy::sol;
use alloy::sol_types::SolInterface;

#[allow(missing_docs)] // the fields are documented in contracts/src/interfaces
mod contracts {
    use super::sol;

    sol! {
        #[derive(Debug, PartialEq, Eq)]
        struct SessionTerms {
            address host;
            address token;
            uint256 deposit;
            uint256 pricePerToken;
            bytes32 modelDigest;
            uint32 expectedRate;
            uint64 maxDuration;
            uint64 timeoutSeconds;
            uint256 minimumCharge;
            address verifier;
            address voucherSigner;
            uint64 voucherAllowance;
            bytes32 saltCommitment;
        }

        #[derive(Debug, PartialEq, Eq)]
        enum Status { None, Active, Closing, Completed }

        #[derive(Debug, PartialEq, Eq)]
        struct Claim { uint256 jobId; uint256 tokensClaimed; bytes proof; }

        #[derive(Debug, PartialEq, Eq)]
        struct SessionView {
            address depositor;
            SessionTerms terms;
            Status status;
            bool closedToClaims;
            uint64 startTime;
            uint64 lastProofTime;
            uint64 claimUntil;
            uint64 tokensUsed;
            uint64 maxTokens;
            uint64 voucherTokens;
            bytes32 head;
        }

        #[derive(Debug, PartialEq, Eq)]
        interface JobMarketplace {
            event SessionCreated(uint256 indexed jobId, address indexed depositor, address indexed host, SessionTerms terms, bytes32 head);
            event ProofOfWork(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, uint256 tokensUsed, bytes32 headAfter, uint8 kind);
            event SessionCompleted(uint256 indexed jobId, address indexed host, address indexed depositor, uint256 tokensUsed, uint256 hostPaid, uint256 treasuryFee, uint256 refund);
            event CreditAdded(address indexed account, address indexed token, uint256 amount);

            error HostNotActive(address host);
            error TokenNotAllowed(address token);
            error WrongValue(uint256 expected, uint256 received);
            error WrongDepositReceived(uint256 expected, uint256 received);
            error AmountTooLarge(uint256 max, uint256 asked);
            error ZeroPrice();
            error ZeroModelDigest();
            error DepositTooSmall(uint256 minimum, uint256 deposit);
            error DurationOutOfBounds(uint256 min, uint256 max, uint256 asked);
            error VerifierNotAContract(address verifier);
            error AllowanceWithoutSigner();
            error UnknownJob(uint256 jobId);
            error NotHost(address caller);
            error NotParty(address caller);
            error WrongStatus(Status status);
            error CloseTooEarly(uint256 from);
            error FinalizeTooEarly(uint256 claimUntil);
            error NothingToWithdraw();
            error PaymentRefused(address to);
            error ZeroAddress();
            error SafeERC20FailedOperation(address token);

            function createSession(SessionTerms calldata terms) external payable returns (uint256 jobId);
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes calldata proof) external;
            function submitProofsOfWork(Claim[] calldata claims) external returns (uint256 accepted);
            function requestClose(uint256 jobId) external;
            function finalize(uint256 jobId) external;
            function withdrawCredit(address token) external;
            function getSession(uint256 jobId) external view returns (SessionView memory);
            function credits(address account, address token) external view returns (uint256);
            function treasuryBalance(address token) external view returns (uint256);
            function feeBps() external view returns (uint256);
            function hostEarnings() external view returns (address);
            function hostRegistry() external view returns (address);
        }

        #[derive(Debug)]
        struct HostRecord {
            address payout;
            bool active;
            string apiUrl;
            string metadata;
            address[] submitters;
            bytes32[] models;
        }

        #[derive(Debug)]
        interface HostRegistry {
            function isActive(address host) external view returns (bool);
            function isSubmitter(address host, address key) external view returns (bool);
            function priceOf(address host, bytes32 modelDigest, address token) external view returns (uint256);
            function getHost(address host) external view returns (HostRecord memory);
            function hostCount() external view returns (uint256);
            function hosts(uint256 offset, uint256 limit) external view returns (address[] memory);
        }

        #[derive(Debug)]
        interface HostEarnings {
            event EarningsCredited(address indexed host, address indexed token, uint256 amount);
            function getBalance(address host, address token) external view returns (uint256);
        }

        #[derive(Debug, PartialEq, Eq)]
        interface Erc20 {
            event Transfer(address indexed from, address indexed to, uint256 value);
            function approve(address spender, uint256 value) external returns (bool);
            function allowance(address owner, address spender) external view returns (uint256);
            function balanceOf(address account) external view returns (uint256);
            function decimals() external view returns (uint8);
        }
    }
}

pub use contracts::*;

/// A revert's data as the name of the contract's error and its values.
pub fn describe_revert(data: &Bytes) -> String {
    if let Ok(error) = JobMarketplace::JobMarketplaceErrors::abi_decode(data) {
        return format!("{error:?}");
    }
    if let Ok(error) = alloy::sol_types::GenericContractError::abi_decode(data) {
        return error.to_string();
    }
    if data.is_empty() { "no reason given".into() } else { format!("an unknown error, {data}") }
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::{SolCall, SolError, SolEvent};
    use serde_json::Value;

    use super::{Erc20, HostEarnings, HostRegistry, JobMarketplace, SessionTerms, describe_revert};

    fn artifact(text: &str) -> Value {
        serde_json::from_str(text).expect("the artifact is JSON")
    }

    fn marketplace() -> Value {
        artifact(include_str!("../../../contracts/artifacts/JobMarketplace.json"))
    }

    fn selectors(artifact: &Value) -> Vec<String> {
        artifact["methodIdentifiers"]
            .as_object()
            .expect("selectors")
            .values()
            .map(|text| text.as_str().expect("text").trim_start_matches("0x").to_owned())
            .collect()
    }

    #[test]
    fn every_function_that_is_called_is_in_the_built_contracts() {
        let built = selectors(&marketplace());
        for (name, selector) in [
            ("createSession", JobMarketplace::createSessionCall::SELECTOR),
            ("submitProofOfWork", JobMarketplace::submitProofOfWorkCall::SELECTOR),
            ("submitProofsOfWork", JobMarketplace::submitProofsOfWorkCall::SELECTOR),
            ("requestClose", JobMarketplace::requestCloseCall::SELECTOR),
            ("finalize", JobMarketplace::finalizeCall::SELECTOR),
            ("withdrawCredit", JobMarketplace::withdrawCreditCall::SELECTOR),
            ("getSession", JobMarketplace::getSessionCall::SELECTOR),
            ("credits", JobMarketplace::creditsCall::SELECTOR),
            ("treasuryBalance", JobMarketplace::treasuryBalanceCall::SELECTOR),
            ("feeBps", JobMarketplace::feeBpsCall::SELECTOR),
            ("hostEarnings", JobMarketplace::hostEarningsCall::SELECTOR),
            ("hostRegistry", JobMarketplace::hostRegistryCall::SELECTOR),
        ] {
            assert!(built.contains(&hex::encode(selector)), "{name}");
        }
        assert_eq!(JobMarketplace::submitProofOfWorkCall::SELECTOR, [0xc8, 0xc6, 0x64, 0xee]);

        let built = selectors(&artifact(include_str!("../../../contracts/artifacts/HostRegistry.json")));
        for (name, selector) in [
            ("isActive", HostRegistry::isActiveCall::SELECTOR),
            ("isSubmitter", HostRegistry::isSubmitterCall::SELECTOR),
            ("priceOf", HostRegistry::priceOfCall::SELECTOR),
            ("getHost", HostRegistry::getHostCall::SELECTOR),
            ("hostCount", HostRegistry::hostCountCall::SELECTOR),
            ("hosts", HostRegistry::hostsCall::SELECTOR),
        ] {
            assert!(built.contains(&hex::encode(selector)), "{name}");
        }
        let built = selectors(&artifact(include_str!("../../../contracts/artifacts/HostEarnings.json")));
        assert!(built.contains(&hex::encode(HostEarnings::getBalanceCall::SELECTOR)));
        let built = selectors(&artifact(include_str!("../../../contracts/artifacts/TestUSDC.json")));
        for selector in
            [Erc20::approveCall::SELECTOR, Erc20::allowanceCall::SELECTOR, Erc20::balanceOfCall::SELECTOR, Erc20::decimalsCall::SELECTOR]
        {
            assert!(built.contains(&hex::encode(selector)));
        }
    }

    #[test]
    fn every_event_that_is_read_is_emitted_by_the_built_contracts() {
        let topics = |artifact: &Value| artifact["eventTopics"].to_string().to_lowercase();
        let built = topics(&marketplace());
        for topic in [
            JobMarketplace::SessionCreated::SIGNATURE_HASH,
            JobMarketplace::ProofOfWork::SIGNATURE_HASH,
            JobMarketplace::SessionCompleted::SIGNATURE_HASH,
            JobMarketplace::CreditAdded::SIGNATURE_HASH,
        ] {
            assert!(built.contains(&hex::encode(topic)), "{topic}");
        }
        let built = topics(&artifact(include_str!("../../../contracts/artifacts/HostEarnings.json")));
        assert!(built.contains(&hex::encode(HostEarnings::EarningsCredited::SIGNATURE_HASH)));
    }

    #[test]
    fn the_session_views_have_the_built_contracts_shape() {
        // Return types are no part of a selector: their components are compared one by one.
        let artifact = marketplace();
        let function = |name: &str| artifact["abi"].as_array().expect("abi").iter().find(|item| item["name"] == name).expect("it is there");
        let components = |tuple: &Value| -> Vec<(String, String)> {
            let list = tuple["components"].as_array().expect("components");
            list.iter()
                .map(|part| (part["name"].as_str().expect("name").to_owned(), part["type"].as_str().expect("type").to_owned()))
                .collect()
        };
        let view = components(&function("getSession")["outputs"][0]);
        let names: Vec<&str> = view.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "depositor",
                "terms",
                "status",
                "closedToClaims",
                "startTime",
                "lastProofTime",
                "claimUntil",
                "tokensUsed",
                "maxTokens",
                "voucherTokens",
                "head"
            ]
        );
        let terms = components(&function("createSession")["inputs"][0]);
        let ours = <SessionTerms as alloy::sol_types::SolStruct>::eip712_root_type().to_string();
        for (name, kind) in &terms {
            assert!(ours.contains(&format!("{kind} {name}")), "{kind} {name} in {ours}");
        }
    }

    #[test]
    fn a_revert_is_named_with_its_values() {
        let error =
            JobMarketplace::DepositTooSmall { minimum: alloy::primitives::U256::from(200_000), deposit: alloy::primitives::U256::from(5) };
        let text = describe_revert(&error.abi_encode().into());
        assert!(text.contains("DepositTooSmall") && text.contains("200000"), "{text}");
        assert_eq!(describe_revert(&alloy::primitives::Bytes::new()), "no reason given");
        assert!(describe_revert(&vec![1, 2, 3, 4].into()).contains("0x01020304"));
    }
}
