// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HostEarnings} from "../../src/HostEarnings.sol";
import {HostRegistry} from "../../src/HostRegistry.sol";
import {JobMarketplace} from "../../src/JobMarketplace.sol";
import {TestUSDC} from "../../src/TestUSDC.sol";
import {IHostEarnings} from "../../src/interfaces/IHostEarnings.sol";
import {IHostRegistry} from "../../src/interfaces/IHostRegistry.sol";
import {IJobMarketplace, Session, SessionTerms, Status} from "../../src/interfaces/IJobMarketplace.sol";
import {vm} from "./Vm.sol";

/// @dev What a journal says, before it is encoded.
struct Journal {
    uint256 version;
    uint256 chainId;
    uint256 marketplace;
    uint256 jobId;
    uint256 host;
    bytes32 modelDigest;
    uint256 firstSeq;
    uint256 count;
    bytes32 headBefore;
    bytes32 headAfter;
}

/// @dev A deployment with one host, one submitter key, one depositor and two tokens to pay with.
abstract contract Fixture {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant FEE_BPS = 1_000;
    uint256 internal constant WINDOW = 3_600;
    bytes32 internal constant IMAGE_ID = keccak256("image id");
    bytes32 internal constant MODEL = keccak256("model file");
    uint256 internal constant SIGNER_KEY = 0xa11ce;

    address internal constant OWNER = address(0x0a);
    address internal constant HOST = address(0x1057);
    address internal constant PAYOUT = address(0x9a1d);
    address internal constant SUBMITTER = address(0x5b);
    address internal constant CLIENT = address(0xc11e47);
    address internal constant STRANGER = address(0x57a9);
    address internal constant NATIVE = address(0);

    HostRegistry internal registry;
    HostEarnings internal earnings;
    JobMarketplace internal market;
    TestUSDC internal usdc;

    function setUp() public virtual {
        vm.chainId(31337);
        vm.warp(START);
        registry = HostRegistry(deploy(initCode("HostRegistry")));
        (earnings, market) = deployMarket(true);
        usdc = TestUSDC(deploy(initCode("TestUSDC")));
        vm.prank(OWNER);
        market.allowToken(address(usdc));

        vm.startPrank(HOST);
        registry.register(PAYOUT, "https://host.example", "{}");
        registry.addSubmitter(SUBMITTER);
        vm.stopPrank();
        usdc.mint(CLIENT, 1e15);
        vm.prank(CLIENT);
        usdc.approve(address(market), type(uint256).max);
        vm.deal(CLIENT, 1e24);
    }

    function deployMarket(bool testDeployment) internal returns (HostEarnings purse, JobMarketplace place) {
        purse = HostEarnings(deploy(abi.encodePacked(initCode("HostEarnings"), abi.encode(registry))));
        place = JobMarketplace(deploy(marketCode(purse, registry, FEE_BPS, WINDOW, testDeployment)));
        purse.bindMarketplace(address(place));
    }

    function marketCode(
        IHostEarnings purse,
        IHostRegistry list,
        uint256 feeBps,
        uint256 claimWindow,
        bool testDeployment
    ) internal view returns (bytes memory) {
        return abi.encodePacked(
            initCode("JobMarketplace"), abi.encode(purse, list, OWNER, feeBps, IMAGE_ID, claimWindow, testDeployment)
        );
    }

    /// @dev Read from forge's output: with `new`, the compiler would generate the whole contract again in each test.
    function initCode(string memory name) internal view returns (bytes memory) {
        return vm.getCode(string.concat(name, ".sol:", name));
    }

    function deploy(bytes memory code) internal returns (address deployed) {
        assembly {
            deployed := create(0, add(code, 32), mload(code))
            if iszero(deployed) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    /// @dev SPEC's example: 2 USDC at 0.002 per token, 10 tokens/s.
    function terms() internal view returns (SessionTerms memory) {
        return SessionTerms({
            host: HOST,
            token: address(usdc),
            deposit: 2e6,
            pricePerToken: 2_000,
            modelDigest: MODEL,
            expectedRate: 10,
            maxDuration: 86_400,
            timeoutSeconds: 900,
            minimumCharge: 0,
            verifier: address(0),
            voucherSigner: address(0),
            voucherAllowance: 0,
            saltCommitment: keccak256("salt commitment")
        });
    }

    function nativeTerms() internal view returns (SessionTerms memory agreed) {
        agreed = terms();
        agreed.token = NATIVE;
        agreed.deposit = 1 ether;
        agreed.pricePerToken = 0.001 ether;
    }

    function create(SessionTerms memory agreed) internal returns (uint256) {
        vm.prank(CLIENT);
        return market.createSession{value: agreed.token == NATIVE ? agreed.deposit : 0}(agreed);
    }

    /// @dev A session of SPEC's example, old enough that its whole deposit may be claimed.
    function open() internal returns (uint256 jobId) {
        jobId = create(terms());
        vm.warp(START + 800);
    }

    /// @dev The journal that continues the job as the chain sees it.
    function journal(uint256 jobId, uint256 count) internal view returns (Journal memory) {
        Session memory session = market.getSession(jobId);
        return Journal({
            version: 1,
            chainId: block.chainid,
            marketplace: uint160(address(market)),
            jobId: jobId,
            host: uint160(session.terms.host),
            modelDigest: session.terms.modelDigest,
            firstSeq: session.tokensUsed,
            count: count,
            headBefore: session.head,
            headAfter: keccak256(abi.encode(session.head, count))
        });
    }

    function journalBytes(Journal memory said) internal pure returns (bytes memory) {
        return abi.encode(
            said.version,
            said.chainId,
            said.marketplace,
            said.jobId,
            said.host,
            said.modelDigest,
            said.firstSeq,
            said.count,
            said.headBefore,
            said.headAfter
        );
    }

    function composite(Journal memory said) internal pure returns (bytes memory) {
        return abi.encode(uint8(1), journalBytes(said), bytes(""), bytes(""));
    }

    function proof(uint256 jobId, uint256 count) internal view returns (bytes memory) {
        return composite(journal(jobId, count));
    }

    function claim(uint256 jobId, uint256 count) internal {
        bytes memory bits = proof(jobId, count);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, count, bits);
    }

    /// @dev A claim by the host that must be refused with exactly this error.
    function refuse(uint256 jobId, uint256 count, bytes memory bits, bytes memory expected) internal {
        vm.expectRevert(expected);
        vm.prank(HOST);
        market.submitProofOfWork(jobId, count, bits);
    }

    function requestClose(uint256 jobId, address by) internal {
        vm.prank(by);
        market.requestClose(jobId);
    }

    function finalize(uint256 jobId, address by) internal {
        vm.prank(by);
        market.finalize(jobId);
    }

    function voucher(uint256 key, uint256 jobId, uint256 tokens) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, market.voucherDigest(jobId, tokens));
        return abi.encode(tokens, abi.encodePacked(r, s, v));
    }

    function assertStatus(uint256 jobId, Status expected) internal view {
        vm.assertEq(uint256(market.getSession(jobId).status), uint256(expected), "status");
    }

    /// @dev A fuzzed number brought into [low, high].
    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    function err(bytes4 selector) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector);
    }

    function err(bytes4 selector, uint256 a) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a);
    }

    function err(bytes4 selector, address a) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a);
    }

    function err(bytes4 selector, uint256 a, uint256 b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }

    function err(bytes4 selector, bytes32 a, bytes32 b) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a, b);
    }
}
