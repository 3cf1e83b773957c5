//! Units that the statement does not know: money, time and blocks.

use std::fmt;

use milepost_statement::Digest;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of the payment token in its smallest unit (wei, or 10⁻⁶ USDC). Text in JSON: it exceeds what JavaScript counts exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenAmount(pub u128);

impl TokenAmount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `self × count`, or `None` on overflow.
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(count)).map(Self)
    }
}

impl fmt::Display for TokenAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for TokenAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&self.0) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for TokenAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(TextOrNumber)
        } else {
            u128::deserialize(deserializer).map(Self)
        }
    }
}

/// Whoever writes settings by hand writes small amounts as numbers, as the command line and the environment do.
struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = TokenAmount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in the smallest unit: a whole number, or one as text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TokenAmount, E> {
        text.parse().map(TokenAmount).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<TokenAmount, E> {
        Ok(TokenAmount(u128::from(number)))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<TokenAmount, E> {
        Ok(TokenAmount(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<TokenAmount, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self)).and_then(|number| self.visit_u64(number))
    }
}

/// Seconds since 1970, as block timestamps count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// `seconds` later, at most the end of time.
    #[must_use]
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Seconds from `earlier` to here, 0 if it lies ahead.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A block, named by number and hash: a number alone names different blocks after a reorganisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_as_text_and_as_a_number_and_shown_as_text() {
        for text in ["\"3000000000\"", "3000000000"] {
            assert_eq!(serde_json::from_str::<TokenAmount>(text).ok(), Some(TokenAmount(3_000_000_000)), "{text}");
        }
        assert_eq!(serde_json::to_string(&TokenAmount(u128::MAX)).ok(), Some(format!("\"{}\"", u128::MAX)));
        for text in ["-1", "1.5", "\"\"", "\"1e3\"", "null", "[1]"] {
            assert!(serde_json::from_str::<TokenAmount>(text).is_err(), "{text}");
        }
        let stored = postcard::to_allocvec(&TokenAmount(300)).expect("an amount");
        assert_eq!(postcard::from_bytes::<TokenAmount>(&stored).expect("what was written"), TokenAmount(300));
    }
}
