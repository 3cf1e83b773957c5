// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bls12381} from "./Bls12381.sol";

/// @title Certificates of finality checkpoints, verified on chain
/// @notice Validators certify links between checkpoints of a chain: a quorum of every set in force has signed the very same bytes. This
/// library decides what `finality_gadget::Schedule::verify_certificate` decides, bit for bit, for the scheme `bls12-381-min-sig`.
/// @dev Trust is the caller's: chain, trusted checkpoint and the schedule of sets ({Trust}) must be what operators agreed on. The keys of
/// a set need not be trusted, since its digest covers them; nor the signature's uncompressed form, since the certificate holds the
/// compressed one. What proofs of possession prevent was prevented when the set was agreed on: they are not checked here.
library CheckpointCertificates {
    /// @notice Ends before it is whole, or goes on after it.
    error WrongLength(uint256 found, uint256 expected);
    /// @notice Another version of the encoding.
    error UnknownVersion(uint8 version);
    /// @notice A vote names between one and four sets.
    error WrongCount(uint256 sets);
    /// @notice The target does not lie above the source.
    error BackwardLink(uint64 source, uint64 target);
    /// @notice The schedule is none: it needs a set, which begins at the trusted checkpoint, and consecutive ids at ascending boundaries.
    error WrongSchedule();
    /// @notice Signed for another chain or trusted checkpoint.
    error WrongDomain(bytes32 found, bytes32 expected);
    /// @notice The link begins before the trusted checkpoint, or at another block of its number.
    error Unrooted(uint64 source);
    /// @notice The certificate names other sets than those in force from source to target.
    error WrongSets();
    /// @notice The given keys are not those of the set.
    error WrongKeys(uint64 set);
    /// @notice A member that several sets share has different keys in them.
    error AnotherKey(uint32 validator);
    /// @notice The bitmap is not one over the members, or has bits beyond the last.
    error WrongBitmap(uint256 members);
    /// @notice Too few members of a set have signed.
    error NoQuorum(uint64 set, uint256 signers, uint256 quorum);
    /// @notice The uncompressed signature is not the certificate's.
    error AnotherSignature();
    /// @notice The aggregate does not hold.
    error FalseAggregate();
    /// @notice By the rule asked about nothing is final by this link.
    error NothingFinal();

    /// @notice By which rule checkpoints become final.
    enum Rule {
        Single,
        Ffg
    }

    /// @notice A set and the number above which it votes.
    struct SetInForce {
        uint64 boundary;
        uint64 id;
        bytes32 digest;
    }

    /// @notice What operators agreed on. The first set's boundary is the trusted checkpoint's number.
    struct Trust {
        uint64 chainId;
        uint64 number;
        bytes32 blockHash;
        SetInForce[] sets;
    }

    /// @notice A checkpoint: its block's height divided by the interval, and the block's hash.
    struct Checkpoint {
        uint64 number;
        bytes32 blockHash;
    }

    /// @notice What a quorum signed.
    struct Vote {
        bytes32 domain;
        uint64 setId;
        bytes32[] sets;
        Checkpoint source;
        Checkpoint target;
        bytes32 previous;
    }

    /// @dev On the way through the members: the next one of each set, how many of each have signed, and the sum of their keys.
    struct Walk {
        uint256[] next;
        uint256[] signed;
        uint256 bitmap;
        uint256 bits;
        uint256 members;
        uint256[16] sum;
    }

    bytes private constant DST = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    bytes private constant VOTE_TAG = "finality-gadget vote 1\x00";
    bytes private constant SET_TAG = "finality-gadget set 1\x00";
    bytes private constant DOMAIN_TAG = "finality-gadget domain 1\x00";
    bytes private constant SCHEME = "bls12-381-min-sig";
    uint8 private constant VERSION = 1;
    uint256 private constant MAX_SETS = 4;
    uint256 private constant SIGNATURE_BYTES = 48;
    uint256 private constant UNCOMPRESSED_BYTES = 96;
    /// @dev A member as it is given: id 4 · key x.c0 48, x.c1 48, y.c0 48, y.c1 48.
    uint256 private constant MEMBER_BYTES = 196;
    /// @dev A field element has 381 bits: the first of its 48 bytes is below 32.
    uint256 private constant HIGHEST_BYTE = 0x1f;
    /// @dev Version, domain, set id and count stand before the digests of a vote; links and the digest of the link before behind them.
    uint256 private constant HEAD_BYTES = 42;
    uint256 private constant TAIL_BYTES = 112;

    /// @notice Verifies a certificate and answers what it certifies; reverts by name otherwise.
    /// @param trust What operators agreed on.
    /// @param certificate Its canonical encoding.
    /// @param signature Its aggregate uncompressed: x 48 · y 48.
    /// @param sets The members of each set in force from source to target, oldest first: ids ascending, keys uncompressed.
    function verify(Trust memory trust, bytes memory certificate, bytes memory signature, bytes[] memory sets)
        internal
        view
        returns (Vote memory vote)
    {
        uint256 bitmap;
        (vote, bitmap) = decode(certificate);
        bytes32 expected = domain(trust);
        if (vote.domain != expected) revert WrongDomain(vote.domain, expected);
        uint256 oldest = _checkSets(trust, vote);
        if (sets.length != vote.sets.length) revert WrongSets();
        uint64[] memory ids = new uint64[](sets.length);
        for (uint256 i = 0; i < sets.length; ++i) {
            ids[i] = trust.sets[oldest + i].id;
            if (setDigest(ids[i], sets[i]) != vote.sets[i]) revert WrongKeys(ids[i]);
        }
        Bls12381.G2 memory key = _signers(certificate, bitmap, ids, sets);
        bytes memory message = abi.encodePacked(VOTE_TAG, _slice(certificate, bitmap - 4));
        if (!Bls12381.verify(message, DST, key, _signature(certificate, signature))) revert FalseAggregate();
    }

    /// @notice The checkpoint that is final by a link: its target, or under `Ffg` its source if the target is the direct child.
    function finalized(Vote memory vote, Rule rule) internal pure returns (Checkpoint memory) {
        if (rule == Rule.Single) return vote.target;
        if (vote.target.number != vote.source.number + 1) revert NothingFinal();
        return vote.source;
    }

    /// @notice Digest of chain and trusted checkpoint, which every vote carries.
    function domain(Trust memory trust) internal pure returns (bytes32) {
        if (trust.sets.length == 0) revert WrongSchedule();
        return sha256(abi.encodePacked(DOMAIN_TAG, trust.chainId, trust.number, trust.blockHash, trust.sets[0].digest));
    }

    /// @notice Digest of a set: its id, the scheme, and ids and compressed keys of its members.
    function setDigest(uint64 id, bytes memory set) internal pure returns (bytes32) {
        uint256 members = _members(set);
        bytes memory keys = new bytes(members * 104);
        for (uint256 i = 0; i < members; ++i) {
            uint256 from;
            uint256 to;
            assembly ("memory-safe") {
                from := add(add(set, 32), mul(i, 196))
                to := add(add(keys, 32), mul(i, 104))
                // Id and the length of a compressed key.
                mstore(to, or(and(mload(from), shl(224, 0xffffffff)), shl(192, 96)))
                // Compressed: x.c1 · x.c0, with flags in the highest bits.
                mcopy(add(to, 8), add(from, 52), 48)
                mcopy(add(to, 56), add(from, 4), 48)
            }
            uint256 flags = _isLarger(from + 100) ? 0xa0 : 0x80;
            uint256 first;
            assembly ("memory-safe") {
                first := byte(0, mload(add(to, 8)))
                mstore8(add(to, 8), or(first, flags))
            }
            // Where x had a flag of its own, two encodings would have one digest.
            if (first > HIGHEST_BYTE) revert WrongKeys(id);
        }
        return sha256(abi.encodePacked(SET_TAG, id, uint32(SCHEME.length), SCHEME, keys));
    }

    /// @notice Members that make a quorum of a set: n − ⌊(n − 1) / 3⌋.
    function quorum(uint256 members) internal pure returns (uint256) {
        return members - (members - 1) / 3;
    }

    /// @notice Reads a certificate. Says nothing about signatures. `bitmap` is where the bytes of the bitmap begin.
    function decode(bytes memory certificate) internal pure returns (Vote memory vote, uint256 bitmap) {
        uint256 length = certificate.length;
        if (length < HEAD_BYTES) revert WrongLength(length, HEAD_BYTES);
        if (uint8(certificate[0]) != VERSION) revert UnknownVersion(uint8(certificate[0]));
        uint256 count = uint8(certificate[41]);
        if (count == 0 || count > MAX_SETS) revert WrongCount(count);
        uint256 offset = HEAD_BYTES + 32 * count;
        bitmap = offset + TAIL_BYTES + 4;
        if (length < bitmap) revert WrongLength(length, bitmap);
        uint256 whole = bitmap + _uint32(certificate, bitmap - 4) + 4 + SIGNATURE_BYTES;
        if (length != whole || _uint32(certificate, whole - SIGNATURE_BYTES - 4) != SIGNATURE_BYTES) revert WrongLength(length, whole);
        vote.domain = _word(certificate, 1);
        vote.setId = _uint64(certificate, 33);
        vote.sets = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            vote.sets[i] = _word(certificate, HEAD_BYTES + 32 * i);
        }
        vote.source = Checkpoint(_uint64(certificate, offset), _word(certificate, offset + 8));
        vote.target = Checkpoint(_uint64(certificate, offset + 40), _word(certificate, offset + 48));
        vote.previous = _word(certificate, offset + 80);
        if (vote.source.number >= vote.target.number) revert BackwardLink(vote.source.number, vote.target.number);
    }

    /// @dev The sets in force from source to target are the ones that the vote names; answers where the oldest stands.
    function _checkSets(Trust memory trust, Vote memory vote) private pure returns (uint256 oldest) {
        SetInForce[] memory sets = trust.sets;
        if (sets[0].boundary != trust.number) revert WrongSchedule();
        uint256 newest = 0;
        for (uint256 i = 1; i < sets.length; ++i) {
            if (sets[i].boundary <= sets[i - 1].boundary || sets[i].id != sets[i - 1].id + 1) revert WrongSchedule();
            // A set with boundary N votes on what lies above N.
            if (sets[i].boundary < vote.source.number) oldest = i;
            if (sets[i].boundary < vote.target.number) newest = i;
        }
        bool isRoot = vote.source.number == trust.number && vote.source.blockHash == trust.blockHash;
        if (vote.source.number <= trust.number && !isRoot) revert Unrooted(vote.source.number);
        if (vote.sets.length != newest - oldest + 1 || vote.setId != sets[newest].id) revert WrongSets();
        for (uint256 i = 0; i < vote.sets.length; ++i) {
            if (vote.sets[i] != sets[oldest + i].digest) revert WrongSets();
        }
    }

    /// @dev The sum of the signers' keys, if bitmap and quorums are right.
    function _signers(bytes memory certificate, uint256 bitmap, uint64[] memory ids, bytes[] memory sets)
        private
        view
        returns (Bls12381.G2 memory)
    {
        Walk memory walk;
        walk.next = new uint256[](sets.length);
        walk.signed = new uint256[](sets.length);
        walk.bitmap = bitmap;
        walk.bits = 8 * _uint32(certificate, bitmap - 4);
        if (sets.length == 1) {
            _all(walk, certificate, sets[0]);
        } else {
            while (_step(walk, certificate, sets)) {}
        }
        if (walk.bits != (walk.members + 7) / 8 * 8) revert WrongBitmap(walk.members);
        uint256 spare = walk.bits - walk.members;
        if (spare > 0 && uint8(certificate[bitmap + walk.bits / 8 - 1]) >> (8 - spare) != 0) revert WrongBitmap(walk.members);
        for (uint256 i = 0; i < sets.length; ++i) {
            uint256 needed = quorum(walk.next[i]);
            if (walk.signed[i] < needed) revert NoQuorum(ids[i], walk.signed[i], needed);
        }
        return Bls12381.pointOf(walk.sum);
    }

    /// @dev The members of the one set there is: what most links need.
    function _all(Walk memory walk, bytes memory certificate, bytes memory set) private view {
        uint256 members = set.length / MEMBER_BYTES;
        uint256[16] memory sum = walk.sum;
        uint256 signed;
        uint256 limit = walk.bits < members ? walk.bits : members;
        uint256 key = _offset(set, 0) + 4;
        uint256 bits = _offset(certificate, 0) + walk.bitmap;
        for (uint256 i = 0; i < limit; ++i) {
            uint256 signs;
            assembly ("memory-safe") {
                signs := and(shr(and(i, 7), byte(0, mload(add(bits, shr(3, i))))), 1)
            }
            if (signs == 1) {
                Bls12381.addPacked(sum, key);
                unchecked {
                    ++signed;
                }
            }
            unchecked {
                key += MEMBER_BYTES;
            }
        }
        (walk.members, walk.next[0], walk.signed[0]) = (members, members, signed);
    }

    /// @dev The next member of the union, in ascending order of ids; false behind the last.
    function _step(Walk memory walk, bytes memory certificate, bytes[] memory sets) private view returns (bool) {
        (uint256 lowest, uint256 holder) = _lowest(walk.next, sets);
        if (lowest == type(uint256).max) return false;
        uint256 index = walk.members++;
        // A bitmap that is too short is refused when the members are counted.
        bool signs = index < walk.bits && (uint8(certificate[walk.bitmap + index / 8]) >> (index % 8)) & 1 == 1;
        uint256 key = _offset(sets[holder], walk.next[holder]);
        for (uint256 i = holder; i < sets.length; ++i) {
            if (walk.next[i] * MEMBER_BYTES == sets[i].length) continue;
            uint256 other = _offset(sets[i], walk.next[i]);
            if (_idAt(other) != lowest) continue;
            if (i != holder && !_sameKey(key, other)) revert AnotherKey(uint32(lowest));
            ++walk.next[i];
            if (signs) ++walk.signed[i];
        }
        // From the point at infinity on, which adds nothing.
        if (signs) Bls12381.addPacked(walk.sum, key + 4);
        return true;
    }

    /// @dev The lowest id that was not looked at yet, and the first set that has it.
    function _lowest(uint256[] memory next, bytes[] memory sets) private pure returns (uint256 lowest, uint256 holder) {
        lowest = type(uint256).max;
        for (uint256 i = 0; i < sets.length; ++i) {
            if (next[i] * MEMBER_BYTES == sets[i].length) continue;
            uint256 id = _idAt(_offset(sets[i], next[i]));
            if (id < lowest) (lowest, holder) = (id, i);
        }
    }

    /// @dev The uncompressed signature, if it is the certificate's.
    function _signature(bytes memory certificate, bytes memory signature) private pure returns (Bls12381.G1 memory point) {
        if (signature.length != UNCOMPRESSED_BYTES) revert WrongLength(signature.length, UNCOMPRESSED_BYTES);
        uint256 compressed = certificate.length - SIGNATURE_BYTES;
        point.xHigh = uint256(_word(signature, 0)) >> 128;
        point.xLow = uint256(_word(signature, 16));
        point.yHigh = uint256(_word(signature, 48)) >> 128;
        point.yLow = uint256(_word(signature, 64));
        uint256 flags = Bls12381.isLarger(point.yHigh, point.yLow) ? 0xa0 : 0x80;
        if (uint256(_word(certificate, compressed)) >> 128 != point.xHigh | flags << 120) revert AnotherSignature();
        if (uint256(_word(certificate, compressed + 16)) != point.xLow) revert AnotherSignature();
    }

    function _members(bytes memory set) private pure returns (uint256 members) {
        members = set.length / MEMBER_BYTES;
        if (members == 0 || members * MEMBER_BYTES != set.length) revert WrongLength(set.length, (members + 1) * MEMBER_BYTES);
    }

    /// @dev Where a member stands in memory.
    function _offset(bytes memory set, uint256 index) private pure returns (uint256 offset) {
        assembly ("memory-safe") {
            offset := add(add(set, 32), mul(index, 196))
        }
    }

    function _idAt(uint256 offset) private pure returns (uint256 id) {
        assembly ("memory-safe") {
            id := shr(224, mload(offset))
        }
    }

    function _sameKey(uint256 one, uint256 other) private pure returns (bool same) {
        assembly ("memory-safe") {
            same := eq(keccak256(add(one, 4), 192), keccak256(add(other, 4), 192))
        }
    }

    /// @dev Whether y = c0 + c1·u, 96 bytes at `offset`, is larger than its negative: c1 decides, and c0 where that is zero.
    function _isLarger(uint256 offset) private pure returns (bool) {
        uint256 high;
        uint256 low;
        assembly ("memory-safe") {
            high := shr(128, mload(add(offset, 48)))
            low := mload(add(offset, 64))
        }
        if (high | low == 0) {
            assembly ("memory-safe") {
                high := shr(128, mload(offset))
                low := mload(add(offset, 16))
            }
        }
        return Bls12381.isLarger(high, low);
    }

    function _word(bytes memory data, uint256 offset) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), offset))
        }
    }

    function _uint64(bytes memory data, uint256 offset) private pure returns (uint64) {
        return uint64(uint256(_word(data, offset)) >> 192);
    }

    function _uint32(bytes memory data, uint256 offset) private pure returns (uint256) {
        return uint256(_word(data, offset)) >> 224;
    }

    /// @dev The first `length` bytes.
    function _slice(bytes memory data, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        assembly ("memory-safe") {
            mcopy(add(part, 32), add(data, 32), length)
        }
    }
}
