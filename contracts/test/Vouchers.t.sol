// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobMarketplace, SessionTerms} from "../src/interfaces/IJobMarketplace.sol";
import {Wallet} from "./support/Accounts.sol";
import {Fixture} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract VouchersTest is Fixture {
    function test_without_a_voucher_the_allowance_bounds_the_claims() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 150);
        refuse(jobId, 151, proof(jobId, 151), err(IJobMarketplace.VoucherExceeded.selector, 150, 151));
        claim(jobId, 150);
        refuse(jobId, 100, proof(jobId, 100), err(IJobMarketplace.VoucherExceeded.selector, 150, 250));
    }

    function test_a_voucher_lifts_the_bound_to_its_tokens_plus_the_allowance() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 50);
        vouchedRefuse(
            jobId, 251, voucher(SIGNER_KEY, jobId, 200), err(IJobMarketplace.VoucherExceeded.selector, 250, 251)
        );
        vm.assertEq(market.getSession(jobId).voucherTokens, 0, "a refused claim leaves no voucher behind");
        vouchedClaim(jobId, 250, voucher(SIGNER_KEY, jobId, 200));
        vm.assertEq(market.getSession(jobId).voucherTokens, 200, "highest voucher");
    }

    function test_the_highest_voucher_stays() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        vouchedClaim(jobId, 100, voucher(SIGNER_KEY, jobId, 400));
        claim(jobId, 100);
        vouchedClaim(jobId, 100, voucher(SIGNER_KEY, jobId, 300));
        vm.assertEq(market.getSession(jobId).voucherTokens, 400, "a lower one changes nothing");
        claim(jobId, 100);
        refuse(jobId, 100, proof(jobId, 100), err(IJobMarketplace.VoucherExceeded.selector, 400, 500));
    }

    function test_only_the_signers_voucher_counts() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        bytes memory wrong = err(IJobMarketplace.WrongVoucherSignature.selector);
        vouchedRefuse(jobId, 100, voucher(0xbad, jobId, 100), wrong);
        vouchedRefuse(jobId, 100, voucher(SIGNER_KEY, jobId + 1, 100), wrong);
        (, bytes memory signature) = abi.decode(voucher(SIGNER_KEY, jobId, 100), (uint256, bytes));
        vouchedRefuse(jobId, 100, abi.encode(uint256(1_000), signature), wrong);
        vouchedRefuse(jobId, 100, abi.encode(uint256(100), bytes("")), wrong);
        vouchedClaim(jobId, 100, voucher(SIGNER_KEY, jobId, 100));
    }

    function test_a_voucher_for_another_chain_or_contract_counts_nothing() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        vm.chainId(1);
        bytes memory elsewhere = voucher(SIGNER_KEY, jobId, 100);
        vm.chainId(31337);
        vouchedRefuse(jobId, 100, elsewhere, err(IJobMarketplace.WrongVoucherSignature.selector));
    }

    function test_a_contract_signs_by_its_own_rule() public {
        Wallet wallet = new Wallet(vm.addr(SIGNER_KEY));
        uint256 jobId = vouchedJob(address(wallet), 0);
        vouchedRefuse(
            jobId, 100, voucher(0xbad, jobId, 100), err(IJobMarketplace.WrongVoucherSignature.selector)
        );
        vouchedClaim(jobId, 100, voucher(SIGNER_KEY, jobId, 100));
    }

    /// EIP-7702 lets an account take on code at any time; vouchers that its key signed must outlive that.
    function test_a_signer_that_takes_on_code_cannot_revoke_its_vouchers() public {
        address signer = vm.addr(SIGNER_KEY);
        uint256 jobId = vouchedJob(signer, 0);
        bytes memory held = voucher(SIGNER_KEY, jobId, 100);
        vm.etch(signer, hex"5f5ffd"); // reverts on every call
        vouchedClaim(jobId, 100, held);
    }

    function test_a_job_without_a_voucher_signer_takes_no_vouchers() public {
        uint256 jobId = open();
        vouchedRefuse(
            jobId, 100, voucher(SIGNER_KEY, jobId, 100), err(IJobMarketplace.UnexpectedVoucher.selector)
        );
    }

    function test_a_malformed_voucher_is_refused() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        bytes memory malformed = err(IJobMarketplace.MalformedProof.selector);
        vouchedRefuse(jobId, 100, hex"00", malformed);
        vouchedRefuse(jobId, 100, abi.encode(uint256(100), uint256(96), uint256(0)), malformed);
        vouchedRefuse(jobId, 100, abi.encode(uint256(100), uint256(64), type(uint256).max), malformed);
        vouchedRefuse(jobId, 100, bytes.concat(voucher(SIGNER_KEY, jobId, 100), bytes32(0)), malformed);
    }

    function test_a_voucher_for_more_than_any_job_acknowledges_all() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        vouchedClaim(jobId, 1_000, voucher(SIGNER_KEY, jobId, type(uint256).max));
        vm.assertEq(market.getSession(jobId).voucherTokens, type(uint48).max, "saturated");
    }

    function test_the_digest_is_that_of_eip_712() public {
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), 0);
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Milepost"),
                keccak256("1"),
                block.chainid,
                address(market)
            )
        );
        bytes32 message = keccak256(abi.encode(keccak256("Voucher(uint256 jobId,uint256 tokens)"), jobId, uint256(7)));
        bytes32 expected = keccak256(abi.encodePacked(hex"1901", domain, message));
        vm.assertEq(market.voucherDigest(jobId, 7), expected, "digest");
    }

    /// Never more than the highest acknowledged count plus the allowance, in any order of vouchers.
    function testFuzz_claims_stay_within_voucher_and_allowance(uint256[10] calldata steps, uint256 allowance) public {
        allowance = bound(allowance, 0, 300);
        uint256 jobId = vouchedJob(vm.addr(SIGNER_KEY), uint64(allowance));
        uint256 highest = 0;
        uint256 used = 0;
        for (uint256 i = 0; i < steps.length; ++i) {
            uint256 count = bound(steps[i], 100, 250);
            bool with = steps[i] >> 255 == 1;
            uint256 tokens = bound(steps[i] >> 64, 0, 1_200);
            bytes memory bits = with ? vouched(jobId, count, voucher(SIGNER_KEY, jobId, tokens)) : proof(jobId, count);
            vm.prank(HOST);
            (bool ok,) = address(market).call(abi.encodeCall(market.submitProofOfWork, (jobId, count, bits)));
            uint256 seen = with && tokens > highest ? tokens : highest;
            vm.assertEq(ok, used + count <= seen + allowance && used + count <= 1_000, "accepted as the rules say");
            if (ok) (used, highest) = (used + count, seen);
            vm.assertEq(market.getSession(jobId).voucherTokens, highest, "highest voucher");
        }
    }

    function vouchedJob(address signer, uint64 allowance) private returns (uint256 jobId) {
        SessionTerms memory agreed = terms();
        agreed.voucherSigner = signer;
        agreed.voucherAllowance = allowance;
        jobId = create(agreed);
        vm.warp(START + 800);
    }

    function vouched(uint256 jobId, uint256 count, bytes memory slip) private view returns (bytes memory) {
        return abi.encode(uint8(1), journalBytes(journal(jobId, count)), bytes(""), slip);
    }

    function vouchedClaim(uint256 jobId, uint256 count, bytes memory slip) private {
        bytes memory bits = vouched(jobId, count, slip);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, count, bits);
    }

    function vouchedRefuse(uint256 jobId, uint256 count, bytes memory slip, bytes memory expected) private {
        refuse(jobId, count, vouched(jobId, count, slip), expected);
    }
}
