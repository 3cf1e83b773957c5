//! What sessions that nobody pays for hold on the disk: bounded, and forgotten some time after they end.
//!
//! Nothing else of theirs is worth keeping: no claim rests on it. While a session lives, and for a retention time after it, its answers
//! can be replayed; beyond the bound the oldest that ended go first, and where that is not enough nothing more is generated without a
//! job until some have ended. So nobody can fill the disk without paying.

use std::collections::{BTreeSet, HashMap};

use milepost_ledger::{AccountId, AccountRecord, Phase, UnixSeconds};
use milepost_ledger_db::{Error as DbError, Forget};

use crate::error::Error;
use crate::host::Host;
use crate::sync::lock;
use crate::turn::ending::receipts_of;

/// Estimates, all upwards: rows with their keys, checksums and the engine's own part. A record of an account.
const ACCOUNT_BYTES: u64 = 1_024;
/// A turn, the row of its request id, its receipt, and its part of a last, short checkpoint.
const TURN_BYTES: u64 = 4_096;
/// A token that was committed alone, and its part of a checkpoint.
const TOKEN_BYTES: u64 = 64;

/// Accounts forgotten in one batch: other callers' tokens wait for it.
const FORGOTTEN_AT_ONCE: usize = 250;

/// Seconds after which a refused client may ask again: sessions are looked through that often.
const RETRY_AFTER: u64 = 5;

/// Sessions without a job whose records exist.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    held: HashMap<AccountId, Held>,
    /// Those that ended, by when.
    ended: BTreeSet<(UnixSeconds, AccountId)>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    ended: Option<UnixSeconds>,
}

impl Kept {
    /// Takes in where an account stands. Jobs are not counted: they pay.
    pub(crate) fn note(&mut self, record: &AccountRecord) {
        if !matches!(record.id, AccountId::Free(_)) {
            return;
        }
        let turns = u64::from(record.turns).saturating_mul(TURN_BYTES);
        let tokens = record.positions.metered.0.saturating_mul(TOKEN_BYTES);
        let ended = if let Phase::Ending { since, .. } = record.phase { Some(since) } else { None };
        self.remove(record.id);
        let held = Held { bytes: turns.saturating_add(tokens).saturating_add(ACCOUNT_BYTES), ended };
        self.bytes = self.bytes.saturating_add(held.bytes);
        self.held.insert(record.id, held);
        self.ended.extend(ended.map(|at| (at, record.id)));
    }

    fn remove(&mut self, id: AccountId) {
        if let Some(held) = self.held.remove(&id) {
            self.bytes = self.bytes.saturating_sub(held.bytes);
            if let Some(at) = held.ended {
                self.ended.remove(&(at, id));
            }
        }
    }

    /// Ended sessions to forget now, oldest first: those whose retention is over, and as many more as bring what is held below three
    /// quarters of `limit`.
    fn due(&self, now: UnixSeconds, retention: u64, limit: u64) -> Vec<AccountId> {
        let mut left = self.bytes;
        let enough = limit - limit / 4;
        let due = self.ended.iter().take_while(|(at, id)| {
            let due = now.since(*at) >= retention || left > enough;
            left = left.saturating_sub(self.held.get(id).map_or(0, |held| held.bytes));
            due
        });
        due.map(|(_, id)| *id).take(FORGOTTEN_AT_ONCE).collect()
    }
}

impl Host {
    /// Whether there is room for more that nobody pays for.
    pub(crate) fn check_free_room(&self) -> Result<(), Error> {
        let (bytes, limit) = (lock(&self.kept).bytes, self.config.max_free_bytes);
        if bytes < limit {
            return Ok(());
        }
        Err(Error::RateLimited {
            reason: format!(
                "sessions without a job hold {bytes} bytes on this host, {limit} may; fund a job, or wait until some have ended"
            ),
            retry_after: RETRY_AFTER,
        })
    }

    /// Notes where a session without a job stands.
    pub(crate) fn keep(&self, record: &AccountRecord) {
        lock(&self.kept).note(record);
    }

    /// Deletes what is no longer kept of ended sessions without a job.
    pub(crate) async fn forget_free(&self) -> Result<(), Error> {
        loop {
            let due = lock(&self.kept).due(self.now(), self.config.free_retention_seconds, self.config.max_free_bytes);
            if due.is_empty() {
                return Ok(());
            }
            let forget = due.iter().map(|id| Forget { account: *id, names: Some(receipts_of(*id)) }).collect();
            match self.db.apply_and_forget(Vec::new(), forget).await {
                Ok(_) => {}
                // One that is still in use, against all rules: looked at again after the next start.
                Err(DbError::Refused(error)) => {
                    tracing::warn!(event = "not_forgotten", %error, "a session without a job could not be forgotten");
                }
                Err(error) => return Err(self.storage_failed(error)),
            }
            let mut kept = lock(&self.kept);
            for id in due {
                kept.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use milepost_ledger::{Digest, Event, JobId, Ledger, OpenAccount, Salt, SessionEnd};

    use super::*;

    fn record(id: AccountId, ended: Option<u64>) -> AccountRecord {
        let mut ledger = Ledger::new();
        let open = OpenAccount { id, terms: None, salt: Salt::default(), model: Digest::ZERO, threshold: 100, at: UnixSeconds(0) };
        ledger.apply(Event::Open(Box::new(open))).expect("opened");
        if let Some(at) = ended {
            ledger.apply(Event::EndSession { account: id, reason: SessionEnd::Idle, at: UnixSeconds(at) }).expect("ended");
        }
        ledger.account(id).expect("there").record.clone()
    }

    fn free(number: u8) -> AccountId {
        AccountId::Free(Digest([number; 32]))
    }

    #[test]
    fn what_ended_goes_after_its_retention_and_the_oldest_first_where_room_is_short() {
        let mut kept = Kept::default();
        for (number, ended) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
            kept.note(&record(free(number), ended));
            kept.note(&record(free(number), ended));
        }
        kept.note(&record(AccountId::Job(JobId(1)), Some(5)));
        assert_eq!(kept.bytes, 4 * ACCOUNT_BYTES, "each once, and no job");
        let room = 100 * ACCOUNT_BYTES;
        assert_eq!(kept.due(UnixSeconds(109), 100, room), []);
        assert_eq!(kept.due(UnixSeconds(120), 100, room), [free(2), free(4)]);
        // 4 of 4 are held, 3 may stay.
        assert_eq!(kept.due(UnixSeconds(31), 100, 4 * ACCOUNT_BYTES), [free(2)]);
        kept.remove(free(2));
        assert_eq!((kept.bytes, kept.due(UnixSeconds(31), 100, 4 * ACCOUNT_BYTES)), (3 * ACCOUNT_BYTES, vec![]));
        assert_eq!(kept.due(UnixSeconds(31), 100, 1), [free(4), free(1)], "one that lives is never among them");
    }
}
