//! The units. A *position* (`TokenSeq`) and a *number of tokens* (`TokenCount`) are different types: adding two positions does
//! not compile, and no delta can be sent where a running total belongs.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "std", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(value: u64) -> Self {
                Self(value)
            }
        }
    };
}

number!(
    /// EIP-155 chain id; 0 where no chain is configured (log mode).
    ChainId
);
number!(
    /// Number of a job on its marketplace.
    JobId
);
number!(
    /// A position in a job's transcript: how many tokens lie before it. Counted from 0, never renumbered.
    ///
    /// ```
    /// let _ = milepost_statement::TokenSeq(1) + milepost_statement::TokenCount(2);
    /// ```
    ///
    /// The sum of two positions means nothing, and does not compile:
    ///
    /// ```compile_fail
    /// let _ = milepost_statement::TokenSeq(1) + milepost_statement::TokenSeq(2);
    /// ```
    TokenSeq
);
number!(
    /// A number of tokens: the distance between two positions.
    TokenCount
);

impl TokenSeq {
    /// The start of a transcript.
    pub const ZERO: Self = Self(0);

    /// Tokens from `earlier` to here, or `None` if `earlier` lies behind this position.
    pub fn since(self, earlier: Self) -> Option<TokenCount> {
        self.0.checked_sub(earlier.0).map(TokenCount)
    }

    /// The position `count` further on, or `None` on overflow.
    pub fn checked_add(self, count: TokenCount) -> Option<Self> {
        self.0.checked_add(count.0).map(Self)
    }
}

impl TokenCount {
    /// No tokens.
    pub const ZERO: Self = Self(0);
}

impl Add<TokenCount> for TokenSeq {
    type Output = TokenSeq;
    fn add(self, count: TokenCount) -> TokenSeq {
        TokenSeq(self.0 + count.0)
    }
}

impl AddAssign<TokenCount> for TokenSeq {
    fn add_assign(&mut self, count: TokenCount) {
        self.0 += count.0;
    }
}

impl Sub for TokenSeq {
    type Output = TokenCount;
    fn sub(self, earlier: TokenSeq) -> TokenCount {
        TokenCount(self.0 - earlier.0)
    }
}

impl Add for TokenCount {
    type Output = TokenCount;
    fn add(self, other: TokenCount) -> TokenCount {
        TokenCount(self.0 + other.0)
    }
}

/// A token id as the model's sampler chose it.
pub type TokenId = u32;

/// 32 bytes of SHA-256 or Keccak-256. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A 20-byte EVM address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

impl Digest {
    /// All zeros.
    pub const ZERO: Self = Self([0; 32]);
}

impl Address {
    /// The zero address: "none", or the chain's native coin where a token is meant.
    pub const ZERO: Self = Self([0; 20]);
}

macro_rules! hex_display {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0x")?;
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_display!(Digest);
hex_display!(Address);
