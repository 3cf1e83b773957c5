//! An engine without a model: deterministic, instant or paced, with faults on request.
//!
//! For tests of everything above an engine, and for a first look at the node before a model is there. It runs on the
//! same scheduler as the real one, so queueing, budgets, cancelling, prefix reuse and recovery are the real thing; only
//! the words are made up.
//!
//! The answer is a function of the prompt's ids, the seed (unless greedy) and the position: SHA-256 picks words, and
//! about one time in eight an emoji, whose four bytes are four tokens. So token, character and chunk differ, as they do
//! with real models.
//!
//! # Guarantees
//!
//! Equal requests give equal answers, whatever else runs. The backend checks that the scheduler shows it each
//! sequence's tokens once, in order, without gaps; a mistake there fails the engine.

mod words;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::batch::{Backend, Handle, Limits, Maker, Outcome, Work};
use crate::{ChatMessage, Engine, EngineStats, Error, Generation, ModelInfo, Request, SamplerSettings, TokenId};

/// The name under which the engine's model is asked for, unless the options say otherwise.
pub const NAME: &str = "scripted";

/// How a scripted engine behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Model name.
    pub name: String,
    /// Text tokens of an answer; the end-of-generation token follows as one more. `None`: no end of its own.
    pub answer_tokens: Option<u32>,
    /// Steps per second while anything samples, so tokens per second of each sequence. `None`: as fast as it goes.
    pub tokens_per_second: Option<u32>,
    /// Prompt and answer together.
    pub context_tokens: u32,
    /// Sequences that run at once.
    pub parallel: usize,
    /// Tokens evaluated in one step.
    pub batch: usize,
    /// Requests that may wait beyond those that run.
    pub queue: usize,
    /// What goes wrong, once.
    pub fault: Option<Fault>,
}

/// Something to go wrong, once in the life of an engine. Tokens are counted over all its generations, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step that should sample the engine's n-th token panics.
    PanicAt(u64),
    /// The sequence that should get the engine's n-th token never gets another. Cancelling still works.
    StallAt(u64),
    /// Every step panics from the n-th token on: an engine that cannot be helped by making it anew.
    PanicFrom(u64),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: NAME.to_owned(),
            answer_tokens: Some(96),
            tokens_per_second: None,
            context_tokens: 8192,
            parallel: 4,
            batch: 512,
            queue: 64,
            fault: None,
        }
    }
}

/// The scripted engine.
#[derive(Debug)]
pub struct ScriptedEngine {
    model: ModelInfo,
    handle: Handle,
}

impl ScriptedEngine {
    /// Starts the engine's thread.
    pub fn new(options: Options) -> Result<Self, Error> {
        let bad = |reason: &str| Err(Error::BadOptions { reason: reason.to_owned() });
        if options.parallel == 0 || options.batch < options.parallel {
            return bad("at least one sequence must run, and the batch must hold a token of each that does");
        }
        if options.context_tokens < 2 {
            return bad("the context must hold at least one token of prompt and one of answer");
        }
        if options.tokens_per_second == Some(0) {
            return bad("tokens_per_second is 0; leave it out for full speed");
        }
        let limits =
            Limits { slots: options.parallel, batch: options.batch, queue: options.queue, context: options.context_tokens as usize };
        let model = ModelInfo {
            name: options.name.clone(),
            digest: digest(),
            context_tokens: options.context_tokens,
            vocabulary: words::vocabulary(),
            description: "no model: words picked by SHA-256 of the prompt".to_owned(),
        };
        let maker = ScriptedMaker { options, sampled: AtomicU64::new(0) };
        let handle = Handle::spawn("scripted-engine", maker, limits).map_err(|reason| Error::EngineFailed { reason })?;
        Ok(Self { model, handle })
    }

    #[cfg(test)]
    pub(crate) fn turns(&self) -> u64 {
        self.handle.turns()
    }
}

/// The scripted model's digest: that of its name and script version, since there is no file.
pub fn digest() -> [u8; 32] {
    Sha256::digest(b"milepost scripted model v1").into()
}

impl Engine for ScriptedEngine {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn encode_chat(&self, messages: &[ChatMessage]) -> Result<Vec<TokenId>, Error> {
        if messages.is_empty() {
            return Err(Error::BadMessages { reason: "there are no messages; send at least one".into() });
        }
        let mut ids = Vec::new();
        for message in messages {
            ids.push(words::START);
            words::encode(message.role.as_str(), &mut ids);
            words::encode("\n", &mut ids);
            words::encode(&message.content, &mut ids);
            ids.push(words::CLOSE);
        }
        ids.push(words::START);
        words::encode("assistant\n", &mut ids);
        Ok(ids)
    }

