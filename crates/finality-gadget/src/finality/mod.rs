//! [`CheckpointFinality`]: the core with a storage, a signer and a bridge around it.

mod maintenance;
mod restore;
mod service;

pub use maintenance::{Maintenance, Report};
pub use restore::{Background, RestoreReport};
pub use service::{CheckpointFinality, Error};
