// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IHostEarnings} from "./interfaces/IHostEarnings.sol";
import {IHostRegistry} from "./interfaces/IHostRegistry.sol";
import {IJobMarketplace, SessionTerms, Status} from "./interfaces/IJobMarketplace.sol";
import {Claims} from "./marketplace/Claims.sol";
import {MarketplaceBase} from "./marketplace/MarketplaceBase.sol";
import {Meter, newMeter} from "./marketplace/Meter.sol";
import {Payouts} from "./marketplace/Payouts.sol";

/// @title JobMarketplace
/// @notice A depositor funds a session with a host; the host claims tokens against hash-chained proofs; in the end the
/// deposit is split.
///
///     createSession ─▶ Active ── requestClose ─▶ Closing ── claimUntil passes ─▶ finalize by anyone ─▶ Completed
///                        └───────────── finalize by the host, at any time ─────────────────────────────────▲
///
/// Guarantees: no token is paid twice; charge ≤ deposit; the split is exact to the unit; nobody's silence holds money
/// longer than `min(maxDuration, idle timeout) + claimWindow`; a recipient that refuses money holds up nobody.
/// Does not: check that the model produced the tokens, or that the client received them (vouchers say that); without a
/// verifier in the terms it does not check the proof itself, which the depositor can have checked off-chain.
contract JobMarketplace is Claims, Payouts {
    using SafeERC20 for IERC20;

    /// @param earnings Where hosts are paid; must be bound to this contract after deployment.
    /// @param registry Who the hosts are.
    /// @param owner_ Withdraws the treasury and allows tokens.
    /// @param feeBps_ The treasury's part of each charge, basis points, at most 3,000; SPEC's is 1,000.
    /// @param imageId_ Image id of the guest.
    /// @param claimWindow_ Length of the closing window in seconds, 60 to 604,800; SPEC's is 3,600.
    /// @param testDeployment_ Accept mock proofs; on chain id 31337 only.
    constructor(
        IHostEarnings earnings,
        IHostRegistry registry,
        address owner_,
        uint256 feeBps_,
        bytes32 imageId_,
        uint256 claimWindow_,
        bool testDeployment_
    ) MarketplaceBase(earnings, registry, feeBps_, imageId_, claimWindow_, testDeployment_) Payouts(owner_) {}

    /// @inheritdoc IJobMarketplace
    function createSession(SessionTerms calldata terms) external payable nonReentrant returns (uint256 jobId) {
        _checkTerms(terms);
        _takeDeposit(terms.token, terms.deposit);

        jobId = ++jobCount;
        bytes32 head = sha256(
            abi.encodePacked(
                HEAD_DOMAIN,
                block.chainid,
                address(this),
                jobId,
                terms.host,
                terms.modelDigest,
                terms.saltCommitment
            )
        );
        SessionTerms memory agreed = terms;
        if (agreed.expectedRate == 0) agreed.expectedRate = DEFAULT_EXPECTED_RATE;
        uint256 maxTokens = agreed.deposit / agreed.pricePerToken;
        if (maxTokens > MAX_JOB_TOKENS) maxTokens = MAX_JOB_TOKENS;

        Job storage job = _jobs[jobId];
        job.head = head;
        job.meter = newMeter(agreed.maxDuration, agreed.verifier != address(0), agreed.voucherSigner != address(0));
        // The narrowing casts are covered by `_checkTerms`.
        job.host = agreed.host;
        job.expectedRate = agreed.expectedRate;
        job.maxTokens = uint48(maxTokens);
        job.modelDigest = agreed.modelDigest;
        if (agreed.voucherSigner != address(0)) {
            job.voucherSigner = agreed.voucherSigner;
            job.voucherAllowance = uint48(agreed.voucherAllowance);
        }
        if (agreed.verifier != address(0)) job.verifier = agreed.verifier;
        if (agreed.minimumCharge != 0) job.minimumCharge = uint96(agreed.minimumCharge);
        job.depositor = msg.sender;
        job.deposit = uint96(agreed.deposit);
        job.token = agreed.token;
        job.pricePerToken = uint64(agreed.pricePerToken);
        job.timeoutSeconds = uint32(agreed.timeoutSeconds);
        if (agreed.saltCommitment != 0) job.saltCommitment = agreed.saltCommitment;
        emit SessionCreated(jobId, msg.sender, agreed.host, agreed, head);
    }

    /// @inheritdoc IJobMarketplace
    function requestClose(uint256 jobId) external {
        _requestClose(jobId, _existing(jobId));
    }

    /// @inheritdoc IJobMarketplace
    function finalize(uint256 jobId) external nonReentrant {
        _finalize(jobId, _existing(jobId));
    }

    /// @inheritdoc IJobMarketplace
    function completeSessionJob(uint256 jobId, string calldata conversationCID) external nonReentrant {
        Job storage job = _existing(jobId);
        bool isDepositor = msg.sender == job.depositor;
        bool isHost = _isHostOrSubmitter(job.host);
        require(isDepositor || isHost, NotParty(msg.sender));
        emit ConversationRecorded(jobId, msg.sender, conversationCID);
        if (!isHost && job.meter.status() == Status.Active) _requestClose(jobId, job);
        else _finalize(jobId, job);
    }

    function _requestClose(uint256 jobId, Job storage job) private {
        Meter meter = job.meter;
        require(meter.status() == Status.Active, WrongStatus(meter.status()));
        if (msg.sender != job.depositor && !_isHostOrSubmitter(job.host)) {
            uint256 from = _closableFrom(job);
            require(block.timestamp >= from, CloseTooEarly(from));
        }
        uint256 claimUntil = block.timestamp + claimWindow;
        job.meter = meter.withClosing(claimUntil);
        emit CloseRequested(jobId, msg.sender, claimUntil);
    }

    /// @dev Effects before interactions: the job is Completed before anything leaves.
    function _finalize(uint256 jobId, Job storage job) private {
        Meter meter = job.meter;
        Status status = meter.status();
        require(status == Status.Active || status == Status.Closing, WrongStatus(status));
        address host = job.host;
        if (!_isHostOrSubmitter(host)) {
            require(status == Status.Closing, WrongStatus(status));
            uint256 claimUntil = meter.claimUntil();
            require(block.timestamp > claimUntil, FinalizeTooEarly(claimUntil));
        }
        job.meter = meter.withCompleted();

        address token = job.token;
        uint256 deposit = job.deposit;
        uint256 tokens = meter.tokensUsed();
        uint256 charge = 0;
        if (tokens != 0) {
            charge = tokens * job.pricePerToken;
            uint256 least = job.minimumCharge;
            if (least > deposit) least = deposit;
            if (charge < least) charge = least;
        }
        uint256 fee = charge * feeBps / BPS;
        uint256 refund = deposit - charge;
        if (fee != 0) treasuryBalance[token] += fee;
        address depositor = job.depositor;
        emit SessionCompleted(jobId, host, depositor, tokens, charge - fee, fee, refund);
        _payHost(token, host, charge - fee);
        _push(token, depositor, refund);
    }

    function _checkTerms(SessionTerms calldata terms) private view {
        require(_REGISTRY.isActive(terms.host), HostNotActive(terms.host));
        require(isTokenAllowed[terms.token], TokenNotAllowed(terms.token));
        require(terms.pricePerToken != 0, ZeroPrice());
        require(terms.modelDigest != 0, ZeroModelDigest());
        require(terms.deposit <= MAX_AMOUNT, AmountTooLarge(MAX_AMOUNT, terms.deposit));
        require(terms.pricePerToken <= MAX_PRICE, AmountTooLarge(MAX_PRICE, terms.pricePerToken));
        require(terms.minimumCharge <= MAX_AMOUNT, AmountTooLarge(MAX_AMOUNT, terms.minimumCharge));
        uint256 least = terms.pricePerToken * MIN_PROVEN_TOKENS;
        require(terms.deposit >= least, DepositTooSmall(least, terms.deposit));
        _checkDuration(terms.maxDuration);
        _checkDuration(terms.timeoutSeconds);
        require(
            terms.verifier == address(0) || terms.verifier.code.length != 0, VerifierNotAContract(terms.verifier)
        );
        require(terms.voucherSigner != address(0) || terms.voucherAllowance == 0, AllowanceWithoutSigner());
        require(
            terms.voucherAllowance <= MAX_JOB_TOKENS, AmountTooLarge(MAX_JOB_TOKENS, terms.voucherAllowance)
        );
    }

    function _checkDuration(uint256 duration) private pure {
        require(
            duration >= MIN_DURATION && duration <= MAX_DURATION,
            DurationOutOfBounds(MIN_DURATION, MAX_DURATION, duration)
        );
    }

    /// @dev A token that takes a cut, now or one day, is refused here: books are kept in what arrived.
    function _takeDeposit(address token, uint256 deposit) private {
        if (token == address(0)) {
            require(msg.value == deposit, WrongValue(deposit, msg.value));
            return;
        }
        require(msg.value == 0, WrongValue(0, msg.value));
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), deposit);
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        require(received == deposit, WrongDepositReceived(deposit, received));
    }
}
