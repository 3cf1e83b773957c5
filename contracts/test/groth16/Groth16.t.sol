// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ControlID, RiscZeroGroth16Verifier} from "risc0/src/groth16/RiscZeroGroth16Verifier.sol";
import {TestReceipt} from "risc0/test/TestReceiptV3_0.sol";

import {HostEarnings} from "../../src/HostEarnings.sol";
import {JobMarketplace} from "../../src/JobMarketplace.sol";
import {IJobMarketplace, SessionTerms} from "../../src/interfaces/IJobMarketplace.sol";
import {IRiscZeroVerifier} from "../../src/interfaces/IRiscZeroVerifier.sol";
import {Fixture, Journal} from "../support/Fixture.sol";
import {vm} from "../support/Vm.sol";

/// @dev The published receipt is about another guest's journal, and no seal about ours can be made here. This verifier insists on
/// being asked about our journal, and then asks the real one about the published one: seal, image id and the call are as they came.
contract AboutThePublishedJournal is IRiscZeroVerifier {
    IRiscZeroVerifier private immutable REAL;
    bytes32 private immutable OURS;

    constructor(IRiscZeroVerifier real, bytes32 ours) {
        REAL = real;
        OURS = ours;
    }

    function verify(bytes calldata seal, bytes32 imageId, bytes32 journalDigest) external view {
        require(journalDigest == OURS, "asked about another journal");
        REAL.verify(seal, imageId, sha256(TestReceipt.JOURNAL));
    }
}

