//! Tables, keys and rows.
//!
//! | table | key | value |
//! |---|---|---|
//! | `signatures` | target 8 · link digest 32 | the vote, once for all who cast it |
//! | | target 8 · link digest 32 · validator 4 | a signature |
//! | `certificates` | target 8 | a certificate of one set |
//! | `boundaries` | target 8 | a certificate over a set boundary; never pruned |
//! | `own_votes` | target 8 | a vote of this node's key |
//! | `evidence` | 0 · evidence id 32 | evidence; never pruned |
//! | | 1 · validator 4 · evidence id 32 | nothing: who is accused |
//! | `state` | one byte | see [`StateKey`] |
//!
//! Numbers are big-endian, so that keys sort as numbers do and pruning is a range delete. Values are the gadget's canonical encodings in
//! a frame whose checksum covers table and key as well.

use finality_gadget::codec;
use finality_gadget::{Certificate, CheckpointNumber, Evidence, EvidenceId, LinkDigest, Signature, ValidatorId, Vote};
use milepost_store::key::{Key, Reader};
use milepost_store::{Batch, Corruption, Error, Range, Storage, Table, frame};

pub(crate) const SIGNATURES: Table = Table::new("signatures");
pub(crate) const CERTIFICATES: Table = Table::new("certificates");
pub(crate) const BOUNDARIES: Table = Table::new("boundaries");
pub(crate) const OWN_VOTES: Table = Table::new("own_votes");
pub(crate) const EVIDENCE: Table = Table::new("evidence");
pub(crate) const STATE: Table = Table::new("state");

/// Every table of a checkpoint database, as an engine must be opened with.
pub const TABLES: [Table; 6] = [SIGNATURES, CERTIFICATES, BOUNDARIES, OWN_VOTES, EVIDENCE, STATE];

/// Version in every row's frame.
pub(crate) const ROW: u8 = 1;
/// A key of `signatures` up to the digest: the vote itself, and the beginning of every signature under it.
pub(crate) const LINK_KEY_BYTES: usize = 8 + 32;
const BY_ID: u8 = 0;
const BY_VALIDATOR: u8 = 1;

/// Single rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StateKey {
    /// Schema 4 · identity 16.
    Schema = 0,
    /// Synced writes so far: 8. In every synced batch.
    Synced = 1,
    /// What was last stored as final.
    Finalized = 2,
    /// Anchor of the last pruning: number 8 · digest 32.
    Anchor = 3,
    /// Checkpoints below this number are pruned: 8.
    Pruned = 4,
    /// Serial number 8 · sign-state.
    Sign = 5,
    /// In words why there may have been a sign-state that is lost.
    Doubt = 6,
    /// Rewritten by a flush, whose sync carries everything before it.
    Flush = 7,
    /// The public key whose record this is.
    Key = 8,
}

impl StateKey {
    pub(crate) const ALL: [Self; 9] =
        [Self::Schema, Self::Synced, Self::Finalized, Self::Anchor, Self::Pruned, Self::Sign, Self::Doubt, Self::Flush, Self::Key];

    pub(crate) fn key(self) -> [u8; 1] {
        [self as u8]
    }

    pub(crate) fn read(self, store: &dyn Storage) -> Result<Option<Vec<u8>>, Error> {
        read(store, STATE, &self.key())
    }

    pub(crate) fn put(self, batch: &mut Batch, payload: &[u8]) {
        batch.put_sealed(STATE, self.key(), ROW, payload);
    }
}

/// The payload of a row, its frame checked.
pub(crate) fn read(store: &dyn Storage, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    store.get(table, key)?.map(|value| open(table, key, &value).map(<[u8]>::to_vec)).transpose()
}

pub(crate) fn open<'a>(table: Table, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Error> {
    match frame::open(table, key, value)? {
        (ROW, payload) => Ok(payload),
        (version, _) => Err(corrupt(table, key, Corruption::Content { expected: "row", version })),
    }
}

pub(crate) fn corrupt(table: Table, key: &[u8], reason: Corruption) -> Error {
    Error::Corrupt { table, key: key.to_vec(), reason }
}

fn content<T>(table: Table, key: &[u8], expected: &'static str, decoded: Result<T, codec::Error>) -> Result<T, Error> {
    decoded.map_err(|_| corrupt(table, key, Corruption::Content { expected, version: ROW }))
}

/// A number alone, which is also the beginning of every key of its target.
pub(crate) fn target_key(target: CheckpointNumber) -> Vec<u8> {
    Key::new().u64(target.0).build()
}

pub(crate) fn link_key(target: CheckpointNumber, link: &LinkDigest) -> Vec<u8> {
    Key::new().u64(target.0).bytes(&link.0).build()
}

pub(crate) fn signature_key(target: CheckpointNumber, link: &LinkDigest, validator: ValidatorId) -> Vec<u8> {
    Key::new().u64(target.0).bytes(&link.0).u32(validator.0).build()
}

