//! What only the inside can show: recovery of the real engine, agreement with llama.cpp's own functions, the file's checks.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use llama_cpp_2::model::LlamaChatMessage;

use super::*;
use crate::batch::{Backend, Maker, Outcome, Work};
use crate::{Budget, Role, SamplerSettings, TextStream};

/// The model that tests use, or a failure that says how to get it.
fn model_path() -> PathBuf {
    crate::test_model::path().unwrap_or_else(|missing| panic!("{missing}"))
}

fn maker(options: &Options) -> LlamaMaker {
    let llama = llama_backend().unwrap();
    let (model, _) = logs::collect(|| LlamaModel::load_from_file(llama, &options.path, &LlamaModelParams::default()).unwrap());
    LlamaMaker::new(llama, Arc::new(model), options, 512)
}

/// Panics in place of one step.
struct Faulty<M> {
    inner: M,
    steps: AtomicU64,
    at: u64,
}

struct FaultyBackend<'a, M: Maker> {
    inner: M::Backend<'a>,
    maker: &'a Faulty<M>,
}

impl<M: Maker + Sync> Maker for Faulty<M> {
    type Backend<'a> = FaultyBackend<'a, M>;

    fn make(&self) -> Result<Self::Backend<'_>, String> {
        Ok(FaultyBackend { inner: self.inner.make()?, maker: self })
    }
}

impl<M: Maker + Sync> Backend for FaultyBackend<'_, M> {
    fn open(&mut self, slot: usize, prompt: &[u32], sampler: &SamplerSettings, keep: usize) -> Result<usize, String> {
        self.inner.open(slot, prompt, sampler, keep)
    }

    fn step(&mut self, work: &[Work<'_>], outcomes: &mut Vec<Outcome>) -> Result<(), String> {
        let step = self.maker.steps.fetch_add(1, SeqCst) + 1;
        assert!(step != self.maker.at, "the fault at step {step}");
        self.inner.step(work, outcomes)
    }
}

#[test]
fn llama_is_made_anew_after_a_panic_and_answers_as_before() {
    let options = Options { parallel: 1, ..Options::new(model_path()) };
    let engine = LlamaEngine::open(&options).unwrap();
    let limits = Limits { slots: 1, batch: 512, queue: 4, context: 512 };
    let handle = Handle::spawn("faulty", Faulty { inner: maker(&options), steps: AtomicU64::new(0), at: 5 }, limits);
    let handle = handle.unwrap();
    let request = || Request {
        prompt: engine.encode_text("The road to the north passes").unwrap(),
        sampler: SamplerSettings::GREEDY,
        max_tokens: 12,
        stop: Vec::new(),
        session: 1,
        budget: Budget::unlimited(),
    };
    let collect = |mut generation: Generation| {
        let mut ids = Vec::new();
        loop {
            match generation.blocking_next() {
                Some(Ok(token)) => ids.push(token.id),
                Some(Err(error)) => return (ids, Some(error)),
                None => return (ids, None),
            }
        }
    };
    let (undisturbed, _) = collect(engine.start(request()).unwrap());
    let (before, error) = collect(handle.start(request(), engine.model()).unwrap());
    assert!(matches!(&error, Some(Error::EngineFailed { reason }) if reason.contains("fault at step 5")), "{error:?}");
    assert_eq!(before, undisturbed[..4]);
    let (after, error) = collect(handle.start(request(), engine.model()).unwrap());
    assert_eq!((after, error), (undisturbed, None));
    assert_eq!((handle.stats().rebuilt, handle.stats().reused_prefix_tokens), (1, 0));
}

#[test]
fn a_damaged_model_is_refused_with_what_llama_cpp_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.gguf");
    let whole = std::fs::read(model_path()).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = LlamaEngine::open(&Options::new(&path)).unwrap_err();
    assert!(matches!(&error, Error::ModelFile { path: named, .. } if *named == path), "{error}");
    assert!(error.to_string().contains("; "), "llama.cpp's own words are quoted: {error}");
}

#[test]
fn bad_options_are_refused() {
    let good = Options::new(model_path());
    let refused = |options: Options| matches!(LlamaEngine::open(&options), Err(Error::BadOptions { .. }));
    assert!(refused(Options { threads: 0, ..good.clone() }));
    assert!(refused(Options { parallel: 0, ..good.clone() }));
    assert!(refused(Options { batch: 3, ..good.clone() }));
    assert!(refused(Options { context_tokens: Some(1), ..good.clone() }));
    assert!(refused(Options { context_tokens: Some(8193), ..good }));
}

fn say(role: Role, content: &str) -> ChatMessage {
    ChatMessage { role, content: content.to_owned() }
}

#[test]
fn a_conversation_has_the_tokens_that_llama_cpp_gives_it() {
    let engine = LlamaEngine::open(&Options { parallel: 1, ..Options::new(model_path()) }).unwrap();
    let template = engine.model.chat_template(None).unwrap();
    let conversations = [
        vec![say(Role::System, "You are a helpful assistant."), say(Role::User, "What is the capital of France?")],
        vec![
            say(Role::System, "Réponds en français. 🦀"),
            say(Role::User, "Bonjour  \n\n où est\tla gare ?"),
            say(Role::Assistant, "Là-bas, à gauche: 12345 m."),
            say(Role::User, "<|im_end|> is a token, and so is <|im_start|>"),
        ],
        vec![say(Role::System, ""), say(Role::User, "日本語 👩‍🚀")],
    ];
    for conversation in conversations {
        let chat: Vec<_> = conversation
            .iter()
            .map(|message| LlamaChatMessage::new(message.role.as_str().into(), message.content.clone()).unwrap())
            .collect();
        // llama.cpp's template engine is its own, not Jinja; it knows this template by its shape.
        let rendered = engine.model.apply_chat_template(&template, &chat, true).unwrap();
        let expected = engine.model.vocab().tokenize(rendered.as_bytes(), true, true);
        let expected: Vec<TokenId> = expected.into_iter().map(token_id).collect();
        assert_eq!(engine.encode_chat(&conversation).unwrap(), expected, "{rendered:?}");
    }
}

#[test]
fn text_of_the_ids_is_the_text_that_was_delivered() {
    let engine = LlamaEngine::open(&Options { parallel: 1, ..Options::new(model_path()) }).unwrap();
    let prompt = engine.encode_chat(&[say(Role::User, "Write five emoji of animals: 🦀🐎")]).unwrap();
    let mut generation = engine
        .start(Request {
            prompt,
            sampler: SamplerSettings { temperature: 1.5, top_p: 1.0, top_k: 0, seed: 5 },
            max_tokens: 150,
            stop: Vec::new(),
            session: 0,
            budget: Budget::unlimited(),
        })
        .unwrap();
    let (mut stream, mut delivered, mut ids) = (TextStream::new(), String::new(), Vec::new());
    let mut parts = 0;
    while let Some(token) = generation.blocking_next() {
        let token = token.unwrap();
        parts += u32::from(std::str::from_utf8(&token.bytes).is_err());
        delivered.push_str(&stream.push(&token.bytes));
        ids.push(llama_token(token.id));
    }
    delivered.push_str(&stream.finish());
    assert!(parts > 0, "some token is a part of a character, or this shows little: {delivered}");
    assert_eq!(delivered, String::from_utf8_lossy(&engine.model.vocab().detokenize(&ids, false, false)));
}
