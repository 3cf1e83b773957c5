//! llama.cpp in this process.
//!
//! Context and samplers belong to the scheduler's thread; the model's weights and vocabulary, which nothing changes after
//! loading, are shared, so that prompts are tokenised on the caller's thread without waiting for a step. Each sequence
//! has its own part of the cache (`context_tokens` long), so one that fills up takes nothing from the others.
//!
//! # Guarantees
//!
//! [`ModelInfo::digest`] is the SHA-256 of the file that was loaded: its size and time are compared before and after.
//! Ids are those of llama.cpp's own tokenizer and sampler. Every sampled id is delivered, the end of generation included.
//!
//! # Does not
//!
//! Does not survive an abort inside llama.cpp (a failed `GGML_ASSERT` ends the process); what it catches are panics and
//! errors that llama.cpp returns. Does not give templates the date (`strftime_now` is undefined, as for a template's own
//! default): equal conversations must give equal prompts.

mod backend;
mod digest;
mod logs;
mod template;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use crate::batch::{Handle, Limits};
use crate::{ChatMessage, Engine, EngineStats, Error, Generation, ModelInfo, Request, TokenId};
use backend::LlamaMaker;
use template::ChatTemplate;

/// Longest text that is tokenised: some sixteen times the longest contexts in use, and quick to refuse.
pub const MAX_TEXT_BYTES: usize = 8 << 20;

/// Context of a sequence where the options leave it open and the model was trained for more: the cache is allocated
/// whole, and for a large model each thousand tokens cost a good part of a gigabyte.
pub const DEFAULT_CONTEXT_TOKENS: u32 = 4096;

/// How the model is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The GGUF file.
    pub path: PathBuf,
    /// Name under which clients ask for it; the file's name without its ending by default.
    pub name: Option<String>,
    /// Threads that compute. One core fewer than there are by default, at least 1: on a machine with all cores taken
    /// llama.cpp's threads wait for each other and everything else waits for them.
    pub threads: u32,
    /// Prompt and answer of one sequence; by default what the model was trained for, at most [`DEFAULT_CONTEXT_TOKENS`].
    pub context_tokens: Option<u32>,
    /// Sequences that run at once.
    pub parallel: usize,
    /// Tokens evaluated in one step. Larger reads long prompts a little faster and makes running answers wait longer.
    pub batch: usize,
    /// Requests that may wait beyond those that run.
    pub queue: usize,
    /// Layers on a GPU, where the build has one; the rest runs on the CPU.
    pub gpu_layers: u32,
    /// Flash attention.
    pub flash_attention: bool,
}

impl Options {
    /// Defaults for a model file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            path: path.into(),
            name: None,
            threads: u32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(u32::MAX),
            context_tokens: None,
            parallel: 4,
            batch: 512,
            queue: 64,
            gpu_layers: 0,
            flash_attention: true,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |reason: String| Err(Error::BadOptions { reason });
        if self.threads == 0 || self.threads > 512 {
            return bad(format!("threads is {}; it must be between 1 and 512", self.threads));
        }
        // llama.cpp's own bound, LLAMA_MAX_SEQ.
        if self.parallel == 0 || self.parallel > 256 {
            return bad(format!("parallel is {}; it must be between 1 and 256", self.parallel));
        }
        if self.batch < self.parallel || self.batch > 1 << 16 {
            return bad(format!(
                "batch is {}; it must hold a token of each of the {} parallel sequences, and at most 65536",
                self.batch, self.parallel
            ));
        }
        if self.context_tokens.is_some_and(|tokens| tokens < 2) {
            return bad("context_tokens is under 2; it must hold at least a token of prompt and one of answer".into());
        }
        Ok(())
    }
}

/// A model in this process.
#[derive(Debug)]
pub struct LlamaEngine {
    // First, so that the thread has ended before the model goes.
    handle: Handle,
    model: Arc<LlamaModel>,
    info: ModelInfo,
    template: Result<ChatTemplate, String>,
}

