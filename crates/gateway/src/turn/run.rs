//! Running a turn: admit, start, and the one metering loop.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use milepost_inference::{Budget, Engine, Generation, Request, Sampled};
use milepost_ledger::{
    AccountId, AccountRecord, Bound, Digest, EndReason, Error as Refused, Event, Phase, Sampler, SessionEnd, StartTurn, TokenCount,
    TokenId, TokenSeq,
};
use milepost_ledger_db::Error as DbError;
use milepost_statement::prompt_digest;
use tokio::time::Instant;

use super::live::{LiveTurn, Outcome, Sealed, Token};
use super::{Ended, Started, end_reason};
use crate::accounts::Resolved;
use crate::error::Error;
use crate::host::Host;
use crate::request::{Door, GenerateRequest};
use crate::session::Notice;

/// Most tokens in one commit: as many as may lie in the engine's channel.
const MAX_BATCH: usize = milepost_inference::CHANNEL_TOKENS;

/// How often a bound that moves with the clock is looked at again.
const RECHECK: Duration = Duration::from_secs(1);

/// Seconds after which a client may ask again where such a bound stands in the way.
const RETRY_AFTER: u64 = 5;

/// Whether a bound may rise while a turn waits: by a voucher, a claim that lands, or the clock.
fn may_pass(bound: Bound) -> bool {
    matches!(bound, Bound::Voucher | Bound::AtRisk | Bound::RateCap | Bound::Proving)
}

/// What a turn needs to run.
pub(crate) struct Run {
    pub(crate) host: Arc<Host>,
    pub(crate) turn: Arc<LiveTurn>,
    pub(crate) resolved: Resolved,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) request: GenerateRequest,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) door: Door,
}

/// A started turn.
struct Metering {
    account: AccountId,
    number: u32,
    start: TokenSeq,
    generation: Generation,
    budget: Budget,
    /// The account after the last commit.
    record: AccountRecord,
    /// Durable tokens of this turn.
    done: u64,
}

/// Why the loop ended.
struct Stop {
    reason: EndReason,
    error: Option<Error>,
}

impl From<EndReason> for Stop {
    fn from(reason: EndReason) -> Self {
        Self { reason, error: None }
    }
}

impl Run {
    /// Runs the turn to its end. Never fails: what goes wrong is the turn's outcome.
    pub(crate) async fn run(self) {
        let slot = tokio::select! {
            biased;
            _ = self.turn.cancelled() => return self.turn.refuse(Error::Cancelled),
            slot = self.resolved.session.enter(&self.host.config) => slot,
        };
        let slot = match slot {
            Ok(slot) => slot,
            Err(error) => return self.turn.refuse(error),
        };
        let unbilled = match self.host.unbilled_permit(&self.resolved) {
            Ok(permit) => permit,
            Err(error) => return self.turn.refuse(error),
        };
        // Caught while the account's slot is held: whoever comes next must find the turn ended.
        if AssertUnwindSafe(self.through()).catch_unwind().await.is_err() {
            self.panicked().await;
        }
        drop((slot, unbilled));
        self.resolved.session.touch(self.host.now());
    }

    async fn through(&self) {
        match self.start().await {
            Ok(Some(mut metering)) => {
                let stop = self.meter(&mut metering).await;
                self.finish(metering, stop).await;
            }
            Ok(None) => self.turn.record(|log| log.outcome = Some(Outcome::Superseded)),
            Err(error) => self.turn.refuse(error),
        }
    }

