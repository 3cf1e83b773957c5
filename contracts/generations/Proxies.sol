// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {BeaconProxy} from "@openzeppelin/contracts/proxy/beacon/BeaconProxy.sol";
import {UpgradeableBeacon} from "@openzeppelin/contracts/proxy/beacon/UpgradeableBeacon.sol";

/// @notice EIP-1967 around a marketplace that needs no initializer.
contract StorageProxy is ERC1967Proxy {
    constructor(address implementation) ERC1967Proxy(implementation, "") {}

    function _unsafeAllowUninitialized() internal pure override returns (bool) {
        return true;
    }
}

/// @notice EIP-1967 by way of a beacon that it deploys for itself.
contract BeaconedProxy is BeaconProxy {
    constructor(address implementation) BeaconProxy(address(new UpgradeableBeacon(implementation, msg.sender)), "") {}
}

/// @notice Makes EIP-1167 clones.
contract Cloner {
    event Cloned(address clone);

    /// @notice A clone of `implementation`, which may be a proxy itself.
    function clone(address implementation) external returns (address made) {
        made = Clones.clone(implementation);
        emit Cloned(made);
    }
}
