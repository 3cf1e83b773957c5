//! Functions and events of the deployed generations, by their signatures alone.

use std::collections::BTreeSet;

use alloy::primitives::B256;
use alloy::sol_types::{SolCall, SolEvent};

use super::Function;

// Interfaces apart, because most names are overloaded.
mod abi {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    alloy::sol! {
        interface BytesForm {
            event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash);
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes proof) external;
        }
        interface HashForm {
            event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash, string proofCID);
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes32 proofHash, string proofCID) external;
        }
        interface SignedForm {
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes32 proofHash, bytes signature, string proofCID) external;
        }
        interface SignedDeltaForm {
            event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash, string proofCID, string deltaCID);
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes32 proofHash, bytes signature, string proofCID, string deltaCID) external;
        }
        interface DeltaForm {
            function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes32 proofHash, string proofCID, string deltaCID) external;
        }
        interface Completes {
            function completeSessionJob(uint256 jobId) external;
        }
        interface CompletesWithContent {
            function completeSessionJob(uint256 jobId, string conversationCID) external;
        }
        interface Session {
            event SessionCompleted(uint256 indexed jobId, uint256 totalTokensUsed, uint256 hostEarnings, uint256 userRefund);
            event SessionTimedOut(uint256 indexed jobId, uint256 hostEarnings, uint256 userRefund);
            event SessionCompletedBy(uint256 indexed jobId, address indexed completedBy, uint256 tokensUsed, uint256 paymentAmount, uint256 refundAmount);
            function sessionJobs(uint256 jobId) external view;
            function triggerSessionTimeout(uint256 jobId) external;
        }
        interface CompletedBy {
            event SessionCompleted(uint256 indexed jobId, address indexed completedBy, uint256 tokensUsed, uint256 paymentAmount, uint256 refundAmount);
        }
        interface Funding {
            function createSessionJob(address host, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval) external payable;
            function createSessionJobWithToken(address host, address token, uint256 deposit, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval) external;
            function createSessionFromDeposit(address host, address token, uint256 deposit, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval) external;
        }
        interface Getters {
            function MIN_PROVEN_TOKENS() external view returns (uint256);
            function PRICE_PRECISION() external view returns (uint256);
            function FEE_BASIS_POINTS() external view returns (uint256);
            function feeBasisPoints() external view returns (uint256);
            function DISPUTE_WINDOW() external view returns (uint256);
            function disputeWindow() external view returns (uint256);
            function hostEarnings() external view returns (address);
            function nodeRegistry() external view returns (address);
        }
        interface Earnings {
            function getBalance(address host, address token) external view returns (uint256);
            function withdraw(uint256 amount, address token) external;
            function withdrawAll(address token) external;
        }
    }
}
pub(super) use abi::*;

pub(super) fn function<C: SolCall>() -> Function {
    Function { signature: C::SIGNATURE, selector: u32::from_be_bytes(C::SELECTOR) }
}

/// How a claim is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The proof itself.
    Bytes,
    /// Its hash and a content id.
    Hash,
    /// Hash, host's signature, content id.
    Signed,
    /// Hash, host's signature, two content ids.
    SignedDelta,
    /// Hash, two content ids.
    Delta,
}

impl Form {
    pub(super) const ALL: [Self; 5] = [Self::Bytes, Self::Hash, Self::Signed, Self::SignedDelta, Self::Delta];

    pub(super) fn function(self) -> Function {
        match self {
            Self::Bytes => function::<BytesForm::submitProofOfWorkCall>(),
            Self::Hash => function::<HashForm::submitProofOfWorkCall>(),
            Self::Signed => function::<SignedForm::submitProofOfWorkCall>(),
            Self::SignedDelta => function::<SignedDeltaForm::submitProofOfWorkCall>(),
            Self::Delta => function::<DeltaForm::submitProofOfWorkCall>(),
        }
    }
}

/// Every function of the deployed generations that we know, for `doctor` and for the tests that pin their selectors.
pub fn deployed_functions() -> Vec<Function> {
    let mut all: Vec<_> = Form::ALL.iter().map(|form| form.function()).collect();
    all.extend([
        function::<Completes::completeSessionJobCall>(),
        function::<CompletesWithContent::completeSessionJobCall>(),
        function::<Session::sessionJobsCall>(),
        function::<Session::triggerSessionTimeoutCall>(),
        function::<Funding::createSessionJobCall>(),
        function::<Funding::createSessionJobWithTokenCall>(),
        function::<Funding::createSessionFromDepositCall>(),
        function::<Getters::MIN_PROVEN_TOKENSCall>(),
        function::<Getters::PRICE_PRECISIONCall>(),
        function::<Getters::FEE_BASIS_POINTSCall>(),
        function::<Getters::feeBasisPointsCall>(),
        function::<Getters::DISPUTE_WINDOWCall>(),
        function::<Getters::disputeWindowCall>(),
        function::<Getters::hostEarningsCall>(),
        function::<Getters::nodeRegistryCall>(),
        function::<Earnings::getBalanceCall>(),
        function::<Earnings::withdrawCall>(),
        function::<Earnings::withdrawAllCall>(),
    ]);
    all
}

/// Every event of the deployed generations that is followed: signature and topic.
pub fn deployed_topics() -> Vec<(&'static str, B256)> {
    fn of<E: SolEvent>() -> (&'static str, B256) {
        (E::SIGNATURE, E::SIGNATURE_HASH)
    }
    vec![
        of::<BytesForm::ProofSubmitted>(),
        of::<HashForm::ProofSubmitted>(),
        of::<SignedDeltaForm::ProofSubmitted>(),
        of::<Session::SessionCompleted>(),
        of::<CompletedBy::SessionCompleted>(),
        of::<Session::SessionCompletedBy>(),
        of::<Session::SessionTimedOut>(),
    ]
}

/// What follows from the deployed generations' reasons for refusing a claim or a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More tokens than the rate allows yet.
    TooFast,
    /// The job is not where we thought: look again.
    Moved,
    /// Repeating it would be refused again.
    Final,
}

/// Reads a reason, as `require` gave it.
pub(crate) fn refusal(text: &str) -> Refusal {
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["excessive tokens"]) {
        Refusal::TooFast
    } else if has(&["session not active", "exceeds deposit", "minimum tokens", "dispute window", "not timed out"]) {
        Refusal::Moved
    } else {
        Refusal::Final
    }
}

/// Names of the known functions among `selectors`, for people.
pub(super) fn known(selectors: &BTreeSet<u32>, ours: &[Function]) -> Vec<&'static str> {
    let mut names: Vec<_> = deployed_functions()
        .into_iter()
        .chain(ours.iter().copied())
        .filter(|function| selectors.contains(&function.selector))
        .map(|function| function.signature)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deployed_ones_reasons_are_told_apart() {
        assert_eq!(refusal("Excessive tokens claimed"), Refusal::TooFast);
        for text in ["Session not active", "Exceeds deposit", "Must claim minimum tokens", "Must wait dispute window"] {
            assert_eq!(refusal(text), Refusal::Moved, "{text}");
        }
        for text in ["Only host can submit proof", "Proof already submitted", "Invalid proof", "Invalid signature length", ""] {
            assert_eq!(refusal(text), Refusal::Final, "{text}");
        }
    }
}
