//! How figures are measured and printed.

use std::time::{Duration, Instant};

/// A time by the clock and on the processor.
#[derive(Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// What this thread has spent on a processor: what a busy machine adds to the clock's time is not in it, nor is waiting for the disk.
    pub(crate) cpu: Duration,
}

/// Measures from its making on.
pub(crate) struct Watch(Instant, Duration);

impl Watch {
    pub(crate) fn start() -> Self {
        // In this order: asking for the one takes time of the other.
        let cpu = on_cpu();
        Self(Instant::now(), cpu)
    }

    pub(crate) fn took(&self) -> Took {
        Took { wall: self.0.elapsed(), cpu: on_cpu().saturating_sub(self.1) }
    }
}

fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A line of `/proc/self/status`, in megabytes.
pub(crate) fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|at| at.strip_prefix(line)).unwrap_or_default();
    value.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(f64::NAN) * 1024.0 / 1e6
}

/// The value below which `percent` of a hundred lie.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

/// Prints figures and counts those that fall short.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) short: u32,
}

impl Report {
    /// A figure that must not exceed its goal. What else is worth knowing stands behind it.
    pub(crate) fn line(&mut self, what: &str, measured: f64, unit: &str, goal: f64, beside: &str) {
        // Written so that a figure that is no number falls short.
        let reached = measured <= goal;
        self.short += u32::from(!reached);
        let verdict = if reached { "ok" } else { "FALLS SHORT" };
        let beside = if beside.is_empty() { String::new() } else { format!("; {beside}") };
        println!("figure {what}: {measured:.3} {unit} (goal {goal} {unit}: {verdict}{beside})");
    }

    /// A time, judged by the clock; its time on the processor and its ratio to a reference measured in the same run stand beside it.
    pub(crate) fn time(&mut self, what: &str, took: Took, goal: f64, reference: &str, of: Duration) {
        let ratio = millis(took.wall) / millis(of).max(f64::MIN_POSITIVE);
        let beside = format!("{:.3} ms on the processor; {ratio:.2} × {reference} of {:.3} ms", millis(took.cpu), millis(of));
        self.line(what, millis(took.wall), "ms", goal, &beside);
    }
}

/// Something without a goal.
pub(crate) fn note(what: &str) {
    println!("figure {what}");
}
