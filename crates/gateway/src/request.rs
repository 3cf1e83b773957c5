//! A request as the pipeline takes it, whichever door it came through.

use milepost_inference::{ChatMessage, Role, SamplerSettings};
use milepost_ledger::{Digest, Salt, TokenSeq};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::GatewayConfig;
use crate::error::Error;
use crate::fields::{self, Object};
use crate::session_id::{self, SessionRef};

/// Messages of `conversation_context` that are used, counted from the end, as the known node does.
pub const CONTEXT_MESSAGES: usize = 10;

/// Which door a request came through. Only for figures and logs: all doors are served alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// `POST /v1/inference`.
    Native,
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `/v1/ws`.
    WebSocket,
}

impl Door {
    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::WebSocket => "websocket",
        }
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Through which door.
    pub door: Door,
    /// Whom the request names.
    pub session: Option<SessionRef>,
    /// The session token, or whatever came in its place (OpenAI clients must send some key).
    pub token: Option<String>,
    /// The job's salt, where the client sends it here.
    pub salt: Option<Salt>,
}

/// What the model is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A conversation, rendered by the model's template.
    Chat(Vec<ChatMessage>),
    /// A text as it stands.
    Text(String),
    /// Nothing: an earlier request is resumed.
    Resume,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// The model's name. Empty only with [`Input::Resume`].
    pub model: String,
    /// The prompt.
    pub input: Input,
    /// Most tokens.
    pub max_tokens: u32,
    /// How tokens are chosen; the seed is the client's, or drawn when the turn starts.
    pub sampler: SamplerSettings,
    /// Whether the client chose the seed.
    pub seeded: bool,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The request's key in its account.
    pub request_id: Option<String>,
    /// Deliver only what lies at or after this position.
    pub resume_from: Option<TokenSeq>,
    /// The client says that it sends this again without a key: its first attempt is found by the body.
    pub retry: bool,
}

/// What makes two requests the same. How the answer travels, and to whom it is billed, do not belong to it.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a Input,
    max_tokens: u32,
    temperature: u32,
    top_p: u32,
    top_k: u32,
    seed: Option<u64>,
    stop: &'a [String],
}

impl GenerateRequest {
    /// Digest of everything that decides the answer.
    pub fn body_digest(&self) -> Result<Digest, Error> {
        let body = Body {
            model: &self.model,
            input: &self.input,
            max_tokens: self.max_tokens,
            temperature: self.sampler.temperature.to_bits(),
            top_p: self.sampler.top_p.to_bits(),
            top_k: self.sampler.top_k,
            seed: self.seeded.then_some(self.sampler.seed),
            stop: &self.stop,
        };
        let text = serde_json::to_vec(&body).map_err(|error| Error::Internal { reason: error.to_string() })?;
        let mut hash = Sha256::new_with_prefix(b"milepost:body:v1");
        hash.update(&text);
        Ok(Digest(hash.finalize().into()))
    }

    /// A request of `POST /v1/inference`, also as it lies in a WebSocket frame.
    pub fn native(object: &Object, header: Option<&str>, config: &GatewayConfig) -> Result<Self, Error> {
        let request_id = fields::request_id(object, header)?;
        let resume_from = fields::integer(object, "resume_from", 0, u64::MAX)?.map(TokenSeq);
        if resume_from.is_some() && request_id.is_none() {
            return Err(fields::missing("request_id", "the id of the request to resume"));
        }
        if resume_from.is_some() && fields::get(object, "prompt").is_none() {
            return Ok(Self::resume(request_id, resume_from, fields::stops(object)?));
        }
        let model = fields::required_string(object, "model")?;
        let prompt = fields::required_string(object, "prompt")?;
        if prompt.is_empty() {
            return Err(Error::BadField { field: "prompt".into(), found: "empty".into(), expected: "a text that is not empty".into() });
        }
        let most = u64::from(config.max_tokens_limit);
        let max_tokens = fields::integer(object, "max_tokens", 1, most)?
            .ok_or_else(|| fields::missing("max_tokens", &format!("a whole number from 1 to {most}")))?;
        let mut messages = fields::messages(object, "conversation_context")?.unwrap_or_default();
        messages.drain(..messages.len().saturating_sub(CONTEXT_MESSAGES));
        messages.push(ChatMessage { role: Role::User, content: prompt });
        Self::build(object, config, SamplerSettings::default(), Draft { model, input: Input::Chat(messages), max_tokens: Some(max_tokens) })
            .map(|request| Self { request_id, resume_from, ..request })
    }

    /// A request of `POST /v1/chat/completions`.
    pub fn chat(object: &Object, header: Option<&str>, config: &GatewayConfig) -> Result<Self, Error> {
        refuse(object, &["tools", "functions", "audio", "modalities", "prediction"])?;
        openai_refusals(object)?;
        let model = fields::required_string(object, "model")?;
        let messages = fields::messages(object, "messages")?.ok_or_else(|| fields::missing("messages", "a list of {role, content}"))?;
        if messages.iter().all(|message| message.content.is_empty()) {
            return Err(Error::BadField {
                field: "messages".into(),
                found: "empty".into(),
                expected: "at least one message with text".into(),
            });
        }
        let asked = openai_max_tokens(object, config)?;
        let request_id = fields::request_id(object, header)?;
        Self::build(object, config, OPENAI_DEFAULTS, Draft { model, input: Input::Chat(messages), max_tokens: asked })
            .map(|request| Self { request_id, ..request })
    }

