//! Logging: text for people, one JSON object a line for machines. Prompts, completions, token ids and secrets never stand in it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging on standard error. `MILEPOST_LOG` takes a filter as in `info,milepost_settlement=debug`. By default a service tells
/// what it does, and a command only what goes wrong.
///
/// A line that cannot be written (a full disk under the log, a reader that is gone) is lost and nothing else happens: told of it,
/// the library would complain on the same standard error, and panic in whatever task or thread was about to say something.
pub(crate) fn init(json: bool, service: bool) {
    let usual = if service { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env("MILEPOST_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::redact::Clean(std::io::stderr()))
        .log_internal_errors(false);
    if json {
        // Without the library's own `target`, the name of a module: events have a field of that name, and readers take the last of two.
        logs.json().flatten_event(true).with_target(false).with_current_span(false).with_span_list(false).init();
    } else {
        logs.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
