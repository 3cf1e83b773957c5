//! What goes on beside the requests: recovery at the start, changes of accounts, idle sessions, the end.

use std::sync::Arc;
use std::time::Duration;

use milepost_ledger::{AccountId, EndReason, Event, Phase, SessionEnd};
use milepost_ledger_db::{Change, Error as DbError};
use tokio::sync::broadcast;

use crate::accounts::is_ephemeral;
use crate::error::Error;
use crate::host::{Host, depositor_name};
use crate::session::Idle;
use crate::sync::lock;
use crate::turn::run::announce;

/// Free accounts forgotten in one batch at the start; there may be very many.
const RETIRED_AT_ONCE: usize = 1_000;

/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

impl Host {
    /// Ends what a crash left running: active turns as *interrupted*, accounts of single requests altogether. Answers how many
    /// turns were found. Call before serving.
    pub async fn recover(&self) -> Result<usize, Error> {
        let now = self.now();
        let mut interrupted = 0;
        let mut forgotten = Vec::new();
        self.weigh().await?;
        // Only what is not finished is loaded, so a long history costs nothing here.
        let loaded = self.db.query(|ledger| ledger.accounts().map(|account| account.record.clone()).collect::<Vec<_>>()).await?;
        for record in loaded {
            let account = record.id;
            let mut events = Vec::new();
            if record.active.is_some() {
                interrupted += 1;
                events.push(Event::EndTurn { account, reason: EndReason::Interrupted, at: now });
            }
            if is_ephemeral(account) {
                if record.phase == Phase::Open {
                    events.push(Event::EndSession { account, reason: SessionEnd::ByHost, at: now });
                }
                forgotten.push(account);
            } else if matches!(account, AccountId::Free(_)) && record.phase != Phase::Open {
                forgotten.push(account);
            }
            if !events.is_empty() {
                self.db.apply(events).await.map_err(|error| self.storage_failed(error))?;
            }
            if record.phase == Phase::Open && !is_ephemeral(account) {
                let session = self.session(account);
                if self.db.meta(&depositor_name(account))?.is_some() {
                    session.opened_by_depositor();
                }
            }
        }
        for accounts in forgotten.chunks(RETIRED_AT_ONCE) {
            self.db
                .apply(accounts.iter().map(|account| Event::Retire { account: *account }).collect())
                .await
                .map_err(|error| self.storage_failed(error))?;
        }
        for record in self.db.free_accounts()? {
            self.keep(&record);
        }
        if interrupted > 0 {
            tracing::warn!(
                event = "turns_interrupted",
                turns = interrupted,
                "turns cut by the last end of the process were closed; their tokens stay collectable"
            );
        }
        Ok(interrupted)
    }

    /// Looks for sessions whose grace or idle time is over: a depositor's is ended, a free one forgotten.
    pub async fn sweep(&self) -> Result<(), Error> {
        let now = self.now();
        let sessions: Vec<_> = lock(&self.sessions).values().cloned().collect();
        for session in sessions {
            if session.idle(now, &self.config) == Idle::No || !self.running(session.id).is_empty() {
                continue;
            }
            match session.id {
                AccountId::Job(_) if session.is_by_depositor() && self.config.end_idle_sessions => {
                    self.end_session(session.id, SessionEnd::Idle).await?;
                }
                AccountId::Job(_) => {}
                AccountId::Free(_) => {
                    lock(&self.labels).retain(|_, id| *id != session.id);
                    let account = session.id;
                    let events = vec![Event::EndSession { account, reason: SessionEnd::Idle, at: now }, Event::Retire { account }];
                    match self.db.apply(events).await {
                        Ok(committed) => {
                            if let Some(record) = committed.account() {
                                self.keep(record);
                            }
                        }
                        Err(DbError::Refused(_)) => {}
                        Err(error) => return Err(self.storage_failed(error)),
                    }
                }
            }
            // Open sockets listen to this session, and must go on hearing.
            if !session.has_sockets() {
                lock(&self.sessions).remove(&session.id);
            }
        }
        self.forget_free().await?;
        self.weigh().await?;
        metrics::gauge!("milepost_sessions").set(count(lock(&self.sessions).len()));
        metrics::gauge!("milepost_turns_live").set(count(self.live_turns()));
        Ok(())
    }

    /// Passes changes of accounts on to turns and sockets, and looks for idle sessions, until the database stops. Wiring runs it
    /// beside the server; [`crate::serve`] does.
    pub async fn housekeeping(self: Arc<Self>) {
        let mut changes = self.db.subscribe();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) => self.changed(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        // What was missed is in the accounts: every turn looks at its own.
                        lock(&self.live).values().for_each(|turn| turn.account_changed());
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = sweep.tick() => if let Err(error) = self.sweep().await {
                    tracing::error!(event = "sweep_failed", %error, "idle sessions could not be ended");
                },
            }
        }
    }

    /// Counts anew what all jobs together need of the prover.
    async fn weigh(&self) -> Result<(), Error> {
        if self.load.is_counted() {
            let load = Arc::clone(&self.load);
            self.db.query(move |ledger| load.recount(ledger.accounts().map(|account| &account.record))).await?;
        }
        Ok(())
    }

    fn changed(&self, change: Change) {
        self.load.moved(change.account, &change.positions, &change.phase);
        let ending = change.phase != Phase::Open;
        for turn in self.running(change.account) {
            // A turn knows its own commits; a claim that landed, or an end, it does not.
            if turn.landed(change.positions.landed) || ending {
                turn.account_changed();
            }
        }
        if let Some(session) = self.known_session(change.account) {
            announce(&session, &change.phase, change.sealed.into_iter().map(Arc::new).collect());
        }
    }

    /// Stops admitting, waits for running turns, interrupts those that take too long, and answers how many were.
    pub async fn drain(&self) -> usize {
        self.draining.send_replace(true);
        self.turns.close();
        tracing::info!(event = "draining", turns = self.live_turns(), "draining");
        let finished = tokio::time::timeout(Duration::from_secs(self.config.drain_seconds), self.turns.wait()).await;
        if finished.is_ok() {
            return 0;
        }
        let cut: Vec<_> = lock(&self.live).values().cloned().collect();
        for turn in &cut {
            turn.cancel(EndReason::Interrupted);
        }
        // A commit ends with the disk, one way or the other.
        self.turns.wait().await;
        cut.len()
    }
}

#[allow(clippy::cast_precision_loss)] // a gauge
fn count(number: usize) -> f64 {
    number as f64
}