    /// Admits the request and makes its start durable. Nothing is sampled before that: the budget begins at nothing.
    async fn start(&self) -> Result<Option<Metering>, Error> {
        let host = &self.host;
        let account = self.resolved.id;
        let mut events = Vec::new();
        let salt = if self.resolved.ephemeral {
            let open = host.free(account, Digest(self.engine.model().digest));
            let salt = open.salt;
            events.push(Event::Open(Box::new(open)));
            salt
        } else {
            self.admit()?.salt
        };
        let mut sampler = self.request.sampler;
        if !self.request.seeded {
            sampler.seed = rand::random();
        }
        let budget = Budget::new(0);
        let generation = self.engine.start(Request {
            prompt: self.prompt.clone(),
            sampler,
            max_tokens: self.request.max_tokens,
            stop: self.request.stop.clone(),
            session: affinity(&self.resolved),
            budget: budget.clone(),
        })?;
        let prompt_tokens = u32::try_from(self.prompt.len()).unwrap_or(u32::MAX);
        let start = StartTurn {
            account,
            request: self.turn.request.clone(),
            body: self.turn.body,
            prompt: prompt_digest(&salt, &self.prompt),
            prompt_tokens,
            sampler: Sampler {
                temperature: sampler.temperature,
                top_p: sampler.top_p,
                top_k: sampler.top_k,
                seed: sampler.seed,
                max_tokens: self.request.max_tokens,
            },
            at: host.now(),
        };
        events.push(Event::StartTurn(Box::new(start)));
        let committed = match host.db.apply(events).await {
            Ok(committed) => committed,
            Err(DbError::Refused(Refused::RequestExists { .. })) => return Ok(None),
            Err(DbError::Refused(Refused::Busy { .. })) => {
                return Err(Error::Busy { account, retry_after: host.config.turn_wait_seconds.max(1) });
            }
            Err(DbError::Refused(Refused::NotOpen(_) | Refused::UnknownAccount(_))) => {
                return Err(Error::SessionOver { account, phase: "ending".into() });
            }
            Err(error) => return Err(host.storage_failed(error)),
        };
        let record =
            committed.account().cloned().ok_or_else(|| Error::Internal { reason: "a started turn left no account record".into() })?;
        let active = record.active.as_ref().ok_or_else(|| Error::Internal { reason: "a started turn is not active".into() })?;
        let (number, start) = (active.number, active.start);
        let started = Started {
            request_id: self.turn.request.clone(),
            job: account.job(),
            session: account.to_string(),
            model: self.engine.model().name.clone(),
            context: self.engine.model().context_tokens,
            start,
            prompt_tokens,
            unbilled: self.resolved.unbilled.clone(),
            chain_id: host.chain_of(&record),
        };
        self.turn.record(|log| log.started = Some(Arc::new(started)));
        tracing::info!(event = "turn_started", account = %account, turn = number, request = %self.turn.request, door = self.door.as_str(), prompt_tokens, position = start.0, "turn started");
        Ok(Some(Metering { account, number, start, generation, budget, record, done: 0 }))
    }

    /// The account, if it may begin another turn.
    fn admit(&self) -> Result<AccountRecord, Error> {
        let (host, account) = (&self.host, self.resolved.id);
        let record = host.account(account)?;
        Host::check_open(&record)?;
        self.resolved.session.check_prefill(record.positions.metered.0, &host.config)?;
        let admission = record.admissible(host.now(), &host.limits(account));
        if admission.tokens > TokenCount::ZERO {
            return Ok(record);
        }
        let job = account.job().unwrap_or_default();
        Err(match admission.bound {
            bound @ (Bound::RateCap | Bound::Proving | Bound::AtRisk) => Error::RateLimited {
                reason: format!("job {job} may not run further ahead of its claims for now (bound: {bound:?})"),
                retry_after: RETRY_AFTER,
            },
            bound => Error::Escrow { job, bound, left: 0 },
        })
    }

