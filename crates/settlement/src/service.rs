//! Starting settlement, and what the program holds of it.

use std::sync::Arc;
use std::time::Duration;

use milepost_ledger::{Address, ProofKind, TxId};
use milepost_ledger_db::{Blob, LedgerDb};
use milepost_prover::Prover;
use milepost_validator_net::light::Light;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backoff::pause;
use crate::books::{Books, Probe};
use crate::driver::{Driver, Parts};
use crate::generation::{NodeServed, Publisher, publisher};
use crate::key_lock::KeyLock;
use crate::status::{ChainState, Status, Trouble};
use crate::submitter::{Submitter, Wishes, first_sight};
use crate::{Chain, Clock, Error, Preflight, SettlementConfig, SubmitterKey};

/// Under this name the database says which chain it belongs to.
const BELONGS_TO: &str = "settlement.chain";

/// What settlement works with.
pub struct Deps {
    /// The ledger's database.
    pub db: LedgerDb,
    /// Who proves.
    pub prover: Arc<dyn Prover>,
    /// Whether the prover's self-test holds; claims wait for it. `None`: it is not asked.
    pub prover_ready: Option<watch::Receiver<milepost_prover::Status>>,
    /// Signs transactions.
    pub key: SubmitterKey,
    /// Where receipts are published for marketplaces that want content ids. `None`: as the configuration says.
    pub publisher: Option<Arc<dyn Publisher>>,
    /// Time for the records.
    pub clock: Clock,
    /// For tests: see [`Probe`].
    pub probe: Option<Probe>,
}

impl Deps {
    /// With the machine's clock and no self-test to wait for.
    pub fn new(db: LedgerDb, prover: Arc<dyn Prover>, key: SubmitterKey) -> Self {
        Self { db, prover, prover_ready: None, key, publisher: None, clock: Clock::system(), probe: None }
    }
}

/// Settlement as a service.
pub struct Settlement;

/// A running settlement. Dropping it stops the task where it stands; nothing is lost by that.
pub struct Handle {
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Result<(), Error>>>,
    wishes: Wishes,
    chain: Chain,
    host: Address,
}

impl Settlement {
    /// Checks chain, contract and key, and starts the task. What cannot mend itself (a wrong chain, a contract without the
    /// functions, a key that may not act) is an error before anything is served; a chain that does not answer is not: it is
    /// asked again in the background, and checked then.
    pub async fn start(config: SettlementConfig, deps: Deps) -> Result<Handle, Error> {
        let chain = Chain::new(&config)?;
        let key = deps.key.address();
        let lock = KeyLock::of(&config, key)?;
        let host = config.host.unwrap_or(key);
        let books = Books::new(deps.db, deps.probe);
        let publisher = match deps.publisher {
            Some(publisher) => publisher,
            None => publisher(&config.deployed)?.unwrap_or_else(|| Arc::new(NodeServed::new(books.db.clone()))),
        };
        let kind = deps.prover.kind();
        let (status, seen) = watch::channel(Status::connecting());
        let checked = match check(&chain, &books, host, key, kind).await {
            Ok(found) => Some(found),
            Err(error) if error.is_transient() => {
                tracing::warn!(event = "chain_down", %error, advice = error.advice(), "the chain does not answer yet; serving goes on");
                status.send_modify(|status| status.chain = ChainState::Connecting { trouble: Some(Trouble::from(&error)) });
                None
            }
            Err(error) => return Err(error),
        };
        let signer = deps.key.clone();
        let submitter = Submitter::new(chain.clone(), books.clone(), deps.key, deps.clock.clone(), &config);
        let wishes = submitter.wishes();
        // From the start on: certificates come while the chain is not there, and the other way round.
        let follower = chain.follower()?;
        let (stop, stopped) = watch::channel(false);
        let poll = config.poll();
        let driver = Driver::new(Parts {
            chain: chain.clone(),
            books: books.clone(),
            submitter,
            prover: deps.prover,
            prover_ready: deps.prover_ready,
            signer,
            publisher,
            config,
            clock: deps.clock,
            key,
            status: status.clone(),
        });
        let work = {
            let (chain, mut stopped) = (chain.clone(), stopped);
            async move {
                // Held as long as anything may be signed.
                let _lock = lock;
                let mut checked = checked;
                let mut failures = 0;
                while checked.is_none() {
                    failures += 1;
                    let wait: Duration = pause(poll, failures);
                    tokio::select! {
                        () = asked_to_stop(&mut stopped) => return Ok(()),
                        reason = books.db.stopped() => return Err(Error::LedgerStopped(reason)),
                        () = tokio::time::sleep(wait) => {}
                    }
                    match check(&chain, &books, host, key, kind).await {
                        Ok(found) => checked = Some(found),
                        Err(error) if error.is_transient() => {
                            status.send_modify(|status| status.chain = ChainState::Connecting { trouble: Some(Trouble::from(&error)) });
                        }
                        Err(error) => return Err(error),
                    }
                }
                if let Some(found) = checked {
                    status.send_modify(|status| status.gas_wei = Some(found.gas_balance));
                }
                driver.run(stopped).await
            }
        };
        let task = tokio::spawn(async move {
            tokio::select! {
                ended = work => ended,
                error = follow(follower) => Err(error),
            }
        });
        Ok(Handle { status: seen, stop, task: Some(task), wishes, chain, host })
    }
}

