//! The client against a real host over real sockets: scripted engine, ledger on the memory store, no chain.

mod conversation;
mod cuts;
mod lies;
mod proxy;
mod rig;
