// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {HostEarnings} from "../../src/HostEarnings.sol";
import {HostRegistry} from "../../src/HostRegistry.sol";
import {JobMarketplace} from "../../src/JobMarketplace.sol";
import {TestUSDC} from "../../src/TestUSDC.sol";
import {Claim, Session, SessionTerms, Status} from "../../src/interfaces/IJobMarketplace.sol";
import {ClosedDepositor, GreedyDepositor} from "./Accounts.sol";
import {MoodyToken} from "./Tokens.sol";
import {vm} from "./Vm.sol";

/// @dev Plays random sessions. Every call is one that a party could send; some are refused, none may break the books.
/// What the books must say is counted here, apart from the contracts.
contract Handler {
    address public constant NATIVE = address(0);
    address private constant STRANGER = address(0x57a9);
    address private constant OWNER = address(0x0a);
    uint256 public constant MAX_JOBS = 24;

    JobMarketplace public immutable market;
    HostEarnings public immutable earnings;
    TestUSDC public immutable usdc;
    MoodyToken public immutable moody;
    ClosedDepositor public immutable closed;
    GreedyDepositor public immutable greedy;

    address[2] public hosts = [address(0x1057), address(0x2057)];
    address[2] public submitters = [address(0x5b1), address(0x5b2)];
    address[3] public tokens;
    address[4] public depositors;

    /// Ghosts.
    mapping(address token => uint256) public paidIn;
    mapping(uint256 jobId => uint256) public claimed;
    mapping(uint256 jobId => uint256) public payouts;
    mapping(bytes32 action => uint256) public done;

    constructor(JobMarketplace market_, HostEarnings earnings_, HostRegistry registry, TestUSDC usdc_) {
        (market, earnings, usdc) = (market_, earnings_, usdc_);
        moody = new MoodyToken();
        closed = new ClosedDepositor(market_);
        greedy = new GreedyDepositor(market_);
        tokens = [NATIVE, address(usdc_), address(moody)];
        depositors = [address(0xd1), address(0xd2), address(closed), address(greedy)];
        vm.prank(OWNER);
        market_.allowToken(address(moody));
        for (uint256 i = 0; i < 2; ++i) {
            vm.startPrank(hosts[i]);
            if (!registry.isRegistered(hosts[i])) registry.register(address(uint160(0x9a1d0 + i)), "", "");
            registry.addSubmitter(submitters[i]);
            vm.stopPrank();
        }
    }

    function create(uint256 seed, uint256 price, uint256 tokensBought, uint256 least) external {
        if (market.jobCount() >= MAX_JOBS) return;
        address depositor = depositors[seed % 4];
        // The two contracts pay in the native coin alone.
        address token = seed % 4 >= 2 ? NATIVE : tokens[(seed >> 8) % 3];
        price = 1 + price % 1e6;
        uint256 deposit = price * (100 + tokensBought % 3_000) + seed % price;
        SessionTerms memory terms = SessionTerms({
            host: hosts[(seed >> 16) % 2],
            token: token,
            deposit: deposit,
            pricePerToken: price,
            modelDigest: keccak256("model"),
            expectedRate: uint32((seed >> 24) % 50),
            maxDuration: uint64(60 + (seed >> 32) % 10_000),
            timeoutSeconds: uint64(60 + (seed >> 64) % 3_000),
            minimumCharge: least % (2 * deposit),
            verifier: address(0),
            voucherSigner: address(0),
            voucherAllowance: 0,
            saltCommitment: bytes32(seed)
        });
        if (token == address(moody) && moody.mood() != MoodyToken.Mood.Good) return;
        uint256 value = 0;
        if (token == NATIVE) {
            value = depositor.code.length == 0 ? deposit : 0;
            vm.deal(depositor, depositor.balance + deposit);
        } else {
            TestUSDC(token).mint(depositor, deposit);
            vm.prank(depositor);
            TestUSDC(token).approve(address(market), deposit);
        }
        if (depositor.code.length != 0) {
            ClosedDepositor(depositor).create(terms);
        } else {
            vm.prank(depositor);
            market.createSession{value: value}(terms);
        }
        paidIn[token] += deposit;
        ++done["create"];
    }

    function claim(uint256 jobSeed, uint256 count, bool bySubmitter) external {
        uint256 jobId = _job(jobSeed);
        if (jobId == 0) return;
        count %= 1_200;
        Session memory session = market.getSession(jobId);
        vm.prank(_speaker(session.terms.host, bySubmitter));
        (bool ok,) = address(market).call(
            abi.encodeCall(market.submitProofOfWork, (jobId, count, _proof(jobId, session, count)))
        );
        if (!ok) return;
        claimed[jobId] += count;
        ++done["claim"];
        if (count < 100) ++done["last claim"];
    }

    function claimBatch(uint256 seed, uint256 count) external {
        uint256 jobs = market.jobCount();
        if (jobs == 0) return;
        Claim[] memory claims = new Claim[](4);
        for (uint256 i = 0; i < 4; ++i) {
            uint256 jobId = 1 + (seed >> (8 * i)) % jobs;
            uint256 tokens_ = (count >> (16 * i)) % 600;
            claims[i] = Claim(jobId, tokens_, _proof(jobId, market.getSession(jobId), tokens_));
        }
        uint256[] memory before = new uint256[](jobs + 1);
        for (uint256 i = 1; i <= jobs; ++i) {
            before[i] = market.getSession(i).tokensUsed;
        }
        vm.prank(_speaker(hosts[seed >> 255], true));
        uint256 accepted = market.submitProofsOfWork(claims);
        uint256 sum = 0;
        for (uint256 i = 1; i <= jobs; ++i) {
            uint256 more = market.getSession(i).tokensUsed - before[i];
            if (more != 0) ++sum;
            claimed[i] += more;
        }
        // Two claims of one job have the same head before: at most one of them is accepted.
        vm.assertEq(accepted, sum, "accepted claims moved a job each");
        done["batched claim"] += accepted;
    }

    function requestClose(uint256 jobSeed, uint256 who) external {
        uint256 jobId = _job(jobSeed);
        if (jobId == 0) return;
        vm.prank(_party(jobId, who));
        (bool ok,) = address(market).call(abi.encodeCall(market.requestClose, (jobId)));
        if (ok) ++done["close"];
    }

    function finalize(uint256 jobSeed, uint256 who) external {
        uint256 jobId = _job(jobSeed);
        if (jobId == 0) return;
        vm.prank(_party(jobId, who));
        (bool ok,) = address(market).call(abi.encodeCall(market.finalize, (jobId)));
        if (ok) _paid(jobId);
    }

    function complete(uint256 jobSeed, uint256 who) external {
        uint256 jobId = _job(jobSeed);
        if (jobId == 0) return;
        vm.prank(_party(jobId, who));
        (bool ok,) = address(market).call(abi.encodeCall(market.completeSessionJob, (jobId, "cid")));
        if (ok && market.getSession(jobId).status == Status.Completed) _paid(jobId);
    }

    function wait(uint256 time) external {
        vm.warp(block.timestamp + time % 2_000);
    }

    function withdrawEarnings(uint256 seed, uint256 amount) external {
        address token = tokens[(seed >> 8) % 3];
        vm.prank(hosts[seed % 2]);
        (bool ok,) = address(earnings).call(abi.encodeCall(earnings.withdraw, (amount % 1e9, token)));
        if (ok) ++done["withdraw"];
    }

    function withdrawCredit(uint256 seed) external {
        address account = seed % 3 == 0 ? hosts[(seed >> 8) % 2] : depositors[(seed >> 8) % 4];
        vm.prank(account);
        (bool ok,) = address(market).call(
            abi.encodeCall(market.withdrawCreditTo, (tokens[(seed >> 16) % 3], address(0xbeef)))
        );
        if (ok) ++done["credit"];
    }

    function withdrawTreasury(uint256 seed) external {
        vm.prank(OWNER);
        (bool ok,) = address(market).call(abi.encodeCall(market.withdrawTreasury, (tokens[seed % 3], address(0xfee))));
        if (ok) ++done["treasury"];
    }

    function changeMood(uint256 seed) external {
        address[3] memory only = [address(0), depositors[0], address(earnings)];
        // Half of the time good, or sessions in this token would be rare. Mood 4, a cut, is for hosts' shares alone: on
        // its way to a depositor it costs the depositor, not the books.
        uint256 mood = seed % 8 < 4 ? 0 : seed % 8 - 3;
        moody.become(MoodyToken.Mood(mood), mood == 4 ? address(earnings) : only[(seed >> 8) % 3]);
    }

    /// @dev Ends all that is open as strangers could, and takes out all that is due to anyone.
    function drain() external {
        for (uint256 jobId = 1; jobId <= market.jobCount(); ++jobId) {
            Status status = market.getSession(jobId).status;
            if (status == Status.Active) {
                uint256 from = market.closableFrom(jobId);
                if (block.timestamp < from) vm.warp(from);
                vm.prank(STRANGER);
                market.requestClose(jobId);
            }
            if (status != Status.Completed) {
                uint256 until = market.getSession(jobId).claimUntil;
                if (block.timestamp <= until) vm.warp(until + 1);
                vm.prank(STRANGER);
                market.finalize(jobId);
                _paid(jobId);
            }
        }
        moody.become(MoodyToken.Mood.Good, address(0));
        for (uint256 t = 0; t < 3; ++t) {
            for (uint256 i = 0; i < 6; ++i) {
                address account = i < 4 ? depositors[i] : hosts[i - 4];
                if (market.credits(account, tokens[t]) == 0) continue;
                vm.prank(account);
                market.withdrawCreditTo(tokens[t], address(0xbeef));
            }
            for (uint256 i = 0; i < 2; ++i) {
                if (earnings.getBalance(hosts[i], tokens[t]) == 0) continue;
                vm.prank(hosts[i]);
                earnings.withdrawAll(tokens[t]);
            }
            if (market.treasuryBalance(tokens[t]) == 0) continue;
            vm.prank(OWNER);
            market.withdrawTreasury(tokens[t], address(0xfee));
        }
    }

    function balanceOf(address token, address account) external view returns (uint256) {
        return token == NATIVE ? account.balance : TestUSDC(token).balanceOf(account);
    }

    function _paid(uint256 jobId) private {
        ++payouts[jobId];
        ++done["payout"];
    }

    function _job(uint256 seed) private view returns (uint256) {
        uint256 jobs = market.jobCount();
        return jobs == 0 ? 0 : 1 + seed % jobs;
    }

    function _speaker(address host, bool bySubmitter) private view returns (address) {
        if (!bySubmitter) return host;
        return host == hosts[0] ? submitters[0] : submitters[1];
    }

    function _party(uint256 jobId, uint256 who) private view returns (address) {
        Session memory session = market.getSession(jobId);
        if (who % 4 == 0) return STRANGER;
        if (who % 4 == 1) return session.depositor;
        return _speaker(session.terms.host, who % 4 == 2);
    }

    function _proof(uint256 jobId, Session memory session, uint256 count) private view returns (bytes memory) {
        bytes memory journal = abi.encode(
            uint256(1),
            block.chainid,
            address(market),
            jobId,
            session.terms.host,
            session.terms.modelDigest,
            uint256(session.tokensUsed),
            count,
            session.head,
            keccak256(abi.encode(session.head, count))
        );
        return abi.encode(uint8(1), journal, bytes(""), bytes(""));
    }
}
