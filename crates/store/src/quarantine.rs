//! Setting a damaged database aside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Most quarantined databases kept beside each other before the operator is asked to look at them.
const MAX_QUARANTINED: u32 = 1000;

/// Moves a damaged database out of the way, to `<path>.damaged-<n>` with the first free `n`, and answers where it went.
///
/// Guarantees: nothing is deleted or overwritten; the new name is durable before this returns.
/// Does not: decide that a database is damaged, or rebuild one.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("a database's path ends in a name"))?.to_owned();
    name.push(".damaged-");
    for n in 1..=MAX_QUARANTINED {
        let mut name = name.clone();
        name.push(n.to_string());
        let target = path.with_file_name(name);
        if !target.try_exists()? {
            fs::rename(path, &target)?;
            sync_directory_of(path)?;
            return Ok(target);
        }
    }
    Err(io::Error::other(format!("{MAX_QUARANTINED} damaged databases lie beside {} already", path.display())))
}

/// Makes a rename, or a file's creation, in `path`'s directory durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_database_is_moved_aside_and_never_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("ledger");
        for n in 1..=3 {
            fs::create_dir(&db).unwrap();
            fs::write(db.join("CURRENT"), n.to_string()).unwrap();
            let moved = quarantine(&db).unwrap();
            assert_eq!(moved, dir.path().join(format!("ledger.damaged-{n}")));
            assert!(!db.exists());
        }
        for n in 1..=3 {
            let kept = fs::read_to_string(dir.path().join(format!("ledger.damaged-{n}/CURRENT"))).unwrap();
            assert_eq!(kept, n.to_string());
        }
    }
}
