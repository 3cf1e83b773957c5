//! The engine's contract on a real model.
//!
//! Exact ids are compared only between runs that do nothing else at the same time: see the crate's "Does not".

use std::time::Duration;

use milepost_inference::llama::{LlamaEngine, Options};
use milepost_inference::{
    Budget, ChatMessage, Engine, Error, FinishReason, Generation, Request, Role, Sampled, SamplerSettings, TextStream, TokenId, test_model,
};

/// Far more than any of these takes on two busy cores.
const LIMIT: Duration = Duration::from_secs(120);

fn options() -> Options {
    let path = test_model::path().unwrap_or_else(|missing| panic!("{missing}"));
    Options { context_tokens: Some(1024), threads: 1, ..Options::new(path) }
}

fn engine() -> LlamaEngine {
    LlamaEngine::open(&options()).expect("the model loads")
}

fn say(role: Role, content: &str) -> ChatMessage {
    ChatMessage { role, content: content.to_owned() }
}

fn request(prompt: Vec<TokenId>, max_tokens: u32) -> Request {
    Request { prompt, sampler: SamplerSettings::GREEDY, max_tokens, stop: Vec::new(), session: 0, budget: Budget::unlimited() }
}

fn chat(engine: &LlamaEngine, question: &str) -> Vec<TokenId> {
    engine.encode_chat(&[say(Role::System, "You are a guide."), say(Role::User, question)]).unwrap()
}

async fn next(generation: &mut Generation) -> Option<Result<Sampled, Error>> {
    tokio::time::timeout(LIMIT, generation.next()).await.expect("a token or the end within the time limit")
}

async fn all(generation: &mut Generation) -> Vec<Sampled> {
    let mut tokens = Vec::new();
    while let Some(token) = next(generation).await {
        tokens.push(token.expect("no failure"));
    }
    tokens
}

async fn run(engine: &LlamaEngine, asked: Request) -> Vec<Sampled> {
    all(&mut engine.start(asked).unwrap()).await
}

fn ids(tokens: &[Sampled]) -> Vec<TokenId> {
    tokens.iter().map(|token| token.id).collect()
}

fn text(tokens: &[Sampled]) -> String {
    let mut stream = TextStream::new();
    let mut text: String = tokens.iter().map(|token| stream.push(&token.bytes)).collect();
    text.push_str(&stream.finish());
    text
}

#[test]
fn the_digest_is_the_published_one() {
    let engine = engine();
    assert_eq!(hex::encode(engine.model().digest), test_model::SHA256, "this is not the file that scripts/bootstrap fetches");
    assert_eq!((engine.model().context_tokens, engine.model().vocabulary), (1024, 49_152));
    assert_eq!(engine.model().name, "SmolLM2-135M-Instruct.Q4_1");
}

