//! A child process that is killed with SIGKILL at a chosen moment.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::die_with_parent;

/// Lines of output that wait to be read; a child that writes more waits, as it would for a slow terminal.
const MAX_LINES: usize = 65_536;

/// When to kill.
#[derive(Clone, Debug)]
pub enum Moment {
    /// At once.
    Now,
    /// So much later.
    After(Duration),
    /// As soon as a line of its output contains this text.
    Line(String),
}

/// A child process whose output is read line by line. Killed when dropped.
pub struct Victim {
    child: Child,
    lines: Receiver<String>,
    keeper: Option<std::thread::JoinHandle<()>>,
    stop: Option<SyncSender<()>>,
}

impl Victim {
    /// Spawns it. Its output (both streams) is gathered; it dies with this process.
    pub fn spawn(mut command: Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        die_with_parent(&mut command);
        // The spawning thread must live as long as the child, so it is one that waits to be told.
        let (stop, until) = sync_channel::<()>(1);
        let (born, birth) = sync_channel(1);
        let keeper = std::thread::Builder::new().name("victim".to_owned()).spawn(move || {
            let spawned = command.spawn();
            let alive = spawned.is_ok();
            let _ = born.send(spawned);
            if alive {
                // Ends when the sender is dropped.
                let _ = until.recv();
            }
        })?;
        let mut child = birth.recv().map_err(|_| Error::other("the spawning thread ended"))??;
        let (line, lines) = sync_channel(MAX_LINES);
        if let Some(stdout) = child.stdout.take() {
            read(stdout, line.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            read(stderr, line);
        }
        Ok(Self { child, lines, keeper: Some(keeper), stop: Some(stop) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that contains `text`; earlier ones are dropped. An error if none came in time or the output ended.
    pub fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => last = line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::new(
                        ErrorKind::TimedOut,
                        format!("no line with {text:?} within {limit:?}; the last one was {last:?}"),
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(
                        ErrorKind::UnexpectedEof,
                        format!("the output ended without a line with {text:?}; the last one was {last:?}"),
                    ));
                }
            }
        }
    }

    /// Kills it with SIGKILL at that moment (no later than `limit`), and waits until it is gone. An error if it ended by
    /// itself before, or the moment never came (it is killed all the same).
    pub fn kill_at(mut self, moment: Moment, limit: Duration) -> Result<ExitStatus> {
        let came = match moment {
            Moment::Now => Ok(()),
            Moment::After(delay) => {
                std::thread::sleep(delay.min(limit));
                Ok(())
            }
            Moment::Line(text) => self.wait_for_line(&text, limit).map(|_| ()),
        };
        if let Some(status) = self.child.try_wait()? {
            return Err(Error::other(format!("the process ended by itself before it was killed: {status}")));
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        came.map(|()| status)
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn read(stream: impl std::io::Read + Send + 'static, line: SyncSender<String>) {
    std::thread::spawn(move || {
        for text in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.send(text).is_err() {
                break;
            }
        }
    });
}
