//! `milepost db export | import | backup`: what a vote key has signed, handed on without anybody signing twice.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use checkpoint_db::CheckpointDB;
use checkpoint_db::interchange::{self, Interchange, MAX_FILE_BYTES};
use checkpoint_db::witness::FileWitness;
use finality_gadget::{DomainDigest, PublicKey};
use serde_json::json;

use super::membership::{Membership, agreement};
use super::{Error, db, keys, process};
use crate::config::Validator;
use crate::keys::seal;
use crate::output::Output;

/// The database within a backup.
const DATABASE: &str = "finality";
/// The key's history within a backup.
const HISTORY: &str = "history.json";
/// The witness as it was when the backup was made. Under this name no start takes it for its own: with its witness beside it, an old copy
/// would look like the newest there is.
const WITNESS: &str = "witness-when-backed-up";
/// What the backup is, and what it is not for.
const MANIFEST: &str = "backup.json";

/// Domain and key that a history is about.
fn subject(settings: &Validator) -> Result<(DomainDigest, PublicKey), Error> {
    let Some(path) = &settings.keystore else {
        let membership = Membership::load(settings)?;
        let domain = membership.agreement.schedule.domain_digest();
        let key = membership.agreement.validator(membership.me).map(|validator| PublicKey(validator.key.0.clone()));
        return key
            .map(|key| (domain, key))
            .ok_or_else(|| Error::Configuration("no vote key is configured: set validator.keystore".to_owned()));
    };
    let domain = agreement(settings)?.schedule.domain_digest();
    let keystore = keys::read(path).map_err(Error::Configuration)?;
    let key = keystore.public_key().map_err(|why| Error::Configuration(keys::in_file(path, &why)))?;
    Ok((domain, key))
}

/// Writes the history out. The database must be whole, and what was signed known.
pub(super) fn export(settings: &Validator, out: &Path, minified: bool, output: Output) -> Result<u8, Error> {
    let (domain, key) = subject(settings)?;
    let path = settings.database();
    // A database that is damaged, or not there, is not to be made anew by a look at it.
    let inspection = db::inspect(&path)?;
    if let Some(reason) = inspection.doubt {
        return Err(Error::History(interchange::Error::Doubtful { reason }));
    }
    drop(inspection);
    let db = CheckpointDB::new(&path)?;
    let file = if minified { db.export_minified(domain, &key)? } else { db.export_complete(domain, &key)? };
    let votes = file.data.iter().map(|history| history.signed_attestations.len()).sum::<usize>();
    write(out, file.to_json()?.as_bytes())?;
    db::show(&json!({ "written": out, "votes": votes, "minified": minified, "domain": domain.to_string() }), output)?;
    Ok(0)
}

/// Takes a history in.
pub(super) fn import(settings: &Validator, file: &Path, output: Output) -> Result<u8, Error> {
    let (domain, key) = subject(settings)?;
    let wrong = |reason: String| Error::File { path: file.to_owned(), reason };
    let length = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_FILE_BYTES as u64 {
        return Err(wrong(format!("{length} bytes; at most {MAX_FILE_BYTES} are read")));
    }
    let parsed = Interchange::from_json(&std::fs::read(file).map_err(|error| wrong(error.to_string()))?)?;
    let path = settings.database();
    process::make_folder(&path)?;
    let db = CheckpointDB::new(&path)?;
    let imported = db.import(domain, &key, &parsed)?;
    let marks = imported.state.as_ref().map(|state| (state.max_source.0, state.max_target.0));
    let contradictions: Vec<u64> = imported.contradictions.iter().map(|target| target.0).collect();
    db::show(
        &json!({
            "votes": imported.votes,
            "max_source": marks.map(|marks| marks.0),
            "max_target": marks.map(|marks| marks.1),
            "contradictions": contradictions,
        }),
        output,
    )?;
    Ok(0)
}

/// Writes a copy that may be used for everything but for signing on as if nothing had been signed since.
pub(super) fn backup(settings: &Validator, out: &Path, output: Output) -> Result<u8, Error> {
    let (domain, key) = subject(settings)?;
    let path = settings.database();
    let wrong = |path: &Path, error: std::io::Error| Error::File { path: path.to_owned(), reason: error.to_string() };
    drop(db::inspect(&path)?);
    let db = CheckpointDB::new(&path)?;
    db.check()?;
    std::fs::create_dir(out).map_err(|error| wrong(out, error))?;
    db.backup(&out.join(DATABASE))?;
    let history = match db.export_complete(domain, &key) {
        Ok(history) => {
            write(&out.join(HISTORY), history.to_json()?.as_bytes())?;
            true
        }
        // What was signed is not known well enough to be handed on; votes and certificates are worth a copy all the same.
        Err(interchange::Error::Doubtful { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let witness = FileWitness::beside(&path);
    if witness.path().exists() {
        let copy = out.join(WITNESS);
        let bytes = std::fs::read(witness.path()).map_err(|error| wrong(witness.path(), error))?;
        seal::write_new(&copy, &bytes).map_err(|error| Error::File { path: copy, reason: error.to_string() })?;
    }
    let state = db.sign_state()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let manifest = json!({
        "made_at_unix_seconds": now,
        "domain": domain.to_string(),
        "public_key": format!("0x{}", hex::encode(&key.0)),
        "max_source": state.as_ref().map(|state| state.max_source.0),
        "max_target": state.as_ref().map(|state| state.max_target.0),
        "history": history,
        "note": "A validator that is started on this copy does not sign until an operator declares that the old process is stopped: what was signed after the copy was made is not in it.",
    });
    write(&out.join(MANIFEST), format!("{manifest:#}\n").as_bytes())?;
    db::show(&json!({ "backup": out, "history": history, "max_target": manifest["max_target"] }), output)?;
    Ok(0)
}

/// A new file for its owner only, whole and synced.
fn write(path: &Path, text: &[u8]) -> Result<(), Error> {
    seal::write_new(path, text).map_err(|why| {
        let reason = match why {
            seal::Error::Exists => "it exists already, and is not written over".to_owned(),
            other => other.to_string(),
        };
        Error::File { path: path.to_owned(), reason }
    })
}
