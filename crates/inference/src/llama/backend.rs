//! Context, samplers and batch: what the scheduler's thread owns.

use std::num::NonZeroU32;
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;

use super::{Options, llama_token, logs, piece, token_id};
use crate::batch::{Backend, Maker, Outcome, Work};
use crate::{SamplerSettings, TokenId};

/// llama.cpp rounds each sequence's part of the cache up to this many tokens.
const CACHE_STEP: u32 = 256;

/// Values of llama.cpp's `llama_flash_attn_type`.
const FLASH_OFF: i32 = 0;
const FLASH_ON: i32 = 1;

pub(super) struct LlamaMaker {
    llama: &'static LlamaBackend,
    model: Arc<LlamaModel>,
    threads: i32,
    slots: u32,
    batch: u32,
    /// Tokens of one sequence.
    context: u32,
    flash_attention: bool,
}

impl LlamaMaker {
    /// `options` are checked.
    pub(super) fn new(llama: &'static LlamaBackend, model: Arc<LlamaModel>, options: &Options, context: u32) -> Self {
        let small = |number: usize| u32::try_from(number).expect("the options' bounds are far below");
        Self {
            llama,
            model,
            threads: i32::try_from(options.threads).expect("the options' bounds are far below"),
            slots: small(options.parallel),
            batch: small(options.batch),
            context,
            flash_attention: options.flash_attention,
        }
    }
}

impl Maker for LlamaMaker {
    type Backend<'a> = LlamaSlots<'a>;

    fn make(&self) -> Result<Self::Backend<'_>, String> {
        let cache = self.context.next_multiple_of(CACHE_STEP).checked_mul(self.slots);
        let cache = cache.and_then(NonZeroU32::new).ok_or("the context of all sequences together is too large")?;
        let params = LlamaContextParams::default()
            .with_n_ctx(Some(cache))
            .with_n_seq_max(self.slots)
            // A part for each: one long conversation takes nothing from the others.
            .with_kv_unified(false)
            .with_n_batch(self.batch)
            .with_n_ubatch(self.batch)
            .with_n_threads(self.threads)
            .with_n_threads_batch(self.threads)
            .with_flash_attention_policy(if self.flash_attention { FLASH_ON } else { FLASH_OFF })
            .with_no_perf(true);
        let (made, log) = logs::collect(|| self.model.new_context(self.llama, params));
        let context = made.map_err(|error| format!("llama.cpp makes no context: {error}{}", log.errors()))?;
        if context.n_ctx() < cache.get() {
            return Err(format!("llama.cpp gives a context of {} tokens instead of {cache}", context.n_ctx()));
        }
        let batch = LlamaBatch::new(self.batch as usize, 1);
        let samplers = (0..self.slots).map(|_| LlamaSampler::greedy()).collect();
        Ok(LlamaSlots { model: &self.model, context, batch, samplers, sampling: Vec::new() })
    }
}

pub(super) struct LlamaSlots<'a> {
    model: &'a LlamaModel,
    context: LlamaContext<'a>,
    batch: LlamaBatch<'a>,
    /// One for each slot.
    samplers: Vec<LlamaSampler>,
    /// Slots that sample in this step, and where in the batch their last token is.
    sampling: Vec<(usize, i32)>,
}

fn index(number: usize) -> i32 {
    i32::try_from(number).expect("slots, positions and batch places are bounded by the options")
}

impl Backend for LlamaSlots<'_> {
    fn open(&mut self, slot: usize, _prompt: &[TokenId], sampler: &SamplerSettings, keep: usize) -> Result<usize, String> {
        self.samplers[slot] = sampler_chain(sampler);
        let from = u32::try_from(keep).expect("a position in the context");
        if keep > 0 && self.context.kv_cache_seq_rm(index(slot), Some(from), None).is_ok() {
            return Ok(keep);
        }
        // Recurrent models cannot go back to a position; all of them can begin again.
        self.context.kv_cache_seq_rm(index(slot), None, None).map_err(|error| format!("llama.cpp does not empty slot {slot}: {error}"))?;
        Ok(0)
    }

    fn step(&mut self, work: &[Work<'_>], outcomes: &mut Vec<Outcome>) -> Result<(), String> {
        self.batch.clear();
        self.sampling.clear();
        for item in work {
            let last = item.tokens.len() - 1;
            for (offset, &id) in item.tokens.iter().enumerate() {
                let sample = item.sample && offset == last;
                if sample {
                    self.sampling.push((item.slot, self.batch.n_tokens()));
                }
                self.batch
                    .add(llama_token(id), index(item.position + offset), &[index(item.slot)], sample)
                    .map_err(|error| format!("the batch is too small for its plan: {error}"))?;
            }
        }
        self.context.decode(&mut self.batch).map_err(|error| format!("llama.cpp does not evaluate a step: {error}"))?;
        for &(slot, at) in &self.sampling {
            let token = self.samplers[slot].sample(&self.context, at);
            let end = self.model.vocab().is_eog(token);
            outcomes.push(Outcome::Token { id: token_id(token), bytes: piece(self.model, token), end });
        }
        Ok(())
    }
}

/// llama.cpp's usual order: cut the tail first, then shape what is left.
fn sampler_chain(settings: &SamplerSettings) -> LlamaSampler {
    if settings.temperature <= 0.0 {
        return LlamaSampler::greedy();
    }
    let mut chain = Vec::with_capacity(4);
    if settings.top_k > 0 {
        chain.push(LlamaSampler::top_k(i32::try_from(settings.top_k).unwrap_or(i32::MAX)));
    }
    if settings.top_p < 1.0 {
        chain.push(LlamaSampler::top_p(settings.top_p, 1));
    }
    chain.push(LlamaSampler::temp(settings.temperature));
    chain.push(LlamaSampler::dist(short_seed(settings.seed)));
    LlamaSampler::chain(chain, true)
}

/// llama.cpp's seeds have 32 bits, and the highest means "take one from the clock".
fn short_seed(seed: u64) -> u32 {
    let folded = (seed ^ (seed >> 32)) & 0xffff_ffff;
    u32::try_from(folded).expect("masked to 32 bits").min(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_becomes_the_one_that_means_the_clock() {
        assert_eq!(short_seed(7), 7);
        assert_eq!(short_seed(u64::from(u32::MAX)), u32::MAX - 1);
        assert_eq!(short_seed(0xffff_fffe_0000_0001), u32::MAX - 1);
        assert_ne!(short_seed(1 << 32), short_seed(1 << 33));
    }
}
