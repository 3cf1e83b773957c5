//! Claims on chain: planned, proven, signed, sent, watched, paid out.
//!
//! # The protocol
//!
//! ```text
//!  planned ─▶ proving ─▶ proven ─▶ signed ─▶ sent ─▶ included ─▶ final      each durable before its effect
//!     ▲                               │         │        │
//!     └── reverted · replaced ◀───────┴─────────┴────────┘ (at finality depth, by the chain's word alone)
//! ```
//!
//! [`milepost_ledger::plan`] says what a job needs; [`Settlement`] does it and records it. One task owns the submitter key and its
//! nonces. Everything it knows is in the ledger: it can be killed at any instant and started again.
//!
//! # Guarantees
//!
//! - *Exactly once.* One unresolved claim per job, one nonce per claim for life, the signed bytes stored before they are sent and
//!   sent again byte for byte. The contract refuses what does not continue the job's hash chain, so that even a copy cannot pay twice.
//! - *A time-out is neither success nor failure.* Only a receipt in a canonical block, or a nonce used up at finality depth by
//!   something else, ends the wait.
//! - *Payment is confirmed.* The payout is taken from the chain's event, when final, and compared with the ledger to the unit.
//! - *Nothing is assumed.* Chain id, code, selectors and the key's right are checked before anything is signed ([`Preflight`]).
//! - *The key is ours alone.* A lock per key, and nothing is signed while the chain counts more transactions of it than the ledger.
//! - *Nothing waits for ever.* The transaction that is next has its fee raised, up to a ceiling; then the operator is told.
//! - *No form of the contract is assumed.* The code itself is scanned, through proxies, and says which [`generation`] it is.
//!
//! # Log events
//!
//! Stable names in the field `event`: `settlement_ready`, `gas_empty`, `key_ahead`, `key_accepted`, `chain_down`, `chain_back`, `endpoint_down`, `endpoint_back`; `claim_planned`, `claim_paced`,
//! `claim_abandoned`, `proof_started`, `proof_made`, `proof_failed`, `proof_unneeded`; `tx_signed`, `tx_sent`, `tx_unknown`,
//! `tx_not_taken`, `tx_never_taken`, `tx_nonce_used`, `tx_not_judged`, `tx_bumped`, `tx_stuck`, `tx_cancelling`, `gap_filled`, `queue_not_tended`, `tx_included`, `tx_reverted`, `tx_reorged`, `tx_replaced`, `tx_final`,
//! `claim_final`; `rate_measured`, `rate_unknown` (marketplaces of other generations); `closing_seen`, `session_ending`, `session_paid`, `tokens_written_off`, `job_halted`, `payout_wrong`, `job_moved`,
//! `job_restless`, `settle_trouble`; `finality_trouble`, `finality_well`, and those of `milepost_validator_net::light`; in log mode `would_submit`, `log_mode_lagged`.
//!
//! # Metrics
//!
//! `milepost_tx_*` for the key's transactions (pending, nonce, raises, latency, fees, stuck), and how the jobs stand: the list is in
//! `telemetry.rs`.

mod backoff;
pub mod bindings;
mod books;
mod chain;
mod clock;
mod config;
mod convert;
mod driver;
mod error;
pub mod generation;
mod key;
mod key_lock;
mod log_mode;
mod next;
mod reconcile;
mod revert;
mod service;
mod status;
mod submitter;
mod telemetry;
mod why;

pub use books::Probe;
pub use chain::{
    CertifiedBlock, Chain, Completed, Constants, EndpointHealth, FinalityStatus, Head, HostRecord, LandedClaim, OnChain, PROFILES,
    Preflight, Profile, SourceStatus, TokenInfo, profile, pushed_selectors, required_functions,
};
pub use clock::Clock;
pub use config::{Certificates, DeployedConfig, Endpoint, Finality, RpcUrl, S3Config, SettlementConfig};
pub use error::Error;
pub use key::SubmitterKey;
pub use key_lock::KeyLock;
pub use log_mode::LogSettler;
pub use next::next_step;
pub use reconcile::{Finding, JobReport, Report, Verdict, reconcile};
pub use service::{Deps, Handle, Settlement, check_belongs};
pub use status::{ChainState, Status, Trouble};
pub use submitter::{KeyUse, Stuck, accept_nonces, accept_nonces_below, expect_nonce, key_use, knows_key, record_cancel, recorded_cancels};
pub use why::{Answer, why};

/// Installs ring as the process's TLS provider, once: HTTP clients are built without one of their own.
pub fn install_tls() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
