//! Quotes: what this host offers before a session is funded, signed, and honoured until it expires.
//!
//! Stateless: a client brings the quote back when it asks for its challenge, and the signature shows that it is ours. What is kept is
//! only which quote goes with a job that is being opened.

use std::collections::BTreeMap;
use std::sync::Mutex;

use milepost_ledger::{AccountId, Address, Digest, JobId, Terms, TokenCount, UnixSeconds};
use milepost_statement::{Quote, SignedQuote};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::deps::JobsErrorKind;
use crate::error::Error;
use crate::fields::{self, Object};
use crate::host::Host;
use crate::sync::lock;

/// How long a quote holds: time for a wallet's window and a slow block, not for a market to move.
pub(crate) const QUOTE_SECONDS: u64 = 600;
/// How long after its expiry a job may be opened that was created in time: the client's wait for its block.
const OPENING_SECONDS: u64 = 600;
/// Jobs whose quotes are remembered while they are opened.
const MAX_OPENING: usize = 1_024;
/// Quotes made at a time: each asks the registry, and anybody may ask for them.
const MAX_ASKED: usize = 4;
/// Highest rate that is offered, tokens per second: the contract lets claims run at twice it.
const MAX_RATE: u64 = 10_000;

/// Quotes of jobs that are being opened.
#[derive(Debug)]
pub(crate) struct Quotes {
    opening: Mutex<BTreeMap<JobId, Quote>>,
    asked: Semaphore,
}

impl Default for Quotes {
    fn default() -> Self {
        Self { opening: Mutex::default(), asked: Semaphore::new(MAX_ASKED) }
    }
}

impl Quotes {
    /// The quote that was brought for a job.
    pub(crate) fn of(&self, job: JobId) -> Option<Quote> {
        lock(&self.opening).get(&job).copied()
    }

    fn remember(&self, job: JobId, quote: Quote, now: UnixSeconds) {
        let mut opening = lock(&self.opening);
        opening.retain(|_, quote| quote.expires_at.saturating_add(OPENING_SECONDS) >= now.0);
        while opening.len() >= MAX_OPENING
            && let Some(first) = opening.keys().next().copied()
        {
            opening.remove(&first);
        }
        opening.insert(job, quote);
    }
}

/// Whether a job was created on a quote's terms while they held.
pub fn is_quoted(terms: &Terms, quote: &Quote) -> bool {
    let same = (terms.host, terms.model, terms.token) == (quote.host, quote.model_digest, quote.token);
    same && terms.price.0 >= quote.price && terms.started.0 <= quote.expires_at
}

impl Host {
    /// Answers `POST /v1/quote`.
    pub(crate) async fn quote(&self, object: &Object) -> Result<Value, Error> {
        let model = match (fields::digest(object, "model_digest")?, fields::string(object, "model")?) {
            (Some(digest), _) => digest,
            (None, Some(name)) => Digest(self.engine(&name)?.model().digest),
            (None, None) => return Err(fields::missing("model_digest", "SHA-256 of the model file, or `model` its name")),
        };
        if self.engine_by_digest(&model).is_none() {
            let available = self.engines.iter().map(|engine| engine.model().name.clone()).collect();
            return Err(Error::UnknownModel { asked: model.to_string(), available });
        }
        let text = fields::required_string(object, "token")?;
        let token: Address =
            text.parse().map_err(|_| fields::bad("token", &Value::String(text), "an address, zero for the chain's coin"))?;
        let rate = fields::integer(object, "expected_rate", 0, MAX_RATE)?.unwrap_or(0);
        let asked_allowance = fields::integer(object, "voucher_allowance", 0, u64::MAX)?.unwrap_or(0);
        let (Some(jobs), Some(key)) = (&self.jobs, &self.signer) else {
            return Err(Error::NotFound { what: "price here: this host runs in log mode and bills nobody".into() });
        };
        let _turn = self
            .quotes
            .asked
            .try_acquire()
            .map_err(|_| Error::RateLimited { reason: format!("{MAX_ASKED} quotes are being made, as many as may"), retry_after: 1 })?;
        let asked = jobs.asked(model, token).await?.ok_or_else(|| Error::NotFound { what: format!("price in token {token}") })?;
        let quote = Quote {
            host: asked.host,
            model_digest: model,
            token,
            price: asked.price.0,
            expected_rate: u32::try_from(rate).unwrap_or(0),
            // Less than the window would have generation wait for vouchers that are still under way.
            voucher_allowance: TokenCount(asked_allowance.max(u64::from(self.config.unacked_window))),
            expires_at: self.now().plus(QUOTE_SECONDS).0,
        };
        let mut answer = json!(quote.signed(key, &asked.domain));
        answer["signer"] = json!(key.address());
        answer["chain_id"] = json!(asked.domain.chain_id);
        answer["marketplace"] = json!(asked.domain.marketplace);
        Ok(answer)
    }

    /// Takes the quote that a client brings for a job, where it brings one: it must be ours, and not long over. It is kept where the job
    /// was created on its terms: then it is no matter who brought it, and one that does not fit takes nobody's place.
    pub(crate) async fn bring_quote(&self, job: JobId, object: &Object) -> Result<(), Error> {
        let Some(value) = fields::get(object, "quote") else { return Ok(()) };
        let refused = |reason: &str| Error::BadField {
            field: "quote".into(),
            found: reason.to_owned(),
            expected: "what POST /v1/quote of this host answered".into(),
        };
        let signed: SignedQuote = serde_json::from_value(value.clone()).map_err(|error| refused(&error.to_string()))?;
        let (Some(jobs), Some(key)) = (&self.jobs, &self.signer) else { return Ok(()) };
        if signed.quote.expires_at.saturating_add(OPENING_SECONDS) < self.now().0 {
            return Err(refused("a quote that expired long ago"));
        }
        let domain = jobs.domain().ok_or_else(|| refused("a quote, which jobs of this marketplace have not"))?;
        if signed.signer(&domain) != Ok(key.address()) {
            return Err(refused("a quote that this host did not sign"));
        }
        if self.db.account(AccountId::Job(job))?.is_some() {
            return Ok(());
        }
        match jobs.terms_quoted(job, signed.quote).await {
            Ok(Some(terms)) if is_quoted(&terms, &signed.quote) => self.quotes.remember(job, signed.quote, self.now()),
            // The client must know that its quote was not taken: it asks again.
            Err(error) if error.kind == JobsErrorKind::Unreachable => return Err(error.into()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(expires_at: u64) -> Quote {
        Quote {
            host: Address::ZERO,
            model_digest: Digest::ZERO,
            token: Address::ZERO,
            price: 1,
            expected_rate: 0,
            voucher_allowance: TokenCount(64),
            expires_at,
        }
    }

    #[test]
    fn quotes_of_openings_are_bounded_and_forgotten_when_they_are_over() {
        let quotes = Quotes::default();
        quotes.remember(JobId(0), quote(1_000), UnixSeconds(900));
        quotes.remember(JobId(1), quote(9_000), UnixSeconds(1_600));
        assert!(quotes.of(JobId(0)).is_some());
        quotes.remember(JobId(2), quote(9_000), UnixSeconds(1_601));
        assert!(quotes.of(JobId(0)).is_none(), "over");
        for job in 3..=(MAX_OPENING as u64 + 5) {
            quotes.remember(JobId(job), quote(9_000), UnixSeconds(1_601));
        }
        assert_eq!(lock(&quotes.opening).len(), MAX_OPENING);
        assert_eq!(quotes.of(JobId(MAX_OPENING as u64 + 5)), Some(quote(9_000)));
    }
}
