// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobMarketplace} from "../src/JobMarketplace.sol";
import {HostEarnings} from "../src/HostEarnings.sol";
import {IJobMarketplace, SessionTerms} from "../src/interfaces/IJobMarketplace.sol";
import {OneStatementVerifier} from "./support/Accounts.sol";
import {Fixture, Journal} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract SealsTest is Fixture {
    bytes private constant SEAL = hex"73c457ba0011223344556677889900aabbccddeeff";

    function test_a_mock_proof_is_for_test_deployments() public {
        uint256 jobId = open();
        bytes memory bits = sealedProof(255, journal(jobId, 100), "");
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.ProofOfWork(jobId, HOST, 100, 100, journal(jobId, 100).headAfter, 255);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, bits);

        (earnings, market) = deployMarket(false);
        jobId = create(nativeTerms());
        vm.warp(START + 1_600);
        refuse(
            jobId, 100, sealedProof(255, journal(jobId, 100), ""), err(IJobMarketplace.MockProofRefused.selector)
        );
        claim(jobId, 100);
    }

    function test_other_kinds_do_not_exist() public {
        uint256 jobId = open();
        uint8[3] memory kinds = [0, 3, 254];
        for (uint256 i = 0; i < kinds.length; ++i) {
            bytes memory bits = sealedProof(kinds[i], journal(jobId, 100), "");
            refuse(jobId, 100, bits, err(IJobMarketplace.UnknownProofKind.selector, kinds[i]));
        }
        // 257 would read as 1 if only its lowest byte were looked at.
        bytes memory wide = abi.encode(uint256(257), journalBytes(journal(jobId, 100)), bytes(""), bytes(""));
        refuse(jobId, 100, wide, err(IJobMarketplace.UnknownProofKind.selector, 257));
    }

    function test_kinds_without_a_seal_carry_none() public {
        uint256 jobId = open();
        bytes memory none = err(IJobMarketplace.SealNotEmpty.selector);
        refuse(jobId, 100, sealedProof(1, journal(jobId, 100), hex"00"), none);
        refuse(jobId, 100, sealedProof(255, journal(jobId, 100), SEAL), none);
    }

    function test_a_seal_needs_a_verifier_in_the_terms() public {
        uint256 jobId = open();
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), SEAL), err(IJobMarketplace.NoVerifier.selector));
    }

    function test_with_a_verifier_only_verified_seals_are_accepted() public {
        uint256 jobId = verifiedJob(SEAL, IMAGE_ID);
        Journal memory said = journal(jobId, 100);
        refuse(jobId, 100, composite(said), err(IJobMarketplace.SealRequired.selector, 1));
        refuse(jobId, 100, sealedProof(255, said, ""), err(IJobMarketplace.SealRequired.selector, 255));
        bytes memory rejected = err(IJobMarketplace.ProofRejected.selector);
        refuse(jobId, 100, sealedProof(2, said, bytes.concat(SEAL, hex"00")), rejected);
        Journal memory other = journal(jobId, 100);
        other.headAfter = keccak256("another head");
        refuse(jobId, 100, sealedProof(2, other, SEAL), rejected);
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.ProofOfWork(jobId, HOST, 100, 100, said.headAfter, 2);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, sealedProof(2, said, SEAL));
    }

    function test_the_seal_is_verified_for_this_marketplaces_image() public {
        uint256 jobId = verifiedJob(SEAL, keccak256("another image"));
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), SEAL), err(IJobMarketplace.ProofRejected.selector));
    }

    function test_development_mode_seals_are_refused_unasked() public {
        bytes memory fake = hex"ffffffff00112233";
        uint256 jobId = verifiedJob(fake, IMAGE_ID);
        bytes memory refused = err(IJobMarketplace.FakeSeal.selector);
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), fake), refused);
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), hex"73c457"), refused);
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), ""), refused);
    }

    function test_a_verifier_whose_code_is_gone_verifies_nothing() public {
        uint256 jobId = verifiedJob(SEAL, IMAGE_ID);
        address verifier = market.getSession(jobId).terms.verifier;
        vm.etch(verifier, "");
        refuse(jobId, 100, sealedProof(2, journal(jobId, 100), SEAL), err(IJobMarketplace.ProofRejected.selector));
    }

    /// @dev A job whose verifier accepts one seal for the job's first claim of 100 tokens.
    function verifiedJob(bytes memory seal, bytes32 imageId) private returns (uint256 jobId) {
        SessionTerms memory agreed = terms();
        // The journal depends on the job's head, not on its verifier: read it off a twin.
        uint256 twin = create(agreed);
        Journal memory said = journal(twin, 100);
        said.jobId = twin + 1;
        said.headBefore = sha256(
            abi.encodePacked(
                "milepost:head:v1", block.chainid, address(market), twin + 1, HOST, MODEL, agreed.saltCommitment
            )
        );
        said.headAfter = keccak256(abi.encode(said.headBefore, uint256(100)));
        agreed.verifier = address(new OneStatementVerifier(seal, imageId, sha256(journalBytes(said))));
        jobId = create(agreed);
        vm.warp(START + 800);
    }

    function sealedProof(uint8 kind, Journal memory said, bytes memory seal) private pure returns (bytes memory) {
        return abi.encode(kind, journalBytes(said), seal, bytes(""));
    }
}
