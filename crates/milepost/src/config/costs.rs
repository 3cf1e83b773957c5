//! `[costs]`: what the operator's coin, payment tokens and proving time are worth, all in one currency of their choice.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use milepost_statement::Address;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Prices for the reckoning of profit. Nothing is decided by them: they are for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Costs {
    /// One coin of the chain (10^18 wei).
    pub(crate) coin: Option<Price>,
    /// One whole payment token, by its address: `"0x…" = "1"`.
    pub(crate) tokens: BTreeMap<Address, Price>,
    /// One second of proving: the machine's hour by its 3,600.
    pub(crate) proving_per_second: Option<Price>,
}

/// Digits kept after the decimal point: a second of proving may cost a ten-thousandth of a cent.
const DIGITS: u32 = 12;

/// A price in 10^-12 of the operator's currency. Decimal text, or a number, in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Price(pub(crate) u64);

impl FromStr for Price {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no price: a decimal number with at most {DIGITS} digits after the point, below 10,000,000");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() + part.len() == 0 || part.len() > DIGITS as usize || whole.len() > 7 {
            return Err(wrong());
        }
        let all = format!("{whole}{part:0<width$}", width = DIGITS as usize);
        all.parse().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&currency(i128::from(self.0), DIGITS))
    }
}

/// An amount in 10^-12 of the currency, with so many digits after the point, rounded towards zero.
pub(crate) fn currency(amount: i128, digits: u32) -> String {
    let shown = amount.unsigned_abs() / 10_u128.pow(DIGITS - digits);
    let unit = 10_u128.pow(digits);
    let sign = if amount < 0 && shown > 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", shown / unit, shown % unit, width = digits as usize)
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(u64),
            Decimal(f64),
            Text(String),
        }
        let text = match Form::deserialize(deserializer)? {
            Form::Whole(number) => number.to_string(),
            // The shortest text that reads back as the same number: what stood in the file.
            Form::Decimal(number) => number.to_string(),
            Form::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: i128 = 10_i128.pow(DIGITS);

    #[test]
    fn prices_are_read_exactly() {
        for (text, expected) in
            [("3000", 3_000 * UNIT), ("0.00001", 10_000_000), ("1.5", 3 * UNIT / 2), (".5", UNIT / 2), ("0.000000000001", 1)]
        {
            assert_eq!(i128::from(text.parse::<Price>().expect(text).0), expected, "{text}");
        }
        for wrong in ["", ".", "-1", "1e3", "0.0000000000001", "1,5", "NaN", "100000000"] {
            assert!(wrong.parse::<Price>().is_err(), "{wrong}");
        }
        assert_eq!("0.00001".parse::<Price>().expect("a price").to_string(), "0.000010000000");
    }

    #[test]
    fn a_loss_is_shown_as_one() {
        assert_eq!(currency(-UNIT / 2, 6), "-0.500000");
        assert_eq!(currency(-1, 6), "0.000000");
        assert_eq!(currency(123 * UNIT + UNIT / 4, 2), "123.25");
    }

    #[test]
    fn a_price_may_be_text_or_a_number() {
        for text in ["coin = 3000", "coin = \"3000\"", "coin = 3000.0"] {
            let costs: Costs = toml::from_str(text).expect(text);
            assert_eq!(costs.coin, Some(Price(3_000_000_000_000_000)), "{text}");
        }
        let costs: Costs =
            toml::from_str("proving_per_second = 0.00001\n[tokens]\n\"0x1111111111111111111111111111111111111111\" = 1").expect("costs");
        assert_eq!(costs.tokens[&Address([0x11; 20])], Price(1_000_000_000_000));
        assert_eq!(costs.proving_per_second, Some(Price(10_000_000)));
    }
}
