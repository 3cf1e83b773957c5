//! Audit by re-execution: the bundle's turns once more, on the model file, with the settings and the seed that their digests bind.
//!
//! What can be concluded: equal ids say that this model, asked this prompt with these settings, gives these tokens. Other ids say
//! nothing against the host: the sums behind a token are in floating point, and their last bits depend on the processor, the build,
//! the number of threads, and on which other requests stood in the same batch. Where two tokens are nearly equally likely the
//! choice may fall the other way, and from there on everything differs. So the first difference is reported, and no more is said.
//!
//! Which text ended an answer (stop sequences) is not bound by the digests; an answer is therefore followed as far as the record
//! goes and no further.

use std::path::Path;
use std::sync::Arc;

use milepost_bundle::{Bundle, OpenTurn, Opening};
use milepost_inference::{Budget, ChatMessage, Engine, Request, SamplerSettings, scripted};
use milepost_ledger::Digest;
use milepost_statement::{Salt, TokenId, TokenSeq, prompt_digest, request_digest};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest file of prompts read, bytes.
const MAX_PROMPTS: u64 = 64 << 20;
/// Name in place of a model file for the scripted engine of tours.
const SCRIPTED: &str = "scripted";

/// The prompt of one request as it was sent, in one of three forms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prompt {
    /// The request's id.
    request_id: String,
    /// A conversation, rendered by the model's template.
    messages: Option<Vec<ChatMessage>>,
    /// A text as it stands.
    text: Option<String>,
    /// Token ids.
    ids: Option<Vec<TokenId>>,
}

impl Prompt {
    fn encode(&self, engine: &dyn Engine) -> Result<Vec<TokenId>, String> {
        let encoded = match (&self.messages, &self.text, &self.ids) {
            (Some(messages), None, None) => engine.encode_chat(messages),
            (None, Some(text), None) => engine.encode_text(text),
            (None, None, Some(ids)) => Ok(ids.clone()),
            _ => return Err(format!("the prompt of {} is given in none of its three forms, or in several", self.request_id)),
        };
        encoded.map_err(|error| error.to_string())
    }
}

/// What became of one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Replayed {
    /// The same ids.
    Same,
    /// The first difference.
    Differs {
        /// Where.
        at: TokenSeq,
        /// In the bundle.
        recorded: TokenId,
        /// Here; `None` where the answer ended here.
        here: Option<TokenId>,
    },
    /// It was not run.
    Not(String),
}

struct TurnOutcome {
    start: TokenSeq,
    tokens: usize,
    replayed: Replayed,
}

/// What became of all turns.
pub(super) struct Outcome {
    turns: Vec<TurnOutcome>,
    /// Tokens at the claim's beginning that belong to a turn of the claim before.
    before: u64,
}

impl Outcome {
    /// Whether some turn gave other tokens.
    pub(super) fn differs(&self) -> bool {
        self.turns.iter().any(|turn| matches!(turn.replayed, Replayed::Differs { .. }))
    }

    /// Whether some turn was run at all.
    pub(super) fn ran(&self) -> bool {
        self.turns.iter().any(|turn| !matches!(turn.replayed, Replayed::Not(_)))
    }

    fn conclusion(&self) -> &'static str {
        if self.differs() {
            "The first difference is where two tokens were nearly equally likely, or where the prompt was answered by other means. This \
             cannot be told apart here: sums in floating point depend on the processor, the build, the threads and on what else stood in \
             the batch. It shows no fraud."
        } else if self.ran() {
            "Run again on the model file, the same prompts with the same settings and seeds give the same tokens. That is evidence, \
             beyond the proof, that this model produced them; it is no proof that the host ran it."
        } else {
            "No turn could be run again: nothing is concluded."
        }
    }

    pub(super) fn json(&self) -> Value {
        let turns: Vec<Value> = self
            .turns
            .iter()
            .map(|turn| {
                let mut out = json!({ "start": turn.start, "tokens": turn.tokens });
                match &turn.replayed {
                    Replayed::Same => out["result"] = json!("same"),
                    Replayed::Differs { at, recorded, here } => {
                        out["result"] = json!("differs");
                        out["first_difference"] = json!({ "at": at, "recorded": recorded, "here": here });
                    }
                    Replayed::Not(reason) => {
                        out["result"] = json!("not-run");
                        out["reason"] = json!(reason);
                    }
                }
                out
            })
            .collect();
        json!({ "turns": turns, "tokens_of_an_earlier_turn": self.before, "conclusion": self.conclusion() })
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for turn in &self.turns {
            let found = match &turn.replayed {
                Replayed::Same => format!("the same {} tokens", turn.tokens),
                Replayed::Differs { at, recorded, here } => format!(
                    "the same up to token {at}, where the bundle has {recorded} and this run {}",
                    here.map_or_else(|| "ended".to_owned(), |id| format!("has {id}"))
                ),
                Replayed::Not(reason) => format!("not run: {reason}"),
            };
            lines.push(format!("replay  turn at token {:<8} {found}", turn.start));
        }
        if self.before > 0 {
            lines.push(format!("replay  the first {} tokens belong to a turn that began in the claim before", self.before));
        }
        lines.push(self.conclusion().to_owned());
        lines
    }
}

