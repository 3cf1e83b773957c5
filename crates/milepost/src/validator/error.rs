//! Why a validator does not start or had to end, and the exit codes that say it to whatever started it.

use std::net::SocketAddr;
use std::path::PathBuf;

use finality_gadget::finality;
use milepost_validator_net::set_file;

/// Why a validator, or a command about one, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Configuration, keys or set file: starting again does not help before somebody has mended them.
    #[error("configuration or keys: {0}")]
    Configuration(String),
    /// The set file.
    #[error("agreement: {0}")]
    SetFile(#[from] set_file::Error),
    /// The network cannot be made of what is configured.
    #[error("network: {0}")]
    Network(#[from] milepost_validator_net::Error),
    /// Another process holds the database.
    #[error("{}: {holder} has this database open. Two processes with one key are how validators contradict themselves: find it first", path.display())]
    Held {
        /// The database.
        path: PathBuf,
        /// Who, as far as it is known.
        holder: String,
    },
    /// The database failed, or refuses.
    #[error("checkpoint database: {0}")]
    Database(checkpoint_db::Error),
    /// The gadget stopped, or refuses.
    #[error("finality: {0}")]
    Finality(finality::Error),
    /// The record of own votes does not take what was declared.
    #[error("refused: {0}")]
    Refused(String),
    /// A history that cannot be handed on or taken in.
    #[error("history: {0}")]
    History(#[from] checkpoint_db::interchange::Error),
    /// An address is taken.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The chain does not answer a command that needs it.
    #[error("the chain does not answer: {0}")]
    Chain(String),
    /// A part that must not end has ended.
    #[error("{part} ended: {reason}; the process ends with it")]
    Ended {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// A file of a command.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Something of the operating system.
    #[error("operating system: {0}")]
    System(String),
}

/// Cannot start before somebody mends configuration, keys or set file.
const CONFIGURATION: u8 = 78;
/// The disk or the database failed.
const STORAGE: u8 = 74;
/// May be over soon: the database is held, an address is taken.
const FOR_NOW: u8 = 75;
/// A part ended that must not.
const BROKEN: u8 = 70;
/// Asked for something that needs an answer nobody gives.
const CANNOT_LOOK: u8 = 69;
/// What was asked for is refused.
const REFUSED: u8 = 1;

impl Error {
    /// The code that stays: `docs/errors.md`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Configuration(_) => "MP-V-001",
            Self::SetFile(_) => "MP-V-002",
            Self::Network(_) => "MP-V-003",
            Self::Held { .. } => "MP-V-004",
            Self::Database(_) => "MP-V-005",
            Self::Finality(_) => "MP-V-006",
            Self::Refused(_) => "MP-V-007",
            Self::History(_) => "MP-V-008",
            Self::Listen { .. } => "MP-V-009",
            Self::Chain(_) => "MP-V-010",
            Self::Ended { .. } => "MP-V-011",
            Self::File { .. } => "MP-V-012",
            Self::System(_) => "MP-V-013",
        }
    }

    /// What the process ends with; the codes of `sysexits.h` where they fit. 0: stopped as it was told. 1: what was asked for is refused.
    /// 69: the chain does not answer. 70: a part ended that must not. 74: the disk or the database failed. 75: the database is held, or
    /// an address taken. 78: configuration, keys or set file must be mended first, so that starting again is of no use.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_)
            | Self::SetFile(_)
            | Self::Network(_)
            | Self::Finality(finality::Error::WrongKey(_) | finality::Error::NoStorage) => CONFIGURATION,
            Self::Held { .. } | Self::Listen { .. } => FOR_NOW,
            Self::Database(_) | Self::Finality(_) => STORAGE,
            Self::Refused(_) | Self::History(_) | Self::File { .. } => REFUSED,
            Self::Chain(_) => CANNOT_LOOK,
            Self::Ended { .. } | Self::System(_) => BROKEN,
        }
    }
}

impl From<finality::Error> for Error {
    fn from(error: finality::Error) -> Self {
        Self::Finality(error)
    }
}

impl From<checkpoint_db::Error> for Error {
    fn from(error: checkpoint_db::Error) -> Self {
        match error {
            checkpoint_db::Error::Store(milepost_store::Error::Locked { path }) => {
                let holder = match super::db::holder(&path) {
                    Some(pid) => format!("process {pid}"),
                    None => "another process".to_owned(),
                };
                Self::Held { path, holder }
            }
            other => Self::Database(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_an_operator_can_mend_is_told_from_what_may_be_over_soon() {
        let held = Error::Held { path: "finality".into(), holder: "process 7".to_owned() };
        assert_eq!(held.code(), "MP-V-004");
        assert_eq!((held.exit_code(), Error::Configuration(String::new()).exit_code()), (75, 78));
        assert_eq!(Error::from(checkpoint_db::Error::Stopped { reason: "full".to_owned() }).exit_code(), 74);
        let ended = Error::Ended { part: "chain", reason: "panicked".to_owned() };
        assert_eq!(ended.exit_code(), 70);
        assert!(held.to_string().contains("process 7"));
    }
}
