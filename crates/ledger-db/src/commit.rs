//! The commit thread: the only writer, one synced batch for all callers of a round.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use milepost_ledger::{AccountId, CheckpointRecord, Effect, Event, Ledger, TokenSeq};
use milepost_store::{Batch, Durability};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::Error;
use crate::answer::{Blob, Change, Committed, Forget};
use crate::rows::Rows;
use crate::seam::Append;
use crate::writes::Writer;

/// Callers served in one round; what waits beyond it is the next round's.
const ROUND_CALLS: usize = 1024;
/// A round takes no further caller beyond this many bytes, so that a receipt does not hold many tokens up.
const ROUND_BYTES: usize = 4 << 20;

/// What the thread is asked.
pub(crate) enum Message {
    Call(Call),
    Query(Query),
    Close,
}

/// Runs on the thread between rounds.
pub(crate) type Query = Box<dyn FnOnce(&Ledger) + Send>;

/// One caller's events and blobs, all or nothing.
pub(crate) struct Call {
    pub(crate) events: Vec<Event>,
    pub(crate) blobs: Vec<Blob>,
    pub(crate) forget: Vec<Forget>,
    pub(crate) fence: Option<Fence>,
    pub(crate) reply: Reply,
}

pub(crate) type Reply = oneshot::Sender<Result<Append, Error>>;

/// Where the caller believes an account to stand.
#[derive(Clone, Copy)]
pub(crate) struct Fence {
    pub(crate) account: AccountId,
    pub(crate) epoch: u64,
    pub(crate) expected: TokenSeq,
}

pub(crate) struct Committer {
    pub(crate) ledger: Ledger,
    pub(crate) rows: Rows,
    pub(crate) writer: Writer,
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) changes: broadcast::Sender<Change>,
    pub(crate) stopped: watch::Sender<Option<String>>,
}

/// What one round writes and whom it answers.
#[derive(Default)]
struct Round {
    batch: Batch,
    answers: Vec<(Reply, Result<Append, Error>)>,
    queries: Vec<Query>,
    touched: BTreeMap<AccountId, Vec<CheckpointRecord>>,
}

