// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IHostEarnings} from "./interfaces/IHostEarnings.sol";
import {IHostRegistry} from "./interfaces/IHostRegistry.sol";

/// @title Hosts' earnings, withdrawn by pull
/// @notice Guarantees: what this contract holds of a token is at least the sum of all balances in it; only a host's own
/// account moves its balance, and only to the payout address in the registry. A submitter key has no balance here.
/// Does not: know jobs. It has no owner; the deployer's only right is to name the marketplace, once.
contract HostEarnings is IHostEarnings, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice The registry that names payout addresses.
    IHostRegistry public immutable registry;
    address private immutable _DEPLOYER;

    /// @inheritdoc IHostEarnings
    address public marketplace;
    /// @inheritdoc IHostEarnings
    mapping(address token => uint256) public totalCredits;
    mapping(address host => mapping(address token => uint256)) private _balances;

    constructor(IHostRegistry registry_) {
        require(address(registry_).code.length != 0, NotAContract(address(registry_)));
        registry = registry_;
        _DEPLOYER = msg.sender;
    }

    /// @notice Names the marketplace, once and for good. By the deployer.
    /// @dev The two contracts need each other's address; before this, credits stay in the marketplace (nothing is lost).
    function bindMarketplace(address marketplace_) external {
        require(msg.sender == _DEPLOYER, NotDeployer(msg.sender));
        require(marketplace == address(0), AlreadyBound(marketplace));
        require(marketplace_.code.length != 0, NotAContract(marketplace_));
        marketplace = marketplace_;
        emit MarketplaceBound(marketplace_);
    }

    /// @inheritdoc IHostEarnings
    /// @dev Reverts as a whole when the money does not arrive exactly: the marketplace then keeps it as a credit.
    function credit(address host, address token, uint256 amount) external payable nonReentrant {
        require(msg.sender == marketplace, NotMarketplace(msg.sender));
        if (token == address(0)) {
            require(msg.value == amount, WrongValue(amount, msg.value));
        } else {
            require(msg.value == 0, WrongValue(0, msg.value));
            uint256 before = IERC20(token).balanceOf(address(this));
            IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
            uint256 received = IERC20(token).balanceOf(address(this)) - before;
            require(received == amount, WrongAmountReceived(amount, received));
        }
        totalCredits[token] += amount;
        _balances[host][token] += amount;
        emit EarningsCredited(host, token, amount);
    }

    /// @inheritdoc IHostEarnings
    function withdraw(uint256 amount, address token) external nonReentrant {
        _withdraw(amount, token);
    }

    /// @inheritdoc IHostEarnings
    function withdrawAll(address token) external nonReentrant {
        _withdraw(_balances[msg.sender][token], token);
    }

    /// @inheritdoc IHostEarnings
    function getBalance(address host, address token) external view returns (uint256) {
        return _balances[host][token];
    }

    function _withdraw(uint256 amount, address token) private {
        uint256 available = _balances[msg.sender][token];
        require(amount != 0, NothingToWithdraw());
        require(amount <= available, InsufficientBalance(available, amount));
        address to = registry.payoutOf(msg.sender);
        // Only a registered host can have earned; the fallback keeps money reachable should that ever be untrue.
        if (to == address(0)) to = msg.sender;
        _balances[msg.sender][token] = available - amount;
        totalCredits[token] -= amount;
        emit EarningsWithdrawn(msg.sender, token, to, amount);
        if (token == address(0)) {
            (bool sent,) = to.call{value: amount}("");
            require(sent, PayoutRefused(to));
        } else {
            IERC20(token).safeTransfer(to, amount);
        }
    }
}
