// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobMarketplace, Session, SessionTerms, Status} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract ClosingTest is Fixture {
    function test_depositor_host_and_submitter_may_request_the_close_at_once() public {
        address[3] memory parties = [CLIENT, HOST, SUBMITTER];
        for (uint256 i = 0; i < parties.length; ++i) {
            uint256 jobId = create(terms());
            vm.expectEmit(true, true, false, true, address(market));
            emit IJobMarketplace.CloseRequested(jobId, parties[i], START + WINDOW);
            requestClose(jobId, parties[i]);
            assertStatus(jobId, Status.Closing);
            vm.assertEq(market.getSession(jobId).claimUntil, START + WINDOW, "an hour");
        }
    }

    function test_others_may_request_it_when_the_session_was_idle_too_long() public {
        uint256 jobId = create(terms());
        vm.assertEq(market.closableFrom(jobId), START + 900, "idle timeout from the start");
        vm.warp(START + 800);
        claim(jobId, 100);
        vm.assertEq(market.closableFrom(jobId), START + 1_700, "and from the last claim");
        vm.warp(START + 1_699);
        vm.expectRevert(err(IJobMarketplace.CloseTooEarly.selector, START + 1_700));
        requestClose(jobId, STRANGER);
        vm.warp(START + 1_700);
        requestClose(jobId, STRANGER);
        assertStatus(jobId, Status.Closing);
    }

    function test_others_may_request_it_when_the_session_lasted_too_long() public {
        SessionTerms memory agreed = terms();
        agreed.maxDuration = 1_000;
        uint256 jobId = create(agreed);
        vm.warp(START + 800);
        claim(jobId, 100);
        vm.assertEq(market.closableFrom(jobId), START + 1_000, "duration before idle timeout");
        vm.warp(START + 999);
        vm.expectRevert(err(IJobMarketplace.CloseTooEarly.selector, START + 1_000));
        requestClose(jobId, STRANGER);
        vm.warp(START + 1_000);
        requestClose(jobId, STRANGER);
    }

    function test_the_close_is_requested_once() public {
        uint256 jobId = create(terms());
        requestClose(jobId, CLIENT);
        vm.warp(START + 100);
        vm.expectRevert(err(IJobMarketplace.WrongStatus.selector, uint256(Status.Closing)));
        requestClose(jobId, HOST);
        vm.assertEq(market.getSession(jobId).claimUntil, START + WINDOW, "the window is not prolonged");
        vm.assertEq(market.closableFrom(jobId), 0, "nothing to close");
        finalize(jobId, HOST);
        vm.expectRevert(err(IJobMarketplace.WrongStatus.selector, uint256(Status.Completed)));
        requestClose(jobId, HOST);
    }

    function test_a_close_takes_no_proven_work() public {
        uint256 jobId = open();
        claim(jobId, 200);
        bytes memory bits = proof(jobId, 137);
        requestClose(jobId, CLIENT);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, 137, bits);
        finalize(jobId, HOST);
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), 337 * 2_000 * 9 / 10, "all 337 tokens");
    }

    function test_host_and_submitter_finalize_at_any_time() public {
        uint256 one = create(terms());
        finalize(one, HOST);
        assertStatus(one, Status.Completed);
        uint256 two = create(terms());
        requestClose(two, CLIENT);
        finalize(two, SUBMITTER);
        assertStatus(two, Status.Completed);
    }

    function test_others_finalize_after_the_window_and_not_before() public {
        address[2] memory others = [CLIENT, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            uint256 jobId = create(terms());
            uint256 until = block.timestamp + WINDOW;
            vm.expectRevert(err(IJobMarketplace.WrongStatus.selector, uint256(Status.Active)));
            finalize(jobId, others[i]);
            requestClose(jobId, CLIENT);
            vm.warp(until);
            vm.expectRevert(err(IJobMarketplace.FinalizeTooEarly.selector, until));
            finalize(jobId, others[i]);
            vm.warp(until + 1);
            finalize(jobId, others[i]);
            assertStatus(jobId, Status.Completed);
        }
    }

    function test_a_job_is_paid_once() public {
        uint256 jobId = open();
        claim(jobId, 500);
        finalize(jobId, HOST);
        uint256 paid = earnings.getBalance(HOST, address(usdc));
        address[3] memory callers = [HOST, CLIENT, STRANGER];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(err(IJobMarketplace.WrongStatus.selector, uint256(Status.Completed)));
            finalize(jobId, callers[i]);
        }
        vm.expectRevert(err(IJobMarketplace.WrongStatus.selector, uint256(Status.Completed)));
        vm.prank(HOST);
        market.completeSessionJob(jobId, "again");
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), paid, "paid once");
    }

    function test_jobs_that_do_not_exist_are_named() public {
        bytes memory unknown = err(IJobMarketplace.UnknownJob.selector, 5);
        vm.expectRevert(unknown);
        market.requestClose(5);
        vm.expectRevert(unknown);
        market.finalize(5);
        vm.expectRevert(unknown);
        market.completeSessionJob(5, "");
    }

    function test_the_originals_completion_by_the_host_finalizes() public {
        address[2] memory keys = [HOST, SUBMITTER];
        for (uint256 i = 0; i < keys.length; ++i) {
            uint256 jobId = create(terms());
            vm.expectEmit(true, true, false, true, address(market));
            emit IJobMarketplace.ConversationRecorded(jobId, keys[i], "bafy");
            vm.prank(keys[i]);
            market.completeSessionJob(jobId, "bafy");
            assertStatus(jobId, Status.Completed);
        }
    }

    function test_the_originals_completion_by_the_depositor_requests_the_close() public {
        uint256 jobId = create(terms());
        vm.prank(CLIENT);
        market.completeSessionJob(jobId, "bafy");
        assertStatus(jobId, Status.Closing);
        vm.expectRevert(err(IJobMarketplace.FinalizeTooEarly.selector, START + WINDOW));
        vm.prank(CLIENT);
        market.completeSessionJob(jobId, "bafy");
        vm.warp(START + WINDOW + 1);
        vm.prank(CLIENT);
        market.completeSessionJob(jobId, "bafy");
        assertStatus(jobId, Status.Completed);
    }

    function test_the_originals_completion_is_for_the_parties() public {
        uint256 jobId = create(terms());
        vm.warp(START + 10 * 86_400);
        vm.expectRevert(err(IJobMarketplace.NotParty.selector, STRANGER));
        vm.prank(STRANGER);
        market.completeSessionJob(jobId, "");
    }

    /// A host that vanishes costs the client time, never money: its deposit is back after timeout and window.
    function testFuzz_nobodys_silence_holds_money_beyond_the_window(uint64 duration, uint64 timeout, uint256 count)
        public
    {
        SessionTerms memory agreed = terms();
        agreed.maxDuration = uint64(bound(duration, 60, 365 days));
        agreed.timeoutSeconds = uint64(bound(timeout, 60, 365 days));
        uint256 jobId = create(agreed);
        count = bound(count, 0, 200);
        if (count >= 100) claim(jobId, count);
        uint256 spent = usdc.balanceOf(CLIENT);
        uint256 from = START + (agreed.maxDuration < agreed.timeoutSeconds ? agreed.maxDuration : agreed.timeoutSeconds);
        vm.warp(from);
        requestClose(jobId, STRANGER);
        vm.warp(from + WINDOW + 1);
        finalize(jobId, STRANGER);
        uint256 charge = count >= 100 ? count * agreed.pricePerToken : 0;
        vm.assertEq(usdc.balanceOf(CLIENT) - spent, agreed.deposit - charge, "refund");
    }
}
