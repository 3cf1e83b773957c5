//! The simulated disk: durable tables, and a log of batches that have not been synced.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Bound;
use std::sync::Arc;

use super::fault::{Random, Survival};
use crate::{Op, Range, Table};

type Records = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// Ordered maps by table. Values are shared between the live and the durable copy.
#[derive(Clone)]
pub(super) struct Tables(BTreeMap<Table, Records>);

impl Tables {
    pub(super) fn new(tables: &[Table]) -> Self {
        Self(tables.iter().map(|table| (*table, Records::new())).collect())
    }

    /// The records of a table; the caller has checked that the store knows it.
    pub(super) fn get(&self, table: Table) -> &Records {
        &self.0[&table]
    }

    pub(super) fn range(&self, table: Table, range: &Range) -> btree_map::Range<'_, Vec<u8>, Arc<[u8]>> {
        self.get(table).range::<[u8], _>(bounds(range))
    }

    pub(super) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            let records = self.0.entry(op.table()).or_default();
            match op {
                Op::Put { key, value, .. } => drop(records.insert(key.clone(), value.as_slice().into())),
                Op::Delete { key, .. } => drop(records.remove(key)),
                Op::DeleteRange { range, .. } => {
                    let keys: Vec<_> = records.range::<[u8], _>(bounds(range)).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        records.remove(&key);
                    }
                }
            }
        }
    }
}

fn bounds(range: &Range) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(range.start()), range.end().map_or(Bound::Unbounded, Bound::Excluded))
}

/// A batch in the log. `torn`: only a part of its bytes is there, which its checksum would tell; as a whole it is lost.
struct Logged {
    ops: Vec<Op>,
    torn: bool,
}

pub(super) struct Disk {
    durable: Tables,
    pending: Vec<Logged>,
}

impl Disk {
    pub(super) fn new(durable: Tables) -> Self {
        Self { durable, pending: Vec::new() }
    }

    pub(super) fn append(&mut self, ops: &[Op]) {
        self.pending.push(Logged { ops: ops.to_vec(), torn: false });
    }

    pub(super) fn append_torn(&mut self, ops: &[Op]) {
        self.pending.push(Logged { ops: ops.to_vec(), torn: true });
    }

    /// Makes the log durable. Nothing is appended behind a torn batch: the engine has stopped.
    pub(super) fn sync(&mut self) {
        for logged in self.pending.drain(..).take_while(|logged| !logged.torn) {
            self.durable.apply(&logged.ops);
        }
    }

    /// What is left when the power goes now.
    pub(super) fn survive(&self, survival: Survival, random: &mut Random) -> Tables {
        let mut tables = self.durable.clone();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything | Survival::Subset => self.pending.len(),
            Survival::Prefix => random.up_to(self.pending.len()),
        };
        for logged in &self.pending[..kept] {
            // Drawn for every batch, so that one batch's tear does not shift the others' fate.
            let lost = survival == Survival::Subset && random.coin();
            if !logged.torn && !lost {
                tables.apply(&logged.ops);
            }
        }
        tables
    }
}
