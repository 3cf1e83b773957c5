//! Engines that yield every sampled token id.
//!
//! A host is paid per token, so the engine's unit is one *sampled token id*: the end-of-generation token counts, an
//! incomplete character counts, a text chunk does not exist. Two engines speak this interface: [`scripted`], which needs
//! no model and is deterministic, and `llama` (feature `llama`), llama.cpp in this process. Both are backends of one
//! scheduler (`batch`), so what is tested on the first holds for the second.
//!
//! # Protocol
//!
//! ```text
//!  caller ── start(Request) ──▶ queue (bounded) ──▶ slot ──▶ step: one token of each running sequence, then prompt chunks
//!    ▲                                                          │ Budget::try_take, room in the channel
//!    └──────────── Generation::next ◀── bounded channel ◀───────┘
//! ```
//!
//! - [`Engine::start`] answers at once: a [`Generation`], or an [`Error`] that names what was wrong.
//! - A token is sampled only after the [`Budget`] was asked. At its limit the sequence pauses and burns nothing; raising
//!   the limit wakes the engine. So whoever meters decides how far sampling may run ahead of what is durable and payable.
//! - The engine never waits for a reader: a full channel pauses that sequence alone, a closed one cancels it.
//! - [`Generation::cancel`] or dropping it ends the sequence within one step. What was sampled before stays readable
//!   until the generation is dropped.
//! - The last token carries a [`FinishReason`]. A generation that ends without one was cancelled; one that failed ends
//!   with [`Error::EngineFailed`], after every token that was sampled.
//!
//! # Guarantees
//!
//! Ids arrive in the order sampled, each once, never more than the budget's limit. With temperature 0 sampling is
//! greedy; with a seed it is repeatable.
//!
//! # Does not
//!
//! Does not promise equal ids from a different mix of requests in one step: floating-point sums depend on the shape of
//! the batch, and with them, rarely, the choice between two nearly equal tokens. Does not trim stop sequences from the
//! pieces, because ids and pieces must agree; [`TextStream::with_stops`] trims the text.

mod batch;
mod budget;
mod error;
mod generation;
#[cfg(feature = "llama")]
pub mod llama;
pub mod scripted;
#[cfg(feature = "llama")]
pub mod test_model;
mod text;
mod types;

pub use budget::Budget;
pub use error::Error;
pub use generation::{CHANNEL_TOKENS, Generation};
pub use text::TextStream;
pub use types::{
    ChatMessage, EngineStats, FinishReason, MAX_STOP_BYTES, MAX_STOP_SEQUENCES, ModelInfo, Request, Role, Sampled, SamplerSettings, TokenId,
};

/// One loaded model that generates for many callers at once.
///
/// Cheap to share as `Arc<dyn Engine>`. Dropping the last handle stops the engine; generations still alive end with
/// [`Error::EngineFailed`].
pub trait Engine: Send + Sync + 'static {
    /// What is loaded.
    fn model(&self) -> &ModelInfo;

    /// Renders a conversation by the model's own chat template, ending where the assistant's answer begins.
    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<TokenId>, Error>;

    /// The ids of a text as it stands, without a template.
    fn encode_text(&self, text: &str) -> Result<Vec<TokenId>, Error>;

    /// The bytes that one id stands for, exactly as [`Sampled::bytes`] had them; `None` for an id outside the vocabulary.
    /// A stored run of ids is turned back into text with this and a [`TextStream`].
    fn piece(&self, id: TokenId) -> Option<Vec<u8>>;

    /// Queues a request. Never blocks.
    fn start(&self, request: Request) -> Result<Generation, Error>;

    /// Counters since the engine was opened.
    fn stats(&self) -> EngineStats;
}
