// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {Claim, IJobMarketplace, Status} from "../interfaces/IJobMarketplace.sol";
import {IRiscZeroVerifier} from "../interfaces/IRiscZeroVerifier.sol";
import {MarketplaceBase} from "./MarketplaceBase.sol";
import {ProofCodec} from "./ProofCodec.sol";

/// @title Claims
/// @notice A claim continues the job's hash chain: its journal must name this chain, contract, job, host and model,
/// begin at `tokensUsed` and at `head`. A duplicate, a gap or a reordering is refused by construction.
/// @dev A refusal is a value (the encoded error), not a revert, so that in a batch one bad claim costs only itself. The
/// calls made here are static: nothing can re-enter.
abstract contract Claims is MarketplaceBase {
    using ProofCodec for bytes;

    /// @notice STARK receipt, verified off-chain.
    uint8 public constant KIND_COMPOSITE = 1;
    /// @notice Groth16 seal, verified by the terms' verifier.
    uint8 public constant KIND_GROTH16 = 2;
    /// @notice No proof at all; test deployments only.
    uint8 public constant KIND_MOCK = 255;
    /// @dev Selector of the seals that RISC Zero's development mode makes: they prove nothing.
    bytes4 private constant FAKE_SEAL = 0xffffffff;

    /// @inheritdoc IJobMarketplace
    function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes calldata proof) external {
        (bytes memory refusal,) = _claim(jobId, tokensClaimed, proof, address(0));
        if (refusal.length != 0) {
            assembly ("memory-safe") {
                revert(add(refusal, 32), mload(refusal))
            }
        }
    }

    /// @inheritdoc IJobMarketplace
    function submitProofsOfWork(Claim[] calldata claims) external returns (uint256 accepted) {
        require(claims.length <= MAX_BATCH, BatchTooLarge(MAX_BATCH, claims.length));
        address actingFor = address(0);
        for (uint256 i = 0; i < claims.length; ++i) {
            bytes memory refusal;
            (refusal, actingFor) = _claim(claims[i].jobId, claims[i].tokensClaimed, claims[i].proof, actingFor);
            if (refusal.length == 0) ++accepted;
            else emit ClaimRejected(claims[i].jobId, i, refusal);
        }
    }

    /// @param actingFor A host that the caller is known to act for: the jobs of a batch mostly have one host.
    /// @return refusal Empty, or the encoded error.
    /// @return hostActedFor The host that the caller is known to act for now.
    function _claim(uint256 jobId, uint256 tokensClaimed, bytes calldata proof, address actingFor)
        private
        returns (bytes memory refusal, address hostActedFor)
    {
        Job storage job = _jobs[jobId];
        Meter memory meter = job.meter;
        if (meter.status == Status.None) return (abi.encodeWithSelector(UnknownJob.selector, jobId), actingFor);
        address host = job.host;
        if (host != actingFor && !_isHostOrSubmitter(host)) {
            return (abi.encodeWithSelector(NotHost.selector, msg.sender), actingFor);
        }

        uint256 total;
        (refusal, total) = _checkAmount(job, meter, tokensClaimed);
        if (refusal.length != 0) return (refusal, host);
        bytes32 headAfter;
        uint256 kind;
        (refusal, headAfter, kind) = _checkProof(job, meter, jobId, host, tokensClaimed, proof);
        if (refusal.length != 0) return (refusal, host);

        if (tokensClaimed < MIN_PROVEN_TOKENS) meter.closedToClaims = true;
        meter.tokensUsed = uint48(total); // at most maxTokens
        meter.lastProofTime = uint40(block.timestamp);
        job.meter = meter;
        job.head = headAfter;
        emit ProofOfWork(jobId, host, tokensClaimed, total, headAfter, uint8(kind));
        return (refusal, host);
    }

    function _checkAmount(Job storage job, Meter memory meter, uint256 tokensClaimed)
        private
        view
        returns (bytes memory refusal, uint256 total)
    {
        if (meter.status == Status.Closing) {
            if (block.timestamp > meter.claimUntil) {
                return (abi.encodeWithSelector(ClaimWindowOver.selector, meter.claimUntil), 0);
            }
            if (meter.closedToClaims) return (abi.encodeWithSelector(ClosedToClaims.selector), 0);
            if (tokensClaimed == 0) return (abi.encodeWithSelector(BelowMinimum.selector, 1, 0), 0);
        } else {
            if (meter.status != Status.Active) {
                return (abi.encodeWithSelector(WrongStatus.selector, meter.status), 0);
            }
            if (tokensClaimed < MIN_PROVEN_TOKENS) {
                return (abi.encodeWithSelector(BelowMinimum.selector, MIN_PROVEN_TOKENS, tokensClaimed), 0);
            }
        }
        unchecked {
            total = meter.tokensUsed + tokensClaimed;
        }
        // The first half catches a sum that wrapped around.
        if (tokensClaimed > meter.maxTokens || total > meter.maxTokens) {
            return (abi.encodeWithSelector(DepositExceeded.selector, meter.maxTokens, total), 0);
        }
        uint256 allowed = _rateCap(job.expectedRate, meter.startTime);
        if (total > allowed) return (abi.encodeWithSelector(RateCapExceeded.selector, allowed, total), 0);
    }

    function _checkProof(
        Job storage job,
        Meter memory meter,
        uint256 jobId,
        address host,
        uint256 tokensClaimed,
        bytes calldata proof
    ) private returns (bytes memory refusal, bytes32 headAfter, uint256 kind) {
        bytes calldata journal;
        bytes calldata seal;
        bytes calldata voucher;
        {
            bool ok;
            uint256 journalLength;
            (ok, journalLength, kind, journal, seal, voucher) = proof.split();
            if (!ok) {
                refusal = journalLength == ProofCodec.JOURNAL_BYTES
                    ? abi.encodeWithSelector(MalformedProof.selector)
                    : abi.encodeWithSelector(WrongJournalLength.selector, journalLength);
                return (refusal, 0, 0);
            }
        }
        refusal = _checkOrigin(job, jobId, host, journal);
        if (refusal.length != 0) return (refusal, 0, 0);
        refusal = _checkChain(job, meter, tokensClaimed, journal);
        if (refusal.length != 0) return (refusal, 0, 0);
        refusal = _checkSeal(job, meter, kind, journal, seal);
        if (refusal.length != 0) return (refusal, 0, 0);
        refusal = _checkVoucher(job, meter, jobId, tokensClaimed, voucher);
        headAfter = bytes32(journal.word(288));
    }

    /// @dev The journal's words 0 to 5: what the claim is for.
    function _checkOrigin(Job storage job, uint256 jobId, address host, bytes calldata journal)
        private
        view
        returns (bytes memory refusal)
    {
        uint256 found = journal.word(0);
        if (found != 1) return abi.encodeWithSelector(WrongVersion.selector, found);
        found = journal.word(32);
        if (found != block.chainid) return abi.encodeWithSelector(WrongChain.selector, block.chainid, found);
        found = journal.word(64);
        if (found != uint160(address(this))) return abi.encodeWithSelector(WrongMarketplace.selector, found);
        found = journal.word(96);
        if (found != jobId) return abi.encodeWithSelector(WrongJob.selector, jobId, found);
        found = journal.word(128);
        if (found != uint160(host)) return abi.encodeWithSelector(WrongHost.selector, host, found);
        found = journal.word(160);
        bytes32 modelDigest = job.modelDigest;
        if (found != uint256(modelDigest)) return abi.encodeWithSelector(WrongModel.selector, modelDigest, found);
    }

    /// @dev The journal's words 6 to 8: where the claim continues.
    function _checkChain(Job storage job, Meter memory meter, uint256 tokensClaimed, bytes calldata journal)
        private
        view
        returns (bytes memory refusal)
    {
        uint256 found = journal.word(192);
        if (found != meter.tokensUsed) return abi.encodeWithSelector(WrongFirstSeq.selector, meter.tokensUsed, found);
        found = journal.word(224);
        if (found != tokensClaimed) return abi.encodeWithSelector(WrongCount.selector, tokensClaimed, found);
        found = journal.word(256);
        bytes32 head = job.head;
        if (found != uint256(head)) return abi.encodeWithSelector(WrongHeadBefore.selector, head, found);
    }

    function _checkSeal(
        Job storage job,
        Meter memory meter,
        uint256 kind,
        bytes calldata journal,
        bytes calldata seal
    ) private view returns (bytes memory refusal) {
        if (kind == KIND_GROTH16) {
            if (!meter.hasVerifier) return abi.encodeWithSelector(NoVerifier.selector);
            if (seal.length < 4 || bytes4(seal) == FAKE_SEAL) return abi.encodeWithSelector(FakeSeal.selector);
            address verifier = job.verifier;
            (bool ok,) =
                verifier.staticcall(abi.encodeCall(IRiscZeroVerifier.verify, (seal, imageId, sha256(journal))));
            // A call to an account without code succeeds: that must not pass for a verified seal.
            if (!ok || verifier.code.length == 0) return abi.encodeWithSelector(ProofRejected.selector);
            return refusal;
        }
        if (kind != KIND_COMPOSITE && kind != KIND_MOCK) {
            return abi.encodeWithSelector(UnknownProofKind.selector, kind);
        }
        if (meter.hasVerifier) return abi.encodeWithSelector(SealRequired.selector, kind);
        if (seal.length != 0) return abi.encodeWithSelector(SealNotEmpty.selector);
        if (kind == KIND_MOCK && !testDeployment) return abi.encodeWithSelector(MockProofRefused.selector);
    }

    /// @dev Writes the highest voucher; the last check of a claim, so that a refused claim writes nothing.
    function _checkVoucher(
        Job storage job,
        Meter memory meter,
        uint256 jobId,
        uint256 tokensClaimed,
        bytes calldata voucher
    ) private returns (bytes memory refusal) {
        if (!meter.hasVoucherSigner) {
            if (voucher.length != 0) return abi.encodeWithSelector(UnexpectedVoucher.selector);
            return refusal;
        }
        uint256 acknowledged = job.voucherTokens;
        bool higher = false;
        if (voucher.length != 0) {
            (bool ok, uint256 tokens, bytes calldata signature) = voucher.splitVoucher();
            if (!ok) return abi.encodeWithSelector(MalformedProof.selector);
            // No job bills more than MAX_JOB_TOKENS: acknowledging more is acknowledging all.
            uint256 capped = tokens < MAX_JOB_TOKENS ? tokens : MAX_JOB_TOKENS;
            // A voucher no higher than one seen before says nothing new and is not looked at.
            if (capped > acknowledged) {
                if (!_isSignedBy(job.voucherSigner, voucherDigest(jobId, tokens), signature)) {
                    return abi.encodeWithSelector(WrongVoucherSignature.selector);
                }
                acknowledged = capped;
                higher = true;
            }
        }
        uint256 total = uint256(meter.tokensUsed) + tokensClaimed;
        uint256 allowed = acknowledged + job.voucherAllowance;
        if (total > allowed) return abi.encodeWithSelector(VoucherExceeded.selector, allowed, total);
        if (higher) job.voucherTokens = uint48(acknowledged);
    }

    /// @dev The key first, the account's code second: an account that delegates to code (EIP-7702) after it signed must
    /// not thereby revoke the vouchers that a host holds.
    function _isSignedBy(address signer, bytes32 digest, bytes calldata signature) private view returns (bool) {
        (address recovered, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (problem == ECDSA.RecoverError.NoError && recovered == signer) return true;
        return signer.code.length != 0
            && SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature);
    }
}
