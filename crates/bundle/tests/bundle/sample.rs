//! A claim of ten tokens in two checkpoints, with its turns, its transaction and its block. Also used with a real proof.

#![allow(dead_code, unreachable_pub)] // each test program uses a part of it

use milepost_bundle::{Bundle, Checkpoint, Landing, OpenTurn, Opening, rlp, rpc, trie};
use milepost_statement::{
    Address, ChainId, Digest, Domain, JobId, ProofKind, Salt, Sampler, SigningKey, Statement, TokenCount, TokenId, TokenSeq, Turn, Voucher,
    checkpoint_head, encode_proof, genesis_head, keccak256, prompt_digest, request_digest, salt_commitment, turns_digest,
};
use serde_json::{Value, json};

pub const SALT: Salt = Salt([9; 32]);
pub const MARKETPLACE: Address = Address([0xaa; 20]);
pub const IDS: [TokenId; 10] = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109];
const COUNTS: [u64; 2] = [6, 4];

/// The client's key.
pub fn client() -> SigningKey {
    SigningKey::from_bytes(&[1; 32]).expect("a key")
}

/// A running total, countersigned by the client, as it is shown to the contract.
pub fn voucher(statement: &Statement, tokens: u64) -> Vec<u8> {
    let domain = Domain { chain_id: statement.chain_id, marketplace: statement.marketplace };
    let signature = client().sign(&Voucher { job_id: statement.job_id, tokens: TokenCount(tokens) }.digest(&domain));
    let mut out = [word(tokens), word(64), word(65)].concat();
    out.extend(signature);
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// The host's key.
pub fn host() -> SigningKey {
    SigningKey::from_bytes(&[2; 32]).expect("a key")
}

pub fn turns() -> Vec<OpenTurn> {
    let sampler = |seed| Sampler { temperature: 0.7, top_p: 0.95, top_k: 40, seed, max_tokens: 90 };
    let turn = |start, request: &str, sampler: Sampler| OpenTurn {
        turn: Turn {
            start: TokenSeq(start),
            prompt: prompt_digest(&SALT, &[1, 2, 3]),
            sampler: sampler.digest(),
            request: request_digest(request),
        },
        sampler,
    };
    vec![turn(0, "first", sampler(1)), turn(7, "second", sampler(2))]
}

/// The claim's statement, and its checkpoints with the digests of their turns.
pub fn claim() -> (Statement, Vec<(Digest, Checkpoint)>) {
    let (chain_id, job_id, model_digest) = (ChainId(31337), JobId(7), Digest([4; 32]));
    let head_before = genesis_head(chain_id, MARKETPLACE, job_id, host().address(), model_digest, salt_commitment(&SALT));
    let (mut head, mut first, mut rest) = (head_before, TokenSeq::ZERO, &IDS[..]);
    let mut checkpoints = Vec::new();
    for count in COUNTS {
        let (ids, behind) = rest.split_at(usize::try_from(count).expect("few"));
        let end = first + TokenCount(count);
        let inside: Vec<Turn> = turns().iter().map(|it| it.turn).filter(|it| it.start >= first && it.start < end).collect();
        let digest = turns_digest(&SALT, first, &inside);
        head = checkpoint_head(&head, first, &digest, ids);
        checkpoints.push((digest, Checkpoint { count: TokenCount(count), head }));
        (first, rest) = (end, behind);
    }
    let statement = Statement {
        chain_id,
        marketplace: MARKETPLACE,
        job_id,
        host: host().address(),
        model_digest,
        first_seq: TokenSeq::ZERO,
        count: TokenCount(IDS.len() as u64),
        head_before,
        head_after: head,
    };
    (statement, checkpoints)
}

/// The whole bundle around a receipt.
pub fn bundle(receipt: Vec<u8>, kind: ProofKind) -> Bundle {
    let (statement, checkpoints) = claim();
    Bundle {
        image_id: milepost_prover::IMAGE_ID,
        salt_commitment: salt_commitment(&SALT),
        statement,
        receipt,
        checkpoints: checkpoints.iter().map(|(_, checkpoint)| *checkpoint).collect(),
        opening: Some(Opening {
            turns_digests: checkpoints.iter().map(|(digest, _)| *digest).collect(),
            ids: IDS.to_vec(),
            turns: turns(),
            salt: Some(SALT),
        }),
        landing: Some(Landed::of(&statement, kind).landing()),
        certificate: None,
    }
}

/// The same with a mock proof.
pub fn mock() -> Bundle {
    let (statement, _) = claim();
    bundle([milepost_prover::MOCK_RECEIPT_TAG, &statement.journal()].concat(), ProofKind::Mock)
}

/// A claim's transaction, and the block that a chain's endpoint answers with.
pub struct Landed {
    pub statement: Statement,
    pub transaction: Vec<u8>,
    pub block: Value,
    pub receipts: Value,
}

impl Landed {
    pub fn of(statement: &Statement, kind: ProofKind) -> Self {
        Self::with(statement, kind, &call(statement, kind), 1)
    }

    /// A transaction with these input bytes, in a block of four, whose receipt says `status`.
    pub fn with(statement: &Statement, kind: ProofKind, input: &[u8], status: u64) -> Self {
        let transaction = sign(statement.chain_id.0, statement.marketplace, input);
        let event = Log {
            address: statement.marketplace,
            topics: vec![
                keccak256(b"ProofOfWork(uint256,address,uint256,uint256,bytes32,uint8)").0,
                word(statement.job_id.0),
                padded(&statement.host.0),
            ],
            data: [word(statement.count.0), word(statement.end().0), statement.head_after.0, word(u64::from(kind.code()))].concat(),
        };
        let transfer = Log { address: Address([5; 20]), topics: vec![[6; 32]], data: vec![7; 32] };
        let receipts = [
            Receipt { kind: 0x7e, status: 1, gas: 40_000, logs: vec![], deposit: Some((9, 1)) },
            Receipt { kind: 0, status: 1, gas: 60_000, logs: vec![transfer.clone()], deposit: None },
            Receipt { kind: 2, status, gas: 120_000, logs: vec![transfer, event], deposit: None },
            Receipt { kind: 2, status: 0, gas: 150_000, logs: vec![], deposit: None },
        ];
        let encoded: Vec<Vec<u8>> = receipts.iter().map(Receipt::encoded).collect();
        let (root, _) = trie::prove(&encoded, 0).expect("receipts");
        let hash_of = |index: usize| if index == 2 { keccak256(&transaction) } else { Digest([u8::try_from(index).expect("few"); 32]) };
        let shown = receipts.iter().enumerate().map(|(index, receipt)| receipt.json(index, hash_of(index))).collect();
        Self { statement: *statement, block: block(root), receipts: Value::Array(shown), transaction }
    }

    pub fn landing(&self) -> Landing {
        let inclusion = rpc::inclusion(&self.block, &self.receipts, keccak256(&self.transaction), &self.statement).expect("shown");
        Landing { transaction: self.transaction.clone(), inclusion: Some(inclusion) }
    }
}

#[derive(Clone)]
struct Log {
    address: Address,
    topics: Vec<[u8; 32]>,
    data: Vec<u8>,
}

struct Receipt {
    kind: u8,
    status: u64,
    gas: u64,
    logs: Vec<Log>,
    deposit: Option<(u64, u64)>,
}

impl Receipt {
    fn encoded(&self) -> Vec<u8> {
        let logs: Vec<Vec<u8>> = self
            .logs
            .iter()
            .map(|log| {
                let topics: Vec<Vec<u8>> = log.topics.iter().map(|topic| rlp::string(topic)).collect();
                rlp::list(&[rlp::string(&log.address.0), rlp::list(&topics), rlp::string(&log.data)])
            })
            .collect();
        let mut fields = vec![rlp::number(self.status), rlp::number(self.gas), rlp::string(&[0; 256]), rlp::list(&logs)];
        if let Some((nonce, version)) = self.deposit {
            fields.extend([rlp::number(nonce), rlp::number(version)]);
        }
        let list = rlp::list(&fields);
        if self.kind == 0 { list } else { [&[self.kind][..], &list].concat() }
    }

    fn json(&self, index: usize, hash: Digest) -> Value {
        let logs: Vec<Value> = self
            .logs
            .iter()
            .map(|log| {
                let topics: Vec<Digest> = log.topics.iter().map(|topic| Digest(*topic)).collect();
                json!({ "address": log.address, "topics": topics, "data": hexed(&log.data) })
            })
            .collect();
        let mut out = json!({
            "type": format!("{:#x}", self.kind), "status": format!("{:#x}", self.status), "cumulativeGasUsed": format!("{:#x}", self.gas),
            "logsBloom": hexed(&[0; 256]), "logs": logs, "transactionHash": hash, "transactionIndex": format!("{index:#x}"),
        });
        if let Some((nonce, version)) = self.deposit {
            out["depositNonce"] = json!(format!("{nonce:#x}"));
            out["depositReceiptVersion"] = json!(format!("{version:#x}"));
        }
        out
    }
}

/// A header of the Cancun fork, with its hash.
fn block(receipts_root: Digest) -> Value {
    let hash = |byte: u8| vec![byte; 32];
    let fields: [(&str, Vec<u8>, bool); 20] = [
        ("parentHash", hash(1), false),
        ("sha3Uncles", hash(2), false),
        ("miner", vec![3; 20], false),
        ("stateRoot", hash(4), false),
        ("transactionsRoot", hash(5), false),
        ("receiptsRoot", receipts_root.0.to_vec(), false),
        ("logsBloom", vec![0; 256], false),
        ("difficulty", vec![], true),
        ("number", vec![0x12, 0xd6], true),
        ("gasLimit", vec![0x1c, 0x9c, 0x38, 0x00], true),
        ("gasUsed", vec![0x02, 0x49, 0xf0], true),
        ("timestamp", vec![0x69, 0x20, 0x00, 0x01], true),
        ("extraData", vec![], false),
        ("mixHash", hash(6), false),
        ("nonce", vec![0; 8], false),
        ("baseFeePerGas", vec![7], true),
        ("withdrawalsRoot", hash(8), false),
        ("blobGasUsed", vec![], true),
        ("excessBlobGas", vec![], true),
        ("parentBeaconBlockRoot", hash(9), false),
    ];
    let encoded: Vec<Vec<u8>> = fields.iter().map(|(_, bytes, _)| rlp::string(bytes)).collect();
    let mut out = json!({ "hash": keccak256(&rlp::list(&encoded)), "size": "0x1", "transactions": [] });
    for (name, bytes, is_number) in fields {
        let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        out[name] = json!(if is_number { format!("{number:#x}") } else { hexed(&bytes) });
    }
    out
}

/// `submitProofOfWork` of a claim.
pub fn call(statement: &Statement, kind: ProofKind) -> Vec<u8> {
    let selector = keccak256(b"submitProofOfWork(uint256,uint256,bytes)").0;
    [
        &selector[..4],
        &arguments(statement.job_id.0, statement.count.0, &encode_proof(kind, &statement.journal(), b"", &voucher(statement, 8))),
    ]
    .concat()
}

/// `submitProofsOfWork` of a claim behind one of another job.
pub fn batch_call(statement: &Statement, kind: ProofKind) -> Vec<u8> {
    let selector = keccak256(b"submitProofsOfWork((uint256,uint256,bytes)[])").0;
    let proof = encode_proof(kind, &statement.journal(), b"", b"");
    let (other, mine) = (arguments(99, 5, b"x"), arguments(statement.job_id.0, statement.count.0, &proof));
    let offsets = [word(64), word(64 + other.len() as u64)].concat();
    [&selector[..4], &word(32), &word(2), &offsets, &other, &mine].concat()
}

fn arguments(job: u64, tokens: u64, proof: &[u8]) -> Vec<u8> {
    let mut out = [word(job), word(tokens), word(96), word(proof.len() as u64)].concat();
    out.extend(proof);
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// A signed EIP-1559 transaction of the host.
pub fn sign(chain: u64, to: Address, input: &[u8]) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = [chain, 3, 1, 10, 200_000].into_iter().map(rlp::number).collect();
    fields.extend([rlp::string(&to.0), rlp::number(0), rlp::string(input), rlp::list::<Vec<u8>>(&[])]);
    let digest = keccak256(&[&[2][..], &rlp::list(&fields)].concat());
    let signature = host().sign(&digest);
    fields.push(rlp::number(u64::from(signature[64] - 27)));
    fields.extend([&signature[..32], &signature[32..64]].map(|half| rlp::string(rlp::trimmed(half))));
    [&[2][..], &rlp::list(&fields)].concat()
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn word(value: u64) -> [u8; 32] {
    padded(&value.to_be_bytes())
}

fn padded(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out[32 - bytes.len()..].copy_from_slice(bytes);
    out
}
