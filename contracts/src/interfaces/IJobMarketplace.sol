// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What depositor and host agree on when a session is funded.
/// @param host Account that earns; must be active in the registry.
/// @param token Payment token; zero is the native coin.
/// @param deposit Amount paid in, in the token's smallest unit, below 2^96.
/// @param pricePerToken Smallest units per token generated, at least 1.
/// @param modelDigest SHA-256 of the model file.
/// @param expectedRate Tokens per second; zero means 10. Claims may run at twice this rate, plus a burst.
/// @param maxDuration Seconds after which anyone may request the close.
/// @param timeoutSeconds Seconds without an accepted claim after which anyone may request the close.
/// @param minimumCharge Least charge of a session in which anything was claimed, never more than the deposit.
/// @param verifier Contract that must verify each claim's seal; zero: none, composite receipts are checked off-chain.
/// @param voucherSigner Account whose vouchers bound the claims; zero: none.
/// @param voucherAllowance Tokens that may be claimed beyond the highest voucher.
/// @param saltCommitment SHA-256 of the client's secret salt; zero: no salt.
struct SessionTerms {
    address host;
    address token;
    uint256 deposit;
    uint256 pricePerToken;
    bytes32 modelDigest;
    uint32 expectedRate;
    uint64 maxDuration;
    uint64 timeoutSeconds;
    uint256 minimumCharge;
    address verifier;
    address voucherSigner;
    uint64 voucherAllowance;
    bytes32 saltCommitment;
}

/// @notice Where a job stands.
/// None: no such job. Active: claims of at least the minimum. Closing: last claims, until `claimUntil`.
/// Completed: paid out.
enum Status {
    None,
    Active,
    Closing,
    Completed
}

/// @notice One claim of a batch; the fields are `submitProofOfWork`'s.
struct Claim {
    uint256 jobId;
    uint256 tokensClaimed;
    bytes proof;
}

/// @notice Everything a node needs to know about a job, in one call.
/// @param terms As created; `expectedRate` is never zero here.
/// @param closedToClaims The one claim below the minimum was made: no more claims.
/// @param startTime Unix seconds of creation.
/// @param lastProofTime Unix seconds of the last accepted claim, or of creation.
/// @param claimUntil Unix seconds until which claims are accepted in Closing, inclusive; zero while Active.
/// @param tokensUsed Tokens claimed so far: the next claim's `firstSeq`.
/// @param maxTokens Tokens the deposit pays for.
/// @param voucherTokens Highest voucher seen.
/// @param head Head after the last claim: the next claim's `headBefore`.
struct Session {
    address depositor;
    SessionTerms terms;
    Status status;
    bool closedToClaims;
    uint64 startTime;
    uint64 lastProofTime;
    uint64 claimUntil;
    uint64 tokensUsed;
    uint64 maxTokens;
    uint64 voucherTokens;
    bytes32 head;
}

/// @title Sessions of paid inference: deposit, hash-chained claims, closing window, payout
/// @notice Tokens (generated) are counted from 0 per job. Amounts are in the payment token's smallest unit. Times are
/// Unix seconds, durations seconds, fees basis points. Proof bytes and journal are defined in `docs/statement.md`.
interface IJobMarketplace {
    /// @notice A session was funded; `head` is the genesis head of its transcript.
    event SessionCreated(
        uint256 indexed jobId, address indexed depositor, address indexed host, SessionTerms terms, bytes32 head
    );
    /// @notice A claim was accepted. `tokensClaimed` is the delta, `tokensUsed` the total after it.
    event ProofOfWork(
        uint256 indexed jobId,
        address indexed host,
        uint256 tokensClaimed,
        uint256 tokensUsed,
        bytes32 headAfter,
        uint8 kind
    );
    /// @notice A claim of a batch was refused; `index` is its place in the batch, `reason` the encoded error.
    event ClaimRejected(uint256 indexed jobId, uint256 index, bytes reason);
    /// @notice The job is Closing; claims are accepted up to and including `claimUntil`.
    event CloseRequested(uint256 indexed jobId, address indexed by, uint256 claimUntil);
    /// @notice A content id was attached to the end of a job.
    event ConversationRecorded(uint256 indexed jobId, address indexed by, string conversationCID);
    /// @notice The job was paid: `hostPaid + treasuryFee + refund` is the deposit.
    event SessionCompleted(
        uint256 indexed jobId,
        address indexed host,
        address indexed depositor,
        uint256 tokensUsed,
        uint256 hostPaid,
        uint256 treasuryFee,
        uint256 refund
    );
    /// @notice A payment could not be delivered and waits as a credit.
    event CreditAdded(address indexed account, address indexed token, uint256 amount);
    /// @notice A credit was withdrawn.
    event CreditWithdrawn(address indexed account, address indexed token, address indexed to, uint256 amount);
    /// @notice Fees were withdrawn.
    event TreasuryWithdrawn(address indexed token, address indexed to, uint256 amount);
    /// @notice Sessions may, or may no longer, be paid in `token`.
    event TokenAllowed(address indexed token, bool allowed);

