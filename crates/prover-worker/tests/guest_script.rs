//! `scripts/guest check` where the pinned compiler cannot be had: it says so, and nobody takes that for a comparison.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the check with an empty cache and a package manager that has nothing.
fn check(required: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let apt = folder.path().join("apt-get");
    std::fs::write(&apt, "#!/bin/sh\necho nothing to be had >&2\nexit 100\n").unwrap();
    std::fs::set_permissions(&apt, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/guest");
    let mut check = Command::new(script);
    check.arg("check").env("PATH", path).env("MILEPOST_CACHE", folder.path().join("cache"));
    check.env("GUEST_REQUIRED", if required { "1" } else { "0" });
    check.output().unwrap()
}

#[test]
fn a_comparison_that_cannot_be_made_is_called_skipped_and_not_ok() {
    let out = check(false);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("cannot be had"), "{said}");
    assert!(said.contains("SKIPPED") && said.contains("NOT compared") && !said.contains("ok:"), "{said}");
}

#[test]
fn where_the_comparison_is_required_its_absence_fails() {
    let out = check(true);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED") && !said.contains("SKIPPED"), "{said}");
}
