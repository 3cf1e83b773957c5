//! How a claim came on the chain: the signed transaction, the event, and why the event belongs to a block.
//!
//! What can be told without the chain: that the transaction was signed by that key and submits exactly this statement; that a
//! header has that hash; that the receipt is the one that the header's `receiptsRoot` names; that the marketplace's `ProofOfWork`
//! stands in it. What cannot: that the block is part of the chain (ask an endpoint, or a finality certificate), and that this
//! transaction, not another of the same content, left that receipt.

use milepost_statement::{Address, Digest, Domain, ProofKind, Statement, TokenCount, Voucher, decode_proof, keccak256, recover};

use crate::rlp::{self, Item};
use crate::trie;

/// Most logs of a transaction. Gas allows some thousands.
const MAX_LOGS: usize = 100_000;
/// Most claims in one batch.
const MAX_BATCH: u64 = 4_096;

/// A claim's transaction and where it landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landing {
    /// The signed transaction (EIP-2718), as it was sent.
    pub transaction: Vec<u8>,
    /// The block and the event.
    pub inclusion: Option<Inclusion>,
}

/// An event in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The block's header, RLP.
    pub header: Vec<u8>,
    /// The transaction's receipt (EIP-2718).
    pub receipt: Vec<u8>,
    /// Its index in the block.
    pub transaction_index: u64,
    /// Position of `ProofOfWork` among the receipt's logs.
    pub log_position: u32,
    /// Nodes from `receiptsRoot` down to the receipt. None: the receipt is asserted, not shown.
    pub proof: Vec<Vec<u8>>,
}

/// Why a landing is not this claim's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No signed EIP-1559 transaction.
    #[error("the transaction is not a signed EIP-1559 transaction")]
    Transaction,
    /// Its signature names no signer.
    #[error("the transaction's signature names no signer")]
    Signature,
    /// For another chain.
    #[error("the transaction is for chain {found}, the claim for {expected}")]
    TransactionChain {
        /// The claim's.
        expected: u64,
        /// The transaction's.
        found: u64,
    },
    /// To another contract.
    #[error("the transaction goes to {found}, the claim's marketplace is {expected}")]
    Recipient {
        /// The claim's.
        expected: Address,
        /// The transaction's.
        found: Address,
    },
    /// Its voucher is none.
    #[error("the transaction's voucher is malformed, or its signature names no signer")]
    Voucher,
    /// It submits something else.
    #[error("the transaction does not submit this claim: {0}")]
    Submits(&'static str),
    /// No header.
    #[error("the header is not RLP of a block header")]
    Header,
    /// The receipt is not under the header's root.
    #[error("the receipt is not in that block: {0}")]
    Proof(#[from] trie::Error),
    /// No receipt.
    #[error("the receipt is not one of a transaction")]
    Receipt,
    /// It reverted.
    #[error("the transaction reverted")]
    Reverted,
    /// No such log.
    #[error("the receipt has no log {0}")]
    NoLog(u32),
    /// Another event.
    #[error("the log is not ProofOfWork of this claim: {0} differs")]
    Event(&'static str),
}

/// A transaction that submits the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its hash.
    pub hash: Digest,
    /// Who signed it: the host or a submitter key of it.
    pub signer: Address,
    /// The kind of proof it names.
    pub kind: ProofKind,
    /// The voucher that it shows to the contract.
    pub voucher: Option<Countersigned>,
}

/// A running total that a client countersigned: it says that it received as many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Countersigned {
    /// Tokens of the job in all.
    pub tokens: TokenCount,
    /// By whom. That it is the job's voucher signer, the terms on the chain tell.
    pub signer: Address,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its hash, which names the block.
    pub hash: Digest,
    /// Hash of the block before it.
    pub parent: Digest,
    /// Height.
    pub number: u64,
    /// Unix seconds.
    pub time: u64,
    /// Root of the receipts' trie.
    pub receipts_root: Digest,
}

impl Header {
    /// Reads a header. Fields that later forks add behind are taken as they are: the hash covers them.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let read = || {
            let fields = Item::only(bytes)?.items(64)?;
            let field = |at: usize| fields.get(at).ok_or(rlp::Error);
            let header = Self {
                hash: keccak256(bytes),
                parent: Digest(field(0)?.array()?),
                number: field(8)?.number()?,
                time: field(11)?.number()?,
                receipts_root: Digest(field(5)?.array()?),
            };
            // A header begins with hashes and has at least the fifteen fields of the first ones.
            field(0)?.array::<32>().and(field(14)?.array::<8>()).map(|_| header)
        };
        read().map_err(|_: rlp::Error| Error::Header)
    }
}

