//! The end of a turn in the ledger: in order, or by a fault of this program.
//!
//! A turn under which this program panics ends like one that a crash cut, since its tokens are durable and billed: as
//! *interrupted*, with everything that was committed, and the account is free for the next request.

use std::sync::Arc;

use milepost_ledger::{AccountId, AccountRecord, EndReason, Error as Refused, Event, SessionEnd, TurnState};
use milepost_ledger_db::{Blob, Error as DbError};

use super::Ended;
use super::live::{Log, Outcome};
use super::replay::recorded;
use super::run::Run;
use crate::error::Error;
use crate::receipt::Receipt;

/// What is there once a turn has ended.
pub(super) struct Closed {
    pub(super) receipt: Option<Receipt>,
    pub(super) record: Option<AccountRecord>,
    pub(super) by_session_end: bool,
}

/// Name of a turn's stored receipt.
pub(crate) fn receipt_name(account: AccountId, turn: u32) -> String {
    format!("{}{turn}", receipts_of(account))
}

/// How the names of an account's receipts begin.
pub(crate) fn receipts_of(account: AccountId) -> String {
    format!("turn-receipt/{account}/")
}

impl Run {
    /// Makes the end durable, and with it the host's word on it.
    pub(super) async fn close(&self, account: AccountId, number: u32, reason: EndReason) -> Result<Closed, Error> {
        let db = &self.host.db;
        let request = self.turn.request.clone();
        let signer = self.host.signer.clone();
        let receipt =
            db.query(move |ledger| ledger.account(account).map(|account| Receipt::of(account, &request, signer.as_ref()))).await?;
        let now = self.host.now();
        let mut events = vec![Event::EndTurn { account, reason, at: now }];
        if self.resolved.ephemeral {
            events.push(Event::EndSession { account, reason: SessionEnd::ByHost, at: now });
            events.push(Event::Retire { account });
        }
        let blobs = receipt
            .as_ref()
            .and_then(|receipt| serde_json::to_vec(receipt).ok())
            .map(|bytes| Blob::Meta { name: receipt_name(account, number), bytes })
            .into_iter()
            .collect();
        match db.apply_with(events, blobs).await {
            Ok(committed) => {
                if let Some(record) = committed.account() {
                    self.host.keep(record);
                }
                Ok(Closed { receipt, record: committed.account().cloned(), by_session_end: false })
            }
            // The session ended meanwhile and took the turn with it.
            Err(DbError::Refused(Refused::NoTurn(_) | Refused::UnknownAccount(_))) => {
                Ok(Closed { receipt, record: db.account(account)?, by_session_end: true })
            }
            Err(error) => Err(self.host.storage_failed(error)),
        }
    }

    /// Ends the turn by what its records say. Where they cannot be read or written, [`super::live::LiveTurn::abandon`] tells the
    /// readers, and the next start of the process ends the turn.
    pub(super) async fn panicked(&self) {
        tracing::error!(event = "turn_failed", account = %self.resolved.id, request = %self.turn.request, error = "panic", "this program failed under a turn; it ends with what was committed");
        match self.by_the_records().await {
            Ok(Some((log, ended))) => {
                metrics::counter!("milepost_turns_total", "door" => self.door.as_str(), "reason" => ended.finish_reason()).increment(1);
                self.turn.record(|live| {
                    live.started = live.started.take().or(log.started);
                    // A token may be committed and not have been handed to the readers yet.
                    live.tokens.extend(log.tokens.into_iter().skip(live.tokens.len()));
                    live.seals.extend(log.seals.into_iter().skip(live.seals.len()));
                    live.outcome = Some(Outcome::Ended(Arc::new(ended)));
                });
            }
            Ok(None) => self.turn.refuse(fault()),
            Err(error) => {
                tracing::error!(event = "turn_failed", account = %self.resolved.id, request = %self.turn.request, %error, "the turn could not be ended");
            }
        }
    }

    /// The turn as it stands in the ledger, ended there if it was not; `None` if it was never started.
    async fn by_the_records(&self) -> Result<Option<(Log, Ended)>, Error> {
        let (db, account) = (&self.host.db, self.resolved.id);
        let Some(turn) = db.turn_by_request(account, &self.turn.request)?.filter(|turn| turn.body == self.turn.body) else {
            return Ok(None);
        };
        let cut = turn.state == TurnState::Active;
        if cut {
            self.close(account, turn.number, EndReason::Interrupted).await?;
        }
        let turn = db.turn(account, turn.number)?.unwrap_or(turn);
        let mut log = recorded(&self.host, &turn, self.resolved.unbilled.clone()).await?;
        // Where only telling the readers failed, the answer is whole.
        let ended = match log.outcome.take() {
            Some(Outcome::Ended(ended)) => Ended { error: cut.then(fault), ..(*ended).clone() },
            _ => return Ok(None),
        };
        Ok(Some((log, ended)))
    }
}

fn fault() -> Error {
    Error::Internal {
        reason: "this program failed under the request; what was generated stays valid and can be replayed under its id".into(),
    }
}
