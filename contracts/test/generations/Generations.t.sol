// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BytesForm, HashForm, PreciseHashForm} from "../../generations/Generations2025.sol";
import {SignedDeltaForm, SignedForm, TimeoutForm} from "../../generations/Generations2026.sol";
import {DeployedEarnings} from "../../generations/DeployedEarnings.sol";
import {DeployedMarketplace} from "../../generations/DeployedMarketplace.sol";
import {Cloner, StorageProxy} from "../../generations/Proxies.sol";
import {TestUSDC} from "../../src/TestUSDC.sol";
import {vm} from "../support/Vm.sol";

/// @dev The same stories for every generation: what differs is said by the hooks.
abstract contract GenerationTest {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant WINDOW = 30;
    uint256 internal constant FEE = 1_000;
    uint256 internal constant HOST_KEY = 0xa11ce;
    address internal constant CLIENT = address(0xc11e47);
    address internal constant STRANGER = address(0x57a9);

    address internal host;
    address internal market;
    DeployedEarnings internal earnings;
    TestUSDC internal usdc;

    function made() internal virtual returns (DeployedMarketplace);
    function rate() internal pure virtual returns (uint256);
    function precision() internal pure virtual returns (uint256);
    function strangersComplete() internal pure virtual returns (bool);
    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal view virtual returns (bytes memory);
    function completion(uint256 job) internal pure virtual returns (bytes memory);

    function opening(uint256 deposit, uint256 price) internal view virtual returns (bytes memory) {
        return abi.encodeWithSignature(
            "createSessionJobWithToken(address,address,uint256,uint256,uint256,uint256)", host, usdc, deposit, price, 3_600, 100
        );
    }

    function setUp() public {
        vm.chainId(31337);
        vm.warp(START);
        host = vm.addr(HOST_KEY);
        earnings = new DeployedEarnings();
        usdc = new TestUSDC();
        market = address(made());
        earnings.admit(market);
    }

    function test_claims_are_paid_at_completion_and_not_before() public {
        uint256 job = open();
        vm.warp(START + 10);
        claim(job, 100, "one");
        vm.warp(START + 20);
        claim(job, 100, "two");
        vm.assertEq(earnings.getBalance(host, address(usdc)), 0, "only accrued");
        vm.warp(START + WINDOW);
        must(host, completion(job));
        vm.assertEq(earnings.getBalance(host, address(usdc)), 360_000, "nine tenths");
        vm.assertEq(usdc.balanceOf(CLIENT), 1_600_000, "the rest");
        vm.assertEq(usdc.balanceOf(market), 40_000, "fee");
        vm.prank(host);
        earnings.withdrawAll(address(usdc));
        vm.assertEq(usdc.balanceOf(host), 360_000, "withdrawn");
        refused(host, claimOf(job, 100, "three"), "Session not active");
    }

    function test_a_claim_keeps_the_minimum_the_rate_and_the_deposit() public {
        uint256 job = open();
        refused(CLIENT, claimOf(job, 100, "one"), "Only host can submit proof");
        refused(host, claimOf(job, 99, "one"), "Must claim minimum tokens");
        refused(host, claimOf(job, 100, "one"), "Excessive tokens claimed");
        vm.warp(START + 40);
        refused(host, claimOf(job, 80 * rate() + 1, "one"), "Excessive tokens claimed");
        vm.warp(START + 100);
        refused(host, claimOf(job, 1_001, "one"), "Exceeds deposit");
        claim(job, 1_000, "one");
    }

    function test_what_the_rate_did_not_need_is_forfeited_by_the_next_claim() public {
        uint256 job = open();
        vm.warp(START + 50);
        claim(job, 100, "one");
        refused(host, claimOf(job, 100, "two"), "Excessive tokens claimed");
    }

    function test_a_proof_is_taken_once() public {
        uint256 job = open();
        vm.warp(START + 10);
        claim(job, 100, "one");
        vm.warp(START + 20);
        refused(host, claimOf(job, 100, "one"), "Proof already submitted");
    }

    function test_whoever_is_not_the_depositor_waits_for_the_dispute_window() public {
        uint256 job = open();
        refused(host, completion(job), "Must wait dispute window");
        vm.warp(START + WINDOW);
        if (strangersComplete()) must(STRANGER, completion(job));
        else refused(STRANGER, completion(job), "Only depositor or host can complete");
        uint256 other = open();
        must(CLIENT, completion(other));
        vm.assertEq(usdc.balanceOf(CLIENT), strangersComplete() ? 4_000_000 : 2_000_000, "given back");
    }

    function test_a_session_without_proofs_can_be_timed_out_by_anyone() public {
        uint256 job = open();
        vm.warp(START + 10);
        claim(job, 100, "one");
        bytes memory timeout = abi.encodeWithSignature("triggerSessionTimeout(uint256)", job);
        vm.warp(START + 10 + 300);
        refused(STRANGER, timeout, "Session not timed out");
        vm.warp(START + 10 + 301);
        must(STRANGER, timeout);
        vm.assertEq(earnings.getBalance(host, address(usdc)), 180_000, "what was claimed");
        vm.assertEq(usdc.balanceOf(CLIENT), 1_800_000, "the rest");
    }

    function test_proxies_keep_the_rules_and_a_store_of_their_own() public {
        address[2] memory proxies = [address(new StorageProxy(market)), new Cloner().clone(market)];
        for (uint256 i = 0; i < proxies.length; i++) {
            vm.warp(START);
            market = proxies[i];
            earnings.admit(market);
            uint256 job = open();
            vm.assertEq(job, 1, "its own numbers");
            vm.warp(START + 40);
            claim(job, 100, bytes32(i));
            must(host, completion(job));
        }
        vm.assertEq(earnings.getBalance(host, address(usdc)), 360_000, "both");
    }

    function open() internal returns (uint256 job) {
        usdc.mint(CLIENT, 2_000_000);
        vm.prank(CLIENT);
        usdc.approve(market, 2_000_000);
        // 0.002 USDC for each token.
        job = abi.decode(must(CLIENT, opening(2_000_000, 2_000 * precision())), (uint256));
    }

    function claim(uint256 job, uint256 tokens, bytes32 proof) internal {
        must(host, claimOf(job, tokens, proof));
    }

    function must(address from, bytes memory data) internal returns (bytes memory) {
        vm.prank(from);
        (bool done, bytes memory answer) = market.call(data);
        vm.assertTrue(done, string(answer));
        return answer;
    }

    function refused(address from, bytes memory data, string memory reason) internal {
        vm.prank(from);
        (bool done, bytes memory answer) = market.call(data);
        vm.assertTrue(!done, reason);
        vm.assertEq(answer, abi.encodeWithSignature("Error(string)", reason), reason);
    }
}

