//! Ethereum's Merkle-Patricia trie over an indexed list (`receiptsRoot`): a proof that an item is in it, made and checked.
//!
//! Keys are `rlp(index)`. They differ in length, but none is the beginning of another, so that no branch holds a value.

use milepost_statement::{Digest, keccak256};

use crate::rlp::{self, Item};

/// Most nodes on the way to an item: a key of an index has at most 9 bytes, 18 nibbles, and each node consumes at least one.
pub const MAX_NODES: usize = 19;

/// Why a proof does not show that an item is under a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A node is not the one that its parent, or the root, names.
    #[error("node {0} of the proof is not the one that stands above it")]
    OtherNode(usize),
    /// A node is no node of a trie.
    #[error("node {0} of the proof is malformed")]
    Malformed(usize),
    /// The way to the index leads elsewhere.
    #[error("node {0} of the proof does not lead to that index")]
    OtherWay(usize),
    /// The way ends before the item.
    #[error("the proof ends before the item")]
    Short,
    /// Nodes are left when the item is reached.
    #[error("the proof goes on behind the item")]
    Long,
    /// Another item is there.
    #[error("another item is at that index")]
    OtherItem,
}

/// Whether `item` is at `index` of the list whose trie has this root.
pub fn verify(root: Digest, index: u64, item: &[u8], proof: &[Vec<u8>]) -> Result<(), Error> {
    if proof.len() > MAX_NODES {
        return Err(Error::Long);
    }
    let key = nibbles(&rlp::number(index));
    let mut key = &key[..];
    let mut expected = Reference::Hash(root);
    let mut nodes = proof.iter().enumerate();
    loop {
        // A node of fewer than 32 bytes stands in its parent; others are named by their hash and come next in the proof.
        let (at, node) = match expected {
            Reference::Hash(hash) => {
                let (at, node) = nodes.next().ok_or(Error::Short)?;
                if keccak256(node) != hash {
                    return Err(Error::OtherNode(at));
                }
                (at, Item::only(node).map_err(|_| Error::Malformed(at))?)
            }
            Reference::Embedded(at, node) => (at, node),
        };
        let malformed = |_| Error::Malformed(at);
        let parts = node.items(17).map_err(malformed)?;
        match parts.as_slice() {
            [path, value] => {
                let (path, is_leaf) = unpack(path.bytes().map_err(malformed)?).ok_or(Error::Malformed(at))?;
                key = key.strip_prefix(&path[..]).ok_or(Error::OtherWay(at))?;
                if is_leaf {
                    if !key.is_empty() {
                        return Err(Error::OtherWay(at));
                    }
                    if nodes.next().is_some() {
                        return Err(Error::Long);
                    }
                    return if value.bytes().map_err(malformed)? == item { Ok(()) } else { Err(Error::OtherItem) };
                }
                if path.is_empty() {
                    return Err(Error::Malformed(at));
                }
                expected = reference(at, *value)?;
            }
            branch if branch.len() == 17 => {
                let (nibble, rest) = key.split_first().ok_or(Error::OtherWay(at))?;
                key = rest;
                expected = reference(at, branch[usize::from(*nibble)])?;
            }
            _ => return Err(Error::Malformed(at)),
        }
    }
}

enum Reference<'a> {
    Hash(Digest),
    Embedded(usize, Item<'a>),
}

fn reference(at: usize, item: Item<'_>) -> Result<Reference<'_>, Error> {
    if item.is_list {
        return if item.raw.len() < 32 { Ok(Reference::Embedded(at, item)) } else { Err(Error::Malformed(at)) };
    }
    match item.payload.len() {
        0 => Err(Error::OtherWay(at)),
        32 => item.array().map(|hash| Reference::Hash(Digest(hash))).map_err(|_| Error::Malformed(at)),
        _ => Err(Error::Malformed(at)),
    }
}

/// Root of a list's trie, and the proof of the item at `index`. `None` where the list has no such item.
pub fn prove(items: &[Vec<u8>], index: usize) -> Option<(Digest, Vec<Vec<u8>>)> {
    let wanted = nibbles(&rlp::number(u64::try_from(index).ok().filter(|_| index < items.len())?));
    let mut leaves: Vec<(Vec<u8>, &[u8])> =
        (0_u64..).zip(items).map(|(index, item)| (nibbles(&rlp::number(index)), item.as_slice())).collect();
    leaves.sort_unstable();
    let mut proof = Vec::new();
    let root = node(&leaves, 0, Some(&wanted), &mut proof);
    // The root is always named by its hash, however short it is.
    if root.len() < 32 {
        proof.push(root.clone());
    }
    proof.reverse();
    Some((keccak256(&root), proof))
}

/// The node over these leaves, which share their first `depth` nibbles. Nodes of 32 bytes and more on the way to `wanted` are put
/// into `proof`, the lowest first.
fn node(leaves: &[(Vec<u8>, &[u8])], depth: usize, wanted: Option<&[u8]>, proof: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let (first, last) = (&leaves[0].0, &leaves[leaves.len() - 1].0);
    let encoded = if let [(key, value)] = leaves {
        rlp::list(&[rlp::string(&pack(&key[depth..], true)), rlp::string(value)])
    } else {
        // Sorted: what the first and the last share, all share.
        let shared = first[depth..].iter().zip(&last[depth..]).take_while(|(left, right)| left == right).count();
        if shared > 0 {
            let below = node(leaves, depth + shared, wanted.filter(|key| on_the_way(key, first, depth, shared)), proof);
            rlp::list(&[rlp::string(&pack(&first[depth..depth + shared], false)), named(&below)])
        } else {
            let mut children = Vec::with_capacity(17);
            for nibble in 0..16 {
                let from = leaves.partition_point(|(key, _)| key[depth] < nibble);
                let to = leaves.partition_point(|(key, _)| key[depth] <= nibble);
                children.push(if from == to {
                    rlp::string(b"")
                } else {
                    let wanted = wanted.filter(|key| key.get(depth) == Some(&nibble));
                    named(&node(&leaves[from..to], depth + 1, wanted, proof))
                });
            }
            children.push(rlp::string(b""));
            rlp::list(&children)
        }
    };
    if wanted.is_some() && encoded.len() >= 32 {
        proof.push(encoded.clone());
    }
    encoded
}

fn on_the_way(key: &[u8], first: &[u8], depth: usize, shared: usize) -> bool {
    key.get(depth..depth + shared) == first.get(depth..depth + shared)
}

/// How a node stands in its parent.
fn named(node: &[u8]) -> Vec<u8> {
    if node.len() < 32 { node.to_vec() } else { rlp::string(&keccak256(node).0) }
}

fn nibbles(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect()
}

/// Hex-prefix encoding of a path.
fn pack(path: &[u8], is_leaf: bool) -> Vec<u8> {
    let flag = if is_leaf { 0x20 } else { 0 };
    let (first, rest) = if path.len().is_multiple_of(2) { (flag, path) } else { (flag | 0x10 | path[0], &path[1..]) };
    std::iter::once(first).chain(rest.chunks(2).map(|pair| pair[0] << 4 | pair[1])).collect()
}

/// A path and whether it is a leaf's, from its hex-prefix encoding.
fn unpack(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let (first, rest) = bytes.split_first()?;
    // An even path's second nibble is zero, an odd one's the path's first.
    let mut path = match (first >> 4, first & 15) {
        (0 | 2, 0) => Vec::new(),
        (1 | 3, nibble) => vec![nibble],
        _ => return None,
    };
    path.extend(nibbles(rest));
    Some((path, first >> 5 == 1))
}
