//! Publishing what a claim names: the receipt, and the statement that it proves.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use milepost_ledger::ClaimId;
use milepost_ledger_db::{Blob, ContentPart, LedgerDb};
use milepost_prover::BoxFuture;

use super::ContentId;
use crate::Error;
use crate::books::error;

/// Something to publish of a claim: neither part holds a token, prompts and answers stay where they are.
#[derive(Clone, Debug)]
pub struct Content {
    /// The claim it belongs to.
    pub claim: ClaimId,
    /// What it is of it.
    pub part: ContentPart,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Where content is put so that others can fetch it by its id.
///
/// Guarantees that an implementation must give: when `publish` has answered, the content is durable and is found under its id, also
/// after a crash; publishing the same bytes again changes nothing.
pub trait Publisher: Send + Sync {
    /// Publishes, and answers with the content's id.
    fn publish(&self, content: Content) -> BoxFuture<'_, Result<ContentId, Error>>;
}

/// Content served by the node itself: it is in the ledger's database already, is found there by its id ([`published`]), and is answered
/// at `GET /ipfs/{id}`.
#[derive(Clone)]
pub struct NodeServed {
    db: LedgerDb,
}

impl NodeServed {
    /// Serves from this database.
    pub fn new(db: LedgerDb) -> Self {
        Self { db }
    }
}

impl Publisher for NodeServed {
    fn publish(&self, content: Content) -> BoxFuture<'_, Result<ContentId, Error>> {
        Box::pin(async move {
            let id = ContentId::of(&content.bytes);
            let text = id.to_string();
            if self.db.content(&text).map_err(error)?.is_none() {
                self.db.apply_with(Vec::new(), vec![Blob::content(&text, content.claim, content.part)]).await.map_err(error)?;
            }
            Ok(id)
        })
    }
}

/// Content that [`NodeServed`] published, by its id; checked against the id before it is given out.
pub fn published(db: &LedgerDb, id: ContentId) -> Result<Option<Vec<u8>>, Error> {
    let found = db.content(&id.to_string()).map_err(error)?;
    Ok(found.filter(|bytes| ContentId::of(bytes) == id))
}

/// Content put into a folder, one file named by each id: for whoever brings it to IPFS or an object store from there.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Into this folder, which must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Publisher for Folder {
    fn publish(&self, content: Content) -> BoxFuture<'_, Result<ContentId, Error>> {
        let folder = self.path.clone();
        Box::pin(async move {
            let id = ContentId::of(&content.bytes);
            let written = tokio::task::spawn_blocking(move || write(&folder, id, &content.bytes)).await;
            match written {
                Ok(Ok(())) => Ok(id),
                Ok(Err(error)) => Err(Error::Publish(error.to_string())),
                Err(panic) => Err(Error::Publish(panic.to_string())),
            }
        })
    }
}

/// Written beside, synced, then named: a file under its id is whole.
fn write(folder: &Path, id: ContentId, bytes: &[u8]) -> std::io::Result<()> {
    let target = folder.join(id.to_string());
    if std::fs::read(&target).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let beside = folder.join(format!("{id}.part"));
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, &target)?;
    std::fs::File::open(folder)?.sync_all()
}
