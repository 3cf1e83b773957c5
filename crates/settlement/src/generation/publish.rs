//! Publishing what a claim names: the receipt, and the statement that it proves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost_ledger::ClaimId;
use milepost_ledger_db::{Blob, ContentPart, LedgerDb};
use milepost_prover::BoxFuture;

use super::ContentId;
use crate::books::error;
use crate::{DeployedConfig, Error};

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

    /// Whether content could be published now, by trying it with something that matters to nobody; answers where it goes, for people.
    fn check(&self) -> BoxFuture<'_, Result<String, Error>>;
}

/// The publisher that the configuration names. `None` where it names none: the node then serves the content itself ([`NodeServed`]).
pub fn publisher(config: &DeployedConfig) -> Result<Option<Arc<dyn Publisher>>, Error> {
    match (&config.publish_to, &config.s3) {
        (Some(_), Some(_)) => {
            Err(Error::Config("chain.deployed.publish_to and chain.deployed.s3 are both set: which one is meant?".to_owned()))
        }
        (Some(folder), None) => Ok(Some(Arc::new(Folder::new(folder)))),
        #[cfg(feature = "s3")]
        (None, Some(s3)) => Ok(Some(Arc::new(super::ObjectStore::new(s3)?))),
        #[cfg(not(feature = "s3"))]
        (None, Some(_)) => Err(Error::Config("chain.deployed.s3 is set, and this build has no object store (feature s3)".to_owned())),
        (None, None) => Ok(None),
    }
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

    fn check(&self) -> BoxFuture<'_, Result<String, Error>> {
        Box::pin(async { Ok("the node itself, at GET /ipfs/{id}".to_owned()) })
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

impl Folder {
    async fn on_disk(&self, work: impl FnOnce(&Path) -> std::io::Result<()> + Send + 'static) -> Result<(), Error> {
        let (folder, told) = (self.path.clone(), |why: String| Error::Publish(format!("{}: {why}", self.path.display())));
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(told(error.to_string())),
            Err(panic) => Err(told(panic.to_string())),
        }
    }
}

impl Publisher for Folder {
    fn publish(&self, content: Content) -> BoxFuture<'_, Result<ContentId, Error>> {
        Box::pin(async move {
            let id = ContentId::of(&content.bytes);
            self.on_disk(move |folder| write(folder, id, &content.bytes)).await.map(|()| id)
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Error>> {
        Box::pin(async {
            self.on_disk(|folder| {
                let trial = folder.join(format!("trial-{}.part", std::process::id()));
                std::fs::write(&trial, b"can be written\n")?;
                std::fs::remove_file(&trial)
            })
            .await?;
            Ok(format!("the folder {}", self.path.display()))
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
