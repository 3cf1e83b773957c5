// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Claim, IJobMarketplace, SessionTerms} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture, Journal} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract BatchTest is Fixture {
    function test_a_batch_claims_for_several_jobs() public {
        uint256[3] memory jobs = [open(), create(terms()), create(terms())];
        vm.warp(START + 1_600);
        Claim[] memory claims = new Claim[](3);
        for (uint256 i = 0; i < 3; ++i) {
            claims[i] = Claim(jobs[i], 100 + i, proof(jobs[i], 100 + i));
        }
        vm.prank(SUBMITTER);
        vm.assertEq(market.submitProofsOfWork(claims), 3, "all accepted");
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertEq(market.getSession(jobs[i]).tokensUsed, 100 + i, "counted");
        }
    }

    function test_two_claims_of_one_job_follow_each_other() public {
        uint256 jobId = open();
        Journal memory first = journal(jobId, 100);
        Journal memory second = journal(jobId, 150);
        second.firstSeq = 100;
        second.headBefore = first.headAfter;
        Claim[] memory claims = new Claim[](2);
        claims[0] = Claim(jobId, 100, composite(first));
        claims[1] = Claim(jobId, 150, composite(second));
        vm.prank(HOST);
        vm.assertEq(market.submitProofsOfWork(claims), 2, "both");
        vm.assertEq(market.getSession(jobId).tokensUsed, 250, "counted");
    }

    function test_a_bad_claim_is_told_and_does_not_stop_the_others() public {
        uint256 good = open();
        uint256 alsoGood = create(terms());
        vm.warp(START + 1_600);
        Claim[] memory claims = new Claim[](5);
        claims[0] = Claim(good, 100, proof(good, 100));
        claims[1] = Claim(good, 100, claims[0].proof); // a duplicate
        claims[2] = Claim(77, 100, claims[0].proof); // no such job
        claims[3] = Claim(alsoGood, 100, hex"c0ffee"); // not a proof
        claims[4] = Claim(alsoGood, 100, proof(alsoGood, 100));
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(good, 1, err(IJobMarketplace.WrongFirstSeq.selector, 100, 0));
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(77, 2, err(IJobMarketplace.UnknownJob.selector, 77));
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(alsoGood, 3, err(IJobMarketplace.MalformedProof.selector));
        vm.prank(HOST);
        vm.assertEq(market.submitProofsOfWork(claims), 2, "two accepted");
        vm.assertEq(market.getSession(good).tokensUsed, 100, "first");
        vm.assertEq(market.getSession(alsoGood).tokensUsed, 100, "last");
    }

    function test_the_callers_right_is_asked_for_each_host() public {
        address other = address(0x07);
        vm.prank(other);
        registry.register(other, "", "");
        uint256 mine = open();
        SessionTerms memory agreed = terms();
        agreed.host = other;
        uint256 theirs = create(agreed);
        vm.warp(START + 1_600);
        Claim[] memory claims = new Claim[](4);
        claims[0] = Claim(mine, 100, proof(mine, 100));
        claims[1] = Claim(theirs, 100, proof(theirs, 100));
        claims[2] = claims[1]; // a second time: a refusal must not be remembered as a right
        claims[3] = claims[0];
        bytes memory notHost = err(IJobMarketplace.NotHost.selector, SUBMITTER);
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(theirs, 1, notHost);
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(theirs, 2, notHost);
        vm.expectEmit(true, false, false, true, address(market));
        emit IJobMarketplace.ClaimRejected(mine, 3, err(IJobMarketplace.WrongFirstSeq.selector, 100, 0));
        vm.prank(SUBMITTER);
        vm.assertEq(market.submitProofsOfWork(claims), 1, "mine, once");
        vm.assertEq(market.getSession(theirs).tokensUsed, 0, "theirs untouched");
    }

    function test_a_batch_of_strangers_accepts_nothing() public {
        uint256 jobId = open();
        Claim[] memory claims = new Claim[](1);
        claims[0] = Claim(jobId, 100, proof(jobId, 100));
        vm.prank(STRANGER);
        vm.assertEq(market.submitProofsOfWork(claims), 0, "none");
        vm.assertEq(market.getSession(jobId).tokensUsed, 0, "untouched");
    }

    function test_a_batch_has_a_largest_size() public {
        vm.expectRevert(err(IJobMarketplace.BatchTooLarge.selector, 100, 101));
        market.submitProofsOfWork(new Claim[](101));
        vm.assertEq(market.submitProofsOfWork(new Claim[](0)), 0, "an empty one is nothing");
    }

    /// Whatever the bytes: a batch never reverts for them, and never accepts them.
    function testFuzz_no_bytes_stop_a_batch(bytes calldata noise, uint256 jobId, uint256 count) public {
        uint256 good = open();
        Claim[] memory claims = new Claim[](3);
        claims[0] = Claim(good, count, noise);
        claims[1] = Claim(jobId, count, noise);
        claims[2] = Claim(good, 100, proof(good, 100));
        vm.prank(HOST);
        vm.assertEq(market.submitProofsOfWork(claims), 1, "the good one alone");
    }

    /// The same for bytes that look like a proof but for some words.
    function testFuzz_no_words_stop_a_batch(uint256[4] calldata words, uint256[4] calldata places) public {
        uint256 good = open();
        bytes memory noise = proof(good, 100);
        for (uint256 i = 0; i < 4; ++i) {
            // All words but the new head, which is free.
            uint256 offset = bound(places[i], 0, 16) * 32;
            if (offset == 0xa0 + 288) offset = 0;
            uint256 value = words[i] % 3 == 0 ? words[i] : words[i] % 700;
            assembly {
                mstore(add(add(noise, 32), offset), value)
            }
        }
        vm.assume(keccak256(noise) != keccak256(proof(good, 100)));
        Claim[] memory claims = new Claim[](2);
        claims[0] = Claim(good, 100, noise);
        claims[1] = Claim(good, 100, proof(good, 100));
        vm.prank(HOST);
        market.submitProofsOfWork(claims);
        // A mock proof (kind 255) is the only other proof of the same claim here.
        vm.assertEq(market.getSession(good).tokensUsed, 100, "one of the two, once");
    }
}
