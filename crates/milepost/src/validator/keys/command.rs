//! `milepost keys validator new | show`.

use std::path::Path;

use finality_gadget::VoteSigner;
use milepost_validator_net::TransportKey;
use milepost_validator_net::set_file::{HexBytes, Scheme, Validator as Member};
use serde::Serialize;
use serde_json::json;

use super::keystore::{Cost, VoteKey, VoteKeystore};
use super::{in_file, open, read};
use crate::config::{Config, Validator};
use crate::keys::{passphrase, seal};
use crate::output::Output;
use crate::validator::args::{NewValidatorKeyArgs, SchemeName, ShowValidatorKeyArgs, ValidatorKeysCommand};
use crate::validator::membership::transport_key;

/// The encrypted vote key.
const VOTE_KEY: &str = "vote.json";
/// The key on the network.
const TRANSPORT_KEY: &str = "transport.pem";
/// What the others need to know.
const REGISTRATION: &str = "registration.toml";

/// Runs a command. `config` is read only by those that need it. The error is one sentence that says what to do.
pub(crate) fn run(command: &ValidatorKeysCommand, config: impl FnOnce() -> Result<Config, String>, output: Output) -> Result<(), String> {
    match command {
        ValidatorKeysCommand::New(args) => new(args, output),
        ValidatorKeysCommand::Show(args) => show(args, config, output),
    }
}

/// A piece of a set file.
#[derive(Serialize)]
struct Registration {
    validators: [Member; 1],
}

fn new(args: &NewValidatorKeyArgs, output: Output) -> Result<(), String> {
    let [vote, transport, registration] = [VOTE_KEY, TRANSPORT_KEY, REGISTRATION].map(|name| args.out.join(name));
    // Asked before a passphrase is typed; the files are made by `create_new` all the same.
    if let Some(there) = [&vote, &transport, &registration].into_iter().find(|path| path.exists()) {
        return Err(format!("{}: it exists already, and a key is never written over: name another folder", there.display()));
    }
    let passphrase = passphrase::fresh(args.passphrase_file.as_deref())?;
    if !passphrase.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control()) {
        return Err("the passphrase of a vote key is made of ASCII characters: programs differ in how they read others".to_owned());
    }
    let scheme = match args.scheme {
        SchemeName::Bls => Scheme::Bls,
        SchemeName::Ed25519 => Scheme::Ed25519,
    };
    let key = VoteKey::generate(scheme).map_err(|why| in_file(&vote, &why))?;
    let keystore = VoteKeystore::encrypt(&key, &passphrase, Cost::RECOMMENDED).map_err(|why| in_file(&vote, &why))?;
    // What cannot be opened again must not be taken for a key that is safe.
    keystore.decrypt(&passphrase).map_err(|why| in_file(&vote, &why))?;
    let network = TransportKey::generate().map_err(|error| error.to_string())?;
    let member = Member {
        id: args.id,
        key: HexBytes(key.public_key().0.clone()),
        possession: HexBytes(key.possession().0),
        identity: Some(network.pin()),
        address: args.address.clone(),
        certificates: args.certificates.clone(),
    };
    let snippet = toml::to_string(&Registration { validators: [member] }).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    keystore.write(&vote).map_err(|why| in_file(&vote, &why))?;
    put(&transport, network.to_pem().as_bytes())?;
    put(&registration, snippet.as_bytes())?;
    output.show(
        || json!({ "keystore": vote, "transport_key": transport, "registration": registration, "set_file": snippet }),
        || {
            format!(
                "made: {} and {}\nFor the set file ({}):\n\n{snippet}\nWithout its passphrase nobody opens the vote key, neither do you: keep both apart.",
                vote.display(),
                transport.display(),
                registration.display()
            )
        },
    )
}

fn put(path: &Path, text: &[u8]) -> Result<(), String> {
    seal::write_new(path, text).map_err(|why| format!("{}: {why}", path.display()))
}

fn show(args: &ShowValidatorKeyArgs, config: impl FnOnce() -> Result<Config, String>, output: Output) -> Result<(), String> {
    let configured = if args.keystore.is_some() || args.transport_key.is_some() {
        Validator::default()
    } else {
        config()?.validator.unwrap_or_default()
    };
    let keystore = args.keystore.as_ref().or(configured.keystore.as_ref());
    let transport = args.transport_key.as_ref().or(configured.transport_key.as_ref());
    if keystore.is_none() && transport.is_none() {
        return Err("nothing to show: give --keystore or --transport-key, or set them in [validator]".to_owned());
    }
    let (mut facts, mut lines) = (serde_json::Map::new(), Vec::new());
    let mut tell = |name: &str, value: String| {
        lines.push(format!("{name:<12}{value}"));
        facts.insert(name.to_owned(), value.into());
    };
    if let Some(path) = keystore {
        let file = read(path)?;
        let named = file.public_key().map_err(|why| in_file(path, &why))?;
        tell("key", format!("0x{}", hex::encode(&named.0)));
        tell("scheme", serde_json::to_value(file.scheme()).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default());
        tell("protection", file.kdf().map_err(|why| in_file(path, &why))?);
        if args.unlock {
            let key = open(&file, path, args.passphrase_file.as_deref().or(configured.passphrase_file.as_deref()))?;
            tell("possession", format!("0x{}", hex::encode(key.possession().0)));
        }
    }
    if let Some(path) = transport {
        tell("identity", transport_key(path).map_err(|error| error.to_string())?.pin().to_string());
    }
    output.show(|| facts, || lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Read {
        validators: Vec<Member>,
    }

    #[test]
    fn new_keys_can_be_registered_as_they_are_written_and_are_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("passphrase");
        seal::write_new(&secret, b"correct horse battery").expect("written");
        let args = |passphrase_file: &Path| NewValidatorKeyArgs {
            out: folder.path().join("keys"),
            id: 7,
            address: Some("v7.example:7700".to_owned()),
            certificates: None,
            scheme: SchemeName::Bls,
            passphrase_file: Some(passphrase_file.to_owned()),
        };
        new(&args(&secret), Output::Json).expect("made");
        let text = std::fs::read_to_string(args(&secret).out.join(REGISTRATION)).expect("there");
        assert!(text.starts_with("[[validators]]"), "{text}");
        let member = toml::from_str::<Read>(&text).expect("a piece of a set file").validators.remove(0);
        let made = finality_gadget::ValidatorSet::new(finality_gadget::SetId(1), &*Scheme::Bls.scheme(), &[member.registration()]);
        assert!(made.is_ok(), "the proof of possession holds");
        assert_eq!(member.identity, Some(transport_key(&args(&secret).out.join(TRANSPORT_KEY)).expect("read").pin()));
        assert!(new(&args(&secret), Output::Json).expect_err("refused").contains("never written over"));
        let foreign = folder.path().join("foreign");
        seal::write_new(&foreign, "pässphräse".as_bytes()).expect("written");
        let elsewhere = NewValidatorKeyArgs { out: folder.path().join("other"), ..args(&foreign) };
        assert!(new(&elsewhere, Output::Json).expect_err("refused").contains("ASCII"));
    }
}
