//! Where the tables of a database lie within RocksDB.

use std::borrow::Cow;

use rocksdb::ColumnFamily;

use super::DEFAULT_FAMILY;
use crate::{MAX_KEY_BYTES, Range, Table};

/// How tables are laid out. A database keeps the layout that it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each table is a column family, with buffers and files of its own.
    Families,
    /// All tables lie in the default column family, each key behind its table's name and a zero byte. One buffer and few files: what a
    /// start and a flush cost RocksDB, they cost once instead of once a table.
    Shared,
}

impl Layout {
    /// Names of the column families to open for these tables, RocksDB's own included.
    pub(super) fn families(self, tables: &[Table]) -> Vec<String> {
        let named = tables.iter().filter(|_| self == Self::Families).map(|table| table.name().to_owned());
        named.chain([DEFAULT_FAMILY.to_owned()]).collect()
    }

    pub(super) fn family(self, table: Table) -> &'static str {
        match self {
            Self::Families => table.name(),
            Self::Shared => DEFAULT_FAMILY,
        }
    }

    /// What stands before every key of a table.
    pub(super) fn prefix(self, table: Table) -> Vec<u8> {
        match self {
            Self::Families => Vec::new(),
            Self::Shared => [table.name().as_bytes(), &[0]].concat(),
        }
    }
}

/// Sorts behind every key that the store takes: it is longer than the longest and holds the largest bytes.
const AFTER_EVERY_KEY: [u8; MAX_KEY_BYTES + 1] = [u8::MAX; MAX_KEY_BYTES + 1];

/// Where the records of one table lie.
pub(super) struct Place<'db> {
    pub(super) family: &'db ColumnFamily,
    pub(super) prefix: &'db [u8],
}

impl Place<'_> {
    /// A key of the table as RocksDB has it.
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        if self.prefix.is_empty() { Cow::Borrowed(key) } else { Cow::Owned([self.prefix, key].concat()) }
    }

    /// A key of RocksDB's as the table has it.
    pub(super) fn strip<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        key.strip_prefix(self.prefix).unwrap_or(key)
    }

    /// The first key behind a range of the table.
    pub(super) fn end<'r>(&self, range: &'r Range) -> Cow<'r, [u8]> {
        range.end().map_or_else(|| self.key(&AFTER_EVERY_KEY), |end| self.key(end))
    }
}
