//! The certificates that were accepted, on disk: one file each, named by number.
//!
//! A file holds exactly [`Certificate::encode`](finality_gadget::Certificate::encode), so that anybody can verify it with the set file
//! alone. It is written under another name, synced, renamed, and its folder synced: there is the whole file or none. A file that does not
//! hold is set aside under another name, never deleted; the next lower one is then the tip, and what is missing comes again from the
//! validators. Each agreement has a folder of its own, named by its domain.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use finality_gadget::CheckpointNumber;

use super::certified::Certified;
use crate::set_file::Agreement;

/// Certificates kept. Older ones have served: payments are checked against newer ones as well, which speak for all links behind them.
pub(super) const KEPT: usize = 1024;
/// Ending of an accepted certificate's file.
const ENDING: &str = "cert";
/// Ending of one that contradicts an accepted one.
const AGAINST: &str = "against";
/// Ending of one that does not hold.
const DAMAGED: &str = "damaged";
/// Longest file that is read: far above every certificate of the largest sets with BLS.
const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Accepted certificates by the number that they make final.
    pub(super) kept: BTreeMap<CheckpointNumber, Arc<Certified>>,
    /// One that contradicts them, if the last process found such.
    pub(super) against: Option<Arc<Certified>>,
    /// Files that do not hold.
    pub(super) damaged: Vec<PathBuf>,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// The folder of this agreement below `parent`.
    pub(super) fn new(parent: &Path, agreement: &Agreement) -> Self {
        let digest = agreement.schedule.domain_digest();
        Self { folder: parent.join(hex::encode(&digest.0[..8])) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder and its name durable.
    pub(super) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        self.folder.ancestors().skip(1).find(|above| above.is_dir()).map_or(Ok(()), sync)
    }

    /// Reads and verifies everything; changes nothing. A folder that is not there is an empty one.
    pub(super) fn read(&self, agreement: &Agreement) -> io::Result<Found> {
        let mut found = Found::default();
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        let of = |ending: &str| paths.iter().filter(move |path| path.extension() == Some(OsStr::new(ending))).cloned().collect::<Vec<_>>();
        // The newest are enough: each is verified, and a folder that grew by other hands must not make a start long.
        for path in of(ENDING).into_iter().rev().take(KEPT) {
            match read(&path)?.and_then(|bytes| Certified::read(agreement, &bytes).ok()) {
                Some(certified) if path.file_stem() == Some(OsStr::new(&name(certified.checkpoint().number))) => {
                    found.kept.insert(certified.checkpoint().number, Arc::new(certified));
                }
                _ => found.damaged.push(path),
            }
        }
        for path in of(AGAINST).into_iter().take(1) {
            match read(&path)?.and_then(|bytes| Certified::read(agreement, &bytes).ok()) {
                Some(certified) => found.against = Some(Arc::new(certified)),
                None => found.damaged.push(path),
            }
        }
        Ok(found)
    }

    /// Sets a file aside.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(DAMAGED);
        fs::rename(path, self.folder.join(name))?;
        sync(&self.folder)
    }

    /// Puts an accepted certificate there, durably.
    pub(super) fn put(&self, certified: &Certified) -> io::Result<()> {
        self.write(certified, ENDING)
    }

    /// Puts a certificate there that contradicts an accepted one, durably.
    pub(super) fn put_against(&self, certified: &Certified) -> io::Result<()> {
        self.write(certified, AGAINST)
    }

    /// Removes an accepted certificate that is not needed any more.
    pub(super) fn remove(&self, number: CheckpointNumber) -> io::Result<()> {
        match fs::remove_file(self.folder.join(format!("{}.{ENDING}", name(number)))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, certified: &Certified, ending: &str) -> io::Result<()> {
        let name = name(certified.checkpoint().number);
        let new = self.folder.join(format!("{name}.{ending}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&certified.certificate().encode())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, self.folder.join(format!("{name}.{ending}")))?;
        sync(&self.folder)
    }
}

/// Names sort as the numbers do.
fn name(number: CheckpointNumber) -> String {
    format!("{:020}", number.0)
}

/// `None` where the file is too long to be one of ours.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(length).is_ok_and(|length| length <= MAX_FILE_BYTES)).then_some(bytes))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
