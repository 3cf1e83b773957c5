// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bls12381} from "../src/finality/Bls12381.sol";

/// @dev On an EVM without EIP-2537, as the one of these tests is, nothing answers where the precompiles should be.
contract WithoutPrecompilesTest {
    function test_a_chain_without_the_precompiles_says_so_and_gives_no_verdict() public view {
        Bls12381.G1 memory signature;
        Bls12381.G2 memory key;
        (signature.xLow, key.xLow0) = (1, 1);
        try this.verify(key, signature) returns (bool) {
            revert("there is a verdict");
        } catch (bytes memory reason) {
            require(keccak256(reason) == keccak256(abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, 0x10)), "another reason");
        }
    }

    function verify(Bls12381.G2 calldata key, Bls12381.G1 calldata signature) external view returns (bool) {
        return Bls12381.verify("message", "tag", key, signature);
    }
}
