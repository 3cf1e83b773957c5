//! Measures how fast the engine generates, beside llama.cpp driven by a bare loop with the same settings.
//!
//! `cargo run -p milepost-inference --features llama --example rate [tokens per sequence] [rounds]`
//!
//! Decode only: the engine's clock starts when every sequence has its first token. Two rates are shown, each the best of
//! the rounds, because other work on the machine only ever slows a round down: tokens per second, and tokens per second
//! of processor time, which other work disturbs less. The ratio is that of the second. With more threads than idle cores
//! processor time counts threads that wait for each other, and says little.

use std::error::Error;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use milepost_inference::llama::{LlamaEngine, Options};
use milepost_inference::{Budget, Engine, Generation, Request, SamplerSettings, test_model};

const CONTEXT: u32 = 1024;
const SLOTS: u32 = 8;
const SAMPLER: SamplerSettings = SamplerSettings { temperature: 0.8, top_p: 0.95, top_k: 40, seed: 3 };
const SEQUENCES: [u32; 3] = [1, 4, 8];

/// Tokens per second, and per second of processor time.
#[derive(Clone, Copy)]
struct Rate {
    wall: f64,
    processor: f64,
}

impl Rate {
    #[allow(clippy::cast_precision_loss)] // some thousands of tokens
    fn of<T>(tokens: impl FnOnce(&T) -> usize, run: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<Self, Box<dyn Error>> {
        let (start, spent) = (Instant::now(), processor_seconds()?);
        let result = run()?;
        let (wall, processor) = (start.elapsed().as_secs_f64(), processor_seconds()? - spent);
        let tokens = tokens(&result) as f64;
        Ok(Self { wall: tokens / wall, processor: tokens / processor })
    }

    fn best(self, other: Self) -> Self {
        Self { wall: self.wall.max(other.wall), processor: self.processor.max(other.processor) }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let tokens: u32 = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let rounds: u32 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let threads: Vec<u32> = match arguments.next() {
        Some(text) => vec![text.parse()?],
        None => vec![1, 2],
    };
    let path = test_model::path()?;
    let mut bare_rates = Vec::new();
    for &threads in &threads {
        bare_rates.push(bare(&path, threads, tokens, rounds)?);
    }
    println!("                       tokens/s          tokens/s of processor time");
    println!("threads  sequences   bare  engine         bare  engine  ratio");
    for (&threads, bare) in threads.iter().zip(bare_rates) {
        let options = Options { threads, context_tokens: Some(CONTEXT), parallel: SLOTS as usize, ..Options::new(&path) };
        let engine = LlamaEngine::open(&options)?;
        for (sequences, bare) in SEQUENCES.into_iter().zip(bare) {
            let mut ours = decode(&engine, sequences, tokens)?;
            for _ in 1..rounds {
                ours = ours.best(decode(&engine, sequences, tokens)?);
            }
            println!(
                "{threads:>7}  {sequences:>9}  {:>5.1}  {:>6.1}        {:>5.1}  {:>6.1}  {:>5.2}",
                bare.wall,
                ours.wall,
                bare.processor,
                ours.processor,
                ours.processor / bare.processor,
            );
        }
        println!("{threads:>7}     prompt         {:>6.1}               {:>6.1}", prefill(&engine)?.wall, prefill(&engine)?.processor);
    }
    Ok(())
}

/// User and system time of this process, all threads, from the kernel's accounting in hundredths of a second.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("an unknown form of /proc/self/stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64, Box<dyn Error>> { Ok(fields.get(at).ok_or("a short /proc/self/stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// llama.cpp with nothing around it: a batch, a sampler for each sequence, and back.
fn bare(path: &Path, threads: u32, tokens: u32, rounds: u32) -> Result<Vec<Rate>, Box<dyn Error>> {
    let mut llama = LlamaBackend::init()?;
    llama.void_logs();
    let model = LlamaModel::load_from_file(&llama, path, &LlamaModelParams::default())?;
    let threads = i32::try_from(threads)?;
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(CONTEXT * SLOTS))
        .with_n_seq_max(SLOTS)
        .with_kv_unified(false)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_flash_attention_policy(1);
    let mut context = model.new_context(&llama, params)?;
    let mut batch = LlamaBatch::new(SLOTS as usize, 1);
    let prompt = model.vocab().tokenize(b"Once upon a time, on a long road,", true, true);
    let mut rates = Vec::new();
    for sequences in SEQUENCES {
        let mut best = Rate { wall: 0.0, processor: 0.0 };
        for _ in 0..rounds.max(1) {
            context.clear_kv_cache();
            let count = usize::try_from(sequences)?;
            let mut last: Vec<LlamaToken> = vec![prompt[0]; count];
            let mut samplers: Vec<LlamaSampler> = (0..sequences)
                .map(|_| {
                    let chain = [
                        LlamaSampler::top_k(40),
                        LlamaSampler::top_p(SAMPLER.top_p, 1),
                        LlamaSampler::temp(SAMPLER.temperature),
                        LlamaSampler::dist(3),
                    ];
                    LlamaSampler::chain(chain, true)
                })
                .collect();
            let total = count * tokens as usize;
            let rate = Rate::of(
                |&()| total,
                || {
                    for step in 0..i32::try_from(tokens)? {
                        batch.clear();
                        for (slot, token) in (0..).zip(&last) {
                            let given = usize::try_from(step)?;
                            batch.add(*prompt.get(given).unwrap_or(token), step, &[slot], true)?;
                        }
                        context.decode(&mut batch)?;
                        for ((at, token), sampler) in (0..).zip(&mut last).zip(&mut samplers) {
                            *token = sampler.sample(&context, at);
                        }
                    }
                    Ok(())
                },
            )?;
            best = best.best(rate);
        }
        rates.push(best);
    }
    Ok(rates)
}

fn request(engine: &LlamaEngine, prompt: &str, max_tokens: u32) -> Result<Request, milepost_inference::Error> {
    Ok(Request {
        prompt: engine.encode_text(prompt)?,
        sampler: SAMPLER,
        max_tokens,
        stop: Vec::new(),
        session: 0,
        budget: Budget::unlimited(),
    })
}

fn decode(engine: &LlamaEngine, sequences: u32, tokens: u32) -> Result<Rate, Box<dyn Error>> {
    let gates: Vec<Budget> = (0..sequences).map(|_| Budget::new(1)).collect();
    let mut generations: Vec<Generation> = Vec::new();
    for (number, gate) in (0..sequences).zip(&gates) {
        let asked = request(engine, &format!("Chapter {number}. Once upon a time, on a long road,"), tokens + 1)?;
        generations.push(engine.start(Request { budget: gate.clone(), ..asked })?);
    }
    for generation in &mut generations {
        generation.blocking_next().transpose()?;
    }
    Rate::of(
        |counts: &Vec<usize>| counts.iter().sum(),
        || {
            for gate in &gates {
                gate.raise_to(u64::MAX);
            }
            std::thread::scope(|scope| {
                let readers: Vec<_> = generations
                    .iter_mut()
                    .map(|generation| scope.spawn(move || std::iter::from_fn(|| generation.blocking_next()).count()))
                    .collect();
                readers.into_iter().map(|reader| reader.join().map_err(|_| "a reader panicked".into())).collect()
            })
        },
    )
}

fn prefill(engine: &LlamaEngine) -> Result<Rate, Box<dyn Error>> {
    let asked = request(engine, &"The road goes ever on and on, down from the door. ".repeat(38), 1)?;
    let tokens = asked.prompt.len();
    Rate::of(|_| tokens, || Ok(engine.start(asked)?.blocking_next().transpose()?))
}
