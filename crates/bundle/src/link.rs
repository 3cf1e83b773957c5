//! What leads from a claim's block to a block that validators certified: the headers between, each the child of the one before.
//!
//! A certificate names one block in so many. That the claim's block is an ancestor of it, hashes show: a header contains its parent's.

use milepost_statement::Digest;

use crate::landing::Header;

/// Most headers of a link. Validators certify each 32nd block unless told otherwise.
pub const MAX_LINK_HEADERS: usize = 512;

/// Why headers lead nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a header.
    #[error("header {0} of the link is none")]
    Header(usize),
    /// Not the child of the one before.
    #[error("header {at} of the link has the parent {found}, the one before it is {expected}")]
    Parent {
        /// Its place, from 0.
        at: usize,
        /// The hash before it.
        expected: Digest,
        /// Its parent.
        found: Digest,
    },
    /// Not one higher.
    #[error("header {0} of the link is not one higher than the one before it")]
    Height(usize),
    /// A certificate without the claim's block.
    #[error("the bundle has a certificate and no block that it could be about")]
    NoBlock,
}

/// The block at the end of the link: the certified one, if it holds. Without headers the claim's own.
pub fn follow(block: Header, headers: &[Vec<u8>]) -> Result<Header, Error> {
    headers.iter().enumerate().try_fold(block, |before, (at, bytes)| {
        let header = Header::read(bytes).map_err(|_| Error::Header(at))?;
        if header.parent != before.hash {
            return Err(Error::Parent { at, expected: before.hash, found: header.parent });
        }
        if Some(header.number) != before.number.checked_add(1) {
            return Err(Error::Height(at));
        }
        Ok(header)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc;
    use serde_json::{Value, json};

    /// A header as an endpoint tells it, without the hash that is not known yet.
    fn header(parent: Digest, number: u64) -> Vec<u8> {
        let zero = |bytes: usize| format!("0x{}", "00".repeat(bytes));
        let mut block = json!({
            "parentHash": parent, "sha3Uncles": zero(32), "miner": zero(20), "stateRoot": zero(32), "transactionsRoot": zero(32),
            "receiptsRoot": zero(32), "logsBloom": zero(256), "difficulty": "0x0", "number": format!("{number:#x}"), "gasLimit": "0x1",
            "gasUsed": "0x0", "timestamp": "0x1", "extraData": "0x", "mixHash": zero(32), "nonce": zero(8), "hash": zero(32),
        });
        // An answer whose hash does not fit is refused, and says which would.
        let Err(rpc::Error::Hash { found, .. }) = rpc::header(&block) else { panic!("no header has the hash zero") };
        block["hash"] = Value::from(found.to_string());
        rpc::header(&block).expect("a header")
    }

    #[test]
    fn a_link_leads_from_parent_to_child_and_nowhere_else() {
        let first = Header::read(&header(Digest([7; 32]), 40)).expect("a header");
        assert_eq!(follow(first, &[]), Ok(first));
        let second = header(first.hash, 41);
        let third = header(Header::read(&second).expect("a header").hash, 42);
        assert_eq!(follow(first, &[second.clone(), third.clone()]).map(|end| end.number), Ok(42));
        assert!(matches!(follow(first, std::slice::from_ref(&third)), Err(Error::Parent { at: 0, .. })));
        assert!(matches!(follow(first, &[third, second.clone()]), Err(Error::Parent { at: 0, .. })));
        assert_eq!(follow(first, &[header(first.hash, 43)]), Err(Error::Height(0)));
        assert_eq!(follow(first, &[second, vec![1]]), Err(Error::Header(1)));
    }
}
