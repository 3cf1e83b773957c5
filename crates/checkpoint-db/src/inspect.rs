//! Looking at a database on a file system without changing anything: what a start would find.

use std::path::Path;
use std::sync::{Arc, Mutex};

use milepost_store::{Rocks, Storage};

use crate::Error;
use crate::check::{Verdict, check_at_once, compare, read_schema, read_writer};
use crate::db::CheckpointDB;
use crate::tables::{StateKey, TABLES};
use crate::witness::{FileWitness, Witness as _};

/// A database opened for reading only.
#[derive(Debug)]
pub struct Inspection {
    /// The database. Every write to it is refused.
    pub db: CheckpointDB,
    /// Why the next start will not sign, where database and witness disagree in a way that no crash explains.
    pub doubt: Option<String>,
}

impl CheckpointDB {
    /// Opens the database at `path` for reading only, with the same checks as [`CheckpointDB::new`]: nothing is set aside, rebuilt, recorded
    /// or created, so that a look does not change what is looked at. What would be set aside is an error here.
    ///
    /// # Does not
    ///
    /// Keep another process from writing meanwhile; what it writes and removes can then look like damage. Read table files that the manifest
    /// does not name: that takes a copy.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, Error> {
        let path = path.as_ref();
        if !path.join("CURRENT").exists() {
            return Err(Error::Damaged { reason: format!("{} is missing", path.join("CURRENT").display()) });
        }
        let witness = FileWitness::beside(path);
        let reading = witness.read()?;
        let store: Arc<dyn Storage> = Arc::new(Rocks::open_read_only(path, &TABLES)?);
        let born = StateKey::Schema.read(&*store)?;
        let born = born.ok_or_else(|| Error::Damaged { reason: "the record of the database's birth is missing".to_owned() })?;
        let identity = read_schema(&born)?;
        check_at_once(&*store)?;
        let mut writer = read_writer(&*store, identity)?;
        writer.stopped = Some("it was opened for reading only".to_owned());
        let doubt = match compare(&writer, &reading)? {
            Verdict::Doubt(reason) => Some(reason),
            Verdict::Agreed | Verdict::Adopt(_) => None,
        };
        let db = Self { store, witness: Box::new(witness), writer: Mutex::new(writer), recovery: None, suspicion: None, lock: None };
        Ok(Inspection { db, doubt })
    }
}
