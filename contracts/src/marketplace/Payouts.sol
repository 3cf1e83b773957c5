// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IJobMarketplace} from "../interfaces/IJobMarketplace.sol";
import {MarketplaceBase} from "./MarketplaceBase.sol";

/// @title Money out: refunds, hosts' shares, credits, treasury
/// @notice The owner can withdraw fees and choose which tokens new sessions may be paid in. No path of the owner's
/// touches a deposit or a credit.
abstract contract Payouts is MarketplaceBase, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice Gas that a depositor's contract gets to accept a native refund: enough for any wallet, too little to
    /// make finalizing dear.
    /// @dev No guard is needed against a caller who gives less, here and below: after a call that failed for want of
    /// gas, the 1/64 kept back must pay for the credit's storage write, which it can only if the call was to use more
    /// than about 300,000 gas. So no gas estimate exists that turns a payment into a credit.
    uint256 public constant PUSH_GAS = 50_000;
    /// @notice Gas that a token gets to move a refund. Tokens are allow-listed, but some are upgradeable.
    uint256 public constant TOKEN_GAS = 250_000;
    /// @notice Gas that HostEarnings gets to take a host's share: the token's, and its own.
    uint256 public constant CREDIT_GAS = 400_000;

    /// @inheritdoc IJobMarketplace
    mapping(address account => mapping(address token => uint256)) public credits;
    /// @inheritdoc IJobMarketplace
    mapping(address token => uint256) public treasuryBalance;
    /// @inheritdoc IJobMarketplace
    mapping(address token => bool) public isTokenAllowed;

    constructor(address owner_) Ownable(owner_) {
        isTokenAllowed[address(0)] = true;
        emit TokenAllowed(address(0), true);
    }

    /// @inheritdoc IJobMarketplace
    function withdrawCredit(address token) external nonReentrant {
        _withdrawCredit(token, msg.sender);
    }

    /// @inheritdoc IJobMarketplace
    function withdrawCreditTo(address token, address to) external nonReentrant {
        require(to != address(0), ZeroAddress());
        _withdrawCredit(token, to);
    }

    /// @inheritdoc IJobMarketplace
    function withdrawTreasury(address token, address to) external onlyOwner nonReentrant {
        require(to != address(0), ZeroAddress());
        uint256 amount = treasuryBalance[token];
        require(amount != 0, NothingToWithdraw());
        treasuryBalance[token] = 0;
        emit TreasuryWithdrawn(token, to, amount);
        _send(token, to, amount);
    }

    /// @inheritdoc IJobMarketplace
    function allowToken(address token) external onlyOwner {
        // HostEarnings pulls hosts' shares, and pulls from nobody but its caller.
        if (token != address(0)) IERC20(token).forceApprove(address(_EARNINGS), type(uint256).max);
        isTokenAllowed[token] = true;
        emit TokenAllowed(token, true);
    }

    /// @inheritdoc IJobMarketplace
    function disallowToken(address token) external onlyOwner {
        // The approval stays: open sessions in this token are still to be paid.
        isTokenAllowed[token] = false;
        emit TokenAllowed(token, false);
    }

    /// @dev Never reverts for the recipient's or the token's sake: what cannot be sent becomes a credit.
    function _push(address token, address to, uint256 amount) internal {
        if (amount == 0) return;
        bool sent = token == address(0) ? _tryNative(to, amount) : _tryToken(token, to, amount);
        if (!sent) _addCredit(to, token, amount);
    }

    /// @dev Credits a host in HostEarnings; if the token does not move, here.
    function _payHost(address token, address host, uint256 amount) internal {
        if (amount == 0) return;
        try _EARNINGS.credit{gas: CREDIT_GAS, value: token == address(0) ? amount : 0}(host, token, amount) {}
        catch {
            _addCredit(host, token, amount);
        }
    }

    /// @dev Copies no return data: the recipient cannot make us pay for it.
    function _tryNative(address to, uint256 amount) private returns (bool sent) {
        assembly ("memory-safe") {
            sent := call(PUSH_GAS, to, amount, 0, 0, 0, 0)
        }
    }

    /// @dev As SafeERC20 reads the answer (true, or nothing from an account with code), but with bounded gas.
    function _tryToken(address token, address to, uint256 amount) private returns (bool sent) {
        bytes memory data = abi.encodeCall(IERC20.transfer, (to, amount));
        assembly ("memory-safe") {
            sent := call(TOKEN_GAS, token, 0, add(data, 32), mload(data), 0, 32)
            switch returndatasize()
            case 0 { sent := and(sent, gt(extcodesize(token), 0)) }
            default { sent := and(sent, and(gt(returndatasize(), 31), eq(mload(0), 1))) }
        }
    }

    function _addCredit(address account, address token, uint256 amount) private {
        credits[account][token] += amount;
        emit CreditAdded(account, token, amount);
    }

    function _withdrawCredit(address token, address to) private {
        uint256 amount = credits[msg.sender][token];
        require(amount != 0, NothingToWithdraw());
        credits[msg.sender][token] = 0;
        emit CreditWithdrawn(msg.sender, token, to, amount);
        _send(token, to, amount);
    }

    function _send(address token, address to, uint256 amount) private {
        if (token == address(0)) {
            (bool sent,) = to.call{value: amount}("");
            require(sent, PaymentRefused(to));
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }
}
