//! One running worker: how it is started, greeted, heard and ended.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use milepost_statement::ProofKind;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Error;
use crate::conversation::Peer;
use crate::process::Options;
use crate::protocol::{FromWorker, MAX_BODY, PROTOCOL, ToWorker, VERSION, receive, send};

/// What a worker may know of this process's environment. Keys and tokens are not among it; nor is `RUST_BACKTRACE`: a backtrace takes
/// memory, and one that is made because there is none left waits for itself for ever.
const PASSED_ON: &[&str] = &["PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH"];

/// How much of a worker's error output is kept.
const STDERR_TAIL: usize = 4 << 10;

/// How long a dying process may take to be gone, before we stop waiting for it.
const REAP: Duration = Duration::from_secs(5);

/// A worker that greeted as it should. Killed when dropped.
pub(crate) struct Worker {
    /// The version it said.
    pub(crate) version: String,
    /// The kinds of proof it makes.
    kinds: Vec<ProofKind>,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: JoinHandle<String>,
    options: Options,
}

impl Worker {
    /// Starts the program and checks its greeting.
    pub(crate) async fn start(options: &Options) -> Result<Self, Error> {
        let mut command = Command::new(&options.path);
        command.arg("serve").env_clear().kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        if let Some(threads) = options.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let mut child = command.spawn().map_err(|why| cannot_start(options, &why))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("the worker's pipes are missing").into());
        };
        let stderr = tokio::spawn(keep_tail(stderr));
        let mut worker = Self { version: String::new(), kinds: Vec::new(), child, stdin, stdout, stderr, options: options.clone() };

        let (greeting, _) = worker.receive(options.patience.greeting, "no greeting").await?;
        let wrong = match greeting {
            FromWorker::Hello { protocol, version, .. } if protocol != PROTOCOL || version != VERSION => {
                Error::WrongVersion { ours: format!("{VERSION} (protocol {PROTOCOL})"), theirs: format!("{version} (protocol {protocol})") }
            }
            FromWorker::Hello { image_id, .. } if image_id != options.image_id => {
                Error::WrongImage { ours: options.image_id, theirs: image_id }
            }
            FromWorker::Hello { version, kinds, .. } => {
                (worker.version, worker.kinds) = (version, kinds);
                return Ok(worker);
            }
            FromWorker::Failed { code, .. } if code == "dev-mode" => Error::DevMode,
            FromWorker::Failed { code, message, .. } => Error::Refused { code, message },
            other => Error::NotAProver { path: options.path.clone(), why: format!("its first words are {other:?}") },
        };
        Err(worker.kill(wrong).await)
    }

    /// Hears the next message, or learns why there is none.
    async fn receive(&mut self, patience: Duration, what: &'static str) -> Result<(FromWorker, Vec<u8>), Error> {
        match timeout(patience, receive(&mut self.stdout, MAX_BODY)).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(self.ended(None).await),
            Ok(Err(why)) if why.kind() == io::ErrorKind::InvalidData => {
                let wrong = Error::NotAProver { path: self.options.path.clone(), why: why.to_string() };
                self.destroy().await;
                Err(wrong)
            }
            Ok(Err(why)) => Err(self.ended(Some(why)).await),
            Err(_) => Err(self.silent(patience, what).await),
        }
    }

    /// Whether it makes seals for the chain's verifier.
    pub(crate) fn check_seals(&self) -> Result<(), Error> {
        let sealing = self.kinds.contains(&ProofKind::Groth16);
        sealing.then_some(()).ok_or_else(|| Error::NoSeals { prover: self.options.path.display().to_string() })
    }

    /// Ends a worker that has done its work.
    pub(crate) async fn end(mut self) {
        self.destroy().await;
    }

    /// Kills a worker because of `error`.
    pub(crate) async fn kill(mut self, error: Error) -> Error {
        self.destroy().await;
        error
    }

    async fn silent(&mut self, silent: Duration, what: &'static str) -> Error {
        self.destroy().await;
        Error::Hung { silent, what }
    }

    /// The worker's output ended: how did the worker?
    async fn ended(&mut self, why: Option<io::Error>) -> Error {
        let status = match timeout(REAP, self.child.wait()).await {
            Ok(status) => status.ok(),
            // It closed its output and lives on.
            Err(_) => self.destroy().await,
        };
        let stderr = timeout(REAP, &mut self.stderr).await.ok().and_then(Result::ok).unwrap_or_default();
        match (status, why) {
            (Some(status), _) if status.success() && self.version.is_empty() => {
                Error::NotAProver { path: self.options.path.clone(), why: "it ended without a word".into() }
            }
            (Some(status), _) => Error::Crashed { status: status.to_string(), stderr },
            (None, Some(why)) => Error::Io(why),
            (None, None) => Error::Crashed { status: "an unknown status".into(), stderr },
        }
    }

    async fn destroy(&mut self) -> Option<ExitStatus> {
        // Fails only if the process is gone already.
        let _ = self.child.start_kill();
        timeout(REAP, self.child.wait()).await.ok()?.ok()
    }
}

impl Peer for Worker {
    async fn say(&mut self, message: &ToWorker, body: &[u8]) -> Result<(), Error> {
        let patience = self.options.patience.silence;
        match timeout(patience, send(&mut self.stdin, message, body)).await {
            Ok(Ok(())) => Ok(()),
            // It died while we wrote.
            Ok(Err(why)) => Err(self.ended(Some(why)).await),
            Err(_) => Err(self.silent(patience, "it does not read its request").await),
        }
    }

    async fn hear(&mut self) -> Result<(FromWorker, Vec<u8>), Error> {
        self.receive(self.options.patience.silence, "no sign of life").await
    }

    fn no_prover(&self, why: String) -> Error {
        Error::NotAProver { path: self.options.path.clone(), why }
    }
}

/// Why a program could not be started.
fn cannot_start(options: &Options, why: &io::Error) -> Error {
    let path = options.path.clone();
    match why.kind() {
        // A script whose interpreter is missing says "not found" too.
        io::ErrorKind::NotFound if !path.exists() => Error::Absent { path },
        io::ErrorKind::NotFound => Error::NotExecutable { path, why: "the interpreter or loader it names does not exist".into() },
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => Error::Io(io::Error::new(why.kind(), why.to_string())),
        _ => Error::NotExecutable { path, why: why.to_string() },
    }
}

/// Reads to the end and keeps the last [`STDERR_TAIL`] bytes.
async fn keep_tail(mut stderr: ChildStderr) -> String {
    let mut tail = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..read]);
        let excess = tail.len().saturating_sub(STDERR_TAIL);
        tail.drain(..excess);
    }
    String::from_utf8_lossy(&tail).into_owned()
}
