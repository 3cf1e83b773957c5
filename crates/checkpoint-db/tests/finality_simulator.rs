//! The gadget's simulated network on this database: every validator's disk is an engine that can lose its power, with our tables on it.
//!
//! `CHECKPOINT_SEEDS` says how many seeds (500 by default), `CHECKPOINT_FROM` where they begin; `FINALITY_TRACE=1` prints what happens. A
//! failing seed is printed and repeats.

mod common;

use std::sync::Arc;

use checkpoint_db::CheckpointStorageAdapter;
use finality_gadget::simulator::{Disk, DiskFault, Disks, Rng, Scenario, sweep};
use finality_gadget::{CheckpointStorage, Finalized, Vote};
use milepost_store::{Fault, FaultPlan, Memory, Moment, Survival};

struct Databases;

impl Disks for Databases {
    fn empty(&mut self) -> Box<dyn Disk> {
        Box::new(Machine { engine: common::memory(FaultPlan::none()) })
    }
}

struct Machine {
    engine: Memory,
}

impl Machine {
    fn crash(&mut self, plan: FaultPlan) {
        self.engine.replan(plan);
        self.engine = self.engine.crash().reopen();
    }

    /// What a new process would find if the power went now and nothing unsynced survived.
    fn after_the_worst(&self) -> CheckpointStorageAdapter {
        common::adapter(&self.engine.peek().reopen()).expect("a power loss is no damage")
    }
}

impl Disk for Machine {
    fn open(&mut self) -> Arc<dyn CheckpointStorage> {
        // A new process: the old one's handles are dead, the kernel still has what it wrote.
        self.crash(FaultPlan::none().surviving(Survival::Everything, 0));
        Arc::new(common::adapter(&self.engine).expect("the end of a process is no damage"))
    }

    fn power_loss(&mut self, rng: &mut Rng) {
        let survival = if rng.chance(50) { Survival::Subset } else { Survival::Prefix };
        self.crash(FaultPlan::none().surviving(survival, rng.bits()));
    }

    fn inject(&mut self, writes: u64, fault: DiskFault) {
        let fault = match fault {
            DiskFault::Full => Fault::NoSpace,
            DiskFault::SyncFails => Fault::SyncError,
            DiskFault::DiesAfterWrite => Fault::PowerLoss(Moment::After),
        };
        self.engine.replan(FaultPlan::none().at(self.engine.operations() + writes, fault));
    }

    fn mend(&mut self) {
        self.engine.replan(FaultPlan::none());
    }

    fn backup(&self) -> Box<dyn Disk> {
        Box::new(Self { engine: self.engine.peek().reopen() })
    }

    fn survives(&self, vote: &Vote) -> bool {
        let db = self.after_the_worst();
        db.db().own_vote(vote.link.target.number).expect("a power loss is no damage").as_ref() == Some(vote)
    }

    fn durable_finalized(&self) -> Option<Finalized> {
        self.after_the_worst().last_finalized().expect("a power loss is no damage")
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_happens_to_its_databases_no_validator_contradicts_itself() {
    let (from, seeds) = (number("CHECKPOINT_FROM", 0), number("CHECKPOINT_SEEDS", 500));
    let trace = number("FINALITY_TRACE", 0) > 0;
    let swept = sweep(from..from + seeds, |seed| Scenario { trace, ..Scenario::from_seed(seed) }, || Databases);
    println!("figure simulator over the database's tables: {swept}");
    if seeds >= 40 {
        assert!(swept.total.finals as u64 > seeds * 3, "hardly anything became final");
        assert!(swept.total.crashes > seeds, "hardly anything crashed");
    }
}