    fn encode_text(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        let mut ids = Vec::new();
        words::encode(text, &mut ids);
        Ok(ids)
    }

    fn piece(&self, id: TokenId) -> Option<Vec<u8>> {
        words::piece(id)
    }

    fn start(&self, request: Request) -> Result<Generation, Error> {
        self.handle.start(request, &self.model)
    }

    fn stats(&self) -> EngineStats {
        self.handle.stats()
    }
}

struct ScriptedMaker {
    options: Options,
    /// Over all backends, so that a fault happens once and not again after it.
    sampled: AtomicU64,
}

impl Maker for ScriptedMaker {
    type Backend<'a> = ScriptedBackend<'a>;

    fn make(&self) -> Result<Self::Backend<'_>, String> {
        let slots = (0..self.options.parallel).map(|_| Script::default()).collect();
        Ok(ScriptedBackend { maker: self, slots, next_step: Instant::now() })
    }
}

struct ScriptedBackend<'a> {
    maker: &'a ScriptedMaker,
    slots: Vec<Script>,
    next_step: Instant,
}

/// One slot's text.
#[derive(Debug, Default)]
struct Script {
    evaluated: Vec<TokenId>,
    seed: [u8; 32],
    picks: u64,
    answered: u32,
    /// The rest of the emoji picked last.
    rest: VecDeque<TokenId>,
    /// What was sampled and must be evaluated next.
    expected: Option<TokenId>,
}

impl Script {
    fn next(&mut self, answer_tokens: Option<u32>) -> TokenId {
        if answer_tokens.is_some_and(|answer| self.answered >= answer) {
            return words::END;
        }
        self.answered += 1;
        if self.rest.is_empty() {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.picks.to_le_bytes());
            self.picks += 1;
            self.rest.extend(words::pick(&hash.finalize().into()));
        }
        self.rest.pop_front().expect("a pick has at least one token")
    }
}

impl Backend for ScriptedBackend<'_> {
    fn open(&mut self, slot: usize, prompt: &[TokenId], sampler: &SamplerSettings, keep: usize) -> Result<usize, String> {
        let script = &mut self.slots[slot];
        assert!(keep < prompt.len() && script.evaluated.get(..keep) == Some(&prompt[..keep]), "kept tokens are cached");
        let mut hash = Sha256::new();
        if sampler.temperature > 0.0 {
            hash.update(sampler.seed.to_le_bytes());
        }
        for id in prompt {
            hash.update(id.to_le_bytes());
        }
        let mut evaluated = std::mem::take(&mut script.evaluated);
        evaluated.truncate(keep);
        *script = Script { evaluated, seed: hash.finalize().into(), ..Script::default() };
        Ok(keep)
    }

    fn step(&mut self, work: &[Work<'_>], outcomes: &mut Vec<Outcome>) -> Result<(), String> {
        let options = &self.maker.options;
        let tokens: usize = work.iter().map(|item| item.tokens.len()).sum();
        assert!(tokens <= options.batch, "a step of {tokens} tokens over the batch limit of {}", options.batch);
        for item in work {
            let script = &mut self.slots[item.slot];
            assert_eq!(item.position, script.evaluated.len(), "tokens are evaluated in order, without gaps");
            if let Some(expected) = script.expected.take() {
                assert_eq!(item.tokens, [expected], "what was sampled is evaluated next");
            }
            script.evaluated.extend_from_slice(item.tokens);
            if !item.sample {
                continue;
            }
            let count = self.maker.sampled.fetch_add(1, SeqCst) + 1;
            match options.fault {
                Some(Fault::PanicAt(at)) if at == count => panic!("the scripted fault at token {count}"),
                Some(Fault::PanicFrom(at)) if at <= count => panic!("the scripted fault from token {at} on"),
                Some(Fault::StallAt(at)) if at == count => {
                    outcomes.push(Outcome::Stalled);
                    continue;
                }
                _ => {}
            }
            let id = script.next(options.answer_tokens);
            let end = id == words::END;
            script.expected = Some(id);
            let bytes = words::piece(id).expect("picked from the vocabulary");
            outcomes.push(Outcome::Token { id, bytes, end });
        }
        if let (Some(pace), false) = (options.tokens_per_second, outcomes.is_empty()) {
            let now = Instant::now();
            std::thread::sleep(self.next_step.saturating_duration_since(now));
            self.next_step = self.next_step.max(now) + Duration::from_secs(1) / pace;
        }
        Ok(())
    }
}
