//! Checkpoint finality as a library: validators vote on checkpoints of somebody else's chain, a quorum of identical votes is a
//! certificate, and certificates make checkpoints final. A restart loses nothing, and never makes a validator contradict itself.
//!
//! The crate links no database, network, runtime or chain. It asks for four things: a [`CheckpointStorage`], a [`NetworkBridge`], looks at
//! the chain ([`chain::look`] over a [`CanonicalChainClient`], or an own way of making a [`ChainView`]), and the time.
//!
//! # State
//!
//! - A **checkpoint** is a canonical block whose height is a multiple of the interval; its number is height / interval. The **trusted
//!   checkpoint** is named in the configuration and final by definition; with the chain id it is the [`Domain`] of every signature.
//! - A **validator set** of n members outlives f = ⌊(n − 1) / 3⌋ faulty ones; a **quorum** is n − f. The [`Schedule`] says which set is in
//!   force for which numbers: one with boundary N for all above N.
//! - A **vote** is a [`Link`] `source → target`. Its signed bytes hold the domain, the id of the set at the target, the digests of all sets
//!   in force from source to target, the link, and the digest of the link before, which justified the source.
//! - A **certificate** is a quorum *of each of those sets* behind the very same bytes: one message, one bitmap, one aggregate. It
//!   **justifies** its target and certifies itself: who has the sets needs nothing else, and by the digests it speaks for all links
//!   behind it.
//!
//! # Finality
//!
//! - [`FinalityRule::Single`]: a certificate finalises its target. Votes are cast only at or below the chain's own `finalized` tag.
//! - [`FinalityRule::Ffg`]: a justified checkpoint is final when its direct child (number + 1) is justified from it (Casper FFG).
//!
//! # Voting
//!
//! 1. The source is the highest justified checkpoint on this node's chain, not below the last final one.
//! 2. The target descends from it. It is the source's child. Where that number is used up and nothing was certified for a while, it is
//!    the roundest number above everything signed, after longer and longer patience, so that validators with different heads meet at
//!    one number.
//! 3. The **table of own votes** decides: a target above every target, and a source not below any source, that this key ever signed. What
//!    is in the table byte for byte may be sent again. Check and insert are one transaction and one synced write, and only that
//!    yields the [`Safe`] that a [`VoteSigner`] takes.
//!
//! Slashable are two different votes for one target, and two votes of which one surrounds the other. Rule 3 excludes both: a new vote's
//! target is above, so no old one surrounds it; its source is not below, so it surrounds no old one.
//!
//! # Why two conflicting checkpoints are never final
//!
//! Under `Ffg`, with at most f faulty members in each set: two quorums of a set share an honest member, so that one number has at most one
//! justified checkpoint. Let a be final by `a → a + 1`, and b be final, higher, and not a descendant of a. On b's chain of links
//! there is one, `s → t`, with s < a and t > a + 1. Both links needed a quorum of the set in force at a + 1, so some honest member
//! signed both; but one surrounds the other. Hence also the quorum of *every* set on the way: with the new set alone a link could jump
//! over the boundary and share no signer with what the old set has made final.
//!
//! # Messages
//!
//! Every validator talks to every other ([`Message`]). Votes go to all and are sent again, byte for byte, until certified; whoever already
//! has the certificate answers with it. Statuses go out now and then, and whoever is further helps. A vote that contradicts a certificate
//! is passed on to all, so that two halves of a contradiction meet. Nothing is trusted but signatures; a false one costs its sender
//! time of silence. Votes for far targets, answers, evidence and memory are bounded.
//!
//! # Evidence
//!
//! Both statements of a contradiction are kept, survive pruning, and convince a third party that has only the schedule
//! ([`Evidence::verify`]); it is verified before it is kept. A certificate testifies against each of its signers.
//!
//! # Starts
//!
//! The newest certificate and the digests below it are verified before anything else, every aggregate behind it in pages
//! ([`CheckpointFinality::verify_restored`]); what does not hold is no longer used or served, and peers are asked for it. The record of own
//! votes is tied to its key: a directory of another validator is refused. Then peers are asked for votes of this key: one that the table does not know, from whomever
//! and whenever, ends signing until an operator declares; without a quorum of answers the node observes. It signs when all have answered,
//! or a quorum and the others had time to. A node without any record
//! observes too. The declaration ([`persistence::Declaration::OldProcessStopped`]) sets the watermarks to a number K that the old process
//! cannot have voted above: sources ≥ K and targets > K only.
//!
//! # Does not guarantee
//!
//! - **Anything with more than f faulty members in a set.** Two certificates that contradict each other convict at least f + 1 of them and
//!   halt the gadget, also after restarts: only a new trusted checkpoint ends that.
//! - **Finality against the chain's will.** With `Ffg` over unfinalised blocks a reorganisation below what is justified can halt it; health
//!   says so, and only a new trusted checkpoint with a new set id, agreed among operators, restarts it.
//! - **That an old backup is always noticed.** Peers remember only votes that reached them. An operator who restores one must declare.
//! - **Agreement on set changes.** Boundaries come from operators, before anyone votes across them.
//! - **That a vote arrives**, or that the one who signs is awake: liveness needs a quorum that hears each other and sees one chain.
//!
//! # Worked example
//!
//! Four validators, f = 1, quorum 3, `Ffg`. The chain offers checkpoint 1; all sign `0 → 1`. When validator 0 holds three identical votes it
//! has a certificate: 1 is justified. At 2 all sign `1 → 2`; the certificate justifies 2, and since 2 is 1's direct child, 1 is final. Now the
//! chain is reorganised at 3: two have signed `2 → 3a` and two `2 → 3b`. Nobody may sign again for 3. When the chain has reached 4, after a
//! while without a certificate, all sign `2 → 4`, whose target is the roundest number above 3. At 5 they sign `4 → 5`, and 4 is final.
//!
//! ```
//! use std::sync::Arc;
//! use finality_gadget::scheme::{Bls, BlsSigner};
//! use finality_gadget::*;
//!
//! let seeds = [[1u8; 32], [2; 32], [3; 32], [4; 32]];
//! let signers: Vec<BlsSigner> = seeds.iter().map(|seed| BlsSigner::from_seed(seed)).collect::<Result<_, _>>()?;
//! let members: Vec<Registration> = (0u32..)
//!     .zip(&signers)
//!     .map(|(id, signer)| Registration { id: ValidatorId(id), key: signer.public_key().clone(), possession: signer.possession() })
//!     .collect();
//! let set = ValidatorSet::new(SetId(1), &Bls, &members)?;
//! assert_eq!((set.faults(), set.quorum()), (1, 3));
//!
//! let genesis = FinalityCheckpoint { number: CheckpointNumber(0), hash: BlockHash([7; 32]) };
//! let domain = Domain { chain: ChainId(84532), trusted: TrustedCheckpoint { checkpoint: genesis, set: set.digest() } };
//! let schedule = Schedule::new(domain, Arc::new(Bls), set)?;
//!
//! struct Nowhere;
//! impl NetworkBridge for Nowhere {
//!     fn send(&self, _: Recipient, _: &Message) {}
//! }
//! let config = Config::new(FinalityRule::Ffg, None);
//! let gadget = CheckpointFinality::new(config, schedule, CheckpointPersistenceConfig::testnet(), Arc::new(Nowhere), None);
//! assert_eq!(gadget.finalized().checkpoint, genesis);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bitmap;
mod certificate;
pub mod chain;
pub mod codec;
mod core;
mod domain;
pub mod evidence;
pub mod finality;
pub mod network;
pub mod persistence;
pub mod scheme;
pub mod set;
#[cfg(any(test, feature = "simulator"))]
pub mod simulator;
mod types;
mod vote;

pub use bitmap::Bitmap;
pub use certificate::{Certificate, Finalized};
pub use chain::{CanonicalChainClient, ChainHead, ChainView};
pub use core::{Config, Core, Effect, Event, FinalityRule, Health, Lag, Reason, Restored, Standing, Stuck, Verdict};
pub use domain::{Domain, TrustedCheckpoint};
pub use evidence::{Evidence, Testimony};
pub use finality::CheckpointFinality;
pub use network::{Message, NetworkBridge, Recipient};
pub use persistence::{CheckpointPersistenceConfig, CheckpointStorage, Safe};
pub use scheme::{PublicKey, VoteScheme, VoteSigner};
pub use set::{Electorate, Registration, Schedule, ValidatorSet};
pub use types::{
    BlockHash, BlockNumber, ChainId, CheckpointNumber, DomainDigest, EvidenceId, FinalityCheckpoint, Link, LinkDigest, Millis, SetDigest,
    SetId, ValidatorId, ValidatorIndex,
};
pub use vote::{Conflict, MAX_SETS_PER_LINK, MAX_SIGNATURE_BYTES, Signature, SignedVote, Vote};
