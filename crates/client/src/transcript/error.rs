//! What a host can get wrong, each by its name.

use milepost_statement::{Address, Digest, JobId, SignatureError, TokenCount, TokenId, TokenSeq};

/// Something the host said does not fit the tokens received. Every variant stops the session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Tokens are missing between what was received and what came.
    #[error("tokens {expected} to {got} are missing from the stream")]
    Gap {
        /// The next position.
        expected: TokenSeq,
        /// The position that came.
        got: TokenSeq,
    },
    /// A position came again with another id.
    #[error("token {seq} was {had} and came again as {got}")]
    Rewritten {
        /// The position.
        seq: TokenSeq,
        /// The id received first.
        had: TokenId,
        /// The id that came now.
        got: TokenId,
    },
    /// More tokens came than the turn asked for.
    #[error("{asked} tokens were asked for, and further ones came: what nobody asked for is neither kept nor countersigned")]
    NotAskedFor {
        /// The turn's `max_tokens`.
        asked: TokenCount,
    },
    /// The host counted other than the client.
    #[error("the host counts {host} tokens in this turn, {captured} were received")]
    WrongCount {
        /// What the host says.
        host: TokenCount,
        /// What was received.
        captured: TokenCount,
    },
    /// The host says that it has fewer tokens than it delivered.
    #[error("the host stands at token {host}, but {captured} were received from it: it has lost tokens that it delivered")]
    HostBehind {
        /// Where the host stands.
        host: TokenSeq,
        /// Where the client stands.
        captured: TokenSeq,
    },
    /// An announced checkpoint is not the next one.
    #[error("checkpoint {got} was announced where {expected} comes next")]
    CheckpointNumber {
        /// The next number.
        expected: u64,
        /// The number announced.
        got: u64,
    },
    /// A checkpoint does not begin where the last one ended.
    #[error("checkpoint {number} begins at {got}, the one before it ended at {expected}")]
    CheckpointStart {
        /// Its number.
        number: u64,
        /// Where it must begin.
        expected: TokenSeq,
        /// Where it begins.
        got: TokenSeq,
    },
    /// A checkpoint of no or of too many tokens.
    #[error("checkpoint {number} cannot hold {count} tokens")]
    CheckpointSize {
        /// Its number.
        number: u64,
        /// Its tokens.
        count: TokenCount,
    },
    /// A checkpoint was announced again, differently.
    #[error("checkpoint {number} was announced twice with different contents")]
    CheckpointChanged {
        /// Its number.
        number: u64,
    },
    /// Checkpoints are announced, but their tokens do not come.
    #[error("{waiting} checkpoints are announced whose tokens have not come")]
    TooManyAnnounced {
        /// How many wait.
        waiting: usize,
    },
    /// The head recomputed from the received ids is another one.
    #[error("checkpoint {number} was announced with head {announced}, the received tokens give {computed}")]
    WrongHead {
        /// Its number.
        number: u64,
        /// What was announced.
        announced: Digest,
        /// What the tokens give.
        computed: Digest,
    },
    /// The turns listed do not give the turns digest.
    #[error("checkpoint {number} was announced with turns digest {announced}, its turns give {computed}")]
    WrongTurns {
        /// Its number.
        number: u64,
        /// What was announced.
        announced: Digest,
        /// What the turns give.
        computed: Digest,
    },
    /// A turn in a checkpoint that this client did not ask for.
    #[error("checkpoint {number} holds a turn at token {start} that this client did not ask for")]
    ForeignTurn {
        /// The checkpoint's number.
        number: u64,
        /// Where the turn begins.
        start: TokenSeq,
    },
    /// A receipt for another job.
    #[error("the receipt is for job {got}, not {expected}")]
    ReceiptJob {
        /// Our job.
        expected: JobId,
        /// The receipt's.
        got: JobId,
    },
    /// A receipt for another request.
    #[error("the receipt is not for request {request_id}")]
    ReceiptRequest {
        /// Our request.
        request_id: String,
    },
    /// A receipt that counts other than the client.
    #[error("the receipt counts {receipt} tokens, {captured} were received")]
    ReceiptCount {
        /// Sealed and open tokens of the receipt.
        receipt: TokenCount,
        /// Tokens received.
        captured: TokenCount,
    },
    /// More is sealed than was announced: not a fault yet, the announcements must be fetched.
    #[error("{sealed} tokens are sealed, but checkpoints are known only up to {have}")]
    MissingCheckpoints {
        /// End of the last known checkpoint.
        have: TokenSeq,
        /// Tokens sealed according to receipt or chain.
        sealed: TokenCount,
    },
    /// A receipt whose sealed position is the end of no checkpoint.
    #[error("the receipt says that {sealed} tokens are sealed, where no checkpoint ends")]
    ReceiptBoundary {
        /// The position.
        sealed: TokenCount,
    },
    /// A receipt with another sealed head.
    #[error("the receipt's sealed head is {receipt}, the received tokens give {computed}")]
    ReceiptHead {
        /// The receipt's.
        receipt: Digest,
        /// Ours.
        computed: Digest,
    },
    /// A receipt whose open digest does not cover the received tokens.
    #[error("the receipt's open digest is {receipt}, the received tokens give {computed}")]
    ReceiptOpenDigest {
        /// The receipt's.
        receipt: Digest,
        /// Ours.
        computed: Digest,
    },
    /// A receipt without a signature on a job with a chain.
    #[error("the receipt is not signed")]
    Unsigned,
    /// A signature that names no signer.
    #[error("the receipt's signature: {0}")]
    Signature(SignatureError),
    /// Somebody else's signature.
    #[error("the receipt is signed by {signer}, which is neither the host {host} nor one of its submitter keys")]
    WrongSigner {
        /// Who signed.
        signer: Address,
        /// The job's host.
        host: Address,
    },
    /// The chain has accepted claims for more tokens than were received.
    #[error("the chain has {chain} tokens claimed, {captured} were received")]
    ChainBeyond {
        /// Claimed on chain.
        chain: TokenCount,
        /// Received.
        captured: TokenCount,
    },
    /// The chain's head is not ours.
    #[error("the chain's head is {chain}, the received tokens give {computed}")]
    ChainHead {
        /// The chain's.
        chain: Digest,
        /// Ours.
        computed: Digest,
    },
    /// The chain's claims end where no checkpoint ends.
    #[error("claims on chain end at token {tokens}, where no checkpoint ends")]
    ChainBoundary {
        /// The position.
        tokens: TokenCount,
    },
}
