//! The demo's proof bundles, checked as somebody else would: by a process without environment, model, chain and host.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::Error;
use super::show::Show;

/// Checks every bundle in the demo's folder; whether all hold.
pub(super) async fn check(program: &Path, folder: &Path, tour: bool, show: &mut Show) -> Result<bool, Error> {
    show.begin("each claim's proof bundle, checked by a process that has nothing but the file");
    let mut all = true;
    for bundle in find(folder)? {
        let mut command = Command::new(program);
        command.env_clear().arg("verify").arg(&bundle).arg("--json");
        if tour {
            command.arg("--accept-mock");
        }
        let output = command.output().await.map_err(|source| Error::Io { what: "start milepost verify".to_owned(), source })?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let verdict = report["verdict"].as_str().unwrap_or("no verdict");
        let holds = output.status.success();
        all &= holds;
        let name = bundle.file_name().unwrap_or_default().to_string_lossy();
        show.note(&format!("{}  {name}: {verdict}, {} tokens ({})", if holds { "ok  " } else { "FAIL" }, report["tokens"], output.status));
    }
    show.done("milepost verify FILE --replay prompts.json --model MODEL runs the turns of an opened one again");
    Ok(all)
}

fn find(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let io = |source| Error::Io { what: format!("read {}", folder.display()), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "bundle") {
            found.push(path);
        }
    }
    found.sort_unstable();
    if found.is_empty() {
        return Err(Error::Answer { page: folder.display().to_string(), found: "no bundle".to_owned() });
    }
    Ok(found)
}
