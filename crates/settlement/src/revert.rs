//! What a revert says, and what follows from it.

use alloy::sol_types::{SolError, SolInterface};
use milepost_ledger::{RevertClass, Terms, TokenCount};

use crate::bindings::JobMarketplace::JobMarketplaceErrors as Errors;
use crate::generation::{Refusal, refusal};

alloy::sol! {
    /// `require(condition, "text")`.
    error Error(string text);
    /// A checked operation failed.
    error Panic(uint256 code);
}

/// A decoded revert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revert {
    /// The contract's error with its values.
    pub(crate) text: String,
    /// What follows from it for a claim of a job with certain terms, see [`Revert::class`].
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The rate cap: too early for so many tokens.
    TooFast { asked: u64 },
    /// The job is not where we thought: look again.
    Moved,
    /// Repeating it would be refused again.
    Stop,
}

impl Revert {
    /// Decodes revert data.
    pub(crate) fn decode(data: &[u8]) -> Self {
        if let Ok(error) = Errors::abi_decode(data) {
            let kind = match &error {
                Errors::RateCapExceeded(cap) => Kind::TooFast { asked: u64::try_from(cap.asked).unwrap_or(u64::MAX) },
                Errors::WrongStatus(_)
                | Errors::ClaimWindowOver(_)
                | Errors::ClosedToClaims(_)
                | Errors::BelowMinimum(_)
                | Errors::WrongFirstSeq(_)
                | Errors::WrongHeadBefore(_)
                | Errors::FinalizeTooEarly(_)
                | Errors::CloseTooEarly(_) => Kind::Moved,
                _ => Kind::Stop,
            };
            return Self { text: name_once(&format!("{error:?}")), kind };
        }
        if let Ok(error) = Error::abi_decode(data) {
            // Deployed generations give their reasons as text. Too fast there means: since the last proof, which has moved.
            let kind = if refusal(&error.text) == Refusal::Final { Kind::Stop } else { Kind::Moved };
            return Self { text: format!("{:?}", error.text), kind };
        }
        if let Ok(panic) = Panic::abi_decode(data) {
            return Self { text: format!("Panic(0x{:x})", panic.code), kind: Kind::Stop };
        }
        let text = if data.is_empty() { "no reason given".to_owned() } else { format!("unknown error 0x{}", hex::encode(data)) };
        Self { text, kind: Kind::Stop }
    }

    /// What follows from it: another time, another plan, or an operator.
    pub(crate) fn class(&self, terms: Option<&Terms>) -> RevertClass {
        match (self.kind, terms) {
            (Kind::TooFast { asked }, Some(terms)) => RevertClass::Pace(terms.rate_allows_at(TokenCount(asked))),
            (Kind::TooFast { .. }, None) | (Kind::Moved, _) => RevertClass::Replan,
            (Kind::Stop, _) => RevertClass::Stop,
        }
    }
}

/// `Name(Name { a: 1 })` as `Name { a: 1 }`.
fn name_once(debug: &str) -> String {
    match debug.split_once('(') {
        Some((name, rest)) if rest.starts_with(name) => rest.strip_suffix(')').unwrap_or(rest).to_owned(),
        _ => debug.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::JobMarketplace;
    use alloy::primitives::U256;

    #[test]
    fn a_custom_error_is_named_with_its_values() {
        let data = JobMarketplace::RateCapExceeded { allowed: U256::from(200), asked: U256::from(300) }.abi_encode();
        assert_eq!(Revert::decode(&data).text, "RateCapExceeded { allowed: 200, asked: 300 }");
    }

    #[test]
    fn reverts_are_told_apart_by_what_follows() {
        let moved = JobMarketplace::WrongFirstSeq { expected: U256::from(1), found: U256::from(2) }.abi_encode();
        assert_eq!(Revert::decode(&moved).class(None), RevertClass::Replan);
        let stop = JobMarketplace::MockProofRefused {}.abi_encode();
        assert_eq!(Revert::decode(&stop).class(None), RevertClass::Stop);
        assert_eq!(Revert::decode(&[]).class(None), RevertClass::Stop);
        assert_eq!(Revert::decode(&[1, 2, 3, 4]).text, "unknown error 0x01020304");
        let text = Error { text: "Excessive tokens".to_owned() }.abi_encode();
        assert_eq!(Revert::decode(&text).text, "\"Excessive tokens\"");
    }
}
