//! The gadget's thread: everything that happens to the gadget happens here, one thing after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use checkpoint_db::CheckpointDB;
use finality_gadget::{CheckpointFinality, CheckpointNumber, Lag, Millis, Standing, ValidatorId};
use milepost_validator_net::Inbox;
use milepost_validator_net::light::Board;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::chain::Look;
use super::status::{self, Status};
use super::{Error, meters};

/// Messages taken in a row before anything else has its turn: a flood may not keep the time or the chain waiting.
const MESSAGES_IN_A_ROW: usize = 32;

/// The gadget, and what comes in.
pub(super) struct Driver {
    /// The rules, with storage, signer and network.
    pub(super) gadget: CheckpointFinality,
    /// Who this is.
    pub(super) me: ValidatorId,
    /// The database, for what the record of own votes says; none without persistence.
    pub(super) db: Option<Arc<CheckpointDB>>,
    /// What other validators send.
    pub(super) inbox: Inbox,
    /// What the chain says.
    pub(super) looks: mpsc::Receiver<Look>,
    /// Time between two ticks.
    pub(super) tick: Duration,
    /// What everybody may ask for.
    pub(super) board: Board,
    /// For whoever wants to know how it is doing.
    pub(super) status: watch::Sender<Option<Status>>,
}

impl Driver {
    /// Runs until told to stop. Blocks its thread while the database syncs.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {
                    self.gadget.tick(Millis(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)))?;
                    // A page of what the last start only checked by digest; nothing once all are done.
                    self.gadget.verify_restored()?;
                    self.publish()?;
                }
                look = self.looks.recv() => match look {
                    Some(Look::Wanted { eligible, finalized, answer }) => {
                        // Whoever asked may have been told to stop meanwhile.
                        let _ = answer.send(self.gadget.wanted(eligible, finalized));
                    }
                    Some(Look::View(view)) => self.gadget.observe(view)?,
                    None => return ended("chain", &stop),
                },
                message = self.inbox.next() => {
                    let Some((from, message)) = message else { return ended("network", &stop) };
                    self.gadget.receive(from, message)?;
                    for _ in 1..MESSAGES_IN_A_ROW {
                        let Some((from, message)) = self.inbox.try_next() else { break };
                        self.gadget.receive(from, message)?;
                    }
                }
            }
            // The log tells of each; nobody else asks for them here.
            self.gadget.advance_finality();
            self.board.update(&self.gadget);
        }
    }

    fn publish(&mut self) -> Result<(), Error> {
        let health = self.gadget.health();
        let state = self.db.as_ref().map(|db| db.sign_state()).transpose()?.flatten();
        let advice = match &health.standing {
            Standing::Refused { .. } => Some(self.advice(state.is_some())?),
            _ => None,
        };
        let verified = self.gadget.background().map_or((true, 0), |background| (background.is_done(), background.damaged().len()));
        let last_signed = state.map(|state| state.max_target);
        let (validator, finalized, at) = (self.me, self.gadget.finalized().checkpoint, Instant::now());
        let status = Status { validator, finalized, health, last_signed, advice, at, verified };
        meters::status(&status);
        let before = self.status.send_replace(Some(status));
        let now = self.status.borrow();
        if let Some(now) = &*now {
            tell(before.as_ref(), now);
        }
        Ok(())
    }

    /// What an operator can do so that a refused key signs.
    fn advice(&self, recorded: bool) -> Result<String, Error> {
        let doubt = self.db.as_ref().map(|db| db.doubt()).transpose()?.flatten();
        let stopped =
            "make sure that no other process uses this key, stop this one, and run `milepost validator declare --old-process-stopped`";
        Ok(if recorded || doubt.is_some() {
            format!("{stopped} (docs/validators.md)")
        } else {
            format!(
                "a key that has never signed: stop this process and run `milepost validator declare --never-signed`; any other: {stopped}"
            )
        })
    }
}

/// A part that feeds the gadget is gone. When the process was told to stop that is as it should be.
fn ended(part: &'static str, stop: &CancellationToken) -> Result<(), Error> {
    if stop.is_cancelled() { Ok(()) } else { Err(Error::Ended { part, reason: "it sends nothing any more".to_owned() }) }
}

/// Logs what has changed.
fn tell(before: Option<&Status>, now: &Status) {
    let health = &now.health;
    if before.is_none_or(|before| before.health.standing != health.standing) {
        let (standing, reason) = (now.standing(), now.reason());
        match &health.standing {
            Standing::Signing => tracing::info!(event = "standing", standing, "this validator signs"),
            Standing::Observer => tracing::warn!(event = "standing", standing, reason, "this node observes and does not sign"),
            Standing::Asking { .. } => tracing::info!(event = "standing", standing, reason, "peers are asked for votes of this key"),
            Standing::Refused { .. } => {
                let advice = now.advice.as_deref().unwrap_or_default();
                tracing::error!(event = "standing", standing, reason, advice, "this validator observes and does not sign");
            }
        }
    }
    let was = before.map(|before| before.health.lag);
    if was.is_some_and(|was| was != health.lag) {
        let (lag, finalized, eligible) = (status::lag(health.lag), now.finalized.number, health.eligible);
        if health.lag == Lag::Far {
            tracing::warn!(event = "lag", lag, %finalized, %eligible, "finality is far behind the chain");
        } else {
            tracing::info!(event = "lag", lag, %finalized, %eligible, "how far finality is behind the chain has changed");
        }
    }
    let reasons = |status: &Status| status.health.stuck.as_ref().map(|stuck| stuck.reasons.iter().map(status::words).collect::<Vec<_>>());
    match (before.and_then(reasons), reasons(now)) {
        (was, Some(reasons)) if was.as_ref() != Some(&reasons) => {
            let seconds = health.stuck.as_ref().map_or(0, |stuck| stuck.for_ms / 1_000);
            tracing::warn!(event = "finality_stuck", seconds, reasons = reasons.join("; "), "finality stands still");
        }
        (Some(_), None) => {
            tracing::info!(event = "finality_moves", finalized = %now.finalized.number, justified = %health.justified, "finality moves again");
        }
        _ => {}
    }
}

/// Time between two ticks for these times of the protocol: a quarter of the shortest, between 20 and 250 ms.
pub(super) fn tick_for(rules: &finality_gadget::Config) -> Duration {
    Duration::from_millis((rules.resend_every.min(rules.status_every).min(rules.settle.max(1)) / 4).clamp(20, 250))
}

/// A number that starts have in common with nobody.
pub(super) fn nonce() -> Result<u64, Error> {
    let bytes = crate::keys::seal::random::<8>().map_err(|error| Error::System(error.to_string()))?;
    Ok(u64::from_be_bytes(bytes))
}

/// The highest number eligible at a height, given the distance of checkpoints.
pub(super) fn eligible(height: finality_gadget::BlockNumber, interval: u64) -> CheckpointNumber {
    CheckpointNumber(height.0 / interval.max(1))
}
