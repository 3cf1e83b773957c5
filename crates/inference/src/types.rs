//! What goes into an engine and what comes out of it.

use serde::{Deserialize, Serialize};

use crate::{Budget, Error};

/// A token's number in the model's vocabulary.
pub type TokenId = u32;

/// Most stop sequences in one request: four times what the OpenAI interface allows. Each is searched for at every token.
pub const MAX_STOP_SEQUENCES: usize = 16;

/// Longest stop sequence in bytes. The text held back while a match is still possible is never longer than this.
pub const MAX_STOP_BYTES: usize = 512;

/// The loaded model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// Name under which clients ask for it.
    pub name: String,
    /// SHA-256 of the model file.
    pub digest: [u8; 32],
    /// Prompt and answer together, per sequence, in tokens.
    pub context_tokens: u32,
    /// Number of ids; every sampled id is below it.
    pub vocabulary: u32,
    /// One line for people.
    pub description: String,
}

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The paying side.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name that chat templates know.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerSettings {
    /// 0 chooses greedily, and then nothing else here matters. Finite and not negative.
    pub temperature: f32,
    /// Nucleus: the smallest set of tokens whose probabilities reach this sum. Over 0, at most 1; 1 keeps all.
    pub top_p: f32,
    /// Only this many of the likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Equal seeds repeat equal choices.
    pub seed: u64,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self { temperature: 0.7, top_p: 0.95, top_k: 40, seed: 0 }
    }
}

impl SamplerSettings {
    /// Greedy and deterministic.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 };

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::BadSampler { reason });
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return wrong(format!("temperature is {}; it must be a finite number, 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong(format!("top_p is {}; it must be over 0 and at most 1", self.top_p));
        }
        Ok(())
    }
}

/// One generation to be run.
#[derive(Clone, Debug)]
pub struct Request {
    /// From [`crate::Engine::encode_chat`] or [`crate::Engine::encode_text`].
    pub prompt: Vec<TokenId>,
    /// How tokens are chosen.
    pub sampler: SamplerSettings,
    /// The generation ends with [`FinishReason::Length`] at this many tokens. At least 1.
    pub max_tokens: u32,
    /// The generation ends with [`FinishReason::StopSequence`] once the text contains one of these.
    pub stop: Vec<String>,
    /// Requests with the same number reuse the evaluated prefix they have in common. 0: none. Prefixes are never shared
    /// between sessions, so that nobody can learn from timing what another asked.
    pub session: u64,
    /// How many tokens may be sampled so far.
    pub budget: Budget,
}

impl Request {
    pub(crate) fn check(&self, model: &ModelInfo) -> Result<(), Error> {
        self.sampler.check()?;
        if self.prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if self.prompt.len() >= model.context_tokens as usize {
            return Err(Error::PromptTooLong { tokens: self.prompt.len(), context: model.context_tokens });
        }
        if let Some(&id) = self.prompt.iter().find(|&&id| id >= model.vocabulary) {
            return Err(Error::UnknownToken { id, vocabulary: model.vocabulary });
        }
        if self.max_tokens == 0 {
            return Err(Error::NoTokensAsked);
        }
        if self.stop.len() > MAX_STOP_SEQUENCES {
            return Err(Error::BadStop { reason: format!("{} stop sequences; at most {MAX_STOP_SEQUENCES} are allowed", self.stop.len()) });
        }
        for stop in &self.stop {
            if stop.is_empty() || stop.len() > MAX_STOP_BYTES {
                return Err(Error::BadStop {
                    reason: format!("a stop sequence of {} bytes; it must have between 1 and {MAX_STOP_BYTES}", stop.len()),
                });
            }
        }
        Ok(())
    }
}

/// One sampled token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The id, as sampled.
    pub id: TokenId,
    /// The piece of text. May be a part of a character; empty for the end-of-generation token and other control tokens.
    pub bytes: Vec<u8>,
    /// Set on the last token of a generation that ended by itself.
    pub finish: Option<FinishReason>,
}

/// Why a generation ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model sampled an end-of-generation token. It counts like any other.
    Stop,
    /// The text contains one of the request's stop sequences.
    StopSequence,
    /// `max_tokens` were sampled.
    Length,
    /// Prompt and answer fill the context.
    Context,
}

/// Counters of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Sequences that hold a slot now.
    pub running: u64,
    /// Requests that wait for a slot now.
    pub queued: u64,
    /// Steps evaluated.
    pub steps: u64,
    /// Tokens sampled.
    pub sampled: u64,
    /// How often the engine was rebuilt after a failure.
    pub rebuilt: u64,
    /// Prompt tokens of all admitted requests, reused ones included.
    pub prompt_tokens: u64,
    /// Of these, the ones that were still evaluated from the session's last request.
    pub reused_prefix_tokens: u64,
}
