//! `milepost evidence`: what was kept of validators that contradicted themselves, and whether it convinces somebody who has nothing but
//! the set file.

use std::path::Path;
use std::process::ExitCode;

use finality_gadget::{Conflict, Evidence, EvidenceId};
use milepost_validator_net::set_file::SetFile;
use serde_json::{Value, json};

use super::args::EvidenceCommand;
use super::{Error, db, exit, settings};
use crate::config::{Config, Validator};
use crate::keys::seal;
use crate::output::{Output, table};

/// It does not hold.
const DOES_NOT_HOLD: u8 = 1;
/// No verdict.
const CANNOT_LOOK: u8 = 69;
/// Pieces read from the database at once.
const PAGE: usize = 256;

/// Runs an `evidence` command.
pub(crate) fn run(loaded: Result<(Config, Vec<String>), String>, command: &EvidenceCommand, output: Output) -> ExitCode {
    let configured = || settings(&loaded.map_err(Error::Configuration)?.0);
    match command {
        EvidenceCommand::Verify { file, set_file: Some(set) } => verify(file, set, output),
        EvidenceCommand::Verify { file, set_file: None } => {
            let set = configured().and_then(|settings| settings.set_file().map(Path::to_owned).map_err(Error::Configuration));
            match set {
                Ok(set) => verify(file, &set, output),
                Err(error) => cannot_look(&error.to_string()),
            }
        }
        EvidenceCommand::List => exit(configured().and_then(|settings| list(&settings, output))),
        EvidenceCommand::Export { out } => exit(configured().and_then(|settings| export(&settings, out, output))),
    }
}

fn verify(file: &Path, set: &Path, output: Output) -> ExitCode {
    let agreement = match SetFile::read(set).and_then(|file| file.agreement()) {
        Ok(agreement) => agreement,
        Err(error) => return cannot_look(&error.to_string()),
    };
    let bytes = match read(file) {
        Ok(bytes) => bytes,
        Err(error) => return cannot_look(&format!("{}: {error}", file.display())),
    };
    let verdict = Evidence::decode(&bytes).map_err(|error| error.to_string()).and_then(|evidence| {
        let conflict = evidence.verify(&agreement.schedule).map_err(|error| error.to_string())?;
        Ok((facts(&evidence), conflict))
    });
    let (shown, code) = match verdict {
        Ok((mut facts, conflict)) => {
            facts["holds"] = true.into();
            facts["conflict"] = kind(Some(conflict)).into();
            (facts, ExitCode::SUCCESS)
        }
        Err(reason) => (json!({ "holds": false, "reason": reason }), ExitCode::from(DOES_NOT_HOLD)),
    };
    match db::show(&shown, output) {
        Ok(()) => code,
        Err(error) => exit(Err(error)),
    }
}

fn cannot_look(message: &str) -> ExitCode {
    crate::failed(message);
    ExitCode::from(CANNOT_LOOK)
}

/// The encoding itself, or its hexadecimal digits.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    // Digits take twice the room, and may stand in lines.
    let most = 3 * Evidence::MAX_BYTES as u64;
    if length > most {
        return Err(format!("{length} bytes are no evidence: at most {most} are read"));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let digits: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok(hex::decode(digits.strip_prefix(b"0x").unwrap_or(&digits)).unwrap_or(bytes))
}

fn kind(conflict: Option<Conflict>) -> &'static str {
    match conflict {
        Some(Conflict::SameTarget) => "two votes for one target",
        Some(Conflict::Surround) => "one vote surrounds the other",
        None => "none",
    }
}

fn facts(evidence: &Evidence) -> Value {
    let link = |vote: &finality_gadget::Vote| format!("{} -> {}", vote.link.source, vote.link.target);
    json!({
        "id": evidence.id().to_string(),
        "validator": evidence.validator.0,
        "conflict": kind(evidence.conflict()),
        "first": link(evidence.first.vote()),
        "second": link(evidence.second.vote()),
    })
}

/// Everything that the database keeps.
fn kept(settings: &Validator) -> Result<Vec<Evidence>, Error> {
    let path = settings.database();
    db::refuse_if_held(&path)?;
    let inspection = db::inspect(&path)?;
    let (mut all, mut after): (Vec<Evidence>, Option<EvidenceId>) = (Vec::new(), None);
    loop {
        let page = inspection.db.evidence_after(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.id());
        all.extend(page);
    }
}

fn list(settings: &Validator, output: Output) -> Result<(), Error> {
    let all = kept(settings)?;
    let rows = || {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let rows = all.iter().map(facts).map(|facts| ["validator", "conflict", "first", "second", "id"].map(|name| text(&facts[name])));
        table(["VALIDATOR", "CONFLICT", "FIRST", "SECOND", "ID"], rows)
    };
    output.show(|| all.iter().map(facts).collect::<Vec<_>>(), rows).map_err(Error::System)
}

fn export(settings: &Validator, out: &Path, output: Output) -> Result<(), Error> {
    let all = kept(settings)?;
    let wrong = |path: &Path, reason: String| Error::File { path: path.to_owned(), reason };
    std::fs::create_dir_all(out).map_err(|error| wrong(out, error.to_string()))?;
    let mut written = Vec::new();
    for evidence in &all {
        let path = out.join(format!("{}.evidence", evidence.id()));
        let digits = format!("0x{}\n", hex::encode(evidence.encode()));
        match seal::write_new(&path, digits.as_bytes()) {
            // Its name is its digest: what is there already is the same.
            Ok(()) | Err(seal::Error::Exists) => written.push(path),
            Err(error) => return Err(wrong(&path, error.to_string())),
        }
    }
    output.show(|| &written, || written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n")).map_err(Error::System)
}
