//! Keys whose byte order is the order of what they say: big-endian numbers, one after the other.

/// Builds a key from left to right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a key that is not built is no key"]
pub struct Key(Vec<u8>);

impl Key {
    /// A key with nothing in it yet.
    pub fn new() -> Self {
        Self(Vec::with_capacity(16))
    }

    /// Appends a byte, for a tag or a flag.
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends a number.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a number.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends bytes of a fixed length, such as an address or a digest. (Bytes of varying length belong at a key's end.)
    pub fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// The key.
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a key from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `key` from its beginning.
    pub fn new(key: &'a [u8]) -> Self {
        Self(key)
    }

    /// Takes a byte; none: the key is too short.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes a number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// What has not been read.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Ends the reading; none: something is left, so the key is not what was expected.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        let numbers = [0u64, 1, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX];
        for pair in numbers.windows(2) {
            assert!(Key::new().u64(9).u64(pair[0]).build() < Key::new().u64(9).u64(pair[1]).build());
        }
    }

    #[test]
    fn a_reader_gives_back_what_was_built_and_refuses_anything_else() {
        let key = Key::new().u8(1).u32(2).u64(3).bytes(&[4; 20]).build();
        let mut reader = Reader::new(&key);
        assert_eq!((reader.u8(), reader.u32(), reader.u64()), (Some(1), Some(2), Some(3)));
        assert_eq!(reader.end(), None);
        assert_eq!(reader.array::<21>(), None);
        assert_eq!(reader.array::<20>(), Some([4; 20]));
        assert_eq!((reader.u8(), reader.end()), (None, Some(())));
    }
}
