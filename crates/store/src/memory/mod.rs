//! The memory engine: ordered maps over a simulated disk that can lose its power.
//!
//! A running engine sees its `live` tables. The simulated disk holds two more things: the `durable` tables, which is what
//! was synced, and the `pending` log, encoded batches that were written and not synced. A sync moves the pending log into
//! the durable tables; the loss of power keeps the durable tables and as much of the pending log as the [`FaultPlan`]
//! says, some of it torn. [`Survivor::reopen`] then reads what is left, exactly as a restart would.
//!
//! Without faults it is also a plain volatile store, for log mode and for builds without RocksDB.

mod disk;
mod fault;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scan::PageBuilder;
use crate::{Batch, Durability, Error, Order, Page, Range, Stats, Storage, Table, TableStats, dump};
use disk::{Disk, Tables};
use fault::Random;
pub use fault::{Fault, FaultPlan, Moment, Survival};

/// The memory engine. Clones are handles on one store.
///
/// Guarantees: what [`Storage`] promises, against simulated loss of power.
/// Does not: keep anything when the real process ends.
#[derive(Clone)]
pub struct Memory {
    names: Arc<[Table]>,
    state: Arc<Mutex<State>>,
}

struct State {
    live: Tables,
    disk: Disk,
    plan: FaultPlan,
    power: Power,
    /// Writes and flushes so far; the fault plan counts in these.
    operations: u64,
    writes: u64,
    synced_writes: u64,
}

#[derive(Clone)]
enum Power {
    On,
    /// A write failed: readable, not writable.
    Stopped(String),
    /// The process is dead.
    Off,
}

impl Memory {
    /// An empty store whose disk never fails.
    pub fn new(tables: &[Table]) -> Self {
        Self::with_faults(tables, FaultPlan::none())
    }

    /// An empty store whose disk fails as planned.
    pub fn with_faults(tables: &[Table], plan: FaultPlan) -> Self {
        Self::start(tables.into(), Tables::new(tables), plan)
    }

    /// A store with the content of a [`Storage::backup`] of a memory engine, or of any [`dump::save`].
    pub fn open_backup(tables: &[Table], path: &Path) -> Result<Self, Error> {
        let store = Self::new(tables);
        dump::load(&store, path)?;
        Ok(store)
    }

    fn start(names: Arc<[Table]>, tables: Tables, plan: FaultPlan) -> Self {
        let state =
            State { live: tables.clone(), disk: Disk::new(tables), plan, power: Power::On, operations: 0, writes: 0, synced_writes: 0 };
        Self { names, state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power now. Every handle answers [`Error::PowerLost`] from here on.
    pub fn crash(&self) -> Survivor {
        let mut state = self.state();
        state.power = Power::Off;
        let mut random = Random::new(state.plan.seed() ^ state.operations);
        let survival = state.plan.survival();
        Survivor { names: self.names.clone(), tables: state.disk.survive(survival, &mut random) }
    }

    /// What would be left if the power went now and nothing survived that was not synced. The store goes on.
    pub fn peek(&self) -> Survivor {
        let state = self.state();
        Survivor { names: self.names.clone(), tables: state.disk.survive(Survival::Nothing, &mut Random::new(0)) }
    }

    /// Replaces the plan: what is to fail from now on, counted as before from the engine's first operation, and what a loss of power leaves.
    pub fn replan(&self, plan: FaultPlan) {
        self.state().plan = plan;
    }

    /// Writes and flushes so far, those that failed included: the numbers that a [`FaultPlan`] counts in.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// True once the simulated power is off.
    pub fn is_off(&self) -> bool {
        matches!(self.state().power, Power::Off)
    }

    /// The engine changes nothing halfway, so a panic of another thread leaves nothing broken behind the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, table: Table) -> Result<(), Error> {
        if self.names.contains(&table) { Ok(()) } else { Err(Error::UnknownTable { table }) }
    }
}

impl State {
    fn readable(&self) -> Result<(), Error> {
        if matches!(self.power, Power::Off) { Err(Error::PowerLost) } else { Ok(()) }
    }

    /// Counts an operation that is about to happen and answers the fault planned for it.
    fn begin(&mut self) -> Result<Option<Fault>, Error> {
        match &self.power {
            Power::On => {}
            Power::Stopped(reason) => return Err(Error::Stopped { reason: reason.clone() }),
            Power::Off => return Err(Error::PowerLost),
        }
        let fault = self.plan.fault_at(self.operations);
        self.operations += 1;
        Ok(fault)
    }

