// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {HostEarnings} from "../src/HostEarnings.sol";
import {JobMarketplace} from "../src/JobMarketplace.sol";
import {IJobMarketplace, SessionTerms, Status} from "../src/interfaces/IJobMarketplace.sol";
import {ClosedDepositor, GreedyDepositor, ReentrantDepositor} from "./support/Accounts.sol";
import {Fixture} from "./support/Fixture.sol";
import {MoodyToken, SilentToken} from "./support/Tokens.sol";
import {vm} from "./support/Vm.sol";

contract PayoutsTest is Fixture {
    function test_the_specifications_example_to_the_unit() public {
        uint256 jobId = open();
        uint256 before = usdc.balanceOf(CLIENT);
        claim(jobId, 200);
        vm.expectEmit(true, true, true, true, address(market));
        emit IJobMarketplace.SessionCompleted(jobId, HOST, CLIENT, 200, 360_000, 40_000, 1_600_000);
        finalize(jobId, HOST);
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), 360_000, "0.36 to the host");
        vm.assertEq(market.treasuryBalance(address(usdc)), 40_000, "0.04 to the treasury");
        vm.assertEq(usdc.balanceOf(CLIENT) - before, 1_600_000, "1.60 back");
        vm.assertEq(usdc.balanceOf(address(market)), 40_000, "only the fee stays");
        vm.assertEq(usdc.balanceOf(address(earnings)), 360_000, "the host's share");
    }

    function test_native_sessions_pay_the_same_way() public {
        uint256 jobId = create(nativeTerms());
        vm.warp(START + 800);
        claim(jobId, 250);
        uint256 before = CLIENT.balance;
        finalize(jobId, HOST);
        vm.assertEq(earnings.getBalance(HOST, NATIVE), 0.225 ether, "host");
        vm.assertEq(address(earnings).balance, 0.225 ether, "held for the host");
        vm.assertEq(market.treasuryBalance(NATIVE), 0.025 ether, "treasury");
        vm.assertEq(CLIENT.balance - before, 0.75 ether, "refund");
    }

    function test_without_a_claim_the_whole_deposit_goes_back() public {
        SessionTerms memory agreed = terms();
        agreed.minimumCharge = 1e6;
        uint256 before = usdc.balanceOf(CLIENT);
        uint256 jobId = create(agreed);
        vm.expectEmit(true, true, true, true, address(market));
        emit IJobMarketplace.SessionCompleted(jobId, HOST, CLIENT, 0, 0, 0, 2e6);
        finalize(jobId, HOST);
        vm.assertEq(usdc.balanceOf(CLIENT), before, "all of it, whatever the minimum charge");
    }

    function test_a_minimum_charge_is_due_once_anything_was_claimed() public {
        SessionTerms memory agreed = terms();
        agreed.minimumCharge = 1e6;
        uint256 jobId = create(agreed);
        vm.warp(START + 800);
        claim(jobId, 100);
        vm.expectEmit(true, true, true, true, address(market));
        emit IJobMarketplace.SessionCompleted(jobId, HOST, CLIENT, 100, 900_000, 100_000, 1e6);
        finalize(jobId, HOST);
        jobId = create(agreed);
        vm.warp(START + 1_600);
        claim(jobId, 600);
        vm.expectEmit(true, true, true, true, address(market));
        emit IJobMarketplace.SessionCompleted(jobId, HOST, CLIENT, 600, 1_080_000, 120_000, 800_000);
        finalize(jobId, HOST);
    }

    function test_a_minimum_charge_above_the_deposit_takes_the_deposit() public {
        SessionTerms memory agreed = terms();
        agreed.minimumCharge = 3e6;
        uint256 jobId = create(agreed);
        claim(jobId, 100);
        vm.expectEmit(true, true, true, true, address(market));
        emit IJobMarketplace.SessionCompleted(jobId, HOST, CLIENT, 100, 1_800_000, 200_000, 0);
        finalize(jobId, HOST);
    }

    function testFuzz_the_split_is_exact(uint256 price, uint256 deposit, uint256 count, uint256 least) public {
        SessionTerms memory agreed = nativeTerms();
        agreed.pricePerToken = bound(price, 1, type(uint64).max);
        agreed.deposit = bound(deposit, agreed.pricePerToken * 100, type(uint96).max);
        agreed.minimumCharge = bound(least, 0, type(uint96).max);
        agreed.expectedRate = type(uint32).max;
        agreed.maxDuration = 365 days;
        vm.deal(CLIENT, agreed.deposit);
        uint256 jobId = create(agreed);
        vm.warp(START + 300 days);
        uint256 most = market.getSession(jobId).maxTokens;
        claim(jobId, count = bound(count, 100, most));
        finalize(jobId, HOST);
        uint256 charge = count * agreed.pricePerToken;
        if (charge < agreed.minimumCharge) charge = agreed.minimumCharge;
        if (charge > agreed.deposit) charge = agreed.deposit;
        uint256 fee = charge / 10;
        vm.assertEq(market.treasuryBalance(NATIVE), fee, "a tenth, rounded down");
        vm.assertEq(earnings.getBalance(HOST, NATIVE), charge - fee, "the host has the rest of the charge");
        vm.assertEq(CLIENT.balance, agreed.deposit - charge, "the client the rest of the deposit");
        vm.assertEq(address(market).balance, fee, "nothing else stays");
    }

    // ---- recipients and tokens that refuse ----

    function test_a_depositor_that_cannot_receive_holds_up_nobody() public {
        ClosedDepositor closed = new ClosedDepositor(market);
        uint256 jobId = nativeJobOf(closed);
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.CreditAdded(address(closed), NATIVE, 0.9 ether);
        finalize(jobId, HOST);
        vm.assertEq(earnings.getBalance(HOST, NATIVE), 0.09 ether, "the host is paid");
        vm.assertEq(market.credits(address(closed), NATIVE), 0.9 ether, "the refund waits");
        vm.expectRevert(err(IJobMarketplace.PaymentRefused.selector, address(closed)));
        closed.withdrawCredit();
        vm.assertEq(market.credits(address(closed), NATIVE), 0.9 ether, "a failed withdrawal loses nothing");
        closed.withdrawCreditTo(STRANGER);
        vm.assertEq(STRANGER.balance, 0.9 ether, "withdrawn elsewhere");
        vm.expectRevert(err(IJobMarketplace.NothingToWithdraw.selector));
        closed.withdrawCreditTo(STRANGER);
    }

    function test_a_depositor_that_burns_gas_gets_a_credit_and_costs_a_bounded_amount() public {
        GreedyDepositor greedy = new GreedyDepositor(market);
        uint256 jobId = nativeJobOf(greedy);
        uint256 before = gasleft();
        finalize(jobId, HOST);
        vm.assertLe(before - gasleft(), 250_000, "gas of a finalization");
        vm.assertEq(market.credits(address(greedy), NATIVE), 0.9 ether, "the refund waits");
    }

    /// Gas estimators search for the least gas with which a transaction succeeds: none may exist below what the push
    /// needs, or refunds to contracts would always end as credits.
    function testFuzz_too_little_gas_never_turns_a_refund_into_a_credit(uint256 gas) public {
        ReentrantDepositor depositor = new ReentrantDepositor(market); // accepts, but needs gas for it
        uint256 jobId = nativeJobOf(depositor);
        gas = bound(gas, 30_000, 400_000);
        vm.prank(HOST);
        (bool ok,) = address(market).call{gas: gas}(abi.encodeCall(market.finalize, (jobId)));
        vm.assertEq(market.credits(address(depositor), NATIVE), 0, "delivered, or not finalized");
        vm.assertEq(address(depositor).balance, ok ? 0.9 ether : 0, "delivered exactly when finalized");
    }

    function test_a_depositor_that_reenters_gains_nothing() public {
        ReentrantDepositor depositor = new ReentrantDepositor(market);
        uint256 jobId = nativeJobOf(depositor);
        depositor.watch(jobId);
        finalize(jobId, HOST);
        vm.assertEq(depositor.attempts(), 1, "it tried");
        vm.assertEq(depositor.successes(), 0, "in vain");
        vm.assertEq(address(depositor).balance, 0.9 ether, "refunded once");
    }

    function test_a_token_that_fails_towards_the_client_holds_up_nobody() public {
        for (uint256 mood = 1; mood <= 3; ++mood) {
            MoodyToken token = moodyToken();
            uint256 jobId = jobIn(address(token));
            token.become(MoodyToken.Mood(mood), CLIENT);
            uint256 before = gasleft();
            finalize(jobId, HOST);
            vm.assertLe(before - gasleft(), 600_000, "gas of a finalization");
            assertStatus(jobId, Status.Completed);
            vm.assertEq(earnings.getBalance(HOST, address(token)), 180_000, "the host is paid");
            vm.assertEq(market.credits(CLIENT, address(token)), 1_800_000, "the refund waits");
            token.become(MoodyToken.Mood.Good, address(0));
            vm.prank(CLIENT);
            market.withdrawCredit(address(token));
            vm.assertEq(token.balanceOf(CLIENT), 1_800_000, "and is withdrawn");
        }
    }

    function test_a_token_that_fails_towards_the_earnings_holds_up_nobody() public {
        for (uint256 mood = 1; mood <= 4; ++mood) {
            MoodyToken token = moodyToken();
            uint256 jobId = jobIn(address(token));
            token.become(MoodyToken.Mood(mood), address(earnings));
            uint256 before = gasleft();
            finalize(jobId, HOST);
            vm.assertLe(before - gasleft(), 700_000, "gas of a finalization");
            vm.assertEq(token.balanceOf(CLIENT), 1_800_000, "the client is refunded");
            vm.assertEq(earnings.getBalance(HOST, address(token)), 0, "no earnings that are not there");
            vm.assertEq(market.credits(HOST, address(token)), 180_000, "the host's share waits");
            vm.assertEq(token.balanceOf(address(market)), 200_000, "share and fee are here");
            token.become(MoodyToken.Mood.Good, address(0));
            vm.prank(HOST);
            market.withdrawCreditTo(address(token), PAYOUT);
            vm.assertEq(token.balanceOf(PAYOUT), 180_000, "and is withdrawn");
        }
    }

    function test_a_token_that_stopped_altogether_still_lets_jobs_end() public {
        MoodyToken token = moodyToken();
        uint256 jobId = jobIn(address(token));
        token.become(MoodyToken.Mood.Reverts, address(0));
        requestClose(jobId, CLIENT);
        vm.warp(block.timestamp + WINDOW + 1);
        finalize(jobId, STRANGER);
        vm.assertEq(market.credits(HOST, address(token)), 180_000, "host");
        vm.assertEq(market.credits(CLIENT, address(token)), 1_800_000, "client");
        vm.assertEq(market.treasuryBalance(address(token)), 20_000, "treasury");
    }

    function test_a_token_whose_code_is_gone_lets_jobs_end() public {
        MoodyToken token = moodyToken();
        uint256 jobId = jobIn(address(token));
        vm.etch(address(token), "");
        finalize(jobId, HOST);
        vm.assertEq(market.credits(HOST, address(token)), 180_000, "host");
        vm.assertEq(market.credits(CLIENT, address(token)), 1_800_000, "client");
    }

    function test_a_token_without_return_values_works() public {
        SilentToken token = new SilentToken();
        vm.prank(OWNER);
        market.allowToken(address(token));
        token.mint(CLIENT, 2e6);
        vm.prank(CLIENT);
        token.approve(address(market), 2e6);
        uint256 jobId = jobIn(address(token));
        finalize(jobId, HOST);
        vm.assertEq(token.balanceOf(CLIENT), 1_800_000, "client");
        vm.prank(HOST);
        earnings.withdrawAll(address(token));
        vm.assertEq(token.balanceOf(PAYOUT), 180_000, "host");
    }

    function test_a_disallowed_token_still_pays_open_sessions() public {
        uint256 jobId = open();
        claim(jobId, 100);
        vm.prank(OWNER);
        market.disallowToken(address(usdc));
        finalize(jobId, HOST);
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), 180_000, "host");
    }

    function test_earnings_that_were_never_bound_lose_nothing() public {
        earnings = HostEarnings(deploy(abi.encodePacked(initCode("HostEarnings"), abi.encode(registry))));
        market = JobMarketplace(deploy(marketCode(earnings, registry, FEE_BPS, WINDOW, true)));
        uint256 jobId = create(nativeTerms());
        claim(jobId, 100);
        finalize(jobId, HOST);
        vm.assertEq(market.credits(HOST, NATIVE), 0.09 ether, "the host's share waits here");
        vm.prank(HOST);
        market.withdrawCredit(NATIVE);
        vm.assertEq(HOST.balance, 0.09 ether, "withdrawn");
    }

    function test_nobody_withdraws_anothers_credit() public {
        ClosedDepositor closed = new ClosedDepositor(market);
        finalize(nativeJobOf(closed), HOST);
        address[3] memory others = [OWNER, HOST, STRANGER];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(err(IJobMarketplace.NothingToWithdraw.selector));
            vm.prank(others[i]);
            market.withdrawCredit(NATIVE);
        }
        vm.expectRevert(err(IJobMarketplace.ZeroAddress.selector));
        closed.withdrawCreditTo(address(0));
    }

    // ---- treasury and owner ----

    function test_the_owner_withdraws_fees_and_nothing_else() public {
        uint256 jobId = open();
        create(terms()); // an open deposit beside
        claim(jobId, 200);
        finalize(jobId, HOST);
        vm.expectRevert(err(Ownable.OwnableUnauthorizedAccount.selector, STRANGER));
        vm.prank(STRANGER);
        market.withdrawTreasury(address(usdc), STRANGER);
        vm.expectRevert(err(IJobMarketplace.ZeroAddress.selector));
        vm.prank(OWNER);
        market.withdrawTreasury(address(usdc), address(0));
        vm.expectEmit(true, true, false, true, address(market));
        emit IJobMarketplace.TreasuryWithdrawn(address(usdc), STRANGER, 40_000);
        vm.prank(OWNER);
        market.withdrawTreasury(address(usdc), STRANGER);
        vm.assertEq(usdc.balanceOf(STRANGER), 40_000, "the fee");
        vm.assertEq(usdc.balanceOf(address(market)), 2e6, "the open deposit");
        vm.expectRevert(err(IJobMarketplace.NothingToWithdraw.selector));
        vm.prank(OWNER);
        market.withdrawTreasury(address(usdc), STRANGER);
    }

    function test_a_native_treasury_that_is_refused_stays() public {
        uint256 jobId = create(nativeTerms());
        claim(jobId, 100);
        finalize(jobId, HOST);
        ClosedDepositor closed = new ClosedDepositor(market);
        vm.expectRevert(err(IJobMarketplace.PaymentRefused.selector, address(closed)));
        vm.prank(OWNER);
        market.withdrawTreasury(NATIVE, address(closed));
        vm.assertEq(market.treasuryBalance(NATIVE), 0.01 ether, "kept");
    }

    function test_only_the_owner_chooses_tokens() public {
        vm.expectRevert(err(Ownable.OwnableUnauthorizedAccount.selector, STRANGER));
        vm.prank(STRANGER);
        market.allowToken(STRANGER);
        vm.expectRevert(err(Ownable.OwnableUnauthorizedAccount.selector, STRANGER));
        vm.prank(STRANGER);
        market.disallowToken(address(usdc));
        vm.assertTrue(market.isTokenAllowed(address(usdc)), "unchanged");
    }

    function test_ownership_moves_in_two_steps() public {
        vm.prank(OWNER);
        market.transferOwnership(STRANGER);
        vm.assertEq(market.owner(), OWNER, "offered");
        vm.prank(STRANGER);
        market.acceptOwnership();
        vm.assertEq(market.owner(), STRANGER, "accepted");
    }

    function test_the_marketplace_takes_no_stray_coins() public {
        vm.deal(STRANGER, 1 ether);
        vm.prank(STRANGER);
        (bool ok,) = address(market).call{value: 1}("");
        vm.assertTrue(!ok, "refused");
    }

    // ---- helpers ----

    /// @dev A native job of 1 ETH at 0.001 with 100 tokens claimed.
    function nativeJobOf(ClosedDepositor depositor) private returns (uint256 jobId) {
        vm.deal(address(depositor), 1 ether);
        jobId = depositor.create(nativeTerms());
        vm.warp(START + 800);
        claim(jobId, 100);
    }

    function moodyToken() private returns (MoodyToken token) {
        token = new MoodyToken();
        vm.prank(OWNER);
        market.allowToken(address(token));
        token.mint(CLIENT, 2e6);
        vm.prank(CLIENT);
        token.approve(address(market), 2e6);
    }

    /// @dev A job of 2,000,000 units at 2,000 with 100 tokens claimed.
    function jobIn(address token) private returns (uint256 jobId) {
        SessionTerms memory agreed = terms();
        agreed.token = token;
        jobId = create(agreed);
        claim(jobId, 100);
    }
}
