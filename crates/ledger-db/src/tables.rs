//! The tables, and the keys under which their records lie.

use milepost_ledger::{AccountId, Address, ClaimId, Digest, JobId, TokenSeq, TxId};
use milepost_statement::request_digest;
use milepost_store::Table;
use milepost_store::key::{Key, Reader};

pub(crate) const ACCOUNT: Table = Table::new("account");
pub(crate) const LIVE: Table = Table::new("live");
pub(crate) const TOKENS: Table = Table::new("tokens");
pub(crate) const TURN: Table = Table::new("turn");
pub(crate) const REQUEST: Table = Table::new("request");
pub(crate) const CHECKPOINT: Table = Table::new("checkpoint");
pub(crate) const CLAIM: Table = Table::new("claim");
pub(crate) const TX: Table = Table::new("tx");
pub(crate) const PENDING_TX: Table = Table::new("pending-tx");
pub(crate) const RECEIPT: Table = Table::new("receipt");
pub(crate) const META: Table = Table::new("meta");
pub(crate) const SCHEMA: Table = Table::new("schema");

/// Tables whose keys begin with an account.
pub(crate) const BY_ACCOUNT: [Table; 6] = [ACCOUNT, LIVE, TOKENS, TURN, REQUEST, CHECKPOINT];

/// Every table.
pub(crate) const ALL: [Table; 12] = [ACCOUNT, LIVE, TOKENS, TURN, REQUEST, CHECKPOINT, CLAIM, TX, PENDING_TX, RECEIPT, META, SCHEMA];

const JOB_TAG: u8 = 1;
const FREE_TAG: u8 = 2;

fn account_part(id: AccountId) -> Key {
    match id {
        AccountId::Job(job) => Key::new().u8(JOB_TAG).u64(job.0),
        AccountId::Free(label) => Key::new().u8(FREE_TAG).bytes(&label.0),
    }
}

fn read_account(reader: &mut Reader<'_>) -> Option<AccountId> {
    match reader.u8()? {
        JOB_TAG => reader.u64().map(|job| AccountId::Job(JobId(job))),
        FREE_TAG => reader.array().map(|label| AccountId::Free(Digest(label))),
        _ => None,
    }
}

pub(crate) fn account(id: AccountId) -> Vec<u8> {
    account_part(id).build()
}

/// How the keys of all accounts without a job begin.
pub(crate) fn free() -> Vec<u8> {
    Key::new().u8(FREE_TAG).build()
}

pub(crate) fn account_of(key: &[u8]) -> Option<AccountId> {
    let mut reader = Reader::new(key);
    let id = read_account(&mut reader)?;
    reader.end().map(|()| id)
}

pub(crate) fn tokens(id: AccountId, first: TokenSeq) -> Vec<u8> {
    account_part(id).u64(first.0).build()
}

pub(crate) fn tokens_of(key: &[u8]) -> Option<(AccountId, TokenSeq)> {
    let mut reader = Reader::new(key);
    let found = (read_account(&mut reader)?, TokenSeq(reader.u64()?));
    reader.end().map(|()| found)
}

pub(crate) fn turn(id: AccountId, number: u32) -> Vec<u8> {
    account_part(id).u32(number).build()
}

pub(crate) fn request(id: AccountId, request: &str) -> Vec<u8> {
    account_part(id).bytes(&request_digest(request).0).build()
}

pub(crate) fn checkpoint(id: AccountId, number: u64) -> Vec<u8> {
    account_part(id).u64(number).build()
}

pub(crate) fn claim(id: ClaimId) -> Vec<u8> {
    Key::new().u64(id.job.0).u64(id.first.0).u32(id.plan).build()
}

pub(crate) fn claims_of(job: JobId) -> Vec<u8> {
    Key::new().u64(job.0).build()
}

pub(crate) fn tx(id: TxId) -> Vec<u8> {
    Key::new().bytes(&id.key.0).u64(id.nonce).build()
}

pub(crate) fn tx_of(key: &[u8]) -> Option<TxId> {
    let mut reader = Reader::new(key);
    let id = TxId { key: Address(reader.array()?), nonce: reader.u64()? };
    reader.end().map(|()| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_account_never_begin_like_anothers() {
        // 0x01 ‖ job is 9 bytes, 0x02 ‖ digest 33: the tag tells them apart before their length matters.
        let ids =
            [AccountId::Job(JobId(1)), AccountId::Job(JobId(256)), AccountId::Free(Digest([0; 32])), AccountId::Free(Digest([1; 32]))];
        for a in ids {
            for b in ids {
                assert_eq!(tokens(b, TokenSeq(7)).starts_with(&account(a)), a == b);
            }
            assert_eq!(account_of(&account(a)), Some(a));
            assert_eq!(tokens_of(&tokens(a, TokenSeq(9))), Some((a, TokenSeq(9))));
            assert_eq!(account_of(&tokens(a, TokenSeq(9))), None);
        }
        let id = TxId { key: Address([3; 20]), nonce: 5 };
        assert_eq!(tx_of(&tx(id)), Some(id));
    }
}
