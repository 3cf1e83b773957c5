//! Who this validator is: the set file, and the keys that make it one of its members.

use std::path::Path;

use finality_gadget::{ValidatorId, VoteSigner};
use milepost_validator_net::TransportKey;
use milepost_validator_net::set_file::{Agreement, SetFile};

use super::Error;
use super::keys::{self, keystore::VoteKey};
use crate::config::Validator;
use crate::keys::passphrase;

/// A validator as the set file knows it.
#[derive(Debug)]
pub(super) struct Membership {
    /// What all operators agree on.
    pub(super) agreement: Agreement,
    /// Which member.
    pub(super) me: ValidatorId,
    /// Its key on the network.
    pub(super) transport: TransportKey,
}

/// Reads the set file and compares it with the digest that the configuration demands.
pub(super) fn agreement(settings: &Validator) -> Result<Agreement, Error> {
    let path = settings.set_file().map_err(Error::Configuration)?;
    let agreement = SetFile::read(path)?.agreement()?;
    let found = digest(&agreement);
    match &settings.agreement {
        Some(wanted) if !wanted.trim().eq_ignore_ascii_case(&found) => Err(Error::Configuration(format!(
            "set file {}: its digest is {found}, validator.agreement demands {wanted}: it was changed, or is not the one that was agreed on",
            path.display()
        ))),
        _ => Ok(agreement),
    }
}

/// The digest of what must be the same everywhere, as it is printed and compared.
pub(super) fn digest(agreement: &Agreement) -> String {
    format!("0x{}", hex::encode(agreement.digest()))
}

impl Membership {
    /// Reads set file and transport key, and finds which member has it.
    pub(super) fn load(settings: &Validator) -> Result<Self, Error> {
        let agreement = agreement(settings)?;
        let path = settings.transport_key.as_deref().ok_or_else(|| {
            Error::Configuration("no transport key is configured: set validator.transport_key (milepost keys validator new)".to_owned())
        })?;
        let transport = transport_key(path)?;
        let pin = transport.pin();
        let members = agreement.schedule.sets().flat_map(|(_, set)| set.members().map(|(id, _)| id));
        let mine = |id: &ValidatorId| agreement.validator(*id).and_then(|validator| validator.identity) == Some(pin);
        let me = members.into_iter().find(mine).ok_or_else(|| {
            Error::Configuration(format!(
                "transport key {}: no member of the set file has the identity {pin}; the file or the key is another one's",
                path.display()
            ))
        })?;
        Ok(Self { agreement, me, transport })
    }

    /// Opens the vote key, if there is one to be used. Takes most of a second, and may ask on the terminal.
    pub(super) fn signer(&self, settings: &Validator) -> Result<Option<VoteKey>, Error> {
        let Some(path) = settings.keystore.as_deref().filter(|_| settings.persistence.config().enabled) else { return Ok(None) };
        let keystore = keys::read(path).map_err(Error::Configuration)?;
        let named = keystore.public_key().map_err(|why| Error::Configuration(keys::in_file(path, &why)))?;
        // Asked before a passphrase is.
        self.check_key(&named.0, path)?;
        let key = keys::open(&keystore, path, settings.passphrase_file.as_deref()).map_err(Error::Configuration)?;
        self.check_key(&key.public_key().0, path)?;
        Ok(Some(key))
    }

    fn check_key(&self, key: &[u8], path: &Path) -> Result<(), Error> {
        if self.agreement.validator(self.me).is_some_and(|validator| validator.key.0 == key) {
            return Ok(());
        }
        let me = self.me;
        Err(Error::Configuration(format!("keystore {}: its key is not the one that the set file gives validator {me}", path.display())))
    }
}

/// Reads a key in PEM from a file that only its owner reads.
pub(super) fn transport_key(path: &Path) -> Result<TransportKey, Error> {
    let text = passphrase::secret_file("transport key", path).map_err(Error::Configuration)?;
    TransportKey::from_pem(&text).map_err(|error| Error::Configuration(format!("transport key {}: {error}", path.display())))
}
