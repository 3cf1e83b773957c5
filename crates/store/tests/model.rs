//! Both engines against a model, and what is left after the power was lost.

use std::collections::BTreeMap;

use milepost_store::{
    Batch, Durability, Entry, Error, Fault, FaultPlan, MAX_PAGE_ENTRIES, Memory, Moment, Op, Order, Range, Storage, Survival, Table,
    entries,
};
use proptest::prelude::*;

const A: Table = Table::new("a");
const B: Table = Table::new("b");
const TABLES: [Table; 2] = [A, B];

/// The simplest thing that could be right.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Model {
    fn apply(&mut self, batch: &Batch) {
        for op in batch.ops() {
            match op {
                Op::Put { table, key, value } => drop(self.0.insert((*table, key.clone()), value.clone())),
                Op::Delete { table, key } => drop(self.0.remove(&(*table, key.clone()))),
                Op::DeleteRange { table, range } => self.0.retain(|(t, key), _| t != table || !range.contains(key)),
            }
        }
    }

    fn scan(&self, table: Table, range: &Range, order: Order) -> Vec<Entry> {
        let inside = self.0.iter().filter(|((t, key), _)| *t == table && range.contains(key));
        let mut found: Vec<_> = inside.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        if order == Order::Descending {
            found.reverse();
        }
        found
    }

    fn of(store: &dyn Storage) -> Self {
        let mut model = Self::default();
        for table in TABLES {
            for entry in entries(store, table, Range::all(), Order::Ascending) {
                let (key, value) = entry.unwrap();
                model.0.insert((table, key), value);
            }
        }
        model
    }
}

/// Short keys over few bytes, the largest among them, so that ranges, prefixes and overwrites meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 0xfe, 0xff]), 0..4)
}

fn table() -> impl Strategy<Value = Table> {
    prop::sample::select(TABLES.to_vec())
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        Just(Range::all()),
        key().prop_map(Range::prefix),
        key().prop_map(Range::from),
        (key(), key()).prop_map(|(start, end)| Range::between(start, end)),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    #[derive(Clone, Debug)]
    enum Change {
        Put(Table, Vec<u8>, Vec<u8>),
        Delete(Table, Vec<u8>),
        DeleteRange(Table, Range),
    }
    let change = prop_oneof![
        6 => (table(), key(), prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(t, k, v)| Change::Put(t, k, v)),
        2 => (table(), key()).prop_map(|(t, k)| Change::Delete(t, k)),
        1 => (table(), range()).prop_map(|(t, r)| Change::DeleteRange(t, r)),
    ];
    prop::collection::vec(change, 0..6).prop_map(|changes| {
        let mut batch = Batch::new();
        for change in changes {
            match change {
                Change::Put(table, key, value) => batch.put(table, key, value),
                Change::Delete(table, key) => batch.delete(table, key),
                Change::DeleteRange(table, range) => batch.delete_range(table, range),
            }
        }
        batch
    })
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Synced), Just(Durability::Buffered)]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ascending), Just(Order::Descending)]
}

