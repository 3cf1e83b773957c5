//! The submitter's key, from a file of its own or from the environment.

use std::os::unix::fs::PermissionsExt;

use milepost_settlement::SubmitterKey;
use zeroize::Zeroizing;

use super::Error;
use crate::config::Keys;

/// The submitter's key, as a transaction signer and as bytes for the receipts' signer.
pub(crate) fn read_key(keys: &Keys) -> Result<(SubmitterKey, Zeroizing<[u8; 32]>), Error> {
    let text = match (&keys.submitter, &keys.submitter_file) {
        (Some(_), Some(_)) => {
            return Err(Error::Key("both HOST_PRIVATE_KEY and keys.submitter_file are set: which one is meant? unset one".to_owned()));
        }
        (Some(secret), None) => Zeroizing::new(secret.expose().to_owned()),
        (None, Some(file)) => {
            let wrong = |why: String| Error::Key(format!("keys.submitter_file {}: {why}", file.display()));
            let mode = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(wrong(format!("others can read it (mode {:o}); chmod 600", mode & 0o777)));
            }
            Zeroizing::new(std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?)
        }
        (None, None) => {
            return Err(Error::Key(
                "a chain is configured but no key: put the submitter's private key into a file (keys.submitter_file, mode 600) or into HOST_PRIVATE_KEY"
                    .to_owned(),
            ));
        }
    };
    let mut bytes = Zeroizing::new([0; 32]);
    let digits = text.trim();
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut *bytes)
        .map_err(|_| Error::Key("the submitter's key is not 64 hexadecimal digits".to_owned()))?;
    let key = SubmitterKey::from_bytes(&bytes).map_err(|error| Error::Key(error.to_string()))?;
    Ok((key, bytes))
}
