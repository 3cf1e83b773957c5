//! Undoing a list of events of which one was refused.

use std::collections::BTreeSet;

use crate::{Account, AccountId, Address, Event, Ledger, Tx, TxId};

/// What a list of events may change, as it was before them.
///
/// Guarantees: after [`Ledger::roll_back`] the ledger equals what it was at [`Ledger::savepoint`], if nothing but events of
/// that list was applied in between. Does not: undo effects that were written.
#[must_use = "a savepoint that is not kept cannot be rolled back to"]
#[derive(Clone, Debug)]
pub struct Savepoint {
    accounts: Vec<(AccountId, Option<Account>)>,
    txs: Vec<(TxId, Option<Tx>)>,
    floors: Vec<(Address, Option<u64>)>,
    retired: BTreeSet<AccountId>,
}

impl Ledger {
    /// Remembers what `events` may change: the accounts, transactions and keys they name, and no others.
    pub fn savepoint(&self, events: &[Event]) -> Savepoint {
        let accounts: BTreeSet<AccountId> = events.iter().flat_map(|event| self.accounts_of(event)).collect();
        let txs: BTreeSet<TxId> = events.iter().filter_map(tx_of).collect();
        let keys: BTreeSet<Address> = txs.iter().map(|id| id.key).collect();
        Savepoint {
            retired: accounts.iter().filter(|id| self.retired.contains(id)).copied().collect(),
            accounts: accounts.into_iter().map(|id| (id, self.accounts.get(&id).cloned())).collect(),
            txs: txs.into_iter().map(|id| (id, self.txs.get(&id).cloned())).collect(),
            floors: keys.into_iter().map(|key| (key, self.floors.get(&key).copied())).collect(),
        }
    }

    /// Puts back what a savepoint remembers.
    pub fn roll_back(&mut self, savepoint: Savepoint) {
        for (id, account) in savepoint.accounts {
            if !savepoint.retired.contains(&id) {
                self.retired.remove(&id);
            }
            match account {
                Some(account) => drop(self.accounts.insert(id, account)),
                None => drop(self.accounts.remove(&id)),
            }
        }
        for (id, tx) in savepoint.txs {
            match tx {
                Some(tx) => drop(self.txs.insert(id, tx)),
                None => drop(self.txs.remove(&id)),
            }
        }
        for (key, floor) in savepoint.floors {
            match floor {
                Some(floor) => drop(self.floors.insert(key, floor)),
                None => drop(self.floors.remove(&key)),
            }
        }
    }

    /// The accounts an event may change. Those of a transaction signed earlier in the same list are found by its signing.
    fn accounts_of(&self, event: &Event) -> Vec<AccountId> {
        let one = match event {
            Event::Open(open) => Some(open.id),
            Event::StartTurn(start) => Some(start.account),
            Event::Metered { account, .. }
            | Event::EndTurn { account, .. }
            | Event::EndSession { account, .. }
            | Event::Voucher { account, .. }
            | Event::Halt { account, .. }
            | Event::Resume { account }
            | Event::Retire { account } => Some(*account),
            Event::PlanClaim { job, .. } | Event::ClosingSeen { job, .. } | Event::Paid { job, .. } => Some(AccountId::Job(*job)),
            Event::Proving { claim } | Event::Proved { claim, .. } | Event::AbandonClaim { claim, .. } => Some(AccountId::Job(claim.job)),
            Event::TxSigned { purpose, .. } => return purpose.jobs().map(AccountId::Job).collect(),
            Event::TxSent { id }
            | Event::TxIncluded { id, .. }
            | Event::TxReorged { id }
            | Event::TxFinal { id }
            | Event::TxReplaced { id } => {
                return self.txs.get(id).map(|tx| tx.purpose.jobs().map(AccountId::Job).collect()).unwrap_or_default();
            }
        };
        one.into_iter().collect()
    }
}

fn tx_of(event: &Event) -> Option<TxId> {
    match event {
        Event::TxSigned { id, .. }
        | Event::TxSent { id }
        | Event::TxIncluded { id, .. }
        | Event::TxReorged { id }
        | Event::TxFinal { id }
        | Event::TxReplaced { id } => Some(*id),
        _ => None,
    }
}
