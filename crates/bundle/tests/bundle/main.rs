//! Bundles without a real proof: the format, everything beside the receipt, and what a chain says. With a real proof:
//! `crates/prover-worker/tests/bundle.rs`.

mod checks;
mod format;
mod landing;
mod rlp;
mod sample;
mod trie;
