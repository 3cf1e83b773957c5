// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {DeployedEarnings} from "./DeployedEarnings.sol";

/// @title What every generation of the deployed marketplace has in common, for tests
/// @notice The rules that a claimant meets: only the host claims, at least 100 tokens at a time, at most twice what was
/// expected since its last proof, within the deposit, each proof once; whoever is not the depositor completes only a
/// while after the session's start; anyone ends a session that ran too long or saw no proof for too long, and what was
/// not claimed by then is lost. There is no closing window.
/// Does not: hold real money. Holes of the originals that cost a claimant nothing (deposits counted twice, unchecked
/// transfers) are not rebuilt.
abstract contract DeployedMarketplace {
    using SafeERC20 for IERC20;

    struct Session {
        address depositor;
        address host;
        address token;
        uint256 deposit;
        uint256 price;
        uint256 used;
        uint256 maxDuration;
        uint256 startTime;
        uint256 lastProofTime;
        uint256 proofInterval;
        uint256 proofTimeout;
        uint8 status;
        uint256 toHost;
        uint256 toDepositor;
        string conversation;
        bytes32 lastProofHash;
        string lastProofCid;
    }

    uint8 internal constant ACTIVE = 0;
    uint8 internal constant COMPLETED = 1;
    uint8 internal constant TIMED_OUT = 2;

    uint256 internal immutable _FEE;
    uint256 internal immutable _WINDOW;
    DeployedEarnings internal immutable _EARNINGS;

    mapping(uint256 jobId => Session) internal _sessions;
    mapping(bytes32 proof => bool) private _proven;
    uint256 private _count;

    event SessionJobCreated(uint256 indexed jobId, address indexed requester, address indexed host, uint256 deposit);
    event SessionCompleted(uint256 indexed jobId, uint256 totalTokensUsed, uint256 hostEarnings, uint256 userRefund);
    event SessionTimedOut(uint256 indexed jobId, uint256 hostEarnings, uint256 userRefund);

    constructor(DeployedEarnings earnings, uint256 feeBasisPoints_, uint256 disputeWindow_) {
        require(feeBasisPoints_ <= 10_000, "Fee above the whole");
        (_EARNINGS, _FEE, _WINDOW) = (earnings, feeBasisPoints_, disputeWindow_);
    }

    // ---- what differs

    /// @dev Expected tokens per second since the last proof.
    function _expectedRate() internal pure virtual returns (uint256);

    /// @dev By what a price is divided.
    function _precision() internal pure virtual returns (uint256);

    /// @dev Whether somebody who is not the depositor may complete at all.
    function _mayComplete(Session storage session) internal view virtual returns (bool);

    /// @dev Seconds without a proof after which a session can be timed out.
    function _idleSeconds(Session storage session) internal view virtual returns (uint256) {
        return session.proofInterval * 3;
    }

    /// @dev A second event of completion, in the generations that have one.
    function _announce(uint256 jobId, uint256 charge) internal virtual;

    // ---- what does not

    function MIN_PROVEN_TOKENS() public pure returns (uint256) {
        return 100;
    }

    function hostEarnings() external view returns (address) {
        return address(_EARNINGS);
    }

    function triggerSessionTimeout(uint256 jobId) external {
        Session storage session = _active(jobId);
        bool late = block.timestamp > session.startTime + session.maxDuration;
        bool idle = block.timestamp > session.lastProofTime + _idleSeconds(session);
        require(late || idle, "Session not timed out");
        session.status = TIMED_OUT;
        _settle(jobId);
        emit SessionTimedOut(jobId, session.toHost, session.toDepositor);
    }

    function _open(address host, address token, uint256 deposit, uint256 price, uint256 duration, uint256 interval, uint256 timeout)
        internal
        returns (uint256 jobId)
    {
        require(price > 0 && deposit >= price, "Invalid price");
        require(duration > 0 && duration <= 365 days, "Invalid duration");
        require(interval >= MIN_PROVEN_TOKENS(), "Proof interval too small");
        require(host != address(0), "Invalid host");
        if (token != address(0)) IERC20(token).safeTransferFrom(msg.sender, address(this), deposit);
        jobId = ++_count;
        Session storage session = _sessions[jobId];
        (session.depositor, session.host, session.token) = (msg.sender, host, token);
        (session.deposit, session.price) = (deposit, price);
        (session.maxDuration, session.proofInterval, session.proofTimeout) = (duration, interval, timeout);
        (session.startTime, session.lastProofTime) = (block.timestamp, block.timestamp);
        emit SessionJobCreated(jobId, msg.sender, host, deposit);
    }

    /// @dev The checks of a claim, in the order in which the deployed ones make them: the rate before the deposit, both
    /// before the proof itself.
    function _claim(uint256 jobId, uint256 tokens) internal returns (Session storage session) {
        session = _active(jobId);
        require(msg.sender == session.host, "Only host can submit proof");
        require(tokens >= MIN_PROVEN_TOKENS(), "Must claim minimum tokens");
        uint256 expected = (block.timestamp - session.lastProofTime) * _expectedRate();
        require(tokens <= expected * 2, "Excessive tokens claimed");
        require(session.used + tokens <= session.deposit * _precision() / session.price, "Exceeds deposit");
        session.used += tokens;
        session.lastProofTime = block.timestamp;
    }

    function _useOnce(bytes32 proof) internal {
        require(!_proven[proof], "Proof already submitted");
        _proven[proof] = true;
    }

    function _complete(uint256 jobId, string memory conversation) internal {
        Session storage session = _active(jobId);
        if (msg.sender != session.depositor) {
            require(_mayComplete(session), "Only depositor or host can complete");
            require(block.timestamp >= session.startTime + _WINDOW, "Must wait dispute window");
        }
        session.status = COMPLETED;
        session.conversation = conversation;
        uint256 charge = _settle(jobId);
        emit SessionCompleted(jobId, session.used, session.toHost, session.toDepositor);
        _announce(jobId, charge);
    }

    function _active(uint256 jobId) internal view returns (Session storage session) {
        session = _sessions[jobId];
        require(session.host != address(0) && session.status == ACTIVE, "Session not active");
    }

    function _settle(uint256 jobId) private returns (uint256 charge) {
        Session storage session = _sessions[jobId];
        charge = session.used * session.price / _precision();
        session.toHost = charge - charge * _FEE / 10_000;
        session.toDepositor = session.deposit - charge;
        if (session.toHost > 0) {
            _pay(session.token, address(_EARNINGS), session.toHost);
            _EARNINGS.creditEarnings(session.host, session.toHost, session.token);
        }
        if (session.toDepositor > 0) _pay(session.token, session.depositor, session.toDepositor);
    }

    function _pay(address token, address to, uint256 amount) private {
        if (token != address(0)) return IERC20(token).safeTransfer(to, amount);
        (bool sent,) = to.call{value: amount}("");
        require(sent, "Transfer failed");
    }

    /// @dev Answers with `words` as they are: a public getter's many values, without as many variables on the stack.
    function _answer(bytes memory words) internal pure {
        assembly ("memory-safe") {
            return(add(words, 32), mload(words))
        }
    }
}

