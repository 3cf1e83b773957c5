// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title BLS signatures in G1 of BLS12-381, checked with the precompiles of EIP-2537
/// @notice Signatures have 48 bytes compressed ("min-sig"), messages are hashed to G1 by RFC 9380
/// (BLS12381G1_XMD:SHA-256_SSWU_RO_), public keys lie in G2.
/// @dev A chain without the precompiles answers nothing where they should be: that is {PrecompileFailed}, not a wrong verdict. The
/// precompile of pairings checks that points lie in their subgroups; sums of points do not, which is right for keys whose proofs of
/// possession were checked when their set was agreed on.
library Bls12381 {
    /// @notice The precompile is not there, or refuses what it was given: a point not on the curve, a field element too large.
    error PrecompileFailed(uint256 precompile);

    /// @notice A point of G1 as EIP-2537 encodes it: each coordinate in 64 bytes.
    struct G1 {
        uint256 xHigh;
        uint256 xLow;
        uint256 yHigh;
        uint256 yLow;
    }

    /// @notice A point of G2 as EIP-2537 encodes it: each coordinate is c0 + c1·u.
    struct G2 {
        uint256 xHigh0;
        uint256 xLow0;
        uint256 xHigh1;
        uint256 xLow1;
        uint256 yHigh0;
        uint256 yLow0;
        uint256 yHigh1;
        uint256 yLow1;
    }

    uint256 private constant SHA256 = 0x02;
    uint256 private constant MODEXP = 0x05;
    uint256 private constant G1ADD = 0x0b;
    uint256 private constant G2ADD = 0x0d;
    uint256 private constant PAIRING_CHECK = 0x0f;
    uint256 private constant MAP_FP_TO_G1 = 0x10;

    /// @dev Half of the field's prime, rounded down: a coordinate above it is the larger one of a pair.
    uint256 private constant HALF_HIGH = 0x0d0088f51cbff34d258dd3db21a5d66b;
    uint256 private constant HALF_LOW = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555;

    /// @notice Whether `signature` is one over `message` by whoever holds `key`.
    /// @dev The point at infinity is neither a key nor a signature: with it everything would be signed.
    function verify(bytes memory message, bytes memory dst, G2 memory key, G1 memory signature) internal view returns (bool) {
        if (isZero(key) || isZero(signature)) return false;
        G1 memory point = hashToG1(message, dst);
        // e(signature, -g2) · e(H(message), key) = 1
        uint256[24] memory input;
        (input[0], input[1], input[2], input[3]) = (signature.xHigh, signature.xLow, signature.yHigh, signature.yLow);
        input[4] = 0x024aa2b2f08f0a91260805272dc51051;
        input[5] = 0xc6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8;
        input[6] = 0x13e02b6052719f607dacd3a088274f65;
        input[7] = 0x596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e;
        input[8] = 0x0d1b3cc2c7027888be51d9ef691d77bc;
        input[9] = 0xb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa;
        input[10] = 0x13fa4d4a0ad8b1ce186ed5061789213d;
        input[11] = 0x993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed;
        (input[12], input[13], input[14], input[15]) = (point.xHigh, point.xLow, point.yHigh, point.yLow);
        (input[16], input[17], input[18], input[19]) = (key.xHigh0, key.xLow0, key.xHigh1, key.xLow1);
        (input[20], input[21], input[22], input[23]) = (key.yHigh0, key.yLow0, key.yHigh1, key.yLow1);
        uint256[1] memory output;
        _run(PAIRING_CHECK, _at(input), 768, _at(output), 32);
        return output[0] == 1;
    }

    /// @notice Adds a point to the sum in the first eight words of `sum`; the others are for the next point. It stands in memory at
    /// `packed`: x.c0 48 · x.c1 48 · y.c0 48 · y.c1 48.
    function addPacked(uint256[16] memory sum, uint256 packed) internal view {
        bool done;
        assembly ("memory-safe") {
            mstore(add(sum, 0x100), shr(128, mload(packed)))
            mstore(add(sum, 0x120), mload(add(packed, 16)))
            mstore(add(sum, 0x140), shr(128, mload(add(packed, 48))))
            mstore(add(sum, 0x160), mload(add(packed, 64)))
            mstore(add(sum, 0x180), shr(128, mload(add(packed, 96))))
            mstore(add(sum, 0x1a0), mload(add(packed, 112)))
            mstore(add(sum, 0x1c0), shr(128, mload(add(packed, 144))))
            mstore(add(sum, 0x1e0), mload(add(packed, 160)))
            done := staticcall(gas(), 0x0d, sum, 512, sum, 256)
            done := and(done, eq(returndatasize(), 256))
        }
        if (!done) revert PrecompileFailed(G2ADD);
    }

    /// @notice The point in the first eight words of a sum.
    function pointOf(uint256[16] memory sum) internal pure returns (G2 memory point) {
        assembly ("memory-safe") {
            point := sum
        }
    }

    /// @notice RFC 9380's hash_to_curve for BLS12381G1_XMD:SHA-256_SSWU_RO_. `dst` has at most 255 bytes.
    function hashToG1(bytes memory message, bytes memory dst) internal view returns (G1 memory point) {
        (bytes32 b1, bytes32 b2, bytes32 b3, bytes32 b4) = _expand(message, dst);
        uint256[8] memory points;
        uint256 offset = _at(points);
        _map(b1, b2, offset);
        _map(b3, b4, offset + 128);
        uint256 output;
        assembly ("memory-safe") {
            output := point
        }
        _run(G1ADD, offset, 256, output, 128);
    }

    /// @notice Whether a coordinate is larger than its negative.
    function isLarger(uint256 high, uint256 low) internal pure returns (bool) {
        return high > HALF_HIGH || (high == HALF_HIGH && low > HALF_LOW);
    }

    /// @notice Whether it is the point at infinity.
    function isZero(G1 memory point) internal pure returns (bool) {
        return (point.xHigh | point.xLow | point.yHigh | point.yLow) == 0;
    }

    /// @notice Whether it is the point at infinity.
    function isZero(G2 memory point) internal pure returns (bool) {
        return (point.xHigh0 | point.xLow0 | point.xHigh1 | point.xLow1) == 0
            && (point.yHigh0 | point.yLow0 | point.yHigh1 | point.yLow1) == 0;
    }

    /// @dev expand_message_xmd with SHA-256 to 128 bytes: two field elements of 64.
    function _expand(bytes memory message, bytes memory dst)
        private
        view
        returns (bytes32 b1, bytes32 b2, bytes32 b3, bytes32 b4)
    {
        bytes memory first = abi.encodePacked(bytes32(0), bytes32(0), message, uint16(128), uint8(0), dst, uint8(dst.length));
        bytes32 b0 = _sha256(first);
        // The other blocks differ in their first 33 bytes alone.
        bytes memory block_ = abi.encodePacked(b0, uint8(1), dst, uint8(dst.length));
        b1 = _sha256(block_);
        b2 = _next(block_, b0 ^ b1, 2);
        b3 = _next(block_, b0 ^ b2, 3);
        b4 = _next(block_, b0 ^ b3, 4);
    }

    function _next(bytes memory block_, bytes32 start, uint8 count) private view returns (bytes32) {
        assembly ("memory-safe") {
            mstore(add(block_, 32), start)
            mstore8(add(block_, 64), count)
        }
        return _sha256(block_);
    }

    /// @dev As the language's own, without its copy.
    function _sha256(bytes memory data) private view returns (bytes32 digest) {
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 0x02, add(data, 32), mload(data), 0, 32)
            digest := mload(0)
        }
        if (!done) revert PrecompileFailed(SHA256);
    }

    /// @dev 64 random bytes to a field element, and that to a point at `output`.
    function _map(bytes32 high, bytes32 low, uint256 output) private view {
        uint256 input;
        assembly ("memory-safe") {
            // (high · 2^256 + low)^1 mod p, with lengths of 64, 1 and 64 bytes. Behind everything allocated, as above.
            input := mload(0x40)
            mstore(input, 64)
            mstore(add(input, 32), 1)
            mstore(add(input, 64), 64)
            mstore(add(input, 96), high)
            mstore(add(input, 128), low)
            mstore8(add(input, 160), 1)
            mstore(add(input, 161), 0x1a0111ea397fe69a4b1ba7b6434bacd7)
            mstore(add(input, 193), 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab)
        }
        // The element takes the place of the number that it is the rest of.
        _run(MODEXP, input, 225, input, 64);
        _run(MAP_FP_TO_G1, input, 64, output, 128);
    }

    function _at(uint256[1] memory words) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := words
        }
    }

    function _at(uint256[8] memory words) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := words
        }
    }

    function _at(uint256[24] memory words) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := words
        }
    }

    /// @dev A precompile that refuses burns the gas that it was given; what is left of it pays for the revert.
    function _run(uint256 precompile, uint256 input, uint256 inputBytes, uint256 output, uint256 outputBytes) private view {
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), precompile, input, inputBytes, output, outputBytes)
            // Where there is no precompile the call succeeds and returns nothing.
            done := and(done, eq(returndatasize(), outputBytes))
        }
        if (!done) revert PrecompileFailed(precompile);
    }
}
