//! Numbers, hashes and names. Every unit has a type of its own.

use std::fmt;
use std::time::Duration;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Eight digits tell digests apart in a log; `Display` gives the whole.
                write!(f, "{}({:02x}{:02x}{:02x}{:02x})", stringify!($name), self.0[0], self.0[1], self.0[2], self.0[3])
            }
        }
    };
}

number! {
    /// Position of a finality checkpoint: the block number divided by the interval. The trusted checkpoint has one too.
    CheckpointNumber(u64)
}
number! {
    /// Height of a block of the canonical chain.
    BlockNumber(u64)
}
number! {
    /// The chain whose blocks are voted on; for EVM chains their chain id.
    ChainId(u64)
}
number! {
    /// Name of a validator. Within one schedule an id always stands for the same key: a validator that changes its key takes a new id.
    ValidatorId(u32)
}
number! {
    /// Position of a validator among the members of an [`Electorate`](crate::Electorate), which is its bit in a certificate's bitmap.
    ValidatorIndex(u32)
}
number! {
    /// Serial number of a validator set. A new trusted checkpoint comes with a new set id.
    SetId(u64)
}
number! {
    /// Milliseconds of a clock that never runs backwards. Where it starts is the caller's business.
    Millis(u64)
}

digest! {
    /// Hash of a block of the canonical chain, as that chain defines it.
    BlockHash
}
digest! {
    /// Digest of a validator set: its id, scheme, member ids and keys. See [`ValidatorSet`](crate::ValidatorSet).
    SetDigest
}
digest! {
    /// Digest of the [`Domain`](crate::Domain): chain and trusted checkpoint. Nothing signed in one domain means anything in another.
    DomainDigest
}
digest! {
    /// Digest of a vote's signed bytes: the name of a link together with everything it rests on.
    LinkDigest
}
digest! {
    /// Digest of a piece of [`Evidence`](crate::Evidence).
    EvidenceId
}

impl CheckpointNumber {
    /// The number of the direct child.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number `count` further.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The number `count` before, at least zero.
    #[must_use]
    pub fn minus(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// How many checkpoints this one lies above `other`; zero where it does not.
    pub fn above(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl Millis {
    /// How long ago `earlier` was, in milliseconds; zero where it lies ahead.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// As a duration since the clock's start.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A block of the canonical chain whose number is a multiple of the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FinalityCheckpoint {
    /// The block's number divided by the interval.
    pub number: CheckpointNumber,
    /// The block's hash.
    pub hash: BlockHash,
}

impl fmt::Display for FinalityCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.number, self.hash)
    }
}

/// What a vote says: `target` descends from `source`, and `source` is justified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// A justified checkpoint.
    pub source: FinalityCheckpoint,
    /// A descendant of it, with a higher number.
    pub target: FinalityCheckpoint,
}

impl Link {
    /// Whether one of the two lies strictly within the other, as numbers go.
    pub fn surrounds(&self, other: &Self) -> bool {
        self.source.number < other.source.number && other.target.number < self.target.number
    }

    /// Whether the target is the direct child (number + 1) of the source, which makes the source final under `Ffg`.
    pub fn is_direct(&self) -> bool {
        self.target.number == self.source.number.next()
    }
}
