//! The follower, and the handle that its owner keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use finality_gadget::{BlockNumber, CheckpointNumber, FinalityCheckpoint, ValidatorId};
use milepost_pinned_tls::{Pins, open_client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::certified::Certified;
use super::source::{Heard, Source, Trouble};
use super::tracker::{Contradiction, Taken, Tracker};
use crate::peer::Peer;
use crate::set_file::Agreement;
use crate::{ALPN, IdentityError};

/// Answers that wait to be looked at. Each source waits for its own to be taken.
const MAX_WAITING: usize = 16;
/// Most validators that are asked: beyond some dozens one more adds nothing but load.
const MAX_SOURCES: usize = 64;

/// Why certificates cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody to ask.
    #[error("no validator gives certificates: the set file names none with an address for certificates")]
    NoSources,
    /// Too many to ask.
    #[error("{0} validators are named as sources of certificates, at most {MAX_SOURCES} are asked")]
    TooManySources(usize),
    /// One source twice.
    #[error("validator {0} is named twice as a source of certificates")]
    Twice(ValidatorId),
    /// No key could be made ready for TLS.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The folder of accepted certificates cannot be read or written. What cannot be kept is not believed.
    #[error("the certificates in {} cannot be kept: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task ended that should not.
    #[error("a task that follows certificates ended: {0}")]
    Ended(String),
}

/// What is followed, and where it is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the validators agree on: from the set file.
    pub agreement: Agreement,
    /// Whom to ask; [`Agreement::sources`] are all. One honest one among them is enough.
    pub sources: Vec<Peer>,
    /// Where accepted certificates are kept; each agreement has its folder in it.
    pub folder: PathBuf,
    /// Between two questions to one validator.
    pub poll: Duration,
}

/// How one validator does as a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// The validator.
    pub validator: ValidatorId,
    /// Where it is asked.
    pub address: String,
    /// When it last answered as it should.
    pub heard: Option<Instant>,
    /// The last final number that it named; only its word.
    pub finalized: CheckpointNumber,
    /// Why it is no help, if it is none at the moment.
    pub trouble: Option<Trouble>,
}

/// What is known.
#[derive(Debug, Clone)]
pub struct State {
    kept: Arc<BTreeMap<CheckpointNumber, Arc<Certified>>>,
    halted: Option<Arc<Contradiction>>,
    sources: Vec<SourceReport>,
    moved: Option<Instant>,
}

impl State {
    fn of(tracker: &Tracker) -> Self {
        Self { kept: Arc::clone(tracker.kept()), halted: tracker.halted().cloned(), sources: Vec::new(), moved: None }
    }

    /// The newest final checkpoint with its certificate; none before the first.
    pub fn tip(&self) -> Option<&Arc<Certified>> {
        self.kept.values().next_back()
    }

    /// The accepted certificates that are kept, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Arc<Certified>> + '_ {
        self.kept.values()
    }

    /// The oldest kept certificate that makes this height final, if one does: its checkpoint's block lies there or above.
    pub fn covering(&self, height: BlockNumber) -> Option<&Arc<Certified>> {
        self.kept().find(|kept| kept.height() >= height)
    }

    /// Two accepted certificates contradict each other: the validators are not to be trusted, and nothing moves any more.
    pub fn halted(&self) -> Option<&Arc<Contradiction>> {
        self.halted.as_ref()
    }

    /// How the validators do as sources. Empty where the certificates were only read from disk.
    pub fn sources(&self) -> &[SourceReport] {
        &self.sources
    }

    /// When the tip last moved in this process.
    pub fn moved(&self) -> Option<Instant> {
        self.moved
    }
}

/// What is known, as it changes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    agreement: Arc<Agreement>,
    state: watch::Receiver<State>,
}

impl Handle {
    /// What is known now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What is known, as it changes.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What the validators agree on.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The newest checkpoint that is known to be final: the tip, or the trusted one, with its height.
    pub fn finalized(&self) -> (FinalityCheckpoint, BlockNumber) {
        let state = self.state.borrow();
        if let Some(tip) = state.tip() {
            (tip.checkpoint(), tip.height())
        } else {
            let trusted = self.agreement.schedule.domain().trusted.checkpoint;
            // The set file was refused if there were no such height.
            (trusted, self.agreement.height(trusted.number).unwrap_or_default())
        }
    }
}

/// Reads the accepted certificates of another process, verified, and changes nothing. Asks nobody.
pub fn read(folder: &Path, agreement: &Agreement) -> Result<State, Error> {
    let (tracker, _) = Tracker::read(folder, agreement).map_err(|source| Error::Folder { folder: folder.to_owned(), source })?;
    Ok(State::of(&tracker))
}

/// The follower. It follows for as long as [`Light::run`] is polled.
///
/// # Guarantees
///
/// What the handle shows was signed by a quorum, is on disk, never moves back and never contradicts what it showed before.
///
/// # Does not
///
/// Look at the chain. Whether a block lies below a final checkpoint is for the chain's client to say, by hashes.
#[derive(Debug)]
pub struct Light {
    tracker: Tracker,
    agreement: Arc<Agreement>,
    sources: Vec<Peer>,
    poll: Duration,
    state: watch::Sender<State>,
}

