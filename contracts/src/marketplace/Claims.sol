// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {Claim, IJobMarketplace, Status} from "../interfaces/IJobMarketplace.sol";
import {IRiscZeroVerifier} from "../interfaces/IRiscZeroVerifier.sol";
import {MarketplaceBase} from "./MarketplaceBase.sol";
import {Meter} from "./Meter.sol";
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
            Claim calldata claim = claims[i];
            (refusal, actingFor) = _claim(claim.jobId, claim.tokensClaimed, claim.proof, actingFor);
            if (refusal.length == 0) ++accepted;
            else emit ClaimRejected(claim.jobId, i, refusal);
        }
    }

    /// @param actingFor A host that the caller is known to act for: the jobs of a batch mostly have one host.
    /// @return refusal Empty, or the encoded error.
    /// @return host The host that the caller is known to act for now.
    function _claim(uint256 jobId, uint256 tokensClaimed, bytes calldata proof, address actingFor)
        private
        returns (bytes memory refusal, address host)
    {
        Job storage job = _jobs[jobId];
        Meter meter = job.meter;
        if (meter.status() == Status.None) return (abi.encodeWithSelector(UnknownJob.selector, jobId), actingFor);
        // One slot: read together, and before the registry is asked, they cost one read.
        host = job.host;
        uint256 most = job.maxTokens;
        uint256 rate = job.expectedRate;
        if (host != actingFor && !_isHostOrSubmitter(host)) {
            return (abi.encodeWithSelector(NotHost.selector, msg.sender), actingFor);
        }
        uint256 total;
        (refusal, total) = _checkAmount(meter, most, rate, tokensClaimed);
        if (refusal.length != 0) return (refusal, host);
        refusal = _checkProof(job, meter, jobId, host, tokensClaimed, proof);
        if (refusal.length != 0) return (refusal, host);
        uint256 acknowledged = 0;
        if (meter.hasVoucherSigner()) {
            (refusal, acknowledged) = _checkVoucher(job, meter, jobId, total, proof);
            if (refusal.length != 0) return (refusal, host);
        } else if (proof.voucher().length != 0) {
            return (abi.encodeWithSelector(UnexpectedVoucher.selector), host);
        }

        meter = meter.withClaim(total, acknowledged);
        if (tokensClaimed < MIN_PROVEN_TOKENS) meter = meter.withClosedToClaims();
        bytes32 headAfter = bytes32(proof.word(288));
        job.meter = meter;
        job.head = headAfter;
        // The kind is one of the known ones, so it fits.
        emit ProofOfWork(jobId, host, tokensClaimed, total, headAfter, uint8(proof.kind()));
    }

    function _checkAmount(Meter meter, uint256 most, uint256 rate, uint256 tokensClaimed)
        private
        view
        returns (bytes memory refusal, uint256 total)
    {
        Status status = meter.status();
        if (status == Status.Active) {
            if (tokensClaimed < MIN_PROVEN_TOKENS) {
                return (abi.encodeWithSelector(BelowMinimum.selector, MIN_PROVEN_TOKENS, tokensClaimed), 0);
            }
        } else {
            if (status != Status.Closing) return (abi.encodeWithSelector(WrongStatus.selector, status), 0);
            uint256 until = meter.claimUntil();
            if (block.timestamp > until) return (abi.encodeWithSelector(ClaimWindowOver.selector, until), 0);
            if (meter.closedToClaims()) return (abi.encodeWithSelector(ClosedToClaims.selector), 0);
            if (tokensClaimed == 0) return (abi.encodeWithSelector(BelowMinimum.selector, 1, 0), 0);
        }
        uint256 used = meter.tokensUsed();
        unchecked {
            total = used + tokensClaimed; // wraps only where the first half of the next condition refuses it
        }
        if (tokensClaimed > most || total > most) {
            return (abi.encodeWithSelector(DepositExceeded.selector, most, total), 0);
        }
        uint256 allowed = _rateCap(rate, meter.startTime());
        if (total > allowed) return (abi.encodeWithSelector(RateCapExceeded.selector, allowed, total), 0);
    }

    /// @dev The journal's words 0 to 8 in their order, then the seal.
    function _checkProof(
        Job storage job,
        Meter meter,
        uint256 jobId,
        address host,
        uint256 tokensClaimed,
        bytes calldata proof
    ) private view returns (bytes memory refusal) {
        if (!proof.isWellFormed()) return _nameFault(proof);
        uint256 found = proof.word(0);
        if (found != 1) return abi.encodeWithSelector(WrongVersion.selector, found);
        found = proof.word(32);
        if (found != block.chainid) return abi.encodeWithSelector(WrongChain.selector, block.chainid, found);
        found = proof.word(64);
        if (found != uint160(address(this))) return abi.encodeWithSelector(WrongMarketplace.selector, found);
        found = proof.word(96);
        if (found != jobId) return abi.encodeWithSelector(WrongJob.selector, jobId, found);
        found = proof.word(128);
        if (found != uint160(host)) return abi.encodeWithSelector(WrongHost.selector, host, found);
        found = proof.word(160);
        uint256 expected = uint256(job.modelDigest);
        if (found != expected) return abi.encodeWithSelector(WrongModel.selector, expected, found);
        found = proof.word(192);
        expected = meter.tokensUsed();
        if (found != expected) return abi.encodeWithSelector(WrongFirstSeq.selector, expected, found);
        found = proof.word(224);
        if (found != tokensClaimed) return abi.encodeWithSelector(WrongCount.selector, tokensClaimed, found);
        found = proof.word(256);
        expected = uint256(job.head);
        if (found != expected) return abi.encodeWithSelector(WrongHeadBefore.selector, expected, found);
        return _checkSeal(job, meter, proof);
    }

    function _nameFault(bytes calldata proof) private pure returns (bytes memory) {
        uint256 length = proof.journalLength();
        return length == ProofCodec.JOURNAL_BYTES
            ? abi.encodeWithSelector(MalformedProof.selector)
            : abi.encodeWithSelector(WrongJournalLength.selector, length);
    }

    function _checkSeal(Job storage job, Meter meter, bytes calldata proof)
        private
        view
        returns (bytes memory refusal)
    {
        uint256 kind = proof.kind();
        if (kind == KIND_GROTH16) {
            return meter.hasVerifier() ? _verify(job, proof) : abi.encodeWithSelector(NoVerifier.selector);
        }
        if (kind != KIND_COMPOSITE && kind != KIND_MOCK) {
            return abi.encodeWithSelector(UnknownProofKind.selector, kind);
        }
        if (meter.hasVerifier()) return abi.encodeWithSelector(SealRequired.selector, kind);
        if (proof.hasSeal()) return abi.encodeWithSelector(SealNotEmpty.selector);
        if (kind == KIND_MOCK && !testDeployment) return abi.encodeWithSelector(MockProofRefused.selector);
    }

    function _verify(Job storage job, bytes calldata proof) private view returns (bytes memory refusal) {
        bytes calldata seal = proof.seal();
        if (seal.length < 4 || bytes4(seal) == FAKE_SEAL) return abi.encodeWithSelector(FakeSeal.selector);
        address verifier = job.verifier;
        (bool ok,) = verifier.staticcall(
            abi.encodeCall(IRiscZeroVerifier.verify, (seal, imageId, sha256(proof.journal())))
        );
        // A call to an account without code succeeds: that must not pass for a verified seal.
        if (!ok || verifier.code.length == 0) return abi.encodeWithSelector(ProofRejected.selector);
    }

    /// @return refusal Empty, or the encoded error.
    /// @return acknowledged The highest voucher seen, this one included.
    function _checkVoucher(Job storage job, Meter meter, uint256 jobId, uint256 total, bytes calldata proof)
        private
        view
        returns (bytes memory refusal, uint256 acknowledged)
    {
        address signer = job.voucherSigner;
        uint256 allowance = job.voucherAllowance;
        acknowledged = meter.voucherTokens();
        bytes calldata voucher = proof.voucher();
        if (voucher.length != 0) {
            (bool ok, uint256 tokens, bytes calldata signature) = voucher.splitVoucher();
            if (!ok) return (abi.encodeWithSelector(MalformedProof.selector), 0);
            // No job bills more than MAX_JOB_TOKENS: acknowledging more is acknowledging all.
            uint256 capped = tokens < MAX_JOB_TOKENS ? tokens : MAX_JOB_TOKENS;
            // A voucher no higher than one seen before says nothing new and is not looked at.
            if (capped > acknowledged) {
                if (!_isSignedBy(signer, voucherDigest(jobId, tokens), signature)) {
                    return (abi.encodeWithSelector(WrongVoucherSignature.selector), 0);
                }
                acknowledged = capped;
            }
        }
        uint256 allowed = acknowledged + allowance;
        if (total > allowed) return (abi.encodeWithSelector(VoucherExceeded.selector, allowed, total), 0);
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
