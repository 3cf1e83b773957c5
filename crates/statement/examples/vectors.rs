//! Prints `vectors/v1.json`. The file is frozen: this program exists to show how its numbers came about, and the tests
//! (`tests/vectors.rs` here, `contracts/test/Vectors.t.sol` in Solidity) compare against the committed file.

use milepost_statement::{
    Address, ChainId, Digest, Domain, JobId, ProofKind, Salt, Sampler, SessionOpen, SigningKey, Statement, TokenCount, TokenSeq, Turn,
    TurnReceipt, Voucher, checkpoint_head, encode_proof, genesis_head, guest_input, open_digest, prompt_digest, request_digest,
    salt_commitment, turns_digest,
};
use serde_json::json;

fn main() {
    let chain = ChainId(31337);
    let marketplace = Address([0x11; 20]);
    let job = JobId(163);
    // First account of the well-known development mnemonic.
    let key = SigningKey::from_bytes(&development_key()).expect("a valid key");
    let host = key.address();
    let model = Digest([0x33; 32]);
    let salt = Salt([0x55; 32]);
    let genesis = genesis_head(chain, marketplace, job, host, model, salt_commitment(&salt));

    let sampler = Sampler { temperature: 0.7, top_p: 0.95, top_k: 40, seed: 7, max_tokens: 150 };
    let prompt: Vec<u32> = vec![1, 2, 3, 49_151];
    let turn = |start: u64, request: &str| Turn {
        start: TokenSeq(start),
        prompt: prompt_digest(&salt, &prompt),
        sampler: sampler.digest(),
        request: request_digest(request),
    };
    let first: Vec<u32> = (0..100).map(|n| n * 7 + 1).collect();
    let second: Vec<u32> = (0..37).map(|n| 49_000 + n).collect();
    let turns_first = turns_digest(&salt, TokenSeq(0), &[turn(0, "request-1"), turn(60, "request-2")]);
    let turns_second = turns_digest(&salt, TokenSeq(100), &[]);
    let head_first = checkpoint_head(&genesis, TokenSeq(0), &turns_first, &first);
    let head_second = checkpoint_head(&head_first, TokenSeq(100), &turns_second, &second);
    let open: Vec<u32> = vec![5, 6, 7];

    let statement = Statement {
        chain_id: chain,
        marketplace,
        job_id: job,
        host,
        model_digest: model,
        first_seq: TokenSeq(0),
        count: TokenCount(137),
        head_before: genesis,
        head_after: head_second,
    };
    let input = guest_input(&statement, [(turns_first, first.as_slice()), (turns_second, second.as_slice())].into_iter());

    let domain = Domain { chain_id: chain, marketplace };
    let voucher = Voucher { job_id: job, tokens: TokenCount(137) };
    let receipt = TurnReceipt {
        job_id: job,
        request: request_digest("request-2"),
        sealed_head: head_second,
        sealed_tokens: TokenCount(137),
        open_tokens: TokenCount(3),
        open_digest: open_digest(&head_second, TokenSeq(137), &open),
    };
    let session = SessionOpen { job_id: job, challenge: Digest([0x77; 32]), expires_at: 1_800_000_000 };
    let signed = |digest: Digest| json!({ "digest": digest, "signature": hex0x(&key.sign(&digest)), "signer": host });

    let out = json!({
        "version": 1,
        "terms": { "chainId": 31337, "marketplace": marketplace, "jobId": 163, "host": host, "modelDigest": model, "saltCommitment": salt_commitment(&salt) },
        "salt": hex0x(&salt.0),
        "genesis": genesis,
        "sampler": { "temperature": 0.7, "topP": 0.95, "topK": 40, "seed": 7, "maxTokens": 150, "digest": sampler.digest() },
        "prompt": { "ids": prompt, "digest": prompt_digest(&salt, &prompt) },
        "checkpoints": [
            { "firstSeq": 0, "ids": first, "turns": [{ "start": 0, "request": "request-1" }, { "start": 60, "request": "request-2" }], "turnsDigest": turns_first, "head": head_first },
            { "firstSeq": 100, "ids": second, "turns": [], "turnsDigest": turns_second, "head": head_second },
        ],
        "open": { "firstSeq": 137, "ids": open, "digest": receipt.open_digest },
        "journal": hex0x(&statement.journal()),
        "guestInput": hex0x(&input),
        "proof": hex0x(&encode_proof(ProofKind::Composite, &statement.journal(), &[], &[])),
        "voucher": { "tokens": 137, "signed": signed(voucher.digest(&domain)) },
        "turnReceipt": { "request": "request-2", "sealedTokens": 137, "openTokens": 3, "signed": signed(receipt.digest(&domain)) },
        "sessionOpen": { "challenge": session.challenge, "expiresAt": session.expires_at, "signed": signed(session.digest(&domain)) },
    });
    println!("{out:#}");
}

/// Private key of the first account of "test test … junk".
fn development_key() -> [u8; 32] {
    hex::decode("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80").expect("hex").try_into().expect("32 bytes")
}

fn hex0x(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}