impl Committer {
    /// The thread's whole life. Whatever ends it, a panic too, is told as the reason.
    pub(crate) fn run(mut self) {
        let reason = match catch_unwind(AssertUnwindSafe(|| self.rounds())) {
            Ok(Ok(())) => "it was closed".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let reason = "the commit thread panicked; the panic's message is in the log".to_owned();
                report(&reason);
                reason
            }
        };
        let stopped = self.stopped.clone();
        // The store is let go first: whoever waits for the end may open it again.
        drop(self);
        stop(&stopped, reason);
    }

    /// Rounds until the database is closed (or its last handle is gone), or a write fails.
    fn rounds(&mut self) -> Result<(), Error> {
        while let Some(message) = self.queue.blocking_recv() {
            if self.round(message)? {
                break;
            }
        }
        Ok(())
    }

    /// One round; answers whether it was the last one.
    fn round(&mut self, first: Message) -> Result<bool, Error> {
        let mut round = Round::default();
        let mut close = false;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Call(call) => self.serve(call, &mut round),
                Message::Query(query) => round.queries.push(query),
                Message::Close => close = true,
            }
            if !close && round.answers.len() + round.queries.len() < ROUND_CALLS && round.batch.bytes() < ROUND_BYTES {
                next = self.queue.try_recv().ok();
            }
        }
        let batch = std::mem::take(&mut round.batch);
        if let Err(error) = self.commit(batch) {
            // In the log before anybody can end the process because of it.
            report(&error.to_string());
            // Known as stopped before anybody is answered: the ledger is ahead of the disk and must not be asked again.
            stop(&self.stopped, error.to_string());
            for (reply, _) in round.answers {
                // A caller that went away needs no answer.
                let _ = reply.send(Err(Error::Stopped { reason: error.to_string() }));
            }
            return Err(error);
        }
        for (reply, answer) in round.answers {
            let _ = reply.send(answer);
        }
        for query in round.queries {
            // A query only reads: its panic is its caller's, who learns of it by getting no answer.
            let _ = catch_unwind(AssertUnwindSafe(|| query(&self.ledger)));
        }
        self.announce(round.touched);
        Ok(close)
    }

    /// Makes a round durable.
    fn commit(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.rows.store.write(batch, Durability::Synced)?;
        Ok(())
    }

    /// Applies one caller's events and appends their effects to the round, or refuses them and leaves no trace.
    fn serve(&mut self, call: Call, round: &mut Round) {
        let answer = match self.fenced(call.fence) {
            Some(fenced) => Ok(fenced),
            None => self.apply(call.events, &call.blobs, &call.forget, round).map(Append::Committed),
        };
        round.answers.push((call.reply, answer));
    }

    fn fenced(&self, fence: Option<Fence>) -> Option<Append> {
        let fence = fence?;
        // An account that is not there is the ledger's to refuse.
        let record = &self.ledger.account(fence.account)?.record;
        let (epoch, metered) = (record.epoch, record.positions.metered);
        ((epoch, metered) != (fence.epoch, fence.expected)).then_some(Append::Fenced { epoch, metered })
    }

    fn apply(&mut self, events: Vec<Event>, blobs: &[Blob], forget: &[Forget], round: &mut Round) -> Result<Committed, Error> {
        for event in &events {
            // The ledger forgets finished accounts; their records do not.
            if let Event::Open(open) = event
                && self.ledger.account(open.id).is_none()
                && self.rows.is_known(open.id)?
            {
                return Err(Error::Refused(milepost_ledger::Error::NotOpen(open.id)));
            }
        }
        let retired: Vec<_> =
            events.iter().filter_map(|event| if let Event::Retire { account } = event { Some(*account) } else { None }).collect();
        // Before anything is applied, because it cannot be undone after.
        if let Some(kept) = forget.iter().find(|forget| !self.may_forget(forget.account, &retired)) {
            return Err(Error::Refused(milepost_ledger::Error::WrongState {
                what: format!("account {}", kept.account),
                event: "forgotten",
                state: "a job's, or not retired".to_owned(),
            }));
        }
        // A refused event changes nothing itself, so the last one needs no way back.
        let savepoint = events.len().checked_sub(1).filter(|before_last| *before_last > 0).map(|n| self.ledger.savepoint(&events[..n]));
        let mut effects = Vec::new();
        for event in events {
            match self.ledger.apply(event) {
                Ok(more) => effects.extend(more),
                Err(error) => {
                    if let Some(savepoint) = savepoint {
                        self.ledger.roll_back(savepoint);
                    }
                    return Err(Error::Refused(error));
                }
            }
        }
        for effect in &effects {
            self.writer.write(&mut round.batch, effect);
            round.touch(effect);
        }
        for account in retired {
            Writer::retire(&mut round.batch, account);
        }
        for blob in blobs {
            Writer::write_blob(&mut round.batch, blob);
        }
        for forget in forget {
            self.ledger.forget(forget.account);
            Writer::forget(&mut round.batch, forget);
        }
        Ok(Committed { effects })
    }

    fn may_forget(&self, id: AccountId, retired: &[AccountId]) -> bool {
        matches!(id, AccountId::Free(_)) && (self.ledger.account(id).is_none() || retired.contains(&id))
    }

    fn announce(&self, touched: BTreeMap<AccountId, Vec<CheckpointRecord>>) {
        for (id, sealed) in touched {
            if let Some(account) = self.ledger.account(id) {
                let change = Change { account: id, positions: account.record.positions, phase: account.record.phase.clone(), sealed };
                // Nobody listens: nobody misses it.
                let _ = self.changes.send(change);
            }
        }
    }
}

impl Round {
    fn touch(&mut self, effect: &Effect) {
        let id = match effect {
            Effect::PutTx(tx) => {
                for job in tx.purpose.jobs() {
                    self.touched.entry(AccountId::Job(job)).or_default();
                }
                return;
            }
            Effect::PutAccount(record) => record.id,
            Effect::PutTokens { account, .. } | Effect::EndTurn { account, .. } => *account,
            Effect::PutTurn(turn) => turn.account,
            Effect::PutCheckpoint(checkpoint) => checkpoint.account,
            Effect::PutClaim(claim) => AccountId::Job(claim.id.job),
        };
        let sealed = self.touched.entry(id).or_default();
        if let Effect::PutCheckpoint(checkpoint) = effect {
            sealed.push((**checkpoint).clone());
        }
    }
}

/// Says that nothing is written any more: here, once, whoever learns of it first.
fn report(reason: &str) {
    let code = Error::Stopped { reason: String::new() }.code();
    tracing::error!(event = "storage_failed", code, reason, "the ledger cannot be written any more; the process must end");
}

/// Tells why the thread stops; the first reason stays.
fn stop(stopped: &watch::Sender<Option<String>>, reason: String) {
    stopped.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(reason);
        }
        first
    });
}
