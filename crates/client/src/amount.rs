//! Money in a token's smallest unit.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of a payment token in its smallest unit. The marketplace keeps amounts below 2^96. Decimal text in JSON, because
/// JavaScript's numbers end at 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u128);

impl Amount {
    /// The amount of `units` as the contract's word.
    pub fn word(self) -> U256 {
        U256::from(self.0)
    }

    /// From the contract's word, or `None` above 2^128.
    pub fn from_word(word: U256) -> Option<Self> {
        u128::try_from(word).ok().map(Self)
    }

    /// With a decimal point before the last `decimals` digits: `1.600000`.
    pub fn display(self, decimals: u8) -> String {
        let digits = format!("{:0>width$}", self.0, width = usize::from(decimals) + 1);
        let (whole, part) = digits.split_at(digits.len() - usize::from(decimals));
        if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    /// Decimal text, or a JSON number that fits u64.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(Self(number.into())),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn an_amount_is_shown_with_its_decimals() {
        assert_eq!(Amount(1_600_000).display(6), "1.600000");
        assert_eq!(Amount(2_000).display(6), "0.002000");
        assert_eq!(Amount(7).display(0), "7");
    }

    #[test]
    fn an_amount_is_text_in_json_and_read_from_either_form() {
        let large = Amount(79_228_162_514_264_337_593_543_950_335);
        let text = serde_json::to_string(&large).expect("serialises");
        assert_eq!(text, "\"79228162514264337593543950335\"");
        assert_eq!(serde_json::from_str::<Amount>(&text).expect("text"), large);
        assert_eq!(serde_json::from_str::<Amount>("360000").expect("number"), Amount(360_000));
        assert!(serde_json::from_str::<Amount>("-1").is_err());
    }
}
