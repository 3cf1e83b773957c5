//! From a caller to an account: who may spend what, and opening it on first use.

use std::sync::Arc;

use milepost_ledger::{AccountId, AccountRecord, Digest, Error as Refused, Event, JobId, OpenAccount, Phase, Salt, Terms};
use milepost_ledger_db::Error as DbError;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::Grant;
use crate::config::AuthMode;
use crate::error::Error;
use crate::host::Host;
use crate::request::Caller;
use crate::session::Session;
use crate::session_id::SessionRef;
use crate::sync::lock;

/// How the account of a request without any session begins: told apart at the next start, when nobody can continue it.
const EPHEMERAL_PREFIX: [u8; 8] = *b"no-label";

/// Most lives of one label that are looked through: 2⁴⁰, which nobody reaches.
const MAX_LABEL_LIVES: u32 = 40;

/// An account that a caller may use.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) id: AccountId,
    pub(crate) session: Arc<Session>,
    /// Why nothing is billed, if so.
    pub(crate) unbilled: Option<String>,
    /// Made for this request alone.
    pub(crate) ephemeral: bool,
}

/// Whom a caller means, once it has shown that it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Job(JobId),
    Label(String),
    Nobody,
}

impl Host {
    /// What the caller's token grants; an error for a bad one of ours, nothing for another's API key.
    pub(crate) fn grant(&self, caller: &Caller) -> Result<Option<Grant>, Error> {
        match &caller.token {
            Some(token) => self.keys.grant(token, self.now()),
            None => Ok(None),
        }
    }

    /// Whom the caller means, if it may.
    pub(crate) fn target(&self, caller: &Caller) -> Result<Target, Error> {
        let grant = self.grant(caller)?;
        match (&caller.session, grant) {
            (Some(SessionRef::Job(asked)), Some(grant)) if *asked != grant.job => {
                Err(Error::NotYourJob { token_job: grant.job, asked: *asked })
            }
            (_, Some(grant)) => Ok(Target::Job(grant.job)),
            (Some(SessionRef::Job(job)), None) if self.auth == AuthMode::Depositor => Err(Error::Unauthorized {
                reason: format!(
                    "job {job} is spent by its depositor alone: sign the challenge of POST /v1/session/challenge, and send the token that \
                     POST /v1/session gives as Authorization: Bearer"
                ),
            }),
            (Some(SessionRef::Job(job)), None) => Ok(Target::Job(*job)),
            (Some(SessionRef::Label(label)), None) => Ok(Target::Label(label.clone())),
            (None, None) => Ok(Target::Nobody),
        }
    }

    /// The caller's account, opened if this is its first use (that of a request without any session: with its turn). `model` is the digest of the model asked for, if one was.
    pub(crate) async fn resolve(&self, caller: &Caller, model: Option<Digest>) -> Result<Resolved, Error> {
        let loaded = model.unwrap_or_else(|| Digest(self.engines[0].model().digest));
        match self.target(caller)? {
            Target::Job(job) => self.job_account(job, caller.salt, model).await,
            Target::Label(label) => {
                let reason = format!("session_id {label:?} names no job: tokens are counted but nobody is charged");
                self.allow_unbilled(&reason)?;
                let id = self.label_account(&label, loaded).await?;
                Ok(Resolved { id, session: self.session(id), unbilled: Some(reason), ephemeral: false })
            }
            Target::Nobody => {
                let reason = "the request names no job (job_id or session_id): tokens are counted but nobody is charged".to_owned();
                self.allow_unbilled(&reason)?;
                let id = fresh_account();
                // Nobody can name it again, so it needs no place among the sessions, and is opened with its only turn.
                Ok(Resolved { id, session: Session::new(id, self.now()), unbilled: Some(reason), ephemeral: true })
            }
        }
    }

    fn allow_unbilled(&self, reason: &str) -> Result<(), Error> {
        if self.config.unbilled { Ok(()) } else { Err(Error::PaymentRequired { reason: reason.to_owned() }) }
    }

