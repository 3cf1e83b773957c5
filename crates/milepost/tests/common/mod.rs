//! A `milepost serve` process for tests: started with flags only, killed on drop.

#![allow(dead_code, unreachable_pub)] // each test program uses a part of it

pub mod ground;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running node.
pub struct Node {
    child: Child,
    pub url: String,
    log: Arc<Mutex<Vec<Value>>>,
    /// The log event at which it dies.
    fate: Arc<Mutex<Option<&'static str>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port()
}

impl Node {
    /// Starts `milepost serve` with these settings and variables, and waits for its doors.
    pub fn start(port: u16, settings: &[(&str, String)], variables: &[(&str, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
        command.args(["serve", "--json", "--set", &format!("node.listen=127.0.0.1:{port}")]);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        // Variables of the test itself are no settings of the node, and it says so.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILEPOST_")) {
            command.env_remove(name);
        }
        for (name, value) in variables {
            command.env(name, value);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let fate = Arc::new(Mutex::new(None::<&'static str>));
        let (sink, told, pid) = (Arc::clone(&log), Arc::clone(&fate), child.id());
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let mut fate = told.lock().unwrap_or_else(PoisonError::into_inner);
                if fate.is_some_and(|name| event["event"] == name) {
                    *fate = None;
                    signal(pid, nix::sys::signal::Signal::SIGKILL);
                }
                drop(fate);
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        let mut node = Self { child, url: format!("http://127.0.0.1:{port}"), log, fate, reader: Some(reader) };
        node.wait_for_doors();
        node
    }

    fn wait_for_doors(&mut self) {
        let begin = Instant::now();
        let address = self.url.trim_start_matches("http://").to_owned();
        while std::net::TcpStream::connect(&address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the node ended with {status}:\n{}", self.log_text());
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the node's doors stay shut:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything it has logged.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn log_text(&self) -> String {
        self.log().iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Waits for an event of this name (field `event`) that fits.
    pub fn wait_for(&self, what: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.log().into_iter().find(|event| fits(event)) {
                return found;
            }
            assert!(begin.elapsed() < limit, "no log event for {what} within {limit:?}:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
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
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// SIGKILL; answers everything it had logged by then.
    pub fn kill_and_read(mut self) -> Vec<Value> {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        self.log()
    }

    /// SIGTERM; waits for the end and returns its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        self.child.wait().expect("reaped").code()
    }
}

/// Sends a signal to a child that was not waited for yet, so that its number is still its own.
fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
    nix::sys::signal::kill(pid, signal).expect("signalled");
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended before: then there is nothing to kill.
        if self.child.kill().is_ok() {
            self.child.wait().expect("reaped");
        }
    }
}

/// Settings of a node without model, disk or chain.
pub fn scripted() -> Vec<(&'static str, String)> {
    vec![("model.engine", "scripted".to_owned()), ("node.store", "memory".to_owned())]
}

/// The same on a disk.
pub fn scripted_on(data: &Path) -> Vec<(&'static str, String)> {
    vec![("model.engine", "scripted".to_owned()), ("node.store", "rocksdb".to_owned()), ("node.data", data.display().to_string())]
}
