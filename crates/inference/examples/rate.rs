//! Measures how fast the engine generates: tokens per second in all, by threads and sequences.
//!
//! `cargo run -p milepost-inference --features llama --example rate [tokens per sequence] [rounds]`
//!
//! Decode only: the clock starts when every sequence has its first token. The best of the rounds is shown beside the
//! median, because other work on the machine only ever slows a round down.

use std::time::Instant;

use milepost_inference::llama::{LlamaEngine, Options};
use milepost_inference::{Budget, Engine, Generation, Request, SamplerSettings, test_model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let tokens: u32 = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let path = test_model::path()?;
    println!("threads  sequences  best tokens/s  median tokens/s  prompt tokens/s");
    for threads in [1, 2] {
        let engine = LlamaEngine::open(&Options { threads, context_tokens: Some(1024), parallel: 8, ..Options::new(&path) })?;
        let prefill = prefill(&engine)?;
        for sequences in [1, 4, 8] {
            let mut rates = Vec::new();
            for _ in 0..rounds.max(1) {
                rates.push(decode(&engine, sequences, tokens)?);
            }
            rates.sort_by(f64::total_cmp);
            println!(
                "{threads:>7}  {sequences:>9}  {:>13.1}  {:>15.1}  {prefill:>15.1}",
                rates[rates.len() - 1],
                rates[rates.len() / 2],
            );
        }
    }
    Ok(())
}

/// Text after which the model goes on for as long as it is let.
fn request(engine: &LlamaEngine, prompt: &str, max_tokens: u32) -> Result<Request, milepost_inference::Error> {
    Ok(Request {
        prompt: engine.encode_text(prompt)?,
        sampler: SamplerSettings { temperature: 0.8, top_p: 0.95, top_k: 40, seed: 3 },
        max_tokens,
        stop: Vec::new(),
        session: 0,
        budget: Budget::unlimited(),
    })
}

fn decode(engine: &LlamaEngine, sequences: u32, tokens: u32) -> Result<f64, milepost_inference::Error> {
    let gates: Vec<Budget> = (0..sequences).map(|_| Budget::new(1)).collect();
    let mut generations: Vec<Generation> = Vec::new();
    for (number, gate) in (0..sequences).zip(&gates) {
        let asked = request(engine, &format!("Chapter {number}. Once upon a time, on a long road,"), tokens + 1)?;
        generations.push(engine.start(Request { budget: gate.clone(), ..asked })?);
    }
    for generation in &mut generations {
        generation.blocking_next().transpose()?;
    }
    let start = Instant::now();
    for gate in &gates {
        gate.raise_to(u64::MAX);
    }
    let mut counts = std::thread::scope(|scope| {
        let readers: Vec<_> = generations
            .iter_mut()
            .map(|generation| scope.spawn(move || std::iter::from_fn(|| generation.blocking_next()).count()))
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap_or(0)).collect::<Vec<_>>()
    });
    counts.retain(|&count| count > 0);
    let total: usize = counts.iter().sum();
    #[allow(clippy::cast_precision_loss)] // some hundreds of tokens
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

fn prefill(engine: &LlamaEngine) -> Result<f64, milepost_inference::Error> {
    let asked = request(engine, &"The road goes ever on and on, down from the door. ".repeat(38), 1)?;
    let tokens = asked.prompt.len();
    let start = Instant::now();
    engine.start(asked)?.blocking_next().transpose()?;
    #[allow(clippy::cast_precision_loss)] // some hundreds of tokens
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}
