// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobMarketplace} from "../src/JobMarketplace.sol";
import {IJobMarketplace, Session, SessionTerms, Status} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture, Journal} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract ClaimsTest is Fixture {
    function test_a_claim_moves_the_count_the_head_and_the_time() public {
        uint256 jobId = open();
        Journal memory said = journal(jobId, 150);
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.ProofOfWork(jobId, HOST, 150, 150, said.headAfter, 1);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 150, composite(said));
        Session memory session = market.getSession(jobId);
        vm.assertEq(session.tokensUsed, 150, "tokens");
        vm.assertEq(session.head, said.headAfter, "head");
        vm.assertEq(session.lastProofTime, START + 800, "time");
        vm.assertEq(session.startTime, START, "start");
        vm.assertTrue(!session.closedToClaims, "open");
        assertStatus(jobId, Status.Active);

        said = journal(jobId, 100);
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.ProofOfWork(jobId, HOST, 100, 250, said.headAfter, 1);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, composite(said));
    }

    function test_a_claim_moves_no_money() public {
        uint256 jobId = open();
        claim(jobId, 500);
        vm.assertEq(usdc.balanceOf(address(market)), 2e6, "deposit untouched");
        vm.assertEq(usdc.balanceOf(address(earnings)), 0, "nothing credited");
    }

    function test_a_submitter_key_claims_for_its_host() public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        vm.prank(SUBMITTER);
        market.submitProofOfWork(jobId, 100, bits);
        vm.assertEq(market.getSession(jobId).tokensUsed, 100, "accepted");
    }

    function test_nobody_else_claims() public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        address[3] memory others = [STRANGER, CLIENT, OWNER];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(err(IJobMarketplace.NotHost.selector, others[i]));
            vm.prank(others[i]);
            market.submitProofOfWork(jobId, 100, bits);
        }
        vm.prank(HOST);
        registry.removeSubmitter(SUBMITTER);
        vm.expectRevert(err(IJobMarketplace.NotHost.selector, SUBMITTER));
        vm.prank(SUBMITTER);
        market.submitProofOfWork(jobId, 100, bits);
    }

    function test_anothers_submitter_key_does_not_claim() public {
        address other = address(0x07);
        vm.startPrank(other);
        registry.register(other, "", "");
        registry.addSubmitter(STRANGER);
        vm.stopPrank();
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        vm.expectRevert(err(IJobMarketplace.NotHost.selector, STRANGER));
        vm.prank(STRANGER);
        market.submitProofOfWork(jobId, 100, bits);
    }

    function test_a_host_that_went_inactive_still_claims_what_it_served() public {
        uint256 jobId = open();
        vm.prank(HOST);
        registry.setActive(false);
        claim(jobId, 100);
    }

    function test_a_job_that_does_not_exist_is_named() public {
        Journal memory said = journal(open(), 100);
        said.jobId = 9;
        refuse(9, 100, composite(said), err(IJobMarketplace.UnknownJob.selector, 9));
    }

    function test_each_journal_word_is_checked_under_its_own_name() public {
        uint256 jobId = open();
        claim(jobId, 100);
        Journal memory good = journal(jobId, 100);
        Journal memory bad = copy(good);
        bad.version = 2;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongVersion.selector, 2));
        bad = copy(good);
        bad.chainId = 1;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongChain.selector, 31337, 1));
        bad = copy(good);
        bad.marketplace = uint160(STRANGER);
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongMarketplace.selector, bad.marketplace));
        bad = copy(good);
        bad.jobId = jobId + 1;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongJob.selector, jobId, jobId + 1));
        bad = copy(good);
        bad.host = uint160(STRANGER);
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongHost.selector, uint160(HOST), bad.host));
        bad = copy(good);
        bad.modelDigest = keccak256("another file");
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongModel.selector, MODEL, bad.modelDigest));
        bad = copy(good);
        bad.firstSeq = 99;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongFirstSeq.selector, 100, 99));
        bad = copy(good);
        bad.count = 101;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongCount.selector, 100, 101));
        bad = copy(good);
        bad.headBefore = keccak256("another head");
        refuse(
            jobId, 100, composite(bad), err(IJobMarketplace.WrongHeadBefore.selector, good.headBefore, bad.headBefore)
        );
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, composite(good));
    }

    function test_an_address_word_with_dirty_upper_bits_is_refused() public {
        uint256 jobId = open();
        Journal memory bad = journal(jobId, 100);
        bad.host |= 1 << 160;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongHost.selector, uint160(HOST), bad.host));
        bad = journal(jobId, 100);
        bad.marketplace |= 1 << 255;
        refuse(jobId, 100, composite(bad), err(IJobMarketplace.WrongMarketplace.selector, bad.marketplace));
    }

    function test_a_duplicate_claim_is_refused() public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 100, bits);
        refuse(jobId, 100, bits, err(IJobMarketplace.WrongFirstSeq.selector, 100, 0));
    }

    function test_a_gap_and_a_reordering_are_refused() public {
        uint256 jobId = open();
        Journal memory first = journal(jobId, 100);
        Journal memory second = copy(first);
        second.firstSeq = 100;
        second.headBefore = first.headAfter;
        second.headAfter = keccak256("second");
        refuse(jobId, 100, composite(second), err(IJobMarketplace.WrongFirstSeq.selector, 0, 100));
        vm.startPrank(HOST);
        market.submitProofOfWork(jobId, 100, composite(first));
        market.submitProofOfWork(jobId, 100, composite(second));
        vm.stopPrank();
        vm.assertEq(market.getSession(jobId).head, second.headAfter, "both, in order");
    }

    function test_a_claim_for_one_job_serves_no_other() public {
        uint256 one = open();
        uint256 two = create(terms());
        vm.warp(START + 1_600);
        refuse(two, 100, proof(one, 100), err(IJobMarketplace.WrongJob.selector, two, one));
    }

    function test_a_fork_with_another_chain_id_takes_no_claims_of_the_first() public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        vm.chainId(31338);
        refuse(jobId, 100, bits, err(IJobMarketplace.WrongChain.selector, 31338, 31337));
    }

    function test_the_claim_and_its_journal_must_count_alike() public {
        uint256 jobId = open();
        refuse(jobId, 200, proof(jobId, 100), err(IJobMarketplace.WrongCount.selector, 200, 100));
    }

    function test_fewer_than_the_minimum_are_refused_while_active() public {
        uint256 jobId = open();
        refuse(jobId, 99, proof(jobId, 99), err(IJobMarketplace.BelowMinimum.selector, 100, 99));
        refuse(jobId, 0, proof(jobId, 0), err(IJobMarketplace.BelowMinimum.selector, 100, 0));
    }

    function test_one_small_claim_is_accepted_in_closing_and_is_the_last() public {
        uint256 jobId = open();
        claim(jobId, 200);
        requestClose(jobId, CLIENT);
        refuse(jobId, 0, proof(jobId, 0), err(IJobMarketplace.BelowMinimum.selector, 1, 0));
        claim(jobId, 100);
        claim(jobId, 1);
        vm.assertTrue(market.getSession(jobId).closedToClaims, "closed to claims");
        vm.assertEq(market.getSession(jobId).tokensUsed, 301, "all counted");
        refuse(jobId, 100, proof(jobId, 100), err(IJobMarketplace.ClosedToClaims.selector));
        refuse(jobId, 1, proof(jobId, 1), err(IJobMarketplace.ClosedToClaims.selector));
    }

    function test_claims_are_accepted_up_to_the_end_of_the_window_inclusive() public {
        uint256 jobId = open();
        requestClose(jobId, HOST);
        uint256 until = block.timestamp + WINDOW;
        vm.warp(until);
        claim(jobId, 100);
        vm.warp(until + 1);
        refuse(jobId, 100, proof(jobId, 100), err(IJobMarketplace.ClaimWindowOver.selector, until));
    }

    function test_an_active_job_takes_claims_after_its_duration_until_somebody_closes_it() public {
        uint256 jobId = open();
        vm.warp(START + 10 * 86_400);
        claim(jobId, 100);
        requestClose(jobId, STRANGER);
        claim(jobId, 50);
        vm.assertEq(market.getSession(jobId).tokensUsed, 150, "both");
    }

    function test_a_completed_job_takes_no_claims() public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        finalize(jobId, HOST);
        refuse(jobId, 100, bits, err(IJobMarketplace.WrongStatus.selector, uint256(Status.Completed)));
    }

    function test_claims_never_exceed_the_deposit() public {
        uint256 jobId = open();
        claim(jobId, 900);
        refuse(jobId, 101, proof(jobId, 101), err(IJobMarketplace.DepositExceeded.selector, 1_000, 1_001));
        claim(jobId, 100);
    }

    function test_a_count_that_wraps_around_is_refused() public {
        uint256 jobId = open();
        claim(jobId, 100);
        uint256 count = type(uint256).max - 49;
        refuse(jobId, count, proof(jobId, count), err(IJobMarketplace.DepositExceeded.selector, 1_000, 50));
    }

    function test_the_rate_cap_is_cumulative_so_waiting_is_never_forfeited() public {
        uint256 jobId = create(terms());
        vm.assertEq(market.tokensAllowed(jobId), 200, "the burst at once");
        claim(jobId, 200);
        vm.warp(START + 5);
        vm.assertEq(market.tokensAllowed(jobId), 300, "twice ten a second, five seconds, and the burst");
        refuse(jobId, 101, proof(jobId, 101), err(IJobMarketplace.RateCapExceeded.selector, 300, 301));
        claim(jobId, 100);
        // Idle for 30 seconds: the whole of it can be claimed later.
        vm.warp(START + 35);
        claim(jobId, 600);
        vm.assertEq(market.getSession(jobId).tokensUsed, 900, "20 tokens/s over 35 s and the burst");
    }

    function test_the_rate_cap_also_holds_in_closing() public {
        uint256 jobId = create(terms());
        requestClose(jobId, CLIENT);
        refuse(jobId, 201, proof(jobId, 201), err(IJobMarketplace.RateCapExceeded.selector, 200, 201));
        vm.warp(START + 1);
        claim(jobId, 220);
    }

    function test_a_malformed_proof_is_refused_not_misread() public {
        uint256 jobId = open();
        bytes memory good = proof(jobId, 100);
        bytes memory malformed = err(IJobMarketplace.MalformedProof.selector);
        refuse(jobId, 100, "", malformed);
        refuse(jobId, 100, new bytes(100), malformed);
        refuse(jobId, 100, bytes.concat(good, bytes32(0)), malformed);
        // Each pointer moved, each length out of range.
        refuse(jobId, 100, patched(good, 0x20, 0xa0), malformed);
        refuse(jobId, 100, patched(good, 0x40, 0x1c0), malformed);
        refuse(jobId, 100, patched(good, 0x60, 0x1e0), malformed);
        refuse(jobId, 100, patched(good, 0x1e0, 1), malformed);
        refuse(jobId, 100, patched(good, 0x1e0, type(uint256).max), malformed);
        refuse(jobId, 100, patched(good, 0x200, 1), malformed);
        refuse(jobId, 100, patched(good, 0x200, type(uint256).max), malformed);
        bytes memory short = good;
        assembly {
            mstore(short, 543)
        }
        refuse(jobId, 100, short, malformed);
    }

    function test_a_journal_of_another_length_is_named() public {
        uint256 jobId = open();
        bytes memory tail = bytes.concat(journalBytes(journal(jobId, 100)), bytes32(0));
        bytes memory bits = abi.encode(uint8(1), tail, bytes(""), bytes(""));
        refuse(jobId, 100, bits, err(IJobMarketplace.WrongJournalLength.selector, 352));
        bits = abi.encode(uint8(1), bytes(""), bytes(""), bytes(""));
        refuse(jobId, 100, bits, err(IJobMarketplace.WrongJournalLength.selector, 0));
    }

    /// Whatever the sequence of claims and waits: what is accepted is exactly what the rules allow.
    function testFuzz_claims_are_accepted_exactly_when_the_rules_allow(uint256[12] calldata counts, uint256 seed)
        public
    {
        SessionTerms memory agreed = terms();
        agreed.deposit = bound(seed, 100, 3_000) * agreed.pricePerToken;
        agreed.expectedRate = uint32(bound(seed >> 32, 1, 40));
        agreed.maxDuration = 365 days;
        uint256 jobId = create(agreed);
        uint256 most = agreed.deposit / agreed.pricePerToken;
        uint256 used = 0;
        uint256 elapsed = 0;
        for (uint256 i = 0; i < counts.length; ++i) {
            uint256 count = bound(counts[i], 0, 700);
            elapsed += (counts[i] >> 128) % 40;
            vm.warp(START + elapsed);
            uint256 cap = 2 * uint256(agreed.expectedRate) * elapsed + 200;
            vm.assertEq(market.tokensAllowed(jobId), cap, "the view tells the cap");
            bytes memory bits = proof(jobId, count);
            vm.prank(HOST);
            (bool ok,) = address(market).call(abi.encodeCall(market.submitProofOfWork, (jobId, count, bits)));
            vm.assertEq(ok, count >= 100 && used + count <= most && used + count <= cap, "accepted as the rules say");
            if (ok) used += count;
            vm.assertEq(market.getSession(jobId).tokensUsed, used, "counted");
        }
    }

    /// One flipped bit anywhere in the proof either changes the head after the claim alone, or refuses the claim.
    function testFuzz_no_bit_of_a_proof_is_ignored(uint256 position) public {
        uint256 jobId = open();
        bytes memory bits = proof(jobId, 100);
        bytes32 headAfter = journal(jobId, 100).headAfter;
        position = bound(position, 0, bits.length * 8 - 1);
        bits[position / 8] ^= bytes1(uint8(1 << (position % 8)));
        vm.prank(HOST);
        (bool ok,) = address(market).call(abi.encodeCall(market.submitProofOfWork, (jobId, 100, bits)));
        uint256 place = position / 8;
        bool inHeadAfter = place >= 0xa0 + 288 && place < 0xa0 + 320;
        vm.assertEq(ok, inHeadAfter, "only the new head is free");
        if (ok) vm.assertTrue(market.getSession(jobId).head != headAfter, "and it is taken as it stands");
    }

    function copy(Journal memory said) private pure returns (Journal memory) {
        return abi.decode(abi.encode(said), (Journal));
    }

    function patched(bytes memory bits, uint256 offset, uint256 value) private pure returns (bytes memory changed) {
        changed = bytes.concat(bits);
        assembly {
            mstore(add(add(changed, 32), offset), value)
        }
    }
}
