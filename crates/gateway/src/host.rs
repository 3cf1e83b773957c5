//! The host: one pipeline behind every door.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use milepost_inference::Engine;
use milepost_ledger::{
    AccountId, AccountRecord, Digest, EndReason, Event, Limits, SessionEnd, TokenId, TurnRecord, TurnState, UnixSeconds,
};
use milepost_ledger_db::{Blob, Error as DbError, LedgerDb};
use milepost_statement::SigningKey;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::accounts::Target;
use crate::auth::Keys;
use crate::config::{AuthMode, GatewayConfig};
use crate::deps::{BuildInfo, Clock, Deps, Jobs, Readiness};
use crate::error::Error;
use crate::free::Kept;
use crate::prover_load::ProverLoad;
use crate::quote::Quotes;
use crate::request::{Caller, GenerateRequest, Input};
use crate::session::Session;
use crate::sync::lock;
use crate::turn::live::LiveTurn;
use crate::turn::reader::{Acks, TurnStream, Waiting};
use crate::turn::replay::{engine_by_digest, replay};
use crate::turn::run::Run;

/// Names of what the gateway keeps in the database beside the ledger.
const TOKEN_SECRET: &str = "gateway/token-secret";
const TOKEN_EPOCH: &str = "gateway/token-epoch";

/// Chain id of local development chains, whose money is worth nothing.
const DEV_CHAIN: u64 = 31_337;

/// Claims about which the chain is asked at a time, for bundles: each is three questions, and anybody may ask for them.
const MAX_INCLUSIONS: usize = 2;

/// How often an id may turn out to be answered between looking and starting. Twice would already need two finished turns.
const MAX_SUPERSEDED: usize = 4;

/// Turns before the last in which a retry without a key looks for its first attempt.
const RETRY_LOOKBACK: u32 = 8;

/// Seconds after which a retry without a key is taken for a new request. OpenAI's clients give up within ten minutes.
const RETRY_SECONDS: u64 = 900;

/// The doors' shared state. Made by [`Host::new`], used as `Arc<Host>`.
pub struct Host {
    pub(crate) config: GatewayConfig,
    pub(crate) auth: AuthMode,
    pub(crate) db: LedgerDb,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) jobs: Option<Arc<dyn Jobs>>,
    pub(crate) signer: Option<SigningKey>,
    pub(crate) readiness: Arc<dyn Readiness>,
    pub(crate) build: BuildInfo,
    pub(crate) render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    clock: Arc<dyn Clock>,
    pub(crate) keys: Keys,
    pub(crate) sessions: Mutex<HashMap<AccountId, Arc<Session>>>,
    pub(crate) labels: Mutex<HashMap<Digest, AccountId>>,
    pub(crate) live: Mutex<HashMap<(AccountId, String), Arc<LiveTurn>>>,
    pub(crate) unbilled: Arc<Semaphore>,
    pub(crate) load: Arc<ProverLoad>,
    pub(crate) kept: Mutex<Kept>,
    pub(crate) sockets: Arc<Semaphore>,
    pub(crate) inclusions: Semaphore,
    pub(crate) quotes: Quotes,
    pub(crate) draining: watch::Sender<bool>,
    failed: watch::Sender<Option<String>>,
    pub(crate) turns: TaskTracker,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({:?}, {} models)", self.auth, self.engines.len())
    }
}

impl Host {
    /// A host, which serves nothing before [`Self::recover`] was called.
    pub async fn new(config: GatewayConfig, deps: Deps) -> Result<Arc<Self>, Error> {
        let wrong = |reason: String| Error::Internal { reason };
        config.check().map_err(wrong)?;
        if deps.engines.is_empty() {
            return Err(wrong("no model is loaded; at least one is needed".into()));
        }
        let auth = config.auth.unwrap_or(if deps.jobs.is_some() { AuthMode::Depositor } else { AuthMode::Open });
        if auth == AuthMode::Depositor && deps.jobs.is_none() {
            return Err(wrong("auth = depositor needs a chain: without one a job has no depositor. Use auth = open in log mode".into()));
        }
        if auth == AuthMode::Open && deps.jobs.is_some() && config.chain_id != DEV_CHAIN {
            let chain = config.chain_id;
            return Err(wrong(format!(
                "auth = open lets anybody spend and end every job: it is for log mode and dev chains ({DEV_CHAIN}), not for chain {chain}. \
                 Use auth = depositor, or legacy for old clients"
            )));
        }
        let keys = keys(&deps.db).await?;
        Ok(Arc::new(Self {
            auth,
            db: deps.db,
            engines: deps.engines,
            jobs: deps.jobs,
            signer: deps.signer,
            readiness: deps.readiness,
            build: deps.build,
            render_metrics: deps.metrics,
            clock: deps.clock,
            keys,
            sessions: Mutex::default(),
            labels: Mutex::default(),
            live: Mutex::default(),
            unbilled: Arc::new(Semaphore::new(config.max_unbilled_running)),
            load: Arc::new(ProverLoad::new(config.shared_claim())),
            kept: Mutex::default(),
            sockets: Arc::new(Semaphore::new(config.max_sockets)),
            inclusions: Semaphore::new(MAX_INCLUSIONS),
            quotes: Quotes::default(),
            draining: watch::channel(false).0,
            failed: watch::channel(None).0,
            turns: TaskTracker::new(),
            config,
        }))
    }

