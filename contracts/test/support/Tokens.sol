// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev Takes one unit of every transfer.
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (from != address(0) && to != address(0)) {
            super._update(from, address(0xfee), 1);
            --amount;
        }
        super._update(from, to, amount);
    }
}

/// @dev A token that can be told to misbehave, in general or for one recipient.
contract MoodyToken is ERC20("Moody", "MOOD") {
    enum Mood {
        Good,
        Reverts,
        ReturnsFalse,
        BurnsGas,
        TakesACut
    }

    Mood public mood;
    address public only;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @dev `only_` is the recipient that feels the mood; zero: everybody.
    function become(Mood mood_, address only_) external {
        mood = mood_;
        only = only_;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return _misbehaves(to) ? false : super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return _misbehaves(to) ? false : super.transferFrom(from, to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (mood == Mood.TakesACut && from != address(0) && (only == address(0) || to == only)) {
            super._update(from, address(0xfee), 1);
            --amount;
        }
        super._update(from, to, amount);
    }

    function _misbehaves(address to) private view returns (bool) {
        if (only != address(0) && to != only) return false;
        require(mood != Mood.Reverts, "moody");
        if (mood == Mood.BurnsGas) {
            assembly {
                invalid()
            }
        }
        return mood == Mood.ReturnsFalse;
    }
}

/// @dev As some old tokens do: no return values at all.
contract SilentToken {
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}
