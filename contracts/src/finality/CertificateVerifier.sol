// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CheckpointCertificates} from "./CheckpointCertificates.sol";

/// @title Verifies certificates of finality checkpoints for other contracts and for calls from outside
/// @notice Keeps nothing: who asks says whom they trust. Contracts that verify often should keep their {CheckpointCertificates.Trust} and use
/// the library.
contract CertificateVerifier {
    /// @notice Verifies a certificate; reverts by name if it does not hold. See {CheckpointCertificates.verify}.
    function verify(
        CheckpointCertificates.Trust calldata trust,
        bytes calldata certificate,
        bytes calldata signature,
        bytes[] calldata sets
    ) external view returns (CheckpointCertificates.Vote memory) {
        return CheckpointCertificates.verify(trust, certificate, signature, sets);
    }

    /// @notice Verifies a certificate and answers the checkpoint that is final by it.
    function finalized(
        CheckpointCertificates.Trust calldata trust,
        CheckpointCertificates.Rule rule,
        bytes calldata certificate,
        bytes calldata signature,
        bytes[] calldata sets
    ) external view returns (CheckpointCertificates.Checkpoint memory) {
        return CheckpointCertificates.finalized(CheckpointCertificates.verify(trust, certificate, signature, sets), rule);
    }

    /// @notice Digest of chain and trusted checkpoint.
    function domain(CheckpointCertificates.Trust calldata trust) external pure returns (bytes32) {
        return CheckpointCertificates.domain(trust);
    }

    /// @notice Digest of a set, from its members' ids and uncompressed keys.
    function setDigest(uint64 id, bytes calldata set) external pure returns (bytes32) {
        return CheckpointCertificates.setDigest(id, set);
    }
}
