//! A journal reads back to the statement it was made of, and nothing else is read as a journal.

use milepost_statement::{
    Address, ChainId, Digest, JOURNAL_LEN, JobId, JournalError, ProofKind, Statement, TokenCount, TokenSeq, decode_proof, encode_proof,
};
use proptest::prelude::*;

prop_compose! {
    fn statements()(
        chain in any::<u64>(), marketplace in any::<[u8; 20]>(), job in any::<u64>(), host in any::<[u8; 20]>(), model in any::<[u8; 32]>(),
        first in 0..u64::MAX / 2, count in 1..u64::MAX / 2, before in any::<[u8; 32]>(), after in any::<[u8; 32]>(),
    ) -> Statement {
        Statement {
            chain_id: ChainId(chain), marketplace: Address(marketplace), job_id: JobId(job), host: Address(host), model_digest: Digest(model),
            first_seq: TokenSeq(first), count: TokenCount(count), head_before: Digest(before), head_after: Digest(after),
        }
    }
}

proptest! {
    #[test]
    fn a_journal_reads_back(statement in statements()) {
        prop_assert_eq!(Statement::from_journal(&statement.journal()), Ok(statement));
    }

    #[test]
    fn bytes_that_read_as_a_journal_write_the_same_bytes(mut journal in statements().prop_map(|s| s.journal()), at in 0..JOURNAL_LEN, byte in any::<u8>()) {
        journal[at] = byte;
        if let Ok(statement) = Statement::from_journal(&journal) {
            prop_assert_eq!(statement.journal(), journal);
        }
    }

    #[test]
    fn proof_bytes_read_back(journal in prop::collection::vec(any::<u8>(), 0..400), seal in prop::collection::vec(any::<u8>(), 0..300), voucher in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = encode_proof(ProofKind::Groth16, &journal, &seal, &voucher);
        prop_assert_eq!(decode_proof(&bytes), Ok((ProofKind::Groth16, journal, seal, voucher)));
    }

    #[test]
    fn arbitrary_proof_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode_proof(&bytes);
    }
}

#[test]
fn an_empty_claim_is_no_journal() {
    let mut journal = [0; JOURNAL_LEN];
    journal[31] = 1;
    assert_eq!(Statement::from_journal(&journal), Err(JournalError::Count));
    assert_eq!(Statement::from_journal(&journal[1..]), Err(JournalError::Length(319)));
    journal[31] = 2;
    assert_eq!(Statement::from_journal(&journal), Err(JournalError::Version));
}
