//! Publishing what a claim names: the receipt, and the statement that it proves.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use milepost_ledger::ClaimId;
use milepost_ledger_db::{Blob, LedgerDb};
use milepost_prover::BoxFuture;

use super::ContentId;
use crate::Error;
use crate::books::error;

/// What is published of a claim. Neither part holds a token: prompts and answers stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The proof's receipt.
    Receipt,
    /// The statement's journal: what is claimed, by whom, following on from what.
    Statement,
}

/// Something to publish.
#[derive(Clone, Debug)]
pub struct Content {
    /// The claim it belongs to.
    pub claim: ClaimId,
    /// What it is of it.
    pub part: Part,
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

/// Content served by the node itself: it is in the ledger's database already, and is found there by its id ([`published`]).
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
            let part = if content.part == Part::Receipt { 'r' } else { 's' };
            let name = name(id);
            let found = format!("{part}{}", content.claim).into_bytes();
            if self.db.meta(&name).map_err(error)?.as_ref() != Some(&found) {
                self.db.apply_with(Vec::new(), vec![Blob::Meta { name, bytes: found }]).await.map_err(error)?;
            }
            Ok(id)
        })
    }
}

fn name(id: ContentId) -> String {
    format!("content.{id}")
}

/// Content that [`NodeServed`] published, by its id; checked against the id before it is given out.
pub fn published(db: &LedgerDb, id: ContentId) -> Result<Option<Vec<u8>>, Error> {
    let Some(found) = db.meta(&name(id)).map_err(error)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&found).into_owned();
    let claim = || text.get(1..).and_then(|claim| claim.parse::<ClaimId>().ok());
    let bytes = match (text.chars().next(), claim()) {
        (Some('r'), Some(claim)) => db.receipt(claim).map_err(error)?,
        (Some('s'), Some(claim)) => db.claim(claim).map_err(error)?.map(|claim| claim.statement.journal().to_vec()),
        _ => None,
    };
    Ok(bytes.filter(|bytes| ContentId::of(bytes) == id))
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
