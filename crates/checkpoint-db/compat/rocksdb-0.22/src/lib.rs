//! Nothing: this package runs the tests of `checkpoint-db` against an older RocksDB (see its manifest).
