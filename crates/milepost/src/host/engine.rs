//! The engine that the configuration names.

use std::sync::Arc;

use milepost_inference::Engine;
use milepost_inference::scripted::{self, ScriptedEngine};

use super::Error;
use crate::config::{EngineKind, Model};

pub(super) fn open(model: &Model) -> Result<Arc<dyn Engine>, Error> {
    match model.engine {
        EngineKind::Scripted => {
            tracing::warn!(event = "scripted_engine", "model.engine = \"scripted\": no model, fixed text; for tours and tests only");
            let options =
                scripted::Options { tokens_per_second: model.scripted_rate, answer_tokens: model.scripted_tokens, ..Default::default() };
            Ok(Arc::new(ScriptedEngine::new(options)?))
        }
        EngineKind::Llama => llama(model),
    }
}

#[cfg(feature = "llama")]
fn llama(model: &Model) -> Result<Arc<dyn Engine>, Error> {
    use milepost_inference::llama::{LlamaEngine, Options};
    let path = model.path.clone().ok_or(milepost_inference::Error::ModelFile {
        path: std::path::PathBuf::new(),
        reason: "no model is configured: set model.path (or MODEL_PATH) to a GGUF file".to_owned(),
    })?;
    let mut options = Options::new(path);
    options.name.clone_from(&model.name);
    options.context_tokens = model.context;
    if let Some(threads) = model.threads {
        options.threads = threads;
    }
    if let Some(parallel) = model.parallel {
        options.parallel = parallel as usize;
    }
    if let Some(layers) = model.gpu_layers {
        options.gpu_layers = layers;
    }
    Ok(Arc::new(LlamaEngine::open(&options)?))
}

#[cfg(not(feature = "llama"))]
fn llama(_: &Model) -> Result<Arc<dyn Engine>, Error> {
    Err(Error::NotBuilt { what: "llama.cpp", instead: "build with the feature llama, or set model.engine = \"scripted\" for a tour" })
}
