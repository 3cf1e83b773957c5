//! Where tests and measurements find the small real model.

use std::path::PathBuf;

/// Its file name.
pub const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// SHA-256 of the file, as published.
pub const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// `$MILEPOST_MODEL`, or the file in the user's cache where `scripts/bootstrap` puts it. Otherwise what to do.
pub fn path() -> Result<PathBuf, String> {
    let path = match (std::env::var_os("MILEPOST_MODEL"), std::env::var_os("HOME")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => PathBuf::from(home).join(".cache/milepost/models").join(FILE),
        (None, None) => return Err("neither MILEPOST_MODEL nor HOME is set: run scripts/bootstrap".to_owned()),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("the model {} is not there: run scripts/bootstrap, which fetches it", path.display()))
    }
}
