//! The loop that carries every job from its first claim to its payout.
//!
//! A *round* looks at the newest block, after every unresolved transaction, and at the jobs that have a reason to be looked at:
//! the ledger moved beyond mere metering, the marketplace logged something about them, a time came (chain time), or nothing was
//! heard of them for a while. Looking at a job is: read it on the chain at one block, ask [`milepost_ledger::plan`] what it
//! needs, do that one thing, again.
//!
//! Everything here may be forgotten at any instant: what matters is in the ledger, and a new loop continues from it.

mod batch;
mod claim;
mod gone;
mod job;
mod payout;
mod proving;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use milepost_ledger::{ClaimId, JobId, Phase, Positions, TokenSeq, UnixSeconds};
use milepost_ledger_db::Change;
use milepost_prover::Prover;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::backoff::pause;
use crate::books::Books;
use crate::chain::{Chain, Head};
use crate::generation::Publisher;
use crate::status::{ChainState, Status, Trouble};
use crate::submitter::Submitter;
use crate::{Clock, Error, SettlementConfig, SubmitterKey};

/// Blocks that are scanned again for logs: what a reorganisation put there since. Marking a job twice costs one read.
const RESCAN: u64 = 16;
/// Blocks scanned for logs in one round. After a long absence every job is looked at instead.
const MAX_SCAN: u64 = 5_000;
/// Jobs looked at in one round only because nothing was heard of them for a while: ten thousand open jobs are a load that an
/// endpoint must not get at once.
const SWEEP_BATCH: usize = 64;
/// Least time between two rounds, so that a busy ledger does not become a busy endpoint.
const BREATH: Duration = Duration::from_millis(50);
/// First pause after a failure of one job; doubles up to half a minute.
const JOB_PAUSE: Duration = Duration::from_secs(1);

/// The loop's state. See the module.
pub(crate) struct Driver {
    chain: Chain,
    books: Books,
    submitter: Submitter,
    prover: Arc<dyn Prover>,
    prover_ready: Option<watch::Receiver<milepost_prover::Status>>,
    /// Signs claims for the marketplaces that want the host's signature inside.
    signer: SubmitterKey,
    publisher: Arc<dyn Publisher>,
    config: SettlementConfig,
    clock: Clock,
    key: milepost_ledger::Address,
    status: watch::Sender<Status>,
    /// Jobs with a reason to be looked at.
    dirty: BTreeSet<JobId>,
    /// Chain time at which a job is to be looked at.
    alarms: BTreeMap<JobId, UnixSeconds>,
    /// Jobs in trouble: how often in a row, and when to try again.
    troubled: HashMap<JobId, (u32, Instant)>,
    /// The last moment at which each job's claims can land, as far as it is known.
    deadlines: HashMap<JobId, UnixSeconds>,
    /// What was last seen of each job's positions, metering aside.
    seen: HashMap<JobId, (Positions, bool)>,
    proving: JoinSet<(ClaimId, Result<milepost_prover::Proof, milepost_prover::Error>)>,
    in_proof: HashMap<ClaimId, tokio::task::AbortHandle>,
    proof_failures: HashMap<ClaimId, (u32, Instant)>,
    head: Option<Head>,
    scanned: Option<u64>,
    /// Claims of this round that may be sent now.
    ready: Vec<batch::Ready>,
    /// Since when some wait for others to share their transaction.
    gathering: Option<Instant>,
    /// Jobs that the chain no longer has, and the first block that said so.
    missing: HashMap<JobId, u64>,
    /// When each job was last looked at.
    looked: HashMap<JobId, Instant>,
    last_balance: Option<Instant>,
}

