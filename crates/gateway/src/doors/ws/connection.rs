//! One connection: its frames, one after the other, and what its session is told.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::StreamExt;
use milepost_ledger::{AccountId, Digest, JobId, TokenSeq};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::frames::{self, Frame, Kind};
use super::outbox::{Outbox, outbox, write};
use super::streams::{MAX_STREAMS, Streams};
use crate::accounts::Target;
use crate::doors::check_chain;
use crate::error::Error;
use crate::fields;
use crate::host::Host;
use crate::opening::{Opening, required_job};
use crate::request::{Caller, Door, GenerateRequest, session_of};
use crate::session::{Notice, SocketUse};
use crate::session_id::SessionRef;
use crate::turn::reader::Acks;

/// How often a silent client is pinged.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// After this long without a byte the client is gone: four heartbeats.
const SILENCE: Duration = Duration::from_mins(2);

/// A ping follows at least every so many tokens, so that clients without explicit acknowledgements are never far behind.
const PING_EVERY: u64 = 16;

/// What a connection knows after `session_init`.
#[derive(Debug)]
struct Attached {
    account: Option<AccountId>,
    session: Option<SessionRef>,
    token: Option<String>,
    model: Option<String>,
    /// The client acknowledges explicitly.
    acks: bool,
    in_use: Option<SocketUse>,
}

struct Connection {
    host: Arc<Host>,
    outbox: Outbox,
    streams: Streams,
    tasks: TaskTracker,
    attached: Attached,
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(host: Arc<Host>, socket: WebSocket, token: Option<String>) {
    let (sink, mut incoming) = socket.split();
    let (outbox, outgoing) = outbox();
    let writer = tokio::spawn(write(sink, outgoing, outbox.closed.clone()));
    metrics::gauge!("milepost_sockets").increment(1.0);
    let hello = json!({ "message": "connected to milepost", "protocol": 1, "unacked_window": host.config.unacked_window });
    outbox.reply(frames::frame("connected", None, hello));
    let mut draining = host.watch_draining();
    let mut connection = Connection {
        streams: Streams::default(),
        tasks: TaskTracker::new(),
        attached: Attached { account: None, session: None, token, model: None, acks: false, in_use: None },
        outbox: outbox.clone(),
        host,
    };
    let mut heard = Instant::now();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            () = outbox.closed.cancelled() => break,
            message = incoming.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => connection.text(&text).await,
                    Some(Ok(Message::Pong(payload))) => if !connection.attached.acks { connection.streams.pong(&payload) },
                    // axum answers pings by itself.
                    Some(Ok(Message::Ping(_))) => {}
                    Some(Ok(Message::Binary(_))) => {
                        let unread = frames::Unread { code: "MALFORMED_FRAME", message: "frames are JSON text, this one is binary".into(), id: None };
                        outbox.reply(frames::unread(&unread));
                    }
                    Some(Ok(Message::Close(_))) | None => break,
                    // Too large, or not WebSocket any more: the connection cannot be read on.
                    Some(Err(error)) => {
                        let message = format!("the connection cannot be read: {error}");
                        outbox.reply(frames::unread(&frames::Unread { code: "MALFORMED_FRAME", message, id: None }));
                        break;
                    }
                }
            }
            notice = next_notice(&mut connection.attached) => connection.notice(notice),
            _ = heartbeat.tick() => {
                if heard.elapsed() >= SILENCE {
                    break;
                }
                outbox.control(Message::Ping(Vec::new().into()));
            }
            () = drains(&mut draining), if connection.streams.is_empty() => {
                outbox.reply(frames::error(&Error::Draining, None, None));
                break;
            }
        }
    }
    connection.detach();
    // Replies that wait, among them the reason for the end, get a moment; then everything is cut, and with it the turns.
    outbox.drain().await;
    outbox.closed.cancel();
    connection.tasks.close();
    connection.tasks.wait().await;
    let _ = writer.await;
    metrics::gauge!("milepost_sockets").decrement(1.0);
}

/// Resolves when the host drains.
async fn drains(draining: &mut watch::Receiver<bool>) {
    // The sender lives in the host, which this connection holds.
    let _ = draining.wait_for(|draining| *draining).await.map(|_| ());
}

/// The next notice of the attached session; never, where none is attached.
async fn next_notice(attached: &mut Attached) -> Result<Notice, RecvError> {
    match &mut attached.in_use {
        Some(in_use) => in_use.notices.recv().await,
        None => std::future::pending().await,
    }
}

impl Connection {
    async fn text(&mut self, text: &str) {
        let frame = match frames::read(text) {
            Ok(frame) => frame,
            Err(unread) => return self.outbox.reply(frames::unread(&unread)),
        };
        if let Err(error) = self.handle(&frame).await {
            let request = frame.object.get("request_id").and_then(Value::as_str);
            self.outbox.reply(frames::error(&error, frame.id.as_ref(), request));
        }
    }

