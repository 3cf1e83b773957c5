//! Canonical bytes: each value has exactly one encoding, and decoding refuses everything else.
//!
//! Numbers are big-endian and of fixed width, byte strings carry their length, and whatever stands alone (a vote, a certificate, a
//! piece of evidence, a sign-state, a message) begins with one byte of version.

use crate::types::{BlockHash, CheckpointNumber, FinalityCheckpoint, Link};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end early.
    #[error("{what}: the bytes end early")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// There is more than the value.
    #[error("{what}: {extra} bytes too many")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// How many bytes follow it.
        extra: usize,
    },
    /// Another version of the format.
    #[error("{what}: version {found}, known is {known}")]
    Version {
        /// What was being read.
        what: &'static str,
        /// The version of the bytes.
        found: u8,
        /// The version this code reads.
        known: u8,
    },
    /// A field that no valid value has.
    #[error("{what}: {reason}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Builds an encoding.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn versioned(version: u8) -> Self {
        Self { bytes: vec![version] }
    }

    /// With room for so many bytes more: what is encoded a thousand times at a start is not moved while it grows.
    pub(crate) fn with_room(mut self, bytes: usize) -> Self {
        self.bytes.reserve(bytes);
        self
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A byte string under its length. Everything encoded here is far below 4 GiB by the bounds of its type.
    pub(crate) fn sized(self, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        assert_eq!(length as usize, bytes.len(), "a byte string beyond 4 GiB has no encoding");
        self.u32(length).raw(bytes)
    }

    pub(crate) fn checkpoint(self, checkpoint: &FinalityCheckpoint) -> Self {
        self.u64(checkpoint.number.0).raw(&checkpoint.hash.0)
    }

    pub(crate) fn link(self, link: &Link) -> Self {
        self.checkpoint(&link.source).checkpoint(&link.target)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes an encoding apart.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn versioned(what: &'static str, bytes: &'a [u8], known: u8) -> Result<Self, Error> {
        let mut reader = Self::new(what, bytes);
        let found = reader.u8()?;
        if found == known { Ok(reader) } else { Err(Error::Version { what, found, known }) }
    }

    pub(crate) fn invalid(&self, reason: &'static str) -> Error {
        Error::Invalid { what: self.what, reason }
    }

    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Short { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let what = self.what;
        self.raw(N)?.try_into().map_err(|_| Error::Short { what })
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn digest(&mut self) -> Result<[u8; 32], Error> {
        self.array()
    }

    /// A byte string of at most `most` bytes, judged by its length before anything is taken.
    pub(crate) fn sized(&mut self, most: usize) -> Result<&'a [u8], Error> {
        let length = self.u32()? as usize;
        if length > most {
            return Err(self.invalid("a byte string longer than its bound"));
        }
        self.raw(length)
    }

    pub(crate) fn checkpoint(&mut self) -> Result<FinalityCheckpoint, Error> {
        Ok(FinalityCheckpoint { number: CheckpointNumber(self.u64()?), hash: BlockHash(self.digest()?) })
    }

    pub(crate) fn link(&mut self) -> Result<Link, Error> {
        let link = Link { source: self.checkpoint()?, target: self.checkpoint()? };
        if link.source.number < link.target.number {
            Ok(link)
        } else {
            Err(self.invalid("a link whose target does not lie above its source"))
        }
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Trailing { what: self.what, extra: self.rest.len() }) }
    }
}
