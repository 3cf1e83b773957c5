//! Opening, countersigning and ending a session: what the HTTP and WebSocket doors share.

use milepost_ledger::{AccountId, AccountRecord, Address, Digest, Event, JobId, Phase, Salt, SessionEnd, TokenCount, UnixSeconds};
use milepost_ledger_db::Error as DbError;
use milepost_statement::{Domain, SessionOpen, Voucher, recover};
use serde_json::{Value, json};

use crate::auth::Grant;
use crate::config::AuthMode;
use crate::error::Error;
use crate::fields::{self, Object};
use crate::host::Host;
use crate::session_id::{self, SessionRef};

/// The answer to a challenge.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) job: JobId,
    challenge: Option<Digest>,
    expires: Option<UnixSeconds>,
    signature: Option<Vec<u8>>,
    salt: Option<Salt>,
}

impl Opening {
    pub(crate) fn read(object: &Object) -> Result<Self, Error> {
        Ok(Self {
            job: required_job(object)?,
            challenge: fields::digest(object, "challenge")?,
            expires: fields::integer(object, "expires_at", 0, u64::MAX)?.map(UnixSeconds),
            signature: fields::signature(object)?,
            salt: fields::salt(object)?,
        })
    }
}

/// A session that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) job: JobId,
    pub(crate) token: String,
    pub(crate) expires: UnixSeconds,
    pub(crate) record: AccountRecord,
}

pub(crate) fn required_job(object: &Object) -> Result<JobId, Error> {
    match session_id::parse(object)? {
        Some(SessionRef::Job(job)) => Ok(job),
        _ => Err(fields::missing("job_id", "the number of a job")),
    }
}

impl Host {
    /// A challenge for a job, with the signing domain.
    pub(crate) async fn challenge(&self, job: JobId) -> Result<Value, Error> {
        let terms = match self.db.account(AccountId::Job(job))? {
            Some(record) => record.terms,
            None => self.terms(job).await?,
        };
        let (challenge, expires) = self.keys.challenge(job, self.now());
        Ok(json!({
            "job_id": job.to_string(),
            "challenge": challenge,
            "expires_at": expires.0,
            "chain_id": terms.as_ref().map_or(self.config.chain_id, |terms| terms.chain.0),
            "marketplace": terms.as_ref().map_or(Address::ZERO, |terms| terms.marketplace),
        }))
    }

    /// Checks the depositor's signature, opens the account, and grants a token.
    pub(crate) async fn open_session(&self, opening: &Opening) -> Result<Opened, Error> {
        self.check_serving()?;
        let job = opening.job;
        let known = self.db.account(AccountId::Job(job))?;
        let terms = match &known {
            Some(record) => record.terms.clone(),
            None => self.terms(job).await?,
        };
        let (depositor, signed) = match (&terms, &opening.signature) {
            (Some(terms), Some(signature)) => {
                let challenge = opening.challenge.ok_or_else(|| fields::missing("challenge", "the challenge that was signed"))?;
                let expires = opening.expires.ok_or_else(|| fields::missing("expires_at", "the challenge's expiry"))?;
                let now = self.now();
                self.keys.check_challenge(&challenge, job, expires, now)?;
                let domain = Domain { chain_id: terms.chain, marketplace: terms.marketplace };
                let digest = SessionOpen { job_id: job, challenge, expires_at: expires.0 }.digest(&domain);
                let signer = recover(&digest, signature).map_err(|error| Error::BadRequest { reason: error.to_string() })?;
                if signer != terms.depositor {
                    return Err(Error::NotTheDepositor { job });
                }
                self.keys.use_challenge(&challenge, expires, now)?;
                (terms.depositor, true)
            }
            _ if self.auth == AuthMode::Open => (terms.as_ref().map_or(Address::ZERO, |terms| terms.depositor), false),
            (None, _) => return Err(Error::UnknownJob(job)),
            (Some(_), None) => return Err(fields::missing("signature", "the depositor's signature over SessionOpen")),
        };
        let resolved = self.job_account(job, opening.salt, None).await?;
        if signed {
            self.remember_depositor(&resolved.session).await?;
        }
        resolved.session.touch(self.now());
        let record = self.account(resolved.id)?;
        let expires = self.now().plus(self.config.token_seconds);
        tracing::info!(event = "session_opened", job = job.0, depositor = %depositor, signed, "session opened");
        Ok(Opened { job, token: self.keys.token(&Grant { job, depositor, expires }), expires, record })
    }

