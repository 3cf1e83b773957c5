//! Checkpoint finality as a library: votes, certificates and evidence over the checkpoints of somebody else's chain.

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
