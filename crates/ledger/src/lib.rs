//! The money rules of Milepost as a pure state machine: events in, effects out. No clock, no disk, no network.
//!
//! # Positions
//!
//! Every account has one transcript of token ids, numbered from 0. Seven positions in it are each a prefix:
//!
//! | | position | moves when |
//! |---|---|---|
//! | M | metered | a token is durable ([`Event::Metered`]) |
//! | S | sealed | a checkpoint closes the open run |
//! | P | proven | a claim's proof was verified and stored |
//! | U | submitted | a claim's transaction was signed; falls to L when that claim is resolved without landing |
//! | L | landed | the claim is included on the canonical chain; falls to F on a reorganisation |
//! | F | final | that block is final |
//! | Z | paid | the payout is final |
//!
//! `Z ≤ F ≤ L ≤ U ≤ P ≤ S ≤ M ≤ deposit / price`, always. M, S, P, F and Z never fall. What is neither paid nor payable any more
//! is written off by reason: at the end `M = Z + W`. [`Positions::check`] is that line; [`Ledger::apply`] asserts it after
//! every event.
//!
//! # Example
//!
//! 250 tokens metered one by one with a threshold of 100 give two checkpoints (0..100, 100..200) and an open run of 50. A claim
//! over both is planned, proven, signed (U = 200), included (L = 200) and final (F = 200). The session ends: the rest is
//! sealed (200..250), claimed while the job is closing, and paid with the rest (Z = 250, W = 0).
//!
//! # Several claims, one transaction
//!
//! A transaction may carry claims of several jobs ([`Purpose::Claims`]). They share its nonce and its place on the chain: signed, included,
//! reorganised away, final and replaced move all of them in one event, which applies to all or to none. They do not share a fate: the
//! contract accepts or refuses each for itself ([`Outcome::Partly`]), and a job that was paid, halted or forgotten meanwhile is passed
//! over, so that the others go on.
//!
//! # Guarantees
//!
//! An event either applies whole or changes nothing. Effects are returned in the order in which they must become durable,
//! together, before anything they describe leaves the process.
//!
//! **Does not** know whether its effects were written: whoever calls [`Ledger::apply`] must write them or stop for good.

mod account;
mod admission;
mod apply;
mod claim;
mod effect;
mod error;
mod event;
mod planner;
mod positions;
mod restore;
mod savepoint;
mod terms;
mod tx;
mod units;

pub use account::{Account, AccountId, ActiveTurn, CheckpointMeta, OpenRun, Phase};
pub use admission::{Admission, Bound, ClaimPace, Limits, MAX_UNCLAIMED_WITHOUT_WINDOW, SharedProver};
pub use apply::Ledger;
pub use claim::{Claim, ClaimId, ClaimState, ProofMeta};
pub use effect::{AccountRecord, CheckpointRecord, Effect, TurnRecord, TurnState};
pub use error::Error;
pub use event::{EndReason, Event, OpenAccount, SessionEnd, StartTurn, WriteOff};
pub use planner::{ChainStatus, ChainView, MAX_CLOSING_REVERTS, PlanConfig, Step, WaitFor, plan};
pub use positions::{Broken, Positions};
pub use restore::Restored;
pub use savepoint::Savepoint;
pub use terms::{Deployed, Payout, Terms, VoucherTerms};
pub use tx::{Attempt, Outcome, Purpose, Refused, RevertClass, Tx, TxId, TxState};
pub use units::{BlockRef, TokenAmount, UnixSeconds};

pub use milepost_statement::{
    Address, ChainId, Digest, JobId, ProofKind, Salt, Sampler, Statement, TokenCount, TokenId, TokenSeq, Turn, TurnReceipt,
};
