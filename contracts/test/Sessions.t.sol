// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobMarketplace} from "../src/JobMarketplace.sol";
import {TestUSDC} from "../src/TestUSDC.sol";
import {IHostEarnings} from "../src/interfaces/IHostEarnings.sol";
import {IHostRegistry} from "../src/interfaces/IHostRegistry.sol";
import {IJobMarketplace, Session, SessionTerms, Status} from "../src/interfaces/IJobMarketplace.sol";
import {Fixture} from "./support/Fixture.sol";
import {Wallet} from "./support/Accounts.sol";
import {FeeToken} from "./support/Tokens.sol";
import {vm} from "./support/Vm.sol";

contract SessionsTest is Fixture {
    function test_ids_count_from_one_and_the_session_holds_its_terms() public {
        SessionTerms memory agreed = terms();
        agreed.minimumCharge = 5_000;
        agreed.voucherSigner = vm.addr(SIGNER_KEY);
        agreed.voucherAllowance = 128;
        agreed.verifier = address(new Wallet(address(0)));
        uint256 jobId = create(agreed);
        vm.assertEq(jobId, 1, "first id");
        vm.assertEq(create(terms()), 2, "second id");
        vm.assertEq(market.jobCount(), 2, "count");

        Session memory session = market.getSession(1);
        vm.assertEq(abi.encode(session.terms), abi.encode(agreed), "terms");
        vm.assertEq(session.depositor, CLIENT, "depositor");
        assertStatus(1, Status.Active);
        vm.assertEq(session.startTime, START, "start");
        vm.assertEq(session.lastProofTime, START, "last proof");
        vm.assertEq(session.claimUntil, 0, "no closing yet");
        vm.assertEq(session.tokensUsed, 0, "nothing used");
        vm.assertEq(session.maxTokens, 1_000, "2 USDC at 0.002");
        vm.assertEq(session.voucherTokens, 0, "no voucher");
        vm.assertTrue(!session.closedToClaims, "open to claims");
        vm.assertEq(usdc.balanceOf(address(market)), 4e6, "both deposits");
    }

    function test_the_first_head_binds_chain_contract_job_host_model_and_salt() public {
        SessionTerms memory agreed = terms();
        uint256 jobId = create(agreed);
        bytes32 expected = sha256(
            abi.encodePacked(
                "milepost:head:v1",
                block.chainid,
                address(market),
                jobId,
                agreed.host,
                agreed.modelDigest,
                agreed.saltCommitment
            )
        );
        vm.assertEq(market.getSession(jobId).head, expected, "genesis head");
    }

    function test_creation_is_announced_with_terms_and_head() public {
        SessionTerms memory agreed = terms();
        agreed.expectedRate = 0;
        vm.recordLogs();
        uint256 jobId = create(agreed);
        agreed.expectedRate = 10;
        bytes memory expected = abi.encode(agreed, market.getSession(jobId).head);
        bytes memory found = vm.getRecordedLogs()[1].data; // 0 is the token's own Transfer
        vm.assertEq(found, expected, "terms as stored, and the head");
    }

    function test_a_rate_of_zero_means_ten_tokens_a_second() public {
        SessionTerms memory agreed = terms();
        agreed.expectedRate = 0;
        vm.assertEq(market.getSession(create(agreed)).terms.expectedRate, 10, "default rate");
    }

    function test_a_native_deposit_is_the_value() public {
        SessionTerms memory agreed = nativeTerms();
        uint256 jobId = create(agreed);
        vm.assertEq(address(market).balance, 1 ether, "held");
        vm.assertEq(market.getSession(jobId).maxTokens, 1_000, "tokens");
        vm.expectRevert(err(IJobMarketplace.WrongValue.selector, 1 ether, 1 ether - 1));
        vm.prank(CLIENT);
        market.createSession{value: 1 ether - 1}(agreed);
    }

    function test_value_with_a_token_deposit_is_refused() public {
        vm.expectRevert(err(IJobMarketplace.WrongValue.selector, 0, 1));
        vm.prank(CLIENT);
        market.createSession{value: 1}(terms());
    }

    function test_an_unknown_or_inactive_host_is_refused() public {
        SessionTerms memory agreed = terms();
        agreed.host = STRANGER;
        refused(agreed, err(IJobMarketplace.HostNotActive.selector, STRANGER));
        vm.prank(HOST);
        registry.setActive(false);
        refused(terms(), err(IJobMarketplace.HostNotActive.selector, HOST));
    }

    function test_only_allowed_tokens_pay() public {
        SessionTerms memory agreed = terms();
        TestUSDC other = TestUSDC(deploy(initCode("TestUSDC")));
        agreed.token = address(other);
        refused(agreed, err(IJobMarketplace.TokenNotAllowed.selector, address(other)));
        vm.prank(OWNER);
        market.disallowToken(address(usdc));
        refused(terms(), err(IJobMarketplace.TokenNotAllowed.selector, address(usdc)));
    }

    function test_a_token_that_takes_a_cut_is_refused() public {
        FeeToken token = new FeeToken();
        vm.prank(OWNER);
        market.allowToken(address(token));
        token.mint(CLIENT, 1e9);
        vm.prank(CLIENT);
        token.approve(address(market), 1e9);
        SessionTerms memory agreed = terms();
        agreed.token = address(token);
        refused(agreed, err(IJobMarketplace.WrongDepositReceived.selector, 2e6, 2e6 - 1));
    }

    function test_price_and_model_must_not_be_zero() public {
        SessionTerms memory agreed = terms();
        agreed.pricePerToken = 0;
        refused(agreed, err(IJobMarketplace.ZeroPrice.selector));
        agreed = terms();
        agreed.modelDigest = 0;
        refused(agreed, err(IJobMarketplace.ZeroModelDigest.selector));
    }

    function test_the_deposit_must_pay_for_one_least_claim() public {
        SessionTerms memory agreed = terms();
        agreed.deposit = 199_999;
        refused(agreed, err(IJobMarketplace.DepositTooSmall.selector, 200_000, 199_999));
        agreed.deposit = 200_000;
        vm.assertEq(market.getSession(create(agreed)).maxTokens, 100, "exactly one least claim");
    }

    function test_amounts_beyond_their_storage_are_refused() public {
        SessionTerms memory agreed = terms();
        agreed.deposit = uint256(type(uint96).max) + 1;
        refused(agreed, err(IJobMarketplace.AmountTooLarge.selector, type(uint96).max, agreed.deposit));
        agreed = terms();
        agreed.pricePerToken = uint256(type(uint64).max) + 1;
        refused(agreed, err(IJobMarketplace.AmountTooLarge.selector, type(uint64).max, agreed.pricePerToken));
        agreed = terms();
        agreed.minimumCharge = uint256(type(uint96).max) + 1;
        refused(agreed, err(IJobMarketplace.AmountTooLarge.selector, type(uint96).max, agreed.minimumCharge));
        agreed = terms();
        agreed.voucherSigner = CLIENT;
        agreed.voucherAllowance = uint64(type(uint48).max) + 1;
        refused(agreed, err(IJobMarketplace.AmountTooLarge.selector, type(uint48).max, agreed.voucherAllowance));
    }

    function test_durations_have_bounds() public {
        SessionTerms memory agreed = terms();
        agreed.maxDuration = 59;
        refused(agreed, durationError(59));
        agreed.maxDuration = 365 days + 1;
        refused(agreed, durationError(365 days + 1));
        agreed = terms();
        agreed.timeoutSeconds = 59;
        refused(agreed, durationError(59));
        agreed.timeoutSeconds = 365 days + 1;
        refused(agreed, durationError(365 days + 1));
        agreed.timeoutSeconds = 60;
        agreed.maxDuration = 365 days;
        create(agreed);
    }

    function test_a_verifier_must_be_a_contract() public {
        SessionTerms memory agreed = terms();
        agreed.verifier = STRANGER;
        refused(agreed, err(IJobMarketplace.VerifierNotAContract.selector, STRANGER));
    }

    function test_an_allowance_without_a_voucher_signer_is_refused() public {
        SessionTerms memory agreed = terms();
        agreed.voucherAllowance = 1;
        refused(agreed, err(IJobMarketplace.AllowanceWithoutSigner.selector));
    }

    function test_an_enormous_deposit_bills_at_most_the_largest_number_of_tokens() public {
        SessionTerms memory agreed = nativeTerms();
        agreed.pricePerToken = 1;
        vm.assertEq(market.getSession(create(agreed)).maxTokens, type(uint48).max, "saturated");
    }

    function test_a_job_that_does_not_exist_has_status_none() public view {
        assertStatus(7, Status.None);
    }

    function test_views_of_a_job_that_does_not_exist_name_it() public {
        vm.expectRevert(err(IJobMarketplace.UnknownJob.selector, 7));
        market.tokensAllowed(7);
        vm.expectRevert(err(IJobMarketplace.UnknownJob.selector, 7));
        market.closableFrom(7);
    }

    function test_a_test_deployment_needs_the_development_chain() public {
        vm.chainId(84532);
        deployRefused(
            marketCode(earnings, registry, FEE_BPS, WINDOW, true),
            err(IJobMarketplace.TestDeploymentRefused.selector, 84532)
        );
        deployRefused(initCode("TestUSDC"), err(TestUSDC.DevelopmentChainOnly.selector, 84532));
        JobMarketplace real = JobMarketplace(deploy(marketCode(earnings, registry, FEE_BPS, WINDOW, false)));
        vm.assertTrue(!real.testDeployment(), "a real deployment");
    }

    function test_a_careless_configuration_is_refused() public {
        bytes memory bad = err(IJobMarketplace.BadConfiguration.selector);
        deployRefused(marketCode(earnings, registry, 3_001, WINDOW, true), bad);
        deployRefused(marketCode(earnings, registry, FEE_BPS, 59, true), bad);
        deployRefused(marketCode(earnings, registry, FEE_BPS, 7 days + 1, true), bad);
        deployRefused(marketCode(IHostEarnings(STRANGER), registry, FEE_BPS, WINDOW, true), bad);
        deployRefused(marketCode(earnings, IHostRegistry(STRANGER), FEE_BPS, WINDOW, true), bad);
        deploy(marketCode(earnings, registry, 3_000, 60, true));
        deploy(marketCode(earnings, registry, 0, 7 days, true));
    }

    function test_the_constants_are_those_of_the_specification() public view {
        vm.assertEq(market.MIN_PROVEN_TOKENS(), 100, "least claim");
        vm.assertEq(market.RATE_BURST(), 200, "burst");
        vm.assertEq(market.RATE_FACTOR(), 2, "twice the expected rate");
        vm.assertEq(market.DEFAULT_EXPECTED_RATE(), 10, "tokens per second");
        vm.assertEq(market.feeBps(), 1_000, "ten per cent");
        vm.assertEq(market.claimWindow(), 3_600, "an hour");
        vm.assertEq(market.imageId(), IMAGE_ID, "image id");
        vm.assertEq(market.hostEarnings(), address(earnings), "earnings");
        vm.assertEq(market.hostRegistry(), address(registry), "registry");
        vm.assertTrue(market.testDeployment(), "test deployment");
    }

    function test_selectors_are_the_originals() public pure {
        vm.assertEq(bytes32(IJobMarketplace.submitProofOfWork.selector), bytes32(bytes4(0xc8c664ee)), "submit");
        vm.assertEq(bytes32(IJobMarketplace.completeSessionJob.selector), bytes32(bytes4(0x040138dd)), "complete");
        vm.assertEq(bytes32(IHostEarnings.withdraw.selector), bytes32(bytes4(0x00f714ce)), "withdraw");
        vm.assertEq(bytes32(IHostEarnings.withdrawAll.selector), bytes32(bytes4(0xfa09e630)), "withdrawAll");
    }

    function testFuzz_terms_come_back_as_they_went_in(SessionTerms memory agreed) public {
        agreed.host = HOST;
        agreed.token = NATIVE;
        agreed.pricePerToken = bound(agreed.pricePerToken, 1, type(uint64).max);
        agreed.deposit = bound(agreed.deposit, agreed.pricePerToken * 100, type(uint96).max);
        vm.assume(agreed.modelDigest != 0);
        if (agreed.expectedRate == 0) agreed.expectedRate = 1;
        agreed.maxDuration = uint64(bound(agreed.maxDuration, 60, 365 days));
        agreed.timeoutSeconds = uint64(bound(agreed.timeoutSeconds, 60, 365 days));
        agreed.minimumCharge = bound(agreed.minimumCharge, 0, type(uint96).max);
        if (agreed.verifier != address(0)) agreed.verifier = address(market);
        agreed.voucherAllowance =
            agreed.voucherSigner == address(0) ? 0 : uint64(bound(agreed.voucherAllowance, 0, type(uint48).max));
        vm.deal(CLIENT, agreed.deposit);
        Session memory session = market.getSession(create(agreed));
        vm.assertEq(abi.encode(session.terms), abi.encode(agreed), "terms");
        uint256 tokens = agreed.deposit / agreed.pricePerToken;
        vm.assertEq(session.maxTokens, tokens < type(uint48).max ? tokens : type(uint48).max, "tokens");
        vm.assertEq(session.startTime, START, "start");
        vm.assertEq(uint256(session.status), uint256(Status.Active), "status");
    }

    function refused(SessionTerms memory agreed, bytes memory expected) private {
        vm.expectRevert(expected);
        vm.prank(CLIENT);
        market.createSession(agreed);
    }

    function deployRefused(bytes memory code, bytes memory expected) private {
        vm.expectRevert(expected);
        deploy(code);
    }

    function durationError(uint256 asked) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(IJobMarketplace.DurationOutOfBounds.selector, uint256(60), uint256(365 days), asked);
    }
}
