// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HostEarnings} from "../src/HostEarnings.sol";
import {IHostEarnings} from "../src/interfaces/IHostEarnings.sol";
import {ClosedDepositor} from "./support/Accounts.sol";
import {Fixture} from "./support/Fixture.sol";
import {MoodyToken} from "./support/Tokens.sol";
import {vm} from "./support/Vm.sol";

contract HostEarningsTest is Fixture {
    function test_a_host_withdraws_to_its_payout_address() public {
        earn(200);
        vm.expectEmit(true, true, true, true, address(earnings));
        emit IHostEarnings.EarningsWithdrawn(HOST, address(usdc), PAYOUT, 60_000);
        vm.prank(HOST);
        earnings.withdraw(60_000, address(usdc));
        vm.assertEq(usdc.balanceOf(PAYOUT), 60_000, "a part");
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), 300_000, "the rest");
        vm.prank(HOST);
        earnings.withdrawAll(address(usdc));
        vm.assertEq(usdc.balanceOf(PAYOUT), 360_000, "all");
        vm.assertEq(earnings.getBalance(HOST, address(usdc)), 0, "empty");
        vm.assertEq(earnings.totalCredits(address(usdc)), 0, "total");
    }

    function test_a_new_payout_address_counts_from_then_on() public {
        earn(200);
        vm.prank(HOST);
        registry.setPayout(STRANGER);
        vm.prank(HOST);
        earnings.withdrawAll(address(usdc));
        vm.assertEq(usdc.balanceOf(STRANGER), 360_000, "new payout address");
    }

    function test_native_earnings_are_withdrawn() public {
        uint256 jobId = create(nativeTerms());
        claim(jobId, 100);
        finalize(jobId, HOST);
        vm.prank(HOST);
        earnings.withdrawAll(NATIVE);
        vm.assertEq(PAYOUT.balance, 0.09 ether, "withdrawn");
    }

    function test_a_submitter_key_withdraws_nothing() public {
        earn(200);
        vm.expectRevert(err(IHostEarnings.InsufficientBalance.selector, 0, 1));
        vm.prank(SUBMITTER);
        earnings.withdraw(1, address(usdc));
        vm.expectRevert(err(IHostEarnings.NothingToWithdraw.selector));
        vm.prank(SUBMITTER);
        earnings.withdrawAll(address(usdc));
    }

    function test_nobody_withdraws_more_than_it_has() public {
        earn(200);
        vm.expectRevert(err(IHostEarnings.InsufficientBalance.selector, 360_000, 360_001));
        vm.prank(HOST);
        earnings.withdraw(360_001, address(usdc));
        vm.expectRevert(err(IHostEarnings.NothingToWithdraw.selector));
        vm.prank(HOST);
        earnings.withdraw(0, address(usdc));
    }

    function test_a_payout_address_that_refuses_loses_nothing() public {
        ClosedDepositor closed = new ClosedDepositor(market);
        vm.prank(HOST);
        registry.setPayout(address(closed));
        uint256 jobId = create(nativeTerms());
        claim(jobId, 100);
        finalize(jobId, HOST);
        vm.expectRevert(err(IHostEarnings.PayoutRefused.selector, address(closed)));
        vm.prank(HOST);
        earnings.withdrawAll(NATIVE);
        vm.assertEq(earnings.getBalance(HOST, NATIVE), 0.09 ether, "still there");
    }

    function test_only_the_marketplace_credits() public {
        vm.expectRevert(err(IHostEarnings.NotMarketplace.selector, STRANGER));
        vm.prank(STRANGER);
        earnings.credit(HOST, NATIVE, 0);
    }

    function test_credits_come_with_their_money() public {
        vm.deal(address(market), 10);
        vm.expectRevert(err(IHostEarnings.WrongValue.selector, 10, 9));
        vm.prank(address(market));
        earnings.credit{value: 9}(HOST, NATIVE, 10);
        vm.expectRevert(err(IHostEarnings.WrongValue.selector, 0, 1));
        vm.prank(address(market));
        earnings.credit{value: 1}(HOST, address(usdc), 10);
        MoodyToken token = new MoodyToken();
        token.mint(address(market), 10);
        vm.prank(address(market));
        token.approve(address(earnings), 10);
        token.become(MoodyToken.Mood.TakesACut, address(0));
        vm.expectRevert(err(IHostEarnings.WrongAmountReceived.selector, 10, 9));
        vm.prank(address(market));
        earnings.credit(HOST, address(token), 10);
    }

    function test_the_marketplace_is_bound_once_by_the_deployer() public {
        HostEarnings fresh = HostEarnings(deploy(abi.encodePacked(initCode("HostEarnings"), abi.encode(registry))));
        vm.expectRevert(err(IHostEarnings.NotDeployer.selector, STRANGER));
        vm.prank(STRANGER);
        fresh.bindMarketplace(address(market));
        vm.expectRevert(err(IHostEarnings.NotAContract.selector, STRANGER));
        fresh.bindMarketplace(STRANGER);
        vm.expectEmit(true, false, false, true, address(fresh));
        emit IHostEarnings.MarketplaceBound(address(market));
        fresh.bindMarketplace(address(market));
        vm.expectRevert(err(IHostEarnings.AlreadyBound.selector, address(market)));
        fresh.bindMarketplace(address(registry));
        bytes memory code = abi.encodePacked(initCode("HostEarnings"), abi.encode(STRANGER));
        vm.expectRevert(err(IHostEarnings.NotAContract.selector, STRANGER));
        deploy(code);
    }

    function test_the_purse_takes_no_stray_coins() public {
        vm.deal(STRANGER, 1 ether);
        vm.prank(STRANGER);
        (bool ok,) = address(earnings).call{value: 1}("");
        vm.assertTrue(!ok, "refused");
    }

    function earn(uint256 tokens) private {
        uint256 jobId = create(terms());
        claim(jobId, tokens);
        finalize(jobId, HOST);
    }
}
