use crate::certificate::{Certificate, Finalized};
use crate::chain::ChainView;
use crate::evidence::Evidence;
use crate::network::{Message, Recipient};
use crate::types::{CheckpointNumber, LinkDigest, Millis, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Everything that can happen to the core.
#[derive(Debug, Clone)]
pub enum Event {
    /// The process starts. The nonce is fresh randomness and ties answers to this start.
    Started {
        /// For [`Message::OwnVotesQuery`].
        nonce: u64,
    },
    /// Time passes. Drives resending, statuses and patience; a few times a second is enough.
    Tick(Millis),
    /// A look at the canonical chain that includes the numbers [`Core::wanted`](crate::Core::wanted) names.
    Chain(ChainView),
    /// Votes of all validators below finality, read behind the start. They need not be verified.
    History(Vec<SignedVote>),
    /// The verification behind the start found stored certificates that do not hold: their targets, and the links they stand for.
    Damaged(Vec<(CheckpointNumber, LinkDigest)>),
    /// A message of an authenticated validator.
    Received {
        /// Who sent it.
        from: ValidatorId,
        /// What.
        message: Message,
    },
    /// Answers [`Effect::Sign`]: judged, recorded, synced and signed.
    Signed(SignedVote),
    /// Answers [`Effect::Sign`]: it was judged and recorded, but the signer does not answer. Asked again after a while.
    Unsigned,
    /// Answers [`Effect::Sign`]: the table of own votes forbids it.
    NotSafe {
        /// What the core learns from it.
        verdict: Verdict,
    },
}

/// Why the table of own votes forbids a vote. The table alone decides; the core remembers the answer for as long as the process lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No target up to this number will be signed anew.
    TargetsUpTo(CheckpointNumber),
    /// No source below this number will be signed.
    SourcesBelow(CheckpointNumber),
    /// Nothing will be signed.
    Never(String),
}

/// What the core asks for, to be carried out in this order. Once one of the `Keep…` or `Sign` effects has failed for want of storage,
/// nothing after it may be carried out, now or later.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an effect that is not carried out is a promise that is not kept"]
pub enum Effect {
    /// Judge, record and sync this vote, then sign it; answered with [`Event::Signed`], [`Event::NotSafe`] or [`Event::Unsigned`].
    Sign(Vote),
    /// Keep votes, buffered.
    KeepVotes(Vec<SignedVote>),
    /// Keep a certificate and what is final by it, synced.
    KeepCertificate {
        /// The certificate.
        certificate: Box<Certificate>,
        /// What became final by it, if anything did.
        finalized: Option<Finalized>,
    },
    /// Keep evidence, synced.
    KeepEvidence(Box<Evidence>),
    /// Record that this key signs no more until an operator declares, synced.
    RefuseToSign {
        /// For the operator.
        reason: String,
    },
    /// Hand a message to the bridge.
    Send {
        /// To whom.
        to: Recipient,
        /// What.
        message: Message,
    },
    /// Read certificates above `after` from the storage and send them.
    Serve {
        /// To whom.
        to: ValidatorId,
        /// Above which target.
        after: CheckpointNumber,
    },
    /// Tell the host node: this is final. Follows the synced write of the certificate that makes it so.
    Finalized(Finalized),
}
