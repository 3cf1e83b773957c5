//! The model file's SHA-256.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self { path: path.to_owned(), bytes: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The state of a file now.
pub(super) fn stamp(path: &Path) -> Result<Stamp, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(Stamp::new(path, &metadata))
}

/// Digests of this process's life. Only here: whoever may write a cache file could make a host attest another model.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

type Known = HashMap<Stamp, [u8; 32]>;

/// The map is whole after every call, so a panic elsewhere while it was held does not matter.
fn known() -> MutexGuard<'static, Option<Known>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Digest of a GGUF file and the state it was in.
pub(super) fn of_model(path: &Path) -> Result<([u8; 32], Stamp), String> {
    let mut file = File::open(path).map_err(|error| format!("it cannot be opened: {error}; give the path of a GGUF file"))?;
    let metadata = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a file; give the path of a GGUF file".into());
    }
    let stamp = Stamp::new(path, &metadata);
    let remembered = known().as_ref().and_then(|map| map.get(&stamp).copied());
    if let Some(digest) = remembered {
        return Ok((digest, stamp));
    }

    let mut magic = [0; 4];
    if file.read_exact(&mut magic).is_err() || magic != *b"GGUF" {
        return Err("it does not begin with GGUF, so it is no model in the format that is needed".into());
    }
    let mut hash = Sha256::new();
    hash.update(magic);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(|error| format!("it cannot be read: {error}"))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let digest = hash.finalize().into();
    known().get_or_insert_default().insert(stamp.clone(), digest);
    Ok((digest, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_whole_file_and_follows_its_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut content = b"GGUF".to_vec();
        content.resize(3 << 20, 7);
        std::fs::write(&path, &content).unwrap();
        let expected: [u8; 32] = Sha256::digest(&content).into();
        let (first, first_stamp) = of_model(&path).unwrap();
        assert_eq!(first, expected);
        assert_eq!(of_model(&path).unwrap().0, expected, "remembered");
        content.push(8);
        std::fs::write(&path, &content).unwrap();
        assert_ne!(stamp(&path).unwrap(), first_stamp);
        assert_eq!(of_model(&path).unwrap().0, <[u8; 32]>::from(Sha256::digest(&content)));
    }

    #[test]
    fn what_is_no_model_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_model(folder.path()).unwrap_err().contains("not a file"));
        assert!(of_model(&folder.path().join("none")).unwrap_err().contains("cannot be opened"));
        let path = folder.path().join("text");
        std::fs::write(&path, "no model").unwrap();
        assert!(of_model(&path).unwrap_err().contains("GGUF"));
    }
}
