//! Reading a turn: durable tokens, seals and the end, in order, at the reader's own pace.

use std::sync::Arc;

use milepost_inference::TextStream;
use milepost_ledger::{CheckpointRecord, EndReason, TokenId, TokenSeq};
use tokio::sync::watch;

use super::live::{LiveTurn, Outcome};
use super::{Ended, Started};
use crate::error::Error;

/// Most tokens of one event: what a client acknowledges at a time, and what one frame carries on a replay.
pub const MAX_EVENT_TOKENS: usize = 64;

/// Most tokens of one event where reading is all the acknowledgement there is: large events would let a reader that lags take in
/// with few bytes, and so hide in buffers, far more tokens than a frame each does.
const UNACKED_EVENT_TOKENS: usize = 4;

/// What a reader sees, in this order: runs of tokens and seals as they come, then the end.
#[derive(Clone, Debug)]
pub enum TurnEvent {
    /// Durable tokens.
    Tokens {
        /// Position of the first.
        seq: TokenSeq,
        /// Their ids; none where only text was held back until the end.
        ids: Vec<TokenId>,
        /// The text that became complete with them, maybe none.
        text: String,
    },
    /// A checkpoint was sealed; its last token was delivered before.
    Sealed(Arc<CheckpointRecord>),
    /// The end. Nothing follows.
    Ended(Arc<Ended>),
}

/// Who says what the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Asking for the next event says that the one before was handed on.
    ByReading,
    /// Only [`TurnStream::turn`]'s acknowledgements count.
    Explicit,
}

/// One reader of a turn. Dropping the last one cancels the turn.
#[derive(Debug)]
pub struct TurnStream {
    turn: Arc<LiveTurn>,
    started: Arc<Started>,
    version: watch::Receiver<u64>,
    text: TextStream,
    acks: Acks,
    /// Tokens read, counted from the turn's first.
    cursor: usize,
    seals: usize,
    flushed: bool,
    done: bool,
    replayed: bool,
}

/// A reader that waits for its turn to start. Counts as a reader from the first moment.
#[derive(Debug)]
pub(crate) struct Waiting {
    turn: Arc<LiveTurn>,
    version: watch::Receiver<u64>,
    joined: bool,
}

impl Waiting {
    pub(crate) fn new(turn: Arc<LiveTurn>, joined: bool) -> Self {
        turn.reader_came();
        let version = turn.watch();
        Self { turn, version, joined }
    }

    /// The stream, once the turn has started. `None`: the id was answered meanwhile, ask again.
    pub(crate) async fn started(mut self, from: Option<TokenSeq>, stops: &[String], acks: Acks) -> Result<Option<TurnStream>, Error> {
        loop {
            self.version.borrow_and_update();
            let (started, outcome) = self.turn.look(|log| (log.started.clone(), log.outcome.clone()));
            if let Some(started) = started {
                return self.open(&started, from, stops, acks).map(Some);
            }
            match outcome {
                Some(Outcome::Refused(error)) => return Err(error),
                Some(Outcome::Superseded) => return Ok(None),
                Some(Outcome::Ended(_)) => return Err(Error::Internal { reason: "a turn ended that never started".into() }),
                None => {}
            }
            if self.version.changed().await.is_err() {
                return Err(Error::Cancelled);
            }
        }
    }

    fn open(&self, started: &Arc<Started>, from: Option<TokenSeq>, stops: &[String], acks: Acks) -> Result<TurnStream, Error> {
        let mut text = TextStream::with_stops(stops);
        let (cursor, seals) = match from {
            None => (0, 0),
            Some(from) => self.turn.look(|log| {
                let durable = log.tokens.len();
                let skip = from.since(started.start).and_then(|count| usize::try_from(count.0).ok()).filter(|skip| *skip <= durable);
                let Some(skip) = skip else {
                    return Err(Error::BadResume {
                        request: started.request_id.clone(),
                        asked: from,
                        start: started.start,
                        end: TokenSeq(started.start.0 + durable as u64),
                    });
                };
                // The text of what is skipped still decides where a character, or a stop sequence, begins.
                for token in &log.tokens[..skip] {
                    let _ = text.push(&token.piece);
                }
                Ok((skip, log.seals.iter().take_while(|seal| seal.after < skip).count()))
            })?,
        };
        self.turn.reader_came();
        self.turn.ack(cursor as u64);
        Ok(TurnStream {
            turn: Arc::clone(&self.turn),
            started: Arc::clone(started),
            version: self.turn.watch(),
            text,
            acks,
            cursor,
            seals,
            flushed: false,
            done: false,
            replayed: self.joined,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turn.reader_went();
    }
}

impl TurnStream {
    /// What was known at the start.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Whether an earlier request's answer is being read.
    pub fn is_replayed(&self) -> bool {
        self.replayed
    }

    /// A handle for acknowledging and cancelling.
    pub fn handle(&self) -> TurnHandle {
        TurnHandle { turn: Arc::clone(&self.turn), start: self.started.start }
    }

    /// The next event; `None` after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<TurnEvent> {
        if self.acks == Acks::ByReading {
            self.turn.ack(self.cursor as u64);
        }
        while !self.done {
            self.version.borrow_and_update();
            if let Some(event) = self.ready() {
                return Some(event);
            }
            // The sender lives as long as the turn, which this reader holds.
            self.version.changed().await.ok()?;
        }
        None
    }

    fn ready(&mut self) -> Option<TurnEvent> {
        let Self { turn, text, cursor, seals, flushed, done, started, acks, .. } = self;
        turn.look(|log| {
            let most = if *acks == Acks::ByReading && log.outcome.is_none() { UNACKED_EVENT_TOKENS } else { MAX_EVENT_TOKENS };
            let seal = log.seals.get(*seals);
            if let Some(seal) = seal.filter(|seal| seal.after <= *cursor) {
                *seals += 1;
                return Some(TurnEvent::Sealed(Arc::clone(&seal.record)));
            }
            let until = seal.map_or(usize::MAX, |seal| seal.after).min(*cursor + most).min(log.tokens.len());
            if until > *cursor {
                let run = &log.tokens[*cursor..until];
                let seq = TokenSeq(started.start.0 + *cursor as u64);
                let piece = run.iter().map(|token| text.push(&token.piece)).collect();
                *cursor = until;
                return Some(TurnEvent::Tokens { seq, ids: run.iter().map(|token| token.id).collect(), text: piece });
            }
            let Some(Outcome::Ended(ended)) = &log.outcome else { return None };
            if !*flushed {
                *flushed = true;
                let rest = text.finish();
                if !rest.is_empty() {
                    let seq = TokenSeq(started.start.0 + *cursor as u64);
                    return Some(TurnEvent::Tokens { seq, ids: Vec::new(), text: rest });
                }
            }
            *done = true;
            Some(TurnEvent::Ended(Arc::clone(ended)))
        })
    }
}

impl Drop for TurnStream {
    fn drop(&mut self) {
        self.turn.reader_went();
    }
}

/// Acknowledges and cancels a turn.
#[derive(Clone, Debug)]
pub struct TurnHandle {
    turn: Arc<LiveTurn>,
    start: TokenSeq,
}

impl TurnHandle {
    /// The client has everything before `seq`.
    pub fn ack(&self, seq: TokenSeq) {
        if let Some(count) = seq.since(self.start) {
            self.turn.ack(count.0);
        }
    }

    /// Ends generation within one step, at the client's wish.
    pub fn cancel(&self) {
        self.turn.cancel(EndReason::Cancelled);
    }

    /// The request's id.
    pub fn request(&self) -> &str {
        &self.turn.request
    }
}
