//! A turn over WebSocket: begun once, taken up again as often as it is cut, ended with a checked receipt.

use std::time::Duration;

use milepost_statement::{Signature, TokenCount, TokenSeq};

use super::socket::{SETUP_WAIT, Socket};
use super::{ChatRequest, Event, Outcome, Session, Step, Turn};
use crate::file::{ActiveTurn, Door, Entry, VoucherState};
use crate::transcript::{self, SignedReceipt};
use crate::wire::{Ask, Chunk, ClientFrame, InferenceRequest, ServerFrame, StreamEnd, job_text};
use crate::{CapturedTurn, Error};

/// How long the first token may take: a long prompt on a busy host.
pub(super) const FIRST_TOKEN_WAIT: Duration = Duration::from_mins(3);
/// How long any further one may take.
pub(super) const NEXT_TOKEN_WAIT: Duration = Duration::from_mins(1);
/// Attempts to take up a cut stream without a single new token in between. With the pauses below about two minutes: a host that
/// was killed is back by then.
pub(super) const MAX_ATTEMPTS: u32 = 30;
/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Watches a turn and says what to do next.
pub type Observer<'a> = dyn FnMut(Event<'_>) -> Step + Send + 'a;

/// How one connection ended.
pub(super) enum Ended {
    Turn(Box<Turn>),
    Detached,
}

impl Session {
    /// Asks over WebSocket and waits for the end of the answer.
    pub async fn chat_ws(&mut self, request: ChatRequest) -> Result<Turn, Error> {
        match self.chat_ws_observed(request, &mut |_| Step::Continue).await? {
            Outcome::Ended(turn) => Ok(*turn),
            Outcome::Detached { request_id } => Err(Error::TurnOpen { request_id }),
        }
    }

    /// Asks over WebSocket; `observer` sees each token after it is stored.
    pub async fn chat_ws_observed(&mut self, request: ChatRequest, observer: &mut Observer<'_>) -> Result<Outcome, Error> {
        self.begin(request, Door::Socket)?;
        self.run(true, observer).await
    }

    /// Takes up the unfinished request, through the door it was made by. `None` if there is none.
    pub async fn resume(&mut self, observer: &mut Observer<'_>) -> Result<Option<Outcome>, Error> {
        self.usable()?;
        if self.unfinished().is_none() {
            return Ok(None);
        }
        self.run(false, observer).await.map(Some)
    }

