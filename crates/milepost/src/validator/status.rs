//! How the validator is doing, for its pages, its metrics and its log.

use std::time::Instant;

use finality_gadget::{CheckpointNumber, FinalityCheckpoint, Health, Lag, Reason, Standing, ValidatorId};
use milepost_validator_net::PeerReport;
use serde_json::{Value, json};

use super::chain::ChainState;

/// What the gadget's thread tells of itself a few times a second.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// Who this is.
    pub(super) validator: ValidatorId,
    /// The last final checkpoint.
    pub(super) finalized: FinalityCheckpoint,
    /// The gadget's own words.
    pub(super) health: Health,
    /// Highest target that the own key has signed, or was declared to have signed; `None` without a record.
    pub(super) last_signed: Option<CheckpointNumber>,
    /// What an operator can do about a node that does not sign.
    pub(super) advice: Option<String>,
    /// When this was so.
    pub(super) at: Instant,
    /// Whether every certificate of before the start was verified, and how many did not hold.
    pub(super) verified: (bool, usize),
}

impl Status {
    /// In one word.
    pub(super) fn standing(&self) -> &'static str {
        match self.health.standing {
            Standing::Observer => "observer",
            Standing::Asking { .. } => "asking",
            Standing::Signing => "signing",
            Standing::Refused { .. } => "refused",
        }
    }

    /// Why it does not sign, in words; empty where it does.
    pub(super) fn reason(&self) -> String {
        match &self.health.standing {
            Standing::Signing => String::new(),
            Standing::Observer => "it has no vote key, or persistence is not enabled".to_owned(),
            Standing::Asking { answers, needed } => {
                format!("{answers} of the {needed} peers needed have told which votes of this key they know")
            }
            Standing::Refused { reason } => reason.clone(),
        }
    }
}

/// How far finality is behind, in one word.
pub(super) fn lag(lag: Lag) -> &'static str {
    match lag {
        Lag::Current => "current",
        Lag::Behind => "behind",
        Lag::Far => "far",
    }
}

/// A reason why nothing is certified, for an operator.
pub(super) fn words(reason: &Reason) -> String {
    match reason {
        Reason::Observer => "this node does not vote".to_owned(),
        Reason::NoChain => "the chain has not answered with what was asked for".to_owned(),
        Reason::NothingToVoteFor => "everything that the chain offers is certified".to_owned(),
        Reason::WaitingForTheChain => "the chain's own `finalized` tag has not moved on".to_owned(),
        Reason::Waiting { target } => format!("an own vote for {target} is out and waits for others"),
        Reason::TooFewPeers { set, heard, needed } => {
            format!("{heard} validators of set {set} are heard, this one included; {needed} are needed")
        }
        Reason::Split { target, leading, needed } => {
            format!("votes for {target} disagree: {leading} agree where {needed} must; the chain was reorganised under the voters")
        }
        Reason::Asking { answers, needed } => format!("{answers} of {needed} peers have told which votes of this key they know"),
        Reason::Refused(reason) => format!("this key does not sign: {reason}"),
        Reason::Halted(reason) => format!("halted: {reason}"),
        Reason::FinalNotCanonical { finalized } => {
            format!(
                "checkpoint {finalized} is final and no longer on the chain: operators must agree on a new trusted checkpoint and set id"
            )
        }
        Reason::SourceBelowMark { source, mark } => {
            format!("justified on this chain is {source}, and this key signs no source below {mark}: the others must come so far first")
        }
        Reason::TooManySets => "the next link would span more sets than may vote together".to_owned(),
        Reason::NotAMember => "no set that votes now names this validator".to_owned(),
    }
}

/// Everything, as `/status` gives it.
pub(super) fn page(status: &Status, chain: &ChainState, peers: &[PeerReport], strangers: u64) -> Value {
    let health = &status.health;
    let stuck = health
        .stuck
        .as_ref()
        .map(|stuck| json!({ "milliseconds": stuck.for_ms, "reasons": stuck.reasons.iter().map(words).collect::<Vec<_>>() }));
    let peers: Vec<Value> = peers.iter().map(peer).collect();
    json!({
        "validator": status.validator.0,
        "standing": status.standing(),
        "reason": status.reason(),
        "advice": status.advice,
        "finalized": { "number": status.finalized.number.0, "hash": status.finalized.hash.to_string() },
        "justified": health.justified.0,
        "eligible": health.eligible.0,
        "last_signed": status.last_signed.map(|number| number.0),
        "lag": lag(health.lag),
        "stuck": stuck,
        "evidence": health.evidence,
        "false_signatures": health.faults,
        "verified": status.verified.0,
        "damaged_certificates": status.verified.1,
        "chain": { "up": chain.up, "endpoint": chain.endpoint, "error": chain.error, "finalized": chain.finalized.map(|number| number.0) },
        "peers": peers,
        "strangers": strangers,
    })
}

fn peer(peer: &PeerReport) -> Value {
    json!({
        "validator": peer.validator.0,
        "address": peer.address,
        "reached": peer.reached,
        "heard": peer.heard,
        "failure": peer.failure.as_ref().filter(|_| !peer.reached).map(ToString::to_string),
        "refused": peer.refused.as_ref().filter(|_| !peer.heard).map(ToString::to_string),
        "sent": peer.sent,
        "received": peer.received,
        "dropped": peer.dropped,
    })
}
