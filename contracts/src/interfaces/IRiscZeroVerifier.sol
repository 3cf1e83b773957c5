// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The verifier of RISC Zero seals, as its router and its Groth16 verifier expose it
interface IRiscZeroVerifier {
    /// @notice Reverts unless `seal` proves that the guest `imageId` halted with exit code 0 and a journal whose
    /// SHA-256 is `journalDigest`.
    /// @param seal 4-byte verifier selector followed by the encoded proof.
    /// @param imageId Image id of the guest.
    /// @param journalDigest SHA-256 of the journal bytes.
    function verify(bytes calldata seal, bytes32 imageId, bytes32 journalDigest) external view;
}
