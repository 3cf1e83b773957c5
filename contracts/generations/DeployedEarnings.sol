// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title What hosts earned on the test marketplaces, withdrawn by pull
/// @notice Guarantees: a host takes out what a marketplace put in for it. Does not: belong anywhere but on a test chain.
contract DeployedEarnings {
    using SafeERC20 for IERC20;

    /// @notice Only the deployer admits marketplaces.
    error NotDeployer();
    /// @notice Only an admitted marketplace credits.
    error NotMarketplace();
    /// @notice More than there is.
    error TooMuch();
    /// @notice The host refused the coins.
    error Refused();

    /// @notice What a host can withdraw of a token (zero address: the chain's coin).
    mapping(address host => mapping(address token => uint256)) public getBalance;
    mapping(address marketplace => bool) private _admitted;
    address private immutable _DEPLOYER = msg.sender;

    /// @notice Coins come before their credit.
    receive() external payable {}

    /// @notice Lets a marketplace credit.
    function admit(address marketplace) external {
        require(msg.sender == _DEPLOYER, NotDeployer());
        _admitted[marketplace] = true;
    }

    /// @notice Adds to a host's balance what was sent here before.
    function creditEarnings(address host, uint256 amount, address token) external {
        require(_admitted[msg.sender], NotMarketplace());
        getBalance[host][token] += amount;
    }

    /// @notice Sends a part of the caller's balance to the caller.
    function withdraw(uint256 amount, address token) public {
        require(amount <= getBalance[msg.sender][token], TooMuch());
        getBalance[msg.sender][token] -= amount;
        if (token != address(0)) return IERC20(token).safeTransfer(msg.sender, amount);
        (bool sent,) = msg.sender.call{value: amount}("");
        require(sent, Refused());
    }

    /// @notice Sends the caller's whole balance to the caller.
    function withdrawAll(address token) external {
        withdraw(getBalance[msg.sender][token], token);
    }
}