    /// The limits of a job as all jobs stand now.
    pub(crate) fn limits(&self, account: AccountId) -> Limits {
        self.config.limits(self.load.others(account))
    }

    /// Answers a request: generates, joins what is generating under the same key, or replays what was generated.
    pub async fn generate(self: &Arc<Self>, caller: Caller, request: GenerateRequest, acks: Acks) -> Result<TurnStream, Error> {
        let door = caller.door.as_str();
        let answered = self.answer(caller, request, acks).await;
        let outcome = answered.as_ref().map_or_else(Error::code, |_| "accepted");
        metrics::counter!("milepost_requests_total", "door" => door, "outcome" => outcome).increment(1);
        answered
    }

    async fn answer(self: &Arc<Self>, caller: Caller, request: GenerateRequest, acks: Acks) -> Result<TurnStream, Error> {
        self.check_serving()?;
        if request.input == Input::Resume {
            return self.resume(&caller, &request, acks).await;
        }
        // Who may not spend the job costs no work.
        if !matches!(self.target(&caller)?, Target::Job(_)) {
            self.check_free_room()?;
        }
        let engine = self.engine(&request.model)?;
        let prompt = encode(engine.as_ref(), &request.input)?;
        let body = request.body_digest()?;
        let resolved = self.resolve(&caller, Some(Digest(engine.model().digest))).await?;
        resolved.session.touch(self.now());
        let id = match (&request.request_id, request.retry) {
            (Some(id), _) => id.clone(),
            (None, true) => self.first_attempt(resolved.id, &body)?.unwrap_or_else(fresh_request_id),
            (None, false) => fresh_request_id(),
        };
        for _ in 0..MAX_SUPERSEDED {
            if let Some(waiting) = self.known(resolved.id, &id, Some(&body), resolved.unbilled.clone()).await? {
                if let Some(stream) = waiting.started(request.resume_from, &request.stop, acks).await? {
                    return Ok(stream);
                }
                continue;
            }
            if request.resume_from.is_some() {
                return Err(Error::UnknownRequest { request: id });
            }
            let (waiting, new) = self.enter(resolved.id, &id, body)?;
            if let Some(turn) = new {
                let run = Run {
                    host: Arc::clone(self),
                    turn: Arc::clone(&turn),
                    resolved: resolved.clone(),
                    engine: Arc::clone(&engine),
                    request: request.clone(),
                    prompt: prompt.clone(),
                    door: caller.door,
                };
                let leave = Leave { host: Arc::clone(self), turn };
                self.turns.spawn(async move {
                    run.run().await;
                    drop(leave);
                });
            }
            if let Some(stream) = waiting.started(None, &request.stop, acks).await? {
                return Ok(stream);
            }
        }
        Err(Error::Internal { reason: "a request id was answered again and again while it was asked for".into() })
    }

    async fn resume(self: &Arc<Self>, caller: &Caller, request: &GenerateRequest, acks: Acks) -> Result<TurnStream, Error> {
        let id = request.request_id.clone().unwrap_or_default();
        if self.target(caller)? == Target::Nobody {
            return Err(Error::UnknownRequest { request: id });
        }
        let resolved = self.resolve(caller, None).await?;
        resolved.session.touch(self.now());
        for _ in 0..MAX_SUPERSEDED {
            let Some(waiting) = self.known(resolved.id, &id, None, resolved.unbilled.clone()).await? else { break };
            if let Some(stream) = waiting.started(request.resume_from, &request.stop, acks).await? {
                return Ok(stream);
            }
        }
        Err(Error::UnknownRequest { request: id })
    }

