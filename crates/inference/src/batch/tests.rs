//! The scheduler's promises, on the scripted engine.

use std::sync::Arc;
use std::time::Duration;

use crate::scripted::{Fault, Options, ScriptedEngine};
use crate::{Budget, CHANNEL_TOKENS, Engine, Error, FinishReason, Generation, Request, Sampled, SamplerSettings, TextStream};

/// Far more than any of these takes; a hang fails by name instead of blocking the run.
const LIMIT: Duration = Duration::from_secs(30);

fn engine(options: Options) -> ScriptedEngine {
    ScriptedEngine::new(options).expect("the scripted engine starts")
}

fn request(engine: &dyn Engine, prompt: &str, max_tokens: u32, budget: &Budget) -> Request {
    Request {
        prompt: engine.encode_text(prompt).unwrap(),
        sampler: SamplerSettings::GREEDY,
        max_tokens,
        stop: Vec::new(),
        session: 0,
        budget: budget.clone(),
    }
}

async fn next(generation: &mut Generation) -> Option<Result<Sampled, Error>> {
    tokio::time::timeout(LIMIT, generation.next()).await.expect("a token or the end within the time limit")
}

async fn take(generation: &mut Generation, count: usize) -> Vec<Sampled> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(next(generation).await.expect("another token").expect("no failure"));
    }
    taken
}

async fn all(generation: &mut Generation) -> Vec<Sampled> {
    let mut taken = Vec::new();
    while let Some(sampled) = next(generation).await {
        taken.push(sampled.expect("no failure"));
    }
    taken
}

fn endless() -> Options {
    Options { answer_tokens: None, ..Options::default() }
}

#[tokio::test]
async fn an_answer_ends_with_an_end_token_that_counts() {
    let engine = engine(Options { answer_tokens: Some(7), ..Options::default() });
    let budget = Budget::unlimited();
    let mut generation = engine.start(request(&engine, "hello", 100, &budget)).unwrap();
    let tokens = all(&mut generation).await;
    assert_eq!(tokens.len(), 8);
    let last = tokens.last().unwrap();
    assert_eq!((last.finish, last.bytes.len()), (Some(FinishReason::Stop), 0));
    assert!(tokens[..7].iter().all(|token| token.finish.is_none() && !token.bytes.is_empty()));
    assert_eq!((budget.taken(), engine.stats().sampled), (8, 8));
    assert!(generation.is_ended());
}

