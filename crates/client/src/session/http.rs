//! A turn through the OpenAI-style door, streaming, with the same checks.

use milepost_statement::TokenCount;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::turn::{Ended, FIRST_TOKEN_WAIT, NEXT_TOKEN_WAIT, Observer};
use super::{ChatRequest, Event, Outcome, Session, Step, Turn};
use crate::Error;
use crate::file::{ActiveTurn, Door};
use crate::openai::{ChatChunk, Events};
use crate::transcript::SignedReceipt;

/// What accumulates over the chunks of one answer.
#[derive(Default)]
struct Answer {
    finish_reason: Option<String>,
    completion_tokens: Option<TokenCount>,
    receipt: Option<SignedReceipt>,
    done: bool,
}

impl Session {
    /// Asks through `POST /v1/chat/completions` and waits for the end of the answer.
    pub async fn chat_http(&mut self, request: ChatRequest) -> Result<Turn, Error> {
        match self.chat_http_observed(request, &mut |_| Step::Continue).await? {
            Outcome::Ended(turn) => Ok(*turn),
            Outcome::Detached { request_id } => Err(Error::TurnOpen { request_id }),
        }
    }

    /// The same with an observer. There is no cancel over HTTP: [`Step::Cancel`] drops the connection, which stops the host within a
    /// step; the turn is then open for [`Session::resume`].
    pub async fn chat_http_observed(&mut self, request: ChatRequest, observer: &mut Observer<'_>) -> Result<Outcome, Error> {
        self.begin(request, Door::Http)?;
        self.run(true, observer).await
    }

    pub(super) async fn attempt_http(
        &mut self,
        active: &ActiveTurn,
        text: &mut String,
        observer: &mut Observer<'_>,
    ) -> Result<Ended, Error> {
        let token = self.access_token().ok_or(Error::NotAuthenticated)?.to_owned();
        let body = body(&active.request);
        // The idempotency key makes a repeated request the same one: the host replays, unbilled.
        let send = self.host.stream("v1/chat/completions", &token, &active.request.request_id, &body);
        let mut response = match timeout(FIRST_TOKEN_WAIT, send).await {
            Ok(response) => response?,
            Err(_) => return Err(Error::Silent { seconds: FIRST_TOKEN_WAIT.as_secs() }),
        };
        let mut events = Events::default();
        let mut answer = Answer::default();
        let mut limit = FIRST_TOKEN_WAIT;
        while !answer.done {
            let next = timeout(limit, response.chunk()).await.map_err(|_| Error::Silent { seconds: limit.as_secs() })?;
            let Some(bytes) = next.map_err(|error| self.host.unreachable(&error))? else { break };
            limit = NEXT_TOKEN_WAIT;
            for event in events.feed(&bytes)? {
                match self.take_event(&event, &mut answer, text, observer)? {
                    Step::Continue => {}
                    Step::Cancel | Step::Disconnect => return Ok(Ended::Detached),
                }
            }
            self.countersign_http(&token, false).await?;
        }
        if !answer.done {
            return Err(Error::HostUnreachable { url: self.host.url().to_owned(), reason: "the answer ended before its end".into() });
        }
        let reason = answer.finish_reason.unwrap_or_else(|| "unknown".into());
        let turn = self.finish(active, answer.completion_tokens, reason, answer.receipt, std::mem::take(text), observer).await?;
        self.countersign_http(&token, true).await?;
        Ok(Ended::Turn(Box::new(turn)))
    }

    async fn countersign_http(&mut self, token: &str, turn_ended: bool) -> Result<(), Error> {
        match self.next_voucher(turn_ended)? {
            Some((tokens, signature)) => self.host.voucher(token, tokens, &signature).await,
            None => Ok(()),
        }
    }

    fn take_event(&mut self, event: &str, answer: &mut Answer, text: &mut String, observer: &mut Observer<'_>) -> Result<Step, Error> {
        if event == "[DONE]" {
            answer.done = true;
            return Ok(Step::Continue);
        }
        let chunk: ChatChunk =
            serde_json::from_str(event).map_err(|error| Error::Protocol { what: "chat chunk", reason: error.to_string() })?;
        if let Some(error) = &chunk.error {
            let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
            let code = text("code").or_else(|| text("type")).unwrap_or_else(|| "unknown".into());
            return Err(Error::Host { status: 0, code, message: text("message").unwrap_or_else(|| error.to_string()) });
        }
        let mut step = Step::Continue;
        match chunk.token_ids() {
            // A chunk without ids carries text that only became complete at the end.
            Some(ids) => {
                let seq = chunk.milepost.as_ref().and_then(|extension| extension.seq);
                let at = seq.unwrap_or(self.transcript.end());
                step = self.take_tokens(at, ids, chunk.content(), text, observer)?;
            }
            None if chunk.content().is_empty() => {}
            // A host that names no ids cannot be checked: that is not what is paid for.
            None => return Err(Error::Protocol { what: "chat chunk", reason: "it carries text and no token ids".into() }),
        }
        for checkpoint in chunk.milepost.iter().flat_map(|extension| &extension.checkpoints) {
            self.take_checkpoint(checkpoint.clone())?;
            observer(Event::Sealed(checkpoint));
        }
        if let Some(reason) = chunk.finish_reason() {
            answer.finish_reason = Some(reason.to_owned());
        }
        answer.completion_tokens = chunk.usage.map(|usage| usage.completion_tokens).or(answer.completion_tokens);
        answer.receipt = chunk.milepost.and_then(|extension| extension.receipt).or(answer.receipt.take());
        Ok(step)
    }
}

fn body(request: &ChatRequest) -> Value {
    let mut messages: Vec<Value> =
        request.context.iter().map(|message| json!({ "role": message.role, "content": message.content })).collect();
    messages.push(json!({ "role": "user", "content": request.prompt }));
    json!({
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": true,
        "stream_options": { "include_usage": true },
        "return_token_ids": true,
    })
}
