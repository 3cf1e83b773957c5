//! Which code runs: version, commit, build time, guest image.

use serde::Serialize;

/// What `--version`, `GET /v1/version`, the startup log and a metric tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BuildInfo {
    /// Version of the workspace.
    pub(crate) version: &'static str,
    /// Git commit, with `-dirty` if the tree was changed.
    pub(crate) commit: &'static str,
    /// Build time, Unix seconds.
    pub(crate) built: u64,
    /// Features that shape what this program can do.
    pub(crate) features: Vec<&'static str>,
    /// Image id of the guest whose proofs it accepts.
    pub(crate) image_id: String,
}

/// This program's stamp.
pub(crate) fn build_info() -> BuildInfo {
    let mut features = Vec::new();
    let all = [
        ("validator", cfg!(feature = "validator")),
        ("rocksdb", cfg!(feature = "rocksdb")),
        ("llama", cfg!(feature = "llama")),
        ("stark", cfg!(feature = "stark")),
    ];
    for (name, on) in all {
        if on {
            features.push(name);
        }
    }
    BuildInfo {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("BUILD_COMMIT"),
        built: env!("BUILD_SECONDS").parse().unwrap_or(0),
        features,
        image_id: include_str!("../../../guest/image-id.txt").trim().to_owned(),
    }
}

/// The stamp in one line.
pub(crate) fn version_line() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("BUILD_COMMIT"), ", built ", env!("BUILD_SECONDS"), ")")
}