    /// Fails an operation: the engine stops, or the power goes.
    fn fail(&mut self, fault: Fault, doing: &'static str) -> Error {
        let error = match fault {
            Fault::PowerLoss(_) => {
                self.power = Power::Off;
                return Error::PowerLost;
            }
            Fault::NoSpace => Error::NoSpace { doing, reason: "simulated ENOSPC".into() },
            Fault::ShortWrite => Error::Io { doing, reason: "simulated short write".into() },
            Fault::SyncError => Error::Io { doing, reason: "simulated EIO on sync".into() },
        };
        self.power = Power::Stopped(error.to_string());
        error
    }
}

impl Storage for Memory {
    fn tables(&self) -> &[Table] {
        &self.names
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Error> {
        const DOING: &str = "writing a batch";
        batch.validate(&self.names)?;
        let mut state = self.state();
        let fault = state.begin()?;
        match fault {
            Some(fault @ (Fault::NoSpace | Fault::PowerLoss(Moment::Before))) => return Err(state.fail(fault, DOING)),
            Some(fault @ Fault::ShortWrite) => {
                state.disk.append_torn(batch.ops());
                return Err(state.fail(fault, DOING));
            }
            _ => state.disk.append(batch.ops()),
        }
        if let Some(fault @ Fault::PowerLoss(Moment::During)) = fault {
            return Err(state.fail(fault, DOING));
        }
        if durability == Durability::Synced {
            if let Some(fault @ Fault::SyncError) = fault {
                return Err(state.fail(fault, DOING));
            }
            state.disk.sync();
            state.synced_writes += 1;
        }
        if let Some(fault @ Fault::PowerLoss(Moment::After)) = fault {
            return Err(state.fail(fault, DOING));
        }
        state.live.apply(batch.ops());
        state.writes += 1;
        Ok(())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.known(table)?;
        let state = self.state();
        state.readable()?;
        Ok(state.live.get(table).get(key).map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: &Range, order: Order, limit: usize) -> Result<Page, Error> {
        self.known(table)?;
        let state = self.state();
        state.readable()?;
        let mut page = PageBuilder::new(range, order, limit);
        if !range.is_empty() {
            let records = state.live.range(table, range);
            match order {
                Order::Ascending => drop({ records }.find(|(key, value)| !page.push(key, value))),
                Order::Descending => drop(records.rev().find(|(key, value)| !page.push(key, value))),
            }
        }
        Ok(page.finish())
    }

    fn flush(&self) -> Result<(), Error> {
        const DOING: &str = "flushing";
        let mut state = self.state();
        match state.begin()? {
            Some(fault @ Fault::PowerLoss(Moment::After)) => {
                state.disk.sync();
                Err(state.fail(fault, DOING))
            }
            Some(fault) => Err(state.fail(fault, DOING)),
            None => {
                state.disk.sync();
                Ok(())
            }
        }
    }

    fn backup(&self, path: &Path) -> Result<(), Error> {
        // A copy under the lock is one moment's content; dumping it then holds nobody up.
        let live = {
            let state = self.state();
            state.readable()?;
            state.live.clone()
        };
        let copy = Self::start(self.names.clone(), live, FaultPlan::none());
        dump::save(&copy, path).map(drop)
    }

    fn stats(&self) -> Result<Stats, Error> {
        let state = self.state();
        state.readable()?;
        let tables = self.names.iter().map(|table| TableStats { table: *table, records: state.live.get(*table).len() as u64 });
        Ok(Stats { tables: tables.collect(), disk_bytes: 0, writes: state.writes, synced_writes: state.synced_writes })
    }
}

/// What a simulated disk holds after the power was lost.
pub struct Survivor {
    names: Arc<[Table]>,
    tables: Tables,
}

impl Survivor {
    /// Starts again on what is left, with a disk that never fails.
    pub fn reopen(self) -> Memory {
        self.reopen_with(FaultPlan::none())
    }

    /// Starts again on what is left, with a disk that fails as planned.
    pub fn reopen_with(self, plan: FaultPlan) -> Memory {
        Memory::start(self.names, self.tables, plan)
    }
}
