//! `milepost keys new | import | show`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use milepost_statement::Address;
use serde_json::json;

use super::keystore::{Cost, Keystore};
use super::{SecretKey, Source, configured, in_file, open_file, passphrase, read, source, submitter};
use crate::cli::{ImportArgs, KeysCommand, NewKeyArgs, ShowKeyArgs};
use crate::config::{Config, Keys};
use crate::output::Output;

/// Runs a `keys` command. `config` is read only by those that need it. The error is one sentence that says what to do.
pub(crate) async fn run(command: KeysCommand, config: impl FnOnce() -> Result<Config, String>, output: Output) -> Result<ExitCode, String> {
    let done = match command {
        KeysCommand::AcceptNonces(args) => return super::accept::run(&args, &config()?, output).await,
        KeysCommand::New(args) => new(&args, output),
        KeysCommand::Import(args) => import(&args, output),
        KeysCommand::Show(args) => show(&args, config, output),
        KeysCommand::Submitter(command) => submitter::run(command, &config()?, output).await,
        #[cfg(feature = "validator")]
        KeysCommand::Validator(command) => crate::validator::keys::command::run(&command, config, output),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn new(args: &NewKeyArgs, output: Output) -> Result<(), String> {
    free(&args.out)?;
    let passphrase = passphrase::fresh(args.passphrase_file.as_deref())?;
    let key = SecretKey::generate().map_err(|why| in_file(&args.out, &why))?;
    store(&key, &passphrase, &args.out)?;
    told(&key, &args.out, "made", output)
}

fn import(args: &ImportArgs, output: Output) -> Result<(), String> {
    free(&args.out)?;
    let key = match &args.key_file {
        Some(file) => open_file(file)?,
        None => match std::env::var("HOST_PRIVATE_KEY").map(zeroize::Zeroizing::new) {
            Ok(text) => SecretKey::from_hex(&text).map_err(|why| format!("HOST_PRIVATE_KEY: {why}"))?,
            Err(_) => SecretKey::from_hex(&passphrase::ask_secret("Private key (64 hexadecimal digits, not shown): ")?)?,
        },
    };
    let passphrase = passphrase::fresh(args.passphrase_file.as_deref())?;
    store(&key, &passphrase, &args.out)?;
    told(&key, &args.out, "imported", output)
}

/// Asked before a passphrase is typed; the file is made by `create_new` all the same.
fn free(out: &Path) -> Result<(), String> {
    if out.exists() { Err(in_file(out, &super::keystore::Error::Exists)) } else { Ok(()) }
}

fn store(key: &SecretKey, passphrase: &str, out: &Path) -> Result<(), String> {
    let keystore = Keystore::encrypt(key, passphrase, Cost::RECOMMENDED).map_err(|why| in_file(out, &why))?;
    // What cannot be opened again must not be taken for a key that is safe.
    let again = keystore.decrypt(passphrase).map_err(|why| in_file(out, &why))?;
    if again.address() != key.address() {
        return Err(format!("keystore {}: it does not open to the key that was put in; nothing was written", out.display()));
    }
    keystore.write(out).map_err(|why| in_file(out, &why))
}

fn told(key: &SecretKey, out: &Path, done: &str, output: Output) -> Result<(), String> {
    let address = key.address();
    output.show(
        || json!({ "address": address, "keystore": out }),
        || format!("{done}: {address} in {}\nWithout its passphrase nobody opens it, neither do you: keep both apart.", out.display()),
    )
}

fn show(args: &ShowKeyArgs, config: impl FnOnce() -> Result<Config, String>, output: Output) -> Result<(), String> {
    let keys = if let Some(path) = &args.keystore { Keys { keystore: Some(path.clone()), ..Keys::default() } } else { config()?.keys };
    let source = source(&keys)?;
    let (address, verified, protection) = if let Source::Keystore(path) = &source {
        keystore(path, args.passphrase_file.as_ref().or(keys.passphrase_file.as_ref()), args.unlock)?
    } else {
        (configured(&keys)?.address(), true, "not encrypted".to_owned())
    };
    output.show(
        || json!({ "address": address, "verified": verified, "source": source.to_string(), "protection": protection }),
        || {
            let sure = if verified { "" } else { " (as the file says; --unlock opens it and makes sure)" };
            format!("address     {address}{sure}\nsource      {source}\nprotection  {protection}")
        },
    )
}

/// Address, whether it was made sure of, and protection.
fn keystore(path: &Path, passphrase_file: Option<&PathBuf>, unlock: bool) -> Result<(Address, bool, String), String> {
    let file = read(path)?;
    let named = file.address().map_err(|why| in_file(path, &why))?;
    match named {
        Some(address) if !unlock => Ok((address, false, file.kdf())),
        _ => {
            let passphrase = passphrase::existing(passphrase_file.map(PathBuf::as_path), path)?;
            let key = file.decrypt(&passphrase).map_err(|why| in_file(path, &why))?;
            Ok((key.address(), true, file.kdf()))
        }
    }
}
