//! Effects as a batch.

use std::collections::BTreeMap;

use milepost_ledger::{AccountId, Effect, Phase, Purpose, TurnRecord, TurnState};
use milepost_store::{Batch, Range, Table};
use serde::Serialize;

use crate::answer::{Blob, Forget};
use crate::codec::{self, VERSION};
use crate::{schema, tables};

/// Turns effects into records.
///
/// An ended turn is written whole, though its effect names only what changed; so the rows of active turns are kept here, one
/// for each account that generates.
#[derive(Default)]
pub(crate) struct Writer {
    active: BTreeMap<(AccountId, u32), TurnRecord>,
}

impl Writer {
    /// Takes in the row of a turn that was active when the database was opened.
    pub(crate) fn remember(&mut self, turn: TurnRecord) {
        self.active.insert((turn.account, turn.number), turn);
    }

    /// Appends an effect's records to a batch.
    pub(crate) fn write(&mut self, batch: &mut Batch, effect: &Effect) {
        match effect {
            Effect::PutAccount(record) => {
                let key = tables::account(record.id);
                put(batch, tables::ACCOUNT, key.clone(), record);
                if matches!(record.phase, Phase::Paid(_)) {
                    batch.delete(tables::LIVE, key);
                } else {
                    batch.put_sealed(tables::LIVE, key, VERSION, &[]);
                }
            }
            Effect::PutTokens { account, first, ids } => {
                batch.put_sealed(tables::TOKENS, tables::tokens(*account, *first), VERSION, &codec::encode_tokens(ids));
            }
            Effect::PutTurn(turn) => {
                put(batch, tables::TURN, tables::turn(turn.account, turn.number), turn);
                put(batch, tables::REQUEST, tables::request(turn.account, &turn.request), &turn.number);
                self.remember((**turn).clone());
            }
            Effect::EndTurn { account, number, end, reason, at } => {
                let turn = self.active.remove(&(*account, *number));
                // Every active turn was seen when it was put, or remembered at the start.
                let mut turn = turn.expect("only an active turn ends");
                turn.end = *end;
                turn.state = TurnState::Ended(*reason);
                turn.ended = Some(*at);
                put(batch, tables::TURN, tables::turn(*account, *number), &turn);
            }
            Effect::PutCheckpoint(checkpoint) => {
                put(batch, tables::CHECKPOINT, tables::checkpoint(checkpoint.account, checkpoint.number), checkpoint);
            }
            Effect::PutClaim(claim) => put(batch, tables::CLAIM, tables::claim(claim.id), claim),
            Effect::PutTx(tx) => {
                let key = tables::tx(tx.id);
                put(batch, tables::TX, key.clone(), tx);
                if matches!(tx.purpose, Purpose::Claims(_)) {
                    // An older program would not know what to make of it: it is told so, in the same batch.
                    schema::raise_for_batches(batch);
                }
                if tx.is_unresolved() {
                    batch.put_sealed(tables::PENDING_TX, key, VERSION, &[]);
                } else {
                    batch.delete(tables::PENDING_TX, key);
                }
            }
        }
    }

    /// Appends a blob's record.
    pub(crate) fn write_blob(batch: &mut Batch, blob: &Blob) {
        match blob {
            Blob::Receipt { claim, bytes } => batch.put_sealed(tables::RECEIPT, tables::claim(*claim), VERSION, bytes),
            Blob::Meta { name, bytes } => batch.put_sealed(tables::META, name.as_bytes(), VERSION, bytes),
        }
    }

    /// Deletes whatever there is of an account.
    pub(crate) fn forget(batch: &mut Batch, forget: &Forget) {
        for table in tables::BY_ACCOUNT {
            batch.delete_range(table, Range::prefix(tables::account(forget.account)));
        }
        if let Some(names) = &forget.names {
            batch.delete_range(tables::META, Range::prefix(names.as_bytes()));
        }
    }

    /// Notes that an account is forgotten: it is not loaded at the next start.
    pub(crate) fn retire(batch: &mut Batch, account: AccountId) {
        batch.delete(tables::LIVE, tables::account(account));
    }
}

fn put<T: Serialize>(batch: &mut Batch, table: Table, key: Vec<u8>, record: &T) {
    batch.put_sealed(table, key, VERSION, &codec::encode(record));
}