    /// Stores the request before it is sent: from here on it is finished under its id, or found unfinished.
    pub(super) fn begin(&mut self, mut request: ChatRequest, door: Door) -> Result<(), Error> {
        self.usable()?;
        if let Some(request_id) = self.unfinished() {
            return Err(Error::TurnOpen { request_id: request_id.to_owned() });
        }
        if self.access_token().is_none() {
            return Err(Error::NotAuthenticated);
        }
        // Tokens beyond those asked for are neither kept nor countersigned: so the ceiling holds whatever the host does.
        let (price, spent) = (self.record().price, self.escrow().spent);
        if let Some(ceiling) = self.record().ceiling {
            let tokens = ceiling.0.saturating_sub(spent.0).checked_div(price.0).unwrap_or(u128::MAX);
            if tokens == 0 {
                return Err(Error::Ceiling { ceiling, spent, price });
            }
            request.max_tokens = request.max_tokens.min(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
        if request.request_id.is_empty() {
            request.request_id = format!("req-{}", hex::encode(rand::random::<[u8; 12]>()));
        }
        self.transcript.begin_turn(&request.request_id);
        let start = self.transcript.end();
        self.append(Entry::Begin(Box::new(ActiveTurn { request, start, door })))
    }

    /// Runs the unfinished turn to its end through cuts. `fresh`: it was begun just now, so that the host cannot know it yet.
    pub(super) async fn run(&mut self, fresh: bool, observer: &mut Observer<'_>) -> Result<Outcome, Error> {
        let active = self.record().active.clone().expect("a turn was begun");
        let request_id = active.request.request_id.clone();
        let mut text = String::new();
        let mut attempt = 0;
        let mut pause = PAUSE.0;
        let mut reauthenticated = false;
        loop {
            let before = self.transcript.end();
            let result = match active.door {
                Door::Socket => self.attempt_socket(&active, &mut text, observer).await,
                Door::Http => self.attempt_http(&active, &mut text, observer).await,
            };
            let error = match result {
                Ok(Ended::Turn(turn)) => return Ok(Outcome::Ended(turn)),
                Ok(Ended::Detached) => return Ok(Outcome::Detached { request_id }),
                Err(error) => error,
            };
            self.socket = None;
            if self.transcript.end() > before {
                (attempt, pause) = (0, PAUSE.0);
            }
            if is_unauthorized(&error) && !reauthenticated {
                // The token ran out, or the host's secret changed.
                reauthenticated = true;
                self.authenticate(None).await?;
                continue;
            }
            let ends = is_engine_failure(&error) && self.transcript.end() > active.start;
            if !is_cut(&error) && !ends {
                if matches!(error, Error::Host { .. }) && fresh && attempt == 0 && self.transcript.end() == active.start {
                    // Refused before it began: there is nothing to take up again.
                    self.append(Entry::Refused { request_id })?;
                }
                return Err(error);
            }
            attempt += 1;
            let reason = error.to_string();
            if attempt >= MAX_ATTEMPTS {
                return Err(Error::Cut { attempts: attempt, last: reason });
            }
            if observer(Event::Reconnecting { attempt, reason: &reason }) == Step::Disconnect {
                return Ok(Outcome::Detached { request_id });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt_socket(&mut self, active: &ActiveTurn, text: &mut String, observer: &mut Observer<'_>) -> Result<Ended, Error> {
        let mut socket = self.ready_socket(&active.request.request_id).await?;
        let request = &active.request;
        // Nothing received yet: the same request again, which the host answers once. Else only what is missing.
        let resume_from = Some(self.transcript.end()).filter(|end| *end > active.start);
        let ask = Ask {
            model: &request.model,
            prompt: &request.prompt,
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            stream: true,
            conversation_context: &request.context,
        };
        let frame = ClientFrame::Inference {
            id: &request.request_id,
            request: InferenceRequest { request_id: &request.request_id, ask: resume_from.is_none().then_some(ask), resume_from },
        };
        socket.send(&frame).await?;
        let mut limit = FIRST_TOKEN_WAIT;
        loop {
            match socket.receive(limit).await? {
                ServerFrame::StreamChunk(chunk) if is_ours(chunk.id.as_deref(), active) => {
                    limit = NEXT_TOKEN_WAIT;
                    let step = self.take_chunk(&chunk, text, observer)?;
                    socket.send(&ClientFrame::Ack { seq: self.transcript.end() }).await?;
                    self.countersign(&mut socket, false).await?;
                    match step {
                        Step::Continue => {}
                        Step::Cancel => socket.send(&ClientFrame::StreamCancel { request_id: &request.request_id }).await?,
                        Step::Disconnect => return Ok(Ended::Detached),
                    }
                }
                ServerFrame::CheckpointSealed(checkpoint) => {
                    self.take_checkpoint(checkpoint.clone())?;
                    if observer(Event::Sealed(&checkpoint)) == Step::Disconnect {
                        return Ok(Ended::Detached);
                    }
                }
                ServerFrame::StreamEnd(end) if is_ours(end.id.as_deref(), active) => {
                    let turn = self.finish_socket(active, end, std::mem::take(text), observer).await?;
                    self.countersign(&mut socket, true).await?;
                    self.socket = Some(socket);
                    return Ok(Ended::Turn(Box::new(turn)));
                }
                ServerFrame::Error(error) if is_ours(error.id.as_deref(), active) => return Err(error.refusal()),
                _ => {}
            }
        }
    }

    /// The connection that is open, or a new one; introduced for this request either way.
    async fn ready_socket(&mut self, id: &str) -> Result<Socket, Error> {
        if let Some(mut open) = self.socket.take() {
            // A connection that was idle may be gone without our having noticed.
            if self.introduce(&mut open, id).await.is_ok() {
                return Ok(open);
            }
        }
        let mut socket = Socket::connect(self.host.socket_url()?).await?;
        self.introduce(&mut socket, id).await?;
        Ok(socket)
    }

    async fn introduce(&mut self, socket: &mut Socket, id: &str) -> Result<(), Error> {
        let job = *self.transcript.job();
        let frame = ClientFrame::SessionInit {
            id,
            job_id: job_text(job.job_id),
            session_id: job_text(job.job_id),
            chain_id: job.chain_id.0,
            token: self.access_token(),
            acks: true,
        };
        socket.send(&frame).await?;
        loop {
            match socket.receive(SETUP_WAIT).await? {
                ServerFrame::SessionInitAck { status, metered } => {
                    if status.as_deref().is_some_and(|status| status != "success") {
                        return Err(Error::Protocol { what: "session_init_ack", reason: format!("status {status:?}") });
                    }
                    return self.check_position(metered);
                }
                ServerFrame::Error(error) => return Err(error.refusal()),
                _ => {}
            }
        }
    }

    fn take_chunk(&mut self, chunk: &Chunk, text: &mut String, observer: &mut Observer<'_>) -> Result<Step, Error> {
        if chunk.tokens.0 != chunk.token_ids.len() as u64 {
            return Err(self.stop(transcript::Error::WrongCount { host: chunk.tokens, captured: TokenCount(chunk.token_ids.len() as u64) }));
        }
        let at = chunk.seq.unwrap_or(self.transcript.end());
        self.take_tokens(at, &chunk.token_ids, &chunk.content, text, observer)
    }

    /// Checks, stores, syncs; then shows.
    pub(super) fn take_tokens(
        &mut self,
        at: TokenSeq,
        ids: &[milepost_statement::TokenId],
        content: &str,
        text: &mut String,
        observer: &mut Observer<'_>,
    ) -> Result<Step, Error> {
        // Every token that is kept is countersigned and so paid for: without this bound a host could stream the deposit away.
        if let Some(active) = &self.record().active {
            let asked = TokenCount(u64::from(active.request.max_tokens));
            if at.checked_add(TokenCount(ids.len() as u64)).is_none_or(|end| end > active.start + asked) {
                return Err(self.stop(transcript::Error::NotAskedFor { asked }));
            }
        }
        let before = self.transcript.end();
        let received = self.transcript.receive(at, ids);
        let new = received.map_err(|error| self.stop(error))?;
        if new == 0 && !ids.is_empty() {
            return Ok(Step::Continue); // a repetition: its text was shown
        }
        let new = &ids[ids.len() - new..];
        if !new.is_empty() {
            let stored = self.file.append_tokens(before, new);
            stored.map_err(|error| Error::File { path: self.file.path().to_owned(), error })?;
        }
        text.push_str(content);
        Ok(observer(Event::Tokens { seq: before, ids: new, text: content }))
    }

    async fn finish_socket(
        &mut self,
        active: &ActiveTurn,
        end: StreamEnd,
        text: String,
        observer: &mut Observer<'_>,
    ) -> Result<Turn, Error> {
        self.take_checkpoints(end.checkpoints)?;
        let reason = end.finish_reason.or(end.reason).unwrap_or_else(|| "unknown".into());
        self.finish(active, end.tokens_used, reason, end.receipt, text, observer).await
    }

    /// Holds the host's count and receipt against what came, and stores the turn.
    pub(super) async fn finish(
        &mut self,
        active: &ActiveTurn,
        host_count: Option<TokenCount>,
        finish_reason: String,
        receipt: Option<SignedReceipt>,
        text: String,
        observer: &mut Observer<'_>,
    ) -> Result<Turn, Error> {
        let request_id = active.request.request_id.clone();
        let count = self.transcript.end() - active.start;
        if let Some(host) = host_count.filter(|host| *host != count) {
            return Err(self.stop(transcript::Error::WrongCount { host, captured: count }));
        }
        if let Some(receipt) = &receipt {
            self.check_receipt(&request_id, receipt).await?;
            observer(Event::Receipt(receipt));
        }
        self.append(Entry::End(Box::new(CapturedTurn {
            request_id: request_id.clone(),
            prompt_ids: None,
            start: active.start,
            count,
            finish_reason: finish_reason.clone(),
            receipt: receipt.clone(),
        })))?;
        Ok(Turn { request_id, start: active.start, count, text, finish_reason, receipt })
    }

    /// Countersigns what is held: half the allowance before the host would have to pause, and at each turn's end. Stored before
    /// it is sent, because a voucher that was given counts whether or not we remember it.
    async fn countersign(&mut self, socket: &mut Socket, turn_ended: bool) -> Result<(), Error> {
        let Some((tokens, signature)) = self.next_voucher(turn_ended)? else { return Ok(()) };
        socket.send(&ClientFrame::Voucher { tokens, signature: format!("0x{}", hex::encode(signature)) }).await
    }

    /// The voucher that is due, if one is.
    pub(super) fn next_voucher(&mut self, turn_ended: bool) -> Result<Option<(TokenCount, Signature)>, Error> {
        let Some(voucher) = self.record().voucher else { return Ok(None) };
        let tokens = self.transcript.end() - TokenSeq::ZERO;
        if !is_due(voucher, tokens, turn_ended) {
            return Ok(None);
        }
        let signature = self.wallet.sign_voucher(self.transcript.job(), tokens);
        self.append(Entry::Voucher { tokens })?;
        Ok(Some((tokens, signature)))
    }
}

/// Whether the host should get a voucher for `tokens` now.
fn is_due(voucher: VoucherState, tokens: TokenCount, turn_ended: bool) -> bool {
    let ahead = tokens.0.saturating_sub(voucher.given.0);
    ahead > 0 && (turn_ended || ahead >= voucher.allowance.0.div_ceil(2))
}

fn is_ours(id: Option<&str>, active: &ActiveTurn) -> bool {
    id.is_none_or(|id| id == active.request.request_id)
}

/// The connection or the host went away, or is about to; the request itself was not refused.
fn is_cut(error: &Error) -> bool {
    match error {
        Error::HostUnreachable { .. } | Error::Silent { .. } => true,
        Error::Host { status, code, .. } => {
            // A host whose ledger failed ends and is started again.
            let going = ["service_unavailable", "draining", "chain_unavailable", "storage_failed"];
            matches!(status, 502..=504) || going.iter().any(|known| code.eq_ignore_ascii_case(known))
        }
        _ => false,
    }
}

/// The engine failed under a turn: asked again, the host tells how it ended, with a receipt over what came.
fn is_engine_failure(error: &Error) -> bool {
    matches!(error, Error::Host { code, .. } if code.eq_ignore_ascii_case("engine_failed"))
}

fn is_unauthorized(error: &Error) -> bool {
    match error {
        Error::Host { status: 401, .. } => true,
        Error::Host { status: 0, code, .. } => matches!(code.to_ascii_lowercase().as_str(), "unauthorized" | "unauthenticated"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_cut, is_due, is_unauthorized};
    use crate::Error;
    use crate::file::VoucherState;
    use milepost_statement::TokenCount;

    #[test]
    fn a_voucher_is_due_at_half_the_allowance_and_at_a_turns_end() {
        let due = |allowance, given, tokens, ended| {
            is_due(VoucherState { allowance: TokenCount(allowance), given: TokenCount(given) }, TokenCount(tokens), ended)
        };
        assert!(!due(64, 100, 131, false) && due(64, 100, 132, false));
        assert!(due(64, 100, 101, true) && !due(64, 100, 100, true) && !due(64, 100, 99, true));
        // Without an allowance the host waits for a voucher after every token.
        assert!(due(0, 5, 6, false) && !due(0, 5, 5, false));
    }

    fn host(status: u16, code: &str) -> Error {
        Error::Host { status, code: code.into(), message: String::new() }
    }

    #[test]
    fn only_a_lost_connection_is_taken_up_again() {
        assert!(is_cut(&Error::HostUnreachable { url: String::new(), reason: String::new() }));
        assert!(is_cut(&Error::Silent { seconds: 60 }));
        assert!(is_cut(&host(503, "service_unavailable")) && is_cut(&host(0, "DRAINING")) && is_cut(&host(500, "storage_failed")));
        for refused in [host(400, "validation_error"), host(409, "conflict"), host(429, "rate_limit_exceeded"), host(0, "FORBIDDEN")] {
            assert!(!is_cut(&refused), "{refused}");
        }
        assert!(!is_cut(&Error::Transcript(crate::transcript::Error::Unsigned)));
    }

    #[test]
    fn a_token_that_ran_out_is_renewed() {
        assert!(is_unauthorized(&host(401, "unauthorized")) && is_unauthorized(&host(0, "UNAUTHORIZED")));
        assert!(!is_unauthorized(&host(403, "forbidden")));
    }
}
