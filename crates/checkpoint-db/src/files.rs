//! The files of a database, kept and copied as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

/// How files are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// While it is opened: by second names, which cost nothing, and copies of what may change.
    Linked,
    /// For a copy that is worked on.
    Copied,
}

/// Whatever an opening writes it writes to new files, and removes others: a log that was replayed is not used again. The manifest and the
/// file that names it are small, and not worth relying on that.
fn is_left_as_it_is(name: &str) -> bool {
    name != "CURRENT" && !name.starts_with("MANIFEST-")
}

/// Names of the table files in a directory.
pub(crate) fn table_files(path: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                names.extend(entry?.file_name().into_string().ok().filter(|name| has_ending(name, "sst")));
            }
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(names),
        Err(error) => Err(error),
    }
}

/// Keeps the plain files of a directory that say something, its lock and RocksDB's text logs aside. Nothing to keep: no new directory.
pub(crate) fn keep_files(from: &Path, to: &Path, keep: Keep) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
        if keep == Keep::Linked && is_left_as_it_is(&name) {
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
    Ok(())
}

/// Removes copies that this program made itself.
pub(crate) fn remove_scratch(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
