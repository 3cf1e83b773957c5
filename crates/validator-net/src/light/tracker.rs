//! What is known to be final, and that it never contradicts itself.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use finality_gadget::{CheckpointNumber, LinkDigest};

use super::certified::Certified;
use super::shelf::{KEPT, Shelf};
use crate::set_file::Agreement;

/// Two certificates that no honest quorum could have made both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The one that was accepted first.
    pub accepted: Arc<Certified>,
    /// The one that came later.
    pub against: Arc<Certified>,
}

/// What became of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The tip moved.
    Newer,
    /// It is known, or older than the tip.
    Nothing,
    /// It contradicts what was accepted: nothing is accepted any more.
    Contradicts,
}

/// The accepted certificates, newest [`KEPT`], in memory and on disk.
///
/// # Guarantees
///
/// The tip never moves back, and is on disk before anybody hears of it. After a contradiction nothing moves any more, in this process
/// and in every later one on the same folder.
#[derive(Debug)]
pub(super) struct Tracker {
    shelf: Shelf,
    kept: Arc<BTreeMap<CheckpointNumber, Arc<Certified>>>,
    halted: Option<Arc<Contradiction>>,
}

impl Tracker {
    /// Reads what is on disk; changes nothing.
    pub(super) fn read(folder: &Path, agreement: &Agreement) -> io::Result<(Self, Vec<std::path::PathBuf>)> {
        let shelf = Shelf::new(folder, agreement);
        let found = shelf.read(agreement)?;
        let mut tracker = Self { shelf, kept: Arc::new(found.kept), halted: None };
        if let Some(against) = found.against {
            tracker.halted = tracker.contradicted(&against);
        }
        Ok((tracker, found.damaged))
    }

    /// Reads what is on disk, sets aside what does not hold, and makes the folder ready.
    pub(super) fn open(folder: &Path, agreement: &Agreement) -> io::Result<Self> {
        let (tracker, damaged) = Self::read(folder, agreement)?;
        tracker.shelf.make()?;
        for path in damaged {
            tracing::warn!(event = "certificate_damaged", path = %path.display(), "a stored certificate does not hold; it is set aside and fetched again");
            tracker.shelf.set_aside(&path)?;
        }
        Ok(tracker)
    }

    pub(super) fn folder(&self) -> &Path {
        self.shelf.folder()
    }

    pub(super) fn kept(&self) -> &Arc<BTreeMap<CheckpointNumber, Arc<Certified>>> {
        &self.kept
    }

    pub(super) fn tip(&self) -> Option<&Arc<Certified>> {
        self.kept.values().next_back()
    }

    pub(super) fn halted(&self) -> Option<&Arc<Contradiction>> {
        self.halted.as_ref()
    }

    /// Takes a certificate that was verified.
    pub(super) fn take(&mut self, certified: Certified) -> io::Result<Taken> {
        let number = certified.checkpoint().number;
        if self.halted.is_some() || self.knows(number, certified.digest()) {
            return Ok(Taken::Nothing);
        }
        let certified = Arc::new(certified);
        if let Some(contradiction) = self.contradicted(&certified) {
            self.shelf.put_against(&certified)?;
            self.halted = Some(contradiction);
            return Ok(Taken::Contradicts);
        }
        if self.tip().is_some_and(|tip| number <= tip.checkpoint().number) {
            return Ok(Taken::Nothing);
        }
        self.shelf.put(&certified)?;
        let kept = Arc::make_mut(&mut self.kept);
        kept.insert(number, certified);
        while kept.len() > KEPT {
            let Some((lowest, _)) = kept.pop_first() else { break };
            self.shelf.remove(lowest)?;
        }
        Ok(Taken::Newer)
    }

    fn knows(&self, number: CheckpointNumber, digest: LinkDigest) -> bool {
        self.kept.get(&number).is_some_and(|kept| kept.digest() == digest)
    }

    fn contradicted(&self, against: &Arc<Certified>) -> Option<Arc<Contradiction>> {
        let accepted = self.kept.values().rev().find(|kept| kept.contradicts(against))?;
        Some(Arc::new(Contradiction { accepted: Arc::clone(accepted), against: Arc::clone(against) }))
    }
}
