//! Where a passphrase comes from: a file, the environment, or the terminal. Never from the command line, which every process on
//! the machine can read.

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// The variable that holds it, for every command.
pub(crate) const VARIABLE: &str = "MILEPOST_PASSPHRASE";
/// Longest passphrase read: beyond it, a wrong file was named.
const MAX_BYTES: u64 = 4096;
/// Shortest for a new key. Scrypt makes each guess cost most of a second; fewer characters than these can be tried all the same.
const MIN_CHARACTERS: usize = 8;

/// The passphrase of an existing keystore.
pub(crate) fn existing(file: Option<&Path>, keystore: &Path) -> Result<Zeroizing<String>, String> {
    if let Some(found) = unasked(file)? {
        return Ok(found);
    }
    ask(&format!("Passphrase of {}: ", keystore.display()))
}

/// A passphrase for a new keystore; typed ones are typed twice.
pub(crate) fn fresh(file: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let found = if let Some(found) = unasked(file)? {
        found
    } else {
        let first = ask("New passphrase: ")?;
        if *first != *ask("The same again: ")? {
            return Err("the two passphrases differ; nothing was written".to_owned());
        }
        first
    };
    if found.chars().count() < MIN_CHARACTERS {
        return Err(format!("the passphrase is shorter than {MIN_CHARACTERS} characters; nothing was written"));
    }
    Ok(found)
}

fn unasked(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, String> {
    let found = match file {
        Some(file) => Some(secret_file("passphrase file", file)?),
        None => std::env::var(VARIABLE).ok().map(Zeroizing::new),
    };
    let Some(found) = found else { return Ok(None) };
    // An editor's line end is no part of it.
    let text = found.strip_suffix('\n').unwrap_or(&found);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(file.map_or_else(|| format!("{VARIABLE} is empty"), |file| format!("passphrase file {}: it is empty", file.display())));
    }
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, String> {
    // A service has no terminal; asking one that nobody sits at would wait for ever.
    if !std::io::stdin().is_terminal() {
        return Err(format!("no passphrase: name a file that holds it (mode 600), set {VARIABLE}, or run this on a terminal"));
    }
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| format!("the terminal gives no passphrase: {error}"))
}

/// A secret typed on the terminal.
#[cfg(feature = "host")]
pub(super) fn ask_secret(prompt: &str) -> Result<Zeroizing<String>, String> {
    ask(prompt)
}

/// The text of a file that only its owner reads.
pub(crate) fn secret_file(name: &str, file: &Path) -> Result<Zeroizing<String>, String> {
    let wrong = |why: String| format!("{name} {}: {why}", file.display());
    let about = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    let mode = about.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others can read it (mode {:o}); chmod 600", mode & 0o777)));
    }
    if about.len() > MAX_BYTES {
        return Err(wrong(format!("{} bytes are no secret of one line", about.len())));
    }
    std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("set");
        file
    }

    #[test]
    fn a_line_end_is_no_part_of_a_passphrase_and_spaces_are() {
        for (text, expected) in [("correct horse\n", "correct horse"), (" correct horse ", " correct horse "), ("a\r\n", "a")] {
            assert_eq!(*existing(Some(file(text, 0o600).path()), Path::new("k")).expect("read"), expected);
        }
    }

    #[test]
    fn a_passphrase_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660] {
            let error = existing(Some(file("secret phrase", mode).path()), Path::new("k")).expect_err("refused");
            assert!(error.contains("chmod 600") && !error.contains("secret phrase"), "{error}");
        }
    }

    #[test]
    fn an_empty_or_a_short_passphrase_makes_no_key() {
        assert!(fresh(Some(file("\n", 0o600).path())).expect_err("refused").contains("empty"));
        assert!(fresh(Some(file("seven77", 0o600).path())).expect_err("refused").contains("shorter than 8"));
        assert_eq!(*fresh(Some(file("eight888", 0o600).path())).expect("taken"), "eight888");
    }
}
