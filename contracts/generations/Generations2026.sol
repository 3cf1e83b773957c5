// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DeployedEarnings} from "./DeployedEarnings.sol";
import {DeployedMarketplace, FundedByInterval, UpgradeableGetters} from "./DeployedMarketplace.sol";

/// @notice January 2026: 17 fields, no requester.
abstract contract WithoutRequester is FundedByInterval, UpgradeableGetters {
    function sessionJobs(uint256 jobId) external view {
        Session storage session = _sessions[jobId];
        if (session.host == address(0)) jobId = 0;
        _answer(
            abi.encode(
                jobId,
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

    function _expectedRate() internal pure override returns (uint256) {
        return 1_000;
    }

    /// @dev The host signs hash, its own address and the number of tokens, as `personal_sign` does.
    function _checkSignature(bytes32 proofHash, uint256 tokens, bytes calldata signature) internal view {
        require(signature.length == 65, "Invalid signature length");
        bytes32 said = keccak256(abi.encodePacked(proofHash, msg.sender, tokens));
        bytes32 signed = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", said));
        address signer =
            ecrecover(signed, uint8(signature[64]), bytes32(signature[0:32]), bytes32(signature[32:64]));
        require(signer == msg.sender, "Invalid proof");
    }
}

/// @notice January 2026: hash, host's signature, content id.
contract SignedForm is WithoutRequester {
    event ProofSubmitted(uint256 indexed jobId, address indexed host, uint256 tokensClaimed, bytes32 proofHash, string proofCID);

    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) DeployedMarketplace(earnings, fee, window) {}

    function submitProofOfWork(
        uint256 jobId,
        uint256 tokensClaimed,
        bytes32 proofHash,
        bytes calldata signature,
        string calldata proofCID
    ) external {
        Session storage session = _claim(jobId, tokensClaimed);
        _checkSignature(proofHash, tokensClaimed, signature);
        require(bytes(proofCID).length > 0, "Invalid proof");
        _useOnce(proofHash);
        (session.lastProofHash, session.lastProofCid) = (proofHash, proofCID);
        emit ProofSubmitted(jobId, msg.sender, tokensClaimed, proofHash, proofCID);
    }
}

/// @notice January 2026, a little later: a second content id.
contract SignedDeltaForm is WithoutRequester {
    event ProofSubmitted(
        uint256 indexed jobId,
        address indexed host,
        uint256 tokensClaimed,
        bytes32 proofHash,
        string proofCID,
        string deltaCID
    );

    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) DeployedMarketplace(earnings, fee, window) {}

    function submitProofOfWork(
        uint256 jobId,
        uint256 tokensClaimed,
        bytes32 proofHash,
        bytes calldata signature,
        string calldata proofCID,
        string calldata deltaCID
    ) external {
        Session storage session = _claim(jobId, tokensClaimed);
        _checkSignature(proofHash, tokensClaimed, signature);
        require(bytes(proofCID).length > 0 && bytes(deltaCID).length > 0, "Invalid proof");
        _useOnce(proofHash);
        (session.lastProofHash, session.lastProofCid) = (proofHash, proofCID);
        emit ProofSubmitted(jobId, msg.sender, tokensClaimed, proofHash, proofCID, deltaCID);
    }
}

/// @notice February 2026: no signature, a timeout of its own (18 fields again), twice the rate.
contract TimeoutForm is UpgradeableGetters {
    event ProofSubmitted(
        uint256 indexed jobId,
        address indexed host,
        uint256 tokensClaimed,
        bytes32 proofHash,
        string proofCID,
        string deltaCID
    );

    constructor(DeployedEarnings earnings, uint256 fee, uint256 window) DeployedMarketplace(earnings, fee, window) {}

    function createSessionJob(
        address host,
        uint256 pricePerToken,
        uint256 maxDuration,
        uint256 proofInterval,
        uint256 proofTimeoutWindow
    ) external payable returns (uint256) {
        return _open(host, address(0), msg.value, pricePerToken, maxDuration, proofInterval, proofTimeoutWindow);
    }

    function createSessionJobWithToken(
        address host,
        address token,
        uint256 deposit,
        uint256 pricePerToken,
        uint256 maxDuration,
        uint256 proofInterval,
        uint256 proofTimeoutWindow
    ) external returns (uint256) {
        require(token != address(0), "Invalid token");
        return _open(host, token, deposit, pricePerToken, maxDuration, proofInterval, proofTimeoutWindow);
    }

    function submitProofOfWork(
        uint256 jobId,
        uint256 tokensClaimed,
        bytes32 proofHash,
        string calldata proofCID,
        string calldata deltaCID
    ) external {
        Session storage session = _claim(jobId, tokensClaimed);
        require(proofHash != bytes32(0) && bytes(proofCID).length > 0 && bytes(deltaCID).length > 0, "Invalid proof");
        _useOnce(proofHash);
        (session.lastProofHash, session.lastProofCid) = (proofHash, proofCID);
        emit ProofSubmitted(jobId, msg.sender, tokensClaimed, proofHash, proofCID, deltaCID);
    }

    function sessionJobs(uint256 jobId) external view {
        Session storage session = _sessions[jobId];
        if (session.host == address(0)) jobId = 0;
        _answer(
            abi.encode(
                jobId,
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
                session.proofTimeout,
                session.status,
                session.toHost,
                session.toDepositor,
                session.conversation,
                session.lastProofHash,
                session.lastProofCid
            )
        );
    }

    function _expectedRate() internal pure override returns (uint256) {
        return 2_000;
    }

    function _idleSeconds(Session storage session) internal view override returns (uint256) {
        return session.proofTimeout;
    }
}
