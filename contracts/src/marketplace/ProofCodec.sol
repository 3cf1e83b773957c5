// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Strict reader of `abi.encode(uint8 kind, bytes journal, bytes seal, bytes voucher)`
/// @dev Accepts the canonical layout only: one meaning has one encoding. Nothing here reverts, so that one bad claim
/// cannot stop a batch. The readers trust that `isWellFormed` was asked first.
///
///     0x000 kind            0x020 0x80            0x040 0x1e0           0x060 voucher offset
///     0x080 0x140           0x0a0 journal (320)   0x1e0 seal length     0x200 seal, padded
///     voucher offset: voucher length, voucher, padded
library ProofCodec {
    /// @notice Bytes of a journal: ten words.
    uint256 internal constant JOURNAL_BYTES = 320;
    uint256 private constant JOURNAL_OFFSET = 0x80;
    uint256 private constant SEAL_OFFSET = JOURNAL_OFFSET + 32 + JOURNAL_BYTES;
    uint256 private constant MIN_BYTES = SEAL_OFFSET + 64;

    /// @notice Whether the bytes are the canonical encoding of a proof with a journal of 320 bytes.
    function isWellFormed(bytes calldata proof) internal pure returns (bool) {
        uint256 length = proof.length;
        if (length < MIN_BYTES) return false;
        if (_at(proof, 0x20) != JOURNAL_OFFSET || _at(proof, JOURNAL_OFFSET) != JOURNAL_BYTES) return false;
        if (_at(proof, 0x40) != SEAL_OFFSET) return false;
        uint256 sealLength = _at(proof, SEAL_OFFSET);
        // Lengths beyond the proof's own could overflow the sums below; the rest cannot.
        if (sealLength > length) return false;
        unchecked {
            uint256 voucherOffset = SEAL_OFFSET + 32 + _padded(sealLength);
            if (_at(proof, 0x60) != voucherOffset || length < voucherOffset + 32) return false;
            uint256 voucherLength = _at(proof, voucherOffset);
            return voucherLength <= length && length == voucherOffset + 32 + _padded(voucherLength);
        }
    }

    /// @notice The length that an encoding without another fault gives for its journal, to name the fault.
    function journalLength(bytes calldata proof) internal pure returns (uint256) {
        if (proof.length < JOURNAL_OFFSET + 32 || _at(proof, 0x20) != JOURNAL_OFFSET) return JOURNAL_BYTES;
        return _at(proof, JOURNAL_OFFSET);
    }

    /// @notice The proof's kind.
    function kind(bytes calldata proof) internal pure returns (uint256) {
        return _at(proof, 0);
    }

    /// @notice The journal's word at byte `offset`.
    function word(bytes calldata proof, uint256 offset) internal pure returns (uint256) {
        unchecked {
            return _at(proof, JOURNAL_OFFSET + 32 + offset);
        }
    }

    /// @notice The journal.
    function journal(bytes calldata proof) internal pure returns (bytes calldata) {
        return _bytesAt(proof, JOURNAL_OFFSET);
    }

    /// @notice Whether the proof carries a seal.
    function hasSeal(bytes calldata proof) internal pure returns (bool) {
        return _at(proof, SEAL_OFFSET) != 0;
    }

    /// @notice The seal.
    function seal(bytes calldata proof) internal pure returns (bytes calldata) {
        return _bytesAt(proof, SEAL_OFFSET);
    }

    /// @notice The voucher.
    function voucher(bytes calldata proof) internal pure returns (bytes calldata) {
        return _bytesAt(proof, _at(proof, 0x60));
    }

    /// @notice Splits `abi.encode(uint256 tokens, bytes signature)`.
    function splitVoucher(bytes calldata data)
        internal
        pure
        returns (bool ok, uint256 tokens, bytes calldata signature)
    {
        signature = data;
        if (data.length < 96 || _at(data, 32) != 64) return (false, 0, signature);
        uint256 length = _at(data, 64);
        if (length > data.length || data.length != 96 + _padded(length)) return (false, 0, signature);
        return (true, _at(data, 0), _bytesAt(data, 64));
    }

    function _padded(uint256 length) private pure returns (uint256) {
        unchecked {
            return (length + 31) & ~uint256(31);
        }
    }

    function _at(bytes calldata data, uint256 offset) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(data.offset, offset))
        }
    }

    function _bytesAt(bytes calldata data, uint256 offset) private pure returns (bytes calldata part) {
        assembly ("memory-safe") {
            part.offset := add(add(data.offset, offset), 32)
            part.length := calldataload(add(data.offset, offset))
        }
    }
}