    async fn handle(&mut self, frame: &Frame) -> Result<(), Error> {
        let Frame { kind, object, id } = frame;
        let id = id.as_ref();
        match kind {
            Kind::Ping => self.outbox.reply(frames::frame("pong", id, json!({}))),
            Kind::Pong => {}
            Kind::SessionInit => self.session_init(frame).await?,
            Kind::SessionChallenge => {
                check_chain(&self.host, object)?;
                let challenge = self.host.challenge(required_job(object)?).await?;
                self.outbox.reply(frames::frame("session_challenge", id, challenge));
            }
            Kind::SessionOpen => {
                check_chain(&self.host, object)?;
                let opened = self.host.open_session(&Opening::read(object)?).await?;
                self.attach(AccountId::Job(opened.job), Some(SessionRef::Job(opened.job)), Some(opened.token.clone()), object)?;
                let mut facts = self.host.session_facts(&opened.record);
                facts["token"] = json!(opened.token);
                facts["token_expires_at"] = json!(opened.expires);
                self.acknowledge(id, facts, "session opened");
            }
            Kind::SessionClose => {
                let grant = self.grant(object)?;
                let closed = self.host.close_session(&grant).await?;
                self.outbox.reply(frames::frame("session_closed", id, closed));
            }
            Kind::Generate => self.generate(frame)?,
            Kind::Cancel => self.cancel(frame)?,
            Kind::Ack => {
                let seq = fields::integer(object, "seq", 0, u64::MAX)?.ok_or_else(|| fields::missing("seq", "a position"))?;
                let account = match session_of(object)? {
                    Some(SessionRef::Job(job)) => Some(AccountId::Job(job)),
                    _ => self.attached.account,
                };
                if let Some(account) = account {
                    self.streams.ack(account, TokenSeq(seq));
                }
            }
            Kind::Voucher => {
                let job = self.job(object)?;
                let mut taken = self.host.voucher(job, object).await?;
                taken["session_id"] = json!(job.to_string());
                self.outbox.reply(frames::frame("voucher_ack", id, taken));
            }
        }
        Ok(())
    }

    fn caller(&self, object: &fields::Object) -> Result<Caller, Error> {
        Ok(Caller {
            door: Door::WebSocket,
            session: session_of(object)?.or_else(|| self.attached.session.clone()),
            token: fields::string(object, "token")?.or_else(|| self.attached.token.clone()),
            salt: fields::salt(object)?,
        })
    }

    /// What a session token grants here: nothing less can end a session.
    fn grant(&self, object: &fields::Object) -> Result<crate::auth::Grant, Error> {
        let caller = self.caller(object)?;
        let grant = self.host.grant(&caller)?.ok_or_else(|| Error::Unauthorized {
            reason: "this needs the session's token, which session_open gives: naming a job is not enough".into(),
        })?;
        match caller.session {
            Some(SessionRef::Job(asked)) if asked != grant.job => Err(Error::NotYourJob { token_job: grant.job, asked }),
            _ => Ok(grant),
        }
    }

    fn job(&self, object: &fields::Object) -> Result<JobId, Error> {
        match self.host.target(&self.caller(object)?)? {
            Target::Job(job) => Ok(job),
            _ => Err(fields::missing("job_id", "the number of a job")),
        }
    }

    async fn session_init(&mut self, frame: &Frame) -> Result<(), Error> {
        let object = &frame.object;
        self.host.check_serving()?;
        check_chain(&self.host, object)?;
        let caller = self.caller(object)?;
        match self.host.target(&caller)? {
            Target::Job(job) => {
                let resolved = self.host.job_account(job, caller.salt, None).await?;
                resolved.session.touch(self.host.now());
                let record = self.host.account(resolved.id)?;
                self.attach(resolved.id, Some(SessionRef::Job(job)), caller.token, object)?;
                let mut facts = self.host.session_facts(&record);
                if let Some(Value::String(label)) = object.get("session_id").or_else(|| object.get("sessionId")) {
                    // Old clients compare it with what they sent.
                    facts["session_id"] = json!(label);
                }
                self.acknowledge(frame.id.as_ref(), facts, "session initialized");
            }
            Target::Label(label) => {
                let resolved = self.host.resolve(&caller, self.only_model()).await?;
                let record = self.host.account(resolved.id)?;
                self.attach(resolved.id, Some(SessionRef::Label(label.clone())), caller.token, object)?;
                let mut facts = self.host.session_facts(&record);
                facts["session_id"] = json!(label);
                self.acknowledge(frame.id.as_ref(), facts, "session initialized, nothing is billed");
            }
            Target::Nobody => {
                let facts = json!({
                    "session_id": null, "job_id": null, "chain_id": self.host.config.chain_id, "billed": false,
                    "billed_reason": "session_init names no job and no session",
                });
                self.attached.acks = fields::boolean(object, "acks")?.unwrap_or(false);
                self.acknowledge(frame.id.as_ref(), facts, "connected without a session, nothing is billed");
            }
        }
        Ok(())
    }