impl Landing {
    /// The transaction's hash.
    pub fn hash(&self) -> Digest {
        keccak256(&self.transaction)
    }

    /// Checks that the transaction submits this statement, with a proof of this kind.
    pub fn check_transaction(&self, statement: &Statement, kind: ProofKind) -> Result<Submission, Error> {
        let body = self.transaction.strip_prefix(&[2]).ok_or(Error::Transaction)?;
        let fields = Item::only(body).and_then(|list| list.items(12)).map_err(|_| Error::Transaction)?;
        let [chain, _, _, _, _, to, _, data, access, parity, r, s] = fields.as_slice() else { return Err(Error::Transaction) };
        let malformed = |_| Error::Transaction;
        let chain = chain.number().map_err(malformed)?;
        let to = Address(to.array().map_err(malformed)?);
        let data = data.bytes().map_err(malformed)?;
        if !access.is_list {
            return Err(Error::Transaction);
        }

        let unsigned: Vec<&[u8]> = fields[..9].iter().map(|field| field.raw).collect();
        let digest = keccak256(&[&[2][..], &rlp::list(&unsigned)].concat());
        let mut signature = [0; 65];
        for (at, half) in [(0, r), (32, s)] {
            let half = half.bytes().map_err(malformed)?;
            if half.len() > 32 || half.first() == Some(&0) {
                return Err(Error::Transaction);
            }
            signature[at + 32 - half.len()..at + 32].copy_from_slice(half);
        }
        signature[64] = u8::try_from(parity.number().map_err(malformed)?).ok().filter(|parity| *parity < 2).ok_or(Error::Transaction)?;
        let signer = recover(&digest, &signature).map_err(|_| Error::Signature)?;

        if chain != statement.chain_id.0 {
            return Err(Error::TransactionChain { expected: statement.chain_id.0, found: chain });
        }
        if to != statement.marketplace {
            return Err(Error::Recipient { expected: statement.marketplace, found: to });
        }
        let proof = submitted(data, statement)?;
        let (found, journal, _, voucher) = decode_proof(proof).map_err(|_| Error::Submits("its proof bytes are none"))?;
        if found != kind {
            return Err(Error::Submits("its proof is of another kind"));
        }
        if journal != statement.journal() {
            return Err(Error::Submits("its journal is another"));
        }
        let voucher = if voucher.is_empty() { None } else { Some(countersigned(&voucher, statement)?) };
        Ok(Submission { hash: self.hash(), signer, kind, voucher })
    }
}

impl Inclusion {
    /// Checks that the receipt is in the block, as far as there is a proof of it. Answers whether there is.
    pub fn check_receipt(&self, header: &Header) -> Result<bool, Error> {
        if self.proof.is_empty() {
            return Ok(false);
        }
        trie::verify(header.receipts_root, self.transaction_index, &self.receipt, &self.proof)?;
        Ok(true)
    }

    /// Checks that the receipt holds `ProofOfWork` of this claim.
    pub fn check_event(&self, statement: &Statement, kind: ProofKind) -> Result<(), Error> {
        let receipt = |_: rlp::Error| Error::Receipt;
        // A typed receipt has its type before the list; a legacy one begins with the list.
        let body = match self.receipt.first() {
            Some(0..=0x7f) => &self.receipt[1..],
            _ => &self.receipt,
        };
        let fields = Item::only(body).and_then(|list| list.items(16)).map_err(receipt)?;
        let [status, _, _, logs, ..] = fields.as_slice() else { return Err(Error::Receipt) };
        match status.bytes().map_err(receipt)? {
            [1] => {}
            [] => return Err(Error::Reverted),
            _ => return Err(Error::Receipt),
        }
        let logs = logs.items(MAX_LOGS).map_err(receipt)?;
        let log = usize::try_from(self.log_position).ok().and_then(|at| logs.get(at)).ok_or(Error::NoLog(self.log_position))?;
        let log = Log::read(log).map_err(receipt)?;
        log.check(statement, kind)
    }
}

/// A log, taken apart.
struct Log<'a> {
    address: [u8; 20],
    topics: Vec<[u8; 32]>,
    data: &'a [u8],
}

impl<'a> Log<'a> {
    fn read(item: &Item<'a>) -> Result<Self, rlp::Error> {
        let fields = item.items(3)?;
        let [address, topics, data] = fields.as_slice() else { return Err(rlp::Error) };
        let topics = topics.items(4)?.iter().map(Item::array).collect::<Result<_, _>>()?;
        Ok(Self { address: address.array()?, topics, data: data.bytes()? })
    }

