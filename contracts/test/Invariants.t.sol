// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Session, Status} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture} from "./support/Fixture.sol";
import {Handler} from "./support/Handler.sol";
import {vm} from "./support/Vm.sol";

/// @dev What must hold after any sequence of calls, with contracts that refuse coins and a token that misbehaves.
contract InvariantsTest is Fixture {
    Handler private handler;

    function setUp() public override {
        super.setUp();
        handler = new Handler(market, earnings, registry, usdc);
    }

    /// @dev Forge asks for this by name: calls go to the handler alone.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev Forge asks for this by name too: `drain` ends everything, so it belongs to the end alone.
    function excludeSelectors() public view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        excluded[0].addr = address(handler);
        excluded[0].selectors = new bytes4[](1);
        excluded[0].selectors[0] = handler.drain.selector;
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    /// forge-config: default.invariant.fail-on-revert = true
    function invariant_the_books_balance_and_nothing_is_paid_twice() public view {
        marketplaceHoldsOpenDepositsCreditsAndTreasury();
        earningsHoldTheirCredits();
        noJobBillsMoreThanItMay();
    }

    /// @dev Forge calls this at the end of each run.
    function afterInvariant() public {
        handler.drain();
        for (uint256 t = 0; t < 3; ++t) {
            address token = handler.tokens(t);
            vm.assertEq(handler.balanceOf(token, address(market)), 0, "nothing is left in the marketplace");
            vm.assertEq(handler.balanceOf(token, address(earnings)), 0, "nothing is left in the earnings");
        }
        for (uint256 jobId = 1; jobId <= market.jobCount(); ++jobId) {
            vm.assertEq(handler.payouts(jobId), 1, "each job is paid exactly once");
        }
    }

    function marketplaceHoldsOpenDepositsCreditsAndTreasury() private view {
        for (uint256 t = 0; t < 3; ++t) {
            address token = handler.tokens(t);
            uint256 owed = market.treasuryBalance(token);
            for (uint256 jobId = 1; jobId <= market.jobCount(); ++jobId) {
                Session memory session = market.getSession(jobId);
                if (session.terms.token == token && session.status != Status.Completed) owed += session.terms.deposit;
            }
            for (uint256 i = 0; i < 6; ++i) {
                owed += market.credits(i < 4 ? handler.depositors(i) : handler.hosts(i - 4), token);
            }
            vm.assertEq(handler.balanceOf(token, address(market)), owed, "marketplace = deposits + credits + treasury");
        }
    }

    function earningsHoldTheirCredits() private view {
        for (uint256 t = 0; t < 3; ++t) {
            address token = handler.tokens(t);
            uint256 owed = earnings.getBalance(handler.hosts(0), token) + earnings.getBalance(handler.hosts(1), token);
            vm.assertEq(handler.balanceOf(token, address(earnings)), owed, "earnings = balances");
            vm.assertEq(earnings.totalCredits(token), owed, "earnings = total");
        }
    }

    function noJobBillsMoreThanItMay() private view {
        for (uint256 jobId = 1; jobId <= market.jobCount(); ++jobId) {
            Session memory session = market.getSession(jobId);
            vm.assertEq(session.tokensUsed, handler.claimed(jobId), "used = accepted claims");
            vm.assertLe(session.tokensUsed * session.terms.pricePerToken, session.terms.deposit, "within the deposit");
            vm.assertLe(session.tokensUsed, market.tokensAllowed(jobId), "within the rate");
            vm.assertLe(handler.payouts(jobId), session.status == Status.Completed ? 1 : 0, "paid once, at the end");
        }
    }

    /// The random sessions above are only worth something if they reach every kind of event.
    function test_random_play_reaches_every_kind_of_event() public {
        uint256 seed = 1;
        bytes32[9] memory kinds = [
            bytes32("create"),
            "claim",
            "last claim",
            "batched claim",
            "close",
            "payout",
            "withdraw",
            "credit",
            "treasury"
        ];
        for (uint256 i = 0; i < 600; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            uint256 other = uint256(keccak256(abi.encode("other", seed)));
            uint256 action = (seed >> 240) % 11;
            if (action == 0) handler.create(seed, other, other >> 64, other >> 128);
            else if (action == 1) handler.claim(seed, other % 3 == 0 ? other % 100 : other, seed % 2 == 0);
            else if (action == 2) handler.claimBatch(seed, other);
            else if (action == 3) handler.requestClose(seed, other);
            else if (action == 4 && other % 4 == 0) handler.finalize(seed, other >> 8);
            else if (action == 5 && other % 4 == 0) handler.complete(seed, other >> 8);
            else if (action == 6) handler.wait(seed);
            else if (action == 7) handler.withdrawEarnings(seed, other);
            else if (action == 8) handler.withdrawCredit(seed);
            else if (action == 9) handler.withdrawTreasury(seed);
            else if (action == 10) handler.changeMood(seed);
            this.invariant_the_books_balance_and_nothing_is_paid_twice();
        }
        for (uint256 i = 0; i < kinds.length; ++i) {
            vm.assertTrue(handler.done(kinds[i]) != 0, string.concat("never reached: ", string(abi.encode(kinds[i]))));
        }
        afterInvariant();
    }
}
