// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Status} from "../interfaces/IJobMarketplace.sol";

/// @notice All of a job that changes with a claim, but the head, in one word: one read and one write per claim, without
/// the masking that a struct costs (about 1,000 gas).
///
///     bits   0  48  tokensUsed      tokens claimed so far
///           48  48  voucherTokens   highest voucher seen
///           96  40  startTime       Unix seconds
///          136  40  lastProofTime   Unix seconds
///          176  40  claimUntil      Unix seconds, zero while Active
///          216  32  maxDuration     seconds; here because there is room
///          248   2  status
///          250   1  closedToClaims
///          251   1  hasVerifier
///          252   1  hasVoucherSigner
type Meter is uint256;

using {
    tokensUsed,
    voucherTokens,
    startTime,
    lastProofTime,
    claimUntil,
    maxDuration,
    status,
    closedToClaims,
    hasVerifier,
    hasVoucherSigner,
    withClaim,
    withClosedToClaims,
    withClosing,
    withCompleted
} for Meter global;

uint256 constant MASK_40 = type(uint40).max;
uint256 constant MASK_48 = type(uint48).max;
uint256 constant CLOSED_TO_CLAIMS = 1 << 250;
uint256 constant HAS_VERIFIER = 1 << 251;
uint256 constant HAS_VOUCHER_SIGNER = 1 << 252;

/// @dev The caller has checked that durations fit 32 bits.
function newMeter(uint256 duration, bool verifier, bool voucherSigner) view returns (Meter) {
    uint256 word = block.timestamp << 96 | block.timestamp << 136 | duration << 216;
    word |= uint256(Status.Active) << 248;
    if (verifier) word |= HAS_VERIFIER;
    if (voucherSigner) word |= HAS_VOUCHER_SIGNER;
    return Meter.wrap(word);
}

function tokensUsed(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) & MASK_48;
}

function voucherTokens(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) >> 48 & MASK_48;
}

function startTime(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) >> 96 & MASK_40;
}

function lastProofTime(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) >> 136 & MASK_40;
}

function claimUntil(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) >> 176 & MASK_40;
}

function maxDuration(Meter meter) pure returns (uint256) {
    return Meter.unwrap(meter) >> 216 & type(uint32).max;
}

function status(Meter meter) pure returns (Status) {
    return Status(Meter.unwrap(meter) >> 248 & 3);
}

function closedToClaims(Meter meter) pure returns (bool) {
    return Meter.unwrap(meter) & CLOSED_TO_CLAIMS != 0;
}

function hasVerifier(Meter meter) pure returns (bool) {
    return Meter.unwrap(meter) & HAS_VERIFIER != 0;
}

function hasVoucherSigner(Meter meter) pure returns (bool) {
    return Meter.unwrap(meter) & HAS_VOUCHER_SIGNER != 0;
}

/// @dev After an accepted claim. The caller has checked that both numbers fit 48 bits.
function withClaim(Meter meter, uint256 used, uint256 acknowledged) view returns (Meter) {
    uint256 kept = Meter.unwrap(meter) & ~(MASK_48 | MASK_48 << 48 | MASK_40 << 136);
    return Meter.wrap(kept | used | acknowledged << 48 | block.timestamp << 136);
}

/// @dev After the one claim below the minimum.
function withClosedToClaims(Meter meter) pure returns (Meter) {
    return Meter.wrap(Meter.unwrap(meter) | CLOSED_TO_CLAIMS);
}

/// @dev The closing window begins.
function withClosing(Meter meter, uint256 until) pure returns (Meter) {
    uint256 kept = Meter.unwrap(meter) & ~(MASK_40 << 176 | uint256(3) << 248);
    return Meter.wrap(kept | until << 176 | uint256(Status.Closing) << 248);
}

/// @dev The job is paid.
function withCompleted(Meter meter) pure returns (Meter) {
    return Meter.wrap(Meter.unwrap(meter) & ~(uint256(3) << 248) | uint256(Status.Completed) << 248);
}
