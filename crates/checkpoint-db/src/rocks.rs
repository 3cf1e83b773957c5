//! Opening on a file system: what is damaged is set aside whole, and a new database is made of what can be trusted.
//!
//! Names beside a database at `finality`:
//!
//! | name | what |
//! |---|---|
//! | `finality.lock` | empty; locked by the process that has the database open, or is setting one aside |
//! | `finality.witness` | the second record of the sign-state (see [`witness`](crate::witness)) |
//! | `finality.damaged-<n>` | damaged databases, whole as they were found; an operator may remove them |
//! | `finality.opening` | the database as it was found, while it is opened: links and copies; kept with the damaged one if that fails |
//! | `finality.suspect` | word of an earlier process that it met something unreadable: the next start reads every row |
//! | `finality.rebuilding`, `finality.rebuilt` | scratch of a recovery |

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost_store::Rocks;

use crate::Error;
use crate::db::CheckpointDB;
use crate::files::{Keep, keep_files, remove_scratch, table_files};
use crate::recovery::{Recovery, Salvage};
use crate::tables::TABLES;
use crate::witness::{FileWitness, Witness as _, sync_directory_of};

/// Where the files as they were before opening are kept within a damaged database.
const BEFORE_OPENING: &str = "before-opening";
/// Under which name the word of an earlier process is kept within a damaged database.
const SUSPICION: &str = "suspicion";

impl CheckpointDB {
    /// Opens the database at `path`, or creates it. Whatever signing and finality may rest on is read and checked; the votes of other
    /// validators are left to [`CheckpointDB::check`].
    ///
    /// A damaged database is moved to `<path>.damaged-<n>`, whole, and a new one is made of the rows that can be read and believed and of
    /// the sign-state that its witness (`<path>.witness`) keeps. [`CheckpointDB::recovery`] then says what happened. Where the sign-state
    /// cannot be believed, the new database refuses to sign until an operator declares. Nothing is ever deleted.
    ///
    /// Errors that waiting or an operator can mend (another process has it open, a full disk, missing permissions) leave everything as it
    /// is.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let paths = Paths::new(path.as_ref());
        tracing::info!(event = "database_opening", path = %paths.database.display(), "opening checkpoint database");
        // Before anything is looked at: logs are copied and directories renamed long before RocksDB takes its own lock, and that lock lies
        // in a directory that a recovery moves away.
        let lock = paths.lock()?;
        paths.finish_rename()?;
        let mut db = match paths.open() {
            Err(damage) if damage.is_damage() => paths.recover(&damage.to_string()),
            opened => opened,
        }?;
        db.lock = Some(lock);
        Ok(db)
    }
}

struct Paths {
    database: PathBuf,
    lock: PathBuf,
    opening: PathBuf,
    suspect: PathBuf,
    rebuilding: PathBuf,
    rebuilt: PathBuf,
}