    /// A place among the requests that nobody pays for; `None` for one that is paid.
    pub(crate) fn unbilled_permit(&self, resolved: &Resolved) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if resolved.id.job().is_some() {
            return Ok(None);
        }
        Arc::clone(&self.unbilled).try_acquire_owned().map(Some).map_err(|_| Error::RateLimited {
            reason: format!("{} requests without a job are generating, as many as may", self.config.max_unbilled_running),
            retry_after: 2,
        })
    }

    /// Why a job's tokens are not billed: only where no chain is configured.
    pub(crate) fn unbilled_reason(record: &AccountRecord) -> Option<String> {
        match (record.id, &record.terms) {
            (AccountId::Job(job), None) => {
                Some(format!("log mode: no chain is configured, so tokens of job {job} are counted and sealed but nobody is charged"))
            }
            (AccountId::Free(_), _) => Some("the session names no job: tokens are counted but nobody is charged".to_owned()),
            (AccountId::Job(_), Some(_)) => None,
        }
    }

    pub(crate) async fn job_account(&self, job: JobId, salt: Option<Salt>, model: Option<Digest>) -> Result<Resolved, Error> {
        let id = AccountId::Job(job);
        let record = match self.db.account(id)? {
            Some(record) => record,
            None => self.open_job(job, salt.unwrap_or_default(), model).await?,
        };
        self.check_mode(job, &record)?;
        if let Some(salt) = salt
            && record.terms.is_some()
            && salt != record.salt
        {
            return Err(Error::WrongSalt { job });
        }
        if let Some(model) = model
            && model != record.model
        {
            let asked = self.engine_by_digest(&model).map_or_else(String::new, |engine| engine.model().name.clone());
            return Err(Error::WrongModel { job, asked });
        }
        Ok(Resolved { id, session: self.session(id), unbilled: Self::unbilled_reason(&record), ephemeral: false })
    }

    /// Whether the account was opened in the mode that the host runs in. In log mode anybody may name a job, so a funded one is not
    /// served there; and one that anybody opened there has no terms, and would be served for nothing for good.
    fn check_mode(&self, job: JobId, record: &AccountRecord) -> Result<(), Error> {
        match (record.terms.is_some(), self.jobs.is_some()) {
            (true, false) => Err(Error::OtherMode { job, opened: "on a chain", runs: "in log mode" }),
            (false, true) => Err(Error::OtherMode { job, opened: "in log mode", runs: "on a chain" }),
            _ => Ok(()),
        }
    }

    /// The terms of a job; `None` in log mode.
    pub(crate) async fn terms(&self, job: JobId) -> Result<Option<Terms>, Error> {
        let Some(jobs) = &self.jobs else { return Ok(None) };
        let asked = match self.quotes.of(job) {
            Some(quote) => jobs.terms_quoted(job, quote).await,
            None => jobs.terms(job).await,
        };
        match asked {
            Ok(Some(terms)) => Ok(Some(terms)),
            Ok(None) => Err(Error::UnknownJob(job)),
            Err(error) => Err(error.into()),
        }
    }

    async fn open_job(&self, job: JobId, salt: Salt, model: Option<Digest>) -> Result<AccountRecord, Error> {
        let terms = self.terms(job).await?;
        let only = if self.engines.len() == 1 { self.engines.first().map(|engine| Digest(engine.model().digest)) } else { None };
        let model = match (&terms, model.or(only)) {
            (Some(terms), _) => terms.model,
            (None, Some(model)) => model,
            (None, None) => return Err(Error::BadRequest { reason: format!("job {job} is new and several models are served: name one") }),
        };
        if self.engine_by_digest(&model).is_none() {
            return Err(Error::WrongModel { job, asked: self.engines[0].model().name.clone() });
        }
        let id = AccountId::Job(job);
        match self.open(OpenAccount { id, terms, salt, model, threshold: self.config.checkpoint_threshold, at: self.now() }).await {
            Err(Refusal::WrongSalt) => Err(Error::WrongSalt { job }),
            Err(Refusal::Other(error)) => Err(error),
            Ok(record) => Ok(record),
        }
    }

    /// Opens an account, or finds that another request just did.
    async fn open(&self, open: OpenAccount) -> Result<AccountRecord, Refusal> {
        let id = open.id;
        let (billed, threshold) = (open.terms.is_some(), open.threshold);
        match self.db.apply(vec![Event::Open(Box::new(open))]).await {
            Ok(_) => {
                tracing::info!(event = "account_opened", account = %id, billed, threshold, "account opened");
            }
            Err(DbError::Refused(Refused::AccountExists(_))) => {}
            Err(DbError::Refused(Refused::WrongSalt { .. })) => return Err(Refusal::WrongSalt),
            Err(error) => return Err(Refusal::Other(self.storage_failed(error))),
        }
        let record = self.db.account(id).map_err(|error| Refusal::Other(error.into()))?;
        record.ok_or_else(|| Refusal::Other(Error::Internal { reason: format!("account {id} was opened but is not there") }))
    }

    /// The account of a label. A label lives until it is idle; used again later, it begins another life with another account,
    /// because an ended transcript is never continued.
    async fn label_account(&self, label: &str, model: Digest) -> Result<AccountId, Error> {
        let key = label_digest(label, &model, None);
        if let Some(id) = lock(&self.labels).get(&key) {
            return Ok(*id);
        }
        self.check_free_room()?;
        if lock(&self.labels).len() >= self.config.max_free_accounts {
            return Err(Error::RateLimited {
                reason: format!("{} sessions without a job are open, as many as may", self.config.max_free_accounts),
                retry_after: self.config.idle_seconds,
            });
        }
        let life = |number: u64| AccountId::Free(label_digest(label, &model, Some(number)));
        let next = first_missing(|number| Ok::<_, Error>(self.db.account(life(number))?.is_some()))?;
        let mut id = life(next);
        if let Some(last) = next.checked_sub(1)
            && self.db.account(life(last))?.is_some_and(|record| record.phase == Phase::Open && record.halted.is_none())
        {
            id = life(last);
        } else {
            self.open_free(id, model).await?;
        }
        lock(&self.labels).insert(key, id);
        Ok(id)
    }

    /// How an account that nobody pays for is opened.
    pub(crate) fn free(&self, id: AccountId, model: Digest) -> OpenAccount {
        OpenAccount { id, terms: None, salt: Salt::default(), model, threshold: self.config.checkpoint_threshold, at: self.now() }
    }

    async fn open_free(&self, id: AccountId, model: Digest) -> Result<(), Error> {
        match self.open(self.free(id, model)).await {
            Ok(record) => {
                self.keep(&record);
                Ok(())
            }
            Err(Refusal::WrongSalt) => Err(Error::Internal { reason: "a free account has no salt to be wrong".into() }),
            Err(Refusal::Other(error)) => Err(error),
        }
    }

    /// Whether tokens may still be generated for an account.
    pub(crate) fn check_open(record: &AccountRecord) -> Result<(), Error> {
        let phase = match (&record.phase, &record.halted) {
            (Phase::Open, None) => return Ok(()),
            (_, Some(reason)) => format!("halted: {reason}"),
            (Phase::Ending { .. }, None) => "ending".to_owned(),
            (Phase::Paid(_), None) => "paid".to_owned(),
        };
        Err(Error::SessionOver { account: record.id, phase })
    }
}