    fn check(&self, statement: &Statement, kind: ProofKind) -> Result<(), Error> {
        if self.address != statement.marketplace.0 {
            return Err(Error::Event("the contract"));
        }
        let [event, job, host] = self.topics.as_slice() else { return Err(Error::Event("the event")) };
        let same = |found: &[u8], expected: &[u8], name| if found == expected { Ok(()) } else { Err(Error::Event(name)) };
        same(event, &proof_of_work_topic().0, "the event")?;
        same(job, &word(statement.job_id.0), "the job")?;
        same(&host[..12], &[0; 12], "the host")?;
        same(&host[12..], &statement.host.0, "the host")?;
        if self.data.len() != 4 * 32 {
            return Err(Error::Event("the data"));
        }
        same(&self.data[..32], &word(statement.count.0), "tokensClaimed")?;
        same(&self.data[32..64], &word(statement.end().0), "tokensUsed")?;
        same(&self.data[64..96], &statement.head_after.0, "headAfter")?;
        same(&self.data[96..], &word(u64::from(kind.code())), "the kind of proof")
    }
}

/// Topic of `ProofOfWork`.
pub(crate) fn proof_of_work_topic() -> Digest {
    keccak256(b"ProofOfWork(uint256,address,uint256,uint256,bytes32,uint8)")
}

/// The proof bytes that a call submits for the claim, alone or in a batch.
fn submitted<'a>(data: &'a [u8], statement: &Statement) -> Result<&'a [u8], Error> {
    let is = |signature: &[u8]| data.get(..4) == keccak256(signature).0.get(..4);
    let other = Error::Submits("it calls something else");
    let claims = if is(b"submitProofOfWork(uint256,uint256,bytes)") {
        vec![claim(&data[4..]).ok_or(other)?]
    } else if is(b"submitProofsOfWork((uint256,uint256,bytes)[])") {
        batch(&data[4..]).ok_or(other)?
    } else {
        return Err(other);
    };
    let of_job: Vec<_> = claims.iter().filter(|claim| claim.0 == statement.job_id.0).collect();
    if of_job.is_empty() {
        return Err(Error::Submits("it is about another job"));
    }
    let found = of_job.iter().find(|claim| claim.1 == statement.count.0);
    found.map(|claim| claim.2).ok_or(Error::Submits("it claims another number of tokens"))
}

/// `(uint256 job, uint256 tokens, bytes proof)`.
fn claim(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (job, tokens, at) = (number(bytes, 0)?, number(bytes, 32)?, index(bytes, 64)?);
    let length = index(bytes, at)?;
    let start = at.checked_add(32)?;
    Some((job, tokens, bytes.get(start..start.checked_add(length)?)?))
}

fn batch(bytes: &[u8]) -> Option<Vec<(u64, u64, &[u8])>> {
    let array = bytes.get(index(bytes, 0)?..)?;
    let count = number(array, 0).filter(|count| *count <= MAX_BATCH)?;
    let items = array.get(32..)?;
    (0..usize::try_from(count).ok()?).map(|at| claim(items.get(index(items, 32 * at)?..)?)).collect()
}

/// `abi.encode(uint256 tokens, bytes signature)`.
fn countersigned(bytes: &[u8], statement: &Statement) -> Result<Countersigned, Error> {
    let read = || {
        let (tokens, length) = (number(bytes, 0)?, index(bytes, 64)?);
        (number(bytes, 32)? == 64).then_some(())?;
        Some((TokenCount(tokens), bytes.get(96..96_usize.checked_add(length)?)?))
    };
    let (tokens, signature) = read().ok_or(Error::Voucher)?;
    let domain = Domain { chain_id: statement.chain_id, marketplace: statement.marketplace };
    let digest = Voucher { job_id: statement.job_id, tokens }.digest(&domain);
    recover(&digest, signature).map(|signer| Countersigned { tokens, signer }).map_err(|_| Error::Voucher)
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let (high, low) = bytes.get(at..at.checked_add(32)?)?.split_at(24);
    if high.iter().any(|byte| *byte != 0) {
        return None;
    }
    low.try_into().ok().map(u64::from_be_bytes)
}

fn index(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number(bytes, at)?).ok()
}

fn word(value: u64) -> [u8; 32] {
    let mut out = [0; 32];
    out[24..].copy_from_slice(&value.to_be_bytes());
    out
}
