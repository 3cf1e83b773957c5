//! llama.cpp's log, kept in its place.
//!
//! llama.cpp says a hundred lines at its info level while it loads. They are collected and told again at debug; when
//! something failed, the lines it called errors become part of our error, because the call itself only says "null".

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Lines kept of one call; the first errors say what happened, the rest repeats it.
const MAX_LINES: usize = 1_000;

/// Error lines quoted in an error.
const MAX_QUOTED: usize = 3;

/// Sends llama.cpp's log to `tracing` instead of standard error. Once per process.
pub(super) fn install() {
    send_logs_to_tracing(LogOptions::default());
}

/// What llama.cpp said.
#[derive(Debug, Default)]
pub(super) struct Log(Vec<(Level, String)>);

impl Log {
    /// The error lines, as the end of a sentence; empty if there are none.
    pub(super) fn errors(&self) -> String {
        let mut text = String::new();
        for (_, line) in self.0.iter().filter(|(level, _)| *level == Level::ERROR).take(MAX_QUOTED) {
            let _ = write!(text, "; {}", line.trim());
        }
        text
    }
}

/// Runs a call, tells its log at debug, and hands it out too.
pub(super) fn collect<T>(call: impl FnOnce() -> T) -> (T, Log) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let collector = Collector { lines: Arc::clone(&lines) };
    let result = tracing::dispatcher::with_default(&Dispatch::new(collector), call);
    let log = Log(std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner)));
    for (level, line) in &log.0 {
        tracing::debug!(target: "llama.cpp", %level, "{}", line.trim_end());
    }
    (result, log)
}

struct Collector {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES {
            lines.push((*event.metadata().level(), message.0));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.push_str(value);
        }
    }
}
