//! Tables: the named, ordered maps a store is made of.

use std::fmt;

/// One ordered map of a store, known by its name.
///
/// The name is part of every record's checksum ([`crate::frame`]) and of the engine's files: renaming a table is a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table. At most 255 bytes, none of them zero, and not `default`, which RocksDB keeps for itself; a constant that breaks this
    /// does not compile.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= u8::MAX as usize, "a table's name has 1 to 255 bytes");
        assert!(!matches!(name.as_bytes(), b"default"), "`default` belongs to RocksDB");
        let mut at = 0;
        while at < name.len() {
            assert!(name.as_bytes()[at] != 0, "a zero byte ends a table's name where tables share a column family");
            at += 1;
        }
        Self(name)
    }

    /// The table's name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
