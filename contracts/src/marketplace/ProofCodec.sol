// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Strict reader of `abi.encode(uint8 kind, bytes journal, bytes seal, bytes voucher)`
/// @dev Returns `ok = false` instead of reverting, so that one bad claim cannot stop a batch. Accepts the canonical
/// layout only: one meaning has one encoding.
///
///     0x000 kind            0x020 0x80            0x040 0x1e0           0x060 0x200 + pad(seal)
///     0x080 0x140           0x0a0 journal (320)   0x1e0 seal length     0x200 seal, padded
///     then                  voucher length        voucher, padded
library ProofCodec {
    /// @notice Bytes of a journal: ten words.
    uint256 internal constant JOURNAL_BYTES = 320;
    uint256 private constant JOURNAL_OFFSET = 0x80;
    uint256 private constant SEAL_OFFSET = JOURNAL_OFFSET + 32 + JOURNAL_BYTES;
    uint256 private constant MIN_BYTES = SEAL_OFFSET + 64;

    /// @notice Splits proof bytes. If all is well but the journal's length, `ok` is false and `journalLength` tells it.
    function split(bytes calldata proof)
        internal
        pure
        returns (
            bool ok,
            uint256 journalLength,
            uint256 kind,
            bytes calldata journal,
            bytes calldata seal,
            bytes calldata voucher
        )
    {
        journal = proof[0:0];
        seal = journal;
        voucher = journal;
        journalLength = JOURNAL_BYTES;
        if (proof.length <= JOURNAL_OFFSET + 32) return (false, journalLength, 0, journal, seal, voucher);
        kind = _word(proof, 0);
        if (_word(proof, 0x20) != JOURNAL_OFFSET) return (false, journalLength, 0, journal, seal, voucher);
        journalLength = _word(proof, JOURNAL_OFFSET);
        if (journalLength != JOURNAL_BYTES || proof.length < MIN_BYTES || _word(proof, 0x40) != SEAL_OFFSET) {
            return (false, journalLength, 0, journal, seal, voucher);
        }
        uint256 sealLength = _word(proof, SEAL_OFFSET);
        // Lengths beyond the proof's own would overflow the sums below.
        if (sealLength > proof.length) return (false, journalLength, 0, journal, seal, voucher);
        uint256 voucherOffset = SEAL_OFFSET + 32 + _padded(sealLength);
        if (_word(proof, 0x60) != voucherOffset || proof.length < voucherOffset + 32) {
            return (false, journalLength, 0, journal, seal, voucher);
        }
        uint256 voucherLength = _word(proof, voucherOffset);
        if (voucherLength > proof.length || proof.length != voucherOffset + 32 + _padded(voucherLength)) {
            return (false, journalLength, 0, journal, seal, voucher);
        }
        ok = true;
        journal = proof[JOURNAL_OFFSET + 32:SEAL_OFFSET];
        seal = proof[SEAL_OFFSET + 32:SEAL_OFFSET + 32 + sealLength];
        voucher = proof[voucherOffset + 32:voucherOffset + 32 + voucherLength];
    }

    /// @notice Splits `abi.encode(uint256 tokens, bytes signature)`.
    function splitVoucher(bytes calldata voucher)
        internal
        pure
        returns (bool ok, uint256 tokens, bytes calldata signature)
    {
        signature = voucher[0:0];
        if (voucher.length < 96 || _word(voucher, 32) != 64) return (false, 0, signature);
        uint256 length = _word(voucher, 64);
        if (length > voucher.length || voucher.length != 96 + _padded(length)) return (false, 0, signature);
        return (true, _word(voucher, 0), voucher[96:96 + length]);
    }

    /// @notice The journal's word at byte `offset`.
    function word(bytes calldata journal, uint256 offset) internal pure returns (uint256) {
        return _word(journal, offset);
    }

    function _padded(uint256 length) private pure returns (uint256) {
        return (length + 31) & ~uint256(31);
    }

    /// @dev Callers have checked that the word lies within the bytes.
    function _word(bytes calldata data, uint256 offset) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(data.offset, offset))
        }
    }
}