/// @notice How a session was funded until 2026.
abstract contract FundedByInterval is DeployedMarketplace {
    function createSessionJob(address host, uint256 pricePerToken, uint256 maxDuration, uint256 proofInterval)
        external
        payable
        returns (uint256)
    {
        return _open(host, address(0), msg.value, pricePerToken, maxDuration, proofInterval, 0);
    }

    function createSessionJobWithToken(
        address host,
        address token,
        uint256 deposit,
        uint256 pricePerToken,
        uint256 maxDuration,
        uint256 proofInterval
    ) external returns (uint256) {
        require(token != address(0), "Invalid token");
        return _open(host, token, deposit, pricePerToken, maxDuration, proofInterval, 0);
    }
}

/// @notice Getters in capitals, constants and immutables of the generations of 2025: anyone completes.
abstract contract CapitalGetters is DeployedMarketplace {
    function FEE_BASIS_POINTS() external view returns (uint256) {
        return _FEE;
    }

    function DISPUTE_WINDOW() external view returns (uint256) {
        return _WINDOW;
    }

    function _precision() internal pure virtual override returns (uint256) {
        return 1;
    }

    function _mayComplete(Session storage) internal pure override returns (bool) {
        return true;
    }
}

/// @notice Getters of the upgradeable generations of 2026: only depositor and host complete, prices in thousandths.
abstract contract UpgradeableGetters is DeployedMarketplace {
    event SessionCompletedBy(
        uint256 indexed jobId, address indexed completedBy, uint256 tokensUsed, uint256 paymentAmount, uint256 refundAmount
    );

    function feeBasisPoints() external view returns (uint256) {
        return _FEE;
    }

    function disputeWindow() external view returns (uint256) {
        return _WINDOW;
    }

    function PRICE_PRECISION() external pure returns (uint256) {
        return 1_000;
    }

    function completeSessionJob(uint256 jobId, string calldata conversationCID) external {
        _complete(jobId, conversationCID);
    }

    function _precision() internal pure override returns (uint256) {
        return 1_000;
    }

    function _mayComplete(Session storage session) internal view override returns (bool) {
        return msg.sender == session.host;
    }

    function _announce(uint256 jobId, uint256 charge) internal override {
        Session storage session = _sessions[jobId];
        emit SessionCompletedBy(jobId, msg.sender, session.used, charge, session.toDepositor);
    }
}
