//! Keys: where they lie, how they are opened, and what may be done with the host's own.
//!
//! A host has two keys. The **host's** key earns: it registers, names its submitter keys, and withdraws. It belongs on no box that
//! serves; it is opened for one command (`milepost keys submitter …`, `milepost earnings withdraw`) and forgotten. A
//! **submitter** key lies on the serving box, in an encrypted keystore (`keys.keystore`): it can claim, close and finalize, never
//! withdraw. A box that is lost costs a rotation, not money.
//!
//! A **validator's** vote key is another thing altogether (`validator::keys`); it is sealed in the same way ([`seal`]).
//!
//! Guarantees: a secret is held in memory that is wiped, is shown by nothing (`Debug` of a key is its address), and is never taken
//! from the command line.
//! Does not: keep a key off a machine that others control; nothing can.

#[cfg(feature = "host")]
mod accept;
#[cfg(feature = "host")]
pub(crate) mod command;
#[cfg(feature = "host")]
mod host;
#[cfg(feature = "host")]
mod keystore;
pub(crate) mod passphrase;
pub(crate) mod seal;
#[cfg(feature = "host")]
mod submitter;

#[cfg(feature = "host")]
pub(crate) use host::{SecretKey, Source, configured, configured_address, host_key, source};
#[cfg(feature = "host")]
use host::{in_file, open_file, read};
