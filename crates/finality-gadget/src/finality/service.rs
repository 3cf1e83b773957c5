use std::collections::VecDeque;
use std::sync::Arc;

use super::maintenance::{Maintenance, Report};
use super::restore::{self, Background, RestoreReport};
use crate::certificate::{Certificate, Finalized};
use crate::chain::{self, CanonicalChainClient, ChainView};
use crate::core::{Config, Core, Effect, Event, Health, Restored, Verdict};
use crate::network::{MAX_CERTIFICATES_PER_MESSAGE, Message, NetworkBridge, Recipient};
use crate::persistence::{self, CheckpointPersistenceConfig, CheckpointStorage, NotSafe, Safe};
use crate::scheme::{self, Entropy, OsEntropy, VoteSigner};
use crate::set::{self, Schedule};
use crate::types::{CheckpointNumber, Millis, ValidatorId};
use crate::vote::{SignedVote, Vote};

/// Finality that nobody has fetched is not piled up beyond this; the newest matters.
const MAX_UNFETCHED: usize = 4096;

/// Why the gadget does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Storage failed. The gadget has stopped: what the disk holds is known only after a restart.
    #[error("finality storage: {0}")]
    Storage(#[from] persistence::Error),
    /// An earlier error stopped the gadget.
    #[error("finality has stopped: {0}")]
    Stopped(String),
    /// There is no storage to restore from.
    #[error("no storage is attached: call set_storage before restore_from_storage")]
    NoStorage,
    /// The signer's key is not the one that the schedule gives this validator.
    #[error("the signer's key is not the one registered for validator {0}")]
    WrongKey(ValidatorId),
}

/// Checkpoint finality for a node, to be driven by whatever runs the node: it owns no thread, no clock and no runtime.
///
/// Hand it messages, looks at the chain and the time; it sends through the bridge, keeps what must be kept, and tells what has become
/// final ([`CheckpointFinality::advance_finality`]).
///
/// # Guarantees
///
/// - No signature leaves before its vote was judged against the table of own votes and synced.
/// - No finality is told before its certificate was synced.
/// - After any storage error nothing more is signed, sent or told: every call answers [`Error::Stopped`].
///
/// # Does not
///
/// Vote before [`CheckpointFinality::restore_from_storage`] has succeeded and a quorum of peers has answered. Without storage, or with
/// `enabled = false`, it is an observer for good.
pub struct CheckpointFinality {
    config: Config,
    persistence: CheckpointPersistenceConfig,
    core: Core,
    bridge: Arc<dyn NetworkBridge>,
    signer: Option<Arc<dyn VoteSigner>>,
    storage: Option<Arc<dyn CheckpointStorage>>,
    maintenance: Option<Maintenance>,
    background: Option<Background>,
    entropy: Box<dyn Entropy>,
    unfetched: VecDeque<Finalized>,
    stopped: Option<String>,
}

