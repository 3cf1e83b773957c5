//! The files of a database, kept and copied as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

pub(crate) fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// How table files are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// They are never changed once they are written: a second name keeps them, and costs nothing.
    Linked,
    /// For a copy that is worked on.
    Copied,
}

/// Keeps the plain files of a directory that say something, its lock and RocksDB's text logs aside; answers the names of the table files
/// among them. Nothing to keep: no new directory.
pub(crate) fn keep_files(from: &Path, to: &Path, tables: Tables) -> io::Result<BTreeSet<String>> {
    let mut kept = BTreeSet::new();
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(kept),
        Err(error) => return Err(error),
    };
    let mut made = false;
    for entry in entries {
        let entry = entry?;
        let (metadata, name) = (entry.metadata()?, entry.file_name().to_string_lossy().into_owned());
        if !metadata.is_file() || metadata.len() == 0 || name == "LOCK" || name == "LOG" || name.starts_with("LOG.") {
            continue;
        }
        if !made {
            fs::create_dir_all(to)?;
            made = true;
        }
        let place = to.join(&name);
        let is_table = has_ending(&name, "sst");
        if is_table {
            kept.insert(name);
        }
        if is_table && tables == Tables::Linked {
            match fs::hard_link(entry.path(), &place) {
                Ok(()) => continue,
                // Left by a start that was interrupted.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&place)?,
                // Another file system, or one without links.
                Err(_) => {}
            }
        }
        fs::copy(entry.path(), place)?;
    }
    Ok(kept)
}

/// Removes copies that this program made itself.
pub(crate) fn remove_scratch(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
