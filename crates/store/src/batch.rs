//! Batches: what becomes durable as a whole or not at all.

use crate::{Error, Range, Table, frame};

/// Longest key. Keys are a few numbers; a longer one is a mistake, and the bound gives range deletes an end.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value: a composite receipt of a very long claim is a few MiB.
pub const MAX_VALUE_BYTES: usize = 32 << 20;
/// Largest batch, so that one write cannot hold all memory or outgrow the log.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a record.
    Put {
        /// Where.
        table: Table,
        /// Under which key.
        key: Vec<u8>,
        /// To what.
        value: Vec<u8>,
    },
    /// Removes a record, if there is one.
    Delete {
        /// Where.
        table: Table,
        /// Under which key.
        key: Vec<u8>,
    },
    /// Removes every record whose key lies in the range. Costs the same however many there are.
    DeleteRange {
        /// Where.
        table: Table,
        /// Which keys.
        range: Range,
    },
}

impl Op {
    /// The table it changes.
    pub fn table(&self) -> Table {
        match self {
            Self::Put { table, .. } | Self::Delete { table, .. } | Self::DeleteRange { table, .. } => *table,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { range, .. } => range.start().len() + range.end().map_or(0, <[u8]>::len),
        }
    }
}

/// Changes that are written together, applied in order.
///
/// Guarantees: atomic under every engine and every crash. Does not: check anything against what the store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a batch that is not written changes nothing"]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// A batch that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a record.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.push(Op::Put { table, key: key.into(), value: value.into() });
    }

    /// Sets a record whose value is framed ([`crate::frame`]).
    pub fn put_sealed(&mut self, table: Table, key: impl Into<Vec<u8>>, version: u8, payload: &[u8]) {
        let key = key.into();
        let value = frame::seal(table, &key, version, payload);
        self.push(Op::Put { table, key, value });
    }

    /// Removes a record.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.push(Op::Delete { table, key: key.into() });
    }

    /// Removes all records in a range. An empty range changes nothing.
    pub fn delete_range(&mut self, table: Table, range: Range) {
        if !range.is_empty() {
            self.push(Op::DeleteRange { table, range });
        }
    }

    /// Appends another batch's changes behind this one's.
    pub fn append(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.ops.extend(other.ops);
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Keys and values together, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, op: Op) {
        self.bytes += op.bytes();
        self.ops.push(op);
    }

    /// Refuses what no engine should see, before anything is written: unknown tables and sizes beyond the limits.
    pub(crate) fn validate(&self, tables: &[Table]) -> Result<(), Error> {
        at_most("a batch", self.bytes, MAX_BATCH_BYTES)?;
        for op in &self.ops {
            if !tables.contains(&op.table()) {
                return Err(Error::UnknownTable { table: op.table() });
            }
            match op {
                Op::Put { key, value, .. } => {
                    at_most("a key", key.len(), MAX_KEY_BYTES)?;
                    at_most("a value", value.len(), MAX_VALUE_BYTES)?;
                }
                Op::Delete { key, .. } => at_most("a key", key.len(), MAX_KEY_BYTES)?,
                Op::DeleteRange { range, .. } => at_most("a key", range.start().len(), MAX_KEY_BYTES)?,
            }
        }
        Ok(())
    }
}

fn at_most(what: &'static str, bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes > limit { Err(Error::TooLarge { what, bytes, limit }) } else { Ok(()) }
}