impl Paths {
    fn new(database: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self {
            database: database.to_owned(),
            lock: beside(".lock"),
            opening: beside(".opening"),
            suspect: beside(".suspect"),
            rebuilding: beside(".rebuilding"),
            rebuilt: beside(".rebuilt"),
        }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> Error {
        let path = self.database.clone();
        move |error| Error::Recovery { path: path.clone(), doing, reason: error.to_string() }
    }

    /// Takes the lock that one process holds, or answers [`milepost_store::Error::Locked`] and leaves everything as it is.
    fn lock(&self) -> Result<fs::File, Error> {
        if let Some(parent) = self.lock.parent() {
            fs::create_dir_all(parent).map_err(self.failed("making the directory that holds it"))?;
        }
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.lock);
        let file = file.map_err(self.failed("opening its lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(milepost_store::Error::Locked { path: self.database.clone() }.into()),
            Err(fs::TryLockError::Error(error)) => Err(self.failed("locking it")(error)),
        }
    }

    /// A recovery that ended between its two renames is ended now; one that ended earlier begins anew.
    fn finish_rename(&self) -> Result<(), Error> {
        if self.rebuilt.exists() && !self.database.exists() {
            fs::rename(&self.rebuilt, &self.database).map_err(self.failed("ending an interrupted recovery"))?;
            sync_directory_of(&self.database).map_err(self.failed("ending an interrupted recovery"))?;
        }
        Ok(())
    }

    fn open(&self) -> Result<CheckpointDB, Error> {
        let witness = FileWitness::beside(&self.database);
        let files = self.files().map_err(self.failed("reading its directory"))?;
        if !files.iter().any(|name| name == "CURRENT") && !files.is_empty() && witness.path().exists() {
            // Not even begun, and yet it has signed. The store itself looks for data without `CURRENT`.
            return Err(Error::Damaged { reason: format!("{} is missing", self.database.join("CURRENT").display()) });
        }
        // Opening replays logs and removes them, and with them every table file that the manifest does not name. If then a log turns out
        // to end too early, or the manifest, their bytes must still be there.
        let keeping = self.failed("keeping its files while it is opened");
        keep_files(&self.database, &self.opening, Keep::Linked).map_err(&keeping)?;
        // Those included that a start kept which was interrupted: RocksDB may have removed them since.
        let tables = table_files(&self.opening).map_err(&keeping)?;
        let rocks = Rocks::open_shared(&self.database, &TABLES)?;
        let named = rocks.table_files()?;
        let mut db = CheckpointDB::over(Arc::new(rocks), Box::new(witness))?;
        self.refuse_forgotten(&db, &tables.difference(&named).collect())?;
        if self.suspect.exists() {
            db.check()?;
            // Nothing was found: the disk was read wrongly once, or has been mended.
            fs::remove_file(&self.suspect).map_err(self.failed("removing an unfounded suspicion"))?;
        }
        db.suspicion = Some(self.suspect.clone());
        remove_scratch(&self.opening).map_err(self.failed("removing what was kept while it was opened"))?;
        Ok(db)
    }

    fn files(&self) -> io::Result<Vec<String>> {
        match fs::read_dir(&self.database) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn recover(&self, reason: &str) -> Result<CheckpointDB, Error> {
        tracing::error!(event = "database_damaged", path = %self.database.display(), %reason, "the checkpoint database is damaged; it is set aside and rebuilt");
        let salvage = self.salvage()?;
        let witness = FileWitness::beside(&self.database);
        let reading = witness.read()?;
        remove_scratch(&self.rebuilt).map_err(self.failed("removing an unfinished recovery"))?;
        let (mut recovery, testimonial) = {
            let rebuilt = Rocks::open_shared(&self.rebuilt, &TABLES)?;
            salvage.rebuild(&rebuilt, &reading, reason)?
        };
        if self.database.exists() {
            let aside = milepost_store::quarantine(&self.database).map_err(self.failed("setting it aside"))?;
            if self.opening.exists() {
                fs::rename(&self.opening, aside.join(BEFORE_OPENING)).map_err(self.failed("setting its files aside"))?;
            }
            if self.suspect.exists() {
                fs::rename(&self.suspect, aside.join(SUSPICION)).map_err(self.failed("setting its suspicion aside"))?;
            }
            recovery.aside = Some(aside);
        }
        fs::rename(&self.rebuilt, &self.database).map_err(self.failed("putting the rebuilt one in its place"))?;
        sync_directory_of(&self.database).map_err(self.failed("putting the rebuilt one in its place"))?;
        witness.write(&testimonial)?;
        let mut db = self.open()?;
        report(&recovery);
        db.recovery = Some(recovery);
        Ok(db)
    }

    /// Reads what can be read of copies, in both ways there are: as the database it was, which shows whole rows in table files with damaged
    /// parts; and as RocksDB can repair it from all its table files and logs, which shows those that a cut manifest does not name. Neither
    /// way says what it lacks, so that each row comes from whichever has it.
    fn salvage(&self) -> Result<Salvage, Error> {
        let copying = self.failed("copying what can be read");
        let copy = || -> Result<(), Error> {
            remove_scratch(&self.rebuilding).map_err(&copying)?;
            // As it was found, before anything was replayed or removed; the database itself where it was not even kept.
            let found = if self.opening.join("CURRENT").exists() { &self.opening } else { &self.database };
            keep_files(found, &self.rebuilding, Keep::Copied).map_err(&copying)
        };
        copy()?;
        let as_it_was = read_copy(&self.rebuilding);
        copy()?;
        let repaired = match Rocks::repair(&self.rebuilding) {
            Ok(()) => read_copy(&self.rebuilding),
            Err(error) => {
                tracing::warn!(event = "repair_failed", %error, "a copy of the damaged database could not be repaired");
                Salvage::default()
            }
        };
        remove_scratch(&self.rebuilding).map_err(copying)?;
        Ok(repaired.with(as_it_was))
    }

    /// Refuses a database in which rows are missing that its table files have. `unnamed` are those of them that its manifest does not
    /// name: left by a process that ended while it replaced them, or forgotten by a manifest that lost its end.
    fn refuse_forgotten(&self, db: &CheckpointDB, unnamed: &BTreeSet<&String>) -> Result<(), Error> {
        if unnamed.is_empty() {
            return Ok(());
        }
        let missing = self.salvage()?.missing_from(db)?;
        tracing::info!(event = "tables_unnamed", ?unnamed, missing, "table files that the manifest does not name were read");
        if missing == 0 {
            return Ok(());
        }
        let reason =
            format!("its MANIFEST lost its end: it does not name the table files {unnamed:?}, which hold {missing} rows that are missing");
        Err(Error::Damaged { reason })
    }
}

/// Nothing, where it does not open.
fn read_copy(path: &Path) -> Salvage {
    if !path.join("CURRENT").exists() {
        return Salvage::default();
    }
    let opened = match Rocks::open_shared(path, &TABLES) {
        Err(milepost_store::Error::Layout { .. }) => Rocks::open(path, &TABLES),
        opened => opened,
    };
    match opened {
        Ok(rocks) => Salvage::read(&rocks),
        Err(error) => {
            tracing::debug!(event = "salvage_failed", %error, "a copy does not open");
            Salvage::default()
        }
    }
}

fn report(recovery: &Recovery) {
    tracing::warn!(
        event = "database_recovered",
        aside = ?recovery.aside,
        certificates = recovery.certificates,
        signatures = recovery.signatures,
        own_votes = recovery.own_votes,
        evidence = recovery.evidence,
        unreadable = recovery.unreadable,
        sign_state = ?recovery.sign_state,
        "the checkpoint database was rebuilt from what can be trusted; the damaged one was kept"
    );
}