    /// @notice A test deployment is possible on chain id 31337 only.
    error TestDeploymentRefused(uint256 chainId);
    /// @notice A constructor argument is out of its bounds.
    error BadConfiguration();

    /// @notice The host is not registered, or not active.
    error HostNotActive(address host);
    /// @notice Sessions cannot be paid in this token.
    error TokenNotAllowed(address token);
    /// @notice Native sessions must carry the deposit as value, token sessions no value.
    error WrongValue(uint256 expected, uint256 received);
    /// @notice The token delivered something else than the deposit.
    error WrongDepositReceived(uint256 expected, uint256 received);
    /// @notice An amount does not fit: at most `max`.
    error AmountTooLarge(uint256 max, uint256 asked);
    /// @notice A price must be positive.
    error ZeroPrice();
    /// @notice The model digest must not be zero.
    error ZeroModelDigest();
    /// @notice The deposit does not pay for one claim of the minimum.
    error DepositTooSmall(uint256 minimum, uint256 deposit);
    /// @notice `maxDuration` or `timeoutSeconds` is out of bounds.
    error DurationOutOfBounds(uint256 min, uint256 max, uint256 asked);
    /// @notice The verifier must be a contract.
    error VerifierNotAContract(address verifier);
    /// @notice An allowance without a voucher signer means nothing.
    error AllowanceWithoutSigner();

    /// @notice No such job.
    error UnknownJob(uint256 jobId);
    /// @notice The caller is neither the job's host nor one of its submitter keys.
    error NotHost(address caller);
    /// @notice The caller is neither depositor nor host nor submitter.
    error NotParty(address caller);
    /// @notice The job is not in a state that allows this.
    error WrongStatus(Status status);
    /// @notice Others than the parties may request the close only from this time on.
    error CloseTooEarly(uint256 from);
    /// @notice Others than the host may finalize only after this time.
    error FinalizeTooEarly(uint256 claimUntil);

    /// @notice The closing window is over.
    error ClaimWindowOver(uint256 claimUntil);
    /// @notice The last claim was made.
    error ClosedToClaims();
    /// @notice Too few tokens for a claim.
    error BelowMinimum(uint256 minimum, uint256 claimed);
    /// @notice More tokens in all than the rate allows now.
    error RateCapExceeded(uint256 allowed, uint256 asked);
    /// @notice More tokens in all than the deposit pays for.
    error DepositExceeded(uint256 maxTokens, uint256 asked);
    /// @notice More tokens in all than vouchers and allowance cover.
    error VoucherExceeded(uint256 allowed, uint256 asked);
    /// @notice The voucher is not signed by the job's voucher signer.
    error WrongVoucherSignature();
    /// @notice The job takes no vouchers.
    error UnexpectedVoucher();
    /// @notice The proof is not the canonical encoding.
    error MalformedProof();
    /// @notice The journal is not 320 bytes long.
    error WrongJournalLength(uint256 length);
    /// @notice The journal's version is not 1.
    error WrongVersion(uint256 found);
    /// @notice The journal is for another chain.
    error WrongChain(uint256 expected, uint256 found);
    /// @notice The journal is for another marketplace.
    error WrongMarketplace(uint256 found);
    /// @notice The journal is for another job.
    error WrongJob(uint256 expected, uint256 found);
    /// @notice The journal is for another host.
    error WrongHost(address expected, uint256 found);
    /// @notice The journal is for another model.
    error WrongModel(bytes32 expected, bytes32 found);
    /// @notice The claim does not begin where the last one ended.
    error WrongFirstSeq(uint256 expected, uint256 found);
    /// @notice The journal's count is not the number of tokens claimed.
    error WrongCount(uint256 claimed, uint256 found);
    /// @notice The claim does not continue the job's transcript.
    error WrongHeadBefore(bytes32 expected, bytes32 found);
    /// @notice No such kind of proof.
    error UnknownProofKind(uint256 kind);
    /// @notice The job's terms demand a seal for the verifier.
    error SealRequired(uint256 kind);
    /// @notice A seal was given, but the job's terms name no verifier.
    error NoVerifier();
    /// @notice This kind of proof carries no seal.
    error SealNotEmpty();
    /// @notice The seal comes from a prover in development mode.
    error FakeSeal();
    /// @notice The verifier refused the seal.
    error ProofRejected();
    /// @notice Mock proofs are for test deployments.
    error MockProofRefused();
    /// @notice Too many claims in a batch.
    error BatchTooLarge(uint256 max, uint256 asked);

