//! What can go wrong, each with what would be right.

use std::path::PathBuf;

use crate::TokenId;

/// Why an engine refused a request, or gave one up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to continue from.
    #[error("the prompt is empty; it must have at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens; the context holds {context}, of which one must stay free for the answer")]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens in the context.
        context: u32,
    },
    /// The prompt names an id that the model does not have.
    #[error("token id {id} is not in the vocabulary; ids must be below {vocabulary}")]
    UnknownToken {
        /// The id.
        id: TokenId,
        /// Number of ids.
        vocabulary: u32,
    },
    /// `max_tokens` was 0.
    #[error("max_tokens is 0; it must be at least 1")]
    NoTokensAsked,
    /// A sampler setting outside its range.
    #[error("bad sampler settings: {reason}")]
    BadSampler {
        /// Which, and what is allowed.
        reason: String,
    },
    /// A stop sequence that cannot be searched for.
    #[error("bad stop sequences: {reason}")]
    BadStop {
        /// Which, and what is allowed.
        reason: String,
    },
    /// As many requests wait as may wait. Try again later.
    #[error("the engine is busy: {queued} requests are waiting and the limit is {limit}; try again later")]
    Busy {
        /// Requests waiting now.
        queued: usize,
        /// Most that may wait.
        limit: usize,
    },
    /// The engine failed while this generation ran, or is gone. Tokens delivered before stay valid.
    #[error("the engine failed: {reason}; what was delivered stays valid, ask again for the rest")]
    EngineFailed {
        /// What happened.
        reason: String,
    },
    /// The conversation cannot be rendered by the model's template.
    #[error("the conversation cannot be rendered: {reason}")]
    BadMessages {
        /// What the template or the tokenizer said.
        reason: String,
    },
    /// A text too long to be worth counting its tokens.
    #[error("the text has {bytes} bytes; at most {limit} are taken")]
    TextTooLong {
        /// Bytes in the text.
        bytes: usize,
        /// Most that are taken.
        limit: usize,
    },
    /// The model file cannot be used.
    #[error("model file {}: {reason}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A setting of the engine outside its range.
    #[error("bad engine options: {reason}")]
    BadOptions {
        /// Which, and what is allowed.
        reason: String,
    },
}