#[derive(Clone, Debug)]
enum Step {
    Write(Batch, Durability),
    Get(Table, Vec<u8>),
    Scan(Table, Range, Order, usize),
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (batch(), durability()).prop_map(|(batch, durability)| Step::Write(batch, durability)),
        4 => (table(), key()).prop_map(|(table, key)| Step::Get(table, key)),
        4 => (table(), range(), order(), 1usize..5).prop_map(|(t, r, o, n)| Step::Scan(t, r, o, n)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// Runs steps on an engine and on the model, and compares every answer. `reopen` is an orderly restart.
fn agrees_with_the_model<S: Storage>(mut store: S, steps: Vec<Step>, mut reopen: impl FnMut(S) -> S) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Write(batch, durability) => {
                model.apply(&batch);
                store.write(batch, durability).unwrap();
            }
            Step::Get(table, key) => {
                prop_assert_eq!(store.get(table, &key).unwrap(), model.0.get(&(table, key)).cloned());
            }
            Step::Scan(table, range, order, limit) => {
                // Page by page with a small limit: the pages together are the range, and each but the last is full.
                let expected = model.scan(table, &range, order);
                let (mut found, mut rest) = (Vec::new(), Some(range));
                while let Some(range) = rest {
                    let page = store.scan(table, &range, order, limit).unwrap();
                    prop_assert!(page.entries.len() == limit || page.next.is_none());
                    found.extend(page.entries);
                    rest = page.next;
                }
                prop_assert_eq!(found, expected);
            }
            Step::Flush => store.flush().unwrap(),
            Step::Reopen => store = reopen(store),
        }
    }
    prop_assert_eq!(Model::of(&store), model);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_memory_engine_agrees_with_the_model(steps in steps()) {
        agrees_with_the_model(Memory::new(&TABLES), steps, |store| {
            store.flush().unwrap();
            store.crash().reopen()
        })?;
    }

    #[test]
    fn after_a_power_loss_every_acknowledged_synced_write_is_there_and_nothing_is_out_of_order(
        writes in prop::collection::vec((batch(), durability()), 1..30),
        at in 0u64..30,
        moment in prop::sample::select(vec![Moment::Before, Moment::During, Moment::After]),
        seed in any::<u64>(),
    ) {
        let plan = FaultPlan::none().at(at, Fault::PowerLoss(moment)).surviving(Survival::Prefix, seed);
        let store = Memory::with_faults(&TABLES, plan);
        // What the store held after each write that was begun, and how many of them are promised.
        let (mut states, mut promised) = (vec![Model::default()], 0);
        for (batch, durability) in writes {
            let mut next = states[states.len() - 1].clone();
            next.apply(&batch);
            states.push(next);
            match store.write(batch, durability) {
                Ok(()) if durability == Durability::Synced => promised = states.len() - 1,
                Ok(()) => {}
                Err(error) => {
                    prop_assert_eq!(error, Error::PowerLost);
                    break;
                }
            }
        }
        let survivor = Model::of(&store.crash().reopen());
        // A prefix of what was written, as long as the last acknowledged sync at the least.
        prop_assert!(states[promised..].contains(&survivor), "{promised} promised, {survivor:?} survived");
    }

    #[test]
    fn even_when_the_disk_reorders_what_was_not_synced_the_synced_part_is_whole(
        synced in batch(),
        unsynced in prop::collection::vec(batch(), 0..10),
        seed in any::<u64>(),
    ) {
        let store = Memory::with_faults(&TABLES, FaultPlan::none().surviving(Survival::Subset, seed));
        store.write(synced.clone(), Durability::Synced).unwrap();
        for batch in &unsynced {
            store.write(batch.clone(), Durability::Buffered).unwrap();
        }
        let survivor = Model::of(&store.crash().reopen());
        // Some subset explains what is left; the synced batch is in each of them.
        let explained = (0u32..1 << unsynced.len()).any(|subset| {
            let mut model = Model::default();
            model.apply(&synced);
            for (at, batch) in unsynced.iter().enumerate() {
                if subset & (1 << at) != 0 {
                    model.apply(batch);
                }
            }
            model == survivor
        });
        prop_assert!(explained, "{survivor:?}");
    }
}

#[test]
fn a_long_table_is_read_in_bounded_pages() {
    let store = Memory::new(&TABLES);
    let mut batch = Batch::new();
    for n in 0..10_000u32 {
        batch.put(A, n.to_be_bytes(), n.to_le_bytes());
    }
    store.write(batch, Durability::Synced).unwrap();
    let page = store.scan(A, &Range::all(), Order::Ascending, usize::MAX).unwrap();
    assert_eq!(page.entries.len(), MAX_PAGE_ENTRIES);
    let keys: Vec<_> = entries(&store, A, Range::all(), Order::Descending).map(|entry| entry.unwrap().0).collect();
    assert!(keys.iter().eq((0..10_000u32).rev().map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>().iter()));
    for size in [0, 1, 7, 9_999, usize::MAX] {
        let paged: Vec<_> =
            entries(&store, A, Range::all(), Order::Descending).in_pages_of(size).map(|entry| entry.unwrap().0).take(20).collect();
        assert_eq!(paged, keys[..20], "in pages of {size}");
    }
}

#[cfg(feature = "rocksdb-any")]
mod rocks {
    use super::*;
    use milepost_store::Rocks;

    proptest! {
        // Each case opens real databases; the memory engine's run covers the breadth.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_rocksdb_engine_agrees_with_the_model_in_either_layout(steps in steps()) {
            for open in [Rocks::open, Rocks::open_shared] {
                let dir = tempfile::tempdir().unwrap();
                agrees_with_the_model(open(dir.path(), &TABLES).unwrap(), steps.clone(), |store| {
                    drop(store);
                    open(dir.path(), &TABLES).unwrap()
                })?;
            }
        }
    }
}