abstract contract With2025 is GenerationTest {
    function strangersComplete() internal pure override returns (bool) {
        return true;
    }
}

abstract contract With2026 is GenerationTest {
    function strangersComplete() internal pure override returns (bool) {
        return false;
    }

    function precision() internal pure override returns (uint256) {
        return 1_000;
    }

    function completion(uint256 job) internal pure override returns (bytes memory) {
        return abi.encodeWithSignature("completeSessionJob(uint256,string)", job, "");
    }

    function signed(bytes32 proof, uint256 tokens) internal view returns (bytes memory) {
        bytes32 said = keccak256(abi.encodePacked(proof, host, tokens));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(HOST_KEY, keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", said)));
        return abi.encodePacked(r, s, v);
    }
}

contract BytesFormTest is With2025 {
    function made() internal override returns (DeployedMarketplace) {
        return new BytesForm(earnings, FEE, WINDOW);
    }

    function rate() internal pure override returns (uint256) {
        return 10;
    }

    function precision() internal pure override returns (uint256) {
        return 1;
    }

    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(0xc8c664ee, job, tokens, abi.encodePacked(proof, proof));
    }

    function completion(uint256 job) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(0x0ebe4fe0, job);
    }

    function test_a_proof_of_less_than_64_bytes_is_rejected() public {
        uint256 job = open();
        vm.warp(START + 10);
        refused(host, abi.encodeWithSelector(0xc8c664ee, job, 100, new bytes(63)), "Invalid proof");
    }
}

contract HashFormTest is With2025 {
    function made() internal virtual override returns (DeployedMarketplace) {
        return new HashForm(earnings, FEE, WINDOW);
    }

    function rate() internal pure virtual override returns (uint256) {
        return 10;
    }

    function precision() internal pure virtual override returns (uint256) {
        return 1;
    }

    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(0xace083b3, job, tokens, proof == 0 ? bytes32("zero") : proof, "bafk");
    }

    function completion(uint256 job) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(0x040138dd, job, "");
    }
}

contract PreciseHashFormTest is HashFormTest {
    function made() internal override returns (DeployedMarketplace) {
        return new PreciseHashForm(earnings, FEE, WINDOW);
    }

    function rate() internal pure override returns (uint256) {
        return 1_000;
    }

    function precision() internal pure override returns (uint256) {
        return 1_000;
    }
}

contract SignedFormTest is With2026 {
    function made() internal virtual override returns (DeployedMarketplace) {
        return new SignedForm(earnings, FEE, WINDOW);
    }

    function rate() internal pure override returns (uint256) {
        return 1_000;
    }

    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal view virtual override returns (bytes memory) {
        return abi.encodeWithSelector(0x8dbe53aa, job, tokens, proof, signed(proof, tokens), "bafk");
    }

    function test_only_the_hosts_signature_over_hash_and_count_is_taken() public {
        uint256 job = open();
        vm.warp(START + 10);
        bytes4 selector = bytes4(claimOf(job, 100, "one"));
        bytes memory another = signed("one", 101);
        bytes memory data = selector == bytes4(0x8dbe53aa)
            ? abi.encodeWithSelector(selector, job, 100, bytes32("one"), another, "bafk")
            : abi.encodeWithSelector(selector, job, 100, bytes32("one"), another, "bafk", "delta");
        refused(host, data, "Invalid proof");
    }
}

contract SignedDeltaFormTest is SignedFormTest {
    function made() internal override returns (DeployedMarketplace) {
        return new SignedDeltaForm(earnings, FEE, WINDOW);
    }

    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal view override returns (bytes memory) {
        return abi.encodeWithSelector(0x3338f1e5, job, tokens, proof, signed(proof, tokens), "bafk", "delta");
    }
}

contract TimeoutFormTest is With2026 {
    function made() internal override returns (DeployedMarketplace) {
        return new TimeoutForm(earnings, FEE, WINDOW);
    }

    function rate() internal pure override returns (uint256) {
        return 2_000;
    }

    function opening(uint256 deposit, uint256 price) internal view override returns (bytes memory) {
        return abi.encodeWithSignature(
            "createSessionJobWithToken(address,address,uint256,uint256,uint256,uint256,uint256)",
            host, usdc, deposit, price, 3_600, 100, 300
        );
    }

    function claimOf(uint256 job, uint256 tokens, bytes32 proof) internal pure override returns (bytes memory) {
        return abi.encodeWithSelector(0x7c5cb561, job, tokens, proof == 0 ? bytes32("zero") : proof, "bafk", "delta");
    }
}