    /// The turn that answers a request id already, running or ended. `body` is checked where it is given.
    async fn known(&self, account: AccountId, id: &str, body: Option<&Digest>, unbilled: Option<String>) -> Result<Option<Waiting>, Error> {
        let same = |found: &Digest| body.is_none_or(|body| body == found);
        let conflict = || Error::RequestConflict { request: id.to_owned() };
        let join = || lock(&self.live).get(&(account, id.to_owned())).map(|turn| (turn.body, Waiting::new(Arc::clone(turn), true)));
        let mut running = join();
        let mut record = None;
        if running.is_none() {
            record = self.db.turn_by_request(account, id)?;
            if record.as_ref().is_some_and(|record| record.state == TurnState::Active) {
                // Either it was entered after the first look, and is found at the second; or it has ended since, and the record
                // says so now; or nobody is running it.
                running = join();
                record = self.db.turn_by_request(account, id)?;
            }
        }
        if let Some((found, waiting)) = running {
            return if same(&found) { Ok(Some(waiting)) } else { Err(conflict()) };
        }
        let Some(record) = record else { return Ok(None) };
        if !same(&record.body) {
            return Err(conflict());
        }
        let record = self.ended(record).await?;
        metrics::counter!("milepost_turns_replayed_total").increment(1);
        Ok(Some(Waiting::new(replay(self, &record, unbilled).await?, true)))
    }

    /// A turn's record as it ended. One that is recorded as active but not running was cut, and is ended now.
    async fn ended(&self, record: TurnRecord) -> Result<TurnRecord, Error> {
        if record.state != TurnState::Active {
            return Ok(record);
        }
        let (account, number) = (record.account, record.number);
        let event = Event::EndTurn { account, reason: EndReason::Interrupted, at: self.now() };
        match self.db.apply(vec![event]).await {
            Ok(_) | Err(DbError::Refused(_)) => {}
            Err(error) => return Err(self.storage_failed(error)),
        }
        self.db.turn(account, number)?.ok_or_else(|| Error::Internal { reason: format!("turn {number} of {account} vanished") })
    }

    /// A turn to run, and its first reader; or a reader of the one that another request just entered.
    fn enter(&self, account: AccountId, id: &str, body: Digest) -> Result<(Waiting, Option<Arc<LiveTurn>>), Error> {
        let mut live = lock(&self.live);
        if let Some(turn) = live.get(&(account, id.to_owned())) {
            if turn.body != body {
                return Err(Error::RequestConflict { request: id.to_owned() });
            }
            return Ok((Waiting::new(Arc::clone(turn), true), None));
        }
        let turn = LiveTurn::new(account, id.to_owned(), body);
        live.insert((account, id.to_owned()), Arc::clone(&turn));
        Ok((Waiting::new(Arc::clone(&turn), false), Some(turn)))
    }

    /// The request whose retry this is, for clients that retry without a key: the last one of the account with the same body.
    fn first_attempt(&self, account: AccountId, body: &Digest) -> Result<Option<String>, Error> {
        let running = lock(&self.live).values().find(|turn| turn.account == account && turn.body == *body).map(|turn| turn.request.clone());
        if running.is_some() {
            return Ok(running);
        }
        let Some(record) = self.db.account(account)? else { return Ok(None) };
        for number in (record.turns.saturating_sub(RETRY_LOOKBACK)..record.turns).rev() {
            let Some(turn) = self.db.turn(account, number)? else { continue };
            if turn.body == *body && self.now().since(turn.started) <= RETRY_SECONDS {
                return Ok(Some(turn.request));
            }
        }
        Ok(None)
    }

    /// The model of that name.
    pub(crate) fn engine(&self, name: &str) -> Result<Arc<dyn Engine>, Error> {
        self.engines.iter().find(|engine| engine.model().name == name).cloned().ok_or_else(|| Error::UnknownModel {
            asked: name.chars().take(200).collect(),
            available: self.engines.iter().map(|engine| engine.model().name.clone()).collect(),
        })
    }