#[tokio::test]
async fn a_greedy_answer_repeats_itself() {
    let engine = engine();
    let prompt = chat(&engine, "Name three rivers.");
    let first = run(&engine, request(prompt.clone(), 40)).await;
    let again = run(&engine, request(prompt, 40)).await;
    assert!(first.len() > 5, "an answer: {:?}", text(&first));
    assert_eq!(first, again);
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_another_seed_does_not() {
    let engine = engine();
    let prompt = chat(&engine, "Tell me a story about a milestone.");
    let sampler = |seed| SamplerSettings { temperature: 1.0, top_p: 0.95, top_k: 40, seed };
    let ask = async |seed| ids(&run(&engine, Request { sampler: sampler(seed), ..request(prompt.clone(), 40) }).await);
    let first = ask(1).await;
    assert_eq!(first, ask(1).await);
    assert_ne!(first, ask(2).await);
}

#[tokio::test]
async fn exactly_as_many_ids_come_as_were_asked_for() {
    let engine = engine();
    let budget = Budget::unlimited();
    let asked = Request { budget: budget.clone(), ..request(engine.encode_text("Once upon a time").unwrap(), 33) };
    let tokens = run(&engine, asked).await;
    assert_eq!((tokens.len(), budget.taken(), engine.stats().sampled), (33, 33, 33));
    assert_eq!(tokens[32].finish, Some(FinishReason::Length));
    assert!(tokens[..32].iter().all(|token| token.finish.is_none()));
}

#[tokio::test]
async fn an_end_of_generation_token_is_delivered_and_counts() {
    let engine = engine();
    let budget = Budget::unlimited();
    let prompt = chat(&engine, "Answer with one word: what is the capital of France?");
    let tokens = run(&engine, Request { budget: budget.clone(), ..request(prompt, 200) }).await;
    let last = tokens.last().unwrap();
    assert_eq!((last.finish, last.bytes.as_slice()), (Some(FinishReason::Stop), [].as_slice()), "{}", text(&tokens));
    assert_eq!(tokens.len() as u64, budget.taken());
}

#[test]
fn the_template_adds_its_own_system_message() {
    let engine = engine();
    let question = say(Role::User, "What is the capital of France?");
    let system = say(Role::System, "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
    assert_eq!(engine.encode_chat(std::slice::from_ref(&question)).unwrap(), engine.encode_chat(&[system, question]).unwrap());
}

#[tokio::test]
async fn four_answers_at_once_are_each_complete() {
    let engine = engine();
    let questions = ["What is a road?", "Count to ten.", "Who was Napoleon?", "Write a poem about rain."];
    let mut generations: Vec<_> = questions.iter().map(|question| engine.start(request(chat(&engine, question), 48)).unwrap()).collect();
    let mut most_running = 0;
    let mut total = 0;
    for generation in &mut generations {
        let mut stream = TextStream::new();
        let (mut bytes, mut shown, mut ids) = (Vec::new(), String::new(), Vec::new());
        let mut finish = None;
        while let Some(token) = next(generation).await {
            let token = token.expect("no failure");
            most_running = most_running.max(engine.stats().running);
            assert_eq!(engine.piece(token.id).as_ref(), Some(&token.bytes));
            shown.push_str(&stream.push(&token.bytes));
            bytes.extend_from_slice(&token.bytes);
            ids.push(token.id);
            finish = token.finish;
        }
        shown.push_str(&stream.finish());
        assert_eq!(shown, String::from_utf8_lossy(&bytes));
        assert!(matches!(finish, Some(FinishReason::Length | FinishReason::Stop)));
        assert!(ids.len() == 48 || finish == Some(FinishReason::Stop));
        total += ids.len() as u64;
    }
    let stats = engine.stats();
    assert_eq!((most_running, stats.sampled), (4, total));
    assert!(stats.steps < total, "{} steps for {total} tokens: the steps were shared", stats.steps);
}

#[tokio::test]
async fn the_second_turn_evaluates_only_what_is_new() {
    let engine = engine();
    let mut conversation = vec![say(Role::System, "You are a guide."), say(Role::User, "Name a river in France.")];
    let prompt = engine.encode_chat(&conversation).unwrap();
    let first = run(&engine, Request { session: 11, ..request(prompt.clone(), 40) }).await;
    conversation.push(say(Role::Assistant, &text(&first)));
    conversation.push(say(Role::User, "And one in Spain?"));
    let second = engine.encode_chat(&conversation).unwrap();
    let fresh = run(&engine, request(second.clone(), 24)).await;
    let mut generation = engine.start(Request { session: 11, ..request(second.clone(), 24) }).unwrap();
    let reused = all(&mut generation).await;
    let cached = usize::try_from(generation.cached_tokens()).unwrap();
    assert!(cached >= prompt.len() && cached < second.len(), "{cached} of {} tokens", second.len());
    assert_eq!(engine.stats().reused_prefix_tokens, cached as u64);
    assert_eq!(generation.prompt_tokens(), second.len() as u64);
    // The first words agree; later ones may differ, since a cached prefix was summed in another shape of batch.
    assert_eq!(ids(&reused)[..4], ids(&fresh)[..4]);
}

#[tokio::test]
async fn a_session_that_goes_back_is_cut_where_it_differs() {
    let engine = engine();
    let prompt = chat(&engine, "Name a river in France.");
    let first = run(&engine, Request { session: 5, ..request(prompt.clone(), 30) }).await;
    let mut generation = engine.start(Request { session: 5, ..request(prompt.clone(), 30) }).unwrap();
    let again = all(&mut generation).await;
    assert_eq!(generation.cached_tokens(), prompt.len() as u64 - 1);
    assert_eq!(ids(&first)[..4], ids(&again)[..4]);
}

#[tokio::test]
async fn a_cancel_stops_within_one_step() {
    let engine = engine();
    let budget = Budget::unlimited();
    let prompt = engine.encode_text("Once upon a time").unwrap();
    let mut generation = engine.start(Request { budget: budget.clone(), ..request(prompt, 500) }).unwrap();
    for _ in 0..3 {
        next(&mut generation).await.unwrap().unwrap();
    }
    generation.cancel();
    let taken = budget.taken();
    all(&mut generation).await;
    assert!(budget.taken() <= taken + 1, "{} tokens after the cancel", budget.taken() - taken);
    assert_eq!(engine.stats().running, 0);
}

#[tokio::test]
async fn a_budget_pauses_and_resumes_without_a_trace_in_the_text() {
    let engine = engine();
    let prompt = engine.encode_text("Once upon a time").unwrap();
    let whole = run(&engine, request(prompt.clone(), 20)).await;
    let budget = Budget::new(0);
    let mut generation = engine.start(Request { budget: budget.clone(), ..request(prompt, 20) }).unwrap();
    let mut tokens = Vec::new();
    for limit in 1..=20 {
        budget.raise_to(limit);
        tokens.push(next(&mut generation).await.unwrap().unwrap());
        assert_eq!((budget.taken(), generation.try_next()), (limit, None));
    }
    assert_eq!(next(&mut generation).await, None);
    assert_eq!(ids(&tokens)[..4], ids(&whole)[..4]);
    assert_eq!(tokens.len(), whole.len());
}

#[tokio::test]
async fn a_prompt_longer_than_a_step_is_read_in_several() {
    let small = LlamaEngine::open(&Options { batch: 32, ..options() }).unwrap();
    let long = "The road goes ever on and on. ".repeat(25) + "The road";
    let prompt = small.encode_text(&long).unwrap();
    assert!(prompt.len() > 150);
    let steps = prompt.len().div_ceil(32) as u64;
    let tokens = run(&small, request(prompt, 5)).await;
    assert_eq!(small.stats().steps, steps + 4, "the last part of the prompt yields the first token");
    assert_eq!(text(&tokens), " goes ever on and on");
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_the_numbers() {
    let engine = engine();
    let prompt = engine.encode_text(&"milestone ".repeat(1024)).unwrap();
    let tokens = prompt.len();
    assert_eq!(engine.start(request(prompt, 5)).unwrap_err(), Error::PromptTooLong { tokens, context: 1024 });
    let huge = "x".repeat(milepost_inference::llama::MAX_TEXT_BYTES + 1);
    assert!(matches!(engine.encode_text(&huge), Err(Error::TextTooLong { .. })));
    assert!(matches!(engine.encode_chat(&[say(Role::User, &huge)]), Err(Error::TextTooLong { .. })));
}

#[tokio::test]
async fn a_full_context_ends_the_answer() {
    let engine = LlamaEngine::open(&Options { context_tokens: Some(40), ..options() }).unwrap();
    // A text that the model repeats for as long as it is let.
    let prompt = engine.encode_text("The road goes ever on and on. The road goes ever on and on. The road").unwrap();
    let room = 40 - prompt.len();
    let tokens = run(&engine, request(prompt, 500)).await;
    assert_eq!((tokens.len(), tokens.last().unwrap().finish), (room, Some(FinishReason::Context)));
}

#[tokio::test]
async fn a_stop_sequence_ends_a_real_answer() {
    let engine = engine();
    let prompt = engine.encode_text("One, two, three, four,").unwrap();
    let asked = Request { stop: vec![" seven".into()], ..request(prompt, 60) };
    let tokens = run(&engine, asked).await;
    assert_eq!(tokens.last().unwrap().finish, Some(FinishReason::StopSequence), "{}", text(&tokens));
    assert!(text(&tokens).contains(" seven"));
}
