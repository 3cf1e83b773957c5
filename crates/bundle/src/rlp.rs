//! RLP, as far as headers, receipts, transactions and tries need it: read strictly, written canonically.
//!
//! Reading copies nothing and never recurses: an item is a slice, and a list's items are looked at one level at a time.

/// Bytes that are not canonical RLP, or not of the shape expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not canonical RLP")]
pub struct Error;

/// One item, and the bytes that encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// A list, or a string of bytes.
    pub is_list: bool,
    /// What it holds: the string, or the list's items one after the other.
    pub payload: &'a [u8],
    /// The item with its own prefix.
    pub raw: &'a [u8],
}

impl<'a> Item<'a> {
    /// The only item of `bytes`.
    pub fn only(bytes: &'a [u8]) -> Result<Self, Error> {
        let (item, rest) = take(bytes)?;
        if rest.is_empty() { Ok(item) } else { Err(Error) }
    }

    /// The string's bytes.
    pub fn bytes(&self) -> Result<&'a [u8], Error> {
        if self.is_list { Err(Error) } else { Ok(self.payload) }
    }

    /// The string as a number without leading zeros.
    pub fn number(&self) -> Result<u64, Error> {
        let bytes = self.bytes()?;
        if bytes.len() > 8 || bytes.first() == Some(&0) {
            return Err(Error);
        }
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The string as exactly `N` bytes.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Error> {
        self.bytes()?.try_into().map_err(|_| Error)
    }

    /// The list's items, at most `most`.
    pub fn items(&self, most: usize) -> Result<Vec<Item<'a>>, Error> {
        if !self.is_list {
            return Err(Error);
        }
        let mut items = Vec::new();
        let mut rest = self.payload;
        while !rest.is_empty() {
            if items.len() == most {
                return Err(Error);
            }
            let (item, behind) = take(rest)?;
            items.push(item);
            rest = behind;
        }
        Ok(items)
    }
}

/// The first item of `bytes` and what stands behind it.
fn take(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), Error> {
    let first = *bytes.first().ok_or(Error)?;
    let (is_list, header, length) = match first {
        0x00..=0x7f => (false, 0, 1),
        0x80..=0xb7 => (false, 1, usize::from(first - 0x80)),
        0xb8..=0xbf => {
            let (header, length) = long(bytes, usize::from(first - 0xb7))?;
            (false, header, length)
        }
        0xc0..=0xf7 => (true, 1, usize::from(first - 0xc0)),
        0xf8..=0xff => {
            let (header, length) = long(bytes, usize::from(first - 0xf7))?;
            (true, header, length)
        }
    };
    let end = usize::checked_add(header, length).ok_or(Error)?;
    let raw = bytes.get(..end).ok_or(Error)?;
    let payload = &raw[header..];
    // A single byte below 0x80 stands for itself.
    if first == 0x81 && payload[0] < 0x80 {
        return Err(Error);
    }
    Ok((Item { is_list, payload, raw }, &bytes[end..]))
}

/// Header length and payload length of an item whose length takes `digits` bytes.
fn long(bytes: &[u8], digits: usize) -> Result<(usize, usize), Error> {
    let digits = bytes.get(1..=digits).ok_or(Error)?;
    if digits[0] == 0 {
        return Err(Error);
    }
    let mut length = 0_usize;
    for digit in digits {
        length = length.checked_mul(256).ok_or(Error)? | usize::from(*digit);
    }
    if length < 56 { Err(Error) } else { Ok((1 + digits.len(), length)) }
}

/// A string.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    if let [byte @ 0..=0x7f] = bytes {
        return vec![*byte];
    }
    prefixed(0x80, bytes)
}

/// A list of items that are encoded already.
pub fn list<I: AsRef<[u8]>>(items: &[I]) -> Vec<u8> {
    prefixed(0xc0, &items.iter().flat_map(AsRef::as_ref).copied().collect::<Vec<_>>())
}

/// A number: its big-endian bytes without leading zeros, as a string.
pub fn number(number: u64) -> Vec<u8> {
    string(trimmed(&number.to_be_bytes()))
}

/// Big-endian bytes without leading zeros.
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

fn prefixed(offset: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 9);
    if let Ok(short @ 0..=55) = u8::try_from(payload.len()) {
        out.push(offset + short);
    } else {
        let length = (payload.len() as u64).to_be_bytes();
        let length = trimmed(&length);
        out.push(offset + 55 + u8::try_from(length.len()).expect("a length has at most eight bytes"));
        out.extend(length);
    }
    out.extend(payload);
    out
}
