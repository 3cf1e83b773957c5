// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Where a host's share waits to be withdrawn
/// @notice Amounts are in the token's smallest unit; the token `address(0)` is the chain's native coin (wei).
/// @dev Names and selectors of `getBalance`, `withdraw` (0x00f714ce) and `withdrawAll` (0xfa09e630) are the
/// original's.
interface IHostEarnings {
    /// @notice A host's share of a finished job arrived.
    event EarningsCredited(address indexed host, address indexed token, uint256 amount);
    /// @notice A host withdrew to its payout address.
    event EarningsWithdrawn(address indexed host, address indexed token, address indexed to, uint256 amount);
    /// @notice The marketplace that may credit was set, once and for good.
    event MarketplaceBound(address indexed marketplace);

    /// @notice Only the bound marketplace may credit.
    error NotMarketplace(address caller);
    /// @notice Only the account that deployed this contract may bind the marketplace.
    error NotDeployer(address caller);
    /// @notice The marketplace is bound already.
    error AlreadyBound(address marketplace);
    /// @notice The marketplace must be a contract.
    error NotAContract(address account);
    /// @notice A native credit must carry its amount, a token credit must carry nothing.
    error WrongValue(uint256 expected, uint256 received);
    /// @notice The token delivered something else than it was asked to.
    error WrongAmountReceived(uint256 expected, uint256 received);
    /// @notice The host has less than it asks for.
    error InsufficientBalance(uint256 available, uint256 asked);
    /// @notice Nothing to withdraw.
    error NothingToWithdraw();
    /// @notice The payout address refused the native coin.
    error PayoutRefused(address to);

    /// @notice Adds `amount` of `token` to `host`; takes the amount from the caller (as value, or by allowance).
    function credit(address host, address token, uint256 amount) external payable;

    /// @notice What `host` can withdraw of `token`.
    function getBalance(address host, address token) external view returns (uint256);

    /// @notice Sends `amount` of the caller's `token` to the caller's payout address.
    function withdraw(uint256 amount, address token) external;

    /// @notice Sends all of the caller's `token` to the caller's payout address.
    function withdrawAll(address token) external;

    /// @notice The sum of all hosts' balances of `token`.
    function totalCredits(address token) external view returns (uint256);

    /// @notice The marketplace that may credit; zero before it is bound.
    function marketplace() external view returns (address);
}
