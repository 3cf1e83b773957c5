// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A worthless token with USDC's 6 decimals, for development chains
contract TestUSDC is ERC20 {
    /// @notice This token can be deployed on chain id 31337 only.
    error DevelopmentChainOnly(uint256 chainId);

    constructor() ERC20("Test USD Coin", "USDC") {
        require(block.chainid == 31337, DevelopmentChainOnly(block.chainid));
    }

    /// @notice Gives `to` an `amount` (10^-6 units) out of nothing. By anyone.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
