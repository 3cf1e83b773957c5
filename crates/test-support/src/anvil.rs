//! The anvil process.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use tokio::sync::oneshot;

use crate::{Error, die_with_parent};

/// Lines of anvil's output kept for error messages.
const KEPT_LINES: usize = 20;
/// How long anvil may take to listen; it takes 0.2 s on an idle machine, a busy build machine is not one.
const LISTEN_SECONDS: u64 = 60;

/// One of the development accounts.
#[derive(Clone, Copy, Debug)]
pub struct DevAccount {
    /// Its address.
    pub address: Address,
    /// Its private key: well known, worth nothing.
    pub key: B256,
}

/// Finds anvil: `$MILEPOST_ANVIL`, the native binary that npm installed under `contracts/`, or one on the PATH. The npm
/// launcher script is not used: it would outlive its parent's death as a process of its own.
pub fn find_anvil() -> Result<PathBuf, Error> {
    let mut looked = Vec::new();
    if let Some(path) = std::env::var_os("MILEPOST_ANVIL") {
        looked.push(PathBuf::from(path));
    }
    let (os, arch) = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("macos", "aarch64") => ("darwin", "arm64"),
        ("macos", _) => ("darwin", "amd64"),
        (os, "aarch64") => (os, "arm64"),
        (os, _) => (os, "amd64"),
    };
    // From the crate's own place when built in the repository, and from where the process stands.
    for root in [PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."), PathBuf::from(".")] {
        looked.push(root.join(format!("contracts/node_modules/@foundry-rs/anvil-{os}-{arch}/bin/anvil")));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    looked.extend(std::env::split_paths(&path).map(|folder| folder.join("anvil")));
    match looked.iter().find(|candidate| candidate.is_file()) {
        Some(found) => Ok(found.clone()),
        None => Err(Error::NoAnvil { looked }),
    }
}

/// A running anvil. Killed when dropped.
pub(crate) struct Anvil {
    child: Arc<Mutex<Option<Child>>>,
    keeper: Option<JoinHandle<()>>,
    /// Where it keeps the states of old blocks. Its own choice is a place in the home directory, where a killed one leaves them for ever.
    _states: tempfile::TempDir,
    said: Arc<Mutex<VecDeque<String>>>,
    pub(crate) port: u16,
    pub(crate) accounts: Vec<DevAccount>,
}

impl Anvil {
    /// Starts anvil with these further arguments; port 0 lets the kernel choose.
    pub(crate) async fn start(port: u16, arguments: &[String]) -> Result<Self, Error> {
        let binary = find_anvil()?;
        let folder = tempfile::tempdir().map_err(|source| Error::Io { what: "making a folder for anvil", source })?;
        let description = folder.path().join("anvil.json");
        let mut command = Command::new(&binary);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).args(arguments).arg("--config-out").arg(&description);
        command.arg("--cache-path").arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());

        let child = Arc::new(Mutex::new(None));
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (listening, heard) = oneshot::channel();
        let keeper = std::thread::Builder::new()
            .name("anvil".to_owned())
            .spawn({
                let (child, said, binary) = (child.clone(), said.clone(), binary.clone());
                move || keep(command, &binary, &child, &said, listening)
            })
            .map_err(|source| Error::Spawn { path: binary, source })?;
        let mut anvil = Self { child, keeper: Some(keeper), _states: folder, said, port: 0, accounts: Vec::new() };
        anvil.port = match tokio::time::timeout(Duration::from_secs(LISTEN_SECONDS), heard).await {
            Ok(Ok(answer)) => answer?,
            _ => return Err(Error::Silent { seconds: LISTEN_SECONDS, said: anvil.last_words() }),
        };
        anvil.accounts = read_accounts(&description)?;
        Ok(anvil)
    }

    /// The process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        lock(&self.child).as_ref().map(Child::id)
    }

    /// Kills the process and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = lock(&self.child).as_mut() {
            // It may be dead already; the keeper reaps it either way.
            let _ = child.kill();
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }

    fn last_words(&self) -> String {
        lock(&self.said).iter().cloned().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Spawns the process from this thread, which lives as long as the process, and drains its output until it ends.
fn keep(
    mut command: Command,
    binary: &Path,
    slot: &Mutex<Option<Child>>,
    said: &Mutex<VecDeque<String>>,
    listening: oneshot::Sender<Result<u16, Error>>,
) {
    die_with_parent(&mut command);
    let stdout = match command.spawn() {
        Ok(mut child) => {
            let stdout = child.stdout.take();
            *lock(slot) = Some(child);
            stdout
        }
        Err(source) => {
            let _ = listening.send(Err(Error::Spawn { path: binary.to_owned(), source }));
            return;
        }
    };
    let mut listening = Some(listening);
    for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
        let port = line.strip_prefix("Listening on ").and_then(|at| at.trim().rsplit(':').next()?.parse().ok());
        if let (Some(port), Some(listening)) = (port, listening.take_if(|_| port.is_some())) {
            let _ = listening.send(Ok(port));
        }
        let mut said = lock(said);
        if said.len() == KEPT_LINES {
            said.pop_front();
        }
        said.push_back(line);
    }
    // Its output is closed: it is gone, or going.
    if let Some(mut child) = lock(slot).take() {
        let _ = child.wait();
    }
}

fn read_accounts(description: &Path) -> Result<Vec<DevAccount>, Error> {
    let bytes = std::fs::read(description).map_err(|source| Error::Io { what: "reading anvil's description of itself", source })?;
    let wrong = |answer: String| Error::Answer { what: "anvil's description of itself".to_owned(), answer };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
    let accounts: Option<Vec<_>> = list("available_accounts")
        .iter()
        .zip(list("private_keys").iter())
        .map(|(address, key)| Some(DevAccount { address: address.as_str()?.parse().ok()?, key: key.as_str()?.parse().ok()? }))
        .collect();
    accounts.filter(|accounts| accounts.len() >= 10).ok_or_else(|| wrong("fewer than ten accounts".to_owned()))
}

/// A lock whose holders cannot leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
