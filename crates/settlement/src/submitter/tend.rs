//! The key's transactions as a queue: the chain takes one nonce after the other, so that one which waits holds up all behind it.
//!
//! What is done about the one that is next: its fee is raised ([`Submitter::bump`]), sooner and by more as the nearest deadline of
//! anything that waits draws near ([`Urgency`]), it is cancelled if an operator says so, and an alert is raised when nothing helps. Before it there may be a *gap*, a nonce that nobody uses: when the key was used elsewhere
//! and that was reorganised away. A gap is filled with a transfer of nothing to the key itself. A nonce that was ever given a
//! purpose is no gap: it is offered again, never filled.

use std::time::{Duration, Instant};

use alloy::primitives::Bytes;
use milepost_ledger::{Attempt, Event, JobId, Purpose, Tx, TxId, TxState, UnixSeconds};
use serde::Serialize;

use super::urgency::Urgency;
use super::{Read, Submitter, fees, sign};
use crate::Error;
use crate::chain::{Fees, Head, latest};
use crate::convert::evm;

/// Looks in a row at which a nonce must be missing before it is filled: an endpoint that lags sees gaps that are none.
const GAP_LOOKS: u32 = 5;
/// Gaps filled at one look.
const MAX_FILLS: usize = 16;
/// Gas of a transfer of nothing.
const TRANSFER_GAS: u64 = 21_000;

/// A transaction that holds up the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// Its nonce.
    pub nonce: u64,
    /// The job it is for; of several the first.
    pub job: JobId,
    /// Seconds for which it has been the next to be taken.
    pub seconds: u64,
    /// Signed forms of it so far.
    pub attempts: usize,
    /// Why it is not raised further, if that is so.
    pub reason: Option<String>,
}

/// What is remembered of the queue between two looks. All of it may be forgotten.
#[derive(Default)]
pub(super) struct Queue {
    /// The nonce that the chain takes next, and since when.
    next: Option<(u64, Instant)>,
    /// When the transaction that is next was raised last.
    raised: Option<(TxId, Instant)>,
    /// How often in a row there was a gap before this nonce.
    gap: Option<(u64, u32)>,
    /// Why the transaction that is next cannot be raised.
    held: Option<String>,
    pub(super) stuck: Option<Stuck>,
}

impl Submitter {
    /// Looks after the order of the key's nonces.
    pub(super) async fn tend(&mut self, head: &Head) -> Result<(), Error> {
        let key = self.key.address();
        let open = |tx: &Tx| tx.id.key == key && matches!(tx.state, TxState::Signed | TxState::Sent);
        let waiting: Vec<_> = self.books.txs().await?.into_iter().filter(open).collect();
        let Some(lowest) = waiting.first() else {
            self.queue = Queue::default();
            return Ok(());
        };
        let mut signed = false;
        for tx in &waiting {
            signed |= self.wishes.has(tx.id) && self.cancel(tx, head).await?;
        }
        if signed {
            // What was read before is no longer the last form of these.
            return Ok(());
        }
        let next = self.chain.nonce(key, latest()).await?;
        crate::telemetry::next_nonce(next);
        self.too_low.retain(|id, _| id.nonce < next);
        let since = match self.queue.next {
            Some((nonce, since)) if nonce == next => since,
            _ => {
                self.queue = Queue { next: Some((next, Instant::now())), ..Queue::default() };
                Instant::now()
            }
        };
        if next < lowest.id.nonce {
            self.gap(next, lowest, head).await?;
        } else if let Some(tx) = waiting.iter().find(|tx| tx.id.nonce == next) {
            let raised = self.queue.raised.filter(|(id, _)| *id == tx.id).map_or(since, |(_, at)| at.max(since));
            let hurry = self.hurry.remove(&tx.id);
            let urgency = Urgency::of(self.nearest_deadline().await?, head.next_time, self.claim_seconds);
            if hurry || raised.elapsed() >= urgency.pause(self.bump_after) {
                self.queue.raised = Some((tx.id, Instant::now()));
                self.bump(tx, urgency, head).await?;
            }
            self.alert(tx, since.elapsed());
        }
        Ok(())
    }

    /// Signs the same call again with higher fees: stored, then sent. What cannot be raised waits as it is.
    async fn bump(&mut self, tx: &Tx, urgency: Urgency, head: &Head) -> Result<(), Error> {
        let Some(read) = tx.attempts.last().and_then(sign::read) else {
            self.queue.held = Some("its stored bytes cannot be read".to_owned());
            return Ok(());
        };
        self.queue.held = self.outbid(tx, &read, urgency, head, "bumped").await?.err();
        Ok(())
    }

    /// The last moment of the claim that has the least time of all that wait: whatever is before it in the queue holds it up.
    async fn nearest_deadline(&self) -> Result<Option<UnixSeconds>, Error> {
        let key = self.key.address();
        let nearest = move |ledger: &milepost_ledger::Ledger| {
            let waiting = ledger.txs().filter(|tx| tx.id.key == key && matches!(tx.state, TxState::Signed | TxState::Sent));
            // Of several claims in one transaction the most urgent one counts.
            let claims = waiting.flat_map(|tx| tx.purpose.claims());
            claims.filter_map(|claim| ledger.job(claim.job)?.deadline()).min()
        };
        self.books.db.query(nearest).await.map_err(crate::books::error)
    }