    /// The metering loop: as many samples as there are, one commit, then delivery. The only place that reports tokens.
    async fn meter(&self, metering: &mut Metering) -> Stop {
        let host = &self.host;
        let config = &host.config;
        let mut acked = self.turn.acked();
        let mut progress = Instant::now();
        let mut starved: Option<Instant> = None;
        loop {
            let admission = metering.record.admissible(host.now(), &host.limits(metering.account));
            if admission.tokens == TokenCount::ZERO {
                match admission.bound {
                    Bound::NotOpen => return EndReason::SessionEnded.into(),
                    bound if may_pass(bound) => {
                        let since = *starved.get_or_insert_with(Instant::now);
                        if since.elapsed() >= config.top_up() {
                            return EndReason::Escrow.into();
                        }
                    }
                    _ => return EndReason::Escrow.into(),
                }
            } else if starved.take().is_some() {
                progress = Instant::now();
            }
            let now_acked = self.turn.acked();
            if now_acked > acked {
                acked = now_acked;
                progress = Instant::now();
            }
            let affordable = metering.done.saturating_add(admission.tokens.0);
            let window = acked.saturating_add(u64::from(config.unacked_window));
            let limit = affordable.min(window).min(u64::from(self.request.max_tokens));
            metering.budget.stop_at(limit);
            metering.budget.raise_to(limit);
            let deadline = match starved {
                // The rate cap rises with the clock, which pokes nobody.
                Some(since) => (since + config.top_up()).min(Instant::now() + RECHECK),
                None if metering.done >= window => {
                    if progress.elapsed() >= config.stall() {
                        return EndReason::Disconnected.into();
                    }
                    progress + config.stall()
                }
                None => {
                    if progress.elapsed() >= config.engine_stall() {
                        let reason = format!("no token came for {} s", config.engine_stall_seconds);
                        return Stop { reason: EndReason::EngineFailed, error: Some(Error::EngineFailed { reason }) };
                    }
                    progress + config.engine_stall()
                }
            };
            let first = tokio::select! {
                biased;
                reason = self.turn.cancelled() => return reason.into(),
                sampled = metering.generation.next() => sampled,
                () = self.turn.poke.notified() => {
                    if starved.is_some() || self.turn.take_dirty() {
                        match host.db.account(metering.account) {
                            Ok(Some(record)) => metering.record = record,
                            Ok(None) => return EndReason::SessionEnded.into(),
                            Err(error) => return Stop { reason: EndReason::EngineFailed, error: Some(error.into()) },
                        }
                    }
                    continue;
                }
                () = tokio::time::sleep_until(deadline) => {
                    if starved.is_some() {
                        self.turn.account_changed();
                    }
                    continue;
                }
            };
            let (samples, stop) = collect(&mut metering.generation, first);
            if !samples.is_empty() {
                if let Err(stop) = self.commit(metering, samples).await {
                    return stop;
                }
                progress = Instant::now();
            }
            if let Some(stop) = stop {
                return stop;
            }
        }
    }

    /// One commit and, once it is durable, its delivery.
    async fn commit(&self, metering: &mut Metering, samples: Vec<Sampled>) -> Result<(), Stop> {
        let at = metering.start + TokenCount(metering.done);
        let ids: Vec<TokenId> = samples.iter().map(|sample| sample.id).collect();
        let count = ids.len();
        let committed = match self.host.db.apply(vec![Event::Metered { account: metering.account, at, ids }]).await {
            Ok(committed) => committed,
            Err(DbError::Refused(Refused::NotOpen(_) | Refused::NoTurn(_) | Refused::UnknownAccount(_))) => {
                return Err(EndReason::SessionEnded.into());
            }
            Err(DbError::Refused(Refused::Deposit { .. })) => return Err(EndReason::Escrow.into()),
            Err(error) => return Err(Stop { reason: EndReason::EngineFailed, error: Some(self.host.storage_failed(error)) }),
        };
        metering.done += count as u64;
        if let Some(record) = committed.account() {
            metering.record = record.clone();
        }
        let seals: Vec<_> = committed.sealed().map(|record| Arc::new(record.clone())).collect();
        for seal in &seals {
            tracing::info!(event = "checkpoint_triggered", account = %metering.account, checkpoint = seal.number, first = seal.first.0, tokens = seal.count.0, head = %seal.head_after, "checkpoint triggered");
        }
        metrics::counter!("milepost_tokens_metered_total", "door" => self.door.as_str()).increment(count as u64);
        metrics::counter!("milepost_checkpoints_sealed_total").increment(seals.len() as u64);
        tracing::debug!(event = "tokens_tracked", account = %metering.account, tokens = count, total = metering.record.positions.metered.0, "tokens tracked");
        let start = metering.start;
        self.turn.record(|log| {
            log.tokens.extend(samples.into_iter().map(|sample| Token { id: sample.id, piece: sample.bytes }));
            log.seals.extend(seals.into_iter().map(|record| Sealed { after: seal_after(&record, start), record }));
        });
        Ok(())
    }