    fn only_model(&self) -> Option<Digest> {
        self.host.engines.first().map(|engine| Digest(engine.model().digest))
    }

    /// Binds the connection to an account. Repeating it is free: old clients do so before every prompt.
    fn attach(
        &mut self,
        account: AccountId,
        session: Option<SessionRef>,
        token: Option<String>,
        object: &fields::Object,
    ) -> Result<(), Error> {
        let acks = fields::boolean(object, "acks")?;
        if self.attached.account != Some(account) {
            self.detach();
            self.attached.in_use = Some(self.host.session(account).socket_opened());
            self.attached.account = Some(account);
            self.attached.acks = false;
        }
        if let Some(acks) = acks {
            self.attached.acks = acks;
        }
        self.attached.session = session;
        self.attached.token = token;
        let record = self.host.account(account)?;
        self.attached.model = self.host.engine_by_digest(&record.model).map(|engine| engine.model().name.clone());
        Ok(())
    }

    fn detach(&mut self) {
        if let Some(in_use) = self.attached.in_use.take() {
            in_use.session.socket_closed(self.host.now());
        }
        self.attached.account = None;
    }

    fn acknowledge(&self, id: Option<&Value>, mut facts: Value, message: &str) {
        facts["status"] = json!("success");
        facts["message"] = json!(message);
        self.outbox.reply(frames::frame("session_init_ack", id, facts));
    }

    /// Starts an answer. It runs beside the connection, so that acknowledgements and cancels are heard meanwhile.
    fn generate(&self, frame: &Frame) -> Result<(), Error> {
        let only = (self.host.engines.len() == 1).then(|| self.host.engines[0].model().name.clone());
        let model = self.attached.model.clone().or(only);
        let object = frames::request(&frame.object, model.as_deref(), &self.host.config)?;
        check_chain(&self.host, &object)?;
        let request = GenerateRequest::native(&object, None, &self.host.config)?;
        let caller = Caller { salt: fields::salt(&frame.object)?, ..self.caller(&object)? };
        let account = match self.host.target(&caller)? {
            Target::Job(job) => AccountId::Job(job),
            Target::Label(_) | Target::Nobody => self.attached.account.unwrap_or(AccountId::Free(Digest::ZERO)),
        };
        let place = self.streams.enter(account, request.request_id.clone()).ok_or_else(|| Error::RateLimited {
            reason: format!("{MAX_STREAMS} answers are running on this connection, as many as may"),
            retry_after: 1,
        })?;
        let pings = (!self.attached.acks).then(|| PING_EVERY.min(u64::from(self.host.config.unacked_window) / 2).max(1));
        let (host, outbox, id) = (Arc::clone(&self.host), self.outbox.clone(), frame.id.clone());
        self.tasks.spawn(async move {
            let request_id = request.request_id.clone();
            let closed = outbox.closed.clone();
            let answer = async {
                match host.generate(caller, request, Acks::Explicit).await {
                    Ok(stream) => place.forward(&outbox, stream, id, pings).await,
                    Err(error) => outbox.reply(frames::error(&error, id.as_ref(), request_id.as_deref())),
                }
            };
            tokio::select! {
                () = closed.cancelled() => {}
                () = answer => {}
            }
        });
        Ok(())
    }

    fn cancel(&self, frame: &Frame) -> Result<(), Error> {
        let request = fields::string(&frame.object, "request_id")?;
        let account = match session_of(&frame.object)? {
            Some(SessionRef::Job(job)) => Some(AccountId::Job(job)),
            _ => None,
        };
        let found = self.streams.cancel(|of, running| {
            account.is_none_or(|account| account == of) && request.as_deref().is_none_or(|request| running == Some(request))
        });
        tracing::debug!(event = "stream_cancel", cancelled = found, "cancel asked for");
        Ok(())
    }

    fn notice(&self, notice: Result<Notice, RecvError>) {
        let Some(account) = self.attached.account else { return };
        match notice {
            Ok(Notice::Sealed(record)) => self.streams.seal(&self.outbox, account, &record),
            Ok(Notice::Ended(reason)) => {
                let body =
                    json!({ "job_id": account.job().map(|job| job.to_string()), "session_id": account.to_string(), "reason": reason });
                self.streams.notice(&self.outbox, account, frames::frame("session_ended", None, body));
            }
            // Missed seals can be read at GET /v1/jobs/{id}/checkpoints.
            Err(RecvError::Lagged(missed)) => tracing::debug!(event = "notices_missed", missed, "a slow socket missed notices"),
            Err(RecvError::Closed) => {}
        }
    }
}
