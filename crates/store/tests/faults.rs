//! Faults of the simulated disk, one by one, and what is refused without harm.

use milepost_store::{
    Batch, Durability, Error, Fault, FaultPlan, MAX_KEY_BYTES, MAX_VALUE_BYTES, Memory, Moment, Order, Range, Storage, Survival, Table,
    dump,
};

const A: Table = Table::new("a");
const B: Table = Table::new("b");

fn put(key: u8) -> Batch {
    let mut batch = Batch::new();
    batch.put(A, [key], [key]);
    batch.put(B, [key], [key]);
    batch
}

fn keys(store: &Memory) -> Vec<u8> {
    let of = |table| -> Vec<u8> {
        store.scan(table, &Range::all(), Order::Ascending, 100).unwrap().entries.iter().map(|(key, _)| key[0]).collect()
    };
    assert_eq!(of(A), of(B), "a batch is there as a whole or not at all");
    of(A)
}

#[test]
fn a_failed_sync_stops_the_engine_and_is_never_retried() {
    for fault in [Fault::SyncError, Fault::NoSpace, Fault::ShortWrite] {
        for survival in [Survival::Nothing, Survival::Everything] {
            let store = Memory::with_faults(&[A, B], FaultPlan::none().at(1, fault).surviving(survival, 1));
            store.write(put(0), Durability::Synced).unwrap();
            let error = store.write(put(1), Durability::Synced).unwrap_err();
            match fault {
                Fault::NoSpace => assert!(matches!(error, Error::NoSpace { .. })),
                _ => assert!(matches!(error, Error::Io { .. })),
            }
            // The fault is over, and still nothing is written: what the kernel holds is not known any more.
            for _ in 0..2 {
                assert_eq!(store.write(put(2), Durability::Synced), Err(Error::Stopped { reason: error.to_string() }));
                assert_eq!(store.write(put(2), Durability::Buffered), Err(Error::Stopped { reason: error.to_string() }));
                assert_eq!(store.flush(), Err(Error::Stopped { reason: error.to_string() }));
            }
            assert_eq!(keys(&store), [0], "a failed write is not read back");
            let after = keys(&store.crash().reopen());
            // Only a whole batch that reached the log may turn up, and only if the kernel wrote it back.
            let may_survive = fault == Fault::SyncError && survival == Survival::Everything;
            assert_eq!(after, if may_survive { vec![0, 1] } else { vec![0] }, "{fault:?}, {survival:?}");
        }
    }
}

#[test]
fn each_moment_of_a_power_loss_leaves_what_it_must() {
    use Durability::{Buffered, Synced};
    use Survival::{Everything, Nothing};
    let left = |moment, durability, survival| {
        let store = Memory::with_faults(&[A, B], FaultPlan::none().at(1, Fault::PowerLoss(moment)).surviving(survival, 1));
        store.write(put(0), Durability::Synced).unwrap();
        assert_eq!(store.write(put(1), durability), Err(Error::PowerLost));
        assert!(store.is_off());
        assert_eq!(store.get(A, &[0]), Err(Error::PowerLost), "a dead process reads nothing");
        keys(&store.crash().reopen())
    };
    assert_eq!(left(Moment::Before, Synced, Everything), [0]);
    assert_eq!(left(Moment::During, Synced, Nothing), [0]);
    assert_eq!(left(Moment::During, Synced, Everything), [0, 1]);
    assert_eq!(left(Moment::After, Synced, Nothing), [0, 1]);
    assert_eq!(left(Moment::After, Buffered, Nothing), [0]);
}

#[test]
fn a_sync_makes_every_earlier_write_durable() {
    let store = Memory::new(&[A, B]);
    store.write(put(0), Durability::Buffered).unwrap();
    store.write(put(1), Durability::Synced).unwrap();
    store.write(put(2), Durability::Buffered).unwrap();
    assert_eq!(keys(&store), [0, 1, 2]);
    let store = store.crash().reopen();
    assert_eq!(keys(&store), [0, 1]);
    store.write(put(3), Durability::Buffered).unwrap();
    store.flush().unwrap();
    assert_eq!(keys(&store.crash().reopen()), [0, 1, 3]);
}

#[test]
fn a_plan_can_be_replaced_and_the_disk_looked_at_while_the_store_runs() {
    let store = Memory::new(&[A, B]);
    store.write(put(0), Durability::Synced).unwrap();
    store.write(put(1), Durability::Buffered).unwrap();
    assert_eq!(keys(&store.peek().reopen()), [0], "what is not synced is not there yet");
    assert_eq!(keys(&store), [0, 1], "and the store goes on");
    store.replan(FaultPlan::none().at(store.operations() + 1, Fault::NoSpace).surviving(Survival::Everything, 1));
    store.write(put(2), Durability::Buffered).unwrap();
    assert!(matches!(store.write(put(3), Durability::Buffered), Err(Error::NoSpace { .. })));
    assert_eq!(keys(&store.crash().reopen()), [0, 1, 2]);
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let run = |seed| {
        let store = Memory::with_faults(&[A, B], FaultPlan::none().surviving(Survival::Subset, seed));
        (0..64).for_each(|key| store.write(put(key), Durability::Buffered).unwrap());
        keys(&store.crash().reopen())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    assert!((8..56).contains(&run(7).len()), "a subset is neither nothing nor everything");
}

#[test]
fn what_is_too_large_or_unknown_is_refused_and_the_store_goes_on() {
    let store = Memory::new(&[A]);
    let mut long_key = Batch::new();
    long_key.put(A, vec![0; MAX_KEY_BYTES + 1], []);
    let mut large_value = Batch::new();
    large_value.put(A, [], vec![0; MAX_VALUE_BYTES + 1]);
    let mut large_batch = Batch::new();
    (0..3).for_each(|n| large_batch.put(A, [n], vec![0; MAX_VALUE_BYTES]));
    for batch in [long_key, large_value, large_batch] {
        assert!(matches!(store.write(batch, Durability::Synced), Err(Error::TooLarge { .. })));
    }
    assert_eq!(store.write(put(0), Durability::Synced), Err(Error::UnknownTable { table: B }));
    assert_eq!(store.get(B, &[0]), Err(Error::UnknownTable { table: B }));
    assert_eq!(store.stats().unwrap().tables[0].records, 0);
    let mut largest = Batch::new();
    largest.put(A, vec![0; MAX_KEY_BYTES], b"v");
    store.write(largest, Durability::Synced).unwrap();
    assert_eq!(store.operations(), 1, "what was refused was never begun");
}

#[test]
fn a_backup_holds_everything_and_a_damaged_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup");
    let store = Memory::new(&[A, B]);
    (0..100).for_each(|key| store.write(put(key), Durability::Synced).unwrap());
    store.backup(&path).unwrap();
    assert!(matches!(store.backup(&path), Err(Error::Io { .. })), "an existing file is not overwritten");
    assert_eq!(keys(&Memory::open_backup(&[A, B], &path).unwrap()), (0..100).collect::<Vec<_>>());

    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let target = Memory::new(&[A, B]);
        assert!(matches!(dump::load(&target, &path), Err(Error::Dump { .. })), "byte {at}");
        assert_eq!(keys(&target), [] as [u8; 0], "a damaged dump changes nothing");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(matches!(dump::load(&target, &path), Err(Error::Dump { .. })), "cut at {at}");
    }
}