/// What the loop is made of.
pub(crate) struct Parts {
    pub(crate) chain: Chain,
    pub(crate) books: Books,
    pub(crate) submitter: Submitter,
    pub(crate) prover: Arc<dyn Prover>,
    pub(crate) prover_ready: Option<watch::Receiver<milepost_prover::Status>>,
    pub(crate) signer: SubmitterKey,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) config: SettlementConfig,
    pub(crate) clock: Clock,
    pub(crate) key: milepost_ledger::Address,
    pub(crate) status: watch::Sender<Status>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            chain: parts.chain,
            books: parts.books,
            submitter: parts.submitter,
            prover: parts.prover,
            prover_ready: parts.prover_ready,
            signer: parts.signer,
            publisher: parts.publisher,
            config: parts.config,
            clock: parts.clock,
            key: parts.key,
            status: parts.status,
            dirty: BTreeSet::new(),
            alarms: BTreeMap::new(),
            troubled: HashMap::new(),
            deadlines: HashMap::new(),
            seen: HashMap::new(),
            proving: JoinSet::new(),
            in_proof: HashMap::new(),
            proof_failures: HashMap::new(),
            head: None,
            scanned: None,
            ready: Vec::new(),
            gathering: None,
            missing: HashMap::new(),
            looked: HashMap::new(),
            last_balance: None,
        }
    }

    /// Runs until something ends the process, or `stop` says so.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let db = self.books.db.clone();
        let mut changes = db.subscribe();
        self.know_all().await?;
        let mut failures = 0;
        let mut next = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                () = crate::service::asked_to_stop(&mut stop) => return Ok(()),
                reason = db.stopped() => return Err(Error::LedgerStopped(reason)),
                () = tokio::time::sleep_until(next) => {}
                change = changes.recv() => {
                    if self.noticed(change).await? && failures == 0 {
                        next = next.min(tokio::time::Instant::now() + BREATH);
                    }
                    continue;
                }
                Some(proved) = self.proving.join_next() => {
                    self.proved(proved).await?;
                    if failures == 0 {
                        next = next.min(tokio::time::Instant::now() + BREATH);
                    }
                    continue;
                }
            }
            let wait = match self.round().await {
                Ok(more) => {
                    if failures > 0 {
                        tracing::info!(event = "chain_back", endpoint = self.chain.endpoint(), "the chain answers again");
                    }
                    failures = 0;
                    if more { BREATH } else { self.config.poll() }
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(event = "chain_down", %error, advice = error.advice(), "the chain cannot be asked; serving goes on");
                    }
                    let trouble = Trouble::from(&error);
                    self.status.send_modify(|status| status.chain = ChainState::Down { trouble, attempts: failures });
                    pause(self.config.poll(), failures)
                }
            };
            next = tokio::time::Instant::now() + wait;
        }
    }

    /// A change of the ledger; whether it is a reason to look at a job.
    async fn noticed(&mut self, change: Result<Change, broadcast::error::RecvError>) -> Result<bool, Error> {
        let change = match change {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.know_all().await?;
                self.looked.clear();
                return Ok(true);
            }
            Err(broadcast::error::RecvError::Closed) => return Err(Error::LedgerStopped("no more changes are announced".to_owned())),
        };
        let Some(job) = change.account.job() else { return Ok(false) };
        let now = (Positions { metered: TokenSeq::ZERO, ..change.positions }, change.phase == Phase::Open);
        let moved = self.seen.insert(job, now) != Some(now) || change.phase != Phase::Open;
        Ok(moved && self.dirty.insert(job))
    }

    /// Learns of every job in memory.
    async fn know_all(&mut self) -> Result<(), Error> {
        for job in self.books.jobs().await? {
            self.seen.entry(job).or_insert((Positions::default(), true));
        }
        Ok(())
    }

    /// One round; whether there are more jobs to look at than one round takes. An error leaves every job that was not looked at
    /// marked.
    async fn round(&mut self) -> Result<bool, Error> {
        let head = self.chain.head().await?;
        let final_height = self.chain.final_height(&head).await?;
        let changed = self.submitter.watch(&head, final_height).await?;
        self.dirty.extend(changed);
        self.scan(&head).await?;
        let more = self.sweep();
        self.look_at_gas().await?;
        let due: Vec<_> = self.alarms.iter().filter(|(_, at)| **at <= head.next_time).map(|(job, _)| *job).collect();
        for job in due {
            self.alarms.remove(&job);
            self.dirty.insert(job);
        }
        let now = Instant::now();
        let (mut looked, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.dirty).into_iter().partition(|job| self.troubled.get(job).is_none_or(|(_, until)| *until <= now));
        self.dirty.extend(waiting);
        // Who is looked at first gets the prover first. By number, jobs that run on and on would keep a later one from it until its
        // closing window is over.
        looked.sort_by_key(|job| (self.deadlines.get(job).copied().unwrap_or(UnixSeconds(u64::MAX)), *job));
        for (index, job) in looked.iter().enumerate() {
            self.looked.insert(*job, Instant::now());
            match self.drive(*job, &head).await {
                // Where its claim is still to be sent, that decides.
                Ok(()) if self.is_ready(*job) => {}
                Ok(()) => {
                    self.troubled.remove(job);
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error @ Error::Unreachable { .. }) => {
                    self.dirty.extend(&looked[index..]);
                    self.put_off();
                    return Err(error);
                }
                Err(error) => self.trouble(*job, &error),
            }
        }
        self.send_ready(&head).await?;
        self.head = Some(head);
        self.report(&head).await?;
        Ok(more)
    }

    /// A job that could not be helped now is tried again, later each time.
    fn trouble(&mut self, job: JobId, error: &Error) {
        let failures = self.troubled.get(&job).map_or(0, |(failures, _)| *failures) + 1;
        self.troubled.insert(job, (failures, Instant::now() + pause(JOB_PAUSE.min(self.config.poll()), failures)));
        self.dirty.insert(job);
        if failures.is_power_of_two() {
            tracing::warn!(event = "settle_trouble", job = %job, code = error.code(), %error, advice = error.advice(), failures, "this job waits");
        }
        let trouble = Trouble::from(error);
        self.status.send_modify(|status| status.trouble = Some(trouble));
    }

    /// Marks the jobs that the marketplace logged something about.
    async fn scan(&mut self, head: &Head) -> Result<(), Error> {
        let newest = head.block.number;
        let from = match self.scanned {
            Some(scanned) if self.head.is_some_and(|known| known.block == head.block) && scanned == newest => return Ok(()),
            Some(scanned) => scanned.saturating_sub(RESCAN).min(newest),
            // Every job is looked at when the loop starts.
            None => newest,
        };
        if newest - from > MAX_SCAN {
            self.looked.clear();
        } else {
            // Log queries are what public endpoints refuse first; without them the sweep still finds everything.
            match self.chain.touched(from, newest).await {
                Ok(jobs) => self.dirty.extend(jobs.iter().filter(|job| self.seen.contains_key(job))),
                Err(error @ Error::Unreachable { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(event = "logs_refused", %error, "the marketplace's logs cannot be read; jobs are looked at in turn");
                    return Ok(());
                }
            }
        }
        self.scanned = Some(newest);
        Ok(())
    }

    /// Marks jobs that nobody looked at for a while, some at a time; whether there are more.
    fn sweep(&mut self) -> bool {
        let every = Duration::from_secs(self.config.sweep_seconds);
        let quiet = |job: &&JobId| self.looked.get(job).is_none_or(|last| last.elapsed() >= every);
        let due: Vec<_> = self.seen.keys().filter(quiet).take(SWEEP_BATCH).copied().collect();
        self.dirty.extend(&due);
        due.len() == SWEEP_BATCH
    }

    async fn look_at_gas(&mut self) -> Result<(), Error> {
        let every = Duration::from_secs(self.config.sweep_seconds);
        if self.last_balance.is_none_or(|last| last.elapsed() >= every) {
            let balance = self.chain.balance(self.key).await?;
            self.submitter.examine_key().await?;
            self.last_balance = Some(Instant::now());
            self.status.send_modify(|status| status.gas_wei = Some(balance));
        }
        Ok(())
    }

    async fn report(&mut self, head: &Head) -> Result<(), Error> {
        let count = |ledger: &milepost_ledger::Ledger| {
            let open =
                ledger.accounts().filter(|account| account.record.terms.is_some() && !matches!(account.record.phase, Phase::Paid(_)));
            let (all, halted) =
                open.fold((0, 0), |(all, halted), account| (all + 1, halted + usize::from(account.record.halted.is_some())));
            (all, halted, ledger.txs().count())
        };
        let (open_jobs, halted_jobs, unresolved) = self.books.db.query(count).await.map_err(crate::books::error)?;
        let clear = self.troubled.is_empty() && self.proof_failures.is_empty();
        let ahead = self.submitter.ahead().map(Trouble::from);
        let (proving, stuck, endpoints) = (self.in_proof.len(), self.submitter.stuck(), self.chain.endpoints());
        let finality = self.chain.finality();
        self.status.send_modify(|status| {
            status.chain = ChainState::Ready;
            status.head = Some(head.block);
            status.open_jobs = open_jobs;
            status.halted_jobs = halted_jobs;
            status.unresolved_transactions = unresolved;
            status.proving = proving;
            status.stuck = stuck;
            status.key_ahead = ahead;
            status.endpoints = endpoints;
            status.finality = finality;
            if clear {
                status.trouble = None;
            }
        });
        crate::telemetry::show(&self.status.borrow());
        Ok(())
    }

    /// Nothing more is to be done for this job.
    fn forget(&mut self, job: JobId) {
        self.alarms.remove(&job);
        self.seen.remove(&job);
        self.troubled.remove(&job);
        self.deadlines.remove(&job);
        self.looked.remove(&job);
        self.missing.remove(&job);
        let stale: Vec<_> = self.in_proof.keys().chain(self.proof_failures.keys()).filter(|claim| claim.job == job).copied().collect();
        for claim in stale {
            self.cancel_proof(claim);
        }
    }

    /// Looks at the job no later than at this chain time.
    fn alarm(&mut self, job: JobId, at: UnixSeconds) {
        let alarm = self.alarms.entry(job).or_insert(at);
        *alarm = (*alarm).min(at);
    }
}
