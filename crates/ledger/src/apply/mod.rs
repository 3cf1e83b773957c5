//! `apply`: one event in, its effects out, or an error and nothing changed.

mod claims;
mod metering;
mod sessions;
mod txs;

use std::collections::{BTreeMap, BTreeSet};

use milepost_statement::JobId;

use crate::effect::Effect;
use crate::event::Event;
use crate::{Account, AccountId, Address, Error, Positions, Restored, Tx, TxId};

/// Every open account and every unresolved transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) txs: BTreeMap<TxId, Tx>,
    /// Per key the nonce above every transaction that was ever recorded: none below it is given a second purpose.
    pub(crate) floors: BTreeMap<Address, u64>,
    /// Accounts forgotten since the start. One opened again would begin at token 0 over its own records.
    pub(crate) retired: BTreeSet<AccountId>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ledger from its records. Finished accounts need not be given. Resolved transactions should be (of each key at least the
    /// one with the highest nonce): they are not kept, but no nonce up to theirs is used again.
    pub fn restore(accounts: impl IntoIterator<Item = Restored>, txs: impl IntoIterator<Item = Tx>) -> Result<Self, Error> {
        let accounts = accounts
            .into_iter()
            .map(|restored| restored.into_account().map(|account| (account.id(), account)))
            .collect::<Result<_, _>>()?;
        let mut ledger = Self { accounts, ..Self::default() };
        for tx in txs {
            ledger.raise_floor(tx.id);
            if tx.is_unresolved() {
                ledger.txs.insert(tx.id, tx);
            }
        }
        for account in ledger.accounts.values() {
            account.check_claim(&ledger.txs)?;
        }
        Ok(ledger)
    }

    /// Applies one event. The effects must be durable before anything they describe leaves the process.
    pub fn apply(&mut self, event: Event) -> Result<Vec<Effect>, Error> {
        match event {
            Event::Open(open) => self.open(*open),
            Event::StartTurn(start) => self.start_turn(*start),
            Event::Metered { account, at, ids } => self.metered(account, at, ids),
            Event::EndTurn { account, reason, at } => self.end_turn(account, reason, at),
            Event::EndSession { account, reason, at } => self.end_session(account, reason, at),
            Event::Voucher { account, tokens, signature } => self.voucher(account, tokens, signature),
            Event::PlanClaim { job, until, at } => self.plan_claim(job, until, at),
            Event::Proving { claim } => self.proving(claim),
            Event::Proved { claim, proof } => self.proved(claim, proof),
            Event::AbandonClaim { claim, reason } => self.abandon_claim(claim, reason),
            Event::TxSigned { id, purpose, attempt } => self.tx_signed(id, purpose, attempt),
            Event::TxSent { id } => self.tx_sent(id),
            Event::TxIncluded { id, hash, block, outcome } => self.tx_included(id, hash, block, outcome),
            Event::TxReorged { id } => self.tx_reorged(id),
            Event::TxFinal { id } => self.tx_final(id),
            Event::TxReplaced { id } => self.tx_replaced(id),
            Event::ClosingSeen { job, until, at } => self.closing_seen(job, until, at),
            Event::Paid { job, payout, rest } => self.paid(job, payout, rest),
            Event::Halt { account, reason } => self.halt(account, reason),
            Event::Resume { account } => self.resume(account),
            Event::Retire { account } => self.retire(account),
        }
    }

    /// An open account.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// An open job.
    pub fn job(&self, job: JobId) -> Option<&Account> {
        self.account(AccountId::Job(job))
    }

    /// Every open account, in order of id.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Every unresolved transaction, in order of key and nonce.
    pub fn txs(&self) -> impl Iterator<Item = &Tx> {
        self.txs.values()
    }

    /// An unresolved transaction.
    pub fn tx(&self, id: TxId) -> Option<&Tx> {
        self.txs.get(&id)
    }

    /// The lowest nonce above every transaction of `key` that was recorded here, if there is one. The chain's own count may be
    /// higher.
    pub fn next_nonce(&self, key: Address) -> Option<u64> {
        self.floors.get(&key).copied()
    }

    fn raise_floor(&mut self, id: TxId) {
        let floor = self.floors.entry(id.key).or_default();
        *floor = (*floor).max(id.nonce.saturating_add(1));
    }

    fn account_mut(&mut self, id: AccountId) -> Result<&mut Account, Error> {
        self.accounts.get_mut(&id).ok_or(Error::UnknownAccount(id))
    }

    fn job_mut(&mut self, job: JobId) -> Result<&mut Account, Error> {
        self.account_mut(AccountId::Job(job))
    }
}

impl Account {
    /// Takes new positions if the line holds for them and nothing fell that never falls. Called before any other change, so
    /// that a refused event changes nothing.
    fn advance(&mut self, positions: Positions) -> Result<(), Error> {
        self.may_advance(&positions)?;
        self.record.positions = positions;
        Ok(())
    }

    /// Whether it could take these positions. Where one event moves several accounts, all are asked before the first is changed.
    fn may_advance(&self, positions: &Positions) -> Result<(), Error> {
        let broken = |broken| Error::Invariant { account: self.record.id, broken: Box::new(broken) };
        positions.check(self.affordable()).map_err(broken)?;
        positions.never_fell_since(&self.record.positions).map_err(broken)
    }

    /// The record as an effect.
    fn put(&self) -> Effect {
        Effect::PutAccount(Box::new(self.record.clone()))
    }
}
