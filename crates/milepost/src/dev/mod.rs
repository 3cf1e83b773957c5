//! `milepost dev`: everything on one machine, from the deposit to the payout, with real processes.
//!
//! A dev chain (31337) with the contracts, a host process, a paying client in this process; on request validators, each a process, whose
//! certificates are then the host's only finality. Two turns over WebSocket across a
//! reconnect, one over the OpenAI door, a SIGKILL of the host in mid-stream and the turn taken up again, then the close and the
//! payout. What happened is written to `report.json`; a *separate process* (`milepost check-demo`) recomputes it from the client's
//! capture, the chain's logs and the receipts, and decides the exit code.

mod bundles;
mod node;
mod play;
mod report;
mod show;
mod stage;
mod validators;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::DevArgs;
use stage::Stage;

/// Why a demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or a process.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The host ended by itself.
    #[error("the host ended ({status}); its log is {}", .log.display())]
    HostEnded {
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
    },
    /// The host does not answer.
    #[error("the host's {page} did not answer within {seconds} s; its log is {}", .log.display())]
    HostSilent {
        /// Which page.
        page: String,
        /// How long it was asked.
        seconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// The dev chain.
    #[error("dev chain: {0}")]
    Chain(#[from] milepost_test_support::Error),
    /// The client.
    #[error("client: {0}")]
    Client(#[from] milepost_client::Error),
    /// The host's answer is not what it should be.
    #[error("the host answered {page} with {found}")]
    Answer {
        /// Which page.
        page: String,
        /// What came.
        found: String,
    },
    /// The model is not where the bootstrap puts it.
    #[error("there is no model at {}: run scripts/bootstrap, or set MILEPOST_MODEL to a GGUF file", .0.display())]
    NoModel(PathBuf),
    /// A validator.
    #[error("validator: {0}")]
    Validator(String),
    /// This build cannot play the whole demo.
    #[error("this build has no {0}: use `milepost dev --tour`, or build with the default features")]
    NotBuilt(&'static str),
}

/// Plays a session through and has it checked.
pub(crate) async fn run(args: &DevArgs) -> Result<ExitCode, Error> {
    let mut show = show::Show::new(args.tour);
    let mut stage = Stage::build(args, &mut show).await?;
    let played = play::play(&mut stage, &mut show).await?;
    let report = report::write(&stage, &played).await?;
    show::Show::money(&played.paid, stage.price());
    let program = std::env::current_exe().map_err(|source| Error::Io { what: "find this program".to_owned(), source })?;
    let bundles = bundles::check(&program, &stage.out, stage.tour, &mut show).await?;
    show.begin("a second process recomputes the report from capture, chain and receipts");
    let status = tokio::process::Command::new(program)
        .arg("check-demo")
        .arg(&report)
        .status()
        .await
        .map_err(|source| Error::Io { what: "start the checker".to_owned(), source })?;
    let holds = bundles && status.success();
    show.end(&report, holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