#[tokio::test]
async fn equal_requests_give_equal_answers_and_seeds_tell_others_apart() {
    let engine = engine(endless());
    let run = async |prompt: &str, sampler: SamplerSettings| {
        let asked = Request { sampler, ..request(&engine, prompt, 40, &Budget::unlimited()) };
        let tokens = all(&mut engine.start(asked).unwrap()).await;
        tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    let seeded = |seed| SamplerSettings { temperature: 0.8, seed, ..SamplerSettings::GREEDY };
    assert_eq!(run("one", SamplerSettings::GREEDY).await, run("one", SamplerSettings::GREEDY).await);
    assert_ne!(run("one", SamplerSettings::GREEDY).await, run("two", SamplerSettings::GREEDY).await);
    assert_eq!(run("one", seeded(1)).await, run("one", seeded(1)).await);
    assert_ne!(run("one", seeded(1)).await, run("one", seeded(2)).await);
}

#[tokio::test]
async fn characters_are_spread_over_tokens_and_come_together_again() {
    let engine = engine(endless());
    let mut generation = engine.start(request(&engine, "crabs", 400, &Budget::unlimited())).unwrap();
    let tokens = all(&mut generation).await;
    assert_eq!(tokens.len(), 400);
    assert!(tokens.iter().any(|token| std::str::from_utf8(&token.bytes).is_err()), "some token is part of a character");
    let mut stream = TextStream::new();
    let chunks: Vec<String> = tokens.iter().map(|token| stream.push(&token.bytes)).collect();
    assert!(chunks.iter().filter(|chunk| !chunk.is_empty()).count() < tokens.len(), "fewer chunks than tokens");
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| engine.piece(token.id).unwrap()).collect();
    assert_eq!(chunks.concat() + &stream.finish(), String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn a_spent_budget_pauses_and_a_raise_resumes() {
    let engine = engine(endless());
    let budget = Budget::new(5);
    let mut generation = engine.start(request(&engine, "pay as you go", 20, &budget)).unwrap();
    let first = take(&mut generation, 5).await;
    assert_eq!(generation.try_next(), None);
    assert!(!generation.is_ended());
    budget.raise_to(12);
    let second = take(&mut generation, 7).await;
    assert_eq!((budget.taken(), generation.try_next()), (12, None));
    budget.raise_to(u64::MAX);
    let third = all(&mut generation).await;
    let paused: Vec<_> = [first, second, third].concat();
    let at_once = all(&mut engine.start(request(&engine, "pay as you go", 20, &Budget::unlimited())).unwrap()).await;
    assert_eq!(paused, at_once, "pausing changes nothing in the answer");
}

#[tokio::test]
async fn a_prompt_is_evaluated_but_not_sampled_without_a_budget() {
    let engine = engine(Options { batch: 8, ..endless() });
    let budget = Budget::new(0);
    let mut generation = engine.start(request(&engine, "zzzz zzzz zzzz zzzz", 3, &budget)).unwrap();
    // Another one's whole answer passes meanwhile.
    all(&mut engine.start(request(&engine, "x", 30, &Budget::unlimited())).unwrap()).await;
    assert_eq!((generation.try_next(), budget.taken()), (None, 0));
    budget.raise_to(3);
    assert_eq!(all(&mut generation).await.len(), 3);
}

#[tokio::test]
async fn a_paused_engine_sleeps() {
    let paused = engine(endless());
    let budget = Budget::new(3);
    let mut generation = paused.start(request(&paused, "wait", 10, &budget)).unwrap();
    take(&mut generation, 3).await;
    let clock = engine(Options { tokens_per_second: Some(100), ..endless() });
    let mut ticks = clock.start(request(&clock, "tick", 20, &Budget::unlimited())).unwrap();
    take(&mut ticks, 1).await;
    let before = (paused.turns(), paused.stats().steps);
    assert_eq!(all(&mut ticks).await.len(), 19);
    // A few late wake-ups are no harm; a loop that spins makes a hundred thousand turns in that time.
    assert!(paused.turns() - before.0 <= 5, "{} turns in 0.2 s without work", paused.turns() - before.0);
    assert_eq!(paused.stats().steps, before.1);
    budget.raise_to(4);
    take(&mut generation, 1).await;
}

#[tokio::test]
async fn a_cancel_is_obeyed_within_one_step() {
    let engine = engine(Options { tokens_per_second: Some(200), ..endless() });
    let budget = Budget::unlimited();
    let mut generation = engine.start(request(&engine, "stop me", 1_000, &budget)).unwrap();
    take(&mut generation, 3).await;
    generation.cancel();
    let taken = budget.taken();
    all(&mut generation).await;
    assert!(budget.taken() <= taken + 1, "{} tokens after the cancel", budget.taken() - taken);
    assert!(generation.is_ended());
    assert_eq!(engine.stats().running, 0);
}

#[tokio::test]
async fn dropping_a_generation_frees_its_slot() {
    let engine = engine(Options { parallel: 1, ..endless() });
    let budget = Budget::new(4);
    let mut dropped = engine.start(request(&engine, "first", 1_000, &budget)).unwrap();
    take(&mut dropped, 4).await;
    let mut waiting = engine.start(request(&engine, "second", 3, &Budget::unlimited())).unwrap();
    assert_eq!(waiting.try_next(), None);
    drop(dropped);
    assert_eq!(all(&mut waiting).await.len(), 3);
    assert_eq!(budget.taken(), 4);
}

#[tokio::test]
async fn a_request_cancelled_while_it_waits_is_forgotten() {
    let engine = engine(Options { parallel: 1, ..endless() });
    let mut running = engine.start(request(&engine, "first", 1_000, &Budget::new(1))).unwrap();
    take(&mut running, 1).await;
    let budget = Budget::unlimited();
    let mut waiting = engine.start(request(&engine, "second", 3, &budget)).unwrap();
    waiting.cancel();
    assert_eq!(next(&mut waiting).await, None);
    assert_eq!((engine.stats().queued, budget.taken()), (0, 0));
    drop(running);
}

#[tokio::test]
async fn a_reader_that_never_reads_pauses_only_itself() {
    let engine = engine(endless());
    let unread_budget = Budget::unlimited();
    let mut unread = engine.start(request(&engine, "slow", 300, &unread_budget)).unwrap();
    let read = all(&mut engine.start(request(&engine, "fast", 500, &Budget::unlimited())).unwrap()).await;
    assert_eq!(read.len(), 500);
    assert_eq!(unread_budget.taken(), CHANNEL_TOKENS as u64);
    let late = all(&mut unread).await;
    assert_eq!(late.len(), 300);
    let fresh = all(&mut engine.start(request(&engine, "slow", 300, &Budget::unlimited())).unwrap()).await;
    assert_eq!(late, fresh);
}

#[tokio::test]
async fn a_panic_ends_running_generations_with_a_typed_error_and_the_engine_goes_on() {
    let engine = engine(Options { fault: Some(Fault::PanicAt(12)), parallel: 2, ..endless() });
    let gate = Budget::new(3);
    let mut first = engine.start(request(&engine, "first", 50, &gate)).unwrap();
    let mut second = engine.start(request(&engine, "second", 50, &Budget::new(2))).unwrap();
    take(&mut first, 3).await;
    take(&mut second, 2).await;
    let mut third = engine.start(request(&engine, "third", 10, &Budget::unlimited())).unwrap();
    gate.raise_to(50);
    let mut tokens = 3;
    let error = loop {
        match next(&mut first).await.expect("a failure, not a silent end") {
            Ok(_) => tokens += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(tokens, 9, "what was sampled before the fault is delivered");
    assert!(matches!(&error, Error::EngineFailed { reason } if reason.contains("scripted fault")), "{error}");
    assert_eq!(next(&mut first).await, None);
    assert_eq!(next(&mut second).await, Some(Err(error)));
    assert_eq!(all(&mut third).await.len(), 10, "a request that waited does not notice");
    assert_eq!(engine.stats().rebuilt, 1);
}

#[tokio::test]
async fn an_engine_that_fails_without_a_step_is_given_up() {
    let engine = engine(Options { fault: Some(Fault::PanicFrom(1)), parallel: 1, ..endless() });
    let mut generations: Vec<_> =
        (0..5).map(|_| engine.start(request(&engine, "x", 5, &Budget::unlimited()))).filter_map(Result::ok).collect();
    for generation in &mut generations {
        assert!(matches!(next(generation).await, Some(Err(Error::EngineFailed { .. }))));
    }
    assert!(matches!(
        engine.start(request(&engine, "x", 5, &Budget::unlimited())),
        Err(Error::EngineFailed { reason }) if reason.contains("scripted fault")
    ));
}

#[tokio::test]
async fn a_stalled_sequence_can_be_cancelled_and_holds_up_nobody() {
    let engine = engine(Options { fault: Some(Fault::StallAt(4)), ..endless() });
    let mut stalled = engine.start(request(&engine, "stuck", 50, &Budget::unlimited())).unwrap();
    take(&mut stalled, 3).await;
    assert_eq!(all(&mut engine.start(request(&engine, "free", 50, &Budget::unlimited())).unwrap()).await.len(), 50);
    assert_eq!(stalled.try_next(), None);
    stalled.cancel();
    assert_eq!(next(&mut stalled).await, None);
}

#[tokio::test]
async fn a_generation_learns_that_its_engine_was_dropped() {
    let engine = Arc::new(engine(endless()));
    let mut running = engine.start(request(&*engine, "x", 50, &Budget::new(1))).unwrap();
    take(&mut running, 1).await;
    drop(engine);
    assert!(matches!(next(&mut running).await, Some(Err(Error::EngineFailed { .. }))));
}

#[tokio::test]
async fn requests_beyond_the_queue_are_refused_with_the_numbers() {
    let engine = engine(Options { parallel: 1, queue: 2, ..endless() });
    let mut held = engine.start(request(&engine, "held", 5, &Budget::new(1))).unwrap();
    take(&mut held, 1).await;
    let start = || engine.start(request(&engine, "more", 5, &Budget::unlimited()));
    let waiting = [start().unwrap(), start().unwrap()];
    assert_eq!(start().unwrap_err(), Error::Busy { queued: 2, limit: 2 });
    drop(held);
    for mut generation in waiting {
        assert_eq!(all(&mut generation).await.len(), 5);
    }
}

#[tokio::test]
async fn a_session_reuses_its_prefix_and_no_other_does() {
    let engine = engine(Options { answer_tokens: Some(5), ..Options::default() });
    let run = async |prompt: Vec<u32>, session: u64| {
        let asked = Request { prompt, session, ..request(&engine, "x", 100, &Budget::unlimited()) };
        let mut generation = engine.start(asked).unwrap();
        let ids: Vec<u32> = all(&mut generation).await.into_iter().map(|token| token.id).collect();
        (ids, generation.cached_tokens())
    };
    let prompt = engine.encode_text("the road to the north").unwrap();
    let (answer, cached) = run(prompt.clone(), 7).await;
    assert_eq!(cached, 0);
    // The end token was sampled, not evaluated.
    let evaluated = prompt.len() + answer.len() - 1;
    let second = [prompt.clone(), answer.clone(), engine.encode_text(" and then").unwrap()].concat();
    assert_eq!(run(second.clone(), 8).await.1, 0, "another session");
    assert_eq!(run(second.clone(), 0).await.1, 0, "no session");
    assert_eq!(run(second, 7).await.1, evaluated as u64);
    assert_eq!(run(prompt.clone(), 7).await, (answer, prompt.len() as u64 - 1), "the last token is always evaluated");
    assert_eq!(engine.stats().reused_prefix_tokens, (evaluated + prompt.len() - 1) as u64);
}

#[tokio::test]
async fn a_stop_sequence_ends_the_answer_with_the_token_that_completes_it() {
    let engine = engine(endless());
    let whole = all(&mut engine.start(request(&engine, "halt", 200, &Budget::unlimited())).unwrap()).await;
    let text: Vec<u8> = whole.iter().flat_map(|token| token.bytes.clone()).collect();
    let text = String::from_utf8_lossy(&text).into_owned();
    let from = text.char_indices().nth(40).unwrap().0;
    let stop: String = text[from..].chars().take(9).collect();
    let asked = Request { stop: vec![stop.clone()], ..request(&engine, "halt", 200, &Budget::unlimited()) };
    let tokens = all(&mut engine.start(asked).unwrap()).await;
    assert_eq!(tokens.last().unwrap().finish, Some(FinishReason::StopSequence));
    let mut stream = TextStream::with_stops(std::slice::from_ref(&stop));
    let shown: String = tokens.iter().map(|token| stream.push(&token.bytes)).collect();
    assert_eq!(shown, text[..text.find(&stop).unwrap()]);
    let before: Vec<u8> = tokens[..tokens.len() - 1].iter().flat_map(|token| token.bytes.clone()).collect();
    assert!(!String::from_utf8_lossy(&before).contains(&stop), "not a token later than needed");
}

#[tokio::test]
async fn a_full_context_ends_the_answer() {
    let engine = engine(Options { context_tokens: 12, ..endless() });
    let prompt: Vec<u32> = vec![3; 8];
    let asked = Request { prompt, ..request(&engine, "x", 100, &Budget::unlimited()) };
    let tokens = all(&mut engine.start(asked).unwrap()).await;
    assert_eq!((tokens.len(), tokens[3].finish), (4, Some(FinishReason::Context)));
}

#[test]
fn bad_requests_are_refused_with_what_would_be_right() {
    let engine = engine(Options { context_tokens: 12, ..Options::default() });
    let good = || request(&engine, "x", 5, &Budget::unlimited());
    let refused = |asked: Request| engine.start(asked).unwrap_err();
    assert_eq!(refused(Request { prompt: vec![], ..good() }), Error::EmptyPrompt);
    assert_eq!(refused(Request { prompt: vec![3; 12], ..good() }), Error::PromptTooLong { tokens: 12, context: 12 });
    let vocabulary = engine.model().vocabulary;
    assert_eq!(refused(Request { prompt: vec![vocabulary], ..good() }), Error::UnknownToken { id: vocabulary, vocabulary });
    assert_eq!(refused(Request { max_tokens: 0, ..good() }), Error::NoTokensAsked);
    for (temperature, top_p) in [(f32::NAN, 1.0), (-0.1, 1.0), (f32::INFINITY, 1.0), (1.0, 0.0), (1.0, 1.1)] {
        let sampler = SamplerSettings { temperature, top_p, ..SamplerSettings::GREEDY };
        assert!(matches!(refused(Request { sampler, ..good() }), Error::BadSampler { .. }));
    }
    for stop in [vec![String::new()], vec!["x".repeat(513)], vec!["x".into(); 17]] {
        assert!(matches!(refused(Request { stop, ..good() }), Error::BadStop { .. }));
    }
    assert!(matches!(engine.encode_chat(&[]), Err(Error::BadMessages { .. })));
}

#[test]
fn bad_options_are_refused() {
    let bad = [
        Options { parallel: 0, ..Options::default() },
        Options { batch: 3, ..Options::default() },
        Options { context_tokens: 1, ..Options::default() },
        Options { tokens_per_second: Some(0), ..Options::default() },
    ];
    for options in bad {
        assert!(matches!(ScriptedEngine::new(options), Err(Error::BadOptions { .. })));
    }
}
