//! Milepost: a host node for paid, provable LLM inference. The program is thin: command line, configuration, wiring.

mod build_info;
mod check;
mod cli;
mod client;
mod config;
mod dev;
mod host;
mod inspect;
mod logs;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::init(cli.common.json);
    milepost_settlement::install_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the async runtime: {error}")),
    };
    runtime.block_on(run(cli))
}

async fn run(cli: Cli) -> ExitCode {
    let common = cli.common;
    let configured = || config::load(common.config.as_deref(), std::env::vars(), &common.set);
    let outcome: Result<ExitCode, String> = match cli.command {
        Command::Serve => match configured() {
            Ok((config, warnings)) => host::serve(config, warnings).await.map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        Command::Dev(args) => dev::run(&args).await.map_err(|error| error.to_string()),
        Command::Client(command) => client::run(*command, common.json).await.map(|()| ExitCode::SUCCESS),
        Command::Why { job } => match configured() {
            Ok((config, _)) => inspect::why(&config, job, common.json).await,
            Err(error) => Err(error.to_string()),
        },
        Command::Reconcile => match configured() {
            Ok((config, _)) => inspect::reconcile(&config, common.json).await,
            Err(error) => Err(error.to_string()),
        },
        Command::CheckDemo { report } => Ok(check::check(&report).await.exit_code()),
    };
    outcome.unwrap_or_else(|message| failed(&message))
}

fn failed(message: &str) -> ExitCode {
    // Where nobody can be told, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "milepost: {message}");
    ExitCode::FAILURE
}
