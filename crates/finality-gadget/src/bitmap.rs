//! Which members of an electorate stand behind a certificate.

use crate::types::ValidatorIndex;

/// One bit for each member of an electorate, least significant bit first within each byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bitmap {
    bytes: Vec<u8>,
}

impl Bitmap {
    /// No bit of `members` set.
    pub fn empty(members: usize) -> Self {
        Self { bytes: vec![0; members.div_ceil(8)] }
    }

    /// From bytes as they travel, for an electorate of `members`: the length must fit, and bits beyond the last member be zero.
    pub fn from_bytes(bytes: &[u8], members: usize) -> Option<Self> {
        let spare = members.div_ceil(8) * 8 - members;
        let stray = bytes.last().is_some_and(|last| spare > 0 && last >> (8 - spare) != 0);
        (bytes.len() == members.div_ceil(8) && !stray).then(|| Self { bytes: bytes.to_vec() })
    }

    /// From bytes as they travel, where the electorate is not known yet. [`Bitmap::fits`] must be asked before it is used.
    pub(crate) fn unchecked(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec() }
    }

    /// Whether this is a bitmap over `members`.
    pub fn fits(&self, members: usize) -> bool {
        Self::from_bytes(&self.bytes, members).is_some()
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets one bit. The index must lie within the electorate.
    pub fn set(&mut self, index: ValidatorIndex) {
        self.bytes[index.0 as usize / 8] |= 1 << (index.0 % 8);
    }

    /// Whether a bit is set; false beyond the end.
    pub fn has(&self, index: ValidatorIndex) -> bool {
        self.bytes.get(index.0 as usize / 8).is_some_and(|byte| byte & (1 << (index.0 % 8)) != 0)
    }

    /// The members whose bits are set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        (0u32..)
            .zip(&self.bytes)
            .flat_map(|(at, byte)| (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| ValidatorIndex(at * 8 + bit)))
    }

    /// How many bits are set.
    pub fn count(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}
