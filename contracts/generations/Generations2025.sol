// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DeployedEarnings} from "./DeployedEarnings.sol";
import {CapitalGetters, DeployedMarketplace, FundedByInterval} from "./DeployedMarketplace.sol";

/// @notice September 2025: the proof itself travels, one event of completion, `completeSessionJob(uint256)`, 16 fields.
contract BytesForm is FundedByInterval, CapitalGetters {
    event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash);

    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) DeployedMarketplace(earnings, fee, window) {}

    function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes calldata proof) external {
        Session storage session = _claim(jobId, tokensClaimed);
        require(proof.length >= 64, "Invalid proof");
        bytes32 hash = keccak256(proof);
        _useOnce(hash);
        session.lastProofHash = hash;
        emit ProofSubmitted(jobId, msg.sender, tokensClaimed, hash);
    }

    function completeSessionJob(uint256 jobId) external {
        _complete(jobId, "");
    }

    function sessionJobs(uint256 jobId) external view {
        Session storage session = _sessions[jobId];
        if (session.host == address(0)) jobId = 0;
        _answer(
            abi.encode(
                jobId,
                session.depositor,
                session.depositor,
                session.host,
                session.token,
                session.deposit,
                session.price,
                session.used,
                session.maxDuration,
                session.startTime,
                session.lastProofTime,
                session.proofInterval,
                session.status,
                session.toHost,
                session.toDepositor,
                session.conversation
            )
        );
    }

    function _expectedRate() internal pure override returns (uint256) {
        return 10;
    }

    function _announce(uint256, uint256) internal override {}
}

/// @notice October 2025: a hash and a content id instead of the proof, both events of completion, 18 fields.
contract HashForm is FundedByInterval, CapitalGetters {
    event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash, string proofCID);
    event SessionCompleted(
        uint256 indexed jobId, address indexed completedBy, uint256 tokensUsed, uint256 paymentAmount, uint256 refundAmount
    );

    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) DeployedMarketplace(earnings, fee, window) {}

    function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes32 proofHash, string calldata proofCID) external {
        Session storage session = _claim(jobId, tokensClaimed);
        require(proofHash != bytes32(0) && bytes(proofCID).length > 0, "Invalid proof");
        _useOnce(proofHash);
        (session.lastProofHash, session.lastProofCid) = (proofHash, proofCID);
        emit ProofSubmitted(jobId, msg.sender, tokensClaimed, proofHash, proofCID);
    }

    function completeSessionJob(uint256 jobId, string calldata conversationCID) external {
        _complete(jobId, conversationCID);
    }

    function sessionJobs(uint256 jobId) external view {
        Session storage session = _sessions[jobId];
        if (session.host == address(0)) jobId = 0;
        _answer(
            abi.encode(
                jobId,
                session.depositor,
                session.depositor,
                session.host,
                session.token,
                session.deposit,
                session.price,
                session.used,
                session.maxDuration,
                session.startTime,
                session.lastProofTime,
                session.proofInterval,
                session.status,
                session.toHost,
                session.toDepositor,
                session.conversation,
                session.lastProofHash,
                session.lastProofCid
            )
        );
    }

    function _expectedRate() internal pure virtual override returns (uint256) {
        return 10;
    }

    function _announce(uint256 jobId, uint256 charge) internal override {
        Session storage session = _sessions[jobId];
        emit SessionCompleted(jobId, msg.sender, session.used, charge, session.toDepositor);
    }
}

/// @notice December 2025: as October, with prices in thousandths and a hundredfold rate.
contract PreciseHashForm is HashForm {
    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) HashForm(earnings, fee, window) {}

    function PRICE_PRECISION() external pure returns (uint256) {
        return 1_000;
    }

    function _precision() internal pure override(CapitalGetters, DeployedMarketplace) returns (uint256) {
        return 1_000;
    }

    function _expectedRate() internal pure override returns (uint256) {
        return 1_000;
    }
}
