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

/// Variables of the test itself are no settings of the node, and it says so.
pub fn forget_own_variables(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILEPOST_")) {
        command.env_remove(name);
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port()
}

impl Node {
    /// Starts `milepost serve` with these settings and variables, and waits for its doors.
    pub fn start(port: u16, settings: &[(&str, String)], variables: &[(&str, String)]) -> Self {
        let mut node = Self::spawn(Command::new(env!("CARGO_BIN_EXE_milepost")), port, settings, variables);
        node.wait_for_doors();
        node
    }

    /// The same behind a shell that runs `before` first and then becomes the node: limits and signals pass on to it. Waits for
    /// nothing.
    pub fn start_behind(before: &str, port: u16, settings: &[(&str, String)], variables: &[(&str, String)]) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_milepost")]);
        Self::spawn(shell, port, settings, variables)
    }

    fn spawn(mut command: Command, port: u16, settings: &[(&str, String)], variables: &[(&str, String)]) -> Self {
        command.args(["serve", "--json", "--set", &format!("node.listen=127.0.0.1:{port}")]);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        forget_own_variables(&mut command);
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
        Self { child, url: format!("http://127.0.0.1:{port}"), log, fate, reader: Some(reader) }
    }

    /// Waits until it listens.
    pub fn wait_for_doors(&mut self) {
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

    /// Waits until its whole log fits.
    pub fn wait_until(&self, what: &str, limit: Duration, fits: impl Fn(&[Value]) -> bool) {
        let begin = Instant::now();
        while !fits(&self.log()) {
            assert!(begin.elapsed() < limit, "{what} does not show in the log within {limit:?}:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many events of this name it has logged.
    pub fn logged(&self, name: &str) -> usize {
        self.log().iter().filter(|event| event["event"] == name).count()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself; its exit code (`None` after a signal) and everything it had logged.
    pub fn end(mut self, limit: Duration) -> (Option<i32>, Vec<Value>) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(begin.elapsed() < limit, "the node goes on for more than {limit:?}:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(20));
        };
        self.read_to_the_end();
        (status.code(), self.log())
    }

    fn read_to_the_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
    }

    /// What `/ready` answers: its status, and each check's verdict and words.
    pub async fn ready(&self) -> (u16, Value) {
        let answer = reqwest::get(format!("{}/ready", self.url)).await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// Waits until this check of `/ready` is good, or is not; answers its words.
    pub async fn wait_ready(&self, name: &str, good: bool, limit: Duration) -> String {
        let begin = Instant::now();
        loop {
            let (status, body) = self.ready().await;
            let checks = body["checks"].as_array().expect("checks");
            let all = checks.iter().all(|check| check["ok"] == true);
            assert_eq!(
                (status, &body["ready"]),
                (if all { 200 } else { 503 }, &Value::Bool(all)),
                "the whole is what its parts are: {body}"
            );
            let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}: {body}"));
            if check["ok"] == good {
                return check["message"].as_str().expect("words").to_owned();
            }
            assert!(begin.elapsed() < limit, "{name} does not become {good} within {limit:?}: {body}\n{}", self.log_text());
            tokio::time::sleep(Duration::from_millis(50)).await;
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
        self.read_to_the_end();
        self.log()
    }

    /// SIGTERM; waits for the end and returns its exit code.
    pub fn terminate(self, limit: Duration) -> Option<i32> {
        signal(self.child.id(), nix::sys::signal::Signal::SIGTERM);
        self.end(limit).0
    }
}

/// Sends a signal to a child that was not waited for yet, so that its number is still its own.
pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
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
