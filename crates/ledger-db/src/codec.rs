//! Values: what lies inside a frame.
//!
//! Records are encoded with postcard, in the order of their fields; a record whose shape changes gets a new frame version, and
//! a migration that rewrites it. Token ids are plain little-endian words.

use milepost_ledger::TokenId;
use milepost_store::{Corruption, Error, Table, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Frame version of every record this program writes.
pub(crate) const VERSION: u8 = 1;

/// Encodes a record's payload.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    // Postcard fails on sequences of unknown length and on full buffers; our records have neither.
    postcard::to_allocvec(record).expect("a record of known shape into a growing buffer")
}

/// Opens a frame and decodes its record, down to the last byte.
pub(crate) fn decode<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8], expected: &'static str) -> Result<T, Error> {
    let (version, payload) = frame::open(table, key, value)?;
    let decoded = (version == VERSION).then(|| postcard::take_from_bytes(payload).ok()).flatten();
    match decoded {
        Some((record, [])) => Ok(record),
        _ => Err(wrong(table, key, expected, version)),
    }
}

pub(crate) fn encode_tokens(ids: &[TokenId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

pub(crate) fn decode_tokens(table: Table, key: &[u8], value: &[u8]) -> Result<Vec<TokenId>, Error> {
    let (version, payload) = frame::open(table, key, value)?;
    match payload.as_chunks::<4>() {
        (words, []) if version == VERSION && !words.is_empty() => Ok(words.iter().map(|word| TokenId::from_le_bytes(*word)).collect()),
        _ => Err(wrong(table, key, "run of token ids", version)),
    }
}

/// Opens a frame whose payload is bytes that mean nothing here.
pub(crate) fn decode_bytes(table: Table, key: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
    let (version, payload) = frame::open(table, key, value)?;
    if version == VERSION { Ok(payload.to_vec()) } else { Err(wrong(table, key, "string of bytes", version)) }
}

fn wrong(table: Table, key: &[u8], expected: &'static str, version: u8) -> Error {
    Error::Corrupt { table, key: key.to_vec(), reason: Corruption::Content { expected, version } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milepost_ledger::{Address, ClaimId, JobId, Purpose, TokenSeq};
    use serde::Deserialize;

    const TABLE: Table = Table::new("tx");

    /// What a transaction could be for before several claims could share one.
    #[derive(Debug, PartialEq, Deserialize)]
    enum Before {
        Claim(ClaimId),
        RequestClose(JobId),
        Finalize(JobId),
        Fill(JobId),
    }

    fn framed(purpose: &Purpose) -> Vec<u8> {
        frame::seal(TABLE, &Address::ZERO.0, VERSION, &encode(purpose))
    }

    #[test]
    fn an_older_program_reads_what_it_knows_and_refuses_a_batch() {
        let claim = ClaimId { job: JobId(3), first: TokenSeq(100), plan: 1 };
        let read = |purpose: Purpose| decode::<Before>(TABLE, &Address::ZERO.0, &framed(&purpose), "purpose");
        assert_eq!(read(Purpose::Claim(claim)).unwrap(), Before::Claim(claim));
        assert_eq!(read(Purpose::RequestClose(JobId(4))).unwrap(), Before::RequestClose(JobId(4)));
        assert_eq!(read(Purpose::Finalize(JobId(5))).unwrap(), Before::Finalize(JobId(5)));
        assert_eq!(read(Purpose::Fill(JobId(6))).unwrap(), Before::Fill(JobId(6)));
        let batch = Purpose::Claims(vec![claim, ClaimId { job: JobId(4), ..claim }]);
        assert!(matches!(read(batch), Err(Error::Corrupt { reason: Corruption::Content { .. }, .. })), "misread");
    }
}
