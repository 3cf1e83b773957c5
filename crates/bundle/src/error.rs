//! Everything that a bundle can be refused for, and what class it is of.

use milepost_statement::{Digest, TokenCount, TokenSeq};

use crate::{chain, format, landing, link};

/// What kind of refusal it is: the exit code of `milepost verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The receipt does not prove what it claims to.
    ProofFalse,
    /// The proof holds, but not for what stands beside it, or for what was expected.
    StatementDiffers,
    /// What is said of the chain is not so.
    ChainDiffers,
    /// No bundle, or a damaged one.
    Unreadable,
    /// A fake or mock proof: nothing is proven.
    FakeRefused,
    /// Nothing is decided: something that was needed could not be had.
    CannotLook,
}

impl Class {
    /// Exit code of a check that ends so. 0 is kept for a bundle that holds, 64 for a command line that cannot be read.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::ProofFalse => 1,
            Self::StatementDiffers => 2,
            Self::ChainDiffers => 3,
            Self::Unreadable => 4,
            Self::FakeRefused => 5,
            Self::CannotLook => 69,
        }
    }
}

/// A field that whoever checks had an expectation of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Chain id.
    Chain,
    /// The marketplace.
    Marketplace,
    /// The job's number.
    Job,
    /// The host's address.
    Host,
    /// SHA-256 of the model file.
    Model,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Chain => "chain",
            Self::Marketplace => "marketplace",
            Self::Job => "job",
            Self::Host => "host",
            Self::Model => "model",
        })
    }
}

/// Why a bundle is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("{0}")]
    Unreadable(#[from] format::Error),
    /// A mock proof, and nobody said that one will do.
    #[error("this is a mock proof: it proves nothing")]
    Mock,
    /// A mock proof of another chain than 31337.
    #[error("this is a mock proof for chain {0}: it proves nothing, and is not accepted for any chain but 31337")]
    MockElsewhere(u64),
    /// The receipt.
    #[cfg(feature = "stark")]
    #[error("{0}")]
    Receipt(#[from] milepost_prover::VerifyError),
    /// This build verifies no receipts.
    #[error("this build cannot verify a STARK (feature `stark`)")]
    NoVerifier,
    /// A mock receipt of another statement.
    #[error("the mock proof holds another journal than the bundle")]
    MockJournal,
    /// About another program.
    #[error("the bundle is about program {found}, not {expected}")]
    ImageId {
        /// The image id that counts.
        expected: Digest,
        /// The bundle's.
        found: Digest,
    },
    /// Not what whoever checks expected.
    #[error("the claim is about {field} {found}, not {expected}")]
    Expected {
        /// Which field.
        field: Field,
        /// What was expected.
        expected: String,
        /// What the claim says.
        found: String,
    },
    /// The checkpoints have more or fewer tokens than the claim.
    #[error("the checkpoints hold {found} tokens, the claim {expected}")]
    CheckpointTokens {
        /// The claim's.
        expected: TokenCount,
        /// The checkpoints'.
        found: TokenCount,
    },
    /// A checkpoint without tokens, or with too many.
    #[error("checkpoint {checkpoint} has {found} tokens; 1 to 65536 are allowed")]
    CheckpointSize {
        /// Number in the claim, from 0.
        checkpoint: usize,
        /// Its tokens.
        found: TokenCount,
    },
    /// The last checkpoint does not lead to the claim's head.
    #[error("the last checkpoint leads to head {found}, the claim to {expected}")]
    LastHead {
        /// The claim's.
        expected: Digest,
        /// The checkpoint's.
        found: Digest,
    },
    /// The job's first claim does not begin at the job's first head.
    #[error("the job's first head is {expected}, the claim begins at {found}: another job, host, model or salt commitment")]
    Genesis {
        /// Derived from job and commitment.
        expected: Digest,
        /// The claim's.
        found: Digest,
    },
    /// Fewer token ids than tokens.
    #[error("{found} token ids are given for {expected} tokens: {} are missing", expected - found)]
    MissingTokens {
        /// Tokens of the claim.
        expected: u64,
        /// Ids given.
        found: u64,
    },
    /// More token ids than tokens.
    #[error("{found} token ids are given for {expected} tokens: {} too many", found - expected)]
    ExtraTokens {
        /// Tokens of the claim.
        expected: u64,
        /// Ids given.
        found: u64,
    },
    /// Other tokens, another order, or another digest of the turns.
    #[error("checkpoint {checkpoint}: these token ids in this order lead to head {found}, the host committed to {expected}")]
    Tokens {
        /// Number in the claim, from 0.
        checkpoint: usize,
        /// The checkpoint's head.
        expected: Digest,
        /// The head recomputed from the ids.
        found: Digest,
    },
    /// Another number of turns digests than checkpoints.
    #[error("{found} turns digests are given for {expected} checkpoints")]
    TurnsDigests {
        /// Checkpoints.
        expected: usize,
        /// Digests.
        found: usize,
    },
    /// A turn outside of the claim, or behind a later one.
    #[error("a turn begins at token {0}, which is outside of the claim or behind a later turn")]
    TurnPlace(TokenSeq),
    /// The settings are not those of the turn's digest.
    #[error("the sampler settings of the turn at token {0} are not those that its digest names")]
    Settings(TokenSeq),
    /// The salt does not open the commitment.
    #[error("the salt's commitment is {found}, the job's is {expected}")]
    Salt {
        /// The job's.
        expected: Digest,
        /// Of the salt given.
        found: Digest,
    },
    /// The turns do not lead to the checkpoint's turns digest.
    #[error("checkpoint {checkpoint}: the turns lead to digest {found}, the host committed to {expected}")]
    Turns {
        /// Number in the claim, from 0.
        checkpoint: usize,
        /// The checkpoint's.
        expected: Digest,
        /// Recomputed from salt and turns.
        found: Digest,
    },
    /// Its way onto the chain.
    #[error("{0}")]
    Landing(#[from] landing::Error),
    /// The chain says otherwise.
    #[error("{0}")]
    Chain(#[from] chain::Error),
    /// The headers lead from the claim's block to no other.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The certificate does not make the claim's block final.
    #[error("the claim's block is not certified: {0}")]
    NotCertified(String),
}

impl Error {
    /// What class it is of.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreadable(_) => Class::Unreadable,
            Self::Mock | Self::MockElsewhere(_) => Class::FakeRefused,
            #[cfg(feature = "stark")]
            Self::Receipt(why) => of_receipt(why),
            Self::NoVerifier => Class::CannotLook,
            Self::Landing(_) | Self::Link(_) | Self::NotCertified(_) => Class::ChainDiffers,
            Self::Chain(why) => why.class(),
            _ => Class::StatementDiffers,
        }
    }
}

#[cfg(feature = "stark")]
fn of_receipt(why: &milepost_prover::VerifyError) -> Class {
    use milepost_prover::VerifyError as Why;
    match why {
        Why::DevMode | Why::Mock | Why::Fake => Class::FakeRefused,
        Why::Kind { .. } | Why::Format(_) => Class::Unreadable,
        Why::WrongImage { .. } | Why::WrongExit(_) | Why::AlteredJournal | Why::BadSeal(_) | Why::NotAStatement(_) => Class::ProofFalse,
        Why::WrongChain { .. }
        | Why::WrongMarketplace { .. }
        | Why::WrongJob { .. }
        | Why::WrongHost { .. }
        | Why::WrongModel { .. }
        | Why::WrongFirstSeq { .. }
        | Why::WrongCount { .. }
        | Why::WrongHeadBefore { .. }
        | Why::WrongHeadAfter { .. } => Class::StatementDiffers,
    }
}
