//! Milepost: a host node for paid, provable LLM inference. The program is thin: command line, configuration, wiring.

#[cfg(not(any(feature = "host", feature = "validator")))]
compile_error!("choose what this program is: the feature `host`, `validator`, or both");

#[cfg(feature = "host")]
mod books;
mod build_info;
#[cfg(feature = "host")]
mod check;
mod cli;
#[cfg(feature = "host")]
mod client;
mod config;
#[cfg(feature = "host")]
mod dev;
#[cfg(feature = "host")]
mod host;
#[cfg(feature = "host")]
mod inspect;
mod keys;
mod logs;
#[cfg(feature = "host")]
mod operate;
mod output;
mod redact;
#[cfg(feature = "host")]
mod send;
#[cfg(feature = "validator")]
mod validator;
#[cfg(feature = "host")]
mod verify;

use std::borrow::Cow;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;

#[cfg(feature = "host")]
use cli::EarningsCommand;
use cli::{Cli, Command};
use config::Config;
use output::Output;

/// A command line that cannot be read. Not clap's 2, which `reconcile` gives another meaning.
const USAGE: u8 = 64;
/// `why`, `reconcile` and `verify` could not look: no verdict, and none of their own exit codes.
#[cfg(feature = "host")]
const CANNOT_LOOK: u8 = 69;

fn main() -> ExitCode {
    redact::learn_surroundings();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, on standard output. Where nobody listens any more there is nobody to tell.
            let _ = match redact::clean(&error.render().to_string()) {
                // It quotes an argument or a variable that holds an address.
                Cow::Owned(text) if error.use_stderr() => std::io::stderr().write_all(text.as_bytes()),
                Cow::Owned(text) => std::io::stdout().write_all(text.as_bytes()),
                Cow::Borrowed(_) => error.print(),
            };
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let set = match cli::pairs(&cli.common.set) {
        Ok(set) => set,
        Err(message) => {
            failed(&message);
            return ExitCode::from(USAGE);
        }
    };
    logs::init(cli.common.json, cli.command.is_service());
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the async runtime: {error}")),
    };
    runtime.block_on(run(cli, set))
}

async fn run(cli: Cli, set: Vec<(String, String)>) -> ExitCode {
    let common = cli.common;
    let output = Output::choose(common.json, common.table);
    let loaded = || config::load(common.config.as_deref(), std::env::vars(), &set).map_err(|error| error.to_string());
    #[cfg(feature = "host")]
    let configured = || loaded().map(|(config, _)| config);
    let done = |outcome: Result<(), String>| outcome.map(|()| ExitCode::SUCCESS);
    let outcome: Result<ExitCode, String> = match cli.command {
        #[cfg(feature = "host")]
        Command::Serve => match loaded() {
            Ok((config, warnings)) => done(host::serve(config, warnings).await.map_err(|error| error.to_string())),
            Err(error) => Err(error),
        },
        #[cfg(feature = "host")]
        Command::Dev(args) => dev::run(&args).await.map_err(|error| error.to_string()),
        #[cfg(feature = "host")]
        Command::Client(command) => client::run(*command, common.json, output).await,
        #[cfg(feature = "host")]
        Command::Why { job } => return looked(with(configured(), async |config| inspect::why(&config, job, output).await).await),
        #[cfg(feature = "host")]
        Command::Reconcile => return looked(with(configured(), async |config| inspect::reconcile(&config, output).await).await),
        #[cfg(feature = "host")]
        Command::Doctor(args) => operate::doctor::run(loaded(), &args, output).await,
        #[cfg(feature = "host")]
        Command::Jobs { command: Some(cli::JobsCommand::Resume(args)), .. } => {
            with(configured(), async |config| operate::by_hand::resume(&config, &args, output).await).await
        }
        #[cfg(feature = "host")]
        Command::Jobs { command: None, all } => {
            done(with(configured(), async |config| operate::jobs::run(&config, all, output).await).await)
        }
        #[cfg(feature = "host")]
        Command::Claims { command: Some(cli::ClaimsCommand::Cancel(args)), .. } => {
            with(warned(loaded()), async |config| operate::by_hand::cancel(&config, &args, output).await).await
        }
        #[cfg(feature = "host")]
        Command::Claims { command: None, job, all } => {
            done(configured().and_then(|config| operate::claims::run(&config, job, all, output)))
        }
        #[cfg(feature = "host")]
        Command::Earnings { command } => {
            let show = async |config: Config| match &command {
                None => operate::earnings::show(&config, output).await,
                Some(EarningsCommand::Withdraw(args)) => operate::earnings::withdraw(&config, args, output).await,
            };
            done(with(warned(loaded()), show).await)
        }
        #[cfg(feature = "host")]
        Command::Keys(command) => keys::command::run(command, || warned(loaded()), output).await,
        #[cfg(not(feature = "host"))]
        Command::Keys(cli::KeysCommand::Validator(command)) => done(validator::keys::command::run(&command, || warned(loaded()), output)),
        #[cfg(feature = "validator")]
        Command::Validator(args) => return validator::run(loaded(), args, output).await,
        #[cfg(feature = "validator")]
        Command::Evidence(command) => return validator::evidence::run(loaded(), &command, output),
        #[cfg(feature = "validator")]
        Command::Db(args) => return validator::db::run(loaded(), &args, output),
        #[cfg(feature = "host")]
        Command::Verify(args) => return verify::run(&args, output).await,
        #[cfg(feature = "host")]
        Command::CheckDemo { report } => Ok(check::check(&report).await.exit_code()),
    };
    outcome.unwrap_or_else(|message| failed(&message))
}

/// Runs with a configuration, if there is one.
#[cfg(feature = "host")]
async fn with<T>(config: Result<Config, String>, run: impl AsyncFnOnce(Config) -> Result<T, String>) -> Result<T, String> {
    run(config?).await
}

/// The configuration; its warnings go to the terminal, for commands that open a key.
fn warned(loaded: Result<(Config, Vec<String>), String>) -> Result<Config, String> {
    let (config, warnings) = loaded?;
    for warning in warnings {
        eprintln!("milepost: warning: {}", redact::clean(&warning));
    }
    Ok(config)
}

/// A verdict, or that there is none.
#[cfg(feature = "host")]
fn looked(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        failed(&message);
        ExitCode::from(CANNOT_LOOK)
    })
}

pub(crate) fn failed(message: &str) -> ExitCode {
    // Where nobody can be told, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "milepost: {}", redact::clean(message));
    ExitCode::FAILURE
}
