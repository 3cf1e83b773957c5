//! The transactions of one key, from the signature to finality.
//!
//! # States
//!
//! `signed → sent → included → final`, or `replaced`. Each is durable before its effect: a transaction is stored before it is
//! sent, and what is sent again is the stored bytes. A transaction whose receipt cannot be seen is *unknown*: nothing follows
//! from that, neither success nor failure, whatever time has passed. Included is undone when its block is no longer canonical.
//! Replaced means: at finality depth the nonce is used up, and not by any attempt of ours.
//!
//! # Guarantees
//!
//! One purpose has one nonce for life. Before the first send the job is read and the call is tried, so that what is already on
//! chain is not claimed again and what would revert costs no gas. A restart continues where the records stand. The transaction
//! that is next has its fee raised while it waits, up to a ceiling, each form stored before it is sent; whichever of them is mined
//! is found. Nonces that nobody uses are filled; a claim's own nonce only ever carries the claim, or an operator's cancel.
//!
//! Claims of several jobs may share a transaction ([`batch`]): then they share its nonce, its forms and its place on the chain, and each
//! is still judged by its own event in the receipt.
//!
//! **Does not** know whether somebody else holds the same key, except by what the chain shows: then it stops signing.

mod batch;
mod by_hand;
mod fees;
mod guard;
mod sign;
mod tend;
mod urgency;
mod watch;
mod wishes;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use alloy::primitives::Bytes;
use milepost_ledger::{Attempt, BlockRef, ChainStatus, Digest, Event, JobId, Purpose, TokenAmount, TokenSeq, TxId};

use crate::books::Books;
use crate::chain::{Chain, Class, Fees, Head, SendError, at};
use crate::convert::evm;
use crate::key::SubmitterKey;
use crate::revert::Revert;
use crate::{Clock, Error};

pub(crate) use batch::Offer;
pub use by_hand::{expect_nonce, knows_key};
pub use guard::accept_nonces;
pub(crate) use guard::first_sight;
use sign::Read;
pub use tend::Stuck;
pub(crate) use wishes::Wishes;

/// Gas above the estimate, in percent: the state may have moved a little by the time the block is made.
const GAS_MARGIN_PERCENT: u64 = 25;

/// What must be so on chain before anything is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// So many tokens claimed, and this head.
    Claimed { used: TokenSeq, head: Digest },
    /// The job is active.
    Active,
    /// The job is not paid out.
    Unpaid,
}

/// What became of a wish to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Submission {
    /// Signed, stored and handed over; watched from now on.
    Signed(TxId),
    /// The job is not as expected; nothing was signed.
    Moved(String),
    /// The contract would refuse it; nothing was signed.
    Refused(Revert),
    /// There was no room for it beside other claims; nothing was signed.
    Later,
}

/// A transaction that is signed, and neither stored nor sent.
struct Signed {
    id: TxId,
    attempt: Attempt,
    /// What it will cost in wei if the next block takes it.
    likely: u128,
}

/// The one owner of a key's nonces.
pub(crate) struct Submitter {
    chain: Chain,
    books: Books,
    key: SubmitterKey,
    clock: Clock,
    fee_ceiling: u128,
    resend: Duration,
    /// When each unresolved transaction was last handed over by this process.
    sent: HashMap<TxId, Instant>,
    /// How often in a row a transaction's nonce was seen used up without a receipt of ours.
    doubts: HashMap<TxId, u32>,
    /// In which block each unresolved transaction's nonce was first seen used up, no receipt of ours being there.
    used: HashMap<TxId, BlockRef>,
    /// How often in a row an endpoint said that a transaction's nonce is used up.
    too_low: HashMap<TxId, u32>,
    /// Transactions that an endpoint finds too cheap: raised as soon as they are next.
    hurry: HashSet<TxId>,
    /// Transactions that an endpoint says it will never take, with its words.
    never: HashMap<TxId, String>,
    /// Why nothing is signed, if that is so.
    ahead: Option<Error>,
    shared_key: bool,
    coin_price: Option<TokenAmount>,
    wishes: Wishes,
    queue: tend::Queue,
    bump_after: Duration,
    stuck_after: Duration,
    claim_seconds: u64,
}

/// What a transaction may use, where its estimate is this.
fn with_margin(gas: u64) -> u64 {
    gas.saturating_add(gas.saturating_mul(GAS_MARGIN_PERCENT) / 100)
}

impl Submitter {
    pub(crate) fn new(chain: Chain, books: Books, key: SubmitterKey, clock: Clock, config: &crate::SettlementConfig) -> Self {
        Self {
            chain,
            books,
            key,
            clock,
            fee_ceiling: u128::from(config.max_fee_gwei).saturating_mul(1_000_000_000),
            resend: Duration::from_secs(config.resend_seconds),
            sent: HashMap::new(),
            doubts: HashMap::new(),
            used: HashMap::new(),
            too_low: HashMap::new(),
            hurry: HashSet::new(),
            never: HashMap::new(),
            ahead: None,
            shared_key: config.shared_key,
            coin_price: config.coin_price,
            wishes: Wishes::default(),
            queue: tend::Queue::default(),
            bump_after: Duration::from_secs(config.bump_seconds),
            stuck_after: Duration::from_secs(config.stuck_seconds),
            claim_seconds: config.claim_seconds,
        }
    }