/// @dev The marketplace against RISC Zero's own verifier with its published receipt of release 3.0. `scripts/groth16` brings both.
contract Groth16Test is Fixture {
    bytes4 private constant SELECTOR_3_0 = 0x73c457ba;
    /// @dev Points that are on no curve make the verifier's precompiles fail, and a precompile that fails takes all the gas that it was
    /// given: of these, 63 parts in 64.
    uint256 private constant GAS = 3_000_000;

    IRiscZeroVerifier private real;

    function setUp() public override {
        super.setUp();
        real = IRiscZeroVerifier(
            address(new RiscZeroGroth16Verifier(ControlID.CONTROL_ROOT, ControlID.BN254_CONTROL_ID))
        );
        (earnings, market) = marketFor(TestReceipt.IMAGE_ID);
    }

    function test_a_seal_is_a_selector_and_256_bytes() public view {
        vm.assertEq(TestReceipt.SEAL.length, 260, "length");
        vm.assertTrue(bytes4(TestReceipt.SEAL) == SELECTOR_3_0, "selector of release 3.0");
        vm.assertTrue(RiscZeroGroth16Verifier(address(real)).SELECTOR() == SELECTOR_3_0, "the verifier's own");
    }

    function test_the_real_verifier_understands_our_call() public view {
        real.verify(TestReceipt.SEAL, TestReceipt.IMAGE_ID, sha256(TestReceipt.JOURNAL));
    }

    function test_the_real_verifier_refuses_whatever_is_altered() public view {
        bytes32 said = sha256(TestReceipt.JOURNAL);
        vm.assertTrue(!holds(TestReceipt.SEAL, bytes32(uint256(TestReceipt.IMAGE_ID) ^ 1), said), "another guest");
        vm.assertTrue(!holds(TestReceipt.SEAL, TestReceipt.IMAGE_ID, bytes32(uint256(said) ^ 1)), "another journal");
        // The selector, and the last byte of each of the eight words.
        vm.assertTrue(!holds(altered(0), TestReceipt.IMAGE_ID, said), "another verifier's seal");
        for (uint256 word = 0; word < 8; ++word) {
            vm.assertTrue(!holds(altered(4 + 32 * word + 31), TestReceipt.IMAGE_ID, said), "an altered seal");
        }
    }

    function test_a_sealed_claim_is_paid_for_when_the_real_verifier_holds_its_seal() public {
        (uint256 jobId, Journal memory said, address verifier) = sealedJob();
        bytes32 digest = sha256(journalBytes(said));
        vm.expectCall(verifier, abi.encodeCall(IRiscZeroVerifier.verify, (TestReceipt.SEAL, TestReceipt.IMAGE_ID, digest)));
        vm.expectCall(
            address(real),
            abi.encodeCall(IRiscZeroVerifier.verify, (TestReceipt.SEAL, TestReceipt.IMAGE_ID, sha256(TestReceipt.JOURNAL)))
        );
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.ProofOfWork(jobId, HOST, 100, 100, said.headAfter, 2);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, groth16(said, TestReceipt.SEAL));
    }

    function test_a_sealed_claim_is_refused_when_the_real_verifier_refuses() public {
        (uint256 jobId, Journal memory said,) = sealedJob();
        for (uint256 word = 0; word < 8; ++word) {
            reject(jobId, groth16(said, altered(4 + 32 * word + 31)));
        }
        reject(jobId, groth16(said, altered(0)));
        reject(jobId, groth16(said, bytes.concat(SELECTOR_3_0)));
        Journal memory other = said;
        other.headAfter = keccak256("another head");
        reject(jobId, groth16(other, TestReceipt.SEAL));
    }

    function test_a_true_seal_of_something_else_is_refused() public {
        // The real verifier itself, with nothing between: the published seal holds, and is not about this claim.
        SessionTerms memory agreed = terms();
        agreed.verifier = address(real);
        uint256 jobId = create(agreed);
        vm.warp(START + 800);
        reject(jobId, groth16(journal(jobId, 100), TestReceipt.SEAL));
    }

    function test_a_true_seal_of_another_guest_is_refused() public {
        (earnings, market) = marketFor(keccak256("another guest"));
        (uint256 jobId, Journal memory said,) = sealedJob();
        reject(jobId, groth16(said, TestReceipt.SEAL));
    }

    /// @dev A job, the journal of its first claim, and the verifier that takes the published seal for exactly this journal.
    function sealedJob() private returns (uint256 jobId, Journal memory said, address verifier) {
        // The journal depends on the job's head, which does not depend on the verifier: read it off a twin.
        said = journal(create(terms()), 100);
        said.jobId += 1;
        said.headBefore = sha256(
            abi.encodePacked(
                "milepost:head:v1", block.chainid, address(market), said.jobId, HOST, MODEL, terms().saltCommitment
            )
        );
        verifier = address(new AboutThePublishedJournal(real, sha256(journalBytes(said))));
        SessionTerms memory agreed = terms();
        agreed.verifier = verifier;
        jobId = create(agreed);
        vm.warp(START + 800);
    }

    function marketFor(bytes32 imageId) private returns (HostEarnings purse, JobMarketplace place) {
        purse = HostEarnings(deploy(abi.encodePacked(initCode("HostEarnings"), abi.encode(registry))));
        bytes memory arguments = abi.encode(purse, registry, OWNER, FEE_BPS, imageId, WINDOW, false);
        place = JobMarketplace(deploy(abi.encodePacked(initCode("JobMarketplace"), arguments)));
        purse.bindMarketplace(address(place));
        vm.prank(OWNER);
        place.allowToken(address(usdc));
        vm.prank(CLIENT);
        usdc.approve(address(place), type(uint256).max);
    }

    /// @dev A claim of 100 tokens that the marketplace must refuse because its verifier did.
    function reject(uint256 jobId, bytes memory bits) private {
        vm.expectRevert(err(IJobMarketplace.ProofRejected.selector));
        vm.prank(HOST);
        market.submitProofOfWork{gas: GAS}(jobId, 100, bits);
    }

    function holds(bytes memory seal, bytes32 imageId, bytes32 journalDigest) private view returns (bool) {
        try real.verify{gas: GAS}(seal, imageId, journalDigest) {
            return true;
        } catch {
            return false;
        }
    }

    function altered(uint256 index) private pure returns (bytes memory seal) {
        seal = bytes.concat(TestReceipt.SEAL);
        seal[index] ^= 0x01;
    }

    function groth16(Journal memory said, bytes memory seal) private pure returns (bytes memory) {
        return abi.encode(uint8(2), journalBytes(said), seal, bytes(""));
    }
}
