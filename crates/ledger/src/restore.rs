//! Rebuilding the ledger from its records.

use std::collections::{BTreeMap, VecDeque};

use milepost_statement::TokenId;

use crate::effect::AccountRecord;
use crate::{Account, CheckpointMeta, Claim, ClaimState, Error, OpenRun, Tx, TxId};

/// An account as read back: its record, and the rows of other tables that belong to what is still open.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The record.
    pub record: AccountRecord,
    /// Token ids from S to M.
    pub open: Vec<TokenId>,
    /// Checkpoints beyond F, in order.
    pub pending: Vec<CheckpointMeta>,
    /// Every request id and its turn.
    pub requests: BTreeMap<String, u32>,
    /// The claim named in the record.
    pub claim: Option<Claim>,
}

/// What the rows of an account must add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gap {
    Open,
    Pending,
    Claim,
}

impl Restored {
    /// The account, if its rows fit together.
    pub fn into_account(self) -> Result<Account, Error> {
        let record = &self.record;
        let positions = &record.positions;
        let id = record.id;
        let fault = |gap: &Gap| Error::WrongState {
            what: format!("account {id}"),
            event: "restored",
            state: match gap {
                Gap::Open => format!("missing tokens between S {} and M {}", positions.sealed, positions.metered),
                Gap::Pending => format!("missing checkpoints between F {} and S {}", positions.finalized, positions.sealed),
                Gap::Claim => "naming a claim that has no record, or a resolved one".to_owned(),
            },
        };
        positions
            .check(record.terms.as_ref().map(crate::Terms::affordable))
            .map_err(|broken| Error::Invariant { account: id, broken: Box::new(broken) })?;
        if positions.sealed.0 + self.open.len() as u64 != positions.metered.0 {
            return Err(fault(&Gap::Open));
        }
        let mut end = positions.finalized;
        for checkpoint in &self.pending {
            if checkpoint.first != end {
                return Err(fault(&Gap::Pending));
            }
            end = checkpoint.end();
        }
        if end != positions.sealed || self.pending.last().is_some_and(|last| last.head != record.head) {
            return Err(fault(&Gap::Pending));
        }
        if record.claim != self.claim.as_ref().filter(|claim| claim.is_unresolved()).map(|claim| claim.id) {
            return Err(fault(&Gap::Claim));
        }
        Ok(Account {
            open: OpenRun { ids: self.open },
            pending: VecDeque::from(self.pending),
            requests: self.requests,
            claim: self.claim,
            record: self.record,
        })
    }
}

impl Account {
    /// A signed claim whose transaction is not there would be waited for until the end of time.
    pub(crate) fn check_claim(&self, txs: &BTreeMap<TxId, Tx>) -> Result<(), Error> {
        let Some(claim) = &self.claim else { return Ok(()) };
        match claim.state {
            ClaimState::Submitted(id) if txs.get(&id).is_none_or(|tx| !tx.purpose.claims().contains(&claim.id)) => Err(Error::WrongState {
                what: format!("claim {}", claim.id),
                event: "restored",
                state: format!("carried by nonce {} of {}, which has no record or does not name it", id.nonce, id.key),
            }),
            _ => Ok(()),
        }
    }
}
