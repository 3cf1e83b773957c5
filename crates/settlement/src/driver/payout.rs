//! The payout: confirmed rather than assumed, and checked to the last unit.

use milepost_ledger::{AccountId, AccountRecord, Event, JobId, TokenCount, TokenSeq, WriteOff};

use super::Driver;
use crate::Error;

impl Driver {
    /// The chain says that the job is completed: records the payout once its block is final.
    pub(super) async fn settle(&mut self, job: JobId, record: &AccountRecord, rest: Option<WriteOff>) -> Result<(), Error> {
        let Some(terms) = &record.terms else { return Ok(()) };
        let head = self.chain.head().await?;
        let completed = self.chain.completed(job, head.block.number, terms.started).await?;
        let missing = || Error::Answer { what: "the job's SessionCompleted", answer: "none, though the job is completed".to_owned() };
        let completed = completed.ok_or_else(missing)?;
        let is_final = self.chain.final_height(&head).await?.is_some_and(|height| completed.block.number <= height);
        if !is_final || self.chain.block_at(completed.block.number).await? != Some(completed.block.hash) {
            // Looked at again with the next block.
            self.dirty.insert(job);
            return Ok(());
        }
        self.chain.saw_final(completed.block.number);
        let payout = completed.payout;
        let expected = terms.payout(record.positions.finalized - TokenSeq::ZERO);
        if expected != Some(payout) {
            let detail = format!("the chain paid {payout:?}, the ledger expects {expected:?}");
            let error = Error::Payout { job, detail };
            tracing::error!(event = "payout_wrong", job = %job, %error, advice = error.advice(), "this job is stopped: an operator must look");
            return self.books.record("halted", vec![Event::Halt { account: AccountId::Job(job), reason: error.to_string() }]).await;
        }
        let lost = TokenCount(record.positions.metered.0 - record.positions.finalized.0);
        self.books.record("paid", vec![Event::Paid { job, payout, rest }]).await?;
        tracing::info!(
            event = "session_paid",
            job = %job,
            tx = %completed.tx,
            block = completed.block.number,
            tokens = %payout.tokens,
            host = %payout.host,
            treasury = %payout.treasury,
            refund = %payout.refund,
            token = %terms.token,
            by = self.chain.final_by(completed.block.number),
            "payment confirmed: host {} treasury {} refund {}", payout.host, payout.treasury, payout.refund
        );
        if let Some(reason) = rest {
            tracing::warn!(event = "tokens_written_off", job = %job, tokens = %lost, ?reason, "tokens that are not paid");
        }
        // Once more, to be forgotten in memory.
        self.dirty.insert(job);
        Ok(())
    }
}