    /// @notice Nothing to withdraw.
    error NothingToWithdraw();
    /// @notice The recipient refused the payment.
    error PaymentRefused(address to);
    /// @notice An address must not be zero.
    error ZeroAddress();

    /// @notice Funds a session; ids count from 1. The native deposit is the value, a token deposit is pulled.
    function createSession(SessionTerms calldata terms) external payable returns (uint256 jobId);

    /// @notice Claims tokens of a job. By the host or a submitter key.
    /// @param jobId The job.
    /// @param tokensClaimed Tokens since the last claim (a delta).
    /// @param proof `abi.encode(uint8 kind, bytes journal, bytes seal, bytes voucher)`.
    function submitProofOfWork(uint256 jobId, uint256 tokensClaimed, bytes calldata proof) external;

    /// @notice Claims tokens of several jobs. A refused claim emits `ClaimRejected` and does not stop the others.
    /// @return accepted How many claims were accepted.
    function submitProofsOfWork(Claim[] calldata claims) external returns (uint256 accepted);

    /// @notice Begins the closing window. By depositor, host or submitter at any time; by anyone after `maxDuration`
    /// or the idle timeout. An Active job accepts claims until somebody does this.
    function requestClose(uint256 jobId) external;

    /// @notice Pays out. By host or submitter at any time (forgoing further claims), by anyone after the window.
    function finalize(uint256 jobId) external;

    /// @notice The original's end of a job: by the host it finalizes; by the depositor it requests the close, or
    /// finalizes once the window is over.
    function completeSessionJob(uint256 jobId, string calldata conversationCID) external;

    /// @notice Sends the caller's credit to the caller.
    function withdrawCredit(address token) external;

    /// @notice Sends the caller's credit to `to`: for accounts that cannot receive.
    function withdrawCreditTo(address token, address to) external;

    /// @notice Sends all fees in `token` to `to`. By the owner.
    function withdrawTreasury(address token, address to) external;

    /// @notice Lets new sessions be paid in `token`. By the owner. Never a token that rebases or takes a cut.
    function allowToken(address token) external;

    /// @notice Stops new sessions from being paid in `token`; open sessions are not touched. By the owner.
    function disallowToken(address token) external;

    /// @notice The job; status None if there is no such job.
    function getSession(uint256 jobId) external view returns (Session memory);

    /// @notice Total tokens that the rate cap alone allows the job to have claimed now.
    function tokensAllowed(uint256 jobId) external view returns (uint256);

    /// @notice From when on anyone may request the close of an Active job; zero if it is not Active.
    function closableFrom(uint256 jobId) external view returns (uint256);

    /// @notice The EIP-712 digest that a voucher signer signs.
    function voucherDigest(uint256 jobId, uint256 tokens) external view returns (bytes32);

    /// @notice How many jobs were ever created: the last job's id.
    function jobCount() external view returns (uint256);

    /// @notice Undelivered payments to `account`.
    function credits(address account, address token) external view returns (uint256);

    /// @notice Fees not withdrawn yet.
    function treasuryBalance(address token) external view returns (uint256);

    /// @notice Whether new sessions may be paid in `token`.
    function isTokenAllowed(address token) external view returns (bool);

    /// @notice The treasury's part of each charge, in basis points, rounded down. Never changes.
    function feeBps() external view returns (uint256);

    /// @notice Length of the closing window in seconds. Never changes.
    function claimWindow() external view returns (uint256);

    /// @notice Image id of the guest whose seals are accepted.
    function imageId() external view returns (bytes32);

    /// @notice Whether mock proofs are accepted.
    function testDeployment() external view returns (bool);

    /// @notice Where hosts are paid.
    function hostEarnings() external view returns (address);

    /// @notice Who the hosts are.
    function hostRegistry() external view returns (address);
}