    /// Takes a countersigned running total.
    pub(crate) async fn voucher(&self, job: JobId, object: &Object) -> Result<Value, Error> {
        let tokens = fields::integer(object, "tokens", 0, u64::MAX)?.ok_or_else(|| fields::missing("tokens", "the running total"))?;
        let mut signature = fields::signature(object)?.ok_or_else(|| fields::missing("signature", "0x and 130 hexadecimal digits"))?;
        let account = AccountId::Job(job);
        let record = self.account(account)?;
        let refused = |reason: String| Error::BadVoucher { reason };
        let Some((terms, voucher)) = record.terms.as_ref().and_then(|terms| Some((terms, terms.voucher?))) else {
            return Err(refused(format!("the terms of job {job} name no voucher signer")));
        };
        let tokens = TokenCount(tokens);
        let domain = Domain { chain_id: terms.chain, marketplace: terms.marketplace };
        let signer = recover(&Voucher { job_id: job, tokens }.digest(&domain), &signature).map_err(|error| refused(error.to_string()))?;
        if signer != voucher.signer {
            return Err(refused(format!("signed by {signer}, the terms name {}", voucher.signer)));
        }
        if tokens.0 > record.positions.metered.0 {
            return Err(refused(format!("{tokens} tokens, but only {} were generated", record.positions.metered)));
        }
        // `recover` takes v as 0 and 1 too, the contract as 27 and 28 alone. It goes into every claim: in a form that the contract
        // refuses, a voucher would hold up all of the job's money.
        if let Some(v @ (0 | 1)) = signature.last_mut() {
            *v += 27;
        }
        match self.db.apply(vec![Event::Voucher { account, tokens, signature }]).await {
            Ok(_) => {}
            Err(DbError::Refused(error)) => return Err(refused(error.to_string())),
            Err(error) => return Err(self.storage_failed(error)),
        }
        self.running(account).iter().for_each(|turn| turn.account_changed());
        Ok(json!({ "job_id": job.to_string(), "tokens": tokens }))
    }

    /// Ends the session of the token's job, at its depositor's wish.
    pub(crate) async fn close_session(&self, grant: &Grant) -> Result<Value, Error> {
        let record = self.end_session(AccountId::Job(grant.job), SessionEnd::ByClient).await?;
        Ok(json!({
            "job_id": grant.job.to_string(),
            "phase": phase_name(&record.phase),
            "metered": record.positions.metered,
            "sealed": record.positions.sealed,
            "checkpoints": record.checkpoints,
        }))
    }

    /// An account's record.
    pub(crate) fn account(&self, id: AccountId) -> Result<AccountRecord, Error> {
        match (self.db.account(id)?, id.job()) {
            (Some(record), _) => Ok(record),
            (None, Some(job)) => Err(Error::UnknownJob(job)),
            (None, None) => Err(Error::NotFound { what: format!("account {id}") }),
        }
    }

    /// Tokens the account could still pay for; `None` where nothing is billed.
    pub(crate) fn left(&self, record: &AccountRecord) -> Option<u64> {
        record.terms.is_some().then(|| record.admissible(self.now(), &self.limits(record.id)).tokens.0)
    }

    /// What a client is told of a session that it opened.
    pub(crate) fn session_facts(&self, record: &AccountRecord) -> Value {
        let model = self.engine_by_digest(&record.model).map(|engine| engine.model().name.clone());
        json!({
            "session_id": record.id.to_string(),
            "job_id": record.id.job().map(|job| job.to_string()),
            "chain_id": self.chain_of(record),
            "marketplace": record.terms.as_ref().map_or(Address::ZERO, |terms| terms.marketplace),
            "model": model,
            "phase": phase_name(&record.phase),
            "metered": record.positions.metered,
            "sealed": record.positions.sealed,
            "billed": record.terms.is_some(),
            "billed_reason": Host::unbilled_reason(record),
            "left": self.left(record),
        })
    }
}

/// Where a session stands, in a word.
pub(crate) fn phase_name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Open => "open",
        Phase::Ending { .. } => "ending",
        Phase::Paid(_) => "paid",
    }
}