    /// Makes the end durable, with the receipt, and tells the readers.
    async fn finish(&self, metering: Metering, stop: Stop) {
        let Metering { account, number, start, generation, done, mut record, .. } = metering;
        let cached = generation.cached_tokens();
        drop(generation);
        self.resolved.session.add_prefill(u64::try_from(self.prompt.len()).unwrap_or(u64::MAX).saturating_sub(cached));
        let mut ended = Ended { reason: stop.reason, error: stop.error, end: start + TokenCount(done), cached, left: None, receipt: None };
        if !matches!(ended.error, Some(Error::Storage { .. })) {
            match self.close(account, number, ended.reason).await {
                Ok(closed) => {
                    ended.receipt = closed.receipt;
                    if closed.by_session_end {
                        ended.reason = EndReason::SessionEnded;
                    }
                    if let Some(last) = closed.record {
                        record = last;
                    }
                }
                Err(error) => ended.error = Some(error),
            }
        }
        let admission = record.admissible(self.host.now(), &self.host.limits(account));
        ended.left = record.terms.is_some().then_some(admission.tokens.0);
        let reason = ended.finish_reason();
        tracing::info!(event = "turn_ended", account = %account, turn = number, request = %self.turn.request, tokens = done, total = record.positions.metered.0, sealed = record.positions.sealed.0, reason, billed = self.resolved.unbilled.is_none(), "tokens tracked");
        metrics::counter!("milepost_turns_total", "door" => self.door.as_str(), "reason" => reason).increment(1);
        if ended.error.as_ref().is_some_and(Error::is_fault) {
            tracing::error!(event = "turn_failed", account = %account, request = %self.turn.request, error = %ended.error.as_ref().map(ToString::to_string).unwrap_or_default(), "turn failed");
        }
        self.turn.record(|log| log.outcome = Some(Outcome::Ended(Arc::new(ended))));
    }
}

/// After how many tokens of a turn that begins at `start` a checkpoint was sealed.
pub(crate) fn seal_after(record: &milepost_ledger::CheckpointRecord, start: TokenSeq) -> usize {
    let end = record.first + record.count;
    end.since(start).and_then(|count| usize::try_from(count.0).ok()).unwrap_or(0)
}

/// The first sample and every other that waits behind it.
fn collect(generation: &mut Generation, first: Option<Result<Sampled, milepost_inference::Error>>) -> (Vec<Sampled>, Option<Stop>) {
    let mut samples = Vec::new();
    let mut next = first;
    loop {
        match next {
            Some(Ok(sample)) => {
                let finish = sample.finish;
                samples.push(sample);
                if let Some(finish) = finish {
                    return (samples, Some(end_reason(finish).into()));
                }
            }
            Some(Err(error)) => return (samples, Some(Stop { reason: EndReason::EngineFailed, error: Some(error.into()) })),
            None => {
                let stop = generation.is_ended().then(|| Stop {
                    reason: EndReason::EngineFailed,
                    error: Some(Error::EngineFailed { reason: "generation stopped without a reason".into() }),
                });
                return (samples, stop);
            }
        }
        if samples.len() == MAX_BATCH {
            return (samples, None);
        }
        next = generation.try_next();
    }
}

/// Number under which the engine keeps the session's evaluated prefix; 0 for a request that nobody will continue.
fn affinity(resolved: &Resolved) -> u64 {
    if resolved.ephemeral {
        return 0;
    }
    match resolved.id {
        // 0 means none, so jobs are counted from 1; the last job number shares its prefix with nobody else in practice.
        AccountId::Job(job) => job.0.saturating_add(1),
        AccountId::Free(label) => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&label.0[..8]);
            u64::from_be_bytes(bytes) | 1
        }
    }
}

/// Tells the sockets of an account what its running turn cannot tell them.
pub(crate) fn announce(resolved_session: &crate::session::Session, phase: &Phase, seals: Vec<Arc<milepost_ledger::CheckpointRecord>>) {
    for seal in seals {
        resolved_session.tell(Notice::Sealed(seal));
    }
    if let Phase::Ending { reason, .. } = phase {
        resolved_session.tell_end(session_end(*reason));
    }
}

/// A session's end, in a word.
pub(crate) fn session_end(reason: SessionEnd) -> &'static str {
    match reason {
        SessionEnd::ByClient => "by_client",
        SessionEnd::OnChain => "on_chain",
        SessionEnd::Idle => "idle",
        SessionEnd::Deadline => "deadline",
        SessionEnd::ByHost => "by_host",
    }
}
