//! Following certificates without validating: whoever has the set file can know what is final.
//!
//! # The protocol
//!
//! A validator opens a [`Door`] beside its connections to other validators. Everybody may come: certificates are public, and prove
//! themselves. There is one question, "what is the newest certificate that makes a checkpoint final?" (`proto/certificates.proto`);
//! it names chain, trusted checkpoint, interval and rule, so that those who would misunderstand each other part with a reason.
//!
//! The follower ([`Light`]) asks several validators, each by its pinned key, and verifies whatever comes against the schedule from the
//! trusted checkpoint on. One certificate is enough, however far ahead: a quorum of every set in force has signed it, and its members had
//! checked what lies behind. What was accepted is kept ([`State`]) and written down before it is shown, so that a restart begins where the
//! last one ended.
//!
//! # What a validator can do to a follower
//!
//! | it | then |
//! |---|---|
//! | lies | its certificate does not hold; it is left alone for a while, and named |
//! | withholds, or lags | another one gives the newer certificate: one honest source is enough |
//! | sends old ones | nothing: the tip never moves back |
//! | is silent, or somebody else answers at its address | it is named with the reason; the others are asked |
//!
//! With more than f faulty members a set can certify two blocks for one number. The follower keeps both certificates, says so, and takes
//! nothing more as final, in this process and in later ones, until operators agree on a new trusted checkpoint.
//!
//! # Does not
//!
//! Look at a chain, and thus not say whether a given block is final: it says that block number and hash X is, and who knows the chain
//! tells whether a block is X or lies below it.
//!
//! # Log events
//!
//! | event | level | what happened | fields |
//! |---|---|---|---|
//! | `certificate_accepted` | info | a newer checkpoint is final | `checkpoint`, `block`, `hash`, `link` |
//! | `certificate_refused` | warn | a validator gave a certificate that does not hold | `validator`, `address` |
//! | `certificates_contradict` | error | two valid certificates contradict each other | `accepted`, `against`, `checkpoint` |
//! | `certificate_damaged` | warn | a stored certificate does not hold and was set aside | `path` |
//! | `source_heard`, `source_silent` | info, warn | a validator answers; it does not, and why | `validator`, `address` |
//! | `visitor_turned_away` | debug | at a validator: too many ask at once | `address` |

mod certified;
mod door;
mod rpc;
mod service;
mod shelf;
mod source;
mod tracker;

pub use certified::{Certified, Error as CertifiedError};
pub use door::{Board, Door};
pub use service::{Error, Handle, Light, Options, SourceReport, State, read};
pub use source::Trouble;
pub use tracker::Contradiction;
