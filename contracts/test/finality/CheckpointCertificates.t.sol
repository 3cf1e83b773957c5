// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bls12381} from "../../src/finality/Bls12381.sol";
import {CertificateVerifier} from "../../src/finality/CertificateVerifier.sol";
import {CheckpointCertificates as C} from "../../src/finality/CheckpointCertificates.sol";
import {vm} from "../support/Vm.sol";

/// @dev Certificates that validators' own code made (`crates/validator-net/vectors/certificates.json`), and what becomes of each when it is
/// changed.
contract CheckpointCertificatesTest {
    /// @dev Shown by forge with -vv.
    event log_named_uint(string key, uint256 value);

    struct Case {
        C.Trust trust;
        bytes certificate;
        bytes signature;
        bytes[] sets;
    }

    string private constant FILE = "../crates/validator-net/vectors/certificates.json";
    /// @dev What the curve costs at 21 validators by EIP-2537: pairing check of two 102,900, two maps 11,000, one addition in G1 375, fifteen
    /// in G2 9,000: 123,275. The rest is hashing and copying.
    uint256 private constant CURVE_GOAL_AT_21 = 135_000;
    /// @dev Where the vote ends in a certificate of one set: head 42, one digest, tail 112.
    uint256 private constant BITMAP_LENGTH_AT = 186;
    uint256 private constant BITMAP_AT = 190;

    string private json;
    CertificateVerifier private verifier;

    function setUp() public {
        json = vm.readFile(FILE);
        verifier = new CertificateVerifier();
    }

    function test_certificates_that_validators_made_hold() public view {
        string[5] memory names = ["four", "twentyOne", "boundary", "afterBoundary", "everybody"];
        for (uint256 i = 0; i < names.length; ++i) {
            Case memory it = load(names[i]);
            C.Vote memory vote = verifier.verify(it.trust, it.certificate, it.signature, it.sets);
            vm.assertEq(vote.source.number, number(names[i], ".sourceNumber"), "source");
            vm.assertEq(vote.source.blockHash, word(names[i], ".sourceHash"), "source's block");
            vm.assertEq(vote.target.number, number(names[i], ".targetNumber"), "target");
            vm.assertEq(vote.target.blockHash, word(names[i], ".targetHash"), "target's block");
            vm.assertEq(vote.domain, word(names[i], ".domain"), "domain");
        }
    }

    function test_domain_and_digests_are_those_of_the_gadget() public view {
        Case memory it = load("boundary");
        vm.assertEq(verifier.domain(it.trust), word("boundary", ".domain"), "domain");
        for (uint256 i = 0; i < 2; ++i) {
            vm.assertEq(verifier.setDigest(it.trust.sets[i].id, it.sets[i]), it.trust.sets[i].digest, "set");
        }
    }

    /// @dev RFC 9380, appendix J.9.1.
    function test_messages_are_hashed_to_the_points_of_RFC_9380() public view {
        bytes memory dst = "QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        Bls12381.G1 memory point = Bls12381.hashToG1("", dst);
        vm.assertEq(point.xHigh, 0x052926add2207b76ca4fa57a8734416c, "x of the empty message");
        vm.assertEq(point.xLow, 0x8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1, "x of the empty message");
        vm.assertEq(point.yHigh, 0x08ba738453bfed09cb546dbb0783dbb3, "y of the empty message");
        vm.assertEq(point.yLow, 0xa5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265, "y of the empty message");
        point = Bls12381.hashToG1("abc", dst);
        vm.assertEq(point.xHigh, 0x03567bc5ef9c690c2ab2ecdf6a96ef1c, "x of abc");
        vm.assertEq(point.xLow, 0x139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903, "x of abc");
        vm.assertEq(point.yHigh, 0x0b9c15f3fe6e5cf4211f346271d7b01c, "y of abc");
        vm.assertEq(point.yLow, 0x8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d, "y of abc");
    }

    function test_what_is_final_follows_the_rule() public {
        Case memory it = load("four");
        C.Checkpoint memory single = verifier.finalized(it.trust, C.Rule.Single, it.certificate, it.signature, it.sets);
        vm.assertEq(single.number, number("four", ".targetNumber"), "under single the target");
        C.Checkpoint memory ffg = verifier.finalized(it.trust, C.Rule.Ffg, it.certificate, it.signature, it.sets);
        vm.assertEq(ffg.number, number("four", ".sourceNumber"), "under ffg the source");
        C.Vote memory vote;
        (vote.source.number, vote.target.number) = (3, 5);
        vm.expectRevert(abi.encodeWithSelector(C.NothingFinal.selector));
        this.finalize(vote);
    }

    function test_another_encoding_is_refused() public {
        Case memory it = load("four");
        it.certificate[0] = 0x02;
        refused(it, abi.encodeWithSelector(C.UnknownVersion.selector, 2));
        it = load("four");
        it.certificate[41] = 0x05;
        refused(it, abi.encodeWithSelector(C.WrongCount.selector, 5));
        it = load("four");
        it.certificate[41] = 0x00;
        refused(it, abi.encodeWithSelector(C.WrongCount.selector, 0));
        it = load("four");
        it.certificate = bytes.concat(it.certificate, hex"00");
        refused(it, abi.encodeWithSelector(C.WrongLength.selector, it.certificate.length, it.certificate.length - 1));
        it = load("four");
        it.signature = bytes.concat(it.signature, hex"00");
        refused(it, abi.encodeWithSelector(C.WrongLength.selector, 97, 96));
    }

    function test_every_shorter_one_is_refused() public view {
        Case memory it = load("four");
        bytes memory whole = it.certificate;
        for (uint256 length = 0; length < whole.length; ++length) {
            it.certificate = part(whole, length);
            vm.assertTrue(reverts(it), "a shorter one holds");
        }
    }

    function test_another_chain_or_trusted_checkpoint_is_refused() public {
        Case memory it = load("four");
        bytes32 signed = verifier.domain(it.trust);
        it.trust.chainId = 1;
        refused(it, abi.encodeWithSelector(C.WrongDomain.selector, signed, verifier.domain(it.trust)));
        it = load("four");
        it.trust.blockHash = bytes32(uint256(1));
        refused(it, abi.encodeWithSelector(C.WrongDomain.selector, signed, verifier.domain(it.trust)));
        it = load("four");
        it.trust.sets[0].digest = bytes32(uint256(1));
        refused(it, abi.encodeWithSelector(C.WrongDomain.selector, signed, verifier.domain(it.trust)));
        it = load("four");
        it.certificate[1] ^= 0x01;
        refused(it, abi.encodeWithSelector(C.WrongDomain.selector, signed ^ bytes32(uint256(1) << 248), signed));
    }

    function test_a_schedule_that_is_none_is_refused() public {
        Case memory it = load("boundary");
        it.trust.sets[1].id = 3;
        refused(it, abi.encodeWithSelector(C.WrongSchedule.selector));
        it = load("boundary");
        it.trust.sets[1].boundary = it.trust.sets[0].boundary;
        refused(it, abi.encodeWithSelector(C.WrongSchedule.selector));
        it = load("boundary");
        it.trust.sets = new C.SetInForce[](0);
        refused(it, abi.encodeWithSelector(C.WrongSchedule.selector));
        it = load("boundary");
        it.trust.sets[0].boundary = 6;
        refused(it, abi.encodeWithSelector(C.WrongSchedule.selector));
    }

    function test_other_sets_than_those_in_force_are_refused() public {
        // The second set has not taken over, or has before.
        Case memory it = load("boundary");
        it.trust.sets[1].boundary = 500;
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
        it = load("boundary");
        it.trust.sets[1].boundary = 50;
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
        it = load("afterBoundary");
        it.trust.sets[1].digest = bytes32(uint256(1));
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
        // Another id than the target's.
        it = load("four");
        it.certificate[40] = 0x02;
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
        // Keys of one set too few, and of one too many.
        it = load("boundary");
        bytes[] memory both = it.sets;
        it.sets = new bytes[](1);
        it.sets[0] = both[0];
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
        it = load("four");
        it.sets = both;
        refused(it, abi.encodeWithSelector(C.WrongSets.selector));
    }

    function test_links_that_are_none_are_refused() public {
        // Source 8 → target 9 becomes 9 → 9, and 6 → 9, below the trusted checkpoint.
        Case memory it = load("four");
        it.certificate[81] = 0x09;
        refused(it, abi.encodeWithSelector(C.BackwardLink.selector, 9, 9));
        it = load("four");
        it.certificate[81] = 0x06;
        refused(it, abi.encodeWithSelector(C.Unrooted.selector, 6));
        // Its number, but another block.
        it = load("four");
        it.certificate[81] = 0x07;
        refused(it, abi.encodeWithSelector(C.Unrooted.selector, 7));
    }

    function test_keys_of_others_are_refused() public {
        Case memory it = load("four");
        it.sets = load("twentyOne").sets;
        refused(it, abi.encodeWithSelector(C.WrongKeys.selector, 1));
        // The other point with the same x.
        it = load("four");
        it.sets[0][150] ^= 0x01;
        it.sets[0][195] ^= 0x01;
        vm.assertTrue(reverts(it), "a key off the curve");
        it = load("four");
        it.sets[0][3] = 0x07;
        refused(it, abi.encodeWithSelector(C.WrongKeys.selector, 1));
        it = load("four");
        it.sets[0] = bytes.concat(it.sets[0], hex"00");
        refused(it, abi.encodeWithSelector(C.WrongLength.selector, 4 * 196 + 1, 5 * 196));
    }

    function test_the_sign_of_a_key_is_part_of_its_set() public {
        Case memory it = load("four");
        it.sets[0] = withNegated(it.sets[0], 0);
        refused(it, abi.encodeWithSelector(C.WrongKeys.selector, 1));
    }

    function test_without_a_quorum_nothing_holds() public {
        Case memory it = load("four");
        it.certificate[BITMAP_AT] = 0x03;
        refused(it, abi.encodeWithSelector(C.NoQuorum.selector, 1, 2, 3));
        it.certificate[BITMAP_AT] = 0x00;
        refused(it, abi.encodeWithSelector(C.NoQuorum.selector, 1, 0, 3));
        it = load("twentyOne");
        it.certificate[BITMAP_AT + 1] ^= 0x01;
        refused(it, abi.encodeWithSelector(C.NoQuorum.selector, 1, 14, 15));
    }

    /// @dev Members 1 to 4 hand over to 3 to 7: the union's bits are 1 to 7.
    function test_at_a_boundary_each_set_needs_its_quorum() public {
        uint256 offset = BITMAP_AT + 32;
        Case memory it = load("boundary");
        it.certificate[offset] = 0x7c; // 3 to 7: all of the new, two of the old
        refused(it, abi.encodeWithSelector(C.NoQuorum.selector, 1, 2, 3));
        it.certificate[offset] = 0x0f; // 1 to 4: all of the old, two of the new
        refused(it, abi.encodeWithSelector(C.NoQuorum.selector, 2, 2, 4));
    }

    function test_other_signers_than_those_who_signed_are_refused() public {
        Case memory it = load("four");
        it.certificate[BITMAP_AT] = 0x0f;
        refused(it, abi.encodeWithSelector(C.FalseAggregate.selector));
        it.certificate[BITMAP_AT] = 0x07;
        refused(it, abi.encodeWithSelector(C.FalseAggregate.selector));
    }

    function test_a_bitmap_over_other_members_is_refused() public {
        Case memory it = load("four");
        it.certificate[BITMAP_AT] |= 0x10;
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 4));
        // A byte more, though empty; and none.
        it = load("four");
        bytes memory head = part(it.certificate, BITMAP_LENGTH_AT);
        bytes memory tail = rest(it.certificate, BITMAP_AT + 1);
        bytes1 bits = it.certificate[BITMAP_AT];
        it.certificate = bytes.concat(head, hex"00000002", bits, hex"00", tail);
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 4));
        it.certificate = bytes.concat(head, hex"00000000", tail);
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 4));
        // Seven members of two sets under a bitmap of none, or of two bytes.
        it = load("boundary");
        head = part(it.certificate, BITMAP_LENGTH_AT + 32);
        tail = rest(it.certificate, BITMAP_AT + 33);
        it.certificate = bytes.concat(head, hex"00000000", tail);
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 7));
        it.certificate = bytes.concat(head, hex"000000020000", tail);
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 7));
        it = load("twentyOne");
        it.certificate[BITMAP_AT + 2] |= 0x80;
        refused(it, abi.encodeWithSelector(C.WrongBitmap.selector, 21));
    }

    function test_another_signature_is_refused() public {
        Case memory it = load("four");
        it.signature = load("everybody").signature;
        refused(it, abi.encodeWithSelector(C.AnotherSignature.selector));
        it = load("four");
        it.certificate[it.certificate.length - 48] ^= 0x20;
        refused(it, abi.encodeWithSelector(C.AnotherSignature.selector));
        it = load("four");
        it.certificate[it.certificate.length - 1] ^= 0x01;
        refused(it, abi.encodeWithSelector(C.AnotherSignature.selector));
        // The other point with the same x, said so in the certificate too.
        it = load("four");
        it.signature = negated(it.signature, 48);
        it.certificate[it.certificate.length - 48] ^= 0x20;
        refused(it, abi.encodeWithSelector(C.FalseAggregate.selector));
        // A point off the curve with the right x and the right half for its y.
        it = load("four");
        it.signature[95] ^= 0x01;
        refused(it, abi.encodeWithSelector(Bls12381.PrecompileFailed.selector, 0x0f));
    }

    function test_the_point_at_infinity_signs_nothing() public {
        Case memory it = load("four");
        bytes memory head = part(it.certificate, it.certificate.length - 48);
        it.signature = new bytes(96);
        it.certificate = bytes.concat(head, hex"c0", new bytes(47));
        refused(it, abi.encodeWithSelector(C.AnotherSignature.selector));
        it.certificate = bytes.concat(head, hex"80", new bytes(47));
        refused(it, abi.encodeWithSelector(C.FalseAggregate.selector));
    }

    function test_no_bit_of_what_was_signed_can_be_changed(uint256 offset) public view {
        Case memory it = load("twentyOne");
        offset %= it.certificate.length * 8;
        it.certificate[offset / 8] ^= bytes1(uint8(1 << (offset % 8)));
        vm.assertTrue(reverts(it), "a changed certificate holds");
    }

    function test_no_bit_of_the_keys_can_be_changed(uint256 offset) public view {
        Case memory it = load("four");
        offset %= it.sets[0].length * 8;
        it.sets[0][offset / 8] ^= bytes1(uint8(1 << (offset % 8)));
        // What is changed in the y of somebody who did not sign, its sign aside, is in nobody's way.
        uint256 member = offset / 8 / 196;
        if (member == 2 && offset / 8 % 196 >= 100) return;
        vm.assertTrue(reverts(it), "changed keys hold");
    }

    /// @dev The three highest bits of a compressed key are flags, and no field element has them. Whoever did not sign is never given to the
    /// curve, which would refuse them too.
    function test_a_flag_in_an_uncompressed_key_is_refused_whoever_signed() public {
        for (uint256 member = 0; member < 4; ++member) {
            for (uint256 bit = 5; bit < 8; ++bit) {
                Case memory it = load("four");
                it.sets[0][196 * member + 52] ^= bytes1(uint8(1 << bit));
                refused(it, abi.encodeWithSelector(C.WrongKeys.selector, it.trust.sets[0].id));
            }
        }
    }

    function test_what_the_curve_costs_is_within_its_goal() public {
        uint256 four = curve("four", 3);
        uint256 many = curve("twentyOne", 15);
        emit log_named_uint("gas of hashing, sum of keys and pairing, 3 of 4", four);
        emit log_named_uint("gas of hashing, sum of keys and pairing, 15 of 21", many);
        vm.assertLe(many, CURVE_GOAL_AT_21, "gas at 21");
        emit log_named_uint("gas of verify as a call, 3 of 4", call("four"));
        emit log_named_uint("gas of verify as a call, 15 of 21", call("twentyOne"));
    }

    /// @dev For a revert of the library itself.
    function finalize(C.Vote calldata vote) external pure returns (C.Checkpoint memory) {
        return C.finalized(vote, C.Rule.Ffg);
    }

    function call(string memory name) private view returns (uint256 gas) {
        Case memory it = load(name);
        gas = gasleft();
        verifier.verify(it.trust, it.certificate, it.signature, it.sets);
        gas -= gasleft();
    }

    /// @dev Sums so many keys, and verifies once: what the curve costs, without reading and digests. In a call of its own, whose memory
    /// is not already full of vectors: there each further word would cost more.
    function curve(string memory name, uint256 signers) private view returns (uint256) {
        Case memory it = load(name);
        bytes memory message = bytes.concat("finality-gadget vote 1\x00", part(it.certificate, BITMAP_LENGTH_AT));
        return this.measured(it.sets[0], signers, message, it.signature);
    }

    function measured(bytes memory set, uint256 signers, bytes memory message, bytes memory point)
        external
        view
        returns (uint256 gas)
    {
        Bls12381.G1 memory signature = pointAt(point);
        uint256[16] memory sum;
        gas = gasleft();
        for (uint256 i = 0; i < signers; ++i) {
            uint256 packed;
            assembly ("memory-safe") {
                packed := add(add(set, 36), mul(i, 196))
            }
            Bls12381.addPacked(sum, packed);
        }
        Bls12381.verify(message, "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_", Bls12381.pointOf(sum), signature);
        gas -= gasleft();
    }

    function pointAt(bytes memory signature) private pure returns (Bls12381.G1 memory point) {
        (point.xHigh, point.xLow) = coordinate(signature, 0);
        (point.yHigh, point.yLow) = coordinate(signature, 48);
    }

    function coordinate(bytes memory data, uint256 offset) private pure returns (uint256 high, uint256 low) {
        assembly ("memory-safe") {
            let from := add(add(data, 32), offset)
            high := shr(128, mload(from))
            low := mload(add(from, 16))
        }
    }

    /// @dev The same with the 48 bytes at `offset` taken from the field's prime.
    function negated(bytes memory data, uint256 offset) private pure returns (bytes memory changed) {
        (uint256 high, uint256 low) = coordinate(data, offset);
        uint256 lowPrime = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
        uint256 highPrime = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
        unchecked {
            high = highPrime - high - (low > lowPrime ? 1 : 0);
            low = lowPrime - low;
        }
        return bytes.concat(part(data, offset), abi.encodePacked(uint128(high), low), rest(data, offset + 48));
    }

    /// @dev The set with the negative of a member's key.
    function withNegated(bytes memory set, uint256 member) private pure returns (bytes memory) {
        uint256 y = 196 * member + 100;
        return negated(negated(set, y), y + 48);
    }

    function refused(Case memory it, bytes memory reason) private {
        vm.expectRevert(reason);
        verifier.verify(it.trust, it.certificate, it.signature, it.sets);
    }

    function reverts(Case memory it) private view returns (bool) {
        try verifier.verify(it.trust, it.certificate, it.signature, it.sets) returns (C.Vote memory) {
            return false;
        } catch {
            return true;
        }
    }

    function part(bytes memory data, uint256 length) private pure returns (bytes memory head) {
        head = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            head[i] = data[i];
        }
    }

    function rest(bytes memory data, uint256 from) private pure returns (bytes memory tail) {
        tail = new bytes(data.length - from);
        for (uint256 i = 0; i < tail.length; ++i) {
            tail[i] = data[from + i];
        }
    }

    function load(string memory name) private view returns (Case memory it) {
        it.trust.chainId = uint64(number(name, ".chainId"));
        it.trust.number = uint64(number(name, ".number"));
        it.trust.blockHash = word(name, ".blockHash");
        uint256[] memory boundaries = vm.parseJsonUintArray(json, string.concat(".", name, ".boundaries"));
        uint256[] memory ids = vm.parseJsonUintArray(json, string.concat(".", name, ".ids"));
        bytes32[] memory digests = vm.parseJsonBytes32Array(json, string.concat(".", name, ".digests"));
        it.trust.sets = new C.SetInForce[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            it.trust.sets[i] = C.SetInForce(uint64(boundaries[i]), uint64(ids[i]), digests[i]);
        }
        it.certificate = vm.parseJsonBytes(json, string.concat(".", name, ".certificate"));
        it.signature = vm.parseJsonBytes(json, string.concat(".", name, ".signature"));
        it.sets = vm.parseJsonBytesArray(json, string.concat(".", name, ".sets"));
    }

    function word(string memory name, string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, string.concat(".", name, path));
    }

    function number(string memory name, string memory path) private view returns (uint256) {
        return vm.parseJsonUint(json, string.concat(".", name, path));
    }
}
