//! Looking for what became of transactions, by the chain's word alone.

use alloy::eips::BlockId;
use alloy::rpc::types::TransactionReceipt;
use milepost_ledger::{BlockRef, Claim, ClaimId, Digest, Event, Outcome, Purpose, Refused, RevertClass, Tx, TxId, TxState};

use super::{Submitter, sign};
use crate::Error;
use crate::chain::{Head, at};
use crate::convert::digest;
use crate::revert::Revert;

/// Looks in a row at which a nonce must be found used up by somebody else before it is believed: behind one address there may
/// be several nodes, one of which has not seen our transaction yet.
const DOUBTS: u32 = 3;

/// Answers in a row that the nonce is used up, after which the transaction is not offered any more until the chain says otherwise.
const MAX_TOO_LOW: u32 = 3;

/// State changes of one transaction in one look: included, final; or reorganised away, included elsewhere, final.
const MAX_CHANGES: usize = 4;

impl Submitter {
    /// Looks after every unresolved transaction. Jobs whose transactions changed are answered.
    pub(crate) async fn watch(&mut self, head: &Head, final_height: Option<u64>) -> Result<Vec<milepost_ledger::JobId>, Error> {
        let mut changed = Vec::new();
        let txs = self.books.txs().await?;
        self.sent.retain(|id, _| txs.iter().any(|tx| tx.id == *id));
        self.doubts.retain(|id, _| txs.iter().any(|tx| tx.id == *id));
        self.used.retain(|id, _| txs.iter().any(|tx| tx.id == *id));
        self.hurry.retain(|id| txs.iter().any(|tx| tx.id == *id));
        self.never.retain(|id, _| txs.iter().any(|tx| tx.id == *id));
        self.wishes.keep(|id| txs.iter().any(|tx| tx.id == id));
        for mut tx in txs {
            for _ in 0..MAX_CHANGES {
                match self.look(&tx, head, final_height).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    // One transaction that cannot be judged must not keep the others from it.
                    Err(error) if !error.is_fatal() && !matches!(error, Error::Unreachable { .. }) => {
                        tracing::warn!(event = "tx_not_judged", job = %tx.purpose.job(), nonce = tx.id.nonce, code = error.code(), %error, "looked at again");
                        break;
                    }
                    Err(error) => return Err(error),
                }
                changed.extend(tx.purpose.jobs());
                let id = tx.id;
                match self.books.db.query(move |ledger| ledger.tx(id).cloned()).await.map_err(crate::books::error)? {
                    Some(next) => tx = next,
                    None => break,
                }
            }
        }
        changed.dedup();
        match self.tend(head).await {
            Err(error) if !error.is_fatal() && !matches!(error, Error::Unreachable { .. }) => {
                tracing::warn!(event = "queue_not_tended", code = error.code(), %error, "the key's transactions are looked after again later");
            }
            tended => tended?,
        }
        Ok(changed)
    }

    /// One look at one transaction; whether its state changed.
    async fn look(&mut self, tx: &Tx, head: &Head, final_height: Option<u64>) -> Result<bool, Error> {
        match &tx.state {
            TxState::Signed | TxState::Sent => match self.find(tx, head).await? {
                Some((hash, receipt, block)) => self.included(tx, hash, &receipt, block).await.map(|()| true),
                None => self.unseen(tx, head, final_height).await,
            },
            TxState::Included { block, hash, outcome } => match self.chain.block_at(block.number).await? {
                Some(found) if found == block.hash => {
                    let is_final = final_height.is_some_and(|height| block.number <= height);
                    if is_final {
                        self.finalized(tx, *block, *hash, outcome).await?;
                    }
                    Ok(is_final)
                }
                // A chain that ends before our block: an endpoint that lags, or a reorganisation in progress.
                None if head.block.number < block.number => Ok(false),
                _ => {
                    tracing::warn!(event = "tx_reorged", job = %tx.purpose.job(), nonce = tx.id.nonce, tx = %hash, block = block.number, "the block of this transaction is no longer canonical");
                    self.sent.remove(&tx.id);
                    self.books.record("reorged", vec![Event::TxReorged { id: tx.id }]).await?;
                    Ok(true)
                }
            },
            TxState::Final { .. } | TxState::Replaced => Ok(false),
        }
    }

    /// The receipt of any attempt in a canonical block.
    async fn find(&self, tx: &Tx, head: &Head) -> Result<Option<(Digest, TransactionReceipt, BlockRef)>, Error> {
        for attempt in tx.attempts.iter().rev() {
            let Some(receipt) = self.chain.receipt(attempt.hash).await? else { continue };
            let Some((number, hash)) = receipt.block_number.zip(receipt.block_hash) else { continue };
            let block = BlockRef { number, hash: digest(hash) };
            // A block newer than the head we look from will be there at the next look, with a head that knows it.
            if number <= head.block.number && self.chain.block_at(number).await? == Some(block.hash) {
                return Ok(Some((attempt.hash, receipt, block)));
            }
        }
        Ok(None)
    }

    async fn included(&mut self, tx: &Tx, hash: Digest, receipt: &TransactionReceipt, block: BlockRef) -> Result<(), Error> {
        let gas = receipt.gas_used;
        let read = tx.attempts.iter().find(|attempt| attempt.hash == hash).and_then(sign::read);
        let outcome = if !matches!(tx.purpose, Purpose::Fill(_)) && read.is_some_and(|read| read.is_nothing(tx.id.key)) {
            Outcome::Reverted { reason: "cancelled by the operator".to_owned(), class: RevertClass::Replan, gas }
        } else if receipt.status() {
            self.done(tx, receipt, gas).await?
        } else {
            self.reverted(tx, hash, receipt, &block).await?
        };
        match &outcome {
            Outcome::Done { gas } => {
                tracing::info!(event = "tx_included", job = %tx.purpose.job(), purpose = ?tx.purpose, nonce = tx.id.nonce, tx = %hash, block = block.number, gas, "transaction included");
            }
            Outcome::Partly { refused, gas } => {
                for Refused { claim, reason, class } in refused {
                    tracing::error!(event = "claim_refused", job = %claim.job, claim = %claim, nonce = tx.id.nonce, tx = %hash, block = block.number, reason, ?class, "[MP-S-004] this claim of the transaction was refused; the others landed");
                }
                tracing::info!(event = "tx_included", job = %tx.purpose.job(), purpose = ?tx.purpose, nonce = tx.id.nonce, tx = %hash, block = block.number, gas, refused = refused.len(), "transaction included, some of its claims refused");
            }
            Outcome::Reverted { reason, class, gas } => {
                tracing::error!(event = "tx_reverted", job = %tx.purpose.job(), purpose = ?tx.purpose, nonce = tx.id.nonce, tx = %hash, block = block.number, gas, reason, ?class, "[MP-S-004] transaction reverted");
            }
        }
        self.books.record("included", vec![Event::TxIncluded { id: tx.id, hash, block, outcome }]).await
    }

    /// A transaction that succeeded must have done what it was for: a claim logs exactly its tokens, and its end and head where the
    /// contract tells them. That several claims were submitted successfully says nothing of any of them: each must have logged that, or
    /// that it was refused.
    async fn done(&self, tx: &Tx, receipt: &TransactionReceipt, gas: u64) -> Result<Outcome, Error> {
        let mut refused = Vec::new();
        for (place, id) in tx.purpose.claims().iter().enumerate() {
            refused.extend(self.refused(*id, place, receipt).await?);
        }
        Ok(match (&tx.purpose, refused.pop()) {
            (_, None) => Outcome::Done { gas },
            (Purpose::Claims(_), Some(last)) => {
                refused.push(last);
                Outcome::Partly { refused, gas }
            }
            (_, Some(Refused { reason, class, .. })) => Outcome::Reverted { reason, class, gas },
        })
    }

    /// Why the claim at this place of a transaction that succeeded has not landed, by the transaction's logs; `None` where it has.
    async fn refused(&self, id: ClaimId, place: usize, receipt: &TransactionReceipt) -> Result<Option<Refused>, Error> {
        let claim = self.books.db.claim(id).map_err(crate::books::error)?;
        let claim = claim.ok_or_else(|| Error::LedgerStopped(format!("claim {id} has a transaction but no record")))?;
        let adapter = self.chain.adapter().await?;
        let market = crate::convert::evm(self.chain.marketplace());
        let mut why = None;
        for log in receipt.inner.logs().iter().filter(|log| log.address() == market) {
            if let Some((job, index, reason)) = adapter.refused_of(log)?
                && (job, index) == (id.job, place)
            {
                why = Some(Revert::decode(&reason));
            }
        }
        let (landed, found) = self.landed(&claim, receipt).await?;
        let (reason, class) = match (landed, why) {
            (true, None) => return Ok(None),
            (false, Some(revert)) => {
                let terms = self.books.record_of(id.job).await?.and_then(|record| record.terms);
                let class = revert.class(terms.as_ref());
                (revert.text, class)
            }
            (true, Some(revert)) => {
                (format!("[MP-S-018] claim {id} was accepted and refused ({}) in one transaction", revert.text), RevertClass::Stop)
            }
            (false, None) => (format!("[MP-S-018] the transaction succeeded without the event of claim {id}: {found}"), RevertClass::Stop),
        };
        Ok(Some(Refused { claim: id, reason, class }))
    }

    /// Whether the receipt holds the claim's event exactly as the claim was made, and what it holds.
    async fn landed(&self, claim: &Claim, receipt: &TransactionReceipt) -> Result<(bool, String), Error> {
        let adapter = self.chain.adapter().await?;
        let topics = adapter.claim_topics();
        let ours = |log: &&alloy::rpc::types::Log| {
            log.address() == crate::convert::evm(self.chain.marketplace())
                && log.topic0().is_some_and(|topic| topics.contains(topic))
                && log
                    .topics()
                    .get(1)
                    .is_some_and(|job| alloy::primitives::U256::from_be_bytes(job.0) == alloy::primitives::U256::from(claim.id.job.0))
        };
        let landed = receipt.inner.logs().iter().find(ours).map(|log| adapter.claim_of(log)).transpose()?;
        let as_claimed = landed.is_some_and(|landed| {
            landed.count == claim.statement.count
                && landed.used.is_none_or(|used| used == claim.statement.end())
                && landed.head.is_none_or(|head| head == claim.statement.head_after)
        });
        Ok((as_claimed, format!("{landed:?}")))
    }

    /// Why it reverted: the same call, tried in the state before its block, or at its end.
    async fn reverted(&self, tx: &Tx, hash: Digest, receipt: &TransactionReceipt, block: &BlockRef) -> Result<Outcome, Error> {
        let gas = receipt.gas_used;
        let call = tx.attempts.iter().find(|attempt| attempt.hash == hash).and_then(sign::read);
        let Some(sign::Read { data, gas: limit, .. }) = call else {
            return Ok(Outcome::Reverted { reason: "the stored bytes cannot be read".to_owned(), class: RevertClass::Stop, gas });
        };
        if gas >= limit {
            return Ok(Outcome::Reverted { reason: format!("out of gas at {limit}"), class: RevertClass::Replan, gas });
        }
        if matches!(tx.purpose, Purpose::Claims(_)) {
            // A refused claim does not revert it, so that this says nothing of any claim: each is made anew, alone.
            let reason = "several claims' transaction reverted as a whole".to_owned();
            return Ok(Outcome::Reverted { reason, class: RevertClass::Replan, gas });
        }
        let terms = self.books.record_of(tx.purpose.job()).await?.and_then(|record| record.terms);
        let at_end = self.chain.replay(tx.id.key, &data, block).await?;
        let before = block.number.saturating_sub(1);
        let revert = if at_end.is_some() {
            at_end
        } else if let Some(hash) = self.chain.block_at(before).await? {
            self.chain.replay(tx.id.key, &data, &BlockRef { number: before, hash }).await?
        } else {
            None
        };
        Ok(match revert {
            Some(revert) => Outcome::Reverted { class: revert.class(terms.as_ref()), reason: revert.text, gas },
            // It would succeed now: whatever refused it has passed.
            None => Outcome::Reverted { reason: "a reason that no longer holds".to_owned(), class: RevertClass::Replan, gas },
        })
    }

    async fn finalized(&self, tx: &Tx, block: BlockRef, hash: Digest, outcome: &Outcome) -> Result<(), Error> {
        self.chain.saw_final(block.number);
        self.books.record("final", vec![Event::TxFinal { id: tx.id }]).await?;
        let by = self.chain.final_by(block.number);
        let claims = tx.purpose.claims();
        for claim in claims.iter().filter(|claim| outcome.refusal_of(**claim).is_none()) {
            let gas = tx.share(u128::from(outcome.gas()), claim.job);
            tracing::info!(event = "claim_final", job = %claim.job, claim = %claim, tx = %hash, block = block.number, gas, by, "claim confirmed");
        }
        if claims.is_empty() || claims.iter().any(|claim| outcome.refusal_of(*claim).is_some()) {
            tracing::info!(event = "tx_final", job = %tx.purpose.job(), purpose = ?tx.purpose, tx = %hash, block = block.number, "transaction confirmed");
        }
        Ok(())
    }

    /// The key's count at `height`, as far as it matters for this nonce. Nodes that are no archives forget the state of blocks, often
    /// before they are final; then it counts from where the nonce was first seen used up.
    async fn nonce_at(&mut self, height: u64, id: TxId, head: &Head) -> Result<u64, Error> {
        match self.chain.nonce(id.key, BlockId::number(height)).await {
            Err(Error::Rpc { .. }) => {}
            known => return known,
        }
        let count = self.chain.nonce(id.key, at(&head.block)).await?;
        if count <= id.nonce {
            self.used.remove(&id);
            return Ok(count);
        }
        let seen = *self.used.entry(id).or_insert(head.block);
        if height >= seen.number && self.chain.block_at(seen.number).await? == Some(seen.hash) {
            return Ok(count);
        }
        if height >= seen.number {
            self.used.insert(id, head.block);
        }
        Ok(id.nonce)
    }

    /// No receipt: unknown. Its bytes are offered again now and then; only a nonce used up at finality depth by something that is
    /// not ours ends the wait.
    async fn unseen(&mut self, tx: &Tx, head: &Head, final_height: Option<u64>) -> Result<bool, Error> {
        if let Some(height) = final_height
            && self.nonce_at(height, tx.id, head).await? > tx.id.nonce
        {
            // Used up. Asked for the receipt once more, in this order: had it been ours, it would be visible by now.
            if self.find(tx, head).await?.is_some() {
                return Ok(false);
            }
            let doubts = self.doubts.entry(tx.id).or_default();
            *doubts += 1;
            if *doubts < DOUBTS {
                return Ok(false);
            }
            tracing::error!(event = "tx_replaced", job = %tx.purpose.job(), nonce = tx.id.nonce, "the nonce was used by a transaction that is not ours: the key is used elsewhere");
            self.books.record("replaced", vec![Event::TxReplaced { id: tx.id }]).await?;
            return Ok(true);
        }
        self.doubts.remove(&tx.id);
        // Said to be used up again and again: offering it further tells nothing. Receipts and finality decide.
        if self.too_low.get(&tx.id).is_some_and(|times| *times >= MAX_TOO_LOW) {
            return Ok(false);
        }
        let due = self.sent.get(&tx.id).is_none_or(|sent| sent.elapsed() >= self.resend);
        if let (true, Some(attempt)) = (due, tx.attempts.last()) {
            self.send(tx.id, &attempt.raw, attempt.hash).await?;
        }
        Ok(false)
    }
}