/// Runs every turn of the bundle of which a prompt is given.
pub(super) async fn run(bundle: &Bundle, prompts: &Path, model: Option<&Path>, salt: Option<Salt>) -> Result<Outcome, String> {
    let opening = bundle.opening.as_ref().ok_or("--replay needs token ids and turns: this bundle was not opened by the depositor")?;
    let unsalted = (bundle.salt_commitment == Digest::ZERO).then(Salt::default);
    let salt = salt.or(opening.salt).or(unsalted).ok_or("--replay needs the salt, which ties a prompt to its turn: give --salt-file")?;
    let bytes = super::read(prompts, MAX_PROMPTS)?;
    let prompts: Vec<Prompt> = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", prompts.display()))?;
    let model = model.ok_or("--replay needs --model, the model file")?.to_owned();
    let engine = tokio::task::spawn_blocking(move || open(&model)).await.map_err(|error| error.to_string())??;
    let digest = Digest(engine.model().digest);
    if digest != bundle.statement.model_digest {
        return Err(format!(
            "the model file's SHA-256 is {digest}, the claim is about {}: running another model says nothing",
            bundle.statement.model_digest
        ));
    }
    replay(bundle, opening, &prompts, &salt, &*engine).await
}

async fn replay(bundle: &Bundle, opening: &Opening, prompts: &[Prompt], salt: &Salt, engine: &dyn Engine) -> Result<Outcome, String> {
    let first = bundle.statement.first_seq;
    let mut turns = Vec::with_capacity(opening.turns.len());
    for (number, open) in opening.turns.iter().enumerate() {
        let end = opening.turns.get(number + 1).map_or(bundle.statement.end(), |next| next.turn.start);
        let ids = slice(opening, first, open.turn.start, end);
        let replayed = match prompt(open, prompts, salt, engine) {
            Ok(prompt) => again(open, prompt, ids, engine).await?,
            Err(reason) => Replayed::Not(reason),
        };
        turns.push(TurnOutcome { start: open.turn.start, tokens: ids.len(), replayed });
    }
    let before = opening.turns.first().map_or(bundle.statement.end(), |turn| turn.turn.start);
    Ok(Outcome { turns, before: before.since(first).unwrap_or_default().0 })
}

/// Ids from one position to another; the check before made sure that they are there.
fn slice(opening: &Opening, first: TokenSeq, from: TokenSeq, to: TokenSeq) -> &[TokenId] {
    let at = |seq: TokenSeq| usize::try_from(seq.since(first).unwrap_or_default().0).unwrap_or(usize::MAX);
    opening.ids.get(at(from)..at(to)).unwrap_or_default()
}

/// The turn's prompt, if it is the one that its digest names.
fn prompt(open: &OpenTurn, prompts: &[Prompt], salt: &Salt, engine: &dyn Engine) -> Result<Vec<TokenId>, String> {
    let found = prompts.iter().find(|prompt| request_digest(&prompt.request_id) == open.turn.request);
    let found = found.ok_or("no prompt with its request id is given")?;
    let ids = found.encode(engine)?;
    if prompt_digest(salt, &ids) != open.turn.prompt {
        return Err(format!("the prompt given for {} is not the one that its digest names", found.request_id));
    }
    Ok(ids)
}

async fn again(open: &OpenTurn, prompt: Vec<TokenId>, recorded: &[TokenId], engine: &dyn Engine) -> Result<Replayed, String> {
    let settings = &open.sampler;
    let sampler = SamplerSettings { temperature: settings.temperature, top_p: settings.top_p, top_k: settings.top_k, seed: settings.seed };
    let request = Request {
        prompt,
        sampler,
        max_tokens: settings.max_tokens,
        stop: Vec::new(),
        session: 0,
        // No token beyond the record is of use.
        budget: Budget::new(recorded.len() as u64),
    };
    let mut generation = engine.start(request).map_err(|error| error.to_string())?;
    for (position, id) in (open.turn.start.0..).zip(recorded) {
        let here = generation.next().await.transpose().map_err(|error| error.to_string())?.map(|sampled| sampled.id);
        if here != Some(*id) {
            return Ok(Replayed::Differs { at: TokenSeq(position), recorded: *id, here });
        }
    }
    Ok(Replayed::Same)
}

fn open(model: &Path) -> Result<Arc<dyn Engine>, String> {
    if model.as_os_str() == SCRIPTED {
        // As the node runs it by default: answers have no end of their own.
        let options = scripted::Options { answer_tokens: None, ..scripted::Options::default() };
        let engine = scripted::ScriptedEngine::new(options).map_err(|error| error.to_string())?;
        return Ok(Arc::new(engine));
    }
    llama(model)
}

#[cfg(feature = "llama")]
fn llama(model: &Path) -> Result<Arc<dyn Engine>, String> {
    use milepost_inference::llama::{LlamaEngine, Options};
    // One sequence: nothing else stands in the batch.
    let options = Options { parallel: 1, ..Options::new(model) };
    LlamaEngine::open(&options).map(|engine| Arc::new(engine) as Arc<dyn Engine>).map_err(|error| error.to_string())
}

#[cfg(not(feature = "llama"))]
fn llama(_: &Path) -> Result<Arc<dyn Engine>, String> {
    Err("this build has no llama.cpp (feature `llama`)".to_owned())
}