pub(crate) fn evidence_key(id: &EvidenceId) -> Vec<u8> {
    Key::new().u8(BY_ID).bytes(&id.0).build()
}

pub(crate) fn accused_key(validator: ValidatorId, id: &EvidenceId) -> Vec<u8> {
    Key::new().u8(BY_VALIDATOR).u32(validator.0).bytes(&id.0).build()
}

pub(crate) fn accused_range(validator: ValidatorId) -> Range {
    Range::prefix(Key::new().u8(BY_VALIDATOR).u32(validator.0).build())
}

pub(crate) fn evidence_range(after: Option<&EvidenceId>) -> Range {
    let end = vec![BY_VALIDATOR];
    match after {
        None => Range::between(vec![BY_ID], end),
        Some(id) => Range::between([evidence_key(id), vec![0]].concat(), end),
    }
}

/// Keys with targets above a number.
pub(crate) fn above(after: CheckpointNumber) -> Range {
    match after.0.checked_add(1) {
        Some(first) => Range::from(target_key(CheckpointNumber(first))),
        None => Range::between(Vec::new(), Vec::new()),
    }
}

/// Keys with targets below a number.
pub(crate) fn below(before: CheckpointNumber) -> Range {
    Range::between(Vec::new(), target_key(before))
}

pub(crate) fn number(table: Table, key: &[u8]) -> Result<CheckpointNumber, Error> {
    let mut reader = Reader::new(key);
    let number = reader.u64().map(CheckpointNumber);
    number.filter(|_| reader.end().is_some()).ok_or_else(|| corrupt(table, key, Corruption::Key))
}

/// A row of `signatures`.
pub(crate) enum SignatureRow {
    Link(Vote),
    Signature { validator: ValidatorId, signature: Signature },
}

/// Reads a row of `signatures` and checks that a vote lies where its target and digest say.
pub(crate) fn signature_row(key: &[u8], value: &[u8]) -> Result<SignatureRow, Error> {
    let payload = open(SIGNATURES, key, value)?;
    let mut reader = Reader::new(key);
    let place = reader.u64().zip(reader.array::<32>());
    let (target, digest) = place.ok_or_else(|| corrupt(SIGNATURES, key, Corruption::Key))?;
    if reader.end().is_some() {
        let vote = vote(SIGNATURES, key, payload)?;
        let fits = vote.link.target.number.0 == target && vote.digest().0 == digest;
        return if fits { Ok(SignatureRow::Link(vote)) } else { Err(corrupt(SIGNATURES, key, Corruption::Key)) };
    }
    let validator = reader.u32().filter(|_| reader.end().is_some());
    let validator = validator.map(ValidatorId).ok_or_else(|| corrupt(SIGNATURES, key, Corruption::Key))?;
    Ok(SignatureRow::Signature { validator, signature: Signature(payload.to_vec()) })
}

pub(crate) fn vote(table: Table, key: &[u8], payload: &[u8]) -> Result<Vote, Error> {
    content(table, key, "vote", Vote::decode(payload))
}

pub(crate) fn certificate(table: Table, key: &[u8], payload: &[u8]) -> Result<Certificate, Error> {
    let certificate = content(table, key, "certificate", Certificate::decode(payload))?;
    if target_key(certificate.vote.link.target.number) == key { Ok(certificate) } else { Err(corrupt(table, key, Corruption::Key)) }
}

pub(crate) fn own_vote(key: &[u8], payload: &[u8]) -> Result<Vote, Error> {
    let vote = vote(OWN_VOTES, key, payload)?;
    if target_key(vote.link.target.number) == key { Ok(vote) } else { Err(corrupt(OWN_VOTES, key, Corruption::Key)) }
}

pub(crate) fn evidence(key: &[u8], payload: &[u8]) -> Result<Evidence, Error> {
    let evidence = content(EVIDENCE, key, "piece of evidence", Evidence::decode(payload))?;
    if evidence_key(&evidence.id()) == key { Ok(evidence) } else { Err(corrupt(EVIDENCE, key, Corruption::Key)) }
}

/// Checks one row of any table: frame, content, and that it lies where it belongs.
pub(crate) fn verify(table: Table, key: &[u8], value: &[u8]) -> Result<(), Error> {
    if table == SIGNATURES {
        return signature_row(key, value).map(drop);
    }
    let payload = open(table, key, value)?;
    match table {
        CERTIFICATES | BOUNDARIES => certificate(table, key, payload).map(drop),
        OWN_VOTES => own_vote(key, payload).map(drop),
        EVIDENCE if key.first() == Some(&BY_ID) => evidence(key, payload).map(drop),
        EVIDENCE => {
            let whole = key.len() == 1 + 4 + 32 && key[0] == BY_VALIDATOR && payload.is_empty();
            if whole { Ok(()) } else { Err(corrupt(table, key, Corruption::Key)) }
        }
        _ if StateKey::ALL.iter().any(|known| known.key() == key) => Ok(()),
        _ => Err(corrupt(table, key, Corruption::Key)),
    }
}
