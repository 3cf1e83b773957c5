//! Following the chain: one endpoint at a time, the next where one fails, and every look handed to the gadget's thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use finality_gadget::chain::{self, BoxFuture};
use finality_gadget::{BlockHash, BlockNumber, CanonicalChainClient, ChainHead, ChainId, ChainView, CheckpointNumber};
use milepost_canonical_chain::{EvmChain, Options};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::config::{Url, Validator};

/// Looks that fail are repeated after this at first; doubled with each further failure, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// An endpoint that is down is asked again this often at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A reorganisation seen while reading is looked at again after this.
const MOVED_PAUSE: Duration = Duration::from_millis(100);

/// What the gadget's thread is asked and told.
pub(super) enum Look {
    /// Which hashes must a look include?
    Wanted {
        /// Highest number that may be voted for.
        eligible: CheckpointNumber,
        /// Highest number at or below the chain's own `finalized` tag.
        finalized: Option<CheckpointNumber>,
        /// Where the numbers go.
        answer: oneshot::Sender<Vec<CheckpointNumber>>,
    },
    /// A look.
    View(ChainView),
}

/// How the chain answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainState {
    /// Whether the last look succeeded; `None` before the first.
    pub(super) up: Option<bool>,
    /// Why it did not.
    pub(super) error: Option<String>,
    /// Who was asked, without its access key.
    pub(super) endpoint: String,
    /// Highest checkpoint number on offer.
    pub(super) eligible: CheckpointNumber,
    /// Highest checkpoint number at or below the chain's `finalized` tag.
    pub(super) finalized: Option<CheckpointNumber>,
}

/// Several endpoints of one chain. One answers until it fails; each remembers by itself what was final.
pub(super) struct Endpoints {
    all: Vec<(Url, EvmChain)>,
    current: AtomicUsize,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|(url, _)| url)).finish()
    }
}

impl Endpoints {
    /// Those of the configuration, the heaviest first. Asks nothing yet.
    pub(super) fn new(settings: &Validator, chain: ChainId, rule: finality_gadget::FinalityRule) -> Result<Self, Error> {
        let follow = settings.follow(rule).map_err(Error::Configuration)?;
        let urls = settings.endpoints().map_err(Error::Configuration)?;
        let client = |url: Url| {
            let options =
                Options { timeout: Duration::from_millis(settings.rpc_timeout_ms.max(1)), ..Options::new(url.expose(), chain, follow) };
            let client = EvmChain::new(&options).map_err(|error| Error::Configuration(format!("{url}: {error}")))?;
            Ok((url, client))
        };
        Ok(Self { all: urls.into_iter().map(client).collect::<Result<_, Error>>()?, current: AtomicUsize::new(0) })
    }

    /// Each endpoint, for whoever looks at all of them.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Url, &EvmChain)> + '_ {
        self.all.iter().map(|(url, client)| (url, client))
    }

    /// Who is asked now, without its access key.
    pub(super) fn name(&self) -> String {
        self.all[self.position()].0.to_string()
    }

    fn position(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.all.len()
    }

    fn client(&self) -> &EvmChain {
        &self.all[self.position()].1
    }

    /// From now on the next one is asked.
    fn next(&self) {
        self.current.store((self.position() + 1) % self.all.len(), Ordering::Relaxed);
    }

    fn noting<T>(&self, answer: Result<T, chain::Error>) -> Result<T, chain::Error> {
        if let Err(chain::Error::Unavailable(_)) = &answer {
            self.next();
        }
        answer
    }
}

impl CanonicalChainClient for Endpoints {
    fn head(&self) -> BoxFuture<'_, Result<ChainHead, chain::Error>> {
        Box::pin(async { self.noting(self.client().head().await) })
    }

    fn hashes<'a>(&'a self, heights: &'a [BlockNumber]) -> BoxFuture<'a, Result<Vec<Option<BlockHash>>, chain::Error>> {
        Box::pin(async { self.noting(self.client().hashes(heights).await) })
    }
}

/// Follows the chain for as long as the process lives.
pub(super) struct Follower {
    /// Whom to ask.
    pub(super) endpoints: Endpoints,
    /// Blocks between two checkpoints; at least 1.
    pub(super) interval: u64,
    /// Between two looks.
    pub(super) poll: Duration,
    /// The gadget's thread.
    pub(super) gadget: mpsc::Sender<Look>,
    /// For whoever wants to know how the chain answers.
    pub(super) state: watch::Sender<ChainState>,
}

impl Follower {
    /// Looks again and again until told to stop, or until the gadget's thread is gone.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut pause = FIRST_PAUSE;
        loop {
            let endpoint = self.endpoints.name();
            let next = match self.look().await {
                Ok(None) => return,
                Ok(Some(view)) => {
                    self.answered(endpoint, &view);
                    if self.gadget.send(Look::View(view)).await.is_err() {
                        return;
                    }
                    pause = FIRST_PAUSE;
                    self.poll
                }
                Err(chain::Error::Moved) => MOVED_PAUSE,
                Err(error) => {
                    self.failed(endpoint, &error);
                    let this = pause;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    this
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// One look; `None` when nobody asks for one any more.
    async fn look(&self) -> Result<Option<ChainView>, chain::Error> {
        let head = self.endpoints.head().await?;
        let eligible = CheckpointNumber(head.best.0 / self.interval);
        let finalized = head.finalized.map(|block| CheckpointNumber(block.0 / self.interval));
        let (answer, wanted) = oneshot::channel();
        if self.gadget.send(Look::Wanted { eligible, finalized, answer }).await.is_err() {
            return Ok(None);
        }
        let Ok(numbers) = wanted.await else { return Ok(None) };
        let heights: Vec<BlockNumber> = numbers.iter().map(|number| BlockNumber(number.0.saturating_mul(self.interval))).collect();
        let hashes = self.endpoints.hashes(&heights).await?;
        let hashes: BTreeMap<_, _> = numbers.into_iter().zip(hashes).filter_map(|(number, hash)| Some((number, hash?))).collect();
        Ok(Some(ChainView { eligible, finalized, hashes }))
    }

    fn answered(&self, endpoint: String, view: &ChainView) {
        let state = ChainState { up: Some(true), error: None, endpoint, eligible: view.eligible, finalized: view.finalized };
        let before = self.state.send_replace(state);
        if before.up == Some(false) {
            tracing::info!(event = "chain_back", endpoint = self.state.borrow().endpoint, "the chain answers again");
        }
    }

    fn failed(&self, endpoint: String, error: &chain::Error) {
        let error = error.to_string();
        let before = self.state.borrow().clone();
        if before.error.as_ref() != Some(&error) {
            tracing::warn!(event = "chain_down", endpoint, error, "the chain does not answer; the next endpoint is asked");
        }
        self.state.send_replace(ChainState { up: Some(false), error: Some(error), endpoint, ..before });
    }
}
