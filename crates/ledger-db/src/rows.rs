//! Typed reads of durable records. Any thread, no waiting for the commit thread.

use std::ops::Range;
use std::sync::Arc;

use milepost_ledger::{AccountId, AccountRecord, CheckpointRecord, Claim, ClaimId, JobId, TokenId, TokenSeq, TurnRecord, Tx, TxId};
use milepost_store::{self as store, Corruption, Order, Storage, Table, entries};
use serde::de::DeserializeOwned;

use crate::{Error, codec, tables};

/// Most token ids one read answers: 4 MiB of them, more than any claim holds.
pub const MAX_TOKENS_READ: usize = 1 << 20;

/// The records of a store.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) store: Arc<dyn Storage>,
}

impl Rows {
    pub(crate) fn account(&self, id: AccountId) -> Result<Option<AccountRecord>, Error> {
        self.one(tables::ACCOUNT, &tables::account(id), "account record")
    }

    pub(crate) fn accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        self.many(tables::ACCOUNT, store::Range::all(), "account record")
    }

    pub(crate) fn free_accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        self.many(tables::ACCOUNT, store::Range::prefix(tables::free()), "account record")
    }

    pub(crate) fn is_known(&self, id: AccountId) -> Result<bool, Error> {
        Ok(self.store.get(tables::ACCOUNT, &tables::account(id))?.is_some())
    }

    /// Accounts that are loaded at start.
    pub(crate) fn live(&self) -> Result<Vec<AccountId>, Error> {
        self.index(tables::LIVE, tables::account_of)
    }

    /// Token ids of positions in `range`, as far as the transcript reaches.
    pub(crate) fn tokens(&self, id: AccountId, range: Range<TokenSeq>) -> Result<Vec<TokenId>, Error> {
        let wanted = usize::try_from(range.end.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
        if wanted > MAX_TOKENS_READ {
            return Err(Error::TooMuch { what: "token ids in one read", count: wanted, limit: MAX_TOKENS_READ });
        }
        if wanted == 0 {
            return Ok(Vec::new());
        }
        // The run that holds the first wanted token begins at or before it.
        let before =
            store::Range::between(tables::tokens(id, TokenSeq::ZERO), tables::tokens(id, TokenSeq(range.start.0.saturating_add(1))));
        let runs = self.store.scan(tables::TOKENS, &before, Order::Descending, 1)?;
        let first = runs.entries.first().and_then(|(key, _)| tables::tokens_of(key)).map_or(range.start, |(_, first)| first);
        let rows = store::Range::between(tables::tokens(id, first), tables::tokens(id, range.end));
        let (mut ids, mut next) = (Vec::new(), first);
        for row in entries(&*self.store, tables::TOKENS, rows, Order::Ascending) {
            let (key, value) = row?;
            if tables::tokens_of(&key) != Some((id, next)) {
                return Err(Error::MissingTokens { account: id, at: next });
            }
            let run = codec::decode_tokens(tables::TOKENS, &key, &value)?;
            let skipped = usize::try_from(range.start.0.saturating_sub(next.0)).unwrap_or(usize::MAX).min(run.len());
            next.0 += run.len() as u64;
            ids.extend_from_slice(&run[skipped..]);
        }
        ids.truncate(wanted);
        Ok(ids)
    }

    pub(crate) fn turn(&self, id: AccountId, number: u32) -> Result<Option<TurnRecord>, Error> {
        self.one(tables::TURN, &tables::turn(id, number), "turn record")
    }

    pub(crate) fn turn_by_request(&self, id: AccountId, request: &str) -> Result<Option<TurnRecord>, Error> {
        let Some(number) = self.one(tables::REQUEST, &tables::request(id, request), "turn number")? else { return Ok(None) };
        let turn = self.turn(id, number)?;
        match turn {
            Some(turn) if turn.request == request => Ok(Some(turn)),
            _ => Err(Error::Rows {
                account: id,
                what: format!("request {request:?} points at turn {number}, which is missing or another's"),
            }),
        }
    }

    pub(crate) fn turns(&self, id: AccountId) -> Result<Vec<TurnRecord>, Error> {
        self.many(tables::TURN, store::Range::prefix(tables::account(id)), "turn record")
    }

    /// At most `limit` checkpoints from number `from` on.
    pub(crate) fn checkpoints(&self, id: AccountId, from: u64, limit: usize) -> Result<Vec<CheckpointRecord>, Error> {
        let rows = store::Range::between(tables::checkpoint(id, from), tables::checkpoint(id, u64::MAX));
        entries(&*self.store, tables::CHECKPOINT, rows, Order::Ascending)
            .in_pages_of(limit)
            .take(limit)
            .map(|row| row.map_err(Error::from).and_then(|(key, value)| decoded(tables::CHECKPOINT, &key, &value, "checkpoint record")))
            .collect()
    }

    /// Checkpoints that begin at or after `from`, in order.
    pub(crate) fn checkpoints_since(&self, id: AccountId, from: TokenSeq) -> Result<Vec<CheckpointRecord>, Error> {
        let mut found = Vec::new();
        for row in entries(&*self.store, tables::CHECKPOINT, store::Range::prefix(tables::account(id)), Order::Descending) {
            let (key, value) = row?;
            let checkpoint: CheckpointRecord = decoded(tables::CHECKPOINT, &key, &value, "checkpoint record")?;
            if checkpoint.first < from {
                break;
            }
            found.push(checkpoint);
        }
        found.reverse();
        Ok(found)
    }

    pub(crate) fn claim(&self, id: ClaimId) -> Result<Option<Claim>, Error> {
        self.one(tables::CLAIM, &tables::claim(id), "claim record")
    }

    pub(crate) fn claims(&self, job: JobId) -> Result<Vec<Claim>, Error> {
        self.many(tables::CLAIM, store::Range::prefix(tables::claims_of(job)), "claim record")
    }

    pub(crate) fn tx(&self, id: TxId) -> Result<Option<Tx>, Error> {
        self.one(tables::TX, &tables::tx(id), "transaction record")
    }

    pub(crate) fn is_live(&self, id: AccountId) -> Result<bool, Error> {
        Ok(self.store.get(tables::LIVE, &tables::account(id))?.is_some())
    }

    pub(crate) fn is_pending(&self, id: TxId) -> Result<bool, Error> {
        Ok(self.store.get(tables::PENDING_TX, &tables::tx(id))?.is_some())
    }

    pub(crate) fn txs(&self) -> Result<Vec<Tx>, Error> {
        self.many(tables::TX, store::Range::all(), "transaction record")
    }

    /// What the ledger needs of transactions: the unresolved ones, and of each key the one with the highest nonce.
    pub(crate) fn txs_to_restore(&self) -> Result<Vec<Tx>, Error> {
        let mut ids = self.index(tables::PENDING_TX, tables::tx_of)?;
        let mut rest = Some(store::Range::all());
        while let Some(range) = rest {
            let last = self.store.scan(tables::TX, &range, Order::Descending, 1)?;
            rest = match last.entries.first() {
                Some((key, _)) => {
                    let id = tables::tx_of(key).ok_or_else(|| foreign_key(tables::TX, key))?;
                    ids.push(id);
                    // On to the address before this one.
                    Some(store::Range::between([], tables::tx(TxId { key: id.key, nonce: 0 })))
                }
                None => None,
            };
        }
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter()
            .map(|id| {
                let key = tables::tx(id);
                let missing = || store::Error::Corrupt { table: tables::TX, key: key.clone(), reason: Corruption::Truncated { bytes: 0 } };
                self.one(tables::TX, &key, "transaction record")?.ok_or_else(|| missing().into())
            })
            .collect()
    }

    pub(crate) fn receipt(&self, claim: ClaimId) -> Result<Option<Vec<u8>>, Error> {
        self.bytes(tables::RECEIPT, &tables::claim(claim))
    }

    pub(crate) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.bytes(tables::META, name.as_bytes())
    }

    fn one<T: DeserializeOwned>(&self, table: Table, key: &[u8], expected: &'static str) -> Result<Option<T>, Error> {
        self.store.get(table, key)?.map(|value| decoded(table, key, &value, expected)).transpose()
    }

    fn bytes(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.get(table, key)?.map(|value| codec::decode_bytes(table, key, &value)).transpose()?)
    }

    fn many<T: DeserializeOwned>(&self, table: Table, range: store::Range, expected: &'static str) -> Result<Vec<T>, Error> {
        entries(&*self.store, table, range, Order::Ascending)
            .map(|row| row.map_err(Error::from).and_then(|(key, value)| decoded(table, &key, &value, expected)))
            .collect()
    }

    /// The keys of a table whose records say nothing but that they are there.
    fn index<T>(&self, table: Table, read: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Error> {
        let row = |row: Result<store::Entry, store::Error>| {
            let (key, value) = row?;
            codec::decode_bytes(table, &key, &value)?;
            read(&key).ok_or_else(|| foreign_key(table, &key))
        };
        entries(&*self.store, table, store::Range::all(), Order::Ascending).map(row).collect()
    }
}

fn decoded<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8], expected: &'static str) -> Result<T, Error> {
    Ok(codec::decode(table, key, value, expected)?)
}

fn foreign_key(table: Table, key: &[u8]) -> Error {
    Error::Store(store::Error::Corrupt { table, key: key.to_vec(), reason: Corruption::Key })
}