impl Light {
    /// Reads what is kept. Asks nobody before [`Light::run`].
    pub fn new(options: Options) -> Result<(Self, Handle), Error> {
        let Options { agreement, sources, folder, poll } = options;
        if sources.is_empty() {
            return Err(Error::NoSources);
        }
        if sources.len() > MAX_SOURCES {
            return Err(Error::TooManySources(sources.len()));
        }
        let mut named = BTreeSet::new();
        if let Some(twice) = sources.iter().find(|source| !named.insert(source.validator)) {
            return Err(Error::Twice(twice.validator));
        }
        let tracker = Tracker::open(&folder, &agreement).map_err(|source| Error::Folder { folder, source })?;
        let mut state = State::of(&tracker);
        state.sources = sources.iter().map(SourceReport::new).collect();
        let (state, seen) = watch::channel(state);
        let agreement = Arc::new(agreement);
        Ok((Self { tracker, agreement: Arc::clone(&agreement), sources, poll, state }, Handle { agreement, state: seen }))
    }

    /// Follows until `stop`, or until what was accepted cannot be kept. Runs on tokio.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { mut tracker, agreement, sources, poll, state } = self;
        let (send, mut heard) = mpsc::channel(MAX_WAITING);
        let mut asking = JoinSet::new();
        for (index, peer) in sources.into_iter().enumerate() {
            let tls = TlsConnector::from(open_client(Pins::new([(peer.pin, peer.validator)]), ALPN)?);
            let (agreement, state, heard) = (Arc::clone(&agreement), state.subscribe(), send.clone());
            asking.spawn(Source { index, peer, tls, agreement, poll, state, heard }.run());
        }
        drop(send);
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                heard = heard.recv() => heard,
            };
            let Some(Heard { source, what }) = heard else { return Err(Error::Ended("no source asks any more".to_owned())) };
            report(&state, source, &what);
            if let Ok((_, Some(certified))) = what {
                // A sync may take as long as the disk likes.
                let keeping = tokio::task::spawn_blocking(move || {
                    let taken = tracker.take(certified);
                    (tracker, taken)
                });
                let (kept, taken) = keeping.await.map_err(|panic| Error::Ended(panic.to_string()))?;
                tracker = kept;
                let taken = taken.map_err(|source| Error::Folder { folder: tracker.folder().to_owned(), source })?;
                show(&state, &tracker, &taken);
            }
        }
    }
}

/// Shows what is on disk by now.
fn show(state: &watch::Sender<State>, tracker: &Tracker, taken: &Taken) {
    match taken {
        Taken::Nothing => {}
        Taken::Newer => {
            if let Some(tip) = tracker.tip() {
                let checkpoint = tip.checkpoint();
                tracing::info!(event = "certificate_accepted", checkpoint = %checkpoint.number, block = %tip.height(), hash = %checkpoint.hash, link = %tip.digest(), "a checkpoint is final by certificate");
            }
            let kept = Arc::clone(tracker.kept());
            state.send_modify(|state| (state.kept, state.moved) = (kept, Some(Instant::now())));
        }
        Taken::Contradicts => {
            if let Some(both) = tracker.halted() {
                tracing::error!(event = "certificates_contradict", accepted = %both.accepted.digest(), against = %both.against.digest(), checkpoint = %both.against.checkpoint(), "two certificates contradict each other: more validators are faulty than the set outlives, and nothing more is taken as final");
            }
            let halted = tracker.halted().cloned();
            state.send_modify(|state| state.halted = halted);
        }
    }
}

/// Notes how a source does; a change is logged, a repetition is not.
fn report(state: &watch::Sender<State>, source: usize, what: &Result<(CheckpointNumber, Option<Certified>), Trouble>) {
    state.send_if_modified(|state| {
        let Some(report) = state.sources.get_mut(source) else { return false };
        let (validator, address) = (report.validator, &report.address);
        match what {
            Ok((finalized, _)) => {
                if report.heard.is_none() || report.trouble.is_some() {
                    tracing::info!(event = "source_heard", %validator, address, "a validator gives certificates");
                }
                (report.heard, report.finalized, report.trouble) = (Some(Instant::now()), *finalized, None);
            }
            Err(trouble) => {
                if report.trouble.as_ref() != Some(trouble) {
                    match trouble {
                        Trouble::Network(_) => {
                            tracing::warn!(event = "source_silent", %validator, address, "a validator gives no certificates: {trouble}");
                        }
                        Trouble::Certificate(_) => {
                            tracing::warn!(event = "certificate_refused", %validator, address, "a validator {trouble}");
                        }
                    }
                }
                report.trouble = Some(trouble.clone());
            }
        }
        true
    });
}

impl SourceReport {
    fn new(peer: &Peer) -> Self {
        Self { validator: peer.validator, address: peer.address.clone(), heard: None, finalized: CheckpointNumber(0), trouble: None }
    }
}