impl Handle {
    /// How it stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How it stands, as it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The chain, for the doors' question what a job was funded with.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The host account that is served for.
    pub fn host(&self) -> Address {
        self.host
    }

    /// Puts a transfer of nothing in the place of a transaction that waits, at the same nonce: the explicit cancel. Whichever of them
    /// is mined counts; claims that are cancelled so have their tokens owed again, and are planned anew. Does nothing for a transaction
    /// that is in a block or resolved.
    pub fn cancel(&self, transaction: TxId) {
        self.wishes.cancel(transaction);
    }

    /// Waits until the task ends. An error must end the process.
    pub async fn ended(&mut self) -> Result<(), Error> {
        match &mut self.task {
            None => Ok(()),
            Some(task) => {
                let ended = task.await;
                self.task = None;
                ended.unwrap_or_else(|panic| Err(Error::TaskEnded(panic.to_string())))
            }
        }
    }

    /// Stops after the step that is under way.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.ended().await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Follows certificates, if there is a follower; ends only with what must end the process.
async fn follow(follower: Option<Light>) -> Error {
    let Some(light) = follower else { return std::future::pending().await };
    match light.run(CancellationToken::new()).await {
        Ok(()) => Error::TaskEnded("certificates are followed no more".to_owned()),
        Err(error) => Error::Certificates(error.to_string()),
    }
}

/// Resolves when the handle says so, or is gone.
pub(crate) async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone: nobody waits for this task any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What the database of this chain and marketplace says that it belongs to.
fn database_name(chain: &Chain, found: &Preflight) -> String {
    format!("chain {} with first block {}, marketplace {}", chain.chain_id(), found.genesis, chain.marketplace())
}

/// Whether a database may be used on this chain: it says so, or says nothing yet. Reads only.
pub fn check_belongs(db: &LedgerDb, chain: &Chain, found: &Preflight) -> Result<(), Error> {
    let here = database_name(chain, found);
    match db.meta(BELONGS_TO).map_err(crate::books::error)? {
        Some(recorded) if recorded != here.as_bytes() => {
            Err(Error::AnotherChain { recorded: String::from_utf8_lossy(&recorded).into_owned(), found: here })
        }
        _ => Ok(()),
    }
}

/// The preflight, and whether the database belongs to this chain.
async fn check(chain: &Chain, books: &Books, host: Address, key: Address, kind: ProofKind) -> Result<Preflight, Error> {
    let found = chain.preflight(host, key).await?;
    if kind == ProofKind::Mock && !found.constants.test_deployment {
        return Err(Error::MockProofs { contract: chain.marketplace() });
    }
    let here = database_name(chain, &found);
    check_belongs(&books.db, chain, &found)?;
    let mut blobs: Vec<_> = first_sight(chain, books, key).await?.into_iter().collect();
    if books.db.meta(BELONGS_TO).map_err(crate::books::error)?.is_none() {
        blobs.push(Blob::Meta { name: BELONGS_TO.to_owned(), bytes: here.into_bytes() });
    }
    if !blobs.is_empty() {
        books.record_with("belongs", Vec::new(), blobs).await?;
    }
    let constants = found.constants;
    tracing::info!(
        event = "settlement_ready",
        chain = %chain.chain_id(),
        endpoint = chain.endpoint(),
        marketplace = %chain.marketplace(),
        host = %host,
        key = %key,
        generation = found.generation,
        fee_bps = constants.fee_bps,
        min_claim = %constants.min_claim,
        claim_window = constants.claim_window,
        test_deployment = constants.test_deployment,
        gas_wei = found.gas_balance,
        "contract version checked: every function that will be called is there"
    );
    if found.gas_balance == 0 {
        tracing::warn!(event = "gas_empty", key = %key, "[MP-S-008] the key holds nothing to pay gas with: claims will wait");
    }
    Ok(found)
}