    pub(crate) fn engine_by_digest(&self, digest: &Digest) -> Option<Arc<dyn Engine>> {
        engine_by_digest(&self.engines, digest)
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    pub(crate) fn chain_of(&self, record: &AccountRecord) -> u64 {
        record.terms.as_ref().map_or(self.config.chain_id, |terms| terms.chain.0)
    }

    /// The account's session, begun if this is its first use.
    pub(crate) fn session(&self, id: AccountId) -> Arc<Session> {
        let now = self.now();
        Arc::clone(lock(&self.sessions).entry(id).or_insert_with(|| Session::new(id, now)))
    }

    pub(crate) fn known_session(&self, id: AccountId) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&id).cloned()
    }

    /// Running turns of an account.
    pub(crate) fn running(&self, id: AccountId) -> Vec<Arc<LiveTurn>> {
        lock(&self.live).values().filter(|turn| turn.account == id).cloned().collect()
    }

    /// Turns that are queued or running.
    pub fn live_turns(&self) -> usize {
        lock(&self.live).len()
    }

    /// WebSockets that are open.
    pub fn open_sockets(&self) -> usize {
        self.config.max_sockets - self.sockets.available_permits()
    }

    pub(crate) fn check_serving(&self) -> Result<(), Error> {
        if let Some(reason) = self.failed.borrow().clone() {
            return Err(Error::Storage { reason });
        }
        if *self.draining.borrow() { Err(Error::Draining) } else { Ok(()) }
    }

    /// Notes that the ledger cannot be written: nothing more is served, and [`Self::failed`] resolves.
    pub(crate) fn storage_failed(&self, error: DbError) -> Error {
        if let DbError::Stopped { reason } = &error {
            self.failed.send_if_modified(|failed| failed.is_none().then(|| *failed = Some(reason.clone())).is_some());
        }
        error.into()
    }

    /// Resolves with the reason once the ledger can no longer be written. The process must end then.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(reason) = failed.borrow_and_update().clone() {
                return reason;
            }
            tokio::select! {
                reason = self.db.stopped() => return reason,
                changed = failed.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
        }
    }

    /// Ends a session. The rest is sealed; claims and payout are settlement's.
    pub(crate) async fn end_session(&self, account: AccountId, reason: SessionEnd) -> Result<AccountRecord, Error> {
        match self.db.apply(vec![Event::EndSession { account, reason, at: self.now() }]).await {
            Ok(_) => {
                tracing::info!(event = "session_ended", account = %account, reason = crate::turn::run::session_end(reason), "session ended");
            }
            Err(DbError::Refused(milepost_ledger::Error::NotOpen(_) | milepost_ledger::Error::UnknownAccount(_))) => {}
            Err(error) => return Err(self.storage_failed(error)),
        }
        self.db.account(account)?.ok_or_else(|| Error::NotFound { what: format!("account {account}") })
    }

    /// Notes for good that the depositor opened this session, so that its idleness may end it.
    pub(crate) async fn remember_depositor(&self, session: &Session) -> Result<(), Error> {
        if session.is_by_depositor() {
            return Ok(());
        }
        let blob = Blob::Meta { name: depositor_name(session.id), bytes: vec![1] };
        self.db.apply_with(Vec::new(), vec![blob]).await.map_err(|error| self.storage_failed(error))?;
        session.opened_by_depositor();
        Ok(())
    }

    /// Whether the host is draining, for sockets that should say goodbye.
    pub(crate) fn watch_draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}

/// Takes a turn out of the live ones, whatever became of the task that ran it: readers must not wait for one that is gone.
struct Leave {
    host: Arc<Host>,
    turn: Arc<LiveTurn>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.turn.abandon();
        lock(&self.host.live).remove(&(self.turn.account, self.turn.request.clone()));
    }
}

fn encode(engine: &dyn Engine, input: &Input) -> Result<Vec<TokenId>, Error> {
    let ids = match input {
        Input::Chat(messages) => engine.encode_chat(messages)?,
        Input::Text(text) => engine.encode_text(text)?,
        Input::Resume => Vec::new(),
    };
    if ids.is_empty() {
        return Err(milepost_inference::Error::EmptyPrompt.into());
    }
    let context = engine.model().context_tokens;
    if ids.len() >= context as usize {
        return Err(Error::TokenLimitExceeded { prompt_tokens: ids.len(), context_window_size: context });
    }
    Ok(ids)
}

fn fresh_request_id() -> String {
    format!("req-{}", hex::encode(rand::random::<[u8; 12]>()))
}

/// Name under which it is kept that the depositor opened an account.
pub(crate) fn depositor_name(account: AccountId) -> String {
    format!("gateway/by-depositor/{account}")
}

/// The secret behind session tokens, made at the first start.
async fn keys(db: &LedgerDb) -> Result<Keys, Error> {
    let epoch = match db.meta(TOKEN_EPOCH)? {
        Some(bytes) => {
            bytes.try_into().map(u64::from_be_bytes).map_err(|_| Error::Storage { reason: format!("{TOKEN_EPOCH} is damaged") })?
        }
        None => 1,
    };
    let secret: [u8; 32] = if let Some(bytes) = db.meta(TOKEN_SECRET)? {
        bytes.try_into().map_err(|_| Error::Storage { reason: format!("{TOKEN_SECRET} is damaged") })?
    } else {
        let secret: [u8; 32] = rand::random();
        db.apply_with(Vec::new(), vec![Blob::Meta { name: TOKEN_SECRET.to_owned(), bytes: secret.to_vec() }]).await?;
        secret
    };
    Ok(Keys::new(secret, epoch))
}
