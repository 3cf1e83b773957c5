// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IRiscZeroVerifier} from "../../src/interfaces/IRiscZeroVerifier.sol";
import {JobMarketplace} from "../../src/JobMarketplace.sol";
import {SessionTerms} from "../../src/interfaces/IJobMarketplace.sol";

/// @dev A contract account whose signatures are those of one key (ERC-1271).
contract Wallet is IERC1271 {
    address private immutable _KEY;

    constructor(address key) {
        _KEY = key;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        return ECDSA.recoverCalldata(digest, signature) == _KEY ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}

/// @dev Accepts one statement only, and writes nothing down: `verify` is a view.
contract OneStatementVerifier is IRiscZeroVerifier {
    error Refused();

    bytes32 private immutable _ACCEPTED;

    constructor(bytes memory seal, bytes32 imageId, bytes32 journalDigest) {
        _ACCEPTED = keccak256(abi.encode(seal, imageId, journalDigest));
    }

    function verify(bytes calldata seal, bytes32 imageId, bytes32 journalDigest) external view {
        require(keccak256(abi.encode(seal, imageId, journalDigest)) == _ACCEPTED, Refused());
    }
}

/// @dev A depositor without a way to receive the native coin.
contract ClosedDepositor {
    JobMarketplace internal immutable _MARKET;

    constructor(JobMarketplace market) payable {
        _MARKET = market;
    }

    function create(SessionTerms calldata agreed) external returns (uint256) {
        return _MARKET.createSession{value: agreed.deposit}(agreed);
    }

    function withdrawCredit() external {
        _MARKET.withdrawCredit(address(0));
    }

    function withdrawCreditTo(address to) external {
        _MARKET.withdrawCreditTo(address(0), to);
    }
}

/// @dev A depositor that burns all gas it is given, and would return a megabyte.
contract GreedyDepositor is ClosedDepositor {
    constructor(JobMarketplace market) payable ClosedDepositor(market) {}

    receive() external payable {
        while (true) {}
    }
}

/// @dev A depositor that, when paid, tries everything again.
contract ReentrantDepositor is ClosedDepositor {
    uint256 public jobId;
    uint256 public attempts;
    uint256 public successes;

    constructor(JobMarketplace market) payable ClosedDepositor(market) {}

    function watch(uint256 jobId_) external {
        jobId = jobId_;
    }

    receive() external payable {
        attempts += 1;
        (bool again,) = address(_MARKET).call(abi.encodeCall(JobMarketplace.finalize, (jobId)));
        (bool credit,) = address(_MARKET).call(abi.encodeCall(_MARKET.withdrawCredit, (address(0))));
        if (again || credit) successes += 1;
    }
}
