//! A network of validators in simulated time: deterministic, seeded, without threads, clocks or sockets.
//!
//! Every run is drawn from its seed ([`Scenario::from_seed`]): crashes at any write, with unsynced writes surviving as a prefix or a
//! random subset; full disks and failed syncs; partitions, delays, losses, duplicates, reordering; liars that say different things to
//! different peers, and keys that run twice; reorganisations; set changes; disks that are lost or replaced by an old backup. What must hold
//! is checked while it runs, by other means than the gadget's own, and fails with a text of its own.
//!
//! Storage comes from outside: [`MemoryDisks`] here, a real database's own [`Disks`] in its tests.
//!
//! [`ScriptedChain`] is for tests of whoever embeds the gadget: a canonical chain that does what it is told.
//!
//! # Does not
//!
//! Promise more than the protocol: a validator that runs on an old backup, when no peer that answers remembers its newer votes, counts as
//! faulty, as a liar does; together they never exceed what a set outlives.

mod chain;
mod check;
mod disk;
mod hearing;
mod keys;
mod liar;
mod node;
mod plan;
mod rng;
mod scripted;
mod sweep;
mod world;

pub use disk::{Disk, DiskFault, Disks, MemoryDisk, MemoryDisks};
pub use keys::{Key, SchemeKind, TestScheme};
pub use plan::{Reorgs, Scenario};
pub use rng::Rng;
pub use scripted::ScriptedChain;
pub use sweep::{Sweep, sweep};
pub use world::{Outcome, World};

/// Runs one seed on these disks. Panics with the text of whatever does not hold.
pub fn run(scenario: Scenario, disks: &mut dyn Disks) -> Outcome {
    World::new(scenario, disks).run()
}