    /// Where an operator's wishes are put.
    pub(crate) fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }

    /// The transaction that holds up the key, if one has for long.
    pub(crate) fn stuck(&self) -> Option<Stuck> {
        self.queue.stuck.clone()
    }

    /// Reads the job, tries the call, signs, stores, sends.
    pub(crate) async fn submit(&mut self, purpose: Purpose, data: Bytes, expect: Expect) -> Result<Submission, Error> {
        let head = self.chain.head().await?;
        if let Some(moved) = self.moved(purpose.job(), expect, &head).await? {
            return Ok(Submission::Moved(moved));
        }
        let key = self.key.address();
        let gas = match self.chain.simulate(key, &data).await? {
            Ok(gas) => with_margin(gas),
            Err(revert) => return Ok(Submission::Refused(revert)),
        };
        let Signed { id, attempt, likely } = self.sign(&head, data, gas).await?;
        self.check_worth(&purpose, likely).await?;
        self.store_and_send(id, purpose, attempt).await?;
        Ok(Submission::Signed(id))
    }

    /// Signs a call under the next nonce, if the key can pay for it. Nothing is stored and nothing is sent.
    async fn sign(&mut self, head: &Head, data: Bytes, gas: u64) -> Result<Signed, Error> {
        let key = self.key.address();
        let fees = self.chain.fees(head, self.fee_ceiling).await?;
        let nonce = self.next_nonce().await?;
        let id = TxId { key, nonce };
        let call = Read { to: evm(self.chain.marketplace()), data, gas };
        let attempt = sign::sign(&self.key, self.chain.chain_id(), nonce, &call, fees, self.clock.now())?;
        let data_fee = self.chain.data_fee(&attempt.raw).await?;
        let needed = fees.max_fee.saturating_mul(u128::from(gas)).saturating_add(data_fee);
        let balance = self.chain.balance(key).await?;
        if balance < needed {
            return Err(Error::NoGas { key, balance, needed });
        }
        let likely = head.base_fee.saturating_add(fees.max_tip).saturating_mul(u128::from(gas)).saturating_add(data_fee);
        Ok(Signed { id, attempt, likely })
    }

    async fn store_and_send(&mut self, id: TxId, purpose: Purpose, attempt: Attempt) -> Result<(), Error> {
        let (hash, raw) = (attempt.hash, attempt.raw.clone());
        self.books.record("signed", vec![Event::TxSigned { id, purpose: purpose.clone(), attempt }]).await?;
        tracing::info!(event = "tx_signed", job = %purpose.job(), purpose = ?purpose, key = %id.key, nonce = id.nonce, tx = %hash, "transaction stored, about to be sent");
        self.send(id, &raw, hash).await
    }

    async fn moved(&self, job: JobId, expect: Expect, head: &Head) -> Result<Option<String>, Error> {
        let found = self.chain.job_at(job, at(&head.block)).await?.ok_or(Error::UnknownJob(job))?;
        let as_expected = match expect {
            Expect::Claimed { used, head } => {
                found.stands_at(used, head) && found.status != ChainStatus::Completed && !found.closed_to_claims
            }
            Expect::Active => found.status == ChainStatus::Active,
            Expect::Unpaid => found.status != ChainStatus::Completed,
        };
        Ok((!as_expected).then(|| format!("{:?} with {} tokens claimed, head {:?}", found.status, found.used, found.head)))
    }

    /// Hands stored bytes to the endpoint. What it answers is only ever a hint: receipts decide.
    async fn send(&mut self, id: TxId, raw: &[u8], hash: Digest) -> Result<(), Error> {
        let sent = self.chain.send_raw(raw).await;
        self.books.pass("broadcast")?;
        self.sent.insert(id, Instant::now());
        match sent {
            Ok(()) | Err(SendError::AlreadyKnown) => {
                self.never.remove(&id);
                self.books.record("sent", vec![Event::TxSent { id }]).await?;
                tracing::info!(event = "tx_sent", nonce = id.nonce, tx = %hash, "transaction handed to the endpoint");
                Ok(())
            }
            Err(SendError::NonceTooLow) => {
                *self.too_low.entry(id).or_default() += 1;
                tracing::info!(event = "tx_nonce_used", nonce = id.nonce, tx = %hash, "the nonce is used already: looking for the receipt");
                Ok(())
            }
            Err(SendError::Unknown(error)) => {
                tracing::warn!(event = "tx_unknown", nonce = id.nonce, tx = %hash, %error, "it is not known whether the transaction was taken; its bytes are sent again");
                // The transaction is safe; the caller need not know that the endpoint is away: its next question will tell.
                Ok(())
            }
            Err(refusal) => {
                if matches!(refusal, SendError::Underpriced(_)) {
                    self.hurry.insert(id);
                }
                if refusal.class() == Class::Deterministic {
                    tracing::error!(event = "tx_never_taken", nonce = id.nonce, tx = %hash, ?refusal, "[MP-S-029] the endpoint says that it will never take this transaction: cancel it, or use another endpoint");
                    self.never.insert(id, format!("{refusal:?}"));
                } else {
                    tracing::warn!(event = "tx_not_taken", nonce = id.nonce, tx = %hash, ?refusal, "the endpoint does not take the transaction now; it is offered again");
                }
                Ok(())
            }
        }
    }
}