impl std::fmt::Debug for CheckpointFinality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointFinality").field("core", &self.core).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl CheckpointFinality {
    /// An observer that knows the trusted checkpoint. To become a validator it needs a signer here, a storage, and a restore.
    pub fn new(
        config: Config,
        schedule: Schedule,
        persistence: CheckpointPersistenceConfig,
        bridge: Arc<dyn NetworkBridge>,
        signer: Option<Arc<dyn VoteSigner>>,
    ) -> Self {
        Self::with_entropy(config, schedule, persistence, bridge, signer, || Box::new(OsEntropy))
    }

    /// The same with randomness from elsewhere, for tests that repeat. Validators must use [`CheckpointFinality::new`].
    pub fn with_entropy(
        config: Config,
        schedule: Schedule,
        persistence: CheckpointPersistenceConfig,
        bridge: Arc<dyn NetworkBridge>,
        signer: Option<Arc<dyn VoteSigner>>,
        mut entropy: impl FnMut() -> Box<dyn Entropy>,
    ) -> Self {
        let observer = Config { validator: None, ..config.clone() };
        Self {
            core: Core::new(observer, schedule, entropy(), Restored::default()),
            config,
            persistence,
            bridge,
            signer,
            storage: None,
            maintenance: None,
            background: None,
            entropy: entropy(),
            unfetched: VecDeque::new(),
            stopped: None,
        }
    }

    /// Attaches a storage. Nothing is read yet.
    pub fn set_storage(&mut self, storage: Arc<dyn CheckpointStorage>) {
        if self.persistence.enabled {
            self.maintenance = Some(Maintenance::new(Arc::clone(&storage), self.persistence));
            self.storage = Some(storage);
            tracing::info!(event = "storage_attached", "checkpoint storage attached");
        } else {
            tracing::warn!(event = "observer", "persistence is disabled: this node observes and never signs");
        }
    }

    /// Reads everything back: verifies the newest certificate and the chain of digests below it at once, leaves the rest to maintenance,
    /// and begins to ask peers for own votes. `nonce` is fresh randomness.
    pub fn restore_from_storage(&mut self, nonce: u64) -> Result<RestoreReport, Error> {
        let storage = self.storage.clone().ok_or(Error::NoStorage)?;
        let validator = self.config.validator.filter(|_| self.signer.is_some());
        if let (Some(validator), Some(signer)) = (validator, &self.signer) {
            let schedule = self.core.schedule();
            let registered = schedule.sets().any(|(_, set)| set.members().any(|(id, key)| id == validator && key == signer.public_key()));
            if !registered {
                return Err(Error::WrongKey(validator));
            }
        }
        if let (Some(_), Some(signer)) = (validator, &self.signer) {
            let bound = storage.bind_key(signer.public_key());
            self.stop_on(bound)?;
        }
        let read =
            restore::read(&*storage, self.core.schedule(), self.config.rule).inspect_err(|error| self.stopped = Some(error.to_string()))?;
        let config = Config { validator, ..self.config.clone() };
        let schedule = self.core.schedule().clone();
        let entropy = std::mem::replace(&mut self.entropy, Box::new(OsEntropy));
        self.core = Core::new(config, schedule, entropy, read.restored);
        self.background = Some(read.background);
        self.unfetched.clear();
        let report = read.report;
        tracing::info!(
            event = "restored",
            finalized = %report.finalized.number,
            certificates = report.certificates,
            signatures = report.signatures,
            own_votes = report.own_votes,
            damaged = report.damaged.len(),
            "finality restored from storage"
        );
        self.publish_bound();
        self.drive(Event::Started { nonce })?;
        Ok(report)
    }

    /// Time passes; `now` never runs backwards.
    pub fn tick(&mut self, now: Millis) -> Result<(), Error> {
        self.drive(Event::Tick(now))
    }

    /// A message of an authenticated validator.
    pub fn receive(&mut self, from: ValidatorId, message: Message) -> Result<(), Error> {
        self.drive(Event::Received { from, message })
    }

    /// A look at the canonical chain; see [`CheckpointFinality::wanted`].
    pub fn observe(&mut self, view: ChainView) -> Result<(), Error> {
        self.drive(Event::Chain(view))
    }

    /// Which hashes a look at the chain must include.
    pub fn wanted(&self, eligible: CheckpointNumber, finalized: Option<CheckpointNumber>) -> Vec<CheckpointNumber> {
        self.core.wanted(eligible, finalized)
    }

    /// Looks at the chain through a client and takes in what it says. `interval` is the distance of checkpoints in blocks.
    pub async fn look(&mut self, client: &dyn CanonicalChainClient, interval: u64) -> Result<Result<(), chain::Error>, Error> {
        match chain::look(client, interval, |eligible, finalized| self.core.wanted(eligible, finalized)).await {
            Ok(view) => self.observe(view).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Takes a vote straight from its author.
    pub fn add_checkpoint_signature(&mut self, signed: SignedVote) -> Result<(), Error> {
        self.receive(signed.validator, Message::Votes(vec![signed]))
    }

    /// The certificate of a target, if a quorum of every set is held: certificates are made as soon as votes suffice, so that this
    /// only looks.
    pub fn create_checkpoint_certificate(&self, target: CheckpointNumber) -> Result<Option<Certificate>, Error> {
        match (self.core.certificate(target), &self.storage) {
            (Some(certificate), _) => Ok(Some(certificate.clone())),
            (None, Some(storage)) if !self.core.is_damaged(target) => Ok(storage.certificate(target)?),
            (None, _) => Ok(None),
        }
    }

    /// What has become final since the last call, ascending. Told once each; after a restart [`CheckpointFinality::finalized`] says where
    /// things stand.
    pub fn advance_finality(&mut self) -> Vec<Finalized> {
        self.unfetched.drain(..).collect()
    }

    /// The last final checkpoint.
    pub fn finalized(&self) -> Finalized {
        self.core.finalized()
    }

    /// Adds a set that operators agreed on; see [`Core::add_set`].
    pub fn add_set(&mut self, boundary: CheckpointNumber, set: set::ValidatorSet) -> Result<(), set::Error> {
        self.core.add_set(boundary, set)
    }

    /// How this validator is doing.
    pub fn health(&self) -> Health {
        self.core.health()
    }

    /// Why the gadget has stopped, if it has.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// The rules, to be read.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Maintenance to be run elsewhere: see [`Maintenance::run`]. `None` without storage.
    pub fn maintenance(&self) -> Option<Maintenance> {
        self.maintenance.clone()
    }

    /// Flushes and prunes if it is time, and verifies a page of what the last start read. For nodes that drive maintenance themselves;
    /// others spawn [`Maintenance::run`] and call [`CheckpointFinality::verify_restored`].
    pub fn perform_periodic_maintenance(&mut self, now: Millis) -> Result<Report, Error> {
        self.check_stopped()?;
        let Some(maintenance) = &mut self.maintenance else { return Ok(Report::default()) };
        let done = maintenance.run_once(now);
        let report = self.stop_on(done)?;
        self.verify_restored()?;
        Ok(report)
    }

    /// Verifies one page of the certificates that the last start only checked by digest; `true` when all are done. What does not hold is
    /// logged, counted in [`Background::damaged`], no longer used or served, and asked for again from peers.
    pub fn verify_restored(&mut self) -> Result<bool, Error> {
        self.check_stopped()?;
        let (Some(background), Some(storage)) = (&mut self.background, &self.storage) else { return Ok(true) };
        let step = background.step(&**storage, self.core.schedule(), &mut *self.entropy);
        let step = self.stop_on(step)?;
        if !step.votes.is_empty() {
            self.drive(Event::History(step.votes))?;
        }
        if !step.damaged.is_empty() {
            self.drive(Event::Damaged(step.damaged))?;
        }
        Ok(step.done)
    }

    /// What the verification behind the last start has found so far.
    pub fn background(&self) -> Option<&Background> {
        self.background.as_ref()
    }

    fn check_stopped(&self) -> Result<(), Error> {
        self.stopped.as_ref().map_or(Ok(()), |reason| Err(Error::Stopped(reason.clone())))
    }

    fn stop_on<T>(&mut self, result: Result<T, persistence::Error>) -> Result<T, Error> {
        result.map_err(|error| {
            tracing::error!(event = "finality_stopped", %error, "storage failed: nothing more is signed or announced until a restart");
            self.stopped = Some(error.to_string());
            Error::Storage(error)
        })
    }

    fn publish_bound(&mut self) {
        if let Some(maintenance) = &self.maintenance {
            maintenance.publish(self.core.prune_bound());
        }
    }

    /// One event, and every effect it leads to, in order.
    fn drive(&mut self, event: Event) -> Result<(), Error> {
        self.check_stopped()?;
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.core.handle(event) {
                let done = self.perform(effect);
                events.extend(self.stop_on(done)?);
            }
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<Option<Event>, persistence::Error> {
        match effect {
            Effect::Sign(vote) => return self.sign(vote).map(Some),
            Effect::Send { to, message } => self.bridge.send(to, &message),
            Effect::KeepVotes(votes) => {
                if let Some(storage) = &self.storage {
                    storage.store_signatures(&votes)?;
                    for signed in &votes {
                        tracing::debug!(event = "stored_signature", validator = %signed.validator, target = %signed.vote.link.target.number, "stored signature");
                    }
                }
            }
            Effect::KeepCertificate { certificate, finalized } => {
                if let Some(storage) = &self.storage {
                    storage.store_certificate(&certificate, finalized.as_ref())?;
                    let link = certificate.vote.link;
                    tracing::info!(event = "stored_certificate", source = %link.source.number, target = %link.target.number, signers = certificate.signers.count(), "stored certificate");
                }
            }
            Effect::KeepEvidence(evidence) => {
                if let Some(storage) = &self.storage {
                    storage.store_evidence(&evidence)?;
                }
            }
            Effect::RefuseToSign { reason } => {
                if let Some(storage) = &self.storage {
                    persistence::refuse(&**storage, &reason)?;
                }
            }
            Effect::Serve { to, after } => {
                if let Some(storage) = &self.storage {
                    let mut certificates = storage.certificates_after(after, MAX_CERTIFICATES_PER_MESSAGE)?;
                    certificates.retain(|certificate| !self.core.is_damaged(certificate.vote.link.target.number));
                    self.bridge.send(Recipient::One(to), &Message::Certificates(certificates));
                }
            }
            Effect::Finalized(finalized) => {
                tracing::info!(event = "finality_advanced", number = %finalized.checkpoint.number, hash = %finalized.checkpoint.hash, "finality advanced");
                if self.unfetched.len() == MAX_UNFETCHED {
                    self.unfetched.pop_front();
                }
                self.unfetched.push_back(finalized);
                self.publish_bound();
            }
        }
        Ok(None)
    }

    /// Judged, synced, signed: in this order, and by types in no other.
    fn sign(&self, vote: Vote) -> Result<Event, persistence::Error> {
        let never = |reason: String| Ok(Event::NotSafe { verdict: Verdict::Never(reason) });
        let (Some(storage), Some(signer), Some(validator)) = (&self.storage, &self.signer, self.config.validator) else {
            return never("there is no storage or no signer".to_owned());
        };
        let safe: Safe = match persistence::check_and_insert(&**storage, vote) {
            Ok(safe) => safe,
            Err(NotSafe::Storage(error)) => return Err(error),
            Err(NotSafe::SameTarget(target)) => return Ok(Event::NotSafe { verdict: Verdict::TargetsUpTo(target) }),
            Err(NotSafe::Target { max_target, .. }) => return Ok(Event::NotSafe { verdict: Verdict::TargetsUpTo(max_target) }),
            Err(NotSafe::Source { max_source, .. }) => return Ok(Event::NotSafe { verdict: Verdict::SourcesBelow(max_source) }),
            Err(other) => return never(other.to_string()),
        };
        match signer.sign(&safe) {
            Ok(signature) => Ok(Event::Signed(SignedVote { vote: safe.vote().clone(), validator, signature })),
            Err(error @ scheme::Error::Signer(_)) => {
                tracing::warn!(event = "signer_failed", %error, "the signer did not sign; it will be asked again");
                Ok(Event::Unsigned)
            }
            Err(error) => never(error.to_string()),
        }
    }
}