impl LlamaEngine {
    /// Reads, checks and loads the model file and starts the engine. Blocks for as long as that takes: seconds for large
    /// files, most of them for the digest.
    pub fn open(options: &Options) -> Result<Self, Error> {
        options.check()?;
        let wrong = |reason: String| Error::ModelFile { path: options.path.clone(), reason };
        let (digest, stamp) = digest::of_model(&options.path).map_err(wrong)?;
        let llama = llama_backend().map_err(|reason| Error::EngineFailed { reason })?;
        let params = LlamaModelParams::default().with_n_gpu_layers(options.gpu_layers);
        let (loaded, log) = logs::collect(|| LlamaModel::load_from_file(llama, &options.path, &params));
        let model = loaded.map_err(|error| wrong(format!("llama.cpp does not load it: {error}{}", log.errors())))?;
        if digest::stamp(&options.path).map_err(wrong)? != stamp {
            return Err(wrong("it changed while it was being loaded; start again when it is complete".into()));
        }

        let trained = model.n_ctx_train();
        let context = options.context_tokens.unwrap_or(trained.min(DEFAULT_CONTEXT_TOKENS));
        if context > trained {
            return Err(Error::BadOptions { reason: format!("context_tokens is {context}; the model was trained for at most {trained}") });
        }
        let vocabulary = u32::try_from(model.n_vocab()).map_err(|_| wrong("it has no vocabulary".into()))?;
        let info = ModelInfo {
            name: options.name.clone().unwrap_or_else(|| file_stem(&options.path)),
            digest,
            context_tokens: context,
            vocabulary,
            description: describe(&model),
        };
        let template = ChatTemplate::of(&model);
        if let Err(reason) = &template {
            tracing::warn!(model = %info.name, %reason, "the model answers plain prompts only");
        }

        let model = Arc::new(model);
        let limits = Limits { slots: options.parallel, batch: options.batch, queue: options.queue, context: context as usize };
        let maker = LlamaMaker::new(llama, Arc::clone(&model), options, context);
        let handle = Handle::spawn("llama-engine", maker, limits).map_err(|reason| Error::EngineFailed { reason })?;
        tracing::info!(
            model = %info.name, context, threads = options.threads, parallel = options.parallel, "the model is loaded"
        );
        Ok(Self { handle, model, info, template })
    }

    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::TextTooLong { bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
        // Both as llama-server does: the model's own first token, and control tokens where the text spells them.
        let ids = self.model.vocab().tokenize(text.as_bytes(), true, true);
        Ok(ids.into_iter().map(token_id).collect())
    }
}

impl Engine for LlamaEngine {
    fn model(&self) -> &ModelInfo {
        &self.info
    }

    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<TokenId>, Error> {
        let template = self.template.as_ref().map_err(|reason| Error::BadMessages { reason: reason.clone() })?;
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        if bytes > MAX_TEXT_BYTES {
            return Err(Error::TextTooLong { bytes, limit: MAX_TEXT_BYTES });
        }
        self.tokenize(&template.render(messages)?)
    }

    fn encode_text(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        self.tokenize(text)
    }

    fn piece(&self, id: TokenId) -> Option<Vec<u8>> {
        (id < self.info.vocabulary).then(|| piece(&self.model, llama_token(id)))
    }

    fn start(&self, request: Request) -> Result<Generation, Error> {
        self.handle.start(request, &self.info)
    }

    fn stats(&self) -> EngineStats {
        self.handle.stats()
    }
}

/// The text of a token. Control tokens, the ends of generation among them, have none.
fn piece(model: &LlamaModel, token: LlamaToken) -> Vec<u8> {
    let vocab = model.vocab();
    if vocab.is_eog(token) { Vec::new() } else { vocab.token_to_piece(token, false, None) }
}

fn token_id(token: LlamaToken) -> TokenId {
    TokenId::try_from(token.0).expect("llama.cpp's real tokens are not negative")
}

fn llama_token(id: TokenId) -> LlamaToken {
    LlamaToken(i32::try_from(id).expect("ids are checked against the vocabulary, whose size is an i32"))
}

/// llama.cpp's process-wide state: made once, never dropped.
fn llama_backend() -> Result<&'static LlamaBackend, String> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            logs::install();
            let (made, _) = logs::collect(LlamaBackend::init);
            made.map_err(|error| format!("llama.cpp does not start: {error}"))
        })
        .as_ref()
        .map_err(Clone::clone)
}

fn file_stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn describe(model: &LlamaModel) -> String {
    let name = model.meta_val_str("general.name").unwrap_or_else(|_| "unnamed".to_owned());
    let architecture = model.meta_val_str("general.architecture").unwrap_or_else(|_| "unknown".to_owned());
    format!("{name} ({architecture}, {} million parameters, {} MiB)", model.n_params() / 1_000_000, model.size() >> 20)
}
