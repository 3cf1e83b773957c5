// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IHostEarnings} from "../interfaces/IHostEarnings.sol";
import {IHostRegistry} from "../interfaces/IHostRegistry.sol";
import {IJobMarketplace, Session, SessionTerms, Status} from "../interfaces/IJobMarketplace.sol";
import {Meter} from "./Meter.sol";

/// @title Storage, constants and views of the marketplace
/// @dev A claim reads four slots and writes two of them: `head` and `meter`. Everything else is read at the beginning
/// and the end of a session only.
abstract contract MarketplaceBase is IJobMarketplace, EIP712 {
    /// @notice Least tokens of a claim while a job is Active (SPEC 2.4).
    uint256 public constant MIN_PROVEN_TOKENS = 100;
    /// @notice Tokens that the rate cap grants at once: two least claims, so that a short session that outran the
    /// expected rate, or a clock that is some seconds behind, does not make a claim wait.
    uint256 public constant RATE_BURST = 200;
    /// @notice Claims may run at this multiple of the expected rate (SPEC 2.4).
    uint256 public constant RATE_FACTOR = 2;
    /// @notice Tokens per second if the terms say zero (SPEC 2.4).
    uint32 public constant DEFAULT_EXPECTED_RATE = 10;
    /// @notice Shortest duration and idle timeout, seconds: a few blocks on any chain.
    uint256 public constant MIN_DURATION = 60;
    /// @notice Longest duration and idle timeout, seconds: bounds how long a vanished host can hold a deposit.
    uint256 public constant MAX_DURATION = 365 days;
    /// @notice Largest deposit and minimum charge, smallest units.
    uint256 public constant MAX_AMOUNT = type(uint96).max;
    /// @notice Largest price per token, smallest units: 18 coins of 18 decimals.
    uint256 public constant MAX_PRICE = type(uint64).max;
    /// @notice Most tokens one job can bill; a deposit for more is refunded beyond it.
    uint256 public constant MAX_JOB_TOKENS = type(uint48).max;
    /// @notice Most claims in a batch: about 2.5 million gas.
    uint256 public constant MAX_BATCH = 100;
    /// @notice One hundred percent in basis points.
    uint256 public constant BPS = 10_000;

    bytes32 internal constant VOUCHER_TYPEHASH = keccak256("Voucher(uint256 jobId,uint256 tokens)");
    bytes16 internal constant HEAD_DOMAIN = "milepost:head:v1";

    struct Job {
        bytes32 head;
        Meter meter;
        address host;
        uint32 expectedRate;
        uint48 maxTokens;
        bytes32 modelDigest;
        address voucherSigner;
        uint48 voucherAllowance;
        address verifier;
        uint96 minimumCharge;
        address depositor;
        uint96 deposit;
        address token;
        uint64 pricePerToken;
        uint32 timeoutSeconds;
        bytes32 saltCommitment;
    }

    /// @inheritdoc IJobMarketplace
    uint256 public immutable feeBps;
    /// @inheritdoc IJobMarketplace
    uint256 public immutable claimWindow;
    /// @inheritdoc IJobMarketplace
    bytes32 public immutable imageId;
    /// @inheritdoc IJobMarketplace
    bool public immutable testDeployment;
    IHostEarnings internal immutable _EARNINGS;
    IHostRegistry internal immutable _REGISTRY;

    /// @inheritdoc IJobMarketplace
    uint256 public jobCount;
    mapping(uint256 jobId => Job) internal _jobs;

    constructor(
        IHostEarnings earnings,
        IHostRegistry registry,
        uint256 feeBps_,
        bytes32 imageId_,
        uint256 claimWindow_,
        bool testDeployment_
    ) EIP712("Milepost", "1") {
        require(!testDeployment_ || block.chainid == 31337, TestDeploymentRefused(block.chainid));
        require(address(earnings).code.length != 0 && address(registry).code.length != 0, BadConfiguration());
        // A fee above 30 % or a window outside a minute to a week is a slip of the hand.
        require(feeBps_ <= 3_000 && claimWindow_ >= 60 && claimWindow_ <= 7 days, BadConfiguration());
        _EARNINGS = earnings;
        _REGISTRY = registry;
        feeBps = feeBps_;
        imageId = imageId_;
        claimWindow = claimWindow_;
        testDeployment = testDeployment_;
    }

    /// @inheritdoc IJobMarketplace
    function hostEarnings() external view returns (address) {
        return address(_EARNINGS);
    }

    /// @inheritdoc IJobMarketplace
    function hostRegistry() external view returns (address) {
        return address(_REGISTRY);
    }

    /// @inheritdoc IJobMarketplace
    function getSession(uint256 jobId) external view returns (Session memory) {
        Job storage job = _jobs[jobId];
        Meter meter = job.meter;
        return Session({
            depositor: job.depositor,
            terms: SessionTerms({
                host: job.host,
                token: job.token,
                deposit: job.deposit,
                pricePerToken: job.pricePerToken,
                modelDigest: job.modelDigest,
                expectedRate: job.expectedRate,
                maxDuration: uint64(meter.maxDuration()),
                timeoutSeconds: job.timeoutSeconds,
                minimumCharge: job.minimumCharge,
                verifier: job.verifier,
                voucherSigner: job.voucherSigner,
                voucherAllowance: job.voucherAllowance,
                saltCommitment: job.saltCommitment
            }),
            status: meter.status(),
            closedToClaims: meter.closedToClaims(),
            startTime: uint64(meter.startTime()),
            lastProofTime: uint64(meter.lastProofTime()),
            claimUntil: uint64(meter.claimUntil()),
            tokensUsed: uint64(meter.tokensUsed()),
            maxTokens: job.maxTokens,
            voucherTokens: uint64(meter.voucherTokens()),
            head: job.head
        });
    }

    /// @inheritdoc IJobMarketplace
    function tokensAllowed(uint256 jobId) external view returns (uint256) {
        Job storage job = _existing(jobId);
        return _rateCap(job.expectedRate, job.meter.startTime());
    }

    /// @inheritdoc IJobMarketplace
    function closableFrom(uint256 jobId) external view returns (uint256) {
        Job storage job = _existing(jobId);
        return job.meter.status() == Status.Active ? _closableFrom(job) : 0;
    }

    /// @inheritdoc IJobMarketplace
    function voucherDigest(uint256 jobId, uint256 tokens) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, jobId, tokens)));
    }

    function _existing(uint256 jobId) internal view returns (Job storage job) {
        job = _jobs[jobId];
        require(job.meter.status() != Status.None, UnknownJob(jobId));
    }

    /// @dev Cumulative since the start, so that waiting is never forfeited.
    function _rateCap(uint256 expectedRate, uint256 startTime) internal view returns (uint256) {
        return RATE_FACTOR * expectedRate * (block.timestamp - startTime) + RATE_BURST;
    }

    function _closableFrom(Job storage job) internal view returns (uint256) {
        Meter meter = job.meter;
        uint256 ended = meter.startTime() + meter.maxDuration();
        uint256 idle = meter.lastProofTime() + job.timeoutSeconds;
        return ended < idle ? ended : idle;
    }

    function _isHostOrSubmitter(address host) internal view returns (bool) {
        return msg.sender == host || _REGISTRY.isSubmitter(host, msg.sender);
    }
}
