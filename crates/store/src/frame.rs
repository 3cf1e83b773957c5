//! Framing: `version ‖ payload ‖ crc32` around every value.
//!
//! ```text
//! version  u8
//! payload  bytes
//! crc32    u32, little-endian, over: version ‖ table name length u8 ‖ table name ‖ key length u32 BE ‖ key ‖ payload
//! ```
//!
//! The checksum covers where the record lies as well as what it says: a value that turns up under another key or in
//! another table (a misdirected write, a wrong restore, a bug) does not pass. CRC-32 finds accidents; it is no signature.

use crc32fast::Hasher;

use crate::{Corruption, Error, Table};

/// Bytes a frame adds to its payload.
pub const OVERHEAD: usize = 5;

/// Puts a frame around a payload.
pub fn seal(table: Table, key: &[u8], version: u8, payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(payload.len() + OVERHEAD);
    value.push(version);
    value.extend_from_slice(payload);
    value.extend_from_slice(&checksum(table, key, version, payload).to_le_bytes());
    value
}

/// Checks a frame and answers version and payload. Whether the version is one that the reader knows is the reader's affair.
pub fn open<'a>(table: Table, key: &[u8], value: &'a [u8]) -> Result<(u8, &'a [u8]), Error> {
    let corrupt = |reason| Error::Corrupt { table, key: key.to_vec(), reason };
    let truncated = || corrupt(Corruption::Truncated { bytes: value.len() });
    let (body, crc) = value.split_last_chunk::<4>().ok_or_else(truncated)?;
    let (version, payload) = body.split_first().ok_or_else(truncated)?;
    let (found, computed) = (u32::from_le_bytes(*crc), checksum(table, key, *version, payload));
    if found != computed {
        return Err(corrupt(Corruption::Checksum { found, computed }));
    }
    Ok((*version, payload))
}

fn checksum(table: Table, key: &[u8], version: u8, payload: &[u8]) -> u32 {
    let name = table.name().as_bytes();
    let mut hasher = Hasher::new();
    // Both lengths fit: a table's name has at most 255 bytes, a key at most MAX_KEY_BYTES.
    #[allow(clippy::cast_possible_truncation)]
    {
        hasher.update(&[version, name.len() as u8]);
        hasher.update(name);
        hasher.update(&(key.len() as u32).to_be_bytes());
    }
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: Table = Table::new("jobs");
    const CLAIMS: Table = Table::new("claims");

    #[test]
    fn a_frame_gives_back_its_version_and_payload() {
        let value = seal(JOBS, b"k", 3, b"payload");
        assert_eq!(value.len(), 7 + OVERHEAD);
        assert_eq!(open(JOBS, b"k", &value), Ok((3, b"payload".as_slice())));
        assert_eq!(open(JOBS, b"k", &seal(JOBS, b"k", 0, b"")), Ok((0, b"".as_slice())));
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let value = seal(JOBS, b"k", 1, b"two hundred tokens");
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(JOBS, b"k", &damaged), Err(Error::Corrupt { .. })), "bit {bit}");
        }
    }

    #[test]
    fn a_value_under_another_key_or_table_is_noticed() {
        let value = seal(JOBS, b"k", 1, b"v");
        assert!(matches!(open(JOBS, b"l", &value), Err(Error::Corrupt { table: JOBS, .. })));
        assert!(matches!(open(CLAIMS, b"k", &value), Err(Error::Corrupt { table: CLAIMS, .. })));
    }

    #[test]
    fn bytes_do_not_move_between_key_and_payload_unnoticed() {
        // Without the key's length in the checksum these two would have the same one.
        let long_key = seal(JOBS, b"ab", 1, b"c");
        assert!(open(JOBS, b"a", &[&[1], b"bc".as_slice(), &long_key[2..]].concat()).is_err());
    }

    #[test]
    fn a_cut_value_is_named_with_table_and_key() {
        for length in 0..OVERHEAD {
            let error = open(JOBS, &[0, 7], &vec![0; length]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("damaged record in table `jobs` under key 0x0007: only {length} bytes, too short for a frame")
            );
        }
    }
}