    /// Signs a further form of a transaction that outbids the last. What cannot be raised is no error of the round: it waits as it
    /// is, and the answer is why.
    async fn outbid(
        &mut self,
        tx: &Tx,
        read: &Read,
        urgency: Urgency,
        head: &Head,
        point: &'static str,
    ) -> Result<Result<(), String>, Error> {
        let Some(last) = tx.attempts.last() else { return Ok(Err("it has no signed form".to_owned())) };
        let fees = match self.may_offer(tx, last, read, urgency, head).await {
            Ok(fees) => fees,
            Err(refused @ (Error::FeeCeiling { .. } | Error::NoGas { .. } | Error::LedgerRefused(_))) => {
                return Ok(Err(refused.to_string()));
            }
            Err(error) => return Err(error),
        };
        let attempt = sign::sign(&self.key, self.chain.chain_id(), tx.id.nonce, read, fees, self.clock.now())?;
        let (hash, raw) = (attempt.hash, attempt.raw.clone());
        self.books.record(point, vec![Event::TxSigned { id: tx.id, purpose: tx.purpose.clone(), attempt }]).await?;
        tracing::info!(event = "tx_bumped", job = %tx.purpose.job(), purpose = ?tx.purpose, nonce = tx.id.nonce, tx = %hash, attempt = tx.attempts.len() + 1, ?urgency, max_fee = fees.max_fee, max_tip = fees.max_tip, "a higher fee is offered; every earlier form may still be mined");
        self.send(tx.id, &raw, hash).await.map(Ok)
    }

    /// What a further form may offer: more than the last, as much as the market asks, within the ceiling and the key's means.
    async fn may_offer(&self, tx: &Tx, last: &Attempt, read: &Read, urgency: Urgency, head: &Head) -> Result<Fees, Error> {
        if tx.attempts.len() >= urgency.attempts() {
            return Err(Error::LedgerRefused(milepost_ledger::Error::TooManyAttempts(tx.id)));
        }
        let (market, ceiling) = (self.chain.fees(head, self.fee_ceiling).await?, self.fee_ceiling);
        let fees = fees::bumped(last, market, urgency, tx.attempts.len(), ceiling);
        let fees = fees.map_err(|asked| Error::FeeCeiling { asked, ceiling })?;
        let needed = fees.max_fee.saturating_mul(u128::from(read.gas));
        let balance = self.chain.balance(tx.id.key).await?;
        if balance < needed {
            return Err(Error::NoGas { key: tx.id.key, balance, needed });
        }
        Ok(fees)
    }

    /// Puts a transfer of nothing in the place of a transaction, at the same nonce. The first of them that is mined counts. Whether
    /// it was signed now: what may not be offered yet stays wished for.
    async fn cancel(&mut self, tx: &Tx, head: &Head) -> Result<bool, Error> {
        let already = tx.attempts.last().and_then(sign::read).is_some_and(|read| read.is_nothing(tx.id.key));
        if already {
            self.wishes.done(tx.id);
            return Ok(false);
        }
        match self.outbid(tx, &self.nothing(), Urgency::None, head, "cancelling").await? {
            Ok(()) => {
                tracing::warn!(event = "tx_cancelling", job = %tx.purpose.job(), purpose = ?tx.purpose, nonce = tx.id.nonce, "an operator cancels this transaction; it may still be mined");
                self.wishes.done(tx.id);
                Ok(true)
            }
            Err(reason) => {
                tracing::debug!(event = "tx_cancel_waits", job = %tx.purpose.job(), nonce = tx.id.nonce, reason, "this transaction cannot be cancelled yet");
                Ok(false)
            }
        }
    }

    /// A transfer of nothing to the key itself.
    fn nothing(&self) -> Read {
        Read { to: evm(self.key.address()), data: Bytes::new(), gas: TRANSFER_GAS }
    }

    /// Fills the nonces from `next` up to the first transaction of ours, if they stay missing.
    async fn gap(&mut self, next: u64, behind: &Tx, head: &Head) -> Result<(), Error> {
        let looks = self.queue.gap.filter(|(nonce, _)| *nonce == next).map_or(1, |(_, looks)| looks + 1);
        self.queue.gap = Some((next, looks));
        if looks < GAP_LOOKS {
            return Ok(());
        }
        let key = behind.id.key;
        let known: Vec<_> = self.books.db.txs().map_err(crate::books::error)?.into_iter().map(|tx| tx.id).collect();
        let missing = (next..behind.id.nonce).map(|nonce| TxId { key, nonce }).filter(|id| !known.contains(id));
        for id in missing.take(MAX_FILLS).collect::<Vec<_>>() {
            let fees = self.chain.fees(head, self.fee_ceiling).await?;
            let attempt = sign::sign(&self.key, self.chain.chain_id(), id.nonce, &self.nothing(), fees, self.clock.now())?;
            let (hash, raw) = (attempt.hash, attempt.raw.clone());
            let purpose = Purpose::Fill(behind.purpose.job());
            self.books.record("filled", vec![Event::TxSigned { id, purpose, attempt }]).await?;
            tracing::warn!(event = "gap_filled", nonce = id.nonce, behind = behind.id.nonce, tx = %hash, "nobody uses this nonce and a transaction waits behind it: filled with a transfer of nothing");
            self.send(id, &raw, hash).await?;
        }
        Ok(())
    }

    fn alert(&mut self, tx: &Tx, waited: Duration) {
        let never = self.never.get(&tx.id).cloned();
        if waited < self.stuck_after && never.is_none() {
            return;
        }
        let stuck = Stuck {
            nonce: tx.id.nonce,
            job: tx.purpose.job(),
            seconds: waited.as_secs(),
            attempts: tx.attempts.len(),
            reason: never.or_else(|| self.queue.held.clone()),
        };
        if self.queue.stuck.is_none() {
            tracing::error!(event = "tx_stuck", job = %stuck.job, nonce = stuck.nonce, seconds = stuck.seconds, attempts = stuck.attempts, reason = ?stuck.reason, "[MP-S-029] a transaction holds up all others of this key: raise max_fee_gwei, send gas, or cancel it");
        }
        self.queue.stuck = Some(stuck);
    }
}
