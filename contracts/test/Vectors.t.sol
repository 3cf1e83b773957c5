// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {JobMarketplace} from "../src/JobMarketplace.sol";
import {Session, SessionTerms} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

/// @dev The frozen vectors of `docs/statement.md`, checked against a second implementation of its formulas and against
/// the marketplace itself, which is put at the vectors' address and given the vectors' job.
contract VectorsTest is Fixture {
    string private constant FILE = "../crates/statement/vectors/v1.json";
    string private json;

    function setUp() public override {
        super.setUp();
        json = vm.readFile(FILE);
    }

    function test_the_marketplace_accepts_the_vectors_from_first_head_to_last() public {
        uint256 jobId = vectorJob(address(0));
        vm.assertEq(market.getSession(jobId).head, word(".genesis"), "genesis");
        address host = location(".terms.host");
        vm.prank(host);
        market.submitProofOfWork(jobId, 137, vm.parseJsonBytes(json, ".proof"));
        Session memory session = market.getSession(jobId);
        vm.assertEq(session.head, word(".checkpoints[1].head"), "head after");
        vm.assertEq(session.tokensUsed, 137, "tokens");
    }

    function test_the_marketplace_accepts_the_vectors_voucher() public {
        address signer = location(".voucher.signed.signer");
        uint256 jobId = vectorJob(signer);
        vm.assertEq(market.voucherDigest(jobId, 137), word(".voucher.signed.digest"), "digest");
        bytes memory slip = abi.encode(uint256(137), vm.parseJsonBytes(json, ".voucher.signed.signature"));
        bytes memory bits = abi.encode(uint8(1), vm.parseJsonBytes(json, ".journal"), bytes(""), slip);
        vm.prank(location(".terms.host"));
        market.submitProofOfWork(jobId, 137, bits);
        vm.assertEq(market.getSession(jobId).voucherTokens, 137, "voucher");
    }

    function test_the_proof_is_the_encoding_of_the_journal() public view {
        bytes memory said = abi.encode(
            uint256(1),
            number(".terms.chainId"),
            location(".terms.marketplace"),
            number(".terms.jobId"),
            location(".terms.host"),
            word(".terms.modelDigest"),
            uint256(0),
            uint256(137),
            word(".genesis"),
            word(".checkpoints[1].head")
        );
        vm.assertEq(vm.parseJsonBytes(json, ".journal"), said, "journal");
        vm.assertEq(vm.parseJsonBytes(json, ".proof"), abi.encode(uint8(1), said, bytes(""), bytes("")), "proof");
    }

    function test_heads_follow_from_ids_and_turns() public view {
        vm.assertEq(sha256(abi.encode(word(".salt"))), word(".terms.saltCommitment"), "salt commitment");
        bytes32 head = word(".genesis");
        for (uint256 i = 0; i < 2; ++i) {
            string memory path = string.concat(".checkpoints[", vm.toString(i), "]");
            uint64 firstSeq = uint64(number(string.concat(path, ".firstSeq")));
            uint256[] memory ids = vm.parseJsonUintArray(json, string.concat(path, ".ids"));
            bytes32 turns = turnsDigest(path, firstSeq);
            vm.assertEq(turns, word(string.concat(path, ".turnsDigest")), "turns digest");
            head = sha256(
                abi.encodePacked("milepost:ckpt:v1", head, le64(firstSeq), le64(uint64(ids.length)), turns, le32s(ids))
            );
            vm.assertEq(head, word(string.concat(path, ".head")), "head");
        }
        vm.assertEq(openDigest(), word(".open.digest"), "open run");
    }

    function test_receipt_and_opening_are_the_signed_digests() public view {
        bytes32 receipt = keccak256(
            abi.encode(
                keccak256(
                    "TurnReceipt(uint256 jobId,bytes32 requestDigest,bytes32 sealedHead,uint256 sealedTokens,uint256 openTokens,bytes32 openDigest)"
                ),
                number(".terms.jobId"),
                requestDigest(vm.parseJsonString(json, ".turnReceipt.request")),
                word(".checkpoints[1].head"),
                number(".turnReceipt.sealedTokens"),
                number(".turnReceipt.openTokens"),
                openDigest()
            )
        );
        assertSigned(".turnReceipt.signed", receipt);
        bytes32 opening = keccak256(
            abi.encode(
                keccak256("SessionOpen(uint256 jobId,bytes32 challenge,uint256 expiresAt)"),
                number(".terms.jobId"),
                word(".sessionOpen.challenge"),
                number(".sessionOpen.expiresAt")
            )
        );
        assertSigned(".sessionOpen.signed", opening);
    }

    /// @dev Puts a marketplace at the vectors' address by running its constructor there, and counts up to their job.
    function vectorJob(address voucherSigner) private returns (uint256 jobId) {
        address place = location(".terms.marketplace");
        address host = location(".terms.host");
        vm.prank(host);
        registry.register(host, "", "");
        vm.etch(place, marketCode(earnings, registry, FEE_BPS, WINDOW, true));
        (bool ok, bytes memory code) = place.call("");
        require(ok, "constructor");
        vm.etch(place, code);
        market = JobMarketplace(place);

        SessionTerms memory agreed = nativeTerms();
        agreed.host = host;
        agreed.modelDigest = word(".terms.modelDigest");
        agreed.saltCommitment = word(".terms.saltCommitment");
        agreed.voucherSigner = voucherSigner;
        uint256 wanted = number(".terms.jobId");
        while (jobId < wanted) {
            jobId = create(agreed);
        }
        vm.assertEq(jobId, wanted, "job");
    }

    function assertSigned(string memory path, bytes32 message) private view {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Milepost"),
                keccak256("1"),
                number(".terms.chainId"),
                location(".terms.marketplace")
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, message));
        vm.assertEq(digest, word(string.concat(path, ".digest")), "digest");
        bytes memory signature = vm.parseJsonBytes(json, string.concat(path, ".signature"));
        vm.assertEq(ECDSA.recover(digest, signature), location(string.concat(path, ".signer")), "signer");
    }

    function turnsDigest(string memory path, uint64 firstSeq) private view returns (bytes32) {
        bytes memory turns;
        uint32 count = 0;
        while (true) {
            string memory turn = string.concat(path, ".turns[", vm.toString(count), "]");
            if (!vm.keyExistsJson(json, turn)) break;
            turns = bytes.concat(
                turns,
                le64(uint64(number(string.concat(turn, ".start")))),
                promptDigest(),
                samplerDigest(),
                requestDigest(vm.parseJsonString(json, string.concat(turn, ".request")))
            );
            ++count;
        }
        return sha256(abi.encodePacked("milepost:turn:v1", word(".salt"), le64(firstSeq), le32(count), turns));
    }

    function promptDigest() private view returns (bytes32 digest) {
        uint256[] memory ids = vm.parseJsonUintArray(json, ".prompt.ids");
        digest = sha256(abi.encodePacked("milepost:prom:v1", word(".salt"), le32s(ids)));
        vm.assertEq(digest, word(".prompt.digest"), "prompt digest");
    }

    /// @dev Solidity has no floats: 0.7 and 0.95 as IEEE-754 binary32.
    function samplerDigest() private view returns (bytes32 digest) {
        digest = sha256(
            abi.encodePacked(
                "milepost:samp:v1",
                le32(0x3f333333),
                le32(0x3f733333),
                le32(uint32(number(".sampler.topK"))),
                le64(uint64(number(".sampler.seed"))),
                le32(uint32(number(".sampler.maxTokens")))
            )
        );
        vm.assertEq(digest, word(".sampler.digest"), "sampler digest");
    }

    function requestDigest(string memory request) private pure returns (bytes32) {
        return sha256(abi.encodePacked("milepost:rqst:v1", request));
    }

    function openDigest() private view returns (bytes32) {
        uint256[] memory ids = vm.parseJsonUintArray(json, ".open.ids");
        uint64 firstSeq = uint64(number(".open.firstSeq"));
        return sha256(
            abi.encodePacked(
                "milepost:open:v1",
                word(".checkpoints[1].head"),
                le64(firstSeq),
                le64(uint64(ids.length)),
                le32s(ids)
            )
        );
    }

    function word(string memory key) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, key);
    }

    function number(string memory key) private view returns (uint256) {
        return vm.parseJsonUint(json, key);
    }

    function location(string memory key) private view returns (address) {
        return vm.parseJsonAddress(json, key);
    }

    function le32s(uint256[] memory values) private pure returns (bytes memory out) {
        for (uint256 i = 0; i < values.length; ++i) {
            out = bytes.concat(out, le32(uint32(values[i])));
        }
    }

    function le32(uint32 value) private pure returns (bytes memory out) {
        out = new bytes(4);
        for (uint256 i = 0; i < 4; ++i) {
            out[i] = bytes1(uint8(value >> (8 * i)));
        }
    }

    function le64(uint64 value) private pure returns (bytes memory) {
        return bytes.concat(le32(uint32(value)), le32(uint32(value >> 32)));
    }
}
