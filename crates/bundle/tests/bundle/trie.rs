//! The trie of a list: every item is proven, and nothing else is.

use milepost_bundle::rlp;
use milepost_bundle::trie::{Error, prove, verify};
use milepost_statement::{Digest, keccak256};
use proptest::prelude::*;

fn items(count: usize, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| (0..length).map(|at| u8::try_from((number * 31 + at * 7) % 251).unwrap()).collect()).collect()
}

#[test]
fn every_item_of_lists_of_many_lengths_is_proven_and_no_other() {
    // Around 0x80 the index's encoding grows by a byte, around 0x100 by another.
    for (count, length) in [(1, 3), (2, 2), (2, 40), (3, 1), (17, 5), (127, 40), (128, 40), (129, 40), (257, 33), (300, 100)] {
        let items = items(count, length);
        let (root, _) = prove(&items, 0).unwrap();
        for index in 0..count {
            let (same, proof) = prove(&items, index).unwrap();
            assert_eq!(same, root);
            assert_eq!(verify(root, index as u64, &items[index], &proof), Ok(()), "{index} of {count} items of {length} bytes");
            let other = [&items[index][..], b"x"].concat();
            assert_eq!(verify(root, index as u64, &other, &proof), Err(Error::OtherItem));
            assert!(verify(root, index as u64 + 1, &items[index], &proof).is_err());
            assert!(verify(Digest([1; 32]), index as u64, &items[index], &proof) == Err(Error::OtherNode(0)));
            assert!(verify(root, index as u64, &items[index], &proof[..proof.len() - 1]).is_err());
            let longer = [&proof[..], &[vec![0xc0]]].concat();
            assert_eq!(verify(root, index as u64, &items[index], &longer), Err(Error::Long));
        }
        assert_eq!(prove(&items, count), None);
    }
}

#[test]
fn the_root_is_the_published_one() {
    // The trie of one key and value: a leaf, as the yellow paper's appendices C and D have it.
    let (root, proof) = prove(&[b"value".to_vec()], 0).unwrap();
    // Key 0x80, two nibbles: an even leaf's prefix 0x20, then 0x80.
    let leaf = rlp::list(&[rlp::string(&[0x20, 0x80]), rlp::string(b"value")]);
    assert_eq!((root, proof), (keccak256(&leaf), vec![leaf]));
}

proptest! {
    #[test]
    fn no_altered_proof_shows_anything_else(count in 1_usize..200, pick in any::<u32>(), at in any::<u32>(), by in 1_u8..) {
        let items = items(count, 50);
        let index = pick as usize % count;
        let (root, mut proof) = prove(&items, index).unwrap();
        let node = at as usize % proof.len();
        let byte = at as usize / 7 % proof[node].len();
        proof[node][byte] ^= by;
        prop_assert!(verify(root, index as u64, &items[index], &proof).is_err());
    }
}
