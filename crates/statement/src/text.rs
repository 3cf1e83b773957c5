//! Digests and addresses as text: `0x` and hexadecimal digits in JSON, raw bytes in binary formats.

use core::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Address, Digest};

/// Why a text is not a digest or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Hexadecimal digits that would be right.
    pub digits: usize,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected 0x and {} hexadecimal digits", self.digits)
    }
}

impl std::error::Error for ParseError {}

macro_rules! text {
    ($name:ident, $len:literal) => {
        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let mut out = [0; $len];
                hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut out).map_err(|_| ParseError { digits: 2 * $len })?;
                Ok(Self(out))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(f, "0x and {} hexadecimal digits", 2 * $len)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                if deserializer.is_human_readable() {
                    deserializer.deserialize_str(Text)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map(Self).map_err(D::Error::custom)
                }
            }
        }
    };
}

text!(Digest, 32);
text!(Address, 20);
