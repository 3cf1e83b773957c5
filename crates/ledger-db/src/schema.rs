//! The schema's version, and the way from older ones.

use milepost_store::{Batch, Durability, Order, Range, Storage};

use crate::{Error, codec, tables};

/// Version of the tables this program writes.
// A version is a position in MIGRATIONS; there are few.
#[allow(clippy::cast_possible_truncation)]
pub const SCHEMA_VERSION: u32 = 1 + MIGRATIONS.len() as u32;

/// Puts into a batch what turns one version's records into the next one's.
pub(crate) type Migration = fn(&dyn Storage, &mut Batch) -> Result<(), Error>;

/// `MIGRATIONS[n]` leads from version `n + 1` to `n + 2`.
const MIGRATIONS: &[Migration] = &[];

const KEY: &[u8] = b"version";

/// Checks the schema of a store, writes it into an empty one, and migrates an older one.
pub(crate) fn prepare(store: &dyn Storage) -> Result<(), Error> {
    prepare_with(store, MIGRATIONS)
}

/// Each migration and the version it leads to are one batch: a crash leaves one version or the other.
fn prepare_with(store: &dyn Storage, migrations: &[Migration]) -> Result<(), Error> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX).saturating_add(1);
    let Some(value) = store.get(tables::SCHEMA, KEY)? else {
        for table in tables::ALL {
            if !store.scan(table, &Range::all(), Order::Ascending, 1)?.entries.is_empty() {
                return Err(Error::NoSchema);
            }
        }
        return write(store, Batch::new(), known);
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
    batch.put_sealed(tables::SCHEMA, KEY, codec::VERSION, &codec::encode(&version));
    Ok(store.write(batch, Durability::Synced)?)
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
        prepare_with(&store, &[count_up, count_up]).unwrap();
        assert_eq!((version(&store), count(&store)), (3, 0));
        prepare_with(&store, &[count_up, count_up]).unwrap();
        assert_eq!((version(&store), count(&store)), (3, 0));
    }

    #[test]
    fn a_newer_schema_is_refused_by_name_and_nothing_is_written() {
        let store = Memory::new(&tables::ALL);
        prepare_with(&store, &[count_up]).unwrap();
        let operations = store.operations();
        let error = prepare_with(&store, &[]).unwrap_err();
        assert_eq!(error, Error::NewerSchema { found: 2, known: 1 });
        assert!(error.to_string().starts_with("the database has schema 2, this milepost knows up to 1"));
        assert_eq!(store.operations(), operations);
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
                let first = prepare_with(&store, &[]).and_then(|()| prepare_with(&store, &[count_up, count_up]));
                let store = store.crash().reopen();
                assert_eq!(first.is_err(), at < 3, "operation {at}");
                if store.get(tables::SCHEMA, KEY).unwrap().is_none() {
                    assert_eq!(at, 0, "only the first write can lose the version");
                    prepare_with(&store, &[]).unwrap();
                }
                prepare_with(&store, &[count_up, count_up]).unwrap();
                assert_eq!((version(&store), count(&store)), (3, 2), "operation {at}, {moment:?}");
            }
        }
    }
}
