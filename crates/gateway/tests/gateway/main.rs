//! The doors on real sockets: scripted engine, ledger on the memory store.

mod bad_input;
mod delivery;
mod doors;
mod durability;
mod idempotence;
mod limits;
mod node;
mod ownership;
mod panics;
mod proofs;
#[path = "../../../bundle/tests/bundle/sample.rs"]
mod sample;
mod session;
mod socket;
