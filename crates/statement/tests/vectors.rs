//! The frozen vectors, recomputed field by field from their inputs.

use milepost_statement::{
    Address, ChainId, Digest, Domain, JobId, ProofKind, Salt, Sampler, SessionOpen, Statement, TokenCount, TokenSeq, Turn, TurnReceipt,
    Voucher, checkpoint_head, decode_proof, genesis_head, guest_input, open_digest, prompt_digest, recover, request_digest,
    salt_commitment, turns_digest,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/v1.json")).expect("the vectors are JSON")
}

fn digest(value: &Value) -> Digest {
    value.as_str().expect("text").parse().expect("a digest")
}

fn address(value: &Value) -> Address {
    value.as_str().expect("text").parse().expect("an address")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text").trim_start_matches("0x")).expect("hex")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| u32::try_from(id.as_u64().expect("id")).expect("u32")).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

struct Transcript {
    statement: Statement,
    checkpoints: Vec<(Digest, Vec<u32>)>,
    salt: Salt,
}

fn transcript(v: &Value) -> Transcript {
    let terms = &v["terms"];
    let salt = Salt(bytes(&v["salt"]).try_into().expect("32 bytes"));
    let (chain_id, marketplace, job_id) =
        (ChainId(number(&terms["chainId"])), address(&terms["marketplace"]), JobId(number(&terms["jobId"])));
    let (host, model_digest) = (address(&terms["host"]), digest(&terms["modelDigest"]));
    assert_eq!(salt_commitment(&salt), digest(&terms["saltCommitment"]));
    let genesis = genesis_head(chain_id, marketplace, job_id, host, model_digest, salt_commitment(&salt));
    let sampler = &v["sampler"];
    #[allow(clippy::cast_possible_truncation)]
    let sampler = Sampler {
        temperature: sampler["temperature"].as_f64().expect("float") as f32,
        top_p: sampler["topP"].as_f64().expect("float") as f32,
        top_k: u32::try_from(number(&sampler["topK"])).expect("u32"),
        seed: number(&sampler["seed"]),
        max_tokens: u32::try_from(number(&sampler["maxTokens"])).expect("u32"),
    };
    let prompt = prompt_digest(&salt, &ids(&v["prompt"]["ids"]));
    assert_eq!(prompt, digest(&v["prompt"]["digest"]));
    assert_eq!(sampler.digest(), digest(&v["sampler"]["digest"]));

    let mut head = genesis;
    let mut end = TokenSeq::ZERO;
    let mut checkpoints = Vec::new();
    for checkpoint in v["checkpoints"].as_array().expect("checkpoints") {
        let turns: Vec<Turn> = checkpoint["turns"]
            .as_array()
            .expect("turns")
            .iter()
            .map(|turn| Turn {
                start: TokenSeq(number(&turn["start"])),
                prompt,
                sampler: sampler.digest(),
                request: request_digest(turn["request"].as_str().expect("text")),
            })
            .collect();
        let ids = ids(&checkpoint["ids"]);
        assert_eq!(end.0, number(&checkpoint["firstSeq"]));
        let turns = turns_digest(&salt, end, &turns);
        assert_eq!(turns, digest(&checkpoint["turnsDigest"]));
        head = checkpoint_head(&head, end, &turns, &ids);
        assert_eq!(head, digest(&checkpoint["head"]));
        end += TokenCount(ids.len() as u64);
        checkpoints.push((turns, ids));
    }
    let statement = Statement {
        chain_id,
        marketplace,
        job_id,
        host,
        model_digest,
        first_seq: TokenSeq::ZERO,
        count: end - TokenSeq::ZERO,
        head_before: genesis,
        head_after: head,
    };
    assert_eq!(genesis, digest(&v["genesis"]));
    Transcript { statement, checkpoints, salt }
}

#[test]
fn heads_journal_and_guest_input_are_as_frozen() {
    let v = vectors();
    let Transcript { statement, checkpoints, .. } = transcript(&v);
    assert_eq!(statement.journal().to_vec(), bytes(&v["journal"]));
    assert_eq!(Statement::from_journal(&bytes(&v["journal"])), Ok(statement));
    let input = guest_input(&statement, checkpoints.iter().map(|(turns, ids)| (*turns, ids.as_slice())));
    assert_eq!(input, bytes(&v["guestInput"]));
    let (kind, journal, seal, voucher) = decode_proof(&bytes(&v["proof"])).expect("canonical");
    assert_eq!((kind, journal, seal, voucher), (ProofKind::Composite, statement.journal().to_vec(), vec![], vec![]));
}

#[test]
fn signed_messages_are_as_frozen() {
    let v = vectors();
    let Transcript { statement, .. } = transcript(&v);
    let domain = Domain { chain_id: statement.chain_id, marketplace: statement.marketplace };
    let open = &v["open"];
    let open_digest = open_digest(&statement.head_after, TokenSeq(number(&open["firstSeq"])), &ids(&open["ids"]));
    assert_eq!(open_digest, digest(&open["digest"]));
    let receipt = TurnReceipt {
        job_id: statement.job_id,
        request: request_digest(v["turnReceipt"]["request"].as_str().expect("text")),
        sealed_head: statement.head_after,
        sealed_tokens: TokenCount(number(&v["turnReceipt"]["sealedTokens"])),
        open_tokens: TokenCount(number(&v["turnReceipt"]["openTokens"])),
        open_digest,
    };
    let voucher = Voucher { job_id: statement.job_id, tokens: TokenCount(number(&v["voucher"]["tokens"])) };
    let session = SessionOpen {
        job_id: statement.job_id,
        challenge: digest(&v["sessionOpen"]["challenge"]),
        expires_at: number(&v["sessionOpen"]["expiresAt"]),
    };
    for (message, signed) in [
        (voucher.digest(&domain), &v["voucher"]["signed"]),
        (receipt.digest(&domain), &v["turnReceipt"]["signed"]),
        (session.digest(&domain), &v["sessionOpen"]["signed"]),
    ] {
        assert_eq!(message, digest(&signed["digest"]));
        assert_eq!(recover(&message, &bytes(&signed["signature"])), Ok(address(&signed["signer"])));
    }
}

#[test]
fn another_salt_gives_other_heads() {
    let v = vectors();
    let Transcript { salt, .. } = transcript(&v);
    let other = Salt([0x56; 32]);
    assert_ne!(salt_commitment(&salt), salt_commitment(&other));
    assert_ne!(turns_digest(&salt, TokenSeq(100), &[]), turns_digest(&other, TokenSeq(100), &[]));
}