enum Refusal {
    WrongSalt,
    Other(Error),
}

/// A name that no label has.
fn fresh_account() -> AccountId {
    let mut name = [0; 32];
    name[..8].copy_from_slice(&EPHEMERAL_PREFIX);
    name[8..].copy_from_slice(&rand::random::<[u8; 24]>());
    AccountId::Free(Digest(name))
}

/// Whether the account was made for one request alone.
pub(crate) fn is_ephemeral(id: AccountId) -> bool {
    matches!(id, AccountId::Free(name) if name.0[..8] == EPHEMERAL_PREFIX)
}

fn label_digest(label: &str, model: &Digest, life: Option<u64>) -> Digest {
    let mut hash = Sha256::new_with_prefix(b"milepost:label:v1");
    hash.update(model.0);
    if let Some(life) = life {
        hash.update(life.to_be_bytes());
    }
    hash.update(label.as_bytes());
    Digest(hash.finalize().into())
}

/// The first number for which nothing exists, where everything before it does: doubling steps, then halving ones.
fn first_missing<E>(exists: impl Fn(u64) -> Result<bool, E>) -> Result<u64, E> {
    if !exists(0)? {
        return Ok(0);
    }
    let mut step = 0;
    while step < MAX_LABEL_LIVES && exists(1 << step)? {
        step += 1;
    }
    let (mut there, mut missing) = (if step == 0 { 0 } else { 1u64 << (step - 1) }, 1u64 << step);
    while missing - there > 1 {
        let middle = there + (missing - there) / 2;
        if exists(middle)? { there = middle } else { missing = middle }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_life_is_found_for_any_number_of_lives() {
        for lives in 0..200 {
            assert_eq!(first_missing(|number| Ok::<_, ()>(number < lives)), Ok(lives));
        }
    }

    #[test]
    fn labels_differ_by_text_model_and_life_and_are_never_ephemeral() {
        let model = Digest([1; 32]);
        let one = label_digest("a", &model, Some(0));
        assert_ne!(one, label_digest("b", &model, Some(0)));
        assert_ne!(one, label_digest("a", &Digest([2; 32]), Some(0)));
        assert_ne!(one, label_digest("a", &model, Some(1)));
        assert!(is_ephemeral(fresh_account()));
        assert!(!is_ephemeral(AccountId::Free(one)));
        assert!(!is_ephemeral(AccountId::Job(JobId(0))));
    }
}