    /// A request of `POST /v1/completions`.
    pub fn completion(object: &Object, header: Option<&str>, config: &GatewayConfig) -> Result<Self, Error> {
        refuse(object, &["suffix", "echo"])?;
        openai_refusals(object)?;
        let model = fields::required_string(object, "model")?;
        let expected = "a text that is not empty, or a list of one";
        let prompt = match fields::get(object, "prompt") {
            Some(serde_json::Value::String(text)) if !text.is_empty() => text.clone(),
            Some(serde_json::Value::Array(items)) if items.len() == 1 => match items[0].as_str() {
                Some(text) if !text.is_empty() => text.to_owned(),
                _ => return Err(fields::bad("prompt", &items[0], expected)),
            },
            Some(other) => return Err(fields::bad("prompt", other, expected)),
            None => return Err(fields::missing("prompt", expected)),
        };
        let asked = openai_max_tokens(object, config)?;
        let request_id = fields::request_id(object, header)?;
        Self::build(object, config, OPENAI_DEFAULTS, Draft { model, input: Input::Text(prompt), max_tokens: asked })
            .map(|request| Self { request_id, ..request })
    }

    fn resume(request_id: Option<String>, resume_from: Option<TokenSeq>, stop: Vec<String>) -> Self {
        Self {
            model: String::new(),
            input: Input::Resume,
            max_tokens: 1,
            sampler: SamplerSettings::default(),
            seeded: false,
            stop,
            request_id,
            resume_from,
            retry: false,
        }
    }

    fn build(object: &Object, config: &GatewayConfig, defaults: SamplerSettings, draft: Draft) -> Result<Self, Error> {
        let seed = fields::seed(object)?;
        let top_p = fields::number(object, "top_p", 0.0, 1.0)?.unwrap_or(defaults.top_p);
        let sampler = SamplerSettings {
            temperature: fields::number(object, "temperature", 0.0, 2.0)?.unwrap_or(defaults.temperature),
            // OpenAI allows 0, which keeps the likeliest token alone.
            top_p: if top_p == 0.0 { f32::MIN_POSITIVE } else { top_p },
            top_k: fields::integer(object, "top_k", 0, u64::from(u32::MAX))?
                .map_or(defaults.top_k, |value| u32::try_from(value).unwrap_or(u32::MAX)),
            seed: seed.unwrap_or_default(),
        };
        let max_tokens = draft.max_tokens.unwrap_or_else(|| u64::from(config.default_max_tokens));
        Ok(Self {
            model: draft.model,
            input: draft.input,
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            sampler,
            seeded: seed.is_some(),
            stop: fields::stops(object)?,
            request_id: None,
            resume_from: None,
            retry: false,
        })
    }
}

struct Draft {
    model: String,
    input: Input,
    max_tokens: Option<u64>,
}

/// What OpenAI's clients expect where they say nothing.
const OPENAI_DEFAULTS: SamplerSettings = SamplerSettings { temperature: 1.0, top_p: 1.0, top_k: 0, seed: 0 };

fn openai_max_tokens(object: &Object, config: &GatewayConfig) -> Result<Option<u64>, Error> {
    let most = u64::from(config.max_tokens_limit);
    let new = fields::integer(object, "max_completion_tokens", 1, most)?;
    Ok(new.or(fields::integer(object, "max_tokens", 1, most)?))
}

/// Options that would change the answer if they were ignored.
fn openai_refusals(object: &Object) -> Result<(), Error> {
    for field in ["n", "best_of"] {
        if let Some(value) = fields::get(object, field)
            && value.as_u64() != Some(1)
        {
            return Err(fields::bad(field, value, "1: this host gives one answer to a request"));
        }
    }
    if let Some(value) = fields::get(object, "logprobs")
        && value.as_bool() != Some(false)
    {
        return Err(Error::Unsupported { what: "logprobs".into() });
    }
    if let Some(format) = fields::get(object, "response_format")
        && format.get("type").and_then(serde_json::Value::as_str) != Some("text")
    {
        return Err(Error::Unsupported { what: "response_format".into() });
    }
    for field in ["frequency_penalty", "presence_penalty"] {
        if fields::number(object, field, -2.0, 2.0)?.is_some_and(|value| value != 0.0) {
            return Err(Error::Unsupported { what: field.into() });
        }
    }
    refuse(object, &["logit_bias"])
}

/// Refuses fields that are there and say something.
fn refuse(object: &Object, names: &[&str]) -> Result<(), Error> {
    let says_something = |value: &serde_json::Value| match value {
        serde_json::Value::Bool(value) => *value,
        serde_json::Value::Array(items) => !items.is_empty(),
        serde_json::Value::Object(map) => !map.is_empty(),
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Number(_) => true,
        serde_json::Value::Null => false,
    };
    // A chat client that asks for text says `modalities: ["text"]`.
    let plain = |name: &str, value: &serde_json::Value| name == "modalities" && value == &serde_json::json!(["text"]);
    match names.iter().find(|name| object.get(**name).is_some_and(|value| says_something(value) && !plain(name, value))) {
        Some(name) => Err(Error::Unsupported { what: (*name).to_owned() }),
        None => Ok(()),
    }
}

/// Whom a body names.
pub(crate) fn session_of(object: &Object) -> Result<Option<SessionRef>, Error> {
    Ok(session_id::parse(object)?)
}
