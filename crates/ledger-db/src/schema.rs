//! The schema's version, and the way from older ones.
//!
//! Version 2 differs from version 1 in nothing but that transactions may carry several claims. A database gets it together with the
//! first of those ([`raise_for_batches`]) and not before: until then, a program that knows version 1 may go on with it.

use milepost_store::{Batch, Durability, Order, Range, Storage};

use crate::{Error, codec, tables};

/// The highest version of the tables that this program writes and reads.
pub const SCHEMA_VERSION: u32 = WITH_BATCHES;

/// From this version on, transactions may carry several claims.
const WITH_BATCHES: u32 = 2;

/// Puts into a batch what turns one version's records into the next one's.
pub(crate) type Migration = fn(&dyn Storage, &mut Batch) -> Result<(), Error>;

/// `MIGRATIONS[n]` leads from version `n + 1` to `n + 2`. None leads to [`WITH_BATCHES`], because nothing is to be rewritten for it; the
/// first one after it finds version 1 or 2, and treats them alike.
const MIGRATIONS: &[Migration] = &[];

const KEY: &[u8] = b"version";

/// Checks the schema of a store, writes it into an empty one, and migrates an older one.
pub(crate) fn prepare(store: &dyn Storage) -> Result<(), Error> {
    prepare_with(store, MIGRATIONS, SCHEMA_VERSION)
}

/// Appends the version of a database in which transactions may carry several claims: to the batch that holds one.
pub(crate) fn raise_for_batches(batch: &mut Batch) {
    put(batch, WITH_BATCHES);
}

/// Each migration and the version it leads to are one batch: a crash leaves one version or the other.
fn prepare_with(store: &dyn Storage, migrations: &[Migration], known: u32) -> Result<(), Error> {
    let first = u32::try_from(migrations.len()).unwrap_or(u32::MAX).saturating_add(1);
    let Some(value) = store.get(tables::SCHEMA, KEY)? else {
        for table in tables::ALL {
            if !store.scan(table, &Range::all(), Order::Ascending, 1)?.entries.is_empty() {
                return Err(Error::NoSchema);
            }
        }
        return write(store, Batch::new(), first);
    };
    let found: u32 = codec::decode(tables::SCHEMA, KEY, &value, "schema version")?;
    if found > known {
        return Err(Error::NewerSchema { found, known });
    }
    for (version, migration) in (1u32..).zip(migrations).filter(|(version, _)| *version >= found) {
        let mut batch = Batch::new();
        migration(store, &mut batch)?;
        write(store, batch, version + 1)?;
        tracing::info!(from = version, to = version + 1, "migrated the ledger's database");
    }
    Ok(())
}

fn write(store: &dyn Storage, mut batch: Batch, version: u32) -> Result<(), Error> {
    put(&mut batch, version);
    Ok(store.write(batch, Durability::Synced)?)
}

fn put(batch: &mut Batch, version: u32) {
    batch.put_sealed(tables::SCHEMA, KEY, codec::VERSION, &codec::encode(&version));
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_store::{Fault, FaultPlan, Memory, Moment};

    fn version(store: &dyn Storage) -> u32 {
        codec::decode(tables::SCHEMA, KEY, &store.get(tables::SCHEMA, KEY).unwrap().unwrap(), "schema version").unwrap()
    }

    fn count(store: &dyn Storage) -> u8 {
        store.get(tables::META, b"count").unwrap().map_or(0, |value| value[0])
    }

    /// A migration that must run exactly once.
    #[allow(clippy::unnecessary_wraps, reason = "it is a Migration")]
    fn count_up(store: &dyn Storage, batch: &mut Batch) -> Result<(), Error> {
        batch.put(tables::META, b"count", [count(store) + 1]);
        Ok(())
    }

    #[test]
    fn an_empty_store_gets_the_newest_version_and_no_migration() {
        let store = Memory::new(&tables::ALL);
        prepare_with(&store, &[count_up, count_up], 3).unwrap();
        assert_eq!((version(&store), count(&store)), (3, 0));
        prepare_with(&store, &[count_up, count_up], 3).unwrap();
        assert_eq!((version(&store), count(&store)), (3, 0));
    }

    #[test]
    fn a_newer_schema_is_refused_by_name_and_nothing_is_written() {
        let store = Memory::new(&tables::ALL);
        prepare_with(&store, &[count_up], 2).unwrap();
        let operations = store.operations();
        let error = prepare_with(&store, &[], 1).unwrap_err();
        assert_eq!(error, Error::NewerSchema { found: 2, known: 1 });
        assert!(error.to_string().starts_with("the database has schema 2, this milepost knows up to 1"));
        assert_eq!(store.operations(), operations);
    }

    #[test]
    fn a_database_is_of_version_1_until_a_transaction_carries_several_claims() {
        let store = Memory::new(&tables::ALL);
        prepare(&store).unwrap();
        assert_eq!(version(&store), 1, "a program that knows version 1 may go on with it");
        let mut batch = Batch::new();
        raise_for_batches(&mut batch);
        store.write(batch, Durability::Synced).unwrap();
        prepare(&store).unwrap();
        assert_eq!(version(&store), SCHEMA_VERSION);
        assert_eq!(prepare_with(&store, MIGRATIONS, 1), Err(Error::NewerSchema { found: 2, known: 1 }));
    }

    #[test]
    fn records_without_a_schema_are_not_taken_for_a_ledger() {
        let store = Memory::new(&tables::ALL);
        let mut batch = Batch::new();
        batch.put(tables::ACCOUNT, [1], [1]);
        store.write(batch, Durability::Synced).unwrap();
        assert_eq!(prepare(&store), Err(Error::NoSchema));
    }

    #[test]
    fn each_migration_runs_once_wherever_the_power_fails() {
        for at in 0..4 {
            for moment in [Moment::Before, Moment::During, Moment::After] {
                let plan = FaultPlan::none().at(at, Fault::PowerLoss(moment));
                let store = Memory::with_faults(&tables::ALL, plan);
                let first = prepare_with(&store, &[], 1).and_then(|()| prepare_with(&store, &[count_up, count_up], 3));
                let store = store.crash().reopen();
                assert_eq!(first.is_err(), at < 3, "operation {at}");
                if store.get(tables::SCHEMA, KEY).unwrap().is_none() {
                    assert_eq!(at, 0, "only the first write can lose the version");
                    prepare_with(&store, &[], 1).unwrap();
                }
                prepare_with(&store, &[count_up, count_up], 3).unwrap();
                assert_eq!((version(&store), count(&store)), (3, 2), "operation {at}, {moment:?}");
            }
        }
    }
}
