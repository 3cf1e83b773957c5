//! A block and its receipts as JSON-RPC has them, turned into what can be checked without the endpoint.
//!
//! Nothing here is believed: the header must have the hash that names the block, and the receipts must lead to the header's
//! `receiptsRoot`. A chain with fields or receipts that are not known here fails the one or the other; then the bundle says less,
//! never something wrong.

use milepost_statement::{Digest, Statement, keccak256};
use serde_json::Value;

use crate::landing::{Header, Inclusion, proof_of_work_topic};
use crate::{rlp, trie};

/// Why a block and its receipts show nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field is missing or malformed.
    #[error("the endpoint's answer has no usable {0}")]
    Field(&'static str),
    /// The header, as it is known here, has another hash.
    #[error("the block's header has fields that are not known here: its hash is {found}, the endpoint says {expected}")]
    Hash {
        /// The endpoint's.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// The transaction is not among the receipts.
    #[error("the transaction is not among the block's receipts")]
    NoReceipt,
    /// No such event in it.
    #[error("the receipt has no ProofOfWork of this claim")]
    NoEvent,
}

/// How a header's field is encoded.
#[derive(Clone, Copy)]
enum Kind {
    /// As it is.
    Bytes,
    /// Without leading zeros.
    Quantity,
}

/// A header's fields in order; those after the fifteenth came with forks, and stand there where the block has them.
const HEADER: [(&str, Kind); 22] = [
    ("parentHash", Kind::Bytes),
    ("sha3Uncles", Kind::Bytes),
    ("miner", Kind::Bytes),
    ("stateRoot", Kind::Bytes),
    ("transactionsRoot", Kind::Bytes),
    ("receiptsRoot", Kind::Bytes),
    ("logsBloom", Kind::Bytes),
    ("difficulty", Kind::Quantity),
    ("number", Kind::Quantity),
    ("gasLimit", Kind::Quantity),
    ("gasUsed", Kind::Quantity),
    ("timestamp", Kind::Quantity),
    ("extraData", Kind::Bytes),
    ("mixHash", Kind::Bytes),
    ("nonce", Kind::Bytes),
    ("baseFeePerGas", Kind::Quantity),
    ("withdrawalsRoot", Kind::Bytes),
    ("blobGasUsed", Kind::Quantity),
    ("excessBlobGas", Kind::Quantity),
    ("parentBeaconBlockRoot", Kind::Bytes),
    ("requestsHash", Kind::Bytes),
    ("blockAccessListHash", Kind::Bytes),
];
/// Fields that every block has.
const ALWAYS: usize = 15;

/// The event of a claim in a block, with the proof of its receipt where the receipts lead to the block's root.
///
/// `block` is the answer to `eth_getBlockByHash`, `receipts` that to `eth_getBlockReceipts`, `transaction` the claim's.
pub fn inclusion(block: &Value, receipts: &Value, transaction: Digest, statement: &Statement) -> Result<Inclusion, Error> {
    let header = header(block)?;
    let receipts = receipts.as_array().ok_or(Error::Field("list of receipts"))?;
    let mine = |receipt: &&Value| digest(receipt, "transactionHash") == Some(transaction);
    let mine = receipts.iter().find(mine).ok_or(Error::NoReceipt)?;
    let index = number(mine, "transactionIndex").ok_or(Error::Field("transactionIndex"))?;
    let log_position = position(mine, statement).ok_or(Error::NoEvent)?;
    let receipt = encoded(mine).ok_or(Error::Field("receipt"))?;
    let root = Header::read(&header).map_err(|_| Error::Field("header"))?.receipts_root;
    let proof = proof(receipts, index, root).unwrap_or_default();
    Ok(Inclusion { header, receipt, transaction_index: index, log_position, proof })
}

/// A block's header in RLP, if it has the hash that the endpoint gives.
/// A block's header as RLP, if it has the hash that the endpoint gives it.
pub fn header(block: &Value) -> Result<Vec<u8>, Error> {
    let mut fields = Vec::with_capacity(HEADER.len());
    for (at, (name, kind)) in HEADER.into_iter().enumerate() {
        let Some(bytes) = bytes(block, name) else {
            if at < ALWAYS {
                return Err(Error::Field(name));
            }
            continue;
        };
        fields.push(match kind {
            Kind::Bytes => rlp::string(&bytes),
            Kind::Quantity => rlp::string(rlp::trimmed(&bytes)),
        });
    }
    let header = rlp::list(&fields);
    let (expected, found) = (digest(block, "hash").ok_or(Error::Field("hash"))?, keccak256(&header));
    if expected == found { Ok(header) } else { Err(Error::Hash { expected, found }) }
}

/// The proof of the receipt at `index`; `None` where the receipts do not lead to the root.
fn proof(receipts: &[Value], index: u64, root: Digest) -> Option<Vec<Vec<u8>>> {
    let mut all =
        receipts.iter().map(|receipt| Some((number(receipt, "transactionIndex")?, encoded(receipt)?))).collect::<Option<Vec<_>>>()?;
    all.sort_unstable_by_key(|(index, _)| *index);
    let in_order = all.iter().zip(0_u64..).all(|((index, _), expected)| *index == expected);
    let items: Vec<Vec<u8>> = all.into_iter().map(|(_, receipt)| receipt).collect();
    let (computed, proof) = trie::prove(&items, usize::try_from(index).ok()?)?;
    (in_order && computed == root).then_some(proof)
}

/// A receipt as it stands in the trie (EIP-2718), also of the deposits that rollups of the OP family put first in a block.
fn encoded(receipt: &Value) -> Option<Vec<u8>> {
    let outcome = bytes(receipt, "status")
        .map(|status| rlp::string(rlp::trimmed(&status)))
        .or_else(|| Some(rlp::string(&bytes(receipt, "root")?)))?;
    let quantity = |name| bytes(receipt, name).map(|bytes| rlp::string(rlp::trimmed(&bytes)));
    let logs = receipt["logs"].as_array()?.iter().map(log).collect::<Option<Vec<_>>>()?;
    let mut fields = vec![outcome, quantity("cumulativeGasUsed")?, rlp::string(&bytes(receipt, "logsBloom")?), rlp::list(&logs)];
    fields.extend(quantity("depositNonce"));
    fields.extend(quantity("depositReceiptVersion"));
    let list = rlp::list(&fields);
    Some(match number(receipt, "type").unwrap_or(0) {
        0 => list,
        kind => [&[u8::try_from(kind).ok()?][..], &list].concat(),
    })
}

fn log(log: &Value) -> Option<Vec<u8>> {
    let topics = topics(log)?.iter().map(|topic| rlp::string(topic)).collect::<Vec<_>>();
    Some(rlp::list(&[rlp::string(&bytes(log, "address")?), rlp::list(&topics), rlp::string(&bytes(log, "data")?)]))
}

/// Position of the claim's event among the receipt's logs.
fn position(receipt: &Value, statement: &Statement) -> Option<u32> {
    let job = statement.job_id.0.to_be_bytes();
    let found = receipt["logs"].as_array()?.iter().position(|log| {
        let topics = topics(log).unwrap_or_default();
        bytes(log, "address").as_deref() == Some(&statement.marketplace.0[..])
            && topics.first().is_some_and(|topic| topic[..] == proof_of_work_topic().0)
            && topics.get(1).is_some_and(|topic| rlp::trimmed(topic) == rlp::trimmed(&job))
    })?;
    u32::try_from(found).ok()
}

fn topics(log: &Value) -> Option<Vec<Vec<u8>>> {
    log["topics"].as_array()?.iter().map(|topic| unhex(topic.as_str()?)).collect()
}

fn bytes(object: &Value, name: &str) -> Option<Vec<u8>> {
    unhex(object.get(name)?.as_str()?)
}

fn digest(object: &Value, name: &str) -> Option<Digest> {
    bytes(object, name)?.try_into().ok().map(Digest)
}

fn number(object: &Value, name: &str) -> Option<u64> {
    u64::from_str_radix(object.get(name)?.as_str()?.strip_prefix("0x")?, 16).ok()
}

/// Bytes of hexadecimal digits, also of a quantity, which has no leading zero.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    if digits.len().is_multiple_of(2) { hex::decode(digits).ok() } else { hex::decode(format!("0{digits}")).ok() }
}
