// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IHostRegistry} from "../src/interfaces/IHostRegistry.sol";
import {Fixture} from "./support/Fixture.sol";
import {vm} from "./support/Vm.sol";

contract HostRegistryTest is Fixture {
    address private constant OTHER = address(0x07);

    function test_a_record_holds_what_its_host_wrote() public {
        vm.startPrank(HOST);
        registry.setApiUrl("https://new.example");
        registry.setMetadata("{\"gpu\":1}");
        registry.setPrice(MODEL, address(usdc), 2_000);
        registry.setPrice(MODEL, NATIVE, 7);
        vm.stopPrank();
        IHostRegistry.Host memory host = registry.getHost(HOST);
        vm.assertEq(host.payout, PAYOUT, "payout");
        vm.assertTrue(host.active, "active");
        vm.assertEq(host.apiUrl, "https://new.example", "url");
        vm.assertEq(host.metadata, "{\"gpu\":1}", "metadata");
        vm.assertEq(host.submitters.length, 1, "submitters");
        vm.assertEq(host.submitters[0], SUBMITTER, "submitter");
        vm.assertEq(host.models.length, 1, "models");
        vm.assertEq(host.models[0], MODEL, "model");
        vm.assertEq(registry.priceOf(HOST, MODEL, address(usdc)), 2_000, "price");
        (address[] memory tokens, uint256[] memory prices) = registry.pricesOf(HOST, MODEL);
        vm.assertEq(tokens.length, 2, "two prices");
        vm.assertEq(tokens[1], NATIVE, "token");
        vm.assertEq(prices[1], 7, "price in it");
    }

    function test_a_price_of_zero_removes_the_offer_and_the_last_one_the_model() public {
        vm.startPrank(HOST);
        registry.setPrice(MODEL, address(usdc), 2_000);
        registry.setPrice(MODEL, NATIVE, 7);
        registry.setPrice(MODEL, NATIVE, 8);
        vm.assertEq(registry.priceOf(HOST, MODEL, NATIVE), 8, "changed");
        registry.setPrice(MODEL, NATIVE, 0);
        vm.assertEq(registry.priceOf(HOST, MODEL, NATIVE), 0, "removed");
        vm.assertEq(registry.getHost(HOST).models.length, 1, "still offered in USDC");
        registry.setPrice(MODEL, address(usdc), 0);
        vm.assertEq(registry.getHost(HOST).models.length, 0, "not offered");
        vm.stopPrank();
    }

    function test_accounts_register_once() public {
        vm.expectRevert(err(IHostRegistry.AlreadyRegistered.selector, HOST));
        vm.prank(HOST);
        registry.register(PAYOUT, "", "");
    }

    function test_a_record_is_written_by_its_host_alone() public {
        bytes memory unknown = err(IHostRegistry.NotRegistered.selector, STRANGER);
        bytes[7] memory calls = [
            abi.encodeCall(registry.setPayout, (STRANGER)),
            abi.encodeCall(registry.setApiUrl, ("")),
            abi.encodeCall(registry.setMetadata, ("")),
            abi.encodeCall(registry.setActive, (false)),
            abi.encodeCall(registry.addSubmitter, (STRANGER)),
            abi.encodeCall(registry.removeSubmitter, (SUBMITTER)),
            abi.encodeCall(registry.setPrice, (MODEL, NATIVE, 1))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(STRANGER);
            (bool ok, bytes memory reason) = address(registry).call(calls[i]);
            vm.assertTrue(!ok, "refused");
            vm.assertEq(reason, unknown, "by name");
        }
        // A submitter key is not the host either.
        vm.expectRevert(err(IHostRegistry.NotRegistered.selector, SUBMITTER));
        vm.prank(SUBMITTER);
        registry.setPayout(SUBMITTER);
    }

    function test_zero_addresses_and_digests_are_refused() public {
        bytes memory zero = err(IHostRegistry.ZeroValue.selector);
        vm.expectRevert(zero);
        vm.prank(OTHER);
        registry.register(address(0), "", "");
        vm.startPrank(HOST);
        vm.expectRevert(zero);
        registry.setPayout(address(0));
        vm.expectRevert(zero);
        registry.addSubmitter(address(0));
        vm.expectRevert(zero);
        registry.setPrice(0, NATIVE, 1);
        vm.stopPrank();
    }

    function test_strings_have_a_largest_length() public {
        string memory long = string(new bytes(513));
        string memory longer = string(new bytes(4_097));
        vm.startPrank(OTHER);
        vm.expectRevert(err(IHostRegistry.TooLong.selector, 512, 513));
        registry.register(OTHER, long, "");
        vm.expectRevert(err(IHostRegistry.TooLong.selector, 4_096, 4_097));
        registry.register(OTHER, "", longer);
        registry.register(OTHER, "", "");
        vm.expectRevert(err(IHostRegistry.TooLong.selector, 512, 513));
        registry.setApiUrl(long);
        vm.expectRevert(err(IHostRegistry.TooLong.selector, 4_096, 4_097));
        registry.setMetadata(longer);
        vm.stopPrank();
    }

    function test_submitter_keys_come_and_go() public {
        vm.startPrank(HOST);
        vm.expectRevert(err(IHostRegistry.SubmitterExists.selector, SUBMITTER));
        registry.addSubmitter(SUBMITTER);
        registry.removeSubmitter(SUBMITTER);
        vm.assertTrue(!registry.isSubmitter(HOST, SUBMITTER), "gone");
        vm.expectRevert(err(IHostRegistry.UnknownSubmitter.selector, SUBMITTER));
        registry.removeSubmitter(SUBMITTER);
        vm.stopPrank();
    }

    function test_lists_have_a_largest_size() public {
        vm.startPrank(HOST);
        for (uint160 i = 1; i < 64; ++i) {
            registry.addSubmitter(address(0x10000 + i));
        }
        vm.expectRevert(err(IHostRegistry.TooMany.selector, 64));
        registry.addSubmitter(STRANGER);
        for (uint256 i = 1; i <= 128; ++i) {
            registry.setPrice(bytes32(i), NATIVE, 1);
        }
        vm.expectRevert(err(IHostRegistry.TooMany.selector, 128));
        registry.setPrice(bytes32(uint256(129)), NATIVE, 1);
        for (uint160 i = 1; i < 16; ++i) {
            registry.setPrice(bytes32(uint256(1)), address(i), 1);
        }
        vm.expectRevert(err(IHostRegistry.TooMany.selector, 16));
        registry.setPrice(bytes32(uint256(1)), address(16), 1);
        vm.stopPrank();
    }

    function test_hosts_are_listed_by_pages() public {
        for (uint160 i = 1; i <= 4; ++i) {
            vm.prank(address(0x20000 + i));
            registry.register(PAYOUT, "", "");
        }
        vm.assertEq(registry.hostCount(), 5, "count");
        address[] memory page = registry.hosts(0, 2);
        vm.assertEq(page.length, 2, "a page");
        vm.assertEq(page[0], HOST, "the first");
        page = registry.hosts(3, type(uint256).max);
        vm.assertEq(page.length, 2, "the rest");
        vm.assertEq(page[1], address(0x20004), "the last");
        vm.assertEq(registry.hosts(5, 1).length, 0, "beyond");
    }

    function test_active_and_registered_differ() public {
        vm.prank(HOST);
        registry.setActive(false);
        vm.assertTrue(!registry.isActive(HOST), "inactive");
        vm.assertTrue(registry.isRegistered(HOST), "registered");
        vm.assertEq(registry.payoutOf(HOST), PAYOUT, "payable");
        vm.assertTrue(!registry.isRegistered(STRANGER), "unknown");
        vm.assertEq(registry.payoutOf(STRANGER), address(0), "no payout");
    }
}
