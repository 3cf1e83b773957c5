//! A validator of checkpoints: `milepost validator`, and what is around it.
//!
//! # The process
//!
//! One thread owns the gadget ([`driver`]): messages, looks at the chain and the time go in, and nothing else touches it, so that there is
//! no lock around a decision to sign. Beside it run, each supervised ([`process`]):
//!
//! | part | what it does | when it ends |
//! |---|---|---|
//! | `finality` | the gadget's thread: votes, certificates, finality, the verification behind the start | the process ends |
//! | `network` | gRPC over mutual TLS with every other validator | the process ends |
//! | `certificates` | gives the newest certificate to everybody who asks, where it is configured | the process ends |
//! | `chain` | asks the endpoints, one after the other where one fails, and hands in what they say | the process ends |
//! | `maintenance` | flush and prune, at the configured times, on a blocking thread | the process ends |
//! | `doors` | `/health`, `/ready`, `/status`, `/metrics` | the process ends |
//! | `check` | reads every record once behind the start | is done; damage is dealt with at the next start |
//!
//! A failed write ends `finality` or `maintenance`, and with it the process: what the disk holds is known only after a restart.
//!
//! # Who it is
//!
//! Its transport key says which member of the set file it is; its vote key must be the one that the file gives that member. All that
//! operators must agree on stands in the file, and a digest covers it ([`membership`]).
//!
//! # What it signs
//!
//! That is the gadget's business, and the database's. Without a believable record of what its key has signed this process observes, says
//! why, and says which command an operator may give ([`declare`]).
//!
//! # Exit codes
//!
//! [`Error::exit_code`].

pub(crate) mod args;
mod chain;
pub(crate) mod db;
mod declare;
pub(crate) mod doctor;

mod doors;
mod driver;
mod error;
pub(crate) mod evidence;
mod history;
pub(crate) mod keys;
mod membership;
mod meters;
mod process;
mod set;
mod status;
mod storage;

use std::process::ExitCode;

use args::{ValidatorArgs, ValidatorCommand};
pub(crate) use error::Error;

use crate::config::{Config, Validator};
use crate::output::Output;

/// Runs the validator, or one of its commands.
pub(crate) async fn run(loaded: Result<(Config, Vec<String>), String>, args: ValidatorArgs, output: Output) -> ExitCode {
    let outcome = match (loaded.map_err(Error::Configuration), args.command) {
        (Ok((config, warnings)), None) => match settings(&config) {
            Ok(settings) => process::run(settings, warnings).await,
            Err(error) => Err(error),
        },
        (Ok((config, _)), Some(ValidatorCommand::Declare(args))) => match settings(&config) {
            Ok(settings) => declare::run(&settings, &args, output).await,
            Err(error) => Err(error),
        },
        (Ok((config, _)), Some(ValidatorCommand::Doctor)) => match settings(&config) {
            Ok(settings) => return doctor::run(&settings, output).await,
            Err(error) => Err(error),
        },
        (loaded, Some(ValidatorCommand::Set { file })) => set::run(loaded, file, output),
        (Err(error), _) => Err(error),
    };
    exit(outcome)
}

/// The section of the configuration, which must be there.
fn settings(config: &Config) -> Result<Validator, Error> {
    config
        .validator
        .clone()
        .ok_or_else(|| Error::Configuration("no validator is configured: there is no section [validator] (docs/validators.md)".to_owned()))
}

/// The exit code of an outcome; the error goes to standard error.
fn exit(outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::failed(&format!("[{}] {error}", error.code()));
            ExitCode::from(error.exit_code())
        }
    }
}
