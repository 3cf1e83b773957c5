//! One `milepost validator` process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::signal;

/// Nothing here takes so long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running validator. Killed on drop.
pub struct Validator {
    pub id: u32,
    child: Child,
    pub url: String,
    log: Arc<Mutex<Vec<Value>>>,
    /// The log event at which it dies.
    fate: Arc<Mutex<Option<&'static str>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Validator {
    pub(super) fn spawn(id: u32, mut command: Command, url: String) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (log, fate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None::<&'static str>)));
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sink, told, pid) = (Arc::clone(&log), Arc::clone(&fate), child.id());
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let mut fate = told.lock().unwrap_or_else(PoisonError::into_inner);
                if fate.is_some_and(|name| event["event"] == name) {
                    *fate = None;
                    signal(pid, Signal::SIGKILL);
                }
                drop(fate);
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Self { id, child, url, log, fate, reader: Some(reader) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it has logged such an event.
    pub fn has_logged(&self, fits: impl Fn(&Value) -> bool) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().any(fits)
    }

    pub fn log_text(&self) -> String {
        self.log().iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// SIGKILL at the instant when it logs the next event of this name.
    pub fn kill_at(&self, event: &'static str) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Vec<Value> {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
        self.read_to_the_end();
        self.log()
    }

    /// SIGTERM; its exit code.
    pub fn terminate(self) -> (Option<i32>, Vec<Value>) {
        signal(self.child.id(), Signal::SIGTERM);
        self.end()
    }

    /// Waits until it ends by itself; its exit code (`None` after a signal) and everything it had logged.
    pub fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "validator {} goes on:\n{}", self.id, self.log_text());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.read_to_the_end();
        (status.code(), self.log())
    }

    fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
    }

    /// Its resident memory in KiB.
    pub fn resident_kib(&self) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
    }

    /// What `/status` answers; `None` where it does not.
    pub async fn status(&self) -> Option<Value> {
        let answer = reqwest::get(format!("{}/status", self.url)).await.ok()?;
        answer.json().await.ok()
    }

    /// Any page's status and text.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Waits until `/status` fits; answers it.
    pub async fn wait(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        let mut last = Value::Null;
        loop {
            if let Some(status) = self.status().await {
                if fits(&status) {
                    return status;
                }
                last = status;
            }
            assert!(!self.has_ended(), "validator {} ended before {what}:\n{}", self.id, self.log_text());
            assert!(begin.elapsed() < PATIENCE, "validator {}: {what} does not come about: {last:#}\n{}", self.id, self.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a number is final.
    pub async fn finalizes(&mut self, number: u64) -> Value {
        self.wait(&format!("{number} is final"), |status| status["finalized"]["number"].as_u64() >= Some(number)).await
    }

    /// Waits for an event of this name.
    pub async fn logs(&mut self, name: &str) -> Value {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.log().into_iter().find(|event| event["event"] == name) {
                return found;
            }
            assert!(!self.has_ended(), "validator {} ended before {name}:\n{}", self.id, self.log_text());
            assert!(begin.elapsed() < PATIENCE, "validator {} does not log {name}:\n{}", self.id, self.log_text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        // It may have ended before: then there is nothing to kill.
        if self.child.kill().is_ok() {
            self.child.wait().expect("reaped");
        }
    }
}
