//! Why a stream ends, as a value on both sides of the wire.

use std::fmt;

use bytes::Bytes;
use finality_gadget::ValidatorId;
use finality_gadget::network::Refused;
use prost::Message as _;
use tonic::{Code, Status};

use crate::wire;

/// Characters of a peer's words that are kept: enough to read, too few to fill a log.
const MAX_WORDS: usize = 200;

/// The reason of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another version of the protocol.
    Version,
    /// Another chain.
    Chain,
    /// Another trusted checkpoint, or another first validator set.
    Trusted,
    /// The same set id stands for other members.
    Set,
    /// The validator is in no set of the schedule.
    Unknown,
    /// The hello names another validator than the one whose key was shown.
    Identity,
    /// A frame or message that no honest node sends.
    Malformed,
    /// No hello came in time.
    Silent,
    /// The same validator opened a newer stream.
    Replaced,
    /// The node is shutting down.
    Closing,
}

impl Reason {
    const ALL: [(Self, wire::Reason, Code); 10] = [
        (Self::Version, wire::Reason::Version, Code::FailedPrecondition),
        (Self::Chain, wire::Reason::Chain, Code::FailedPrecondition),
        (Self::Trusted, wire::Reason::Trusted, Code::FailedPrecondition),
        (Self::Set, wire::Reason::Set, Code::FailedPrecondition),
        (Self::Unknown, wire::Reason::Unknown, Code::PermissionDenied),
        (Self::Identity, wire::Reason::Identity, Code::PermissionDenied),
        (Self::Malformed, wire::Reason::Malformed, Code::InvalidArgument),
        (Self::Silent, wire::Reason::Silent, Code::DeadlineExceeded),
        (Self::Replaced, wire::Reason::Replaced, Code::Aborted),
        (Self::Closing, wire::Reason::Closing, Code::Unavailable),
    ];

    /// Whether only an operator can do something about it: dialling again soon is of no use.
    pub fn needs_an_operator(self) -> bool {
        !matches!(self, Self::Silent | Self::Closing)
    }
}

/// Why one of two nodes does not talk to the other. `theirs` and `ours` are said from the view of the one who refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// What the refused side said, where two numbers are compared (versions, chains, ids); zero elsewhere.
    pub theirs: u64,
    /// What holds at the refusing side; zero where nothing is compared.
    pub ours: u64,
    /// In words.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Refusal {}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let words = refused.to_string();
        let (reason, theirs, ours) = match refused {
            Refused::Version { theirs, ours } => (Reason::Version, u64::from(theirs), u64::from(ours)),
            Refused::Chain { theirs, ours } => (Reason::Chain, theirs.0, ours.0),
            Refused::Trusted => (Reason::Trusted, 0, 0),
            Refused::Set(set) => (Reason::Set, set.0, set.0),
            Refused::Unknown(validator) => (Reason::Unknown, u64::from(validator.0), 0),
        };
        Self { reason, theirs, ours, words }
    }
}

impl Refusal {
    pub(crate) fn plain(reason: Reason, words: impl Into<String>) -> Self {
        Self { reason, theirs: 0, ours: 0, words: words.into() }
    }

    pub(crate) fn identity(said: ValidatorId, shown: ValidatorId) -> Self {
        let words = format!("calls itself validator {said}, but the key is that of validator {shown}");
        Self { reason: Reason::Identity, theirs: u64::from(said.0), ours: u64::from(shown.0), words }
    }

    pub(crate) fn replaced() -> Self {
        Self::plain(
            Reason::Replaced,
            "a newer stream of the same validator took this one's place; if that was not a restart, two processes share a key",
        )
    }

    pub(crate) fn closing() -> Self {
        Self::plain(Reason::Closing, "the node is shutting down")
    }

    pub(crate) fn silent() -> Self {
        Self::plain(Reason::Silent, "no hello came in time")
    }

    /// The status that carries it.
    pub(crate) fn to_status(&self) -> Status {
        let (_, reason, code) = Reason::ALL[Reason::ALL.iter().position(|(reason, ..)| *reason == self.reason).unwrap_or(0)];
        let details = wire::Refusal { reason: reason as i32, theirs: self.theirs, ours: self.ours };
        Status::with_details(code, self.words.clone(), Bytes::from(details.encode_to_vec()))
    }

    /// What a status says, if a refusal is in it. Its words are a stranger's and are cut and cleaned.
    pub(crate) fn of_status(status: &Status) -> Option<Self> {
        let details = wire::Refusal::decode(status.details()).ok()?;
        let (reason, ..) = Reason::ALL.into_iter().find(|(_, reason, _)| *reason as i32 == details.reason)?;
        Some(Self { reason, theirs: details.theirs, ours: details.ours, words: clean(status.message()) })
    }
}

/// Makes a stranger's words fit for a log.
pub(crate) fn clean(words: &str) -> String {
    words.chars().take(MAX_WORDS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_way_through_a_status() {
        for (reason, _, code) in Reason::ALL {
            let refusal = Refusal { reason, theirs: 7, ours: u64::MAX, words: format!("{reason:?}") };
            let status = refusal.to_status();
            assert_eq!(status.code(), code);
            assert_eq!(Refusal::of_status(&status), Some(refusal));
        }
    }

    #[test]
    fn a_status_of_something_else_is_no_refusal() {
        assert_eq!(Refusal::of_status(&Status::unavailable("a proxy is tired")), None);
        assert_eq!(Refusal::of_status(&Status::with_details(Code::Aborted, "", Bytes::from_static(b"\xff\xff\xff"))), None);
    }

    #[test]
    fn a_strangers_words_are_cut_and_hold_no_control_characters() {
        let shout = "a\nb\u{1b}[31m".repeat(1000);
        let status = Refusal::plain(Reason::Closing, shout).to_status();
        let words = Refusal::of_status(&status).map(|refusal| refusal.words).unwrap_or_default();
        assert_eq!(words.chars().count(), MAX_WORDS);
        assert!(!words.chars().any(char::is_control));
    }
}
