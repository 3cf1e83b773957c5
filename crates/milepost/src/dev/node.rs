//! The host of a demo: `milepost serve` as a process of its own, which can be killed and started again.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::Error;

/// Longest wait for the doors after a start: loading a model from a cold disk takes seconds, a database a few more.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A host process.
pub(super) struct Node {
    child: Child,
    /// Address of its doors.
    pub(super) url: String,
    settings: Settings,
}

/// What it is started with, every time.
#[derive(Clone)]
pub(super) struct Settings {
    /// Its configuration file.
    pub(super) config: PathBuf,
    /// Private key of its submitter, handed over in the environment.
    pub(super) submitter: String,
    /// Where its log goes, start after start.
    pub(super) log: PathBuf,
    /// Port of its doors.
    pub(super) port: u16,
}

impl Node {
    /// Starts the host and waits until its doors answer.
    pub(super) async fn start(settings: Settings) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|source| Error::Io { what: "find this program".to_owned(), source })?;
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let log = open(&settings.log).map_err(|source| Error::Io { what: format!("open {}", settings.log.display()), source })?;
        let child = Command::new(program)
            .args(["serve", "--json", "--config"])
            .arg(&settings.config)
            .env("HOST_PRIVATE_KEY", &settings.submitter)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Io { what: "start the host".to_owned(), source })?;
        let mut node = Self { child, url: format!("http://127.0.0.1:{}", settings.port), settings };
        node.wait_until("/health", START_LIMIT).await?;
        Ok(node)
    }

    /// Waits until a page answers 200.
    pub(super) async fn wait_until(&mut self, page: &str, limit: Duration) -> Result<(), Error> {
        let http = reqwest::Client::new();
        let begin = Instant::now();
        loop {
            if let Ok(answer) = http.get(format!("{}{page}", self.url)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Error::HostEnded { status: status.to_string(), log: self.settings.log.clone() });
            }
            if begin.elapsed() > limit {
                return Err(Error::HostSilent { page: page.to_owned(), seconds: limit.as_secs(), log: self.settings.log.clone() });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL: no goodbye, no flush.
    pub(super) async fn kill(mut self) -> Result<Settings, Error> {
        self.child.kill().await.map_err(|source| Error::Io { what: "kill the host".to_owned(), source })?;
        Ok(self.settings)
    }
}
